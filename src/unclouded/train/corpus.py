"""The images of a run: data sets opened, split, filtered and put in order. No torch here.

The order of an epoch depends on seed and epoch alone. Without weights every image (or tile of it) occurs once; with
weights each place in the epoch belongs to a set drawn by its weight, and the images of a set take turns.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import sets
from ..data.sets.base import DataSet, Record, split_by_scene
from ..data.simulated import SimulatedSet
from ..errors import InputError
from ..normalise import BandHistogram, Normaliser
from ..scene import Band
from .config import DataPart, RunConfig

_THERMAL_K = (180.0, 330.0)


@dataclass(frozen=True)
class Source:
    """One data set of a run.

    Attributes:
        part: what the configuration says of it.
        data: the data set.
        records: those that are used, by split.
    """

    part: DataPart
    data: DataSet
    records: Mapping[str, tuple[Record, ...]]


@dataclass(frozen=True)
class Item:
    """One patch to learn from: a record of a source, and which of its tiles, or None."""

    source: int
    record: Record
    tile: tuple[int, int] | None = None


def open_sources(config: RunConfig) -> tuple[Source, ...]:
    """Open the data sets of a run.

    Raises:
        InputError: one is not where it should be, does not suit the task, or has nothing left to use.
    """
    out = []
    for part in config.data:
        data: DataSet
        if part.name == SimulatedSet.name:
            data = open_simulated(part)
        else:
            data = sets.open_set(part.name, config.root_of(part), **part.options)
            if data.task != config.task:
                raise InputError(
                    f"The data set '{part.name}' is for the task '{data.task}'.",
                    expected=f"The task of this run is '{config.task}'.",
                    remedy="Choose another data set, or another task.",
                )
        records = split_records(data, part, config.seed)
        for split in ("train",) if part.train else ("choose",):
            if not records[split]:
                raise InputError(
                    f"The data set '{part.name}' has no image for '{split}'.",
                    expected="Images are left after split and filters.",
                    remedy="Check data.scheme and data.where; the set may have another split for training.",
                )
        out.append(Source(part, data, records))
    return tuple(out)


class Order:
    """Which patch comes when.

    Args:
        sources: the opened data sets.
        config: of the run.
    """

    def __init__(self, sources: Sequence[Source], config: RunConfig) -> None:
        tiles: list[tuple[int, int] | None] = [None]
        if config.patch.cut == "tiles":
            tiles = [(row, col) for row in range(config.patch.tiles) for col in range(config.patch.tiles)]
        used = [(index, source) for index, source in enumerate(sources) if source.part.train]
        self.items = [
            [Item(index, record, tile) for record in source.records["train"] for tile in tiles]
            for index, source in used
        ]
        total = sum(map(len, self.items))
        self.length = config.images_per_epoch or total
        self.seed = config.seed
        weights = [source.part.weight for _, source in used]
        self.share = None
        if weights[0] is not None:
            whole = np.array(weights, np.float64)
            self.share = whole / whole.sum()
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def item(self, epoch: int, place: int) -> Item:
        """The patch at a place of an epoch; after the last place the first ones follow."""
        chosen: Item = self._epoch(epoch)[place % self.length]
        return chosen

    def __getstate__(self) -> dict[str, Any]:  # for worker processes that are not forked
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> list[Item]:
        rng = np.random.default_rng((self.seed, epoch))
        if self.share is None:
            everything = [item for items in self.items for item in items]
            return [everything[index] for index in _turns(len(everything), self.length, rng)]
        chosen = rng.choice(len(self.items), self.length, p=self.share)
        out: list[Item | None] = [None] * self.length
        for number, items in enumerate(self.items):
            places = np.flatnonzero(chosen == number)
            for place, index in zip(places, _turns(len(items), len(places), rng), strict=True):
                out[place] = items[index]
        return [item for item in out if item is not None]


def fingerprint(sources: Sequence[Source]) -> str:
    """Checksum of the names of all images in use: a run goes on only with those that it began with."""
    names = [
        [source.part.name, split, [record.name for record in records]]
        for source in sources
        for split, records in source.records.items()
    ]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


@dataclass(frozen=True)
class Normalisers:
    """The scaling of a run: one for all images, or one for each scene.

    Attributes:
        mode: see :mod:`unclouded.normalise`.
        scope: ``train`` or ``scene``.
        common: constants of the training set, with the scope ``train``.
        scenes: constants by data set and scene, with the scope ``scene``.
    """

    mode: str
    scope: str
    common: Normaliser | None = None
    scenes: Mapping[str, Normaliser] | None = None

    def of(self, source: str, scene: str) -> Normaliser:
        """The scaling of one scene of a data set."""
        if self.common is not None:
            return self.common
        assert self.scenes is not None
        return self.scenes[f"{source}/{scene}"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "mode": self.mode,
            "scope": self.scope,
            "common": None if self.common is None else _plain(self.common),
            "scenes": None if self.scenes is None else {name: _plain(one) for name, one in self.scenes.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalisers:
        """The reverse of :meth:`as_dict`."""
        mode, common, scenes = values["mode"], values["common"], values["scenes"]
        return cls(
            mode,
            values["scope"],
            None if common is None else Normaliser(mode, **{key: tuple(one) for key, one in common.items()}),
            None
            if scenes is None
            else {
                name: Normaliser(mode, **{key: tuple(one) for key, one in part.items()})
                for name, part in scenes.items()
            },
        )


def fit_normalisers(sources: Sequence[Source], config: RunConfig) -> Normalisers:
    """Statistics for the run's scaling, by one pass over the images; none where none are needed.

    Scope ``train`` counts every valid pixel of every training image, scope ``scene`` all images of a scene together,
    whatever split they are in.

    Raises:
        InputError: the images do not have the same bands.
    """
    mode, scope = config.normalise.mode, config.normalise.scope
    if mode in ("none", "divide-3000"):
        return Normalisers(mode, "train", Normaliser(mode))
    if scope == "train":
        histogram: BandHistogram | None = None
        for source in sources:
            for record in source.records["train"] if source.part.train else ():
                histogram = _count(histogram, source, record, config)
        assert histogram is not None
        return Normalisers(mode, scope, Normaliser.of_training(mode, histogram))
    scenes: dict[str, Normaliser] = {}
    for source in sources:
        grouped: dict[str, list[Record]] = defaultdict(list)
        for records in source.records.values():
            for record in records:
                grouped[record.scene].append(record)
        for scene, members in grouped.items():
            histogram = None
            for record in members:
                histogram = _count(histogram, source, record, config)
            assert histogram is not None
            scenes[f"{source.part.name}/{scene}"] = Normaliser.of_training(mode, histogram)
    return Normalisers(mode, scope, None, scenes)


def choose_bands(
    image: NDArray[np.float32], bands: Sequence[Band], wanted: Sequence[str], about: str
) -> tuple[NDArray[np.float32], tuple[Band, ...]]:
    """The planes of the bands wanted, in their order.

    Args:
        image: (band, y, x).
        bands: one per plane.
        wanted: names or common names.
        about: whose bands these are, for messages.

    Raises:
        InputError: there is no such band, or several of that common name.
    """
    rows = []
    for name in wanted:
        found = [row for row, band in enumerate(bands) if band.name == name]
        found = found or [row for row, band in enumerate(bands) if band.common_name == name]
        if len(found) != 1:
            raise InputError(
                f"{about} has {'no band' if not found else f'{len(found)} bands'} '{name}'.",
                expected=f"Its bands are {', '.join(f'{band.name} ({band.common_name})' for band in bands)}.",
                remedy="Correct 'bands', or leave this data set out.",
            )
        rows.append(found[0])
    return image[rows], tuple(bands[row] for row in rows)


def in_units(image: NDArray[np.float32], bands: Sequence[Band], level: str) -> NDArray[np.float32]:
    """Bands that are no reflectance brought to about 0 to 1: kelvin, decibel, degrees, metres.

    Thermal 180 to 330 K; VV and VH (dB + 25) / 25, clipped to 0..1.2; incidence angle / 90; elevation / 10000.
    The papers leave these scales open. Stored numbers (``level`` "counts") stay as they are.
    """
    if level == "counts" or all(band.kind == "optical" for band in bands):
        return image
    out = image.copy()
    for row, band in enumerate(bands):
        if band.kind == "thermal":
            out[row] = (image[row] - _THERMAL_K[0]) / (_THERMAL_K[1] - _THERMAL_K[0])
        elif band.kind == "sar":
            angle = (band.common_name or band.name).lower() == "angle"
            out[row] = image[row] / 90.0 if angle else np.clip((image[row] + 25.0) / 25.0, 0.0, 1.2)
        elif band.kind == "dem":
            out[row] = image[row] / 10000.0
    return out


def _count(
    histogram: BandHistogram | None, source: Source, record: Record, config: RunConfig
) -> BandHistogram:
    sample = source.data.read(record)
    image, bands = np.asarray(sample.image, np.float32), sample.bands
    if config.bands is not None:
        image, bands = choose_bands(image, bands, config.bands, f"Image '{sample.name}' of '{source.part.name}'")
    if histogram is None:
        histogram = BandHistogram(len(bands))
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(image).all(axis=0))
    histogram.update(in_units(image, bands, sample.level), valid)
    return histogram


def open_simulated(part: DataPart) -> SimulatedSet:
    """Simulated scenes with the options of a configuration."""
    try:
        return SimulatedSet(part.root, **part.options)
    except TypeError as err:
        raise InputError(
            f"Simulated scenes have no such option: {err}.",
            expected="Options are sensor, bands, images, choose, test, size, resolution_m, landscapes, clear_share,"
            " seed.",
            remedy="Correct data.options.",
        ) from err


def split_records(data: DataSet, part: DataPart, seed: int) -> dict[str, tuple[Record, ...]]:
    """Records of ``train``, ``choose`` and ``test`` as a configuration splits and filters them."""
    split = data.assign(part.scheme)
    kept = [record for record in data.records if _fits(record, part)]
    if part.choose_share and not any(split.get(record.name) == "choose" for record in kept):
        training = [record.scene for record in kept if split.get(record.name) == "train"]
        parts = split_by_scene(training, (("choose", part.choose_share), ("train", 1.0)), seed)
        split = {**split, **{r.name: parts[r.scene] for r in kept if split.get(r.name) == "train"}}
    out: dict[str, tuple[Record, ...]] = {}
    for name in ("train", "choose", "test"):
        records = [record for record in kept if split.get(record.name) == name]
        if part.limit is not None and len(records) > part.limit:
            records = [records[index] for index in np.linspace(0, len(records) - 1, part.limit).round().astype(int)]
        out[name] = tuple(records)
    return out


def _fits(record: Record, part: DataPart) -> bool:
    for tag, wanted in part.where.items():
        if tag not in record.tags:
            raise InputError(
                f"Image '{record.name}' of '{part.name}' has no tag '{tag}'.",
                expected=f"Its tags are {', '.join(record.tags) or '(none)'}.",
                remedy="Correct data.where.",
            )
        value = record.tags[tag]
        if isinstance(wanted, Mapping):
            number = abs(float(value)) if wanted.get("abs") else float(value)
            if not float(wanted.get("min", -np.inf)) <= number <= float(wanted.get("max", np.inf)):
                return False
        elif value not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
            return False
    return True


def _turns(size: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``number`` indices below ``size``: whole shuffled rounds, so that none comes twice before all have come."""
    rounds = [rng.permutation(size) for _ in range(-(-number // size))]
    return np.concatenate(rounds)[:number] if rounds else np.zeros(0, np.int64)


def _plain(one: Normaliser) -> dict[str, list[float]]:
    named = {"low": one.low, "high": one.high, "mean": one.mean, "std": one.std}
    return {key: list(values) for key, values in named.items() if values}
