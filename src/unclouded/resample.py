"""Resampling between grids that share their axes: bilinear, nearest, and block means. Numpy only.

A :class:`Line` says where the pixel centres of one output axis lie in the input. Any range of output rows can be
made from the input rows that :meth:`Line.needed` names, and equals, bit for bit, the same rows of the whole. Rows of
large images are therefore resampled strip by strip.

    rows, cols = Line.zoom(image.shape[-2], 6), Line.zoom(image.shape[-1], 6)
    whole = bilinear(image, rows, cols)
    first, last = rows.needed(1000, 1200)
    strip = bilinear(image[:, first:last], rows, cols, output=(1000, 1200), input_first=first)
    # the strip equals whole[:, 1000:1200]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

_SNAP = 1e-6
"""Positions closer than this many input pixels to a pixel centre or a phase count as being there."""


@dataclass(frozen=True)
class Line:
    """Positions of the pixel centres of an output axis in an input axis.

    The centre of output pixel ``i`` lies at ``start + step * i``, counted in input pixels with 0 at the centre of the
    first one. Centres beyond the outermost input centres take the edge's value.

    Attributes:
        size: number of input pixels.
        start: position of the first output centre.
        step: distance of output centres.
        count: number of output pixels.
    """

    size: int
    start: float
    step: float
    count: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.count < 0 or not self.step > 0:
            raise InputError(
                f"An axis of {self.size} pixels is to become one of {self.count} with step {self.step}.",
                expected="One pixel or more, and a positive step.",
                remedy="Check the grids.",
            )

    @classmethod
    def zoom(cls, size: int, factor: float, count: int | None = None) -> Self:
        """An axis whose pixels are ``factor`` times smaller and whose outer edges coincide at the start.

        Args:
            size: number of input pixels.
            factor: input pixel size over output pixel size; above 1 makes more pixels.
            count: number of output pixels; None means all that fit.

        >>> Line.zoom(2, 2)
        Line(size=2, start=-0.25, step=0.5, count=4)
        """
        return cls(size, 0.5 / factor - 0.5, 1.0 / factor, round(size * factor) if count is None else count)

    def positions(self, first: int = 0, last: int | None = None) -> NDArray[np.float64]:
        """Centres of output pixels ``first`` to ``last`` (excluded), clamped to the outermost input centres."""
        index = np.arange(first, self.count if last is None else last, dtype=np.float64)
        return np.clip(self.start + self.step * index, 0.0, self.size - 1.0)

    def needed(self, first: int, last: int) -> tuple[int, int]:
        """Range of input pixels that output pixels ``first`` to ``last`` (excluded) are made of.

        >>> Line.zoom(10, 4).needed(8, 12)
        (1, 4)
        """
        if last <= first:
            return 0, 0
        low, high = self.positions(first, first + 1)[0], self.positions(last - 1, last)[0]
        return int(np.floor(low + _SNAP)), min(int(np.floor(high + _SNAP)) + 2, self.size)

    @property
    def _factor(self) -> int:
        """The whole number of output pixels in an input pixel, or 0."""
        factor = round(1.0 / self.step)
        phase = (self.start + 0.5) / self.step - 0.5
        whole = factor >= 1 and abs(factor * self.step - 1.0) < 1e-9 and abs(phase - round(phase)) < _SNAP
        return factor if whole else 0


def bilinear(
    image: NDArray[np.float32],
    rows: Line,
    cols: Line,
    *,
    output: tuple[int, int] | None = None,
    input_first: int = 0,
    output_cols: tuple[int, int] | None = None,
    input_left: int = 0,
) -> NDArray[np.float32]:
    """Bilinear interpolation between pixel centres; beyond the outermost centres the edge is repeated.

    Args:
        image: (..., y, x) float32; the input rows from ``input_first`` on, and columns from ``input_left`` on.
        rows, cols: where the output's centres lie.
        output, output_cols: range of output rows and columns wanted; None means all.
        input_first, input_left: number of the first input row and column that ``image`` holds.

    Returns:
        (..., y, x) float32. An output pixel is NaN when an input pixel that it is made of is NaN.

    Raises:
        InputError: the image does not hold the rows needed.

    >>> bilinear(np.float32([[0, 4]]), Line.zoom(1, 1), Line.zoom(2, 2))
    array([[0., 1., 3., 4.]], dtype=float32)
    """
    first, last = (0, rows.count) if output is None else output
    left, right = (0, cols.count) if output_cols is None else output_cols
    low, high = _check(image, rows, cols, (first, last), (left, right), input_first, input_left)
    image = image[..., low - input_first : high - input_first, :]
    # Columns first: they are stretched while there are still few rows.
    wide = _along(image, cols, left, right, input_left, axis=-1)
    return _along(wide, rows, first, last, low, axis=-2)


def nearest(
    image: NDArray[Any],
    rows: Line,
    cols: Line,
    *,
    output: tuple[int, int] | None = None,
    input_first: int = 0,
    output_cols: tuple[int, int] | None = None,
    input_left: int = 0,
) -> NDArray[Any]:
    """The input pixel that each output centre lies in; for masks and classes. Arguments as :func:`bilinear`.

    >>> nearest(np.uint8([[7, 9]]), Line.zoom(1, 2), Line.zoom(2, 2))
    array([[7, 7, 9, 9],
           [7, 7, 9, 9]], dtype=uint8)
    """
    first, last = (0, rows.count) if output is None else output
    left, right = (0, cols.count) if output_cols is None else output_cols
    _check(image, rows, cols, (first, last), (left, right), input_first, input_left)
    y = np.floor(rows.positions(first, last) + 0.5 + _SNAP).astype(np.intp).clip(0, rows.size - 1) - input_first
    x = np.floor(cols.positions(left, right) + 0.5 + _SNAP).astype(np.intp).clip(0, cols.size - 1) - input_left
    return image[..., y, :][..., x]


def block_mean(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean of blocks of ``factor`` x ``factor`` pixels; a block with any NaN is NaN.

    A block that reaches beyond the image takes the mean with the last row or column repeated.

    Args:
        image: (..., y, x) float32.
        factor: side of a block in pixels.

    Returns:
        (..., ceil(y / factor), ceil(x / factor)) float32.

    >>> block_mean(np.float32([[1, 3, 5], [1, 3, 5]]), 2)
    array([[2., 5.]], dtype=float32)
    """
    if factor == 1:
        return image
    for axis in (-2, -1):
        size = image.shape[axis]
        whole = -(-size // factor) * factor
        if whole != size:
            pad = [(0, 0)] * image.ndim
            pad[axis] = (0, whole - size)
            image = np.pad(image, pad, mode="edge")
        total = _phase(image, 0, factor, axis).copy()
        for phase in range(1, factor):
            total += _phase(image, phase, factor, axis)
        image = total
    image *= np.float32(1.0 / factor**2)
    return image


def _phase(image: NDArray[Any], first: int, step: int, axis: int) -> NDArray[Any]:
    return image[..., first::step] if axis == -1 else image[..., first::step, :]


def _check(
    image: NDArray[Any],
    rows: Line,
    cols: Line,
    output_rows: tuple[int, int],
    output_cols: tuple[int, int],
    input_first: int,
    input_left: int,
) -> tuple[int, int]:
    """Compare what is held with what is needed along both axes; the rows that are needed."""
    for what, line, (first, last), start, size, others in (
        ("columns", cols, output_cols, input_left, image.shape[-1], f"{rows.size} rows"),
        ("rows", rows, output_rows, input_first, image.shape[-2], f"{cols.size} columns"),
    ):
        low, high = line.needed(first, last)
        if low < start or high > start + size or start + size > line.size or not 0 <= first <= last <= line.count:
            raise InputError(
                f"Input {what} {start} to {start + size} are given for output {what} {first} to {last}.",
                expected=f"{what.capitalize()} {low} to {high} of {others} are needed, for output {what} within 0 to"
                f" {line.count}.",
                remedy="Ask Line.needed for them.",
            )
    return low, high


def _along(
    image: NDArray[np.float32], line: Line, first: int, last: int, held_first: int, *, axis: int
) -> NDArray[np.float32]:
    """Interpolate one axis, of which ``image`` holds the input pixels from ``held_first`` on."""
    if line.step == 1.0 and line.start == round(line.start):
        index = line.positions(first, last).astype(np.intp) - held_first
        if index.size and index[-1] - index[0] == index.size - 1:
            taken = slice(int(index[0]), int(index[-1]) + 1)
            return image[..., taken] if axis == -1 else image[..., taken, :]
    shape = list(image.shape)
    shape[axis] = last - first
    out = np.empty(shape, np.float32)
    if line._factor:
        _phases(image, out, line, first, held_first, axis)
        return out
    at = line.positions(first, last)
    lower = np.floor(at + _SNAP).astype(np.intp)
    weight = np.maximum(at - lower, 0.0)
    weight[weight < _SNAP] = 0.0
    upper = np.minimum(lower + 1, line.size - 1)
    share = weight.astype(np.float32) if axis == -1 else weight.astype(np.float32)[:, None]
    # Where a centre falls on an input centre its neighbour must not count, not even when it is NaN.
    upper = np.where(weight == 0.0, lower, upper)
    base = np.take(image, lower - held_first, axis=axis)
    np.subtract(np.take(image, upper - held_first, axis=axis), base, out=out)
    out *= share
    out += base
    return out


def _phases(
    image: NDArray[np.float32], out: NDArray[np.float32], line: Line, first: int, held_first: int, axis: int
) -> None:
    """Whole factors: outputs of one phase are a weighted sum of two shifted copies of the input."""
    factor = line._factor
    shift = round((line.start + 0.5) / line.step - 0.5)  # output 0 is this many output pixels after the input's edge
    count = out.shape[axis]
    for phase in range(min(factor, count)):
        place = first + phase + shift
        cell, part = divmod(place, factor)
        weight = (part + 0.5) / factor - 0.5
        lower = cell - (weight < 0)
        weight += weight < 0
        target = _phase(out, phase, factor, axis)
        number = target.shape[axis]
        base = _run(image, lower - held_first, number, line.size - held_first, axis)
        if abs(weight) < _SNAP:
            target[...] = base
            continue
        np.subtract(_run(image, lower + 1 - held_first, number, line.size - held_first, axis), base, out=target)
        target *= np.float32(weight)
        target += base


def _run(image: NDArray[np.float32], first: int, number: int, end: int, axis: int) -> NDArray[np.float32]:
    """``number`` consecutive pixels from ``first`` on, the edges repeated; ``end`` is where the input ends."""
    held = image.shape[axis]
    last = first + number
    if first >= 0 and last <= held:
        return image[..., first:last] if axis == -1 else image[..., first:last, :]
    index = np.arange(first, last).clip(0, min(end, held) - 1)
    return np.take(image, index, axis=axis)
