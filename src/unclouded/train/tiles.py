"""Tiles that the default model learns from: real images, disturbed, mixed, and under simulated clouds.

A tile is drawn from a generator seeded with (seed, number), so that tiles can be made in any order by any number of
processes. A teacher then says what it sees in each of them (:mod:`unclouded.train.lessons`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ..data import augment
from ..data import labels as lab
from ..data.sample import Sample
from ..descriptors import SLOTS, slot_index
from ..scene import Band
from ..simulate.clouds import simulate_clouds
from ..simulate.noise import blur
from ..simulate.surface import procedural_surface

SIDE = 256
"""Pixels of a tile's side: what the teacher takes."""

MIXTURE: dict[str, float] = {
    "real": 0.34,
    "simulated": 0.22,
    "pasted": 0.14,
    "blended": 0.10,
    "clear": 0.08,
    "snow": 0.07,
    "procedural": 0.05,
}
"""How often each kind of tile is drawn beside the others. Kinds without images are not drawn."""

CLEAR = {"landsat_sr", "czechia_sept", "bigearthnet_v2", "sen1floods11", "dsen2", "amazon"}
"""Sources of clear images."""

PICTURES = {"l8_bqa", "l8_95cloud"}
"""Sources of uncalibrated pictures, which the teacher cannot see."""

FEWEST_DONOR_CLOUD = 0.03
"""Share of cloud from which an image may give its clouds to others."""

LEAST_PIXELS = 96
"""Resampled images have this many pixels a side at least, before they are mirrored to fill a tile."""


@dataclass(frozen=True)
class Tile:
    """One image to learn from.

    Attributes:
        image: reflectance, (band, y, x) float32; NaN where missing.
        sets: possible classes as far as they are known without a teacher, (y, x) uint8 bit masks.
        bands: one per plane.
        level: ``toa`` or ``boa``.
        kind: one of :data:`MIXTURE`.
    """

    image: NDArray[np.float32]
    sets: NDArray[np.uint8]
    bands: tuple[Band, ...]
    level: str
    kind: str


class Tiles:
    """Draws tiles from samples.

    Args:
        samples: training samples.
        seed: of all tiles.
        side: pixels of a tile's side.
    """

    def __init__(self, samples: Sequence[Sample], seed: int, side: int = SIDE) -> None:
        self.side = side
        self.seed = seed
        self.by_kind: dict[str, list[Sample]] = defaultdict(list)
        partners: dict[tuple[tuple[Band, ...], str], list[Sample]] = defaultdict(list)
        donors: dict[tuple[tuple[Band, ...], str], list[Sample]] = defaultdict(list)
        for sample in samples:
            if sample.source in PICTURES:
                continue
            partners[sample.bands, sample.level].append(sample)
            self.by_kind["clear" if sample.source in CLEAR else "real"].append(sample)
            if sample.background:
                self.by_kind["simulated"].append(sample)
                if _snow_share(sample) > 0.15:
                    self.by_kind["snow"].append(sample)
            elif _cloud_share(sample) > FEWEST_DONOR_CLOUD:
                donors[sample.bands, sample.level].append(sample)
        # Images are mixed with others of the same bands and level.
        self.donors, self.partners = dict(donors), dict(partners)
        self.by_kind["pasted"] = [s for s in self.by_kind["simulated"] if (s.bands, s.level) in donors]
        self.by_kind["blended"] = [s for s in self.by_kind["real"] if len(partners[s.bands, s.level]) > 1]
        made_up = {"procedural", "snow"} if self.by_kind["simulated"] else set()  # with the bands of clear images
        self.kinds = [kind for kind in MIXTURE if self.by_kind[kind] or kind in made_up]
        share = np.array([MIXTURE[kind] for kind in self.kinds])
        self.share = share / share.sum()

    def draw(self, number: int) -> Tile:
        """The tile of this number."""
        rng = np.random.default_rng((self.seed, number))
        kind = self.kinds[rng.choice(len(self.kinds), p=self.share)]
        if kind == "procedural" or (kind == "snow" and (rng.random() < 0.4 or not self.by_kind["snow"])):
            sample = _any(rng, self.by_kind["simulated"])
            bands, level = sample.bands, sample.level
            ground = float(np.exp(rng.uniform(np.log(12), np.log(40))))
            image = procedural_surface(bands, (self.side, self.side), ground, rng, level=level,
                                       landscape="winter" if kind == "snow" else None)  # fmt: skip
            sets = np.full(image.shape[1:], lab.CLEAR, np.uint8)
        else:
            sample = _any(rng, self.by_kind[kind])
            bands, level = sample.bands, sample.level
            image, sets, ground = self._cut(sample, rng)
        sets = narrowed(image, sets, bands)
        dry = {"snow": 0.6, "simulated": 0.2, "procedural": 0.2, "clear": 0.2, "pasted": 0.2}
        if rng.random() < dry.get(kind, 0.0):
            image = augment.dry_air(image, bands, rng)
        if kind == "pasted":
            donor, donor_sets, _ = self._cut(_any(rng, self.donors[bands, level]), rng)
            image, sets = pasted(image, sets, donor, donor_sets, bands, rng)
        if kind == "blended":
            other, other_sets, _ = self._cut(_any(rng, self.partners[bands, level]), rng)
            image, sets = blended(image, sets, other, other_sets, rng)
        if rng.random() < {"simulated": 0.92, "procedural": 0.92, "snow": 0.4}.get(kind, 0.0):
            image, sets = clouded(image, sets, bands, level, ground, rng)
        image = augment.radiometry(image, bands, rng, augment.Strength())
        missing = ~np.isfinite(image).all(axis=0)
        image[:, missing] = np.nan
        sets = np.where(missing, np.uint8(lab.MISSING), sets).astype(np.uint8)
        return Tile(image, sets, bands, level, kind)

    def _cut(self, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], float]:
        """A window at a random pixel size, turned, mirrored where the image ends; also that pixel size in metres."""
        rows, cols = sample.sets.shape
        finest = 0.8 * sample.gsd_m
        coarsest = max(min(max(2.0 * sample.gsd_m, 24.0), sample.gsd_m * min(rows, cols) / LEAST_PIXELS), finest)
        ground = float(np.exp(rng.uniform(np.log(finest), np.log(coarsest))))
        window = [min(round(self.side * ground / sample.gsd_m), size) for size in (rows, cols)]
        y, x = (int(rng.integers(size - part + 1)) for size, part in zip((rows, cols), window, strict=True))
        image = sample.image[:, y : y + window[0], x : x + window[1]].astype(np.float32)
        sets = sample.sets[y : y + window[0], x : x + window[1]]
        shape = [min(round(part * sample.gsd_m / ground), self.side) for part in window]
        image, sets = augment.turn(*_resampled(image, sets, shape), rng)
        edge = [(0, self.side - size) for size in sets.shape]
        if any(after for _, after in edge):
            image = np.pad(image, [(0, 0), *edge], mode="symmetric")
            sets = np.pad(sets, edge, mode="symmetric")
        return image, sets, ground


