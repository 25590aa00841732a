"""Calibration of a trained network on labelled images that it has not seen: biases for cloud and shadow, a temperature.

The labels that the network mostly learns from, simulated or a teacher's, draw clouds tighter than people do, and shadow
is far commoner in the training mixture than on Earth. A bias on the logits of cloud (thin and thick together) and one
on that of shadow move these borders to where the mean intersection over union, of all sources alike, is highest. They
are not fitted by likelihood, which a single image that is wrong as a whole would decide. The temperature is: with the
biases in place it minimises the loss over sets of possible classes, every image weighing the same.

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
SHADOW_BIASES = np.arange(-2.0, 3.01, 0.5)
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
    cloud = shadow = 0.0
    for _ in range(2):
        cloud = _best(CLOUD_BIASES, [mean_iou(drawn, float(bias), shadow, "cloud") for bias in CLOUD_BIASES])
        shadow = _best(SHADOW_BIASES, [mean_iou(drawn, cloud, float(bias), "shadow") for bias in SHADOW_BIASES])
    out = {"default": _calibration(drawn, cloud, shadow, None)}
    for level in sorted({one.level for one in drawn}):
        ours = [one for one in drawn if one.level == level]
        own = _best(CLOUD_BIASES, [mean_iou(ours, float(bias), shadow, "cloud") for bias in CLOUD_BIASES])
        kept = len(ours) / (len(ours) + HALF_AT)
        out[level] = _calibration(ours, cloud + kept * (own - cloud), shadow, out["default"].temperature)
    return out


def mean_iou(drawn: Sequence[Drawn], cloud_bias: float, shadow_bias: float, question: str) -> float:
    """Intersection over union of ``cloud`` or ``shadow``, pooled over each source, averaged over sources.

    Pixels whose label leaves the question open do not count, sources without a pixel of the class neither; NaN where
    there is none.
    """
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
    for one in drawn:
        four = fold((one.logits + _shift(cloud_bias, shadow_bias))[:, None], Calibration())[:, 0]
        codes = decide(np.exp(four - four.max(axis=0)))
        wanted = np.uint8(lab.CLOUD if question == "cloud" else lab.SHADOW)
        truth, other = one.sets & ~wanted == 0, one.sets & wanted == 0
        found = np.isin(codes, (1, 2)) if question == "cloud" else codes == 3
        counts[one.source] += ((truth & found).sum(), (other & found).sum(), (truth & ~found).sum())
    shares = [hit / (hit + false + missed) for hit, false, missed in counts.values() if hit + missed]
    return float(np.mean(shares)) if shares else float("nan")


def _best(values: NDArray[np.float64], scores: Sequence[float]) -> float:
    """The value of the highest score; of equal ones that nearest to 0; 0 where nothing can be judged."""
    known = [(score, -abs(float(value)), float(value)) for value, score in zip(values, scores, strict=True)]
    known = [one for one in known if np.isfinite(one[0])]
    return max(known)[2] if known else 0.0


def _shift(cloud: float, shadow: float) -> NDArray[np.float32]:
    out = np.zeros((len(SEVEN), 1), np.float32)
    out[[SEVEN.index("thin"), SEVEN.index("thick")]] = cloud
    out[SEVEN.index("shadow")] = shadow
    return out


def _calibration(drawn: Sequence[Drawn], cloud: float, shadow: float, temperature: float | None) -> Calibration:
    shift = _shift(cloud, shadow)
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
