"""Where the default removal model learns: real clear scenes under drawn gaps and simulated clouds, and real pairs.

Every image is brought to the 13 bands of Sentinel-2 in their order; bands that a sensor does not have stay missing. A
band of another sensor takes the place of the one of the same common name (see :data:`PLACES`).

Kinds of crops
    pair        a cloudy date and the clear date of the same place; what to rebuild is what the default mask finds
    simulated   clouds and shadows of :mod:`unclouded.simulate` over a clear scene, with their exact classes
    gap         nothing at all is seen in blobs, or in the shape of a real mask: what thick cloud leaves of a scene

The split goes by place (:data:`SPLIT`), so that no ground is in two parts. All else trains.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor

from ..api import predict
from ..data.default_corpus import S2, backgrounds, surfaces
from ..scene import Band
from ..simulate.clouds import simulate_clouds
from ..simulate.noise import blur
from .patches import SAR_RANGE_DB

log = logging.getLogger("unclouded")

BANDS: tuple[Band, ...] = tuple(S2.values())
"""Inputs and outputs of the model, in their order."""

PLACES = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge071": "B05", "rededge075": "B06",
    "rededge078": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11",
    "swir22": "B12",
}  # fmt: skip
"""Place of a band by its common name."""

SPLIT = {
    "unknown_group_d": "test", "unknown_group_e": "test", "ROIs1970_fall_139": "test", "ROIs2017_winter_102": "test",
    "unknown_group_a": "choose", "ROIs1868_summer_100": "choose",
}  # fmt: skip
"""Places that are kept from training: ``choose`` sets the uncertainty's factor, ``test`` is only reported."""

SUBSETS: tuple[tuple[str, ...], ...] = (
    ("B02", "B03", "B04"),
    ("B02", "B03", "B04", "B08"),
    ("B01", "B02", "B03", "B04", "B8A", "B11", "B12"),
    ("B02", "B03", "B04", "B08", "B11", "B12"),
    ("B01", "B02", "B03", "B04", "B05", "B8A"),
    ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
)
"""Bands that other sensors and levels have; half of the crops keep one of these, or a random choice."""

MIXTURE = {"pair": 0.2, "simulated": 0.45, "gap": 0.35}
"""Share of each kind of crop."""

THICK, THIN, SHADOW = 1, 2, 3
_DOUBTED = 0.3
"""Share of the crops whose clear ground is marked as thin cloud, too: masks err, and what is clear shall be kept."""
_REACH = 3
"""Pixels, at most, by which what is to be rebuilt reaches beyond the mask."""


@dataclass(frozen=True)
class Ground:
    """One place without cloud, and where there is one its cloudy date.

    Attributes:
        name: unique.
        source: where it comes from.
        place: what the split goes by.
        split: ``train``, ``choose`` or ``test``.
        clear: reflectance, (13, y, x) float16; NaN in missing bands and pixels.
        level: ``toa`` or ``boa``.
        gsd_m: pixel size in metres.
        sar: backscatter in decibel, VV and VH, (2, y, x) float32, or None.
        cloudy: reflectance of the cloudy date, (13, y, x) float16, or None.
        classes: mask of the cloudy date by the default mask model, (y, x) uint8, or None.
    """

    name: str
    source: str
    place: str
    split: str
    clear: NDArray[np.float16]
    level: str
    gsd_m: float
    sar: NDArray[np.float32] | None = None
    cloudy: NDArray[np.float16] | None = None
    classes: NDArray[np.uint8] | None = None


