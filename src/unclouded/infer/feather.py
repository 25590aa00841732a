"""Masks grown and softened: what lies near a cloud, and how one image fades into another. Numpy only.

Everything here is a count of pixels in a square window, in whole numbers, so that strips of rows cut with a margin
equal the same rows of the whole, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dilated(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask grown by so many pixels to all eight sides.

    >>> dilated(np.array([[False, False, False, True]]), 1).astype(int).tolist()
    [[0, 0, 1, 1]]
    """
    return mask if pixels == 0 else window_sum(mask, pixels) > 0


def feathered(mask: NDArray[np.bool_], width: int) -> NDArray[np.float32]:
    """1 in the mask, falling to 0 outside of it.

    Args:
        mask: (y, x).
        width: pixels from the mask at which 0 is reached; an odd number counts as the even one below it.

    Returns:
        (y, x) float32 in 0..1; exactly 1 in the mask and exactly 0 from ``width`` + 1 pixels on.

    >>> feathered(np.array([[True, False, False, False, False]]), 2).round(2).tolist()
    [[1.0, 0.6700000166893005, 0.33000001311302185, 0.0, 0.0]]
    """
    half = width // 2
    if half == 0:
        return mask.astype(np.float32)
    inside = window_sum(dilated(mask, half), half)
    return (inside / window_sum(np.ones(mask.shape, bool), half)).astype(np.float32)


def veil_of(classes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much of the ground is hidden, as removal networks are told it.

    Args:
        classes: (y, x), see :mod:`unclouded.classes`.

    Returns:
        (y, x): 1 under thick cloud and a pixel around it, where its edges blur; 0.5 in shadow; else 0.

    >>> veil_of(np.uint8([[0, 1, 2, 3, 0, 0]])).tolist()
    [[1.0, 1.0, 1.0, 0.5, 0.0, 0.0]]
    """
    return np.where(dilated(classes == 1, 1), np.float32(1.0), np.float32(0.5) * (classes == 3)).astype(np.float32)


def window_sum(plane: NDArray[np.bool_] | NDArray[np.integer], radius: int) -> NDArray[np.integer]:
    """Sum over the window of ``2 * radius + 1`` pixels around each pixel; there is nothing beyond the edges.

    Args:
        plane: (y, x), a mask, whose True pixels are counted, or whole numbers.
        radius: pixels from the middle to the edge of the window.

    >>> window_sum(np.array([[1, 2, 3, 4]]), 1).tolist()
    [[3, 6, 9, 7]]
    """
    out: NDArray[np.integer] = plane.astype(np.int32 if plane.dtype == bool else np.int64)
    for axis in (0, 1):
        size = out.shape[axis]
        total = np.concatenate([np.zeros_like(out.take([0], axis)), np.cumsum(out, axis, dtype=out.dtype)], axis)
        place = np.arange(size)
        high, low = np.minimum(place + radius + 1, size), np.maximum(place - radius, 0)
        out = total.take(high, axis) - total.take(low, axis)
    return out
