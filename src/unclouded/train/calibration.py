"""Calibration of a trained network on the samples that chose it: one temperature per radiometric level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..classes import SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..infer.calibrate import fit_temperature
from ..models.card import Calibration

FEWEST_IMAGES = 3
"""A level with fewer images takes the calibration of all levels together."""

PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


def fit_calibration(samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]]) -> dict[str, Calibration]:
    """Temperatures by level, and one named ``default`` over all that are reflectance.

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
        if sample.level != "counts":
            drawn["default"].append(pair)
    out = {}
    for level, pairs in drawn.items():
        if level == "default" or len(pairs) >= FEWEST_IMAGES:
            values = np.concatenate([pair[0] for pair in pairs], axis=1)
            masks = np.concatenate([pair[1] for pair in pairs])
            sets = (masks >> np.arange(len(SEVEN), dtype=np.uint8)[:, None] & 1).astype(bool)
            out[level] = fit_temperature(values, sets, f"{len(pairs)} images of the split 'choose'")
    return out
