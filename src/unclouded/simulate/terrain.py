"""Terrain: heights, and the light of the sun on slopes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .noise import power_law_field


def heights(
    shape: tuple[int, int], resolution_m: float, rng: np.random.Generator, relief_m: float
) -> NDArray[np.float32]:
    """Random terrain.

    Args:
        shape: (y, x) in pixels.
        resolution_m: pixel size in metres.
        rng: source of randomness.
        relief_m: standard deviation of the heights over 10 km; smaller areas have less of it.

    Returns:
        Heights in metres above the lowest point, (y, x) float32.
    """
    # Twice as large as wanted: the field wraps around, and real terrain does not.
    wide = (2 * shape[0], 2 * shape[1])
    field = power_law_field(wide, rng, exponent=3.9, largest_px=10_000 / resolution_m)
    extent = max(wide) * resolution_m / 10_000
    field = field[: shape[0], : shape[1]] * np.float32(relief_m * min(1.0, extent))
    return np.asarray(field - field.min(), np.float32)


def illumination(
    elevation: NDArray[np.float32], resolution_m: float, sun_zenith_deg: float, sun_azimuth_deg: float
) -> NDArray[np.float32]:
    """Direct sunlight on slopes relative to level ground: cos(incidence) / cos(sun zenith), 0 in the terrain's shadow.

    Args:
        elevation: heights in metres, (y, x).
        resolution_m: pixel size in metres.
        sun_zenith_deg, sun_azimuth_deg: where the sun stands, as in :func:`unclouded.simulate.clouds.simulate_clouds`.

    Returns:
        Ratio, (y, x) float32, at most 3.

    >>> illumination(np.zeros((3, 3), np.float32), 10.0, 60.0, 180.0).tolist()[0]
    [1.0, 1.0, 1.0]
    """
    tangent = np.tan(np.radians(sun_zenith_deg))
    azimuth = np.radians(sun_azimuth_deg)
    up, right = -float(np.cos(azimuth)), float(np.sin(azimuth))  # towards the sun, in rows and columns
    down, across = np.gradient(elevation, np.float32(resolution_m))
    towards = down * np.float32(up) + across * np.float32(right)  # rise towards the sun
    light = (1 - towards * np.float32(tangent)) / np.sqrt(1 + down**2 + across**2)
    light = np.clip(light, 0.0, 3.0)
    highest = float(np.ptp(elevation)) * tangent / resolution_m
    step = 2.0
    while step < min(highest, max(elevation.shape)):
        # Ground is in shadow where the terrain on the way to the sun stands higher than the ray.
        ray = elevation + np.float32(step * resolution_m / tangent)
        light[_moved(elevation, round(up * step), round(right * step)) > ray] = 0.0
        step *= 1.12
    return np.asarray(light, np.float32)


def _moved(field: NDArray[np.float32], down: int, right: int) -> NDArray[np.float32]:
    """The field as seen ``down`` rows and ``right`` columns further; its border goes on beyond it."""
    rows = np.clip(np.arange(field.shape[0]) + down, 0, field.shape[0] - 1)
    cols = np.clip(np.arange(field.shape[1]) + right, 0, field.shape[1] - 1)
    return field[rows][:, cols]
