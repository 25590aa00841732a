"""Backscatter of Sentinel-1 that fits an optical surface: clouds do not change it.

Means by kind of ground at C band and 40 degrees of incidence, rounded from the literature (Ulaby & Dobson, Handbook of
Radar Scattering Statistics for Terrain, 1989; Sentinel-1 series over crops and towns). Speckle of L looks is gamma
distributed with mean 1 and variance 1/L; ground range detected products have about 4.4 looks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band
from .noise import power_law_field

LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 ground range detected products."""

_BARE = (-12.0, -20.0)
_GREEN = (-10.0, -16.0)
_BRIGHT = (-7.0, -14.0)  # towns; snow and salt come out too bright by 4 dB where they cannot be told from roofs
_SNOW = (-13.0, -20.0)
_WATER = (-19.0, -27.0)
_INCIDENCE_DEG = 39.0


def backscatter(
    surface: NDArray[np.float32],
    bands: Sequence[Band],
    rng: np.random.Generator,
    *,
    resolution_m: float,
    elevation: NDArray[np.float32] | None = None,
    water: NDArray[np.bool_] | None = None,
    looks: float = LOOKS,
) -> dict[str, NDArray[np.float32]]:
    """VV and VH backscatter, and the incidence angle, of ground whose colours are known.

    Args:
        surface: clear reflectance, (band, y, x).
        bands: its bands; green, red and near infrared are needed.
        rng: source of randomness.
        resolution_m: pixel size in metres.
        elevation: heights in metres, (y, x); slopes that face the radar in the west are brighter.
        water: where water is, (y, x); None takes it from the colours.
        looks: equivalent number of looks of the speckle.

    Returns:
        ``vv`` and ``vh`` in decibel and ``angle`` in degrees, (y, x) float32.

    Raises:
        InputError: a band is missing.
    """
    green, red, infrared = (_nearest(surface, bands, wavelength) for wavelength in (560.0, 660.0, 850.0))
    shape = surface.shape[1:]
    vegetation = np.clip((_index(infrared, red) - 0.15) / 0.5, 0, 1)
    if water is None:
        wet = np.clip((_index(green, infrared) - 0.05) / 0.25, 0, 1) * (infrared < 0.15)
    else:
        wet = water.astype(np.float32)
    snow = np.clip((green - 0.35) / 0.2, 0, 1)
    town = np.clip((red - 0.1) / 0.2, 0, 1) * (1 - vegetation) * (1 - snow)
    roughness = power_law_field(shape, rng, exponent=2.6)
    wind = rng.uniform(-3, 4)
    slope: NDArray[np.float32] | float = 0.0
    if elevation is not None:
        slope = np.asarray(np.gradient(elevation, np.float32(resolution_m), axis=1), np.float32)
    angle = _INCIDENCE_DEG + np.linspace(-0.5, 0.5, shape[1]) * (shape[1] * resolution_m / 250_000 * 16)
    out = {"angle": np.broadcast_to(angle, shape).astype(np.float32)}
    for number, name in enumerate(("vv", "vh")):
        mean = _BARE[number] + vegetation * (_GREEN[number] - _BARE[number])
        mean += town * (_BRIGHT[number] - _BARE[number])
        mean += snow * (_SNOW[number] - mean)
        mean += wet * (_WATER[number] + wind - mean)
        mean += roughness + 10 * np.clip(slope, -0.6, 0.6)
        speckle = rng.standard_gamma(looks, shape, dtype=np.float32) / looks
        out[name] = np.asarray(mean + 10 * np.log10(np.maximum(speckle, 1e-4)), np.float32)
    return out


def _nearest(surface: NDArray[np.float32], bands: Sequence[Band], wavelength: float) -> NDArray[np.float32]:
    optical = [row for row, band in enumerate(bands) if band.kind == "optical"]
    row = min(optical, key=lambda row: abs(bands[row].centre_nm - wavelength), default=None)
    if row is None or abs(bands[row].centre_nm - wavelength) > 100:
        raise InputError(
            f"No band lies near {wavelength:g} nm.",
            expected="Radar is simulated from the green, red and near infrared bands of the same ground.",
            remedy="Simulate these bands too, or leave SAR out.",
        )
    return np.nan_to_num(surface[row])


def _index(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((one - other) / np.maximum(one + other, 0.01), np.float32)
