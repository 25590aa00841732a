"""Lessons: tiles with what the teacher says of them, on disk, made once and read in any order.

The teacher sees exactly the image that the student will see. ``lessons/00012.npz`` below the working folder holds the
image (float16), the teacher's probabilities of clear, cloud and shadow in 255ths, and what is known without a teacher.
A lesson is written under another name and renamed, so that making them can be stopped and go on at any moment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.sample import Sample
from ..data.teacher import teacher_probability
from ..errors import InputError
from ..scene import Band
from ..write.atomic import replace_file
from .tiles import Tiles

FOLDER = "lessons"


@dataclass(frozen=True)
class Lesson:
    """A tile and what the teacher says of it.

    Attributes:
        image: reflectance, (band, y, x) float32; NaN where missing.
        taught: the teacher's probabilities of clear, cloud and shadow, (3, y, x) float32.
        sets: possible classes as far as they are known without the teacher, (y, x) uint8 bit masks.
        bands: one per plane.
    """

    image: NDArray[np.float32]
    taught: NDArray[np.float32]
    sets: NDArray[np.uint8]
    bands: tuple[Band, ...]


def make_lessons(
    samples: Sequence[Sample],
    folder: Path,
    count: int,
    *,
    seed: int = 1,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw tiles and ask the teacher about each; those that are there are kept.

    Args:
        samples: training samples.
        folder: where the lessons go.
        count: how many there are to be.
        seed: of the tiles.
        workers: processes.
        progress: called with the number of lessons that are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [number for number in range(count) if not _path(folder, number).exists()]
    done = count - len(wanted)
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(samples, seed, folder)) as pool:
        for _ in pool.map(_make, wanted, chunksize=4):
            done += 1
            if progress is not None:
                progress(done)


class Lessons:
    """The lessons of a folder.

    Args:
        folder: that :func:`make_lessons` has filled.

    Raises:
        InputError: the folder holds none, or one is missing between others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        numbers = sorted(int(path.stem) for path in folder.glob("[0-9]*.npz"))
        self.count = len(numbers)
        if not numbers or numbers[-1] != self.count - 1:
            raise InputError(
                f"{folder} holds {self.count} lessons" + (f", one of them number {numbers[-1]}." if numbers else "."),
                expected="Lessons are numbered from 0 without a gap.",
                remedy="Make them: python -m unclouded.train.default_model teach",
            )

    def read(self, number: int) -> Lesson:
        """The lesson of this number."""
        with np.load(_path(self.folder, number)) as arrays:
            bands = tuple(Band(**band) for band in json.loads(str(arrays["bands"])))
            return Lesson(
                arrays["image"].astype(np.float32), arrays["taught"] / np.float32(255), arrays["sets"], bands
            )


_TILES: Tiles
_FOLDER: Path


def _begin(samples: Sequence[Sample], seed: int, folder: Path) -> None:
    global _TILES, _FOLDER
    torch.set_num_threads(1)  # the cores are shared already, and a forked process would wait for threads it has not
    _TILES, _FOLDER = Tiles(samples, seed), folder


def _make(number: int) -> None:
    tile = _TILES.draw(number)
    taught = teacher_probability(tile.image, tile.bands, tile.level)
    target = _path(_FOLDER, number)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.npz")
    np.savez(
        partial,
        image=tile.image.astype(np.float16),
        taught=np.round(255 * taught).astype(np.uint8),
        sets=tile.sets,
        bands=np.array(json.dumps([asdict(band) for band in tile.bands])),
    )
    replace_file(partial, target)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"
