"""Calibration of a trained network on the samples that chose it: one temperature per radiometric level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ..classes import SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..models.card import Calibration

FEWEST_IMAGES = 3
"""A level with fewer images takes the calibration of all levels together."""

PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


def fit_calibration(samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]]) -> dict[str, Calibration]:
    """Temperatures by level, and one named ``default`` over all samples.

    Args:
        samples: labelled images that no training has seen.
        logits: (7, y, x) of each, blended as they are in use.

    Returns:
        Calibrations by level.
    """
    drawn = defaultdict(list)
    rng = np.random.default_rng(0)
    for sample, values in zip(samples, logits, strict=True):
        judged = np.flatnonzero((sample.sets != 0) & (sample.sets != lab.MISSING))
        if judged.size == 0:
            continue
        pick = rng.choice(judged, PIXELS)
        pair = values.reshape(len(SEVEN), -1)[:, pick], sample.sets.ravel()[pick]
        drawn[sample.level].append(pair)
        drawn["default"].append(pair)
    out = {}
    for level, pairs in drawn.items():
        if level == "default" or len(pairs) >= FEWEST_IMAGES:
            values = np.concatenate([pair[0] for pair in pairs], axis=1)
            sets = np.concatenate([pair[1] for pair in pairs])
            out[level] = Calibration(
                temperature=round(_temperature(values, sets), 3),
                fitted_on=f"{len(pairs)} images of the split 'choose'",
            )
    return out


def set_likelihood(values: NDArray[np.float32], sets: NDArray[np.uint8], temperature: float) -> float:
    """Mean of -log of the probability of the coarse set: clear, cloud or shadow.

    Args:
        values: (7, pixel) logits.
        sets: (pixel,) bit masks.
        temperature: divides the logits.
    """
    scaled = values.astype(np.float64) / temperature
    power = np.exp(scaled - scaled.max(axis=0))
    power[SEVEN.index("no-data")] = 0.0
    inside = np.zeros_like(power)
    for group in (lab.CLEAR, lab.CLOUD, lab.SHADOW):
        rows = [index for index in range(len(SEVEN)) if group >> index & 1]
        inside[rows] = np.where(sets & np.uint8(group), power[rows], 0.0)
    return float(-np.log(np.maximum(inside.sum(axis=0) / power.sum(axis=0), 1e-12)).mean())


def _temperature(values: NDArray[np.float32], sets: NDArray[np.uint8]) -> float:
    found = minimize_scalar(
        lambda log_t: set_likelihood(values, sets, float(np.exp(log_t))), bounds=(-1.5, 2.5), method="bounded"
    )
    return float(np.exp(found.x))
