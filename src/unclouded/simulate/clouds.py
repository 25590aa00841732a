"""Clouds and their shadows over any surface, in any optical bands, with exact truth.

The scene is a plane-parallel cloud of optical thickness tau(y, x) over a Lambertian surface, seen from nadir.

Glossary
    tau     optical thickness at 550 nm                 mu0   cosine of the sun's zenith angle
    g       asymmetry of scattering                     w     single-scattering albedo
    R, T    cloud reflectance and transmittance, diffuse light included
    rho     surface reflectance as the sensor sees it without the cloud

Equations
    (1) gamma = (sqrt(3)/2) (1 - g);  R = gamma tau / (1 + gamma tau) for w = 1 (two-stream, conservative)
    (2) absorption lowers the limit R(inf) from 1 to Rmax(wavelength, phase); R = Rmax gamma tau / (Rmax + gamma tau)
    (3) T = (1 / (1 + gamma tau)) exp(-a tau), a chosen so that thick cloud absorbs what (2) does not reflect
    (4) seen over cloud: R + T_down T_up rho' / (1 - rho' R), with the cloud's own ground shaded by its neighbours
    (5) shadow: rho' = rho (d + (1 - d) T(tau of the cloud on the way to the sun)), d the share of skylight
    (6) shadow offset = height tan(sun zenith), away from the sun
    (7) water vapour above the cloud: two-way transmittance of the 1.38 um and 0.94 um bands by cloud-top height

Sources: two-stream and similarity relations as in Petty, A First Course in Atmospheric Radiation (2006), ch. 13;
droplet and ice limits at 1.6 and 2.2 um as in Nakajima & King (1990) figures; scale height of water vapour 2 km.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band
from .noise import blur, power_law_field

Kind = Literal["cumulus", "stratus", "altocumulus", "cirrus", "haze"]

THIN_FROM_TAU = 0.25
"""Optical thickness from which a pixel is thin cloud: about 3 % reflectance over black."""
THICK_FROM_TAU = 5.0
"""Optical thickness from which a pixel is thick cloud: two thirds of the surface contrast are gone."""
SHADOW_BELOW = 0.75
"""Share of sunlight at 850 nm below which ground is shadow."""

_WATER_LIMIT = (
    (400, 0.97),
    (900, 0.96),
    (1240, 0.90),
    (1400, 0.80),
    (1610, 0.74),
    (2200, 0.56),
    (2500, 0.45),
)
_ICE_LIMIT = ((400, 0.97), (900, 0.95), (1240, 0.82), (1400, 0.65), (1610, 0.42), (2200, 0.32), (2500, 0.28))
_COARSE_LIMIT = ((400, 0.97), (900, 0.93), (1240, 0.66), (1400, 0.42), (1610, 0.17), (2200, 0.19), (2500, 0.15))
_SKYLIGHT = (
    (400, 0.42),
    (443, 0.35),
    (490, 0.28),
    (560, 0.21),
    (660, 0.15),
    (850, 0.09),
    (1610, 0.04),
    (2200, 0.03),
)


@dataclass(frozen=True)
class Layer:
    """One layer of cloud.

    Attributes:
        kind: shape of the cloud field.
        cover: share of the area under the layer, 0..1.
        height_m: height of the layer above the ground in metres.
        tau: optical thickness that the thicker parts reach.
        ice: 0 for droplets, 1 for ice.
        coarse: size of the ice particles, 0 for cirrus, 1 for the tops of deep convection, which are as dark in the
            short-wave infrared as snow.
    """

    kind: Kind
    cover: float
    height_m: float
    tau: float
    ice: float
    coarse: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """A cloudy scene and what is known about it.

    Attributes:
        image: reflectance, (band, y, x) float32.
        classes: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, (y, x) uint8.
        tau: optical thickness of all layers together, (y, x) float32.
        sunlight: share of sunlight that reaches the ground at 850 nm, (y, x) float32.
        layers: the layers that were drawn.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.uint8]
    tau: NDArray[np.float32]
    sunlight: NDArray[np.float32]
    layers: tuple[Layer, ...]