def read_grounds(root: Path) -> Iterator[Ground]:
    """Every place below ``root``, the folder that docs/removal.md describes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield from _sen12mscr(root / "sen12mscr")
        yield from _bigearthnet(root / "multimodal/bigearthnet_s1s2")
        for source in (surfaces, backgrounds):
            for sample in source(root):
                if not sample.background:
                    continue
                image = placed(sample.image.astype(np.float32), sample.bands)
                radar = None
                if sample.source == "sen1floods11":
                    radar = _read(root / "multimodal/sen1floods11/Spain_7370579_S1Hand.tif").astype(np.float32)
                elif sample.source == "bigearthnet_v2":
                    path = root / f"more/bigearthnet_v2/{sample.name}_s1.tif"
                    radar = _read(path)[::-1].astype(np.float32) if path.exists() else None  # stored as VH, VV
                yield Ground(
                    sample.name, sample.source, sample.scene, "train", image, sample.level, sample.gsd_m, radar
                )


def placed(image: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float16]:
    """Planes in the places of Sentinel-2's bands, (13, y, x) float16, NaN where there is none.

    >>> nir = Band("B5", "nir08", 851, 879, 30.0)
    >>> np.isfinite(placed(np.ones((1, 2, 2), np.float32), [nir])).all(axis=(1, 2)).nonzero()[0].tolist()
    [8]
    """
    out = np.full((len(BANDS), *image.shape[1:]), np.nan, np.float16)
    names = [band.name for band in BANDS]
    for plane, band in zip(image, bands, strict=True):
        if band.common_name in PLACES:
            out[names.index(PLACES[band.common_name])] = plane
    return out


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
        Image (13, y, x), radar (2, y, x) in 0..1, and marks (2, y, x): to rebuild, and fully hidden.
    """
    cloud = (classes > 0) & (classes < 255)
    marks = np.stack((widened(cloud, reach), widened(classes == THICK, min(reach, 1)))).astype(np.float32)
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


