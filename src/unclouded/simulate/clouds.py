"""Clouds and their shadows over any surface, in any optical or thermal bands, with exact truth.

Layers of plane-parallel cloud of optical thickness tau(y, x) hang at their heights over a surface. Each is seen, and
shades what lies below it, along the straight lines to the sensor and to the sun.

Glossary
    tau     optical thickness at 550 nm              mu0, muv   cosines of the zenith angles of sun and sensor
    h       height of a layer above the ground       u0, uv     horizontal directions towards sun and sensor
    R, T    reflectance and transmittance of cloud   q, sky     reflectance of the air, share of skylight
    rho     reflectance of the surface as the sensor sees it without cloud; x under the air

Equations
    (1) x = (rho - q) / (1 - q): the ground under the air; after the last layer rho' = q + (1 - q) x
    (2) seen at p, a layer is the part above p + h tan(view zenith) uv; it shades p where it is above p + h tan(sun) u0
    (3) x is lit by sky + (1 - sky) T of all layers on the way to the sun
    (4) from the lowest layer to the highest: x -> light b V R + T x / (1 - x R), b the relief, V ozone and vapour
    (5) the air carries light from bright neighbours: rho' += w (Rmax - mean rho) (smoothed R - R), w of optics.Air
    (6) penumbra: the sun's radius of 0.00465 rad blurs shadow by half of h / mu0 times it
    (7) thermal: B = (1 - e) B(ground) + e B(top), e = 1 - exp(-0.6 tau / muv); tops are 6.5 K colder for each km

R, T, q, sky, V, w: optics.py. Sources: (2) and (6) geometry; (4) adding of layers, Petty (2006), ch. 13; (7) lapse
rate of the standard atmosphere, absorption about half of the visible extinction as for droplets and ice at 11 um.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band
from . import optics
from .decks import Deck, Direction
from .layers import Kind, Layer, random_layers, thickness_field
from .paint import painter

__all__ = ["Kind", "Layer", "Simulated", "classify", "random_layers", "simulate_clouds", "thickness_field"]

THIN_FROM_TAU = 0.25
"""Optical thickness from which a pixel is thin cloud: about 3 % reflectance over black."""
THICK_FROM_TAU = 5.0
"""Optical thickness from which a pixel is thick cloud: 40 % of the surface contrast are gone."""
SHADOW_BELOW = 0.75
"""Share of sunlight at 850 nm below which ground is shadow."""
INVISIBLE = 0.01
"""Change of near infrared reflectance below which a shadow cannot be seen."""

_STRIP_PX = 65536


@dataclass(frozen=True)
class Simulated:
    """A cloudy scene and what is known about it.

    Attributes:
        image: reflectance (kelvin in thermal bands), (band, y, x) float32.
        classes: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, (y, x) uint8.
        tau: optical thickness of all layers together, (y, x) float32.
        sunlight: share of light that reaches the ground at 850 nm, (y, x) float32.
        layers: the layers that were drawn.
        ambiguous: shadow that changes the near infrared by less than 0.01, as on dark water: nobody could see it.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.uint8]
    tau: NDArray[np.float32]
    sunlight: NDArray[np.float32]
    layers: tuple[Layer, ...]
    ambiguous: NDArray[np.bool_]