def random_layers(rng: np.random.Generator, cover: float | None = None) -> tuple[Layer, ...]:
    """One or two layers with plausible heights and thicknesses."""
    kinds: tuple[Kind, ...] = ("cumulus", "stratus", "altocumulus", "cirrus", "haze")
    layers = []
    for number in range(1 + int(rng.random() < 0.3)):
        kind = kinds[rng.choice(5, p=(0.38, 0.2, 0.14, 0.2, 0.08))]
        share = float(rng.beta(0.9, 1.1)) if cover is None or number else float(cover)
        if kind in ("cumulus", "stratus") and rng.random() < 0.3:  # deep cloud with an icy top
            ice, coarse = rng.uniform(0.4, 1.0), rng.uniform(0.0, 1.0)
            layer = Layer(kind, share, rng.uniform(3000, 12000), rng.uniform(20, 120), ice, coarse)
        elif kind == "cumulus":
            layer = Layer(kind, min(share, 0.8), rng.uniform(500, 2500), rng.uniform(8, 60), 0.0)
        elif kind == "stratus":
            layer = Layer(kind, share, rng.uniform(300, 2500), rng.uniform(6, 50), 0.0)
        elif kind == "altocumulus":
            layer = Layer(kind, share, rng.uniform(2500, 6000), rng.uniform(2, 20), float(rng.random() < 0.4))
        elif kind == "cirrus":
            layer = Layer(kind, share, rng.uniform(6000, 12000), float(np.exp(rng.uniform(-0.7, 2.0))), 1.0)
        else:
            layer = Layer(kind, share, rng.uniform(300, 2000), float(np.exp(rng.uniform(-0.7, 1.0))), 0.0)
        layers.append(layer)
    return tuple(layers)


