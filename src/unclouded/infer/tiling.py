"""Tiling: how a scene is cut into overlapping tiles, and how the tiles' logits become one image again.

Plain geometry and numpy: no network, no files. Axes are (class, y, x); positions are pixels of the model grid and may
be negative, or beyond the scene, where a tile looks at reflected surroundings.

Three rules make a prediction independent of the tile size, as far as the network looks no further than the halo:

* Tiles start at multiples of the network's stride, so that its pooling cells lie on the same pixels in every tiling.
* The scene is always extended by the same margin of reflected pixels, one stride, whatever the tiles are
  (none without a halo).
* The outer three quarters of the halo are never used; over the inner quarters of two halos one tile fades into the
  next. A wider fade would use pixels nearer to the tile's edge, a narrower one would show the seams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis of the scene.

    Tile ``i`` covers the pixels ``starts[i]`` to ``starts[i] + length(i)``; neighbours overlap by ``2 * halo``.

    Attributes:
        size: number of pixels of the scene.
        starts: first pixel of every tile, multiples of the stride; the first is not positive.
        stop: end of the last tile, at or beyond the scene's end.
        tile: length of all tiles but the last, which may be shorter.
        halo: pixels at each side of a tile that belong to its neighbours.
    """

    size: int
    starts: tuple[int, ...]
    stop: int
    tile: int
    halo: int

    def span(self, index: int) -> tuple[int, int]:
        """First pixel of a tile, and the one after its last."""
        start = self.starts[index]
        return start, min(start + self.tile, self.stop)

    def length(self, index: int) -> int:
        """Number of pixels of a tile."""
        start, stop = self.span(index)
        return stop - start

    def inside(self, index: int) -> tuple[int, int]:
        """The part of a tile's span that lies in the scene."""
        start, stop = self.span(index)
        return max(start, 0), min(stop, self.size)

    def weights(self, index: int) -> NDArray[np.float32]:
        """Weights of one tile's pixels, (length,) float32 in 0..1; over all tiles they add up to 1 at every pixel."""
        start, stop = self.span(index)
        position = np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
        return self._risen(index, position) - self._risen(index + 1, position)

    def final_before(self, index: int) -> int:
        """Pixels before this one get nothing more from the tiles after ``index``."""
        if index + 1 == len(self.starts):
            return self.size
        return min(max(self.starts[index + 1] + 3 * self.halo // 4, 0), self.size)

    def pixels(self, index: int) -> NDArray[np.intp]:
        """Pixel of the scene that each pixel of a tile shows, (length,): outside the scene its mirror image."""
        return reflected(*self.span(index), self.size)

    def _risen(self, index: int, position: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far tile ``index`` has taken over from the one before it: 0 to its left, 1 to its right."""
        if index == 0:
            return np.ones_like(position)
        if index == len(self.starts):
            return np.zeros_like(position)
        seam = self.starts[index] + self.halo
        if self.halo == 0:
            return (position > seam).astype(np.float32)
        return np.clip((position - seam) / np.float32(0.5 * self.halo) + np.float32(0.5), 0.0, 1.0)


def axis(size: int, tile: int, halo: int, stride: int = 32, exact: bool = False) -> Axis:
    """Cut one axis into tiles of about equal length.

    Args:
        size: pixels of the scene, at least 1.
        tile: longest tile, halo included; rounded down to a multiple of ``stride``. A scene that is at most a quarter
            longer is not cut: the overlap would cost more.
        halo: pixels at each side of a tile that belong to its neighbours; rounded up to a multiple of ``stride``.
        stride: lengths and starts of all tiles are multiples of this.
        exact: every tile has the length ``tile``, the last one too: the surroundings are reflected as far as needed.

    Raises:
        InputError: the scene is empty, or the halo leaves nothing of the tile.

    >>> cut = axis(1000, tile=512, halo=64)
    >>> cut.starts, cut.stop
    ((-32, 288, 608), 1056)
    >>> [cut.length(i) for i in range(3)]
    [448, 448, 448]
    """
    if size < 1:
        raise InputError(
            "The scene has no pixels.",
            expected="At least one row and one column are needed.",
            remedy="Check the window that was cut out of the scene.",
        )
    halo, tile = _up(halo, stride), tile // stride * stride
    margin = min(stride, halo)
    if tile - 2 * halo < stride:
        raise InputError(
            f"Tiles of {tile} pixels with a halo of {halo} leave {tile - 2 * halo} pixels between both sides.",
            expected=f"At least {stride} pixels have to be left for this model.",
            remedy="Pass a larger tile, or a smaller halo.",
        )
    padded = _up(margin + size + margin, stride)
    if padded <= (tile if exact else tile * 5 // 4):
        length = tile if exact else padded
        return Axis(size, (-margin,), length - margin, length, halo)
    count = -(-(padded - 2 * halo) // (tile - 2 * halo))
    if exact:
        core = tile - 2 * halo
        starts = tuple(index * core - margin for index in range(count))
        return Axis(size, starts, starts[-1] + tile, tile, halo)
    core = _up(-(-(padded - 2 * halo) // count), stride)
    starts = tuple(index * core - margin for index in range(count))
    return Axis(size, starts, padded - margin, core + 2 * halo, halo)


def reflected(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices ``start`` to ``stop`` brought into ``0..size-1`` by reflection at the first and last pixel.

    >>> reflected(-3, 7, 5).tolist()
    [3, 2, 1, 0, 1, 2, 3, 4, 3, 2]
    >>> reflected(-2, 3, 1).tolist()
    [0, 0, 0, 0, 0]
    """
    index = np.arange(start, stop, dtype=np.intp)
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    index %= period
    return np.where(index < size, index, period - index)


class RowBlender:
    """Adds up the weighted logits of tiles, and gives out rows as soon as they are final.

    Tiles come row of tiles by row of tiles, from the top; the columns of one row in any order. Memory is that of one
    row of tiles, whatever the scene's height.

    Args:
        channels: number of classes.
        rows, cols: the tiles along y and x.

    >>> rows, cols = axis(100, 96, 32), axis(40, 96, 32)
    >>> blender = RowBlender(7, rows, cols)
    >>> for i in range(len(rows.starts)):
    ...     for j in range(len(cols.starts)):
    ...         blender.add(i, j, np.ones((7, rows.length(i), cols.length(j)), np.float32))
    ...     first, done = blender.release(i)
    >>> first + done.shape[1], float(done.min()), float(done.max())
    (100, 1.0, 1.0)
    """

    def __init__(self, channels: int, rows: Axis, cols: Axis) -> None:
        self.rows = rows
        self.cols = cols
        self._sum = np.zeros((channels, min(rows.tile, rows.size), cols.size), np.float32)
        self._first = 0  # row of the scene that lies in self._sum[:, 0]
        self._released = 0  # leading rows of self._sum that were given out

    def add(self, row: int, col: int, logits: NDArray[np.float32]) -> None:
        """Add one tile.

        Args:
            row, col: position of the tile in the grid of tiles.
            logits: (class, y, x) float32, of the tile's full size; overwritten with its weighted values.
        """
        self._drop_released()
        top, bottom = self.rows.inside(row)
        top = max(top, self._first)  # the rows above are final: this tile has no weight there
        left, right = self.cols.inside(col)
        y, x = self.rows.span(row)[0], self.cols.span(col)[0]
        down = self.rows.weights(row)[top - y : bottom - y]
        across = self.cols.weights(col)[left - x : right - x]
        part = logits[:, top - y : bottom - y, left - x : right - x]
        for rows in _fades(down):  # elsewhere the weight is 1
            part[:, rows] *= down[rows, None]
        for cols in _fades(across):
            part[:, :, cols] *= across[cols]
        rows, cols = _used(down), _used(across)
        self._sum[:, top - self._first : bottom - self._first, left:right][:, rows, cols] += part[:, rows, cols]

    def release(self, row: int) -> tuple[int, NDArray[np.float32]]:
        """Rows that are final once row of tiles ``row`` is complete.

        Returns:
            First of these rows in the scene, and their logits (class, y, x) float32, valid until the next call of
            a method. Zero where no tile was added.
        """
        self._drop_released()
        self._released = self.rows.final_before(row) - self._first
        return self._first, self._sum[:, : self._released]

    def _drop_released(self) -> None:
        if self._released:
            keep = self._sum.shape[1] - self._released
            self._sum[:, :keep] = self._sum[:, self._released :]
            self._sum[:, keep:] = 0.0
            self._first += self._released
            self._released = 0


def _fades(weights: NDArray[np.float32]) -> list[slice]:
    """The runs of weights between 0 and 1."""
    inner = np.flatnonzero((weights > 0) & (weights < 1))
    runs = np.split(inner, np.flatnonzero(np.diff(inner) > 1) + 1)
    return [slice(int(run[0]), int(run[-1]) + 1) for run in runs if run.size]


def _used(weights: NDArray[np.float32]) -> slice:
    """From the first weight above 0 to the last."""
    above = np.flatnonzero(weights)
    return slice(int(above[0]), int(above[-1]) + 1) if above.size else slice(0, 0)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
