"""Optics of clouds and of the air around them: what depends on wavelength and angles, but not on the place.

Glossary
    tau     optical thickness of cloud at 550 nm           mu0, muv   cosines of the zenith angles of sun and sensor
    g       asymmetry of scattering, 0.85                  w          single-scattering albedo
    Rinf    reflectance of an infinitely thick cloud       p          reflectance of the air itself (path)
    R, T    reflectance and diffuse transmittance of a layer

Equations
    (1) s2 = (1 - w) / (1 - w g);  Rinf = (1 - s) / (1 + s);  k = sqrt(3 (1 - w) (1 - w g))
    (2) R = Rinf (1 - e^2) / (1 - Rinf^2 e^2);  T = (1 - Rinf^2) e / (1 - Rinf^2 e^2);  e = exp(-k m tau)
    (3) m = 1 / (1/2 + mu/2), the slant of light that comes from the sun or goes to the sensor
    (4) p = tau_R P / (4 mu0 muv), P = 3/4 (1 + cos^2 of the scattering angle): air scatters once
    (5) two-way transmittance of the vapour above a cloud top at height h: exp(-c exp(-h / H))

Sources: (1) and (2) two-stream solution with absorption, Petty, A First Course in Atmospheric Radiation (2006), ch. 13;
tau_R of (4) Hansen & Travis (1974); limits Rinf at 1.6 and 2.2 um as in the figures of Nakajima & King (1990), checked
against real clouds in docs/simulator.md; ozone: Chappuis bands for 350 Dobson units. (5): between strong lines of a
saturated band absorption grows with the root of the amount, so that its scale height doubles to 4 km at 1.38 um.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..scene import Band

Table = tuple[tuple[float, float], ...]

ASYMMETRY = 0.85
"""Asymmetry of scattering by cloud particles in the visible."""

WATER_LIMIT: Table = (
    (400, 0.975),
    (900, 0.975),
    (1240, 0.92),
    (1400, 0.82),
    (1610, 0.71),
    (2200, 0.52),
    (2500, 0.42),
)
"""Reflectance of infinitely thick cloud of droplets of about 10 um, by wavelength in nanometres."""
ICE_LIMIT: Table = ((400, 0.975), (900, 0.97), (1240, 0.84), (1400, 0.70), (1610, 0.43), (2200, 0.34), (2500, 0.28))
"""The same for small ice particles, about 20 um."""
COARSE_LIMIT: Table = ((400, 0.975), (900, 0.95), (1240, 0.68), (1400, 0.45), (1610, 0.15), (2200, 0.17), (2500, 0.13))
"""The same for large ice particles, as at the tops of deep convection."""
SKYLIGHT: Table = (
    (400, 0.42),
    (443, 0.35),
    (490, 0.28),
    (560, 0.21),
    (660, 0.15),
    (850, 0.09),
    (1610, 0.04),
    (2200, 0.03),
)
"""Share of the light on the ground that comes from the sky."""
OZONE: Table = (
    (440, 0.001),
    (480, 0.007),
    (500, 0.011),
    (540, 0.029),
    (570, 0.042),
    (600, 0.045),
    (630, 0.031),
    (660, 0.020),
    (700, 0.008),
    (740, 0.004),
    (780, 0.002),
    (850, 0.0),
)
"""Optical thickness of 350 Dobson units of ozone, all of it above the clouds."""

INDEX_OF_INFINITE_TAU = 4095
"""Last entry of the tables; entry 0 is no cloud."""
_SCALE_TAU = 8.0
"""Optical thickness of the entry at the root of a half."""


def at(table: Table, wavelength: float) -> float:
    """Value of a table at a wavelength in nanometres, linear in between and constant beyond."""
    return float(np.interp(wavelength, *_columns(table)))


@cache
def _columns(table: Table) -> tuple[list[float], list[float]]:
    return [row[0] for row in table], [row[1] for row in table]


def limit(wavelength: float, ice: float, coarse: float) -> float:
    """Rinf of cloud whose particles are ``ice`` to that share, and large to the share ``coarse`` of the ice."""
    frozen = at(ICE_LIMIT, wavelength) * (1 - coarse) + at(COARSE_LIMIT, wavelength) * coarse
    return at(WATER_LIMIT, wavelength) * (1 - ice) + frozen * ice


def slant(mu: float) -> float:
    """Equation (3): how much more cloud slanted light meets than diffuse light.

    >>> slant(1.0), round(slant(0.5), 3)
    (1.0, 1.333)
    """
    return 1.0 / (0.5 + 0.5 * mu)


def two_stream(
    tau: NDArray[np.float32], limits: NDArray[np.float32] | float, path: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reflectance and transmittance of cloud: equations (1) and (2).

    Args:
        tau: optical thickness, any shape; infinity is allowed.
        limits: Rinf, to be broadcast against ``tau``; at least 0 and below 1.
        path: slant of the light, equation (3).

    Returns:
        R and T, float32. What neither reflects nor transmits is absorbed.

    >>> one, through = two_stream(np.float32([0.0, 10.0, np.inf]), 0.6)
    >>> one.round(3), through.round(3)
    (array([0.   , 0.493, 0.6  ], dtype=float32), array([1.   , 0.355, 0.   ], dtype=float32))
    """
    # In double precision: what 1 - w loses would be all of it.
    exact = np.asarray(limits, np.float64)
    s2 = ((1 - exact) / (1 + exact)) ** 2
    w = (1 - s2) / (1 - s2 * ASYMMETRY)
    k = np.sqrt(3 * (1 - w) * (1 - w * ASYMMETRY))
    limits = exact.astype(np.float32)
    e = np.exp(np.asarray(-k * path, np.float32) * tau)
    square = e * e
    rest = np.reciprocal(1 - limits**2 * square)
    return (
        np.asarray(limits * (1 - square) * rest, np.float32),
        np.asarray((1 - limits**2) * e * rest, np.float32),
    )


