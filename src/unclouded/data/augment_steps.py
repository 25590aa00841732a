"""Steps of augmentation that a run's configuration names and composes: those of the papers, and what real use needs.

A step is a pure function of a patch, a random generator and its settings. It reads and writes reflectance, before any
normalisation. Pixels that a step takes away are labelled "no data".

Source: the published configuration of SEnSeI-v2 for the steps and amounts that name it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band
from . import labels as lab
from .augment import Image, Sets, drop_bands, edge_of_scene, stretched, turn


@dataclass(frozen=True)
class Patch:
    """What a step of augmentation takes and gives.

    Attributes:
        image: reflectance, (band, y, x) float32, NaN where missing.
        sets: possible classes as bit masks, (y, x) uint8.
        bands: one per plane.
    """

    image: Image
    sets: Sets
    bands: tuple[Band, ...]

    @property
    def optical(self) -> NDArray[np.bool_]:
        """Which planes are reflectance; radar and elevation keep out of radiometric steps."""
        return np.array([band.kind == "optical" for band in self.bands])


class Step(Protocol):
    """A step of augmentation: a pure function of patch, generator and its settings."""

    def __call__(self, patch: Patch, rng: np.random.Generator, **settings: Any) -> Patch: ...


STEPS: dict[str, Step] = {}
"""Steps by the names that a configuration uses."""

GEOMETRIC = ("turn", "quarter-turns", "flip")
"""Steps that move pixels and change no value: they suit pairs of images, too."""

_Function = TypeVar("_Function", bound=Callable[..., Patch])


def _step(function: _Function) -> _Function:
    STEPS[function.__name__.rstrip("_").replace("_", "-")] = cast(Step, function)
    return function


def check_step(name: str, settings: Mapping[str, Any]) -> None:
    """Make sure that a step exists and has the settings named.

    Raises:
        InputError: it does not.
    """
    if name not in STEPS:
        raise InputError(
            f"There is no augmentation '{name}'.",
            expected=f"Augmentations are {', '.join(sorted(STEPS))}.",
            remedy="Choose among these.",
        )
    known = list(inspect.signature(STEPS[name]).parameters)[2:]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(
            f"The augmentation '{name}' has no setting '{unknown[0]}'.",
            expected=f"Its settings are {', '.join(known)}." if known else "It has none but its probability p.",
            remedy="Correct the name, or leave it out.",
        )


def augmented(
    patch: Patch, steps: Sequence[tuple[str, float, Mapping[str, Any]]], rng: np.random.Generator
) -> Patch:
    """Apply steps in their order, each with its probability.

    Args:
        patch: what to change; it is left as it is.
        steps: name, probability and settings of each.
        rng: decides everything: the same state gives the same patch.

    >>> band = Band("B04", "red", 646, 684, 10)
    >>> grey = Patch(np.full((1, 2, 2), 0.2, np.float32), np.zeros((2, 2), np.uint8), (band,))
    >>> augmented(grey, [("quantise", 1.0, {"step": 0.25})], np.random.default_rng(0)).image.ravel().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    for name, probability, settings in steps:
        if rng.random() < probability:
            patch = STEPS[name](patch, rng, **settings)
    return patch


@_step
def turn_(patch: Patch, rng: np.random.Generator) -> Patch:
    """One of the eight flips and quarter turns."""
    image, sets = turn(patch.image, patch.sets, rng)
    return replace(patch, image=image, sets=sets)


@_step
def quarter_turns(patch: Patch, rng: np.random.Generator) -> Patch:
    """No, one, two or three quarter turns."""
    number = int(rng.integers(4))
    image, sets = np.rot90(patch.image, number, (1, 2)), np.rot90(patch.sets, number)
    return replace(patch, image=np.ascontiguousarray(image), sets=np.ascontiguousarray(sets))


@_step
def flip(patch: Patch, rng: np.random.Generator, axis: str = "x") -> Patch:
    """Mirror along ``x`` (left and right) or ``y``."""
    turned = (slice(None), slice(None, None, -1)) if axis == "x" else (slice(None, None, -1), slice(None))
    image, sets = patch.image[(slice(None), *turned)], patch.sets[turned]
    return replace(patch, image=np.ascontiguousarray(image), sets=np.ascontiguousarray(sets))


@_step
def gain(patch: Patch, rng: np.random.Generator, sigma: float = 0.1) -> Patch:
    """One factor for all bands, log-normal: another sun, another calibration."""
    return _affine(patch, np.full(len(patch.bands), np.exp(rng.normal(0.0, sigma))), np.zeros(len(patch.bands)))


@_step
def band_gain(patch: Patch, rng: np.random.Generator, low: float = 0.98, high: float = 1.05) -> Patch:
    """A factor for every band (SEnSeI-v2: 0.98 to 1.05)."""
    return _affine(patch, rng.uniform(low, high, len(patch.bands)), np.zeros(len(patch.bands)))


