"""How much ground has changed between two dates, and where: the error to expect of what one takes from the other.

    e(p) = sqrt(a(p) b(p))                                                                          (1)

a is the mean residual of ground that looks like the pixel, wherever both dates are clear: spectra are cut into bins
along their principal axes, so that harvested fields, water and forest each have an error of their own. b is the mean
residual of the surroundings, from cells of 16 and 64 pixels: haze, missed clouds and snow are local. Both have the mean
of all residuals where nothing is known, and (1) keeps that mean about.

Nothing is fitted beforehand: the scene itself tells its errors, in their true size. Where dates cannot be compared, one
error is told of all ground, times the root of its brightness: bright ground changes more, and haze is bright.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..resample import Line, bilinear

CELL = 16
"""Side of a cell in pixels of the overview."""

WIDER = 4
"""Cells along the side of the wider surroundings."""

BINS = 6
"""Bins along each axis, of equally many pixels."""

AXES = 3
"""Axes of the spectra, at most: 216 kinds of ground."""

PRIOR = 50.0
"""Pixels that the wider surroundings, or a coarser division of the spectra, are worth in each cell and bin."""

SHADES = 24
"""Bins of brightness where dates cannot be compared."""

_SAMPLE = 200_000
"""Pixels, at most, that axes and bins are found from."""


@dataclass(frozen=True)
class Change:
    """Expected absolute error in reflectance, mean over the bands.

    Attributes:
        axes: principal axes of the spectra, (axis, band).
        edges: borders of the bins along each axis, (axis, BINS - 1); those of a single axis may be more.
        kinds: mean residual of each bin, (BINS ** axis,), the last axis fastest.
        near: mean residual of each cell, (y, x).
        cell: side of a cell in pixels of the scene.
        whole: mean residual of all.
    """

    axes: NDArray[np.float32]
    edges: NDArray[np.float32]
    kinds: NDArray[np.float32]
    near: NDArray[np.float32]
    cell: int
    whole: float

    @classmethod
    def unknown(cls, image: NDArray[np.float32], error: float, factor: int = 1) -> Self:
        """What is told of a date that cannot be compared.

        Args:
            image: reflectance of the other date, (band, y, x) on the overview, NaN where missing.
            error: of ground of middling brightness.
            factor: side of an overview pixel in pixels of the scene.

        >>> image = np.linspace(0, 0.4, 96 * 96, dtype=np.float32).reshape(1, 96, 96)
        >>> found = Change.unknown(image, 0.02).errors(image, 0, (96, 96))
        >>> found[[48, 95], 0].round(3)
        array([0.02 , 0.028], dtype=float32)
        """
        near = np.full([-(-size // CELL) for size in image.shape[1:]], error, np.float32)
        bright = image.mean(axis=0)
        bright = np.maximum(bright[np.isfinite(bright)], np.float32(0))
        if not bright.size or bright.max() == 0:
            none = np.zeros((0, len(image)), np.float32)
            return cls(none, np.zeros((0, BINS - 1), np.float32), near[:1, 0], near, CELL * factor, error)
        some = bright[:: max(1, bright.size // _SAMPLE)].astype(np.float64)
        axes = np.full((1, len(image)), 1 / len(image), np.float32)
        edges, middles = (
            np.quantile(some, (np.arange(first, last) + shift) / SHADES)
            for first, last, shift in ((1, SHADES, 0.0), (0, SHADES, 0.5))
        )
        kinds = error * np.maximum(middles / some.mean(), 0.01)
        return cls(axes, edges[np.newaxis].astype(np.float32), kinds.astype(np.float32), near, CELL * factor, error)

    @classmethod
    def of(
        cls, image: NDArray[np.float32], residual: NDArray[np.float32], common: NDArray[np.bool_], factor: int = 1
    ) -> Self:
        """Learn from ground that both dates show clear.

        Args:
            image: reflectance of the other date brought to the scene's, (band, y, x) on the overview.
            residual: its absolute difference to the scene, mean over the bands, (y, x).
            common: where both are clear, (y, x); at least one pixel.
            factor: side of an overview pixel in pixels of the scene.

        >>> image = np.zeros((1, 32, 64), np.float32)
        >>> image[:, :, 32:] = 0.3
        >>> found = Change.of(image, np.where(image[0] > 0, 0.02, 0.01), np.ones((32, 64), bool))
        >>> found.errors(image, 0, (32, 64))[16, [5, 60]].round(3)
        array([0.01, 0.02], dtype=float32)
        """
        spectra, errors = image[:, common], residual[common].astype(np.float64)
        whole = float(errors.mean())
        some = spectra[:, :: max(1, spectra.shape[1] // _SAMPLE)].astype(np.float64)
        spread = np.cov(some) if some.shape[1] > 1 else np.zeros((len(image), len(image)))
        _, vectors = np.linalg.eigh(np.atleast_2d(spread))
        axes: NDArray[np.float32] = vectors[:, ::-1].T[:AXES].astype(np.float32)
        borders = np.quantile(axes @ some, np.linspace(0, 1, BINS + 1)[1:-1], axis=1).T
        edges: NDArray[np.float32] = borders.astype(np.float32)
        place = _bins(axes, edges, spectra)
        kinds = np.full(1, whole)
        for depth in range(1, len(axes) + 1):
            coarse = place // BINS ** (len(axes) - depth)
            count, total = (np.bincount(coarse, one, BINS**depth) for one in (None, errors))
            kinds = (total + PRIOR * kinds.repeat(BINS)) / (count + PRIOR)
        near = _surroundings(residual, common, whole)
        return cls(axes, edges, kinds.astype(np.float32), near, CELL * factor, whole)

    def errors(self, image: NDArray[np.float32], first: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Expected absolute error of some rows, (y, x).

        Args:
            image: the other date brought to the scene's reflectance, (band, y, x), all columns of the scene.
            first: number of the first row.
            shape: rows and columns of the scene.
        """
        rows = (first, first + image.shape[1])
        down, across = (Line.zoom(size, self.cell, count) for size, count in zip(self.near.shape, shape, strict=True))
        low, high = down.needed(*rows)
        near = bilinear(self.near[np.newaxis, low:high], down, across, output=rows, input_first=low)[0]
        alike = self.kinds[_bins(self.axes, self.edges, image.reshape(len(image), -1))].reshape(near.shape)
        return np.sqrt(near * alike)

    def scaled(self, factor: float) -> Self:
        """The same with all errors times a factor."""
        some = np.float32(factor)
        return replace(self, kinds=self.kinds * some, near=self.near * some, whole=self.whole * factor)