def simulate_clouds(
    surface: NDArray[np.float32],
    bands: Sequence[Band],
    *,
    resolution_m: float,
    sun_zenith_deg: float = 40.0,
    sun_azimuth_deg: float = 150.0,
    view_zenith_deg: float = 0.0,
    view_azimuth_deg: float = 100.0,
    seed: int | np.random.Generator = 0,
    layers: Sequence[Layer] | None = None,
    cover: float | None = None,
    soften_px: float = 0.7,
    parallax_px: float = 0.0,
    parallax_ratio: float = 0.0,
    relief: float = 0.3,
    anisotropy: float = 1.0,
    adjacency: float = 1.0,
    level: Literal["toa", "boa"] = "toa",
    tau: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> Simulated:
    """Put clouds and their shadows over a surface.

    Args:
        surface: clear reflectance (kelvin in thermal bands), (band, y, x) float32; NaN where missing stays missing.
        bands: the bands of ``surface``; SAR and elevation are passed through unchanged.
        resolution_m: pixel size in metres.
        sun_zenith_deg: angle of the sun from the vertical, 0 to 85.
        sun_azimuth_deg: direction in which the sun stands, clockwise from north (up in the image).
        view_zenith_deg: angle of the sensor from the vertical, seen from the ground, 0 to 60.
        view_azimuth_deg: direction in which the sensor stands.
        seed: number or generator; the same number gives the same scene.
        layers: the layers wanted; None draws one or two.
        cover: share of the first layer when layers are drawn.
        soften_px: standard deviation of the blur of cloud edges by the optics, in pixels.
        parallax_px: displacement of the clouds between first and last band along x, in pixels, at any height.
        parallax_ratio: displacement of a cloud between first and last band along y, as a share of its height;
            Sentinel-2 has up to 0.018 along its track.
        relief: how much the sides of clouds that face the sun are brighter, and the others darker; 0 is flat.
        anisotropy: ratio of the reflectance towards the sensor to the mean over all directions; 0.8 to 1.4 occur.
        adjacency: strength of the light that the air carries from bright neighbours; 0 is none, 1 a clean atmosphere.
        level: ``boa`` has neither light from the air, ozone nor vapour, as surface products are corrected for them.
        tau: thickness of the (first) layer instead of a random field, (y, x); it casts shadows only inside the image.
        threads: how many strips of the image are worked on at once; the result is the same.

    Returns:
        The cloudy image, its classes, thickness and sunlight. They are those of the first band where bands see clouds
        at different places.

    Raises:
        InputError: shapes do not fit, or sun or sensor are too low.

    >>> sky = simulate_clouds(np.full((1, 64, 64), 0.1, np.float32), [Band("B8A", "nir", 848, 880, 20)],
    ...                       resolution_m=20, layers=[Layer("stratus", 1.0, 1000, 60, 0)])
    >>> bool((sky.classes == 1).mean() > 0.8 and sky.image.max() > 0.6)
    True
    """
    _check(surface, bands, sun_zenith_deg, view_zenith_deg, tau)
    rng = np.random.default_rng(seed)
    drawn = tuple(layers) if layers is not None else random_layers(rng, cover)
    rows, cols = surface.shape[1:]
    sun = Direction(sun_zenith_deg, sun_azimuth_deg, resolution_m)
    view = Direction(view_zenith_deg, view_azimuth_deg, resolution_m)
    decks: list[Deck] = []
    for number, layer in sorted(enumerate(drawn), key=lambda pair: pair[1].height_m):
        below = [deck.layer.height_m for deck in decks]
        parallax = (parallax_px, parallax_ratio * layer.height_m / resolution_m)
        given = tau if number == 0 else None
        decks.append(Deck.make(layer, below, (rows, cols), sun, view, resolution_m, rng, soften_px, parallax, given))
    thickness = np.zeros((rows, cols), np.float32)
    for deck in decks:
        thickness += deck.seen()
    sunlight = _sunlight(decks, sun.mu, (rows, cols))
    classes = classify(thickness, sunlight)
    image = np.array(surface, np.float32)
    brush = painter(
        image,
        bands,
        decks,
        (thickness, sunlight),
        sun,
        view,
        level,
        anisotropy=anisotropy,
        adjacency=adjacency,
        relief=relief,
    )
    height = max(1, _STRIP_PX // cols)
    strips = [slice(first, min(first + height, rows)) for first in range(0, rows, height)]
    if threads > 1 and len(strips) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(brush.paint, strips))
    else:
        for strip in strips:
            brush.paint(strip)
    return Simulated(image, classes, thickness, sunlight, drawn, _ambiguous(surface, bands, classes, sunlight))


def classify(tau: NDArray[np.float32], sunlight: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Classes from optical thickness and share of sunlight, (y, x) uint8 in the project's codes."""
    classes = np.zeros(tau.shape, np.uint8)
    classes[sunlight < SHADOW_BELOW] = 3
    classes[tau >= THIN_FROM_TAU] = 2
    classes[tau >= THICK_FROM_TAU] = 1
    return classes


def _sunlight(decks: Sequence[Deck], mu0: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Share of light on the ground at 850 nm."""
    light = np.ones(shape, np.float32)
    for deck in decks:
        limits = optics.limit(850.0, deck.layer.ice, deck.layer.coarse)
        through = optics.two_stream(optics.tau_of_index(), limits, optics.slant(mu0))[1]
        light *= np.take(through, deck.shade_codes(0))
    sky = np.float32(optics.at(optics.SKYLIGHT, 850.0))
    light *= 1 - sky
    light += sky
    return light


def _ambiguous(
    surface: NDArray[np.float32],
    bands: Sequence[Band],
    classes: NDArray[np.uint8],
    sunlight: NDArray[np.float32],
) -> NDArray[np.bool_]:
    optical = [row for row, band in enumerate(bands) if band.kind == "optical" and not 1340 <= band.centre_nm <= 1420]
    if not optical:
        return np.zeros(classes.shape, bool)
    nearest = min(optical, key=lambda row: abs(bands[row].centre_nm - 850.0))
    return (classes == 3) & (surface[nearest] * (1 - sunlight) < INVISIBLE)


def _check(
    surface: NDArray[np.float32],
    bands: Sequence[Band],
    sun_zenith_deg: float,
    view_zenith_deg: float,
    tau: NDArray[np.float32] | None,
) -> None:
    if surface.ndim != 3 or surface.shape[0] != len(bands):
        raise InputError(
            f"The surface has shape {surface.shape} for {len(bands)} bands.",
            expected="It has to be (band, y, x) with one plane per band.",
            remedy="Pass one Band for each plane.",
        )
    if tau is not None and tau.shape != surface.shape[1:]:
        raise InputError(
            f"The optical thickness has shape {tau.shape} over a surface of {surface.shape[1:]}.",
            expected="It has to be (y, x) like the surface.",
            remedy="Pass a field of the surface's size.",
        )
    for name, angle, most in (("sun", sun_zenith_deg, 85), ("view", view_zenith_deg, 60)):
        if not 0 <= angle <= most:
            raise InputError(
                f"The zenith angle of the {name} is {angle} degrees.",
                expected=f"It has to lie between 0 and {most}.",
                remedy="Pass the angle from the vertical, in degrees.",
            )