@_step
def band_offset(patch: Patch, rng: np.random.Generator, amount: float = 0.02) -> Patch:
    """A shift for every band, up to ``amount`` reflectance either way (SEnSeI-v2: 0.02)."""
    return _affine(patch, np.ones(len(patch.bands)), rng.uniform(-amount, amount, len(patch.bands)))


@_step
def haze(patch: Patch, rng: np.random.Generator, sigma: float = 0.03, exponent: float = 2.5) -> Patch:
    """Light scattered by the air, more or less of it: strongest in blue, falling with wavelength.

    Args:
        patch: what to change.
        rng: draws the amount.
        sigma: standard deviation of the change at 490 nm in reflectance.
        exponent: of the fall with wavelength; 4 is molecules alone, 1 coarse aerosol.
    """
    wavelength = np.array([band.centre_nm if band.kind == "optical" else np.inf for band in patch.bands])
    return _affine(patch, np.ones(len(patch.bands)), rng.normal(0.0, sigma) * (490.0 / wavelength) ** exponent)


@_step
def noise(patch: Patch, rng: np.random.Generator, sigma: float = 0.03) -> Patch:
    """White noise of the standard deviation ``sigma`` in every band (SEnSeI-v2: 0.03)."""
    drawn = rng.standard_normal(patch.image.shape, np.float32) * np.float32(sigma)
    return replace(patch, image=patch.image + drawn * patch.optical[:, None, None])


@_step
def quantise(patch: Patch, rng: np.random.Generator, step: float = 0.01) -> Patch:
    """Values rounded to multiples of ``step`` reflectance (SEnSeI-v2: 0.01 and 0.04)."""
    rounded = np.round(patch.image / np.float32(step)) * np.float32(step)
    return replace(patch, image=np.where(patch.optical[:, None, None], rounded, patch.image))


@_step
def eight_bit(patch: Patch, rng: np.random.Generator) -> Patch:
    """A picture: contrast stretched between percentiles, 256 steps from 0 to 1. Optical bands only."""
    if not np.isfinite(patch.image[patch.optical]).any():
        return patch
    image = patch.image.copy()
    image[patch.optical] = stretched(patch.image[patch.optical], rng)
    return replace(patch, image=image)


@_step
def saturate(patch: Patch, rng: np.random.Generator, low: float = 0.6, high: float = 1.2) -> Patch:
    """Values above a level drawn between ``low`` and ``high`` reflectance become that level, as in an 8-bit sensor."""
    level = np.where(patch.optical, np.float32(rng.uniform(low, high)), np.float32(np.inf))
    return replace(patch, image=np.minimum(patch.image, level[:, None, None]).astype(np.float32))


