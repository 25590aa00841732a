"""Resampling: exact on planes, strips equal the whole, NaN spreads as far as it must and no farther."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import InputError
from unclouded.resample import Line, bilinear, block_mean, nearest

sizes = st.integers(1, 12)
factors = st.sampled_from([1, 2, 3, 4, 6, 1.5, 2 / 3, 0.75, 1.1, 20 / 6, 2.5])


def naive(image: np.ndarray, rows: Line, cols: Line) -> np.ndarray:
    """Pixel by pixel, in float64, as the definition says."""
    out = np.empty((rows.count, cols.count))
    for i in range(rows.count):
        for j in range(cols.count):
            total = 0.0
            y = min(max(rows.start + rows.step * i, 0), rows.size - 1)
            x = min(max(cols.start + cols.step * j, 0), cols.size - 1)
            for k in range(rows.size):
                for m in range(cols.size):
                    weight = max(0.0, 1 - abs(y - k)) * max(0.0, 1 - abs(x - m))
                    if weight > 1e-5:
                        total += weight * image[k, m]
            out[i, j] = total
    return out


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, factors, st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_bilinear_equals_its_definition(height: int, width: int, factor: float, shift: float, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    rows = Line.zoom(height, factor)
    cols = Line(width, shift, 1 / factor, 9)
    assert bilinear(image, rows, cols) == pytest.approx(naive(image, rows, cols), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, factors, st.data())
def test_strips_equal_the_whole_bit_for_bit(height: int, width: int, factor: float, data: st.DataObject) -> None:
    rng = np.random.default_rng(height * 100 + width)
    image = rng.normal(size=(2, height, width)).astype(np.float32)
    image[rng.random(image.shape) < 0.1] = np.nan
    rows, cols = Line.zoom(height, factor), Line.zoom(width, factor)
    first = data.draw(st.integers(0, rows.count))
    last = data.draw(st.integers(first, rows.count))
    low, high = rows.needed(first, last)
    low, high = max(low - data.draw(st.integers(0, 2)), 0), min(high + data.draw(st.integers(0, 2)), height)
    strip = bilinear(image[:, low:high], rows, cols, output=(first, last), input_first=low)
    assert np.array_equal(strip, bilinear(image, rows, cols)[:, first:last], equal_nan=True)
    codes = rng.integers(0, 4, image.shape).astype(np.uint8)
    strip = nearest(codes[:, low:high], rows, cols, output=(first, last), input_first=low)
    assert np.array_equal(strip, nearest(codes, rows, cols)[:, first:last])


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_a_plane_stays_a_plane(factor: int) -> None:
    y, x = np.mgrid[0:8, 0:8].astype(np.float32)
    out = bilinear(2 * x + 3 * y, Line.zoom(8, factor), Line.zoom(8, factor))
    at = (np.arange(8 * factor) + 0.5) / factor - 0.5
    inner = slice(factor, -factor)
    expected = 2 * at[None, :] + 3 * at[:, None]
    assert out[inner, inner] == pytest.approx(expected[inner, inner], abs=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 1.5])
def test_missing_pixels_spread_to_what_they_are_part_of(factor: float) -> None:
    image = np.ones((6, 6), np.float32)
    image[2, 3] = np.nan
    line = Line.zoom(6, factor)
    out = bilinear(image, line, line)
    touched = np.abs(line.positions()[:, None] - [2, 3]) < 1 - 1e-6  # within one pixel of the missing centre
    assert np.array_equal(np.isnan(out), touched[:, None, 0] & touched[None, :, 1])


def test_block_mean_marks_every_block_that_touches_a_missing_pixel() -> None:
    image = np.arange(35, dtype=np.float32).reshape(5, 7)
    image[4, 2] = np.nan
    out = block_mean(image.copy(), 2)
    assert out.shape == (3, 4)
    assert np.argwhere(np.isnan(out)).tolist() == [[2, 1]]
    assert out[0, 0] == image[:2, :2].mean()
    assert out[0, 3] == image[:2, 6].mean()


def test_block_mean_leaves_its_input_alone() -> None:
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    before = image.copy()
    block_mean(image, 2)
    assert np.array_equal(image, before)


def test_rows_that_are_missing_are_an_error() -> None:
    line = Line.zoom(8, 2)
    with pytest.raises(InputError, match="Rows 1 to 5 of 8 columns are needed"):
        bilinear(np.zeros((3, 8), np.float32), line, line, output=(4, 9), input_first=2)
