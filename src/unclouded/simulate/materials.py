"""Spectra of ground, water, snow and ice, and which of them occur together.

Spectra are rounded typical values of surface reflectance as spectral libraries give them (USGS, ECOSTRESS); those of
snow and ice are brought to the values of real scenes (docs/simulator.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WAVELENGTHS = (443, 490, 560, 660, 705, 740, 842, 945, 1375, 1610, 2200)
"""Wavelengths of the spectra in nanometres."""

SPECTRA: dict[str, tuple[float, ...]] = {
    "crops": (0.03, 0.04, 0.08, 0.04, 0.12, 0.33, 0.44, 0.45, 0.35, 0.22, 0.10),
    "grass": (0.04, 0.05, 0.10, 0.07, 0.16, 0.28, 0.35, 0.36, 0.32, 0.27, 0.15),
    "stubble": (0.06, 0.08, 0.13, 0.17, 0.21, 0.24, 0.29, 0.30, 0.36, 0.36, 0.25),
    "forest": (0.02, 0.02, 0.04, 0.02, 0.06, 0.18, 0.25, 0.26, 0.20, 0.11, 0.05),
    "conifers": (0.015, 0.02, 0.03, 0.02, 0.04, 0.11, 0.15, 0.16, 0.12, 0.07, 0.03),
    "soil": (0.07, 0.09, 0.13, 0.18, 0.21, 0.23, 0.27, 0.29, 0.34, 0.36, 0.31),
    "sand": (0.16, 0.21, 0.29, 0.38, 0.41, 0.43, 0.46, 0.47, 0.52, 0.56, 0.52),
    "white sand": (0.30, 0.36, 0.45, 0.53, 0.56, 0.58, 0.61, 0.62, 0.66, 0.69, 0.63),
    "rock": (0.09, 0.10, 0.12, 0.14, 0.15, 0.16, 0.17, 0.18, 0.20, 0.21, 0.18),
    "basalt": (0.04, 0.04, 0.05, 0.06, 0.06, 0.06, 0.07, 0.07, 0.08, 0.09, 0.08),
    "town": (0.10, 0.12, 0.14, 0.16, 0.17, 0.19, 0.21, 0.21, 0.22, 0.23, 0.21),
    "asphalt": (0.06, 0.07, 0.08, 0.09, 0.10, 0.10, 0.11, 0.11, 0.12, 0.13, 0.12),
    "roof": (0.40, 0.46, 0.50, 0.52, 0.53, 0.53, 0.53, 0.52, 0.50, 0.48, 0.42),
    "water": (0.05, 0.04, 0.03, 0.015, 0.010, 0.008, 0.005, 0.004, 0.001, 0.002, 0.001),
    "shallow": (0.08, 0.10, 0.11, 0.05, 0.02, 0.012, 0.008, 0.005, 0.001, 0.002, 0.001),
    "turbid": (0.07, 0.09, 0.12, 0.10, 0.08, 0.05, 0.04, 0.02, 0.001, 0.005, 0.003),
    "snow": (0.88, 0.90, 0.90, 0.89, 0.89, 0.89, 0.87, 0.80, 0.30, 0.12, 0.09),
    "fresh snow": (0.94, 0.95, 0.95, 0.95, 0.94, 0.93, 0.90, 0.86, 0.50, 0.21, 0.23),
    "old snow": (0.56, 0.58, 0.58, 0.58, 0.59, 0.60, 0.56, 0.45, 0.06, 0.04, 0.04),
    "sea ice": (0.50, 0.50, 0.49, 0.46, 0.43, 0.40, 0.34, 0.26, 0.02, 0.015, 0.01),
    "salt": (0.45, 0.50, 0.55, 0.58, 0.59, 0.60, 0.60, 0.58, 0.45, 0.40, 0.28),
    "burnt": (0.03, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09, 0.10, 0.13, 0.17, 0.19),
}
"""Reflectance of each material at 443 to 2200 nm, see the module's text."""

WATERS = ("water", "shallow", "turbid")
"""Materials that the sun can glint on, and that lie level."""

COLD = {"snow": 266.0, "fresh snow": 263.0, "old snow": 270.0, "sea ice": 262.0}
"""Surface temperature in kelvin of what is frozen; all else has the temperature of its landscape."""


@dataclass(frozen=True)
class Landscape:
    """Materials that occur together, and the shapes they make.

    Attributes:
        materials: commonest first.
        patch_m: least and largest size of patches in metres.
        parcels_m: least and largest side of parcels with straight edges; None for wild land.
        parcelled: materials that are cut into parcels.
        mixed: materials that parcels are made of; empty leaves the material and changes its brightness alone.
        relief_m: least and largest standard deviation of the terrain in metres.
        glint: largest reflectance of sun glint on water.
        kelvin: least and largest temperature of what is not frozen.
    """

    materials: tuple[str, ...]
    patch_m: tuple[float, float] = (1500.0, 6000.0)
    parcels_m: tuple[float, float] | None = None
    parcelled: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    relief_m: tuple[float, float] = (0.0, 0.0)
    glint: float = 0.0
    kelvin: tuple[float, float] = (285.0, 305.0)


_FIELDS = ("crops", "grass", "soil", "stubble")

LANDSCAPES: dict[str, Landscape] = {
    "farmland": Landscape(
        ("crops", "grass", "soil", "forest", "town", "water"), (1500, 6000), (80, 400), (*_FIELDS, "town"), _FIELDS
    ),
    "forest": Landscape(("forest", "conifers", "grass", "rock", "water", "burnt"), relief_m=(0, 60)),
    "desert": Landscape(("sand", "soil", "rock", "salt", "sand", "white sand"), kelvin=(300, 325), relief_m=(0, 40)),
    "coast": Landscape(
        ("water", "turbid", "sand", "grass", "town", "shallow"), (1500, 6000), (60, 200), ("town",), glint=0.12
    ),
    "winter": Landscape(
        ("snow", "forest", "fresh snow", "rock", "old snow", "water"), kelvin=(268, 278), relief_m=(0, 80)
    ),
    "town": Landscape(
        ("town", "asphalt", "grass", "roof", "forest", "water"),
        (600, 2500),
        (30, 120),
        ("town", "roof", "asphalt"),
        ("town", "roof", "asphalt", "town", "grass"),
    ),
    "mountains": Landscape(
        ("conifers", "rock", "snow", "grass", "old snow", "basalt"),
        (1000, 4000),
        relief_m=(150, 500),
        kelvin=(270, 290),
    ),
    "ice": Landscape(("sea ice", "water", "snow", "old snow", "water", "fresh snow"), (150, 1500), kelvin=(266, 272)),
    "salt lake": Landscape(("salt", "soil", "shallow", "salt", "turbid", "sand"), glint=0.05, kelvin=(295, 315)),
    "sea": Landscape(("water", "water", "shallow", "turbid", "water", "water"), (3000, 9000), glint=0.30),
    "burnt": Landscape(("burnt", "forest", "grass", "soil", "conifers", "rock"), relief_m=(0, 100)),
}
"""Kinds of landscape."""


def reflectance(materials: tuple[str, ...], wavelength: float) -> NDArray[np.float32]:
    """Surface reflectance of materials at a wavelength in nanometres.

    >>> reflectance(("water", "snow"), 560.0)
    array([0.03, 0.9 ], dtype=float32)
    """
    return np.array([np.interp(wavelength, WAVELENGTHS, SPECTRA[name]) for name in materials], np.float32)
