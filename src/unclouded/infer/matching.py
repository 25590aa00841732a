"""Radiometric matching: another date brought to the light, haze and season of the scene that it is to fill.

For every band a straight line from one date to the other is fitted to ground that both show clear: once over the whole
scene, and once in every cell of a coarse lattice, where the line of the whole scene counts like a number of pixels of
its own. Between the cells' middles gains and offsets are interpolated, so that no seams appear; they do not depend on
how the scene is cut into tiles.

Least squares give the line that predicts best. Pixels that do not follow it (changed fields, missed clouds) are left
out step by step; the errors to expect are taken from all pixels, those included, see :mod:`unclouded.infer.change`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..resample import Line, bilinear
from .change import Change, with_neighbours

CELL = 64
"""Side of a cell in pixels of the overview that the lines are fitted to."""

PRIOR = 500.0
"""Pixels that the line of the whole scene is worth in every cell."""

UNCHANGED = 500.0
"""Pixels that "nothing differs between both dates" is worth for the whole scene: a few clear pixels, hazy perhaps, must
not bend the colours of all others."""

FEWEST = 64
"""Commonly clear pixels below which nothing is fitted."""

GAINS = (0.5, 2.0)
"""Smallest and largest gain; beyond, two dates do not show the same ground."""

_DOUBT = 200.0
"""Pixels that an unknown date's error is worth."""

_OUTLIER = 2.5
"""Multiples of the robust standard deviation (1.4826 times the median absolute residual) that are left out."""
_ROUNDS = 3


@dataclass(frozen=True)
class Matching:
    """Lines from one date to another, in cells.

    Attributes:
        gain, offset: (band, y, x) float32, one for each cell: ``target = gain * source + offset``.
        change: what the errors are.
        cell: side of a cell in pixels of the scene.
        pixels: commonly clear pixels of the overview that stand behind it.
    """

    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    change: Change
    cell: int
    pixels: int

    @property
    def expected(self) -> float:
        """Expected absolute error, mean over the scene."""
        return self.change.whole

    def apply(self, values: NDArray[np.float32], first: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Rows of the other date as the scene would show them.

        Args:
            values: reflectance, (band, y, x), all columns of the scene.
            first: number of their first row.
            shape: rows and columns of the scene.
        """
        rows = (first, first + values.shape[1])
        return self._spread(self.gain, rows, shape) * values + self._spread(self.offset, rows, shape)

    def _spread(
        self, cells: NDArray[np.float32], rows: tuple[int, int], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        down, across = (Line.zoom(size, self.cell, count) for size, count in zip(cells.shape[1:], shape, strict=True))
        low, high = down.needed(*rows)
        return bilinear(cells[:, low:high], down, across, output=rows, input_first=low)


def match(
    target: NDArray[np.float32], source: NDArray[np.float32], common: NDArray[np.bool_], factor: int = 1
) -> Matching:
    """Fit the lines that bring one date to another.

    Args:
        target, source: reflectance of an overview of both dates, (band, y, x), NaN where missing.
        common: (y, x), True where both are clear.
        factor: side of an overview pixel in pixels of the scene.

    Returns:
        The lines. Where less than :data:`FEWEST` pixels are commonly clear the other date is taken as it is, and the
        error to expect is the mean absolute deviation of its pixels from their mean, larger where it is bright.

    >>> rng = np.random.default_rng(1)
    >>> source = rng.random((1, 96, 96), np.float32)
    >>> found = match(0.8 * source + 0.05, source, np.ones((96, 96), bool))
    >>> round(float(found.gain.mean()), 2), round(float(found.offset.mean()), 2), round(found.expected, 2)
    (0.8, 0.05, 0.01)
    """
    common = common & np.isfinite(target).all(axis=0) & np.isfinite(source).all(axis=0)
    bands, pixels = len(target), int(common.sum())
    cells = tuple(-(-size // CELL) for size in common.shape)
    shown = source[:, np.isfinite(source).all(axis=0)]
    spread = float(np.abs(shown - shown.mean(axis=1, keepdims=True)).mean()) if shown.size else 1.0
    if pixels < FEWEST:
        ones = np.ones((bands, *cells), np.float32)
        unknown = Change.unknown(source, spread, factor)
        return Matching(ones, np.zeros_like(ones), unknown, CELL * factor, pixels)
    gain, offset = np.empty((2, bands, *cells), np.float32)
    for band in range(bands):
        gain[band], offset[band] = _lines(source[band], target[band], common)
    height, width = common.shape
    lines = Matching(gain, offset, Change.unknown(np.zeros((bands, 1, 1), np.float32), 0.0), CELL, pixels)
    made = lines.apply(source, 0, (height, width))
    change = Change.of(made, np.abs(made - target).mean(axis=0), common, factor)
    # Few pixels tell little of the others: the error is drawn towards that of a date of which nothing is known.
    few = _DOUBT / (pixels + _DOUBT)
    if change.whole > 0:
        change = change.scaled((1 - few) + few * max(spread / change.whole, 1.0))
    return Matching(gain, offset, change, CELL * factor, pixels)


def _lines(
    x: NDArray[np.float32], y: NDArray[np.float32], common: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gain and offset of every cell for one band."""
    keep = common
    for _ in range(_ROUNDS):
        slope, level, spread = _line(x[keep], y[keep])
        residual = np.abs(y - slope * x - level)
        limit = _OUTLIER * 1.4826 * float(np.median(residual[common]))
        inliers = common & (residual <= max(limit, 1e-6))
        if inliers.sum() < FEWEST:
            break
        keep = inliers
    slope, level, spread = _line(x[keep], y[keep])
    px, py = np.where(keep, x, 0.0).astype(np.float64), np.where(keep, y, 0.0).astype(np.float64)
    n, sx, sy, sxx, sxy = (with_neighbours(one) for one in _cell_sums(np.stack([keep, px, py, px * px, px * py])))
    some = np.maximum(n, 1.0)
    mx, my = sx / some, sy / some
    gain = (sxy - n * mx * my + PRIOR * slope * spread) / np.maximum(sxx - n * mx * mx + PRIOR * spread, 1e-12)
    gain = np.clip(gain, *GAINS)
    # At the whole scene's mean the line of the whole scene holds, whatever the gain.
    centre = float(x[keep].mean())
    level_there = level + (slope - gain) * centre
    return gain, (n * (my - gain * mx) + PRIOR * level_there) / (n + PRIOR)


def _line(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float, float]:
    """Slope, level and the variance of x; the slope within the limits, both drawn towards the unchanged."""
    fx, fy = x.astype(np.float64), y.astype(np.float64)
    mx, my = fx.mean(), fy.mean()
    spread = float(((fx - mx) ** 2).mean())
    slope = float(np.clip(((fx - mx) * (fy - my)).mean() / max(spread, 1e-12), *GAINS)) if spread > 0 else 1.0
    share = fx.size / (fx.size + UNCHANGED)
    slope = share * slope + 1 - share
    return slope, float(share * my + (1 - share) * mx - slope * mx), spread


def _cell_sums(planes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums over the cells, (plane, y, x)."""
    out = np.add.reduceat(planes.astype(np.float64), np.arange(0, planes.shape[1], CELL), axis=1)
    return np.add.reduceat(out, np.arange(0, planes.shape[2], CELL), axis=2)
