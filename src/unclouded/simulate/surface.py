"""Procedural surfaces: plausible spectra in natural shapes, for demonstrations, tests and training.

The material that wins at a pixel is the one with the highest of several smooth fields, which makes natural patches;
parcels with straight edges are laid over worked land. Light on slopes, sun glint, molecular scattering and the vapour
of the air follow the same optics as the clouds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band
from . import optics, radar, terrain
from .materials import COLD, LANDSCAPES, SPECTRA, WATERS, Landscape, reflectance
from .noise import enlarge, power_law_field

__all__ = ["LANDSCAPES", "SPECTRA", "procedural_surface"]

_PARCELS = 4096
"""Length of the list that parcels take their looks from."""


def procedural_surface(
    bands: Sequence[Band],
    shape: tuple[int, int],
    resolution_m: float,
    seed: int | np.random.Generator,
    *,
    landscape: str | None = None,
    level: str = "toa",
    sun_zenith_deg: float = 40.0,
    sun_azimuth_deg: float = 150.0,
) -> NDArray[np.float32]:
    """A clear surface.

    Args:
        bands: bands wanted: optical, thermal (kelvin), SAR (decibel; ``vv``, ``vh``, ``angle``), elevation (metres).
        shape: (y, x) in pixels.
        resolution_m: pixel size in metres; fields and lakes keep their size on the ground.
        seed: number or generator; the same number gives the same surface.
        landscape: key of :data:`LANDSCAPES`; None draws one.
        level: ``toa`` adds molecular scattering, and the vapour that hides the ground in the 1.38 um band.
        sun_zenith_deg, sun_azimuth_deg: where the sun stands; it lights slopes.

    Returns:
        Reflectance, kelvin, decibel or metres, (band, y, x) float32.

    Raises:
        InputError: the landscape is unknown.

    >>> procedural_surface([Band("B04", "red", 646, 684, 10)], (32, 32), 10.0, 1).shape
    (1, 32, 32)
    """
    rng = np.random.default_rng(seed)
    chosen = landscape if landscape is not None else str(rng.choice(list(LANDSCAPES)))
    if chosen not in LANDSCAPES:
        raise InputError(
            f"There is no landscape called '{chosen}'.",
            expected=f"Landscapes are {', '.join(LANDSCAPES)}.",
            remedy="Choose one of these.",
        )
    kind = LANDSCAPES[chosen]
    names = tuple(dict.fromkeys(kind.materials + kind.mixed))
    texture = power_law_field(shape, rng, exponent=2.4)
    material = _patches(kind, names, shape, resolution_m, texture, rng)
    gain = np.clip(1.0 + np.float32(0.10) * texture, 0.6, 1.5)
    if kind.parcels_m is not None:
        _lay_parcels(kind, names, material, gain, resolution_m, rng)
    wet = np.isin(names, WATERS)[material]
    gain[wet] = 1.0
    relief = float(rng.uniform(*kind.relief_m))
    elevation, light = None, None
    if relief > 10 or any(band.kind in ("sar", "dem") for band in bands):
        elevation = terrain.heights(shape, resolution_m, rng.spawn(1)[0], max(relief, 5.0))
    if elevation is not None and relief > 10:
        light = terrain.illumination(elevation, resolution_m, sun_zenith_deg, sun_azimuth_deg)
        light[wet] = 1.0
    glint = np.float32(rng.uniform(0, kind.glint)) * wet * np.clip(1 + 0.15 * texture, 0, 2) if kind.glint else None
    greenness = enlarge(power_law_field(_small(shape, 4), rng, exponent=3.0), shape, 4)
    vapour = rng.uniform(0.4, 1.6)
    kelvin = rng.uniform(*kind.kelvin)
    # One pool of noise for all bands, each from another place: drawing it would take longer than all the rest.
    noise = rng.standard_normal(material.size + 1031 * len(bands), dtype=np.float32) * np.float32(0.002)
    mu0 = float(np.cos(np.radians(sun_zenith_deg)))
    out = np.empty((len(bands), *shape), np.float32)
    for row, band in enumerate(bands):
        if band.kind in ("sar", "dem"):
            continue
        plane = out[row]
        grain = noise[1031 * row : 1031 * row + material.size].reshape(shape)
        if band.kind == "thermal":
            degrees = np.array([COLD.get(name, kelvin) for name in names], np.float32)
            np.take(degrees, material, out=plane, mode="clip")
            plane += texture + (0 if light is None else 4 * (light - 1))
            continue
        wavelength = band.centre_nm
        np.take(reflectance(names, wavelength), material, out=plane, mode="clip")
        plane *= gain
        # Vegetation varies along its own axis: more near infrared goes with less red.
        if 600 <= wavelength <= 1300:
            plane *= 1.0 + np.float32(0.06 if wavelength >= 700 else -0.06) * greenness
        if glint is not None:
            plane += glint
        if light is not None:
            sky = np.float32(optics.at(optics.SKYLIGHT, wavelength))
            plane *= sky + (1 - sky) * light
        if level == "toa":
            _through_air(plane, grain, band, mu0, vapour)
        plane += grain
        np.maximum(plane, 0.0005, out=plane)
    if elevation is not None:
        _fill_radar_and_heights(out, bands, elevation, wet, resolution_m, rng.spawn(1)[0])
    return out


def _through_air(
    plane: NDArray[np.float32], grain: NDArray[np.float32], band: Band, mu0: float, vapour: float
) -> None:
    """What the air makes of the reflectance of the ground, in place."""
    wavelength = band.centre_nm
    hidden = optics.air(band, "toa", mu0=mu0, moisture=vapour).vapour_above(0.0)
    if hidden < 0.01:  # the 1.38 um band sees no ground: what is left is noise
        np.abs(grain, out=plane)
        plane *= 0.2
        plane += np.float32(0.0013)
        grain[:] = 0.0
        return
    # Scattering by air and some aerosol, which brightens what is dark and leaves white as it is; gases take 2 %.
    ozone = np.exp(-optics.at(optics.OZONE, wavelength) * (1 / mu0 + 1))
    path = 0.085 * (490.0 / wavelength) ** 3.6
    plane *= np.float32(0.98 * hidden * ozone * (1 - path))
    plane += np.float32(path)


def _fill_radar_and_heights(
    out: NDArray[np.float32],
    bands: Sequence[Band],
    elevation: NDArray[np.float32],
    wet: NDArray[np.bool_],
    resolution_m: float,
    rng: np.random.Generator,
) -> None:
    for row, band in enumerate(bands):
        if band.kind == "dem":
            out[row] = elevation
    wanted = [row for row, band in enumerate(bands) if band.kind == "sar"]
    if wanted:
        planes = radar.backscatter(out, bands, rng, elevation=elevation, water=wet, resolution_m=resolution_m)
        for row in wanted:
            out[row] = planes[bands[row].name.casefold()]


def _patches(
    kind: Landscape,
    names: tuple[str, ...],
    shape: tuple[int, int],
    resolution_m: float,
    texture: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Index of the material of every pixel."""
    size = rng.uniform(*kind.patch_m) / resolution_m
    factor = int(np.clip(size / 12, 1, 8))
    best = np.full(shape, -np.inf, np.float32)
    winner = np.zeros(shape, np.uint8)
    for number, name in enumerate(kind.materials):
        coarse = power_law_field(_small(shape, factor), rng, exponent=3.6, largest_px=size / factor)
        field = enlarge(coarse, shape, factor)
        field -= np.float32(0.35 * number)
        field += np.float32(0.12 if number % 2 else -0.12) * texture  # ragged shores
        better = field > best
        np.copyto(best, field, where=better)
        winner[better] = names.index(name)
    return winner