def widened(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """A mask grown by so many pixels to all eight sides.

    >>> widened(np.eye(5, dtype=bool)[2:3], 1).astype(int).tolist()
    [[0, 1, 1, 1, 0]]
    """
    if not pixels:
        return mask
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, min(pixels, mask.shape[axis] - 1) + 1):
            ahead = [slice(None), slice(None)]
            behind = [slice(None), slice(None)]
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            grown[tuple(ahead)] |= mask[tuple(behind)]
            grown[tuple(behind)] |= mask[tuple(ahead)]
        mask = grown
    return mask


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
        grounds: as :func:`read_grounds` yields them.
        side: of a crop in pixels.
        seed: of the whole run.
    """

    def __init__(self, grounds: Sequence[Ground], side: int, seed: int) -> None:
        self.side, self.seed = side, seed
        train = [ground for ground in grounds if ground.split == "train" and min(ground.clear.shape[1:]) >= 96]
        self.pairs = [ground for ground in train if ground.classes is not None and (ground.classes % 255 > 0).any()]
        self.shapes = [ground.classes for ground in self.pairs if ground.classes is not None]
        # Radar is rare: grounds that have it are drawn four times as often, and many small ones of a source less.
        rarity = {source: sum(one.source == source for one in train) for source in {one.source for one in train}}
        self.clear = train
        weight = np.array(
            [(4.0 if one.sar is not None else 1.0) / np.sqrt(rarity[one.source]) for one in train], np.float64
        )
        self.weight = weight / weight.sum()

    def batch(self, place: int, size: int) -> Batch:
        """The batch at a place of the run."""
        drawn = [self.crop(np.random.default_rng((self.seed, place, index))) for index in range(size)]
        return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True)))

    def crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        """Image, radar, marks and target of one crop."""
        kind = str(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
        if kind == "pair" and self.pairs:
            ground = self.pairs[rng.integers(len(self.pairs))]
        else:
            ground = self.clear[rng.choice(len(self.clear), p=self.weight)]
        planes = [ground.clear.astype(np.float32)]
        if kind == "pair" and ground.cloudy is not None and ground.classes is not None:
            planes += [ground.cloudy.astype(np.float32), ground.classes[None].astype(np.float32)]
        else:
            planes += [np.full_like(planes[0][:0], 0), np.zeros((1, *planes[0].shape[1:]), np.float32)]
        sar = ground.sar if ground.sar is not None else np.full((2, *planes[0].shape[1:]), np.nan, np.float32)
        clear, cloudy, classes, radar = self._cut([*planes, sar], rng)
        bright = np.float32(np.exp(rng.normal(0, 0.15)))
        clear, cloudy = clear * bright, cloudy * bright
        if kind == "pair":
            mask = classes[0].astype(np.uint8)
        elif kind == "simulated":
            cloudy, mask = self._simulated(clear, ground, rng)
        else:
            cloudy, mask = clear.copy(), self._gap(rng)
        if rng.random() < _DOUBTED:
            mask = np.where(mask == 0, THIN, mask).astype(np.uint8)
        if rng.random() < 0.5:
            dropped = [index for index, band in enumerate(BANDS) if band.name not in _kept(rng)]
            if np.isfinite(np.delete(clear, dropped, axis=0)).any():
                clear[dropped], cloudy[dropped] = np.nan, np.nan
        image, scaled, hidden = as_inputs(
            cloudy, mask, radar if rng.random() < 0.65 else None, int(rng.integers(_REACH + 1))
        )
        return image, scaled, hidden, clear

    def _cut(self, planes: Sequence[NDArray[np.float32]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """The same window of all, at once or at twice the pixel size, turned and mirrored at random."""
        rows, cols = planes[0].shape[1:]
        factor = 2 if min(rows, cols) >= 2 * self.side and rng.random() < 0.3 else 1
        side = self.side * factor
        row, col = (int(rng.integers(max(size - side, 0) + 1)) for size in (rows, cols))
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        out = []
        for number, plane in enumerate(planes):
            cut = plane[:, row : row + side, col : col + side]
            missing = ((0, 0), (0, side - cut.shape[1]), (0, side - cut.shape[2]))
            cut = np.pad(cut, missing, mode="reflect")
            if factor == 2 and number == 2:  # classes
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
        if self.shapes and rng.random() < 0.4:
            shape = self.shapes[rng.integers(len(self.shapes))]
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


def _sen12mscr(root: Path) -> Iterator[Ground]:
    with (root / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    pairs: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if row["pair_id"] and row["role"] in ("cloudy", "clear", "s1"):
            pairs.setdefault(row["pair_id"], {})[row["role"]] = row
    for name, parts in pairs.items():
        if "clear" not in parts:
            continue
        clear = _toa(root / parts["clear"]["path"])
        sar = None
        if "s1" in parts:
            stored = _read(root / parts["s1"]["path"])
            sar = stored.astype(np.float32) * np.float32(0.01 if stored.dtype.kind == "i" else 1)
        cloudy: NDArray[np.float16] | None = None
        classes = None
        if "removal" in parts["clear"]["usable_for"]:
            image = _toa(root / parts["cloudy"]["path"])
            classes = predict(image, [band.name for band in BANDS], sensor="sentinel2-l1c").classes
            cloudy = image.astype(np.float16)
        place = parts["clear"]["roi"]
        yield Ground(
            name, "sen12mscr", place, SPLIT.get(place, "train"), clear.astype(np.float16), "toa", 10.0, sar, cloudy,
            classes,
        )  # fmt: skip
    for row in rows:
        alone = row["role"] == "clear" and not row["pair_id"]
        if alone or (row["role"] == "series" and row["cloud_fraction_weak"] == "0.000"):
            place, split = row["roi"], SPLIT.get(row["roi"], "train")
            alone_clear = _toa(root / row["path"]).astype(np.float16)
            yield Ground(Path(row["path"]).stem, "sen12mscr", place, split, alone_clear, "toa", 10.0)


def _bigearthnet(root: Path) -> Iterator[Ground]:
    """Pairs of the BigEarthNet examples; radar and optical folders end in the same numbers."""
    for folder in sorted((root / "BigEarthNet-S2-Example").iterdir()):
        number = "_".join(folder.name.split("_")[-2:])
        radar = next((root / "BigEarthNet-S1-Example").glob(f"S1*_{number}"))
        sar = np.stack([_read(radar / f"{radar.name}_{name}.tif")[0] for name in ("VV", "VH")]).astype(np.float32)
        image = np.full((len(BANDS), *sar.shape[1:]), np.nan, np.float16)
        for place, band in enumerate(BANDS):
            path = folder / f"{folder.name}_{band.name}.tif"
            if path.exists():
                plane = _read(path)[0] * np.float32(1e-4)
                factor = sar.shape[1] // plane.shape[0]
                image[place] = plane.repeat(factor, 0).repeat(factor, 1)
        yield Ground(folder.name, "bigearthnet_s1s2", folder.name, "train", image, "boa", 10.0, sar)


def _toa(path: Path) -> NDArray[np.float32]:
    counts = _read(path)
    image = counts.astype(np.float32) * np.float32(1e-4)
    image[:, (counts == 0).all(axis=0)] = np.nan
    return image


def _read(path: Path) -> NDArray[np.generic]:
    with rasterio.open(path) as dataset:
        return dataset.read()
