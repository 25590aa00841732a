"""Crops that the default removal model learns from: real clear ground under drawn gaps, simulated and real clouds.

Kinds of crops
    pair        a cloudy date and the clear date of the same place; what to rebuild is what the default mask finds
    carried     the clouds of such a pair over other ground, see :mod:`unclouded.train.removal_skies`
    simulated   clouds and shadows of :mod:`unclouded.simulate` over a clear scene, with their exact classes
    gap         nothing at all is seen in blobs, or in the shape of a real mask: what thick cloud leaves of a scene

Places are few, so that ground is made new: two places are blended into one, colours are shifted by band, and surface
reflectance is also shown as from the top of the atmosphere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..infer.feather import dilated, veil_of
from ..simulate.clouds import simulate_clouds
from ..simulate.noise import blur
from .patches import SAR_RANGE_DB
from .removal_grounds import BANDS, RAISED, Ground, raised
from .removal_skies import Sky, laid, lifted

SUBSETS: tuple[tuple[str, ...], ...] = (
    ("B02", "B03", "B04"),
    ("B02", "B03", "B04", "B08"),
    ("B01", "B02", "B03", "B04", "B8A", "B11", "B12"),
    ("B02", "B03", "B04", "B08", "B11", "B12"),
    ("B01", "B02", "B03", "B04", "B05", "B8A"),
    ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
)
"""Bands that other sensors and levels have; half of the crops keep one of these, or a random choice."""

MIXTURE = {"pair": 0.05, "carried": 0.35, "simulated": 0.3, "gap": 0.3}
"""Share of each kind of crop."""

THICK, THIN, SHADOW = 1, 2, 3
_DOUBTED = 0.15
"""Share of the crops whose clear ground is marked as thin cloud, too: masks err, and what is clear shall be kept."""
_REACH = 3
"""Pixels, at most, by which what is to be rebuilt reaches beyond the mask."""
_WORTH_TOA, _WORTH_RADAR = 8.0, 4.0
"""How often places measured in all bands from the top of the atmosphere, or with radar, are drawn, others once."""
_BLENDED = 0.3
"""Share of the crops without radar whose ground is blended from two places."""
_TINT = 0.05, 0.02
"""Standard deviation of the logarithm of a gain that changes evenly with the logarithm of wavelength, and by band."""
_LIGHT = 0.07
"""Standard deviation of the logarithm of a gain of all bands."""
_MURKY, _MURK = 0.8, (-0.12, 0.2, 0.15, 0.06)
"""Share of the crops in which ground under cloud and shadow is lit otherwise than what is to be rebuilt, and the mean
and standard deviation of the logarithm of that gain, that of its change with the logarithm of wavelength, and that by
band: clouds shade each other, ground is moist, and the clear date is another day."""
_RADAR_DB = 1.0
"""Standard deviation of the decibels by which radar images are shifted: processors and angles differ."""


def as_inputs(
    cloudy: NDArray[np.floating],
    classes: NDArray[np.uint8],
    sar: NDArray[np.float32] | None,
    reach: int = _REACH,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What the network is given.

    Args:
        cloudy: reflectance, (13, y, x), NaN where missing.
        classes: mask, (y, x): 0 clear, 1 thick, 2 thin, 3 shadow, 255 missing.
        sar: decibel, (2, y, x), NaN where missing, or None.
        reach: pixels by which the mask is widened.

    Returns:
        Image (13, y, x), radar (2, y, x) in 0..1, and marks (2, y, x): to rebuild, and how far hidden.
    """
    rebuild = dilated((classes > 0) & (classes < 255), reach)
    marks = np.stack((rebuild, rebuild * veil_of(classes))).astype(np.float32)
    radar = np.zeros((2, *classes.shape), np.float32)
    if sar is not None:
        radar = scaled_radar(sar)
    return np.nan_to_num(np.asarray(cloudy, np.float32)), radar, marks


