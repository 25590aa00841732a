"""Batches of the default model: crops of real images and simulated clouds, the same for the same seed and step.

Every crop is drawn from a generator seeded with (seed, step, place in the batch), so that a run that resumes at a
step sees exactly what it would have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..classes import SEVEN
from ..data import augment
from ..data import labels as lab
from ..data.sample import Sample
from ..descriptors import (
    DESCRIPTOR_LENGTH,
    PERCENTILES,
    SLOTS,
    scene_percentiles,
    sensei_descriptors,
    slot_index,
    slot_weights,
)
from ..scene import Band
from ..simulate.clouds import simulate_clouds
from ..simulate.noise import blur
from ..simulate.surface import procedural_surface

MIXTURE: dict[str, float] = {
    "teacher": 0.19,
    "simulated": 0.21,
    "pasted": 0.14,
    "procedural": 0.06,
    "snow": 0.06,
    "clear": 0.05,
    "pictures": 0.06,
}
"""How often each kind of crop is drawn beside the others. Kinds without images are not drawn."""

_PICTURES = {"l8_bqa", "l8_95cloud"}
_CLEAR = {"landsat_sr", "czechia_sept", "bigearthnet_v2", "sen1floods11", "dsen2", "amazon"}
"""Sources whose images are uncalibrated pictures, and clear ones; all others come with labels of the teacher."""

FEWEST_DONOR_CLOUD = 0.03
"""Share of cloud from which an image may give its clouds to others."""

PLANES = 13
"""Band places of a batch; crops with fewer bands are padded."""


@dataclass
class Batch:
    """Tensors of one step.

    Attributes:
        image: (n, 13, h, w) float32, 0 where missing and in padding bands.
        slots: (n, 13, s) float32 weights of the canonical slots.
        descriptors: (n, 13, 79) float32 SEnSeI-v2 descriptors with percentiles; zero rows are padding.
        sets: (n, k, h, w) bool, possible classes.
    """

    image: Tensor
    slots: Tensor
    descriptors: Tensor
    sets: Tensor


class Crops:
    """Draws crops of ``side`` pixels from the training samples.

    Args:
        samples: training samples.
        side: side of a crop in pixels.
        seed: of the whole run.
    """

    def __init__(self, samples: Sequence[Sample], side: int, seed: int) -> None:
        self.side = side
        self.seed = seed
        self.by_kind: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            kind = "pictures" if sample.source in _PICTURES else "clear" if sample.source in _CLEAR else "teacher"
            self.by_kind[kind].append(sample)
            if sample.background:
                self.by_kind["simulated"].append(sample)
                if _snow_share(sample) > 0.15:
                    self.by_kind["snow"].append(sample)
        # Clouds are pasted between images of the same bands and level.
        donors: dict[tuple[tuple[Band, ...], str], list[Sample]] = defaultdict(list)
        for sample in samples:
            if not sample.background and sample.level != "counts" and _cloud_share(sample) > FEWEST_DONOR_CLOUD:
                donors[sample.bands, sample.level].append(sample)
        self.donors = dict(donors)
        self.by_kind["pasted"] = [
            sample for sample in self.by_kind["simulated"] if (sample.bands, sample.level) in self.donors
        ]
        self.by_kind["procedural"] = []
        self.kinds = [kind for kind in MIXTURE if self.by_kind[kind] or kind in ("procedural", "snow")]
        share = np.array([MIXTURE[kind] for kind in self.kinds])
        self.share = share / share.sum()

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step."""
        n, side = size, self.side
        image = np.zeros((n, PLANES, side, side), np.float32)
        slots = np.zeros((n, PLANES, len(SLOTS)), np.float32)
        descriptors = np.zeros((n, PLANES, DESCRIPTOR_LENGTH + len(PERCENTILES)), np.float32)
        sets = np.zeros((n, side, side), np.uint8)
        for place in range(n):
            rng = np.random.default_rng((self.seed, step, place))
            crop, crop_sets, bands = self.crop(rng)
            count = len(bands)
            percentiles = scene_percentiles(crop[:, ::4, ::4])
            if rng.random() < 0.4:
                percentiles[:] = 0.0  # the percentiles of a whole scene are not those of a crop: do not lean on them
            image[place, :count] = np.nan_to_num(crop)
            slots[place, :count] = slot_weights(bands)
            descriptors[place, :count] = sensei_descriptors(bands, percentiles)
            sets[place] = crop_sets
        possible = (torch.from_numpy(sets)[:, None] >> torch.arange(len(SEVEN), dtype=torch.uint8)[:, None, None]) & 1
        return Batch(torch.from_numpy(image), torch.from_numpy(slots), torch.from_numpy(descriptors), possible.bool())

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[Band, ...]]:
        """One augmented crop: image with NaN where missing, sets, bands."""
        kind = self.kinds[rng.choice(len(self.kinds), p=self.share)]
        if kind == "procedural" or (kind == "snow" and (rng.random() < 0.4 or not self.by_kind["snow"])):
            sample = self._any(rng, "simulated")
            bands = sample.bands
            ground = float(np.exp(rng.uniform(np.log(12), np.log(40))))
            image = procedural_surface(bands, (self.side, self.side), ground, rng, level=sample.level,
                                       landscape="winter" if kind == "snow" else None)  # fmt: skip
            sets = np.full(image.shape[1:], lab.CLEAR, np.uint8)
        else:
            sample = self._any(rng, kind)
            bands = sample.bands
            image, sets, ground = self._cut(sample, rng)
        sets = narrowed(image, sets, bands)
        image, sets = augment.turn(image, sets, rng)
        dry = {"snow": 0.6, "simulated": 0.2, "procedural": 0.2, "clear": 0.2, "pasted": 0.2}
        if rng.random() < dry.get(kind, 0.0):
            image = augment.dry_air(image, bands, rng)
        if kind == "pasted":
            pool = self.donors[bands, sample.level]
            donor, donor_sets, _ = self._cut(pool[int(rng.integers(len(pool)))], rng)
            image, sets = pasted(image, sets, *augment.turn(donor, donor_sets, rng), bands, rng)
        if rng.random() < {"simulated": 0.92, "procedural": 0.92, "snow": 0.4}.get(kind, 0.0):
            image, sets = self._clouded(image, sets, bands, sample.level, ground, rng)
        if kind == "pictures":
            return image, sets, bands
        image = augment.radiometry(image, bands, rng, augment.Strength())
        image, bands = augment.drop_bands(image, bands, rng)
        colours = {band.common_name for band in bands} == {"blue", "green", "red"}
        if colours and rng.random() < 0.4:
            image = augment.stretched(image, rng)
        if rng.random() < 0.08:
            image, sets = augment.edge_of_scene(image, sets, rng)
        missing = ~np.isfinite(image).all(axis=0)
        image[:, missing] = np.nan
        sets = np.where(missing, np.uint8(lab.MISSING), sets).astype(np.uint8)
        return image, sets, bands

    def _any(self, rng: np.random.Generator, kind: str) -> Sample:
        pool = self.by_kind[kind]
        return pool[int(rng.integers(len(pool)))]

    def _cut(self, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], float]:
        """A window at a random pixel size, resampled to the crop's side."""
        rows, cols = sample.sets.shape
        finest, coarsest = sample.gsd_m, max(2.0 * sample.gsd_m, 24.0)
        ground = float(np.exp(rng.uniform(np.log(finest * 0.8), np.log(coarsest))))
        window = min(round(self.side * ground / sample.gsd_m), rows, cols)
        y, x = (int(rng.integers(size - window + 1)) for size in (rows, cols))
        image = sample.image[:, y : y + window, x : x + window].astype(np.float32)
        sets = sample.sets[y : y + window, x : x + window]
        if window != self.side:
            missing = np.isnan(image)
            small = torch.from_numpy(np.where(missing, 0, image))[None]
            shrink = window > self.side
            image = F.interpolate(small, (self.side,) * 2, mode="bilinear", antialias=shrink)[0].numpy()
            nearest = (np.arange(self.side) + 0.5) * window / self.side
            index = nearest.astype(np.int64)
            sets = sets[np.ix_(index, index)]
            image[missing[:, index][:, :, index]] = np.nan
        return image, sets.copy(), sample.gsd_m * window / self.side

    def _clouded(
        self,
        image: NDArray[np.float32],
        sets: NDArray[np.uint8],
        bands: tuple[Band, ...],
        level: str,
        ground_m: float,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Simulated clouds over a clear crop; what nobody could tell stays open."""
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
