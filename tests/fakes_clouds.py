"""A cloud that the default model sees, for tests of what is done with its masks."""

from __future__ import annotations

import numpy as np

from unclouded.simulate.noise import power_law_field


def cloud(shape: tuple[int, int], rows: tuple[int, int], cols: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Reflectance that a cloud adds, (y, x) float32: soft edges inside of the box, uneven, 0 outside of it.

    An even square is no cloud to the model, and rightly so: roofs look like that.
    """
    uneven = power_law_field(shape, np.random.default_rng(seed), exponent=3.0)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    far = [np.abs(at - sum(ends) / 2) / max((ends[1] - ends[0]) / 2, 1) for at, ends in ((y, rows), (x, cols))]
    inside = np.clip(4 * (1 - np.maximum(*far)), 0, 1)
    return np.clip(inside * (0.55 + 0.12 * uneven), 0, None).astype(np.float32)
