"""What the sensor sees of surface, clouds and air, band by band: the equations of clouds.py.

Everything that depends on band and layer alone goes into tables by optical thickness first; then the image is painted
in strips of rows that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scene import Band
from . import optics
from .decks import Deck, Direction
from .noise import blur, enlarge

_ADJACENCY_M = 1000.0
"""Distance over which the air carries light."""


@dataclass(frozen=True)
class Painter:
    """Colours of all bands, and the truth of all pixels, ready to be put together strip by strip."""

    image: NDArray[np.float32]
    decks: Sequence[Deck]
    colours: Sequence[_Colour | _Heat | None]
    places: Sequence[float]
    reliefs: Sequence[Sequence[NDArray[np.float32] | None]]
    halo: NDArray[np.float32] | None
    sunlight: NDArray[np.float32]

    def paint(self, strip: slice) -> None:
        """Turn the surface in some rows of the image into what is seen there."""
        shades = [
            [_entries(deck.shade_codes(target)[strip]) for target in range(len(deck.shades))] for deck in self.decks
        ]
        halo = None if self.halo is None else self.halo[strip]
        sunlight = self.sunlight[strip]
        last = None
        for row, colour in enumerate(self.colours):
            if colour is None:
                continue
            if self.places[row] != last:
                last = self.places[row]
                seen = [_entries(deck.seen_codes(last)[strip]) for deck in self.decks]
                relief = [None if one is None else one[strip] for one in self.reliefs[row]]
                cloudless = not any(codes.any() for codes in seen) and not any(codes[0].any() for codes in shades)
            if cloudless:
                if halo is not None and isinstance(colour, _Colour):
                    self.image[row, strip] += halo * colour.spread
                continue
            colour.paint(self.image[row, strip], seen, shades, relief, halo, sunlight)


@dataclass(frozen=True)
class _Colour:
    """One optical band: tables of R and T of every layer by optical thickness, and the air."""

    reflect: Sequence[NDArray[np.float32]]
    upward: Sequence[NDArray[np.float32]]
    downward: Sequence[NDArray[np.float32]]
    path: np.float32
    skylight: np.float32
    spread: np.float32

    def paint(
        self,
        x: NDArray[np.float32],
        seen: Sequence[NDArray[np.intp]],
        shades: Sequence[Sequence[NDArray[np.intp]]],
        relief: Sequence[NDArray[np.float32] | None],
        halo: NDArray[np.float32] | None,
        sunlight: NDArray[np.float32],
    ) -> None:
        """Equations (1) and (3) to (5), in place."""
        one = np.float32(1)
        x -= self.path
        scale = one / (one - self.path)
        x *= self._light([shade[0] for shade in shades], 0, scale)
        for number, codes in enumerate(seen):
            shown = self._take(self.reflect[number], codes)
            below = np.minimum(x, one)
            again = below * shown
            np.subtract(one, again, out=again)
            # Light that comes in beside a cloud is not caught under it: no ground gets more than the sun gives.
            np.maximum(again, below, out=again)
            x *= self._take(self.upward[number], codes)
            x /= again
            if number + 1 < len(seen):
                above = [shade[number + 1] for shade in shades[number + 1 :]]
                shown *= self._light(above, number + 1, one)
            bright = relief[number]
            if bright is not None:
                shown *= bright
            x += shown
        x *= one - self.path
        x += self.path
        if halo is not None and self.spread:
            x += halo * self.spread

    def _light(self, codes: Sequence[NDArray[np.intp]], first: int, scale: np.float32) -> NDArray[np.float32]:
        """Share of light that comes through the layers from ``first`` upwards, times ``scale``."""
        light = self._take(self.downward[first], codes[0])
        for number in range(1, len(codes)):
            light *= self._take(self.downward[first + number], codes[number])
        light *= (1 - self.skylight) * scale
        light += self.skylight * scale
        return light

    @staticmethod
    def _take(table: NDArray[np.float32], codes: NDArray[np.intp]) -> NDArray[np.float32]:
        # Mode "clip" alone writes straight into the result; no entry lies outside.
        out = np.empty(codes.shape, np.float32)
        return np.take(table, codes, out=out, mode="clip")


@dataclass(frozen=True)
class _Heat:
    """One thermal band: share of the cloud's own radiation by optical thickness, and that radiation."""

    wavelength: float
    emit: NDArray[np.float32]
    tops: Sequence[np.float32]

    def paint(
        self,
        x: NDArray[np.float32],
        seen: Sequence[NDArray[np.intp]],
        shades: Sequence[Sequence[NDArray[np.intp]]],
        relief: Sequence[NDArray[np.float32] | None],
        halo: NDArray[np.float32] | None,
        sunlight: NDArray[np.float32],
    ) -> None:
        """Equation (7), in place; ground in shadow is up to 3 K colder."""
        radiance = optics.planck(self.wavelength, x - 3 * (1 - sunlight))
        for codes, top in zip(seen, self.tops, strict=True):
            radiance += np.take(self.emit, codes) * (top - radiance)
        x[:] = optics.brightness(self.wavelength, radiance)


