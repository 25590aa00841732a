"""Calibration of a trained network on the samples that chose it: one temperature per radiometric level, one prior.

The labels that the network mostly learns from, simulated or a teacher's, draw clouds tighter than people do. A bias on
the logits of thin and thick cloud moves the border outwards; its size is a choice, made on the choosing samples and
written into the card.
"""

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

CLOUDS = [SEVEN.index("thin"), SEVEN.index("thick")]

PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


def fit_calibration(
    samples: Sequence[Sample], logits: Sequence[NDArray[np.float32]], cloud_bias: float = 0.0
) -> dict[str, Calibration]:
    """Temperatures by level, and one named ``default`` over all that are reflectance.

    Args:
        samples: labelled images that no training has seen.
        logits: (7, y, x) of each, blended as they are in use.
        cloud_bias: added to the logits of thin and thick cloud before the temperature is fitted.

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
            values[CLOUDS] += np.float32(cloud_bias)
            fitted = fit_temperature(values, sets, f"{len(pairs)} images of the split 'choose'")
            # The card's biases are added after the division.
            bias = [cloud_bias / fitted.temperature if index in CLOUDS else 0.0 for index in range(len(SEVEN))]
            out[level] = fitted.model_copy(update={"bias": tuple(bias)})
    return out
