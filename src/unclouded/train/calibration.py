"""Calibration of a trained network on the samples that chose it: one temperature per radiometric level, one prior.

The labels that the network mostly learns from, simulated or a teacher's, draw clouds tighter than people do. A bias on
the logits of thin and thick cloud moves the border outwards; its size is a choice, made on the choosing samples and
written into the card. Snow is far commoner in the training mixture than on Earth, so that icy cloud tops are taken for
it; a negative bias on its logit sets that prior right.
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
    samples: Sequence[Sample],
    logits: Sequence[NDArray[np.float32]],
    cloud_bias: float = 0.0,
    snow_bias: float = 0.0,
) -> dict[str, Calibration]:
    """Temperatures by level, and one named ``default`` over all that are reflectance.

    Args:
        samples: labelled images that no training has seen.
        logits: (7, y, x) of each, blended as they are in use.
        cloud_bias: added to the logits of thin and thick cloud before the temperature is fitted.
        snow_bias: added to the logit of snow, likewise.

    Returns:
        Calibrations by level.
    """
    shift = np.zeros((len(SEVEN), 1), np.float32)
    shift[CLOUDS] = cloud_bias
    shift[SEVEN.index("snow")] = snow_bias
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
            fitted = fit_temperature(values + shift, sets, f"{len(pairs)} images of the split 'choose'")
            # The card's biases are added after the division.
            bias = tuple(float(value) / fitted.temperature for value in shift[:, 0])
            out[level] = fitted.model_copy(update={"bias": bias})
    return out