def clouded(
    image: NDArray[np.float32],
    sets: NDArray[np.uint8],
    bands: tuple[Band, ...],
    level: str,
    ground_m: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Simulated clouds over a clear image; what nobody could tell stays open.

    Args:
        image: reflectance, (band, y, x).
        sets: what is known of the clear image, (y, x).
        bands: one per plane.
        level: ``toa`` or ``boa``.
        ground_m: pixel size in metres.
        rng: draws sun, sky and sharpness.
    """
    sky = simulate_clouds(
        image,
        bands,
        resolution_m=ground_m,
        sun_zenith_deg=float(rng.uniform(15, 70)),
        sun_azimuth_deg=float(rng.uniform(0, 360)),
        seed=rng,
        cover=1.0 if rng.random() < 0.08 else None,
        soften_px=float(rng.uniform(0.3, 1.5)),
        parallax_px=float(rng.choice([0, 0, 0, 1])),
        level="boa" if level == "boa" else "toa",
    )
    out = sets.copy()
    infrared = [row for row, band in enumerate(bands) if 790 < band.centre_nm < 910] or [len(bands) - 1]
    dark = image[infrared[0]] < 0.04
    shade = sky.sunlight
    out[shade < 0.88] |= np.uint8(lab.SHADOW)
    out[(shade < 0.70) & ~dark] = lab.SHADOW
    out[sky.ambiguous] |= sets[sky.ambiguous] | np.uint8(lab.SHADOW)
    # A person draws a thin cloud where it shows; over bright ground that takes more of it.
    tau = sky.tau
    visible = [row for row, band in enumerate(bands) if band.centre_nm < 920]
    shows = np.abs(sky.image - image)[visible].mean(axis=0) > 0.03
    out[tau > 0.08] |= np.uint8(lab.THIN)
    out[((tau > 0.25) & shows) | (tau > 0.6)] = lab.THIN
    out[tau > 3.5] = lab.CLOUD
    out[tau > 7.0] = lab.THICK
    return sky.image, out


def pasted(
    image: NDArray[np.float32],
    sets: NDArray[np.uint8],
    donor: NDArray[np.float32],
    donor_sets: NDArray[np.uint8],
    bands: Sequence[Band],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Real clouds of one image over a clear other one, with a shadow; edges that nobody could tell stay open.

    Args:
        image, donor: reflectance of the same bands, (band, y, x) float32.
        sets, donor_sets: their label sets, (y, x) uint8.
        bands: the bands of both.
        rng: draws brightness and the direction of the shadow.
    """
    cloudy = donor_sets & np.uint8(lab.CLOUD) > 0
    sure = cloudy & (donor_sets & np.uint8(~lab.CLOUD & 0xFF) == 0) & np.isfinite(donor).all(axis=0)
    opaque = np.where(sure, 1.0, np.where(cloudy, 0.5, 0.0)).astype(np.float32)
    margin = 6  # the blur wraps around
    weight = np.clip(blur(np.pad(opaque, margin, "edge"), 1.5)[margin:-margin, margin:-margin], 0.0, 1.0)
    weight[weight < 0.01] = 0.0
    down, right = (round(float(part)) for part in rng.uniform(-28, 28, 2))
    shade = np.zeros_like(weight)
    source = weight[max(0, -down) : weight.shape[0] - max(0, down), max(0, -right) : weight.shape[1] - max(0, right)]
    shade[max(0, down) :, max(0, right) :][: source.shape[0], : source.shape[1]] = source
    darkness = float(rng.uniform(0.45, 0.85))
    centre = np.array([band.centre_nm for band in bands], np.float32)
    sky = (0.28 * (490.0 / centre) ** 2)[:, None, None].astype(np.float32)
    ground = image * (sky + (1 - sky) * (1 - darkness * shade))
    brightness = np.float32(np.exp(rng.normal(0, 0.06)))
    out = np.where(weight > 0, weight * np.nan_to_num(donor) * brightness + (1 - weight) * ground, ground)
    infrared = int(np.argmin(np.abs(centre - 850.0)))
    out_sets = sets.copy()
    out_sets[shade > 0.15] |= np.uint8(lab.SHADOW)
    out_sets[(shade > 0.8) & (image[infrared] > 0.04)] = lab.SHADOW
    out_sets[weight > 0.05] |= donor_sets[weight > 0.05] & np.uint8(lab.CLOUD) | np.uint8(lab.THIN)
    inside = (weight > 0.6) & sure
    out_sets[inside] = donor_sets[inside]
    return out.astype(np.float32), out_sets


def narrowed(
    image: NDArray[np.float32], sets: NDArray[np.uint8], bands: Sequence[Band]
) -> NDArray[np.uint8]:
    """Clear labels told apart by their spectra: bright and dark in the short-wave infrared is snow, else it is not.

    Labels that leave cloud possible stay as they are. Between both rules nothing is decided.

    Source: the normalised difference snow index with the threshold 0.4 of Dozier (1989).
    """
    rows = {SLOTS[index].name: row for row, band in enumerate(bands) if (index := slot_index(band)) is not None}
    if not {"green", "swir16"} <= set(rows):
        return sets
    green, infrared = (image[rows[name]].astype(np.float32) for name in ("green", "swir16"))
    index = (green - infrared) / np.maximum(green + infrared, 0.01)
    ground = (sets & np.uint8(lab.CLEAR) > 0) & (sets & np.uint8(lab.CLOUD | lab.MISSING) == 0)
    out = sets.copy()
    snow = ground & (index > 0.4) & (green > 0.25)
    out[snow] &= np.uint8(lab.bits("snow") | lab.SHADOW)
    other = ground & ((index < 0.2) | (green < 0.15))
    kept = out & np.uint8(~lab.bits("snow") & 0xFF)
    np.copyto(out, kept, where=other & (kept > 0))
    return out


def blended(
    image: NDArray[np.float32],
    sets: NDArray[np.uint8],
    other: NDArray[np.float32],
    other_sets: NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The weighted mean of two images: nothing that nature shows, but the teacher has something to say about it.

    Every class that is possible in either stays possible.

    Source:
        Beyer et al. (2022), "Knowledge distillation: a good teacher is patient and consistent": inputs mixed beyond
        what is real make a student match the teacher's function.
    """
    share = np.float32(rng.uniform(0.25, 0.75))
    return np.asarray(share * image + (1 - share) * other, np.float32), sets | other_sets


def _resampled(
    image: NDArray[np.float32], sets: NDArray[np.uint8], shape: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image by area or bilinear interpolation, labels and gaps by the nearest pixel."""
    if tuple(shape) == sets.shape:
        return image, sets
    missing = np.isnan(image)
    small = torch.from_numpy(np.where(missing, 0, image))[None]
    out = F.interpolate(small, tuple(shape), mode="bilinear", antialias=shape[0] < sets.shape[0])[0].numpy()
    sizes = zip(shape, sets.shape, strict=True)
    rows, cols = (((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in sizes)
    out[missing[:, rows][:, :, cols]] = np.nan
    return out, sets[np.ix_(rows, cols)]


def _any(rng: np.random.Generator, pool: Sequence[Sample]) -> Sample:
    return pool[int(rng.integers(len(pool)))]


def _cloud_share(sample: Sample) -> float:
    """Share of pixels that are cloud for certain."""
    return float(((sample.sets > 0) & (sample.sets & np.uint8(~lab.CLOUD & 0xFF) == 0)).mean())


def _snow_share(sample: Sample) -> float:
    """Share of pixels whose normalised difference of green and 1.6 um says snow; 0 without these bands."""
    rows = {
        SLOTS[index].name: row for row, band in enumerate(sample.bands) if (index := slot_index(band)) is not None
    }
    if not {"green", "swir16"} <= set(rows):
        return 0.0
    green, infrared = (sample.image[rows[name]].astype(np.float32) for name in ("green", "swir16"))
    snow = (green > 0.25) & (green - infrared > 0.4 * (green + infrared))
    return float(snow.mean())
