"""From images to the tensors of one step: cut, augmented, scaled and labelled. The same for the same seed and place.

Shapes
    n  patches    b  bands    d  descriptor    h, w  rows, columns of a patch    s  radar bands
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import labels as lab
from ..data.augment_steps import Patch, augmented, resampled
from ..data.sample import Sample
from ..data.sets.base import Pair
from ..descriptors import (
    DESCRIPTOR_LENGTH,
    scene_percentiles,
    sensei_descriptors,
    sensei_v1_descriptors,
    slot_index,
    slot_weights,
)
from ..errors import InputError
from ..scene import Band
from .config import RunConfig
from .corpus import Item, Normalisers, Order, Source, choose_bands, in_units
from .targets import SCHEMES, cloud_certain

SAR_RANGE_DB = ((-25.0, 0.0), (-32.5, 0.0))
"""Range of VV and VH that becomes 0 to 1 for removal networks (MMCANet, after GLF-CR)."""

_MOST_PERCENTILE_PIXELS = 16384
_Window = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass.

    Attributes:
        image: (n, b, h, w) float32, scaled; 0 where missing and in padding bands.
        beside: descriptors (n, b, d), or radar (n, s, h, w), or None.
        target: possible groups of classes as bits, (n, h, w) uint8; for removal the clear image, (n, b, h, w).
        index: the group where it is certain, else 255, (n, h, w) uint8; None for removal.
        cloud: 1 certainly cloud, 0 certainly not, else 255, (n, h, w) uint8; None for removal.
    """

    image: Tensor
    beside: Tensor | None
    target: Tensor
    index: Tensor | None = None
    cloud: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        moved = [None if part is None else part.to(device, non_blocking=True) for part in self.parts()]
        return Batch(*moved)  # type: ignore[arg-type]

    def parts(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
        """The tensors in their order."""
        return self.image, self.beside, self.target, self.index, self.cloud


class Patches:
    """Draws the batches of a run.

    Args:
        config: of the run.
        sources: its data sets.
        normalisers: its scaling.
        front_end: of the network: ``fixed``, ``slots``, ``senseiv1`` or ``senseiv2``.
        descriptor: entries of a descriptor that the network takes, for SEnSeI-v2.
    """

    def __init__(
        self,
        config: RunConfig,
        sources: Sequence[Source],
        normalisers: Normalisers,
        front_end: str = "fixed",
        descriptor: int = 0,
    ) -> None:
        self.config, self.sources, self.normalisers = config, tuple(sources), normalisers
        self.front_end, self.descriptor = front_end, descriptor
        self.order = Order(sources, config)
        self.steps = [(step.name, step.p, step.settings) for step in config.augment]
        self.judged = [
            Item(index, record) for index, source in enumerate(sources) for record in source.records["choose"]
        ]

    def draw(self, epoch: int, index: int) -> Batch:
        """The batch at a place of an epoch; places are counted over all processes."""
        ready = []
        for place in range(index * self.config.batch, (index + 1) * self.config.batch):
            item = self.order.item(epoch, place)
            rng = np.random.default_rng((self.config.seed, epoch, place))
            ready.append(self._training_pair(item, rng) if self._removes else self._training_mask(item, rng))
        return stacked(ready)

    def judge(self, index: int) -> list[Batch]:
        """All patches of the ``index``-th few images for model choice, in batches."""
        size = self.config.batch
        ready: list[Batch] = []
        for item in self.judged[index * size : (index + 1) * size]:
            ready.extend(self.patches_of(item))
        return [stacked(ready[start : start + size]) for start in range(0, len(ready), size)]

    def shown(self, number: int) -> tuple[Batch, tuple[Band, ...]]:
        """The middle of the ``number``-th image for model choice, and its bands, for a picture."""
        item = self.judged[number]
        source, size = self.sources[item.source], self.config.patch.size
        if self._removes:
            pair = source.data.read_pair(item.record)
            planes, optical, radar = self._planes(pair, source)
            window, _ = next(windows(planes, _nothing(planes), size, "centre", 1))
            assert self.config.bands is not None
            _, bands = choose_bands(pair.cloudy, pair.bands, self.config.bands, f"Pair '{pair.name}'")
            return self._pair(window, optical, radar), bands
        sample, image, bands = self._read(source, item)
        cut = next(windows(image, sample.sets, size, "centre", 1))
        return self._mask(Patch(*cut, bands), source, sample), bands

    def judge_count(self) -> int:
        """How many calls of :meth:`judge` there are."""
        return -(-len(self.judged) // self.config.batch)

    @property
    def _removes(self) -> bool:
        return self.config.task == "removal"

    def patches_of(self, item: Item) -> Iterator[Batch]:
        """The patches by which one image is judged, each a batch of one."""
        source = self.sources[item.source]
        patch = self.config.patch
        if self._removes:
            planes, optical, radar = self._planes(source.data.read_pair(item.record), source)
            if patch.judge == "cover":  # whole patches only: a pixel has no label by which it could be left out
                rows, cols = (side // patch.size * patch.size for side in planes.shape[1:])
                planes = planes[:, :rows, :cols]
            for window, _ in windows(planes, _nothing(planes), patch.size, patch.judge, patch.tiles):
                yield self._pair(window, optical, radar)
            return
        sample, image, bands = self._read(source, item)
        for window, sets in windows(image, sample.sets, patch.size, patch.judge, patch.tiles):
            yield self._mask(Patch(window, sets, bands), source, sample)

    def _training_mask(self, item: Item, rng: np.random.Generator) -> Batch:
        source = self.sources[item.source]
        sample, image, bands = self._read(source, item)
        cut = self._cut(image, sample.sets, sample.gsd_m, item, rng)
        return self._mask(augmented(Patch(*cut, bands), self.steps, rng), source, sample)

    def _training_pair(self, item: Item, rng: np.random.Generator) -> Batch:
        source = self.sources[item.source]
        pair = source.data.read_pair(item.record)
        planes, optical, radar = self._planes(pair, source)
        window, sets = self._cut(planes, _nothing(planes), pair.gsd_m, item, rng)
        turned = augmented(Patch(window, sets, pair.bands), self.steps, rng)
        return self._pair(turned.image, optical, radar)

    def _read(self, source: Source, item: Item) -> tuple[Sample, NDArray[np.float32], tuple[Band, ...]]:
        sample = source.data.read(item.record)
        image, bands = np.asarray(sample.image, np.float32), sample.bands
        about = f"Image '{sample.name}' of '{source.part.name}'"
        if self.config.bands is not None:
            image, bands = choose_bands(image, bands, self.config.bands, about)
        if self.front_end == "slots":
            rows = [row for row, band in enumerate(bands) if slot_index(band) is not None]
            image, bands = image[rows], tuple(bands[row] for row in rows)
        return sample, in_units(image, bands, sample.level), bands

    def _cut(
        self, image: NDArray[np.float32], sets: NDArray[np.uint8], gsd_m: float, item: Item, rng: np.random.Generator
    ) -> _Window:
        """One window of the patch's size, NaN and ignored where the image ends."""
        patch = self.config.patch
        if item.tile is not None:
            return window_at(image, sets, _tile(image.shape[1:], item.tile, patch.size, patch.tiles), patch.size)
        if patch.cut != "random":
            return next(windows(image, sets, patch.size, patch.cut, 1))
        side = patch.size
        if patch.ground_m is not None:
            finest = max(patch.ground_m[0], 0.8 * gsd_m)
            ground = np.exp(rng.uniform(np.log(finest), np.log(max(patch.ground_m[1], finest))))
            side = max(1, min(round(patch.size * ground / gsd_m), *image.shape[1:]))
        y, x = (int(rng.integers(max(size - side, 0) + 1)) for size in image.shape[1:])
        window = window_at(image, sets, (y, x), side)
        return resampled(*window, patch.size)

    def _mask(self, patch: Patch, source: Source, sample: Sample) -> Batch:
        """Tensors of one patch, n = 1."""
        missing = ~np.isfinite(patch.image).all(axis=0)
        # Beyond the image's edge nothing is known, and the label is empty; within it, what is missing is "no data".
        sets = np.where(missing & (patch.sets != lab.IGNORED), np.uint8(lab.MISSING), patch.sets)
        image = np.where(missing, np.float32(np.nan), patch.image)
        described = self._describe(image, patch.bands)
        normaliser = self.normalisers.of(source.part.name, sample.scene)
        scheme = SCHEMES[self.config.classes]
        return Batch(
            torch.from_numpy(np.nan_to_num(normaliser.apply(image)))[None],
            None if described is None else torch.from_numpy(described)[None],
            torch.from_numpy(scheme.bits(sets))[None],
            torch.from_numpy(scheme.index(sets))[None],
            torch.from_numpy(cloud_certain(sets))[None],
        )

    def _describe(self, image: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float32] | None:
        if self.front_end == "fixed":
            return None
        if self.front_end == "slots":
            return slot_weights(bands)
        if self.front_end == "senseiv1":
            return sensei_v1_descriptors(bands)
        percentiles = None
        if self.descriptor > DESCRIPTOR_LENGTH:
            step = max(1, round((image[0].size / _MOST_PERCENTILE_PIXELS) ** 0.5))
            percentiles = scene_percentiles(image[:, ::step, ::step])
        return sensei_descriptors(bands, percentiles)

    def _planes(self, pair: Pair, source: Source) -> tuple[NDArray[np.float32], int, int]:
        """Cloudy, clear and radar planes of a pair in one array, and how many of each kind there are."""
        about = f"Pair '{pair.name}' of '{source.part.name}'"
        assert self.config.bands is not None
        cloudy, _ = choose_bands(pair.cloudy, pair.bands, self.config.bands, about)
        clear, _ = choose_bands(pair.clear, pair.bands, self.config.bands, about)
        if min(cloudy.shape[1:]) < self.config.patch.size:
            raise InputError(
                f"{about} has {cloudy.shape[1]} x {cloudy.shape[2]} pixels.",
                expected=f"It is as large as a patch, {self.config.patch.size} pixels a side, or larger.",
                remedy="Lower patch.size.",
            )
        planes = [np.clip(filled(cloudy), 0.0, 1.0), np.clip(filled(clear), 0.0, 1.0)]
        if not self.config.sar:
            return np.concatenate(planes), len(cloudy), 0
        if pair.sar is None:
            raise InputError(
                f"{about} has no radar.",
                expected="With 'sar: true' every pair has VV and VH.",
                remedy="Set 'sar: false', or use another data set.",
            )
        radar = [
            np.clip((filled(plane[None])[0] - low) / (high - low), 0.0, 1.0)[None]
            for plane, (low, high) in zip(pair.sar, SAR_RANGE_DB, strict=True)
        ]
        return np.concatenate([*planes, *radar]).astype(np.float32), len(cloudy), len(radar)

    @staticmethod
    def _pair(planes: NDArray[np.float32], optical: int, radar: int) -> Batch:
        whole = torch.from_numpy(np.ascontiguousarray(filled(planes)))[None]
        return Batch(
            whole[:, :optical], whole[:, 2 * optical :] if radar else None, whole[:, optical : 2 * optical]
        )


def stacked(parts: Sequence[Batch]) -> Batch:
    """Patches as one batch; those with fewer bands get padding bands with descriptors of zeros."""
    most = max(part.image.shape[1] for part in parts)

    def padded(tensor: Tensor) -> Tensor:
        shape = list(tensor.shape)
        shape[1] = most - shape[1]
        return torch.cat([tensor, tensor.new_zeros(shape)], dim=1) if shape[1] else tensor

    described = parts[0].beside is not None and parts[0].beside.ndim == 3
    if described:
        parts = [
            replace(part, image=padded(part.image), beside=padded(part.beside))
            for part in parts
            if part.beside is not None
        ]
    columns = zip(*(part.parts() for part in parts), strict=True)
    return Batch(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]


def windows(
    image: NDArray[np.float32], sets: NDArray[np.uint8], size: int, cut: str, tiles: int
) -> Iterator[_Window]:
    """Square windows of an image.

    Args:
        image: (band, y, x).
        sets: (y, x).
        size: side of a window in pixels; what lies beyond the image is NaN and has no label.
        cut: ``cover`` every pixel, judged once: where windows overlap, the later one has no label; ``centre``,
            ``corner``, or ``tiles``.
        tiles: windows along each side, for ``tiles``.

    >>> found = list(windows(np.zeros((1, 5, 4), np.float32), np.ones((5, 4), np.uint8), 3, "cover", 1))
    >>> len(found), sum(int(sets.sum()) for _, sets in found)
    (4, 20)
    """
    rows, cols = sets.shape
    if cut == "cover":
        free = np.ones_like(sets)
        for y in starts(rows, size):
            for x in starts(cols, size):
                part, label = window_at(image, sets * free, (y, x), size)
                free[y : y + size, x : x + size] = 0
                yield part, label
    elif cut == "tiles":
        for row in range(tiles):
            for col in range(tiles):
                yield window_at(image, sets, _tile((rows, cols), (row, col), size, tiles), size)
    else:
        place = (0, 0) if cut == "corner" else (max(rows - size, 0) // 2, max(cols - size, 0) // 2)
        yield window_at(image, sets, place, size)


def window_at(
    image: NDArray[np.float32], sets: NDArray[np.uint8], place: tuple[int, int], size: int
) -> _Window:
    """The window whose first pixel is ``place``, filled up to ``size`` with NaN and empty labels."""
    y, x = place
    part = image[:, y : y + size, x : x + size]
    label = sets[y : y + size, x : x + size]
    rows, cols = label.shape
    if (rows, cols) == (size, size):
        return part, label
    whole = np.full((len(image), size, size), np.nan, np.float32)
    whole[:, :rows, :cols] = part
    known = np.zeros((size, size), np.uint8)
    known[:rows, :cols] = label
    return whole, known


def filled(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Missing pixels replaced by the mean of their band, 0 where it has none (as GLF-CR does for removal).

    >>> filled(np.array([[[1.0, np.nan, 3.0]]], np.float32)).tolist()
    [[[1.0, 2.0, 3.0]]]
    """
    known = np.isfinite(image)
    if known.all():
        return image
    count = known.sum(axis=(1, 2), keepdims=True)
    mean = np.where(known, image, 0).sum(axis=(1, 2), keepdims=True) / np.maximum(count, 1)
    return np.where(known, image, mean).astype(np.float32)


def _nothing(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.full(planes.shape[1:], lab.CLEAR, np.uint8)


def starts(side: int, size: int) -> list[int]:
    """Where windows begin that cover a side, the last one aligned with its end."""
    return [min(start, max(side - size, 0)) for start in range(0, max(side, 1), size)]


def _tile(shape: Sequence[int], tile: tuple[int, int], size: int, tiles: int) -> tuple[int, int]:
    """First pixel of one of ``tiles`` x ``tiles`` windows, evenly spaced from edge to edge."""
    y, x = (round(max(side - size, 0) * index / max(tiles - 1, 1)) for side, index in zip(shape, tile, strict=True))
    return y, x