def _lay_parcels(
    kind: Landscape,
    names: tuple[str, ...],
    material: NDArray[np.uint8],
    gain: NDArray[np.float32],
    resolution_m: float,
    rng: np.random.Generator,
) -> None:
    """Cut worked land into parcels with straight edges, in place: each has its material, its brightness, a border."""
    assert kind.parcels_m is not None
    long, short = (rng.uniform(*kind.parcels_m) / resolution_m for _ in range(2))
    angle = rng.uniform(0, np.pi / 2)
    y, x = np.ogrid[: material.shape[0], : material.shape[1]]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along = np.asarray((x * cos + y * sin) / max(long, 2.0), np.float32)
    across = np.asarray((y * cos - x * sin) / max(short, 2.0), np.float32)
    lane = np.floor(across).astype(np.int32)
    along += np.take(rng.random(_PARCELS, dtype=np.float32), lane, mode="wrap")  # lanes are not in step
    place = np.floor(along).astype(np.int32)
    number = (place * 7919 + lane * 104_729) % _PARCELS
    worked = np.isin(names, kind.parcelled)[material]
    brightness = np.clip(rng.normal(1.0, 0.18, _PARCELS), 0.5, 1.6).astype(np.float32)
    looks = np.take(brightness, number)
    # A border of one lane of about ten metres: tracks and hedges.
    border = along - place < 10 / resolution_m / max(long, 2.0)
    border |= across - lane < 10 / resolution_m / max(short, 2.0)
    looks[border] *= np.float32(0.8)
    np.multiply(gain, looks, out=gain, where=worked)
    if kind.mixed:
        grown = np.array([names.index(name) for name in rng.choice(kind.mixed, _PARCELS)], np.uint8)
        np.copyto(material, np.take(grown, number), where=worked)


def _small(shape: tuple[int, int], factor: int) -> tuple[int, int]:
    return -(-shape[0] // factor), -(-shape[1] // factor)