def painter(
    image: NDArray[np.float32],
    bands: Sequence[Band],
    decks: Sequence[Deck],
    truth: tuple[NDArray[np.float32], NDArray[np.float32]],
    sun: Direction,
    view: Direction,
    level: str,
    *,
    anisotropy: float,
    adjacency: float,
    relief: float,
) -> Painter:
    """Everything that depends on band and layer alone."""
    thickness, sunlight = truth
    optical = [row for row, band in enumerate(bands) if band.kind == "optical"]
    darkest, mean = _ground(image)
    damp = optics.moisture(image, bands) if level == "toa" else 1.0
    between = np.radians(sun.azimuth_deg - view.azimuth_deg)
    airs = [
        optics.air(
            bands[row],
            level,
            mu0=sun.mu,
            muv=view.mu,
            azimuth_between_rad=between,
            moisture=damp,
            darkest=float(darkest[row]),
        )
        for row in optical
    ]
    tau = optics.tau_of_index()
    tables = []
    for deck in decks:
        layer = deck.layer
        limits = np.array(
            [optics.limit(bands[row].centre_nm, layer.ice, layer.coarse) for row in optical], np.float32
        )[:, None]
        down, up = optics.slant(sun.mu), optics.slant(view.mu)
        reflect, downward = optics.two_stream(tau, limits, down * up)
        if up != 1.0:
            downward = optics.two_stream(tau, limits, down)[1]
        above = [one.ozone * one.vapour_above(layer.height_m) * anisotropy for one in airs]
        reflect *= np.array(above, np.float32)[:, None]
        tables.append((reflect, optics.two_stream(tau, limits, up)[1], downward))
    colours: list[_Colour | _Heat | None] = [None] * len(bands)
    for number, (row, one) in enumerate(zip(optical, airs, strict=True)):
        bright = np.mean([float(table[0][number, -1]) for table in tables]) if tables else 0.0
        spread = adjacency * one.spread * max(float(bright) - float(mean[row]), 0.0)
        colours[row] = _Colour(
            [table[0][number] for table in tables],
            [table[1][number] for table in tables],
            [table[2][number] for table in tables],
            np.float32(one.path),
            np.float32(one.skylight),
            np.float32(spread),
        )
    for row, band in enumerate(bands):
        if band.kind == "thermal":
            emit = np.asarray(1 - np.exp(-0.6 / view.mu * tau), np.float32)
            ground = float(mean[row])
            tops = [max(ground - 0.0065 * deck.layer.height_m, 200.0) for deck in decks]
            colours[row] = _Heat(
                band.centre_nm, emit, [np.float32(optics.planck(band.centre_nm, top)) for top in tops]
            )
    moved = any(deck.parallax != (0.0, 0.0) for deck in decks)
    places = [row / max(len(bands) - 1, 1) if moved else 0.0 for row in range(len(bands))]
    known: dict[float, list[NDArray[np.float32] | None]] = {}
    for place in places:
        if place not in known:
            known[place] = [deck.relief(sun, relief, place) if relief > 0 else None for deck in decks]
    halo = _halo(thickness, sun.resolution_m) if adjacency > 0 and decks and thickness.any() else None
    return Painter(image, decks, colours, places, [known[place] for place in places], halo, sunlight)


def _ground(surface: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Dark end (first percentile) and mean of every band, from some of the pixels; 0 where all are missing."""
    some = surface[:, :: max(1, surface.shape[1] // 32), :: max(1, surface.shape[2] // 32)]
    ranked = np.sort(some.reshape(len(surface), -1), axis=1)  # missing pixels come last
    count = np.isfinite(ranked).sum(axis=1)
    total = np.where(np.isfinite(ranked), ranked, 0).sum(axis=1)
    dark = np.nan_to_num(ranked[np.arange(len(ranked)), count // 100])
    return dark, np.asarray(total / np.maximum(count, 1), np.float32)


def _halo(thickness: NDArray[np.float32], resolution_m: float) -> NDArray[np.float32]:
    """Equation (5): smoothed reflectance of the clouds minus that of the pixel itself."""
    grey = optics.two_stream(optics.tau_of_index(), 0.975)[0]
    local = np.take(grey, optics.tau_index(thickness))
    radius = _ADJACENCY_M / resolution_m
    factor = max(1, round(radius / 4))
    rows, cols = local.shape
    padded = np.pad(local, ((0, -rows % factor), (0, -cols % factor)), mode="edge")
    coarse = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor).mean(axis=(1, 3))
    # Beyond the image the clouds are taken to go on as in a mirror.
    around = int(np.ceil(3 * radius / factor))
    wide = blur(np.pad(coarse, around, mode="symmetric"), radius / factor)
    smooth = enlarge(wide[around:-around, around:-around], local.shape, factor)
    smooth -= local
    return smooth


def _entries(codes: NDArray[np.uint16]) -> NDArray[np.intp]:
    """Codes as numpy.take wants them, converted once for all bands."""
    return codes.astype(np.intp)
