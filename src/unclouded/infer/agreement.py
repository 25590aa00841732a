"""Which of several dates can be trusted, pixel by pixel: haze and shadow that a mask missed set a date apart.

    m_d = mean of date d over the window                                                  (1)
    r   = lower median over the dates of m_d                                              (2)
    t_d = 1 where |m_d - r| <= LIMIT, falling to 0 at twice that                          (3)
    w_d = mean of t_d over the window, divided by the largest of all dates                (4)

Levels are those of one band, the blue one where there is one: haze is brightest there, and ground changes least. Of
two dates (2) is the darker, for haze is what masks miss most; of three it is the one in the middle. In (4) at least one
date always has the full weight. Only dates that show a pixel count. Sums are of whole numbers, so that strips of rows
cut with a margin equal the same rows of the whole, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .feather import window_sum

LIMIT = 0.01
"""Reflectance by which levels may differ from that of the date in the middle."""

RADIUS = 8
"""Pixels from the middle of the window to its edge: haze is wider than a field's border."""

MARGIN = 2 * RADIUS
"""Rows that have to be known beyond those asked for."""

_STEP = 1e-4
"""Levels are counted in steps of this size, weights in thousandths."""

_LARGEST = 1e9


def agreement(levels: Sequence[NDArray[np.float32]], shown: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.float32]]:
    """Weight of every date, equation (4).

    Args:
        levels: reflectance of one band of every date, brought to one light, (y, x).
        shown: where each is finite and clear, (y, x).

    Returns:
        (y, x) float32 in 0..1 for each date; 0 where it shows nothing.

    >>> clear, hazy = np.full((9, 9), 0.05, np.float32), np.full((9, 9), 0.2, np.float32)
    >>> [float(one.max()) for one in agreement([hazy, clear, clear], [np.ones((9, 9), bool)] * 3)]
    [0.0, 1.0, 1.0]
    """
    means = np.stack([_mean(level / _STEP, show) for level, show in zip(levels, shown, strict=True)]) * _STEP
    seen = np.stack(shown)
    ordered = np.sort(np.where(seen, means, np.inf), axis=0)
    middle = np.maximum(seen.sum(axis=0) - 1, 0) // 2
    reference = np.take_along_axis(ordered, middle[np.newaxis], axis=0)[0]
    apart = np.where(seen, np.abs(means - np.where(np.isfinite(reference), reference, 0.0)), np.inf)
    trust = np.clip(2 - apart / LIMIT, 0, 1)
    smooth = np.stack([np.where(show, _mean(1000 * one, show), 0.0) for one, show in zip(trust, shown, strict=True)])
    return list((smooth / np.maximum(smooth.max(axis=0), 1e-9)).astype(np.float32))


def _mean(values: NDArray[np.floating], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of whole numbers over the window, of the pixels shown."""
    whole = np.zeros(shown.shape, np.int64)
    whole[shown] = np.rint(np.clip(values[shown].astype(np.float64), -_LARGEST, _LARGEST))
    return window_sum(whole, RADIUS) / np.maximum(window_sum(shown, RADIUS), 1)
