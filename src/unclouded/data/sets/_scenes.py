"""Data sets of whole scenes: windows of them without reading them, and what else such sets share."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio.windows
from numpy.typing import NDArray

from ...errors import InputError
from ...raster import Header, header
from ..labels import IGNORED, MISSING
from ..tiff import read_tiff
from .base import DataSet, Record, Window


class SceneSet(DataSet):
    """Base of data sets whose images are whole scenes.

    Args:
        root: folder that holds the data set.
        patch: side of square windows in pixels; None makes one record of each scene.
        stride: pixels from one window to the next; None means ``patch``.
        edge: what happens where windows do not fit. ``drop`` keeps full windows at multiples of the stride and leaves
            the rest of the scene out (MSCloudCAM); ``align`` adds windows that end at the scene's edge, so that all of
            it is covered (CloudMamba).
        empty: also make records of windows without any label; False reads every label raster once to tell.

    Raises:
        InputError: the folder does not hold the data set, or a size does not fit.
    """

    def __init__(
        self,
        root: Path,
        *,
        patch: int | None = None,
        stride: int | None = None,
        edge: Literal["drop", "align"] = "drop",
        empty: bool = True,
    ) -> None:
        for name, value in (("patch", patch), ("stride", stride)):
            if value is not None and value < 1:
                raise InputError(
                    f"The option {name} is {value}.",
                    expected="It is a positive number of pixels.",
                    remedy=f"Pass for example {name}=512, or leave it out.",
                )
        if edge not in ("drop", "align") or (patch is None and (stride is not None or edge != "drop" or not empty)):
            raise InputError(
                f"The options are patch={patch}, stride={stride}, edge='{edge}', empty={empty}.",
                expected="edge is 'drop' or 'align'; stride, edge and empty belong to windows, which patch asks for.",
                remedy="Pass for example patch=512, stride=512, edge='align'.",
            )
        self.patch, self.stride, self.edge, self.empty = patch, stride or patch, edge, empty
        super().__init__(root)

    @abstractmethod
    def find_scenes(self) -> Iterable[Record]:
        """Find the scenes below ``root`` by pattern, without reading pixels."""

    @abstractmethod
    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes of a scene, or of the window of it that is meant, (y, x)."""

    def size(self, record: Record) -> tuple[int, int]:
        """Rows and columns of a scene, from the header of its label raster."""
        return head(record.files["label"]).shape

    def find(self) -> Iterator[Record]:
        """Scenes, or windows of them; see :class:`SceneSet`."""
        for scene in self.find_scenes():
            if self.patch is None or self.stride is None:
                yield scene
                continue
            size = self.size(scene)
            for row, members in groupby(windows(size, self.patch, self.stride, self.edge), lambda window: window.row):
                labelled = None if self.empty else self._labelled(scene, row, size)
                for window in members:
                    if labelled is None or labelled[:, window.col : window.col + window.width].any():
                        name = f"{scene.name}_y{window.row:05d}_x{window.col:05d}"
                        yield replace(scene, name=name, window=window)

    def _labelled(self, scene: Record, row: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Where windows that begin at ``row`` have labels; one read for all of them, since strips hold whole rows."""
        assert self.patch is not None
        strip = Window(row, 0, min(self.patch, size[0]), size[1])
        return self.read_sets(replace(scene, window=strip)) & ~np.uint8(MISSING) != IGNORED

    def window(self, record: Record) -> Window:
        """The part of the scene that a record means, in pixels of the label raster."""
        return record.window or Window(0, 0, *self.size(record))


def windows(size: tuple[int, int], patch: int, stride: int, edge: str = "drop") -> Iterator[Window]:
    """Windows of an image of ``size`` (rows, columns), row by row; see :class:`SceneSet`.

    >>> [tuple(window) for window in windows((10, 4), 4, 4)]
    [(0, 0, 4, 4), (4, 0, 4, 4)]
    >>> [tuple(window) for window in windows((10, 3), 4, 4, "align")]
    [(0, 0, 4, 3), (4, 0, 4, 3), (6, 0, 4, 3)]
    """

    def starts(length: int) -> list[int]:
        full = list(range(0, length - patch + 1, stride))
        if edge == "drop":
            return full
        last = max(length - patch, 0)
        return full if full and full[-1] == last else [*full, last]

    for row in starts(size[0]):
        for col in starts(size[1]):
            yield Window(row, col, min(patch, size[0]), min(patch, size[1]))


def read_window(path: str | Path, window: Window, **checks: Any) -> NDArray[Any]:
    """Part of a raster, (band, y, x); ``checks`` as of :func:`unclouded.data.tiff.read_tiff`.

    Raises:
        InputError: the raster is smaller than the window, or has another form than ``checks`` say.
    """
    part = rasterio.windows.Window(window.col, window.row, window.width, window.height)
    image = read_tiff(path, window=part, **checks)
    if image.shape[1:] != (window.height, window.width):
        raise InputError(
            f"{path} ends before row {window.row + window.height} or column {window.col + window.width}.",
            expected="Image and labels have the same size.",
            remedy="Get the file again; it was cut short or belongs to another scene.",
        )
    return image


def head(path: Path) -> Header:
    """Header of a raster, read once and remembered: windows of a scene ask for it again and again."""
    return _head(path, stamp(path))


@lru_cache(maxsize=4096)
def _head(path: Path, changed: int) -> Header:
    return header(str(path))


def stamp(path: Path) -> int:
    """When a file was changed last; tells a replaced file from the one that is remembered."""
    return path.stat().st_mtime_ns if path.exists() else 0


def codes_in(path: Path) -> frozenset[int]:
    """All codes that occur in a label raster, read once and remembered."""
    return _codes_in(path, stamp(path))


@lru_cache(maxsize=4096)
def _codes_in(path: Path, changed: int) -> frozenset[int]:
    rows, cols = head(path).shape
    found = np.zeros(256, bool)
    for row in range(0, rows, 1024):
        part = read_window(path, Window(row, 0, min(1024, rows - row), cols), count=1, dtypes=("uint8",))
        found[np.unique(part)] = True
    return frozenset(int(code) for code in np.flatnonzero(found))


def files_below(root: Path, *suffixes: str) -> list[Path]:
    """Files whose names end in one of ``suffixes``, in upper or lower case, sorted."""
    ends = tuple(suffix.casefold() for suffix in suffixes)
    return sorted(path for path in root.rglob("*") if path.name.casefold().endswith(ends) and path.is_file())


def missing_counterpart(path: Path, what: str, remedy: str) -> InputError:
    """The error for an image without labels, or labels without an image."""
    return InputError(f"{path} has no {what}.", expected="Every image comes with its labels.", remedy=remedy)


def cut_in_order(scenes: Iterable[str], parts: Sequence[tuple[str, float]], seed: int) -> dict[str, str]:
    """A split as scripts usually make it: names sorted, shuffled by Python's generator, cut after whole shares.

    Differs from :func:`.base.split_by_scene` in the generator, and in rounding every share down.

    >>> from collections import Counter
    >>> Counter(cut_in_order(map(str, range(96)), (("train", 0.6), ("choose", 0.2), ("test", 0.2)), 42).values())
    Counter({'train': 57, 'test': 20, 'choose': 19})
    """
    names = sorted(set(scenes))
    random.Random(seed).shuffle(names)
    out: dict[str, str] = {}
    first = 0
    for place, (part, share) in enumerate(parts):
        last = len(names) if place == len(parts) - 1 else first + int(share * len(names) + 1e-9)
        out |= dict.fromkeys(names[first:last], part)
        first = last
    return out


def by_scene(records: Iterable[Record], split: Mapping[str, str]) -> dict[str, str]:
    """Split of records from the split of scenes."""
    return {record.name: split[record.scene] for record in records}


def hold_out(records: Sequence[Record], share: float = 0.1, seed: int = 0) -> dict[str, str]:
    """The publisher's split with a share of its training scenes taken for model choice.

    For sets that come with ``train`` and ``test`` only. Of two training scenes and more at least one is taken.
    """
    scenes = sorted({record.scene for record in records if record.split == "train"})
    count = max(round(share * len(scenes)), 1) if len(scenes) > 1 else 0
    taken = {scenes[index] for index in np.random.default_rng(seed).permutation(len(scenes))[:count]}
    return {record.name: "choose" if record.scene in taken else record.split for record in records}
