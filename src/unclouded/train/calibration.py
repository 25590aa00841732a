"""Calibration of a trained network on labelled images that it has not seen: probabilities, and where cloud begins.

A temperature and a bias on the logits of cloud, thin and thick together, minimise the loss over sets of possible
classes, every image weighing the same: that makes the probabilities right. The labels that the network mostly learns
from, simulated or a teacher's, draw clouds tighter than people do; the bias takes that up.

Which pixel is called cloud is another question, and has a threshold of its own: the one with the highest mean
intersection over union, of all sources alike. Shadow has neither: people labelled it in five images only.

Where thin cloud ends is a third one: simulation says at an optical thickness of 7, people say earlier. What is added to
the log-odds of thick against thin is where the mean of both recalls is highest. It is common to all levels.

A radiometric level has a bias and a threshold of its own, drawn towards those of all levels together: with n images it
keeps n / (n + 8) of the distance. Its temperature is the common one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..classes import FOUR_FROM_SEVEN, SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..infer.calibrate import expected_calibration_error, fold, probabilities
from ..infer.guarantee import THRESHOLDS, control, losses
from ..models.card import Calibration, Guarantee, Loss

CLOUD_FROM = np.round(np.arange(0.2, 0.701, 0.02), 2)
"""Thresholds on the probability of cloud that are tried."""

THICK_BY = np.round(np.arange(-3.0, 3.01, 0.25), 2)
"""What is tried to be added to the log-odds of thick against thin cloud."""

HALF_AT = 8
"""Images with which a level keeps half of its distance to what is common."""

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Bounds that thresholds are sought for."""

PIXELS = 10000
"""Pixels drawn from each image, so that large images do not decide alone."""

_CLOUDS = [SEVEN.index("thin"), SEVEN.index("thick")]


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

    def possible(self) -> NDArray[np.bool_]:
        """Possible classes, (7, n)."""
        return (self.sets >> np.arange(len(SEVEN), dtype=np.uint8)[:, None] & 1).astype(bool)

    def probability(self, temperature: float, bias: float, thick: float = 0.0) -> NDArray[np.float32]:
        """Of the four output classes, (4, n)."""
        shifted = Calibration(temperature=temperature, bias=_biases(bias), thick=thick)
        return probabilities(fold(self.logits[:, None].copy(), shifted))[:, 0]


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
    temperature, common = likeliest(drawn)
    threshold = best_threshold(drawn, temperature, common)
    thick = best_thick(drawn, temperature)
    out = {"default": _calibration(drawn, temperature, common, thick, threshold)}
    for level in sorted({one.level for one in drawn}):
        ours = [one for one in drawn if one.level == level]
        kept = len(ours) / (len(ours) + HALF_AT)
        bias = common + kept * (likeliest(ours, temperature)[1] - common)
        there = best_threshold(ours, temperature, bias)
        cloud_from = None if threshold is None or there is None else threshold + kept * (there - threshold)
        out[level] = _calibration(ours, temperature, bias, thick, cloud_from)
    return out


def likeliest(drawn: Sequence[Drawn], temperature: float | None = None) -> tuple[float, float]:
    """Temperature and bias of cloud with the least mean loss over the images; the temperature may be given."""
    values = torch.from_numpy(np.stack([one.logits for one in drawn])).double()
    excluded = torch.from_numpy(~np.stack([one.possible() for one in drawn]))
    scale = torch.tensor(0.0 if temperature is None else -np.log(temperature), dtype=torch.float64)
    bias = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    cloud = torch.zeros(len(SEVEN), 1, dtype=torch.float64)
    cloud[_CLOUDS] = 1.0
    free = [bias] if temperature is not None else [scale.requires_grad_(), bias]
    optimiser = torch.optim.LBFGS(free, max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scaled = values * scale.exp() + bias * cloud
        allowed = scaled.masked_fill(excluded, -torch.inf)
        value = (scaled.logsumexp(dim=1) - allowed.logsumexp(dim=1)).mean()
        value.backward()
        return value

    optimiser.step(loss)
    return float(torch.exp(-scale.detach())), float(bias.detach())


def best_threshold(drawn: Sequence[Drawn], temperature: float, bias: float) -> float | None:
    """The threshold with the highest intersection over union of cloud, pooled over each source, averaged over sources.

    None without any cloud. Pixels whose label leaves the question open do not count.
    """
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros((len(CLOUD_FROM), 3), np.int64))
    for one in drawn:
        cloud = one.probability(temperature, bias)[1:3].sum(axis=0)
        truth, other = one.sets & ~np.uint8(lab.CLOUD) == 0, one.sets & np.uint8(lab.CLOUD) == 0
        for row, threshold in enumerate(CLOUD_FROM):
            found = cloud >= threshold
            counts[one.source][row] += ((truth & found).sum(), (other & found).sum(), (truth & ~found).sum())
    shares = [rows[:, 0] / rows.sum(axis=1) for rows in counts.values() if rows[0, 0] + rows[0, 2]]
    return float(CLOUD_FROM[int(np.argmax(np.mean(shares, axis=0)))]) if shares else None


def best_thick(drawn: Sequence[Drawn], temperature: float) -> float:
    """What has to be added to the log-odds of thick against thin cloud for the highest mean of both recalls.

    Pixels of all images are pooled; those whose label leaves the kind of cloud open do not count. 0 where either kind
    is missing.
    """
    sets = np.concatenate([one.sets for one in drawn])
    logits = np.concatenate([one.logits for one in drawn], axis=1)
    told = (sets == lab.THICK) | (sets == lab.THIN)
    values = (logits[SEVEN.index("thick")] - logits[SEVEN.index("thin")])[told] / temperature
    truth = sets[told] == lab.THICK
    if truth.all() or not truth.any():
        return 0.0
    recalls = [(values[truth] + by >= 0).mean() + (values[~truth] + by < 0).mean() for by in THICK_BY]
    return float(THICK_BY[int(np.argmax(recalls))])


def _biases(cloud: float) -> tuple[float, ...]:
    return tuple(cloud if index in _CLOUDS else 0.0 for index in range(len(SEVEN)))


def _calibration(
    drawn: Sequence[Drawn], temperature: float, bias: float, thick: float, cloud_from: float | None
) -> Calibration:
    four = np.concatenate([one.probability(temperature, bias, thick) for one in drawn], axis=1)
    sets = np.concatenate([one.possible() for one in drawn], axis=1)
    groups = np.stack([sets[list(group)].any(axis=0) for group in FOUR_FROM_SEVEN])
    return Calibration(
        temperature=temperature,
        bias=_biases(bias),
        thick=thick,
        cloud_from=cloud_from,
        fitted_on=f"{len(drawn)} images labelled by people, left out of training",
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
