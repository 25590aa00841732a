"""Scores of a network on samples, on the classes that each sample's labels can judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..classes import FOUR_FROM_SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..descriptors import scene_percentiles, sensei_descriptors, slot_index, slot_weights
from ..infer.calibrate import decide

GRID_M = 20.0
"""Finer images are judged as they are masked: at 20 m, then back on their own grid."""


def predict_sample(net: nn.Module, sample: Sample) -> NDArray[np.float32]:
    """Logits of the seven classes on the sample's own grid, (7, y, x) float32."""
    keep = [row for row, band in enumerate(sample.bands) if slot_index(band) is not None]
    bands = [sample.bands[row] for row in keep]
    image = torch.from_numpy(sample.image[keep].astype(np.float32))
    size = image.shape[1:]
    factor = round(GRID_M / sample.gsd_m) if sample.gsd_m < GRID_M else 1
    coarse = F.avg_pool2d(image[None], factor) if factor > 1 else image[None]
    if net.front_end == "slots":
        descriptors = slot_weights(bands)
    else:
        descriptors = sensei_descriptors(bands, scene_percentiles(coarse[0].numpy()))
    coarse = torch.nan_to_num(coarse)
    h, w = coarse.shape[2:]
    bottom, right = -h % 32 + 32, -w % 32 + 32
    padded = F.pad(coarse, (32, right, 32, bottom), mode="reflect")
    device = next(net.parameters()).device
    net.eval()
    with torch.no_grad():
        logits = net(padded.to(device), torch.from_numpy(descriptors)[None].to(device)).float().cpu()
    logits = logits[:, :, 32 : 32 + h, 32 : 32 + w]
    if factor > 1:
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return logits[0].numpy()


def four_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of clear, thick, thin and shadow, (4, y, x), from seven logits; no data is left out."""
    power = np.exp(logits - logits.max(axis=0))
    four = np.stack([power[list(members)].sum(axis=0) for members in FOUR_FROM_SEVEN])
    return four / four.sum(axis=0)


@dataclass
class Tally:
    """Pixel counts of a binary question."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def add(self, truth: NDArray[np.bool_], found: NDArray[np.bool_], judged: NDArray[np.bool_]) -> None:
        """Count the judged pixels."""
        self.tp += int((truth & found & judged).sum())
        self.fp += int((~truth & found & judged).sum())
        self.fn += int((truth & ~found & judged).sum())
        self.tn += int((~truth & ~found & judged).sum())

    @property
    def iou(self) -> float:
        """Intersection over union; NaN where neither truth nor prediction has the class."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls of both classes; NaN where one is absent."""
        return 0.5 * (_ratio(self.tp, self.tp + self.fn) + _ratio(self.tn, self.tn + self.fp))


def tally(sample: Sample, codes: NDArray[np.uint8], question: str) -> Tally:
    """Counts of one sample for ``cloud``, ``thick`` (among clouds) or ``shadow`` (only where shadow is labelled).

    Args:
        sample: the labelled image.
        codes: predicted class codes 0..3, (y, x).
        question: what counts as positive.
    """
    out = Tally()
    sets = sample.sets
    if question == "cloud":
        cloud = (sets != 0) & (sets & ~np.uint8(lab.CLOUD) == 0)
        other = (sets != 0) & (sets & np.uint8(lab.CLOUD) == 0) & (sets != lab.MISSING)
        out.add(cloud, np.isin(codes, (1, 2)), cloud | other)
    elif question == "shadow":
        if (sets == lab.SHADOW).any():
            shadow = sets == lab.SHADOW
            other = (sets != 0) & (sets & np.uint8(lab.SHADOW) == 0) & (sets != lab.MISSING)
            out.add(shadow, codes == 3, shadow | other)
    else:
        thin, thick = sets == lab.THIN, sets == lab.THICK
        out.add(thick, codes == 1, (thin | thick) & np.isin(codes, (1, 2)))
    return out


def summary(samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Cloud IoU and balanced accuracy, shadow IoU and thin-or-thick balanced accuracy, per source and on average."""
    pooled: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for sample, values in zip(samples, logits, strict=True):
        codes = decide(four_probabilities(values))
        for question in ("cloud", "shadow", "thick"):
            one = tally(sample, codes, question)
            total = pooled[sample.source, question]
            total.tp, total.fp = total.tp + one.tp, total.fp + one.fp
            total.fn, total.tn = total.fn + one.fn, total.tn + one.tn
    out: dict[str, float] = {}
    for (source, question), total in pooled.items():
        if question == "cloud":
            out[f"{source} cloud IoU"] = total.iou
            out[f"{source} cloud BA"] = total.balanced_accuracy
        elif question == "shadow" and total.tp + total.fn:
            out[f"{source} shadow IoU"] = total.iou
        elif question == "thick" and total.tp + total.fn and total.fp + total.tn:
            out[f"{source} thick BA"] = total.balanced_accuracy
    clouds = [value for key, value in out.items() if key.endswith("cloud IoU")]
    out["mean cloud IoU"] = float(np.nanmean(clouds)) if clouds else float("nan")
    return out


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
