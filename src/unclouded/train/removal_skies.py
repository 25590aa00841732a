"""Real clouds carried to other ground: what a cloudy and a clear image of one place say of the sky between.

For every band, with the clear image x, the cloudy one y and their means over a few pixels x' and y':

    t = (c - y') / (c - x')   where the cloudy image is brighter, c the reflectance of opaque cloud      (1)
    t = y' / x'               where it is darker: shadow                                                (2)
    p = y - t x                                                                                         (3)
    y2 = t x2 + p             the same sky over other ground x2                                         (4)

So a network that learns removal sees the shapes, edges and colours of real clouds over any ground, and cannot learn the
few places by heart over which they were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scene import Band
from ..simulate.noise import blur
from ..simulate.optics import WATER_LIMIT, at

SMOOTH_PX = 2.5
"""Standard deviation of the means in (1) and (2): fine structure of the ground is not taken for cloud."""

BRIGHTEST = 0.95
"""Opaque cloud of droplets as seen from above, relative to the limit of infinite thickness."""


@dataclass(frozen=True)
class Sky:
    """What lies between ground and sensor.

    Attributes:
        through: t, (band, y, x) float16 in 0..1.
        path: p in reflectance, (band, y, x) float16.
        classes: its mask, (y, x) uint8.
    """

    through: NDArray[np.float16]
    path: NDArray[np.float16]
    classes: NDArray[np.uint8]


def lifted(
    clear: NDArray[np.floating], cloudy: NDArray[np.floating], classes: NDArray[np.uint8], bands: Sequence[Band]
) -> Sky:
    """The sky of a cloudy image, equations (1) to (3).

    Args:
        clear, cloudy: reflectance of one place, (band, y, x); NaN where missing.
        classes: mask of the cloudy image, (y, x).
        bands: what the planes are.

    >>> ground, band = np.full((1, 8, 8), 0.1, np.float32), [Band("B08", "nir", 763, 904, 10.0)]
    >>> sky = lifted(ground, 0.5 * ground + 0.4, np.ones((8, 8), np.uint8), band)
    >>> bool(0.4 < sky.through.mean() < 0.6)
    True
    """
    x, y = (np.nan_to_num(np.asarray(one, np.float32), nan=0.1) for one in (clear, cloudy))
    low_x, low_y = (np.maximum(_mean(one), np.float32(1e-3)) for one in (x, y))
    limit = np.array([BRIGHTEST * at(WATER_LIMIT, band.centre_nm) for band in bands], np.float32)[:, None, None]
    veiled = (limit - low_y) / np.maximum(limit - low_x, 0.05)
    through = np.clip(np.where(low_y >= low_x, veiled, low_y / low_x), 0, 1).astype(np.float32)
    dark = np.array([1340 <= band.centre_nm <= 1420 for band in bands])
    through[dark] = 0.0  # vapour hides the ground there
    return Sky(through.astype(np.float16), (y - through * x).astype(np.float16), classes)


def laid(sky: Sky, ground: NDArray[np.float32], thickness: float = 1.0) -> NDArray[np.float32]:
    """A sky over other ground, equation (4).

    Args:
        sky: of the ground's size.
        ground: reflectance, (band, y, x), NaN where missing.
        thickness: 1 is the sky as it was, 0 none; beyond 1 the veil is taken to that power.
    """
    through, path = sky.through.astype(np.float32), sky.path.astype(np.float32)
    if thickness != 1.0:
        scaled = np.power(np.maximum(through, np.float32(1e-3)), thickness, dtype=np.float32)
        path = path * (1 - scaled) / np.maximum(1 - through, np.float32(0.02))
        through = scaled
    return np.where(np.isfinite(ground), np.maximum(through * ground + path, 1e-4), np.float32(np.nan))


def _mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smoothed, mirrored at the edges."""
    reach = min(10, *(size - 1 for size in image.shape[1:]))
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    return blur(padded, SMOOTH_PX)[:, reach:-reach, reach:-reach]
