"""What every data set can do: list its records without reading pixels, read one, say how its scenes are split.

A record is one labelled image (a patch, a sub-tile, a whole scene); a scene is the acquisition or place that splits
must never cut through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...scene import Band
from ..labels import class_names
from ..sample import Sample


class Window(NamedTuple):
    """Part of a raster, in pixels from its upper left corner."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Record:
    """One labelled image, before any pixel is read.

    Attributes:
        name: unique within the data set.
        scene: acquisition or place; splits never cut through it.
        files: what the image is made of, by role (``image``, ``label``, ``B02``, ``s1``, ...).
        split: ``train``, ``choose`` (validation: model choice and calibration), ``test`` as the publisher says, or "".
        tags: what the data set says of the image, e.g. ``{"biome": "barren", "cloud_cover": 43.0}``.
        index: place in a file that holds many images, or None.
        window: part of the scene's raster that is meant, or None for all of it.
    """

    name: str
    scene: str
    files: Mapping[str, Path]
    split: str = ""
    tags: Mapping[str, str | float] = field(default_factory=dict)
    index: int | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Pair:
    """A cloudy image and the same place without cloud: a sample for cloud removal.

    Attributes:
        cloudy, clear: reflectance, (band, y, x) float32, NaN where missing.
        sar: backscatter in decibel, (polarisation, y, x) float32 in the order VV, VH, or None.
        bands: one per plane.
        season: as the data set names it, or "".
    """

    name: str
    scene: str
    split: str
    cloudy: NDArray[np.float32]
    clear: NDArray[np.float32]
    sar: NDArray[np.float32] | None
    bands: tuple[Band, ...]
    gsd_m: float
    season: str = ""


class DataSet(ABC):
    """Base of all data sets.

    Class attributes:
        name: registry name, e.g. ``l8biome``.
        title, licence, citation, homepage: facts to show.
        obtain: how to get it, in one or two sentences.
        sensors: names of the sensors as in ``unclouded sensors list``, where they are known.
        task: ``mask`` (read gives a Sample) or ``removal`` (read_pair gives a Pair).
        labels: sets of classes (bit masks of :mod:`unclouded.data.labels`) by label code, for ``datasets show``.
        schemes: ways to split it by scene, the usual one first, e.g. ``("official", "mscloudcam")``.

    Raises:
        InputError: ``root`` does not hold the data set; the message says what was looked for.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    homepage: ClassVar[str]
    obtain: ClassVar[str]
    sensors: ClassVar[tuple[str, ...]] = ()
    task: ClassVar[str] = "mask"
    labels: ClassVar[Mapping[int, int]] = {}
    schemes: ClassVar[tuple[str, ...]] = ("official",)

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(
                f"{self.root} is not a folder.",
                expected=f"{self.title} is opened by the folder that holds it.",
                remedy=self.obtain,
            )
        if not self.records:
            raise InputError(
                f"{self.root} holds no image of {self.title}.",
                expected=self.expected_layout(),
                remedy=self.obtain,
            )

    @classmethod
    @abstractmethod
    def expected_layout(cls) -> str:
        """One or two sentences that say which files are looked for."""

    @abstractmethod
    def find(self) -> Iterable[Record]:
        """Find the records below ``root`` by pattern, without reading pixels."""

    @abstractmethod
    def read(self, record: Record) -> Sample:
        """Read one image with its labels.

        Raises:
            InputError: a file is missing, or has another type, band count, size or label code than the set has.
        """

    def read_pair(self, record: Record) -> Pair:
        """Read a cloudy image and its clear counterpart (data sets of the task ``removal``)."""
        raise InputError(
            f"{self.title} has no pairs of cloudy and clear images.",
            expected="Pairs come from data sets whose task is 'removal'.",
            remedy="Choose one of these: unclouded datasets list",
        )

    @classmethod
    @abstractmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write a tiny valid copy (a few scenes, every label code, real layout and types) below ``root``."""

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, sorted by name."""
        found = sorted(self.find(), key=lambda record: record.name)
        doubled = [name for name, count in Counter(record.name for record in found).items() if count > 1]
        if doubled:
            raise InputError(
                f"{self.root} holds {len(doubled)} images twice, e.g. '{doubled[0]}'.",
                expected="Every image of a data set occurs once below its folder.",
                remedy="Remove the second copy, or open a folder further down.",
            )
        return tuple(found)

    def assign(self, scheme: str | None = None) -> dict[str, str]:
        """Split of every record by name: ``train``, ``choose`` or ``test``.

        Args:
            scheme: one of ``schemes``; None takes the first.

        Raises:
            InputError: unknown scheme, or the folder lacks what the scheme needs.
        """
        chosen = self.schemes[0] if scheme is None else scheme
        if chosen not in self.schemes:
            raise InputError(
                f"{self.title} has no split called '{chosen}'.",
                expected=f"Splits are {', '.join(self.schemes)}.",
                remedy="Choose one of these.",
            )
        return self._assign(chosen)

    def _assign(self, scheme: str) -> dict[str, str]:
        """What ``assign`` answers for a known scheme; the publisher's split unless a data set overrides this."""
        return {record.name: record.split for record in self.records}

    def __len__(self) -> int:
        return len(self.records)

    def samples(self, names: Iterable[str] | None = None) -> Iterator[Sample]:
        """Read all samples, or those named, one after the other."""
        wanted = None if names is None else set(names)
        for record in self.records:
            if wanted is None or record.name in wanted:
                yield self.read(record)

    def describe(self) -> dict[str, Any]:
        """Facts and counts for ``unclouded datasets show``."""
        return {
            "name": self.name,
            "title": self.title,
            "licence": self.licence,
            "citation": self.citation,
            "records": len(self.records),
            "scenes": len({record.scene for record in self.records}),
            "split": dict(Counter(self.assign().values())),
        }


