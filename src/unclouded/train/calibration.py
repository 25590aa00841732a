"""Calibration of a trained network on labelled images that it has not seen: a temperature and three class biases.

The labels that the network mostly learns from, simulated or a teacher's, draw clouds tighter than people do, and snow
and shadow are far commoner in the training mixture than on Earth. Biases on the logits of cloud (thin and thick
together), of snow and of shadow set these priors right; the temperature says how far to trust the network at all.
All four minimise the loss over sets of possible classes on the labelled pixels, every image weighing the same. A weak
pull towards "no bias" keeps them finite where the labels say little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..classes import FOUR_FROM_SEVEN, SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..infer.calibrate import expected_calibration_error, fold, probabilities
from ..infer.guarantee import THRESHOLDS, control, losses
from ..models.card import Calibration, Guarantee, Loss

FEWEST_IMAGES = 8
"""A level with fewer images takes the calibration of all levels together."""

BIASED = (("thin", "thick"), ("snow",), ("shadow",))
"""Classes that share a bias."""

PULL = 0.002
"""Weight of the squared parameters beside the mean loss."""

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Bounds that thresholds are sought for."""

PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


def fit_calibration(
    samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]]
) -> dict[str, Calibration]:
    """Calibrations by radiometric level, and one named ``default`` over all levels.

    Args:
        samples: labelled images that no training has seen.
        logits: (7, y, x) of each, blended as they are in use.

    Returns:
        Calibrations by level; a level with few images has none of its own.
    """
    drawn = defaultdict(list)
    rng = np.random.default_rng(0)
    for sample, values in zip(samples, logits, strict=True):
        judged = np.flatnonzero((sample.sets != 0) & (sample.sets != lab.MISSING))
        if judged.size:
            pick = rng.choice(judged, PIXELS)
            pair = values.reshape(len(SEVEN), -1)[:, pick], sample.sets.ravel()[pick]
            drawn[sample.level].append(pair)
            drawn["default"].append(pair)
    out = {}
    for level, pairs in drawn.items():
        if level == "default" or len(pairs) >= FEWEST_IMAGES:
            values = np.concatenate([pair[0] for pair in pairs], axis=1)
            masks = np.concatenate([pair[1] for pair in pairs])
            sets = (masks >> np.arange(len(SEVEN), dtype=np.uint8)[:, None] & 1).astype(bool)
            out[level] = _fit(values, sets, f"{len(pairs)} images labelled by people, left out of training")
    return out


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


def _fit(values: NDArray[np.float32], sets: NDArray[np.bool_], fitted_on: str) -> Calibration:
    logits = torch.from_numpy(values.astype(np.float64))
    possible = torch.from_numpy(sets)
    members = torch.zeros(len(SEVEN), len(BIASED), dtype=torch.float64)
    for column, names in enumerate(BIASED):
        members[[SEVEN.index(name) for name in names], column] = 1.0
    free = torch.zeros(1 + len(BIASED), dtype=torch.float64, requires_grad=True)  # log temperature, biases

    def loss() -> torch.Tensor:
        scores = logits * torch.exp(-free[0]) + (members @ free[1:])[:, None]
        right = scores.masked_fill(~possible, -torch.inf)
        return (torch.logsumexp(scores, 0) - torch.logsumexp(right, 0)).mean() + PULL * (free**2).sum()

    optimiser = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(step)
    bias = (members @ free[1:]).tolist()
    fitted = Calibration(temperature=float(torch.exp(free[0].detach())), bias=tuple(bias), fitted_on=fitted_on)
    four = probabilities(fold(values[:, None].copy(), fitted))[:, 0]
    groups = np.stack([sets[list(group)].any(axis=0) for group in FOUR_FROM_SEVEN])
    return fitted.model_copy(update={"expected_calibration_error": expected_calibration_error(four, groups)})