@_step
def stripes(
    patch: Patch, rng: np.random.Generator, gain: float = 0.02, missing: float = 0.3, period: int = 16
) -> Patch:
    """Stripes of a scanner: every detector a little brighter or darker, or lines lost, as in Landsat 7 since 2003.

    Args:
        patch: what to change.
        rng: draws kind, slope and phase.
        gain: standard deviation of the detectors' factors.
        missing: share of the cases in which lines are lost instead: no data in all bands.
        period: detectors of a scan, in pixels.
    """
    rows, cols = patch.sets.shape
    y, x = np.mgrid[:rows, :cols]
    line = y + np.floor(x * rng.uniform(-0.2, 0.2)).astype(np.int64) + int(rng.integers(period))
    if rng.random() < missing:
        lost = line % period < int(rng.integers(1, max(period // 3, 2)))
        return _without(patch, lost)
    factors = 1.0 + rng.normal(0.0, gain, (len(patch.bands), period)).astype(np.float32) * patch.optical[:, None]
    return replace(patch, image=(patch.image * factors[:, line % period]).astype(np.float32))


@_step
def misregister(patch: Patch, rng: np.random.Generator, pixels: float = 1.0, share: float = 0.3) -> Patch:
    """Some bands lie a fraction of a pixel beside the others, as edges of clouds do in push-broom images.

    Args:
        patch: what to change.
        rng: draws bands and shifts.
        pixels: largest shift either way.
        share: of the bands that are shifted.
    """
    image = patch.image.copy()
    for row in range(len(patch.bands)):
        if rng.random() < share:
            image[row] = _shifted(patch.image[row], *rng.uniform(-pixels, pixels, 2))
    return replace(patch, image=image)


@_step
def swath_edge(patch: Patch, rng: np.random.Generator) -> Patch:
    """A slanted border beyond which there is no data, as at the edge of a swath."""
    image, sets = edge_of_scene(patch.image, patch.sets, rng)
    return replace(patch, image=image, sets=sets)


@_step
def no_data_edges(patch: Patch, rng: np.random.Generator, pixels: int = 30, each: float = 0.25) -> Patch:
    """Straight strips without data, up to ``pixels`` wide, at each side with the probability ``each`` (SEnSeI-v2)."""
    lost = np.zeros(patch.sets.shape, bool)
    for axis in (0, 1):
        for end in (False, True):
            if rng.random() < each:
                width = int(rng.integers(1, min(pixels, patch.sets.shape[axis]) + 1))
                strip = [slice(None), slice(None)]
                strip[axis] = slice(-width, None) if end else slice(width)
                lost[tuple(strip)] = True
    return _without(patch, lost)


@_step
def sample_bands(patch: Patch, rng: np.random.Generator, least: int = 3, most: int = 13) -> Patch:
    """A random number of bands in random order, each as likely (SEnSeI-v2: 3 to 13).

    The upper bound is included: an image is seen whole, too.
    """
    present = len(patch.bands)
    number = int(rng.integers(min(least, present), min(most, present) + 1))
    kept = rng.permutation(present)[:number]
    return replace(patch, image=patch.image[kept], bands=tuple(patch.bands[row] for row in kept))


@_step
def usual_bands(patch: Patch, rng: np.random.Generator) -> Patch:
    """The bands that some sensor delivers: colours, with near or short-wave infrared, without cirrus, or all."""
    image, bands = drop_bands(patch.image, patch.bands, rng)
    return replace(patch, image=image, bands=bands)


def resampled(image: Image, sets: Sets, size: int) -> tuple[Image, Sets]:
    """A square window at another pixel size, ``size`` pixels a side.

    Shrinking averages with a triangle as wide as two new pixels, enlarging interpolates linearly; labels and missing
    pixels are those of the nearest pixel.

    Args:
        image: (band, y, x), NaN where missing.
        sets: (y, x).
        size: side of the result.

    >>> image, sets = resampled(np.full((1, 6, 6), 0.5, np.float32), np.full((6, 6), 3, np.uint8), 2)
    >>> image.tolist(), sets.tolist()
    ([[[0.5, 0.5], [0.5, 0.5]]], [[3, 3], [3, 3]])
    """
    if sets.shape == (size, size):
        return image, sets
    down, across = (_triangles(side, size) for side in sets.shape)
    rows, cols = (((np.arange(size) + 0.5) * side / size).astype(np.int64) for side in sets.shape)
    known = np.isfinite(image)
    held = known.astype(np.float32)
    total = np.matmul(np.matmul(down, np.where(known, image, np.float32(0))), across.T)
    if known.all():
        return total, sets[np.ix_(rows, cols)]
    weight = np.matmul(np.matmul(down, held), across.T)
    out = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 1e-6)
    out[~known[:, rows[:, None], cols]] = np.nan
    return out, sets[np.ix_(rows, cols)]


def _triangles(old: int, new: int) -> NDArray[np.float32]:
    """Weights of linear interpolation from ``old`` to ``new`` pixels, (new, old) float32, rows summing to 1."""
    scale = old / new
    centre = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(centre[:, None] - np.arange(old)) / max(scale, 1.0)
    weight = np.maximum(1.0 - distance, 0.0)
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _affine(patch: Patch, gains: NDArray[np.float64], offsets: NDArray[np.float64]) -> Patch:
    gains, offsets = np.where(patch.optical, gains, 1.0), np.where(patch.optical, offsets, 0.0)
    image = patch.image * gains[:, None, None].astype(np.float32) + offsets[:, None, None].astype(np.float32)
    return replace(patch, image=image)


def _without(patch: Patch, lost: NDArray[np.bool_]) -> Patch:
    image, sets = patch.image.copy(), patch.sets.copy()
    image[:, lost] = np.nan
    sets[lost] = lab.MISSING
    return replace(patch, image=image, sets=sets)


def _shifted(plane: NDArray[np.float32], down: float, right: float) -> NDArray[np.float32]:
    """A plane moved by fractions of a pixel, bilinear, the edge repeated; missing pixels stay where they are."""
    out = plane
    for axis, shift in ((0, down), (1, right)):
        side = plane.shape[axis]
        position = np.clip(np.arange(side) - shift, 0, side - 1)
        low = np.floor(position).astype(np.int64)
        part = (position - low).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        high = np.minimum(low + 1, side - 1)
        out = out.take(low, axis) * (1 - part) + out.take(high, axis) * part
    # A missing neighbour must not spread, and a missing pixel must not be filled from beside.
    out = np.where(np.isfinite(out), out, plane)
    return np.where(np.isfinite(plane), out, np.float32(np.nan)).astype(np.float32)