def split_by_scene(
    scenes: Iterable[str], parts: Sequence[tuple[str, float]], seed: int
) -> dict[str, str]:
    """A random split that never cuts through a scene, the same for the same scenes and seed.

    Args:
        scenes: scene names, repeated or not, in any order.
        parts: names and shares, e.g. ``(("train", 0.6), ("choose", 0.2), ("test", 0.2))``; the last takes the rest.
        seed: of the shuffle.

    Returns:
        The part of every scene.

    >>> split = split_by_scene("abcde", (("train", 0.6), ("choose", 0.2), ("test", 0.2)), seed=42)
    >>> sorted(split.values())
    ['choose', 'test', 'train', 'train', 'train']
    """
    names = sorted(set(scenes))
    order = np.random.default_rng(seed).permutation(len(names))
    ends = np.round(np.cumsum([share for _, share in parts]) * len(names)).astype(int)
    out: dict[str, str] = {}
    for place, index in enumerate(order):
        part = min(int(np.searchsorted(ends, place, side="right")), len(parts) - 1)
        out[names[index]] = parts[part][0]
    return out


def shares(samples: Iterable[Sample]) -> dict[str, float]:
    """Share of the labelled pixels that each set of classes takes, by its class names joined with ``|``.

    >>> from unclouded.data import labels
    >>> sets = np.array([[labels.THIN, labels.CLOUD], [labels.IGNORED, labels.THIN]], np.uint8)
    >>> band = Band("B02", "blue", 446, 542, 10)
    >>> shares([Sample("a", "x", "a", "train", np.zeros((1, 2, 2), np.float32), sets, (band,), 10.0, "toa")])
    {'thin': 0.6666666666666666, 'thin|thick': 0.3333333333333333}
    """
    counts = np.zeros(256, np.int64)
    for sample in samples:
        counts += np.bincount(sample.sets.ravel(), minlength=256)
    total = max(int(counts[1:].sum()), 1)
    found = {int(mask): int(count) for mask, count in enumerate(counts) if mask and count}
    ranked = sorted(found.items(), key=lambda pair: -pair[1])
    return {class_names(mask): count / total for mask, count in ranked}