def thickness_field(
    layer: Layer, shape: tuple[int, int], resolution_m: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Optical thickness of one layer, (y, x) float32, zero outside its clouds."""
    if layer.cover <= 0:
        return np.zeros(shape, np.float32)
    angle = rng.uniform(0, np.pi)
    if layer.kind == "cumulus":
        size = rng.uniform(600, 6000) / resolution_m
        field = power_law_field(shape, rng, exponent=rng.uniform(2.7, 3.5), largest_px=size)
        steep = rng.uniform(0.7, 1.6)
    elif layer.kind == "stratus":
        field = power_law_field(shape, rng, exponent=rng.uniform(2.9, 3.7))
        steep = rng.uniform(0.5, 1.5)
    elif layer.kind == "altocumulus":
        cells = power_law_field(shape, rng, exponent=3.2, largest_px=rng.uniform(300, 900) / resolution_m)
        field = 0.55 * cells + power_law_field(shape, rng, exponent=3.4)
        steep = rng.uniform(0.5, 1.2)
    elif layer.kind == "cirrus":
        field = power_law_field(
            shape, rng, exponent=rng.uniform(2.6, 3.4), stretch=rng.uniform(2.0, 8.0), angle_rad=angle
        )
        steep = rng.uniform(0.3, 0.8)
    else:
        field = power_law_field(shape, rng, exponent=rng.uniform(3.4, 4.2))
        steep = rng.uniform(0.2, 0.6)
    threshold = float(
        np.quantile(field[:: max(1, shape[0] // 128), :: max(1, shape[1] // 128)], 1 - layer.cover)
    )
    above = np.maximum(field - np.float32(threshold), 0.0)
    # Water path grows towards the middle of a cloud and saturates there: cumulus quickly, haze slowly.
    return (
        np.float32(layer.tau)
        * (1.0 - np.exp(-above * np.float32(steep)))
        * (1.0 + 0.3 * np.minimum(above, 2.0))
    )


def simulate_clouds(
    surface: NDArray[np.float32],
    bands: Sequence[Band],
    *,
    resolution_m: float,
    sun_zenith_deg: float = 40.0,
    sun_azimuth_deg: float = 150.0,
    seed: int | np.random.Generator = 0,
    layers: Sequence[Layer] | None = None,
    cover: float | None = None,
    soften_px: float = 0.7,
    parallax_px: float = 0.0,
    relief: float = 0.3,
    anisotropy: float = 1.0,
    level: Literal["toa", "boa"] = "toa",
    tau: NDArray[np.float32] | None = None,
) -> Simulated:
    """Put clouds and their shadows over a surface.

    Args:
        surface: clear reflectance, (band, y, x) float32; NaN where missing stays missing.
        bands: the bands of ``surface``; SAR and elevation are passed through unchanged.
        resolution_m: pixel size in metres.
        sun_zenith_deg: angle of the sun from the vertical, 0 to 85.
        sun_azimuth_deg: direction of the sun, clockwise from north (up in the image).
        seed: number or generator; the same number gives the same scene.
        layers: the layers wanted; None draws one or two.
        cover: share of the first layer when layers are drawn.
        soften_px: standard deviation of the blur of cloud edges (adjacency and optics), in pixels.
        parallax_px: displacement of the clouds between first and last band, in pixels along x.
        relief: how much the sides of clouds that face the sun are brighter, and the others darker; 0 is flat.
        anisotropy: ratio of the reflectance towards the sensor to the mean over all directions; 0.8 to 1.4 occur.
        level: ``boa`` leaves the 1.38 um band without its water vapour, as surface products do not carry it.
        tau: thickness of the (first) layer instead of a random field, (y, x); it casts shadows only inside the image.

    Returns:
        The cloudy image, its classes, thickness and sunlight.

    Raises:
        InputError: shapes do not fit, or the sun is too low.

    >>> sky = simulate_clouds(np.full((1, 64, 64), 0.1, np.float32), [Band("B8A", "nir", 848, 880, 20)],
    ...                       resolution_m=20, layers=[Layer("stratus", 1.0, 1000, 60, 0)])
    >>> bool((sky.classes == 1).mean() > 0.8 and sky.image.max() > 0.6)
    True
    """
    if surface.ndim != 3 or surface.shape[0] != len(bands):
        raise InputError(
            f"The surface has shape {surface.shape} for {len(bands)} bands.",
            expected="It has to be (band, y, x) with one plane per band.",
            remedy="Pass one Band for each plane.",
        )
    if not 0 <= sun_zenith_deg <= 85:
        raise InputError(
            f"The sun's zenith angle is {sun_zenith_deg} degrees.",
            expected="It has to lie between 0 and 85.",
            remedy="Pass the angle from the vertical, in degrees.",
        )
    rng = np.random.default_rng(seed)
    rows, cols = surface.shape[1:]
    drawn = tuple(layers) if layers is not None else random_layers(rng, cover)
    slope = np.tan(np.radians(sun_zenith_deg))
    mu0 = float(np.cos(np.radians(sun_zenith_deg)))
    azimuth = np.radians(sun_azimuth_deg)
    thickness = np.zeros((rows, cols), np.float32)
    overhead = np.zeros((rows, cols), np.float32)  # on the way from the ground to the sun
    ice = np.zeros((rows, cols), np.float32)
    coarse = np.zeros((rows, cols), np.float32)
    top = np.zeros((rows, cols), np.float32)
    for number, layer in enumerate(drawn):
        reach = layer.height_m * slope / resolution_m
        # (6) Equation of the offset: the sun stands at `azimuth`; ground shaded by a cloud lies away from it.
        down = round(reach * np.cos(azimuth))
        left = round(reach * np.sin(azimuth))
        if tau is not None and number == 0:
            layer_tau = np.pad(tau.astype(np.float32), ((abs(down),) * 2, (abs(left),) * 2))
        else:
            shape = (_fast_length(rows + 2 * abs(down)), _fast_length(cols + 2 * abs(left)))
            layer_tau = blur(thickness_field(layer, shape, resolution_m, rng), soften_px)
            layer_tau[layer_tau < 0.02] = 0.0
        y0, x0 = abs(down), abs(left)
        here = layer_tau[y0 : y0 + rows, x0 : x0 + cols]
        overhead += layer_tau[y0 - down : y0 - down + rows, x0 + left : x0 + left + cols]
        share = here / np.maximum(thickness + here, 1e-6)
        ice += (layer.ice - ice) * share
        coarse += (layer.coarse - coarse) * share
        top = np.where(here > 0.02, np.maximum(top, layer.height_m), top).astype(np.float32)
        thickness += here
    bright = np.float32(anisotropy) * _relief(thickness, azimuth, relief * min(slope, 2.0))
    cloud = _Cloud(thickness, ice, coarse, top, bright)
    image = np.empty_like(surface, dtype=np.float32)
    optical = [index for index, band in enumerate(bands) if band.kind == "optical"]
    for index, band in enumerate(bands):
        if index not in optical:
            image[index] = surface[index]  # radar and elevation see through cloud
            continue
        wavelength = band.centre_nm
        shift = round(parallax_px * (index / max(len(bands) - 1, 1)))
        image[index] = _shade(surface[index], wavelength, cloud.shifted(shift), overhead, mu0, level)
    sunlight = _transmittance(overhead / np.float32(mu0), np.float32(_at(_WATER_LIMIT, 850.0)))
    classes = classify(thickness, _skylit(sunlight, 850.0))
    return Simulated(image, classes, thickness, _skylit(sunlight, 850.0), drawn)


def classify(tau: NDArray[np.float32], sunlight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Classes from optical thickness and share of sunlight, (y, x) uint8 in the project's codes."""
    classes = np.zeros(tau.shape, np.uint8)
    classes[sunlight < SHADOW_BELOW] = 3
    classes[tau >= THIN_FROM_TAU] = 2
    classes[tau >= THICK_FROM_TAU] = 1
    return classes


@dataclass(frozen=True)
class _Cloud:
    """What the sensor sees of all layers at each pixel, (y, x) float32 each."""

    tau: NDArray[np.float32]
    ice: NDArray[np.float32]
    coarse: NDArray[np.float32]
    top: NDArray[np.float32]
    bright: NDArray[np.float32]

    def shifted(self, pixels: int) -> _Cloud:
        if not pixels:
            return self
        fields = (self.tau, self.ice, self.coarse, self.top, self.bright)
        return _Cloud(*(np.roll(field, pixels, axis=1) for field in fields))


def _shade(
    rho: NDArray[np.float32],
    wavelength: float,
    cloud: _Cloud,
    overhead: NDArray[np.float32],
    mu0: float,
    level: str,
) -> NDArray[np.float32]:
    """Reflectance of one band under cloud and shadow: equations (1) to (5) and (7)."""
    water, fine, rough = (np.float32(_at(table, wavelength)) for table in (_WATER_LIMIT, _ICE_LIMIT, _COARSE_LIMIT))
    limit = water * (1 - cloud.ice) + (fine + (rough - fine) * cloud.coarse) * cloud.ice
    gamma = np.float32(np.sqrt(3) / 2 * (1 - 0.85))
    # Slant sunlight meets more cloud: the similarity of two-stream solutions scales tau by 1 / mu0 (capped at low sun).
    scattering = gamma * cloud.tau / np.float32(max(0.5 + 0.5 * mu0, 0.5))
    reflectance = limit * scattering / (limit + scattering)
    shown = reflectance * cloud.bright
    # The ground under a cloud gets the light that comes through the cloud on the way to the sun.
    light = _skylit(_transmittance(overhead / np.float32(mu0), limit), wavelength)
    ground = rho * light
    upward = _transmittance(cloud.tau, limit)
    seen = shown + upward * ground / (1 - np.minimum(ground, 0.99) * reflectance)
    vapour = _vapour_above(wavelength, cloud.top) if level == "toa" else None
    if vapour is None:
        return np.asarray(seen, dtype=np.float32)
    # (7) In a vapour band the ground is hidden by the vapour below the cloud; the cloud shows above it.
    return np.asarray(upward * ground + shown * vapour, dtype=np.float32)


def _relief(tau: NDArray[np.float32], azimuth: float, strength: float) -> NDArray[np.float32]:
    """Brightness of cloud sides relative to a flat cloud: above 1 where the cloud rises away from the sun."""
    if strength <= 0:
        return np.ones_like(tau)
    height = np.log1p(tau)  # thicker parts stand higher
    down, right = np.gradient(height)
    away = np.cos(azimuth) * down - np.sin(azimuth) * right
    return np.clip(1.0 + np.float32(strength) * away.astype(np.float32), 0.5, 1.5)


def _transmittance(tau: NDArray[np.float32], limit: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    gamma = np.float32(np.sqrt(3) / 2 * (1 - 0.85))
    return np.asarray(np.exp(-(1 - limit) * np.float32(0.25) * tau) / (1 + gamma * tau), dtype=np.float32)


def _skylit(sunlight: NDArray[np.float32], wavelength: float) -> NDArray[np.float32]:
    sky = np.float32(_at(_SKYLIGHT, wavelength))
    return sky + (1 - sky) * sunlight


def _vapour_above(wavelength: float, top: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Two-way transmittance of the water vapour above the cloud top, or None outside its bands."""
    if 1340 <= wavelength <= 1420:
        column = 12.0  # two-way optical depth of a whole moist column: the ground does not show
    elif 915 <= wavelength <= 965:
        column = 0.9
    else:
        return None
    return np.exp(-np.float32(column) * np.exp(-top / np.float32(2000.0)))


def _at(table: tuple[tuple[int, float], ...], wavelength: float) -> float:
    return float(np.interp(wavelength, [row[0] for row in table], [row[1] for row in table]))


def _fast_length(size: int) -> int:
    """Smallest length from ``size`` upwards whose only factors are 2, 3 and 5, which transforms quickly."""
    length = size
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