def _bins(
    axes: NDArray[np.float32], edges: NDArray[np.float32], spectra: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The bin of each spectrum of (band, pixel)."""
    out = np.zeros(spectra.shape[1], np.intp)
    for axis, borders in zip(axes, edges, strict=True):
        # Summed band by band: a matrix product may round differently for other numbers of pixels.
        along = np.zeros(spectra.shape[1], np.float32)
        for weight, plane in zip(axis, spectra, strict=True):
            along += weight * plane
        out = out * BINS + np.searchsorted(borders, along)
    return out


def _surroundings(
    residual: NDArray[np.float32], common: NDArray[np.bool_], whole: float
) -> NDArray[np.float32]:
    """Mean residual of each cell and its neighbours; where little is known, of the wider surroundings."""
    count, total = (_sums(one, CELL) for one in (common, np.where(common, residual, 0.0)))
    wide_count, wide_total = (with_neighbours(_sums(one, WIDER)) for one in (count, total))
    wide = (wide_total + 10 * PRIOR * whole) / (wide_count + 10 * PRIOR)
    down, across = (Line.zoom(size, WIDER, fine) for size, fine in zip(wide.shape, count.shape, strict=True))
    parent = bilinear(wide[np.newaxis].astype(np.float32), down, across)[0]
    near = (with_neighbours(total) + PRIOR * parent) / (with_neighbours(count) + PRIOR)
    return near.astype(np.float32)


def _sums(plane: NDArray[np.generic], cell: int) -> NDArray[np.float64]:
    """Sums over the cells, (y, x)."""
    out = np.add.reduceat(plane.astype(np.float64), np.arange(0, plane.shape[0], cell), axis=0)
    return np.add.reduceat(out, np.arange(0, plane.shape[1], cell), axis=1)


def with_neighbours(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each cell with a quarter of its four neighbours and a sixteenth of the four at its corners."""
    for axis in (0, 1):
        padded = np.pad(cells, [(1, 1) if one == axis else (0, 0) for one in (0, 1)])
        low, high = (np.take(padded, np.arange(k, k + cells.shape[axis]), axis) for k in (0, 2))
        cells = cells + 0.25 * (low + high)
    return cells