def scaled_radar(sar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decibel to 0..1, 0 where missing; what was measured is at least 0.001.

    >>> scaled_radar(np.float32([[[-12.5]], [[-40.0]]])).ravel().tolist()
    [0.5, 0.0010000000474974513]
    """
    low, high = (np.array(edge, np.float32)[:, None, None] for edge in zip(*SAR_RANGE_DB, strict=True))
    return np.where(np.isfinite(sar), np.clip((sar - low) / (high - low), 0.001, 1), 0).astype(np.float32)


@dataclass
class Batch:
    """Tensors of one step.

    Attributes:
        image: (n, 13, h, w) float32, 0 where missing.
        sar: (n, 2, h, w) float32, 0 where missing.
        hidden: (n, 2, h, w) float32 marks.
        target: (n, 13, h, w) float32, NaN where unknown.
    """

    image: Tensor
    sar: Tensor
    hidden: Tensor
    target: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(part.to(device) for part in (self.image, self.sar, self.hidden, self.target)))


class Crops:
    """Draws crops from the grounds of the split ``train``; the same for the same seed and place.

    Args:
        grounds: as :func:`unclouded.train.removal_grounds.read_grounds` yields them.
        side: of a crop in pixels.
        seed: of the whole run.
    """

    def __init__(self, grounds: Sequence[Ground], side: int, seed: int) -> None:
        self.side, self.seed = side, seed
        train = [ground for ground in grounds if ground.split == "train" and min(ground.clear.shape[1:]) >= 96]
        cloudy = [ground for ground in train if ground.classes is not None and (ground.classes % 255 > 0).any()]
        self.pairs = [ground for ground in cloudy if not ground.changed]
        self.skies = [
            lifted(ground.clear, ground.cloudy, ground.classes, BANDS)
            for ground in cloudy
            if ground.cloudy is not None and ground.classes is not None
        ]
        self.pair_weight, self.sky_weight = (_by_place(some) for some in (self.pairs, cloudy))
        self.clear = [ground for ground in train if not ground.changed] + raised(train)
        self.weight = _drawing(self.clear)

    def batch(self, place: int, size: int) -> Batch:
        """The batch at a place of the run."""
        drawn = [self.crop(np.random.default_rng((self.seed, place, index))) for index in range(size)]
        return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True)))

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        """Image, radar, marks and target of one crop."""
        kind = str(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
        if kind == "pair" and self.pairs:
            ground = self.pairs[rng.choice(len(self.pairs), p=self.pair_weight)]
            assert ground.cloudy is not None
            assert ground.classes is not None
            clear, radar, cloudy, classes = self._cut(
                [ground.clear, _radar(ground), ground.cloudy, ground.classes[np.newaxis]], rng
            )
            tint = _tint(rng)
            clear, cloudy, mask = clear * tint, cloudy * tint, classes[0].astype(np.uint8)
        else:
            ground = self._drawn(rng)
            clear, radar = self._cut([ground.clear, _radar(ground)], rng)
            clear = clear * _tint(rng)
            if ground.sar is None and rng.random() < _BLENDED:
                clear = self._blended(clear, rng)
            if kind == "gap" or (kind != "simulated" and not self.skies):
                cloudy, mask = clear.copy(), self._gap(rng)
            else:
                under = clear * _murk(rng) if rng.random() < _MURKY else clear
                if kind == "simulated":
                    cloudy, mask = self._simulated(under, ground, rng)
                else:
                    cloudy, mask = self._carried(under, rng)
                if under is not clear:
                    edge = np.clip(blur((mask > 0).astype(np.float32), 3.0), 0, 1)
                    cloudy = cloudy + (1 - edge) * (clear - under)
        if rng.random() < _DOUBTED:
            mask = np.where(mask == 0, SHADOW if rng.random() < 0.25 else THIN, mask).astype(np.uint8)
        if rng.random() < 0.4:
            dropped = [index for index, band in enumerate(BANDS) if band.name not in _kept(rng)]
            if np.isfinite(np.delete(clear, dropped, axis=0)).any():
                clear[dropped], cloudy[dropped] = np.nan, np.nan
        shifted = radar + rng.normal(0, _RADAR_DB, (2, 1, 1)).astype(np.float32)
        image, scaled, hidden = as_inputs(
            cloudy, mask, shifted if rng.random() < 0.65 else None, int(rng.integers(_REACH + 1))
        )
        return image, scaled, hidden, clear

    def _drawn(self, rng: np.random.Generator) -> Ground:
        return self.clear[rng.choice(len(self.clear), p=self.weight)]

    def _blended(self, clear: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """One place fading into another, in the bands that both have."""
        (other,) = self._cut([self._drawn(rng).clear], rng)
        both: NDArray[np.bool_] = np.isfinite(clear + other).any(axis=(1, 2))
        if both.sum() < 3:
            return clear
        field = blur(rng.normal(size=clear.shape[1:]).astype(np.float32), float(rng.uniform(3, 25)))
        share = 1 / (1 + np.exp(-field / field.std() * rng.uniform(0.5, 6) - rng.normal()))
        mixed = share * clear + (1 - share) * other * _tint(rng)
        return np.where(both[:, np.newaxis, np.newaxis], mixed, np.float32(np.nan)).astype(np.float32)

    def _carried(
        self, clear: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        sky = self.skies[rng.choice(len(self.skies), p=self.sky_weight)]
        through, path, classes = self._cut([sky.through, sky.path, sky.classes[np.newaxis]], rng)
        cut = Sky(through.astype(np.float16), path.astype(np.float16), classes[0].astype(np.uint8))
        return laid(cut, clear, float(np.exp(rng.normal(0, 0.4)))), cut.classes

    def _cut(self, planes: Sequence[NDArray[np.generic]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """The same window of all, as it is or at twice the pixel size, turned and mirrored at random."""
        rows, cols = planes[0].shape[1:]
        factor = 2 if min(rows, cols) >= 2 * self.side and rng.random() < 0.3 else 1
        side = self.side * factor
        row, col = (int(rng.integers(max(size - side, 0) + 1)) for size in (rows, cols))
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        out = []
        for plane in planes:
            cut = plane[:, row : row + side, col : col + side].astype(np.float32)
            missing = ((0, 0), (0, side - cut.shape[1]), (0, side - cut.shape[2]))
            cut = np.pad(cut, missing, mode="reflect")
            if factor == 2 and plane.dtype.kind in "iu":  # classes
                cut = cut[:, ::2, ::2]
            elif factor == 2:
                cut = cut.reshape(len(cut), self.side, 2, self.side, 2).mean(axis=(2, 4))
            cut = np.rot90(cut, turns, axes=(1, 2))
            out.append(np.ascontiguousarray(cut[:, :, ::-1] if mirror else cut))
        return out

    def _simulated(
        self, clear: NDArray[np.float32], ground: Ground, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        there = [index for index in range(len(BANDS)) if np.isfinite(clear[index]).any()]
        sky = simulate_clouds(
            clear[there],
            [BANDS[index] for index in there],
            resolution_m=ground.gsd_m,
            sun_zenith_deg=float(rng.uniform(20, 65)),
            sun_azimuth_deg=float(rng.uniform(0, 360)),
            seed=rng,
            cover=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.6 else None,
            level="toa" if ground.level == "toa" else "boa",
        )
        cloudy = np.full_like(clear, np.nan)
        cloudy[there] = sky.image
        return cloudy, sky.classes

    def _gap(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Thick cloud in the shape of a real mask, or in blobs that cover 10 to 100 %."""
        side = self.side
        if self.skies and rng.random() < 0.4:
            shape = self.skies[rng.choice(len(self.skies), p=self.sky_weight)].classes
            row, col = (int(rng.integers(size - side + 1)) for size in shape.shape)
            cut = np.rot90(shape[row : row + side, col : col + side] % 255 > 0, int(rng.integers(4)))
            return (cut * THICK).astype(np.uint8)
        scale = float(np.exp(rng.uniform(np.log(4), np.log(40))))
        field = blur(rng.normal(size=(side, side)).astype(np.float32), scale)
        cover = rng.uniform(0.1, 1.05)
        return ((field >= np.quantile(field, max(0.0, 1 - cover))) * THICK).astype(np.uint8)


def _kept(rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() < 0.7:
        return SUBSETS[rng.integers(len(SUBSETS))]
    names = [band.name for band in BANDS]
    return tuple(rng.permutation(names)[: rng.integers(3, len(names))].tolist())


def _radar(ground: Ground) -> NDArray[np.float32]:
    return np.full((2, *ground.clear.shape[1:]), np.nan, np.float32) if ground.sar is None else ground.sar


def _tint(rng: np.random.Generator) -> NDArray[np.float32]:
    """A gain for every band: of the light, of the colour, and of each band, (13, 1, 1)."""
    slope = np.log([band.centre_nm / 900 for band in BANDS])
    even, single = _TINT
    gains = rng.normal(0, _LIGHT) + rng.normal(0, even) * slope + rng.normal(0, single, len(BANDS))
    return np.exp(gains).astype(np.float32)[:, None, None]


def _murk(rng: np.random.Generator) -> NDArray[np.float32]:
    """A gain for every band of ground under cloud, (13, 1, 1)."""
    mean, light, even, single = _MURK
    slope = np.log([band.centre_nm / 900 for band in BANDS])
    gains = rng.normal(mean, light) + rng.normal(0, even) * slope + rng.normal(0, single, len(BANDS))
    return np.exp(gains).astype(np.float32)[:, None, None]


def _drawing(grounds: Sequence[Ground]) -> NDArray[np.float64]:
    """How often each ground is drawn: a place as a whole, and sources by the root of the number of their places.

    Whole measurements from the top of the atmosphere are what the model is for, and radar is rare: both count more.
    """
    places = Counter((ground.source, ground.level, ground.place) for ground in grounds)
    sources = Counter((source, level) for source, level, _ in places)
    weight = []
    for one in grounds:
        measured = one.level == "toa" and not one.name.endswith(RAISED)
        whole = measured and np.isfinite(one.clear[:, ::8, ::8]).mean() > 0.9  # a cirrus band may be missing
        worth = max(_WORTH_TOA if whole else 1.0, _WORTH_RADAR if one.sar is not None else 1.0)
        weight.append(worth / places[one.source, one.level, one.place] / np.sqrt(sources[one.source, one.level]))
    return np.array(weight) / np.sum(weight)


def _by_place(grounds: Sequence[Ground]) -> NDArray[np.float64]:
    """Weights that sum to 1; each place counts like the root of the number of its images."""
    places = [ground.place for ground in grounds]
    weight = np.array([1 / np.sqrt(places.count(place)) for place in places], np.float64)
    return weight / weight.sum() if len(weight) else weight
