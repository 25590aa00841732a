"""Procedural land surfaces: plausible spectra in natural shapes, for demonstrations, tests and training.

Spectra are rounded typical values of reflectance as spectral libraries give them (USGS, ECOSTRESS); the 1.38 um band
is dark at the top of the atmosphere, because water vapour hides the ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..scene import Band
from .noise import power_law_field

_WAVELENGTHS = (443, 490, 560, 660, 705, 740, 842, 945, 1375, 1610, 2200)

SPECTRA: dict[str, tuple[float, ...]] = {
    "crops": (0.03, 0.04, 0.08, 0.04, 0.12, 0.33, 0.44, 0.45, 0.35, 0.22, 0.10),
    "grass": (0.04, 0.05, 0.10, 0.07, 0.16, 0.28, 0.35, 0.36, 0.32, 0.27, 0.15),
    "forest": (0.02, 0.02, 0.04, 0.02, 0.06, 0.18, 0.25, 0.26, 0.20, 0.11, 0.05),
    "soil": (0.07, 0.09, 0.13, 0.18, 0.21, 0.23, 0.27, 0.29, 0.34, 0.36, 0.31),
    "sand": (0.16, 0.21, 0.29, 0.38, 0.41, 0.43, 0.46, 0.47, 0.52, 0.56, 0.52),
    "rock": (0.09, 0.10, 0.12, 0.14, 0.15, 0.16, 0.17, 0.18, 0.20, 0.21, 0.18),
    "town": (0.10, 0.12, 0.14, 0.16, 0.17, 0.19, 0.21, 0.21, 0.22, 0.23, 0.21),
    "roof": (0.40, 0.46, 0.50, 0.52, 0.53, 0.53, 0.53, 0.52, 0.50, 0.48, 0.42),
    "water": (0.05, 0.04, 0.03, 0.015, 0.010, 0.008, 0.005, 0.004, 0.001, 0.002, 0.001),
    "turbid": (0.07, 0.09, 0.12, 0.10, 0.08, 0.05, 0.04, 0.02, 0.001, 0.005, 0.003),
    "snow": (0.88, 0.90, 0.90, 0.88, 0.87, 0.86, 0.82, 0.75, 0.30, 0.12, 0.08),
    "salt": (0.45, 0.50, 0.55, 0.58, 0.59, 0.60, 0.60, 0.58, 0.45, 0.40, 0.28),
    "burnt": (0.03, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09, 0.10, 0.13, 0.17, 0.19),
}
"""Reflectance of each material at 443 to 2200 nm, see the module's text."""

LANDSCAPES: dict[str, tuple[str, ...]] = {
    "farmland": ("crops", "grass", "soil", "forest", "town", "water"),
    "forest": ("forest", "forest", "grass", "rock", "water", "burnt"),
    "desert": ("sand", "soil", "rock", "salt", "sand", "sand"),
    "coast": ("water", "turbid", "sand", "grass", "town", "water"),
    "winter": ("snow", "forest", "snow", "rock", "snow", "water"),
    "town": ("town", "roof", "grass", "soil", "forest", "water"),
}
"""Materials that occur together, commonest first."""


def procedural_surface(
    bands: Sequence[Band],
    shape: tuple[int, int],
    resolution_m: float,
    seed: int | np.random.Generator,
    *,
    landscape: str | None = None,
    level: str = "toa",
) -> NDArray[np.float32]:
    """A clear surface.

    Args:
        bands: optical bands wanted.
        shape: (y, x) in pixels.
        resolution_m: pixel size in metres; fields and lakes keep their size on the ground.
        seed: number or generator; the same number gives the same surface.
        landscape: key of :data:`LANDSCAPES`; None draws one.
        level: ``toa`` adds molecular scattering and hides the ground in the 1.38 um band.

    Returns:
        Reflectance, (band, y, x) float32.

    >>> procedural_surface([Band("B04", "red", 646, 684, 10)], (32, 32), 10.0, 1).shape
    (1, 32, 32)
    """
    rng = np.random.default_rng(seed)
    chosen = landscape if landscape is not None else str(rng.choice(list(LANDSCAPES)))
    kinds = LANDSCAPES[chosen]
    # The material that wins at a pixel is the one with the highest of several smooth fields: natural patches.
    size = rng.uniform(1500, 6000) / resolution_m
    best = np.full(shape, -np.inf, np.float32)
    winner = np.zeros(shape, np.uint8)
    for index in range(len(kinds)):
        field = power_law_field(shape, rng, exponent=3.6, largest_px=size) - np.float32(0.35 * index)
        better = field > best
        best[better] = field[better]
        winner[better] = index
    parcel = max(2, int(rng.uniform(80, 250) / resolution_m))
    blocks = rng.normal(1.0, 0.18, (shape[0] // parcel + 1, shape[1] // parcel + 1)).astype(np.float32)
    parcels = blocks.repeat(parcel, axis=0).repeat(parcel, axis=1)[: shape[0], : shape[1]]
    worked = np.isin(winner, [i for i, kind in enumerate(kinds) if kind in ("crops", "soil", "town", "roof")])
    texture = 1.0 + 0.10 * power_law_field(shape, rng, exponent=2.4)
    gain = np.where(worked, np.clip(parcels, 0.5, 1.6), 1.0) * np.clip(texture, 0.6, 1.5)
    greenness = power_law_field(shape, rng, exponent=3.0)
    out = np.empty((len(bands), *shape), np.float32)
    for row, band in enumerate(bands):
        wavelength = band.centre_nm
        values = np.array([np.interp(wavelength, _WAVELENGTHS, SPECTRA[kind]) for kind in kinds], np.float32)
        plane = values[winner] * gain
        # Vegetation varies along its own axis: more near infrared goes with less red.
        if 700 <= wavelength <= 1300:
            plane *= 1.0 + 0.06 * greenness
        elif 600 <= wavelength < 700:
            plane *= 1.0 - 0.06 * greenness
        if level == "toa":
            if 1340 <= wavelength <= 1420:
                plane = np.abs(rng.normal(0.0015, 0.0004, shape))
            else:
                plane = plane * 0.93 + 0.085 * (490.0 / wavelength) ** 3.6
        out[row] = plane
    out += rng.normal(0.0, 0.002, out.shape).astype(np.float32)
    return np.maximum(out, 0.0005, out=out)
