"""Augmentation that sensor independence and real use need. Pure functions of (image, sets, bands) and a generator.

Images are (band, y, x) float32 reflectance with NaN where missing; sets are (y, x) uint8 bit masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..descriptors import SLOTS, slot_index
from ..scene import Band
from . import labels as lab

Image = NDArray[np.float32]
Sets = NDArray[np.uint8]

BAND_CHOICES: tuple[tuple[float, tuple[str, ...] | None], ...] = (
    (0.30, None),  # everything that is there
    (0.20, ("blue", "green", "red")),
    (0.20, ("blue", "green", "red", "nir")),
    (0.12, ("coastal", "blue", "green", "red", "rededge", "nir", "watervapour", "swir16", "swir22")),  # no cirrus
    (0.12, ("blue", "green", "red", "nir", "swir16", "swir22")),
    (0.06, ("random",)),
)
"""Which bands a training image keeps: probability and slot names."""


@dataclass(frozen=True)
class Strength:
    """How strongly radiometry is disturbed; the defaults are those of the default model."""

    gain: float = 0.14
    band_gain: float = 0.04
    band_offset: float = 0.008
    haze: float = 0.03
    noise: float = 0.006


def turn(image: Image, sets: Sets, rng: np.random.Generator) -> tuple[Image, Sets]:
    """One of the eight flips and quarter turns."""
    quarter = int(rng.integers(4))
    image, sets = np.rot90(image, quarter, (1, 2)), np.rot90(sets, quarter)
    if rng.random() < 0.5:
        image, sets = image[:, :, ::-1], sets[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(sets)


def radiometry(image: Image, bands: Sequence[Band], rng: np.random.Generator, strength: Strength) -> Image:
    """Gain, per-band gain and offset, haze that falls with wavelength, noise, saturation, 8-bit steps."""
    count = len(bands)
    gain = np.exp(rng.normal(0, strength.gain)) * np.exp(rng.normal(0, strength.band_gain, count))
    offset = rng.normal(0, strength.band_offset, count)
    if rng.random() < 0.35:
        # Top of the atmosphere against surface reflectance, mostly molecular: blue differs most.
        wavelength = np.array([band.centre_nm for band in bands])
        offset = offset + rng.normal(0, strength.haze) * (490.0 / wavelength) ** 2.5
    dark = np.array([band.common_name == "cirrus" for band in bands])
    offset = np.where(dark, rng.normal(0, 0.0005, count), offset)
    out = image * gain[:, None, None].astype(np.float32) + offset[:, None, None].astype(np.float32)
    if rng.random() < 0.25:
        out = out + rng.normal(0, strength.noise * rng.random(), out.shape).astype(np.float32)
    if rng.random() < 0.10:
        out = np.minimum(out, np.float32(rng.uniform(0.6, 1.2)))
    if rng.random() < 0.05:
        step = np.float32(rng.uniform(0.002, 0.008))
        out = np.round(out / step) * step
    if rng.random() < 0.08:
        row = int(rng.integers(count))
        out[row] = np.roll(out[row], tuple(rng.integers(-1, 2, 2)), (0, 1))
    return np.asarray(out, dtype=np.float32)


def dry_air(image: Image, bands: Sequence[Band], rng: np.random.Generator) -> Image:
    """Clear ground under so little water vapour that the cirrus band sees it, as on high ice sheets and plateaux.

    The reflectance of the ground at 1.38 um is taken as the mean of near infrared and 1.6 um. A Landsat-8 image of the
    Biome set, clear over snow, has 0.19 there.
    """
    rows = {SLOTS[slot].name: row for row, band in enumerate(bands) if (slot := slot_index(band)) is not None}
    if not {"cirrus", "nir", "swir16"} <= set(rows):
        return image
    passed = 0.5 * rng.random() ** 2
    out = image.copy()
    ground = 0.5 * (image[rows["nir"]] + image[rows["swir16"]])
    out[rows["cirrus"]] = np.maximum(image[rows["cirrus"]], np.float32(passed) * ground)
    return out


def stretched(image: Image, rng: np.random.Generator) -> Image:
    """An uncalibrated picture: contrast stretched between percentiles, together or band by band, in 8-bit steps."""
    low, high = rng.uniform(0, 2), rng.uniform(97, 100)
    axes: tuple[int, ...] | None = (1, 2) if rng.random() < 0.5 else None
    bottom = np.nanpercentile(image, low, axis=axes, keepdims=True)
    top = np.nanpercentile(image, high, axis=axes, keepdims=True)
    out = np.clip((image - bottom) / np.maximum(top - bottom, 0.05), 0, 1)
    return np.asarray(np.round(out * 255) / 255, dtype=np.float32)


def drop_bands(image: Image, bands: Sequence[Band], rng: np.random.Generator) -> tuple[Image, tuple[Band, ...]]:
    """A subset of the bands, two at least; several bands of one slot may thin out to one of them."""
    weights = [choice[0] for choice in BAND_CHOICES]
    wanted = BAND_CHOICES[rng.choice(len(weights), p=np.array(weights) / sum(weights))][1]
    slots = [slot_index(band) for band in bands]
    usable = [row for row, slot in enumerate(slots) if slot is not None]
    if wanted == ("random",):
        count = int(rng.integers(2, len(usable) + 1))
        keep = sorted(rng.permutation(usable)[:count].tolist())
        if len({slots[row] for row in keep}) < 2:
            keep = usable
    elif wanted is None:
        keep = usable
    else:
        keep = [row for row in usable if SLOTS[slots[row] or 0].name in wanted]
    if rng.random() < 0.5:
        # Two bands of one slot, such as B08 and B8A, are not always both delivered.
        first: dict[int | None, int] = {}
        for row in rng.permutation(keep):
            first.setdefault(slots[int(row)], int(row))
        keep = sorted(first.values())
    if len({slots[row] for row in keep}) < 2:
        keep = usable
    return image[keep], tuple(bands[row] for row in keep)


def edge_of_scene(image: Image, sets: Sets, rng: np.random.Generator) -> tuple[Image, Sets]:
    """A slanted border beyond which there is no data, as at the edge of a swath."""
    rows, cols = sets.shape
    angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.5)
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    position = (x - cols / 2) * np.cos(angle) + (y - rows / 2) * np.sin(angle)
    missing = position > np.quantile(position, 1 - share)
    image, sets = image.copy(), sets.copy()
    image[:, missing] = np.nan
    sets[missing] = lab.MISSING
    return image, sets
