"""Calibration of a trained network on labelled images that it has not seen: a bias for cloud, and a temperature.

The labels that the network mostly learns from, simulated or a teacher's, draw clouds tighter than people do. A bias on
the logits of cloud, thin and thick together, moves their border to where the mean intersection over union, of all
sources alike, is highest. It is not fitted by likelihood, which a single image that is wrong as a whole would decide.
The temperature is: with the bias in place it minimises the loss over sets of possible classes, every image weighing
the same. Shadow has no bias: people labelled it in five images only, and what suits these calls half of others shadow.

A radiometric level has a cloud bias of its own, drawn towards that of all levels together: with n images it keeps
n / (n + 2) of the distance. Its temperature is the common one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..classes import FOUR_FROM_SEVEN, SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..infer.calibrate import decide, expected_calibration_error, fit_temperature, fold, probabilities
from ..infer.guarantee import THRESHOLDS, control, losses
from ..models.card import Calibration, Guarantee, Loss

CLOUD_BIASES = np.arange(0.0, 3.01, 0.25)
"""Biases that are tried."""

HALF_AT = 2
"""Images with which a level keeps half of its distance to the common bias."""

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Bounds that thresholds are sought for."""

PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


@dataclass(frozen=True)
class Drawn:
    """Some labelled pixels of one image.

    Attributes:
        source: data source of the image.
        level: radiometric level.
        logits: (7, n) float32.
        sets: possible classes as bit masks, (n,) uint8.
    """

    source: str
    level: str
    logits: NDArray[np.float32]
    sets: NDArray[np.uint8]


def fit_calibration(
    samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]]
) -> dict[str, Calibration]:
    """Calibrations by radiometric level, and one named ``default`` over all levels.

    Args:
        samples: labelled images that no training has seen.
        logits: (7, y, x) of each, blended as they are in use.
    """
    rng = np.random.default_rng(0)
    drawn = []
    for sample, values in zip(samples, logits, strict=True):
        judged = np.flatnonzero((sample.sets != 0) & (sample.sets != lab.MISSING))
        if judged.size:
            pick = rng.choice(judged, PIXELS)
            picked = values.reshape(len(SEVEN), -1)[:, pick], sample.sets.ravel()[pick]
            drawn.append(Drawn(sample.source, sample.level, *picked))
    common = _best(drawn)
    out = {"default": _calibration(drawn, common, None)}
    for level in sorted({one.level for one in drawn}):
        ours = [one for one in drawn if one.level == level]
        kept = len(ours) / (len(ours) + HALF_AT)
        bias = common + kept * (_best(ours) - common)
        out[level] = _calibration(ours, bias, out["default"].temperature)
    return out


def mean_iou(drawn: Sequence[Drawn], bias: float) -> float:
    """Intersection over union of cloud, pooled over each source, averaged over sources; NaN without any cloud.

    Pixels whose label leaves the question open do not count.
    """
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
    for one in drawn:
        four = fold((one.logits + _shift(bias))[:, None], Calibration())[:, 0]
        found = np.isin(decide(np.exp(four - four.max(axis=0))), (1, 2))
        truth, other = one.sets & ~np.uint8(lab.CLOUD) == 0, one.sets & np.uint8(lab.CLOUD) == 0
        counts[one.source] += ((truth & found).sum(), (other & found).sum(), (truth & ~found).sum())
    shares = [hit / (hit + false + missed) for hit, false, missed in counts.values() if hit + missed]
    return float(np.mean(shares)) if shares else float("nan")


def _best(drawn: Sequence[Drawn]) -> float:
    """The bias of the highest mean score, the smallest of equal ones; 0 without any cloud."""
    scores = [mean_iou(drawn, float(bias)) for bias in CLOUD_BIASES]
    return float(CLOUD_BIASES[int(np.nanargmax(scores))]) if np.isfinite(scores).any() else 0.0


def _shift(cloud: float) -> NDArray[np.float32]:
    out = np.zeros((len(SEVEN), 1), np.float32)
    out[[SEVEN.index("thin"), SEVEN.index("thick")]] = cloud
    return out


def _calibration(drawn: Sequence[Drawn], cloud: float, temperature: float | None) -> Calibration:
    shift = _shift(cloud)
    values = np.concatenate([one.logits for one in drawn], axis=1) + shift
    masks = np.concatenate([one.sets for one in drawn])
    sets = (masks >> np.arange(len(SEVEN), dtype=np.uint8)[:, None] & 1).astype(bool)
    told = f"{len(drawn)} images labelled by people, left out of training"
    if temperature is None:
        temperature = fit_temperature(values, sets).temperature
    four = probabilities(fold(values[:, None].copy(), Calibration(temperature=temperature)))[:, 0]
    groups = np.stack([sets[list(group)].any(axis=0) for group in FOUR_FROM_SEVEN])
    return Calibration(
        temperature=temperature,
        bias=tuple(float(value) / temperature for value in shift[:, 0]),  # the card's biases follow the division
        fitted_on=told,
        expected_calibration_error=expected_calibration_error(four, groups),
    )


def fit_guarantees(samples: Sequence[Sample], probability: Sequence[NDArray[np.float32]]) -> tuple[Guarantee, ...]:
    """Thresholds on the probability of cloud that keep a bound, for every bound that so many scenes can support.

    Args:
        samples: labelled images that no training has seen.
        probability: of cloud, thin and thick together, calibrated, (y, x) of each.
    """
    out = []
    kinds: tuple[Loss, ...] = ("missed-cloud", "lost-clear")
    for kind in kinds:
        rows, other = [], []
        for sample, values in zip(samples, probability, strict=True):
            cloud, clear = certain(sample)
            row = losses(values, cloud, clear, kind)
            if row is not None:
                rows.append(row)
            cost = losses(values, cloud, clear, "lost-clear" if kind == "missed-cloud" else "missed-cloud")
            if cost is not None:
                other.append(cost)
        for bound in BOUNDS:
            threshold = control(rows, bound, kind)
            if threshold is not None:
                price = float(np.mean(other, axis=0)[np.searchsorted(THRESHOLDS, threshold)])
                sources = ", ".join(sorted({sample.source for sample in samples}))
                out.append(
                    Guarantee(loss=kind, bound=bound, threshold=threshold, scenes=len(rows), price=price, data=sources)
                )
    return tuple(out)


def certain(sample: Sample) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the labels say cloud for certain, and where they exclude it, (y, x) each."""
    sets = sample.sets
    cloud = (sets != 0) & (sets & np.uint8(~lab.CLOUD & 0xFF) == 0)
    clear = (sets != 0) & (sets & np.uint8(lab.CLOUD | lab.MISSING) == 0)
    return cloud, clear