def tau_index(tau: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Entries of the tables for optical thicknesses: finest where cloud is thin.

    Rounding to an entry changes reflectance by at most 0.0002.
    """
    share = tau / (tau + np.float32(_SCALE_TAU))
    np.sqrt(share, out=share)
    share *= np.float32(INDEX_OF_INFINITE_TAU)
    share += np.float32(0.5)
    return share.astype(np.uint16)


@cache
def tau_of_index() -> NDArray[np.float32]:
    """Optical thickness of every entry of the tables; the last is infinite."""
    share = (np.arange(INDEX_OF_INFINITE_TAU + 1) / INDEX_OF_INFINITE_TAU) ** 2
    with np.errstate(divide="ignore"):
        tau = np.asarray(_SCALE_TAU * share / (1 - share), np.float32)
    tau.flags.writeable = False  # shared by all callers
    return tau


@dataclass(frozen=True)
class Air:
    """The clear atmosphere in one band.

    Attributes:
        path: reflectance p of the air.
        skylight: share of the light on the ground that does not come straight from the sun.
        ozone: two-way transmittance of ozone.
        spread: share of the light of the surroundings that the air mixes into a pixel.
        vapour: c of equation (5), 0 outside the bands of water vapour.
        scale_m: H of equation (5) in metres.
    """

    path: float
    skylight: float
    ozone: float
    spread: float
    vapour: float = 0.0
    scale_m: float = 2000.0

    def vapour_above(self, height_m: float) -> float:
        """Two-way transmittance of the water vapour above a height: equation (5)."""
        return float(np.exp(-self.vapour * np.exp(-height_m / self.scale_m)))


def rayleigh(wavelength: float) -> float:
    """Optical thickness of all the air at sea level.

    >>> round(rayleigh(550.0), 3)
    0.097
    """
    um = wavelength / 1000.0
    return float(0.008569 * um**-4 * (1 + 0.0113 * um**-2 + 0.00013 * um**-4))


def air(
    band: Band,
    level: str,
    *,
    mu0: float,
    muv: float = 1.0,
    azimuth_between_rad: float = 0.0,
    moisture: float = 1.0,
    darkest: float = np.inf,
) -> Air:
    """The atmosphere in a band.

    Args:
        band: an optical band.
        level: ``boa`` has neither path reflectance, ozone nor vapour left.
        mu0, muv: cosines of the zenith angles of sun and sensor.
        azimuth_between_rad: angle between the directions of sun and sensor.
        moisture: water vapour relative to a two-way thickness of 0.9 at 945 nm.
        darkest: reflectance of the darkest ground; the air cannot be brighter (dark-object rule, Chavez 1988).
    """
    wavelength = band.centre_nm
    thickness = rayleigh(wavelength)
    spread = 0.5 * thickness + 0.03 * (550.0 / wavelength) ** 1.3
    skylight = at(SKYLIGHT, wavelength)
    if level == "boa":
        return Air(0.0, skylight, 1.0, spread)
    vapour, scale = _vapour(wavelength)
    if vapour:
        return Air(0.0, skylight, 1.0, 0.0, vapour * moisture, scale)
    sines = np.sqrt((1 - mu0**2) * (1 - muv**2))
    scattering = -mu0 * muv - sines * np.cos(azimuth_between_rad)
    path = thickness * 0.75 * (1 + scattering**2) / (4 * mu0 * muv)
    ozone = np.exp(-at(OZONE, wavelength) * (1 / mu0 + 1 / muv))
    return Air(float(min(path, 0.9 * max(darkest, 0.0))), skylight, float(ozone), spread)


def moisture(surface: NDArray[np.float32], bands: Sequence[Band]) -> float:
    """Water vapour of a scene relative to a two-way thickness of 0.9, from the ratio of 945 nm to 865 nm; 1 without."""
    inside = [row for row, band in enumerate(bands) if band.kind == "optical" and 930 <= band.centre_nm <= 960]
    beside = [row for row, band in enumerate(bands) if band.kind == "optical" and 840 <= band.centre_nm <= 890]
    if not inside or not beside:
        return 1.0
    some = surface[:, :: max(1, surface.shape[1] // 32), :: max(1, surface.shape[2] // 32)]
    wet, dry = some[inside[0]], some[beside[0]]
    usable = np.isfinite(wet) & np.isfinite(dry) & (dry > 0.05) & (wet > 0)
    if not usable.any():
        return 1.0
    return float(np.clip(-np.log(np.median(wet[usable] / dry[usable])) / 0.9, 0.3, 2.0))


def _vapour(wavelength: float) -> tuple[float, float]:
    """c and H of equation (5) for a moderately moist column."""
    if 1340 <= wavelength <= 1420:
        return 10.0, 4000.0
    if 915 <= wavelength <= 965:
        return 0.9, 2000.0
    return 0.0, 2000.0


def planck(wavelength: float, kelvin: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """Radiance of a black body, relative: enough to mix temperatures."""
    return np.asarray(1.0 / np.expm1(14_387_769.0 / (wavelength * np.asarray(kelvin))), np.float32)


def brightness(wavelength: float, radiance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Temperature in kelvin of a relative radiance; the inverse of :func:`planck`.

    >>> float(brightness(10900.0, planck(10900.0, 280.0)).round(2))
    280.0
    """
    return np.asarray(14_387_769.0 / (wavelength * np.log1p(1.0 / radiance)), np.float32)
