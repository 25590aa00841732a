"""Tiling: every pixel is covered, blending keeps constants, and tilings agree where the halo says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import InputError
from unclouded.infer.tiling import Axis, RowBlender, axis, reflected

STRIDES = st.sampled_from([8, 32])


@st.composite
def axes(draw: st.DrawFn, most: int = 900) -> tuple[Axis, int]:
    stride = draw(STRIDES)
    halo = stride * draw(st.integers(0, 4))
    tile = 2 * halo + stride * draw(st.integers(1, 12))
    return axis(draw(st.integers(1, most)), tile, halo, stride, exact=draw(st.booleans())), stride


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 20), st.integers(0, 4))
def test_exact_tiles_all_have_the_length_asked_for(size: int, tiles: int, halos: int) -> None:
    tile = 64 * halos + 32 * tiles
    cut = axis(size, tile, 32 * halos, exact=True)
    assert {cut.length(index) for index in range(len(cut.starts))} == {tile}
    assert cut.starts[0] == axis(size, tile, 32 * halos).starts[0]
    if len(cut.starts) > 1:  # no tile more than needed
        assert cut.stop - (tile - 64 * halos) < size + min(32, 32 * halos) + 32


@settings(max_examples=100, deadline=None)
@given(axes())
def test_axis(made: tuple[Axis, int]) -> None:
    cut, stride = made
    total = np.zeros(cut.size)
    last = len(cut.starts) - 1
    assert cut.starts[0] <= 0
    assert cut.stop >= cut.size
    for index, start in enumerate(cut.starts):
        assert start % stride == 0
        assert cut.length(index) % stride == 0
        assert 0 < cut.length(index) <= cut.tile
        weights = cut.weights(index)
        assert weights.shape == (cut.length(index),)
        assert weights.min() >= 0
        low, high = cut.inside(index)
        total[low:high] += weights[low - start : high - start]
        # Three quarters of the halo are not used, at the scene's edges nothing of the scene is lost.
        if index > 0:
            assert not weights[: 3 * cut.halo // 4].any()
        if index < last:
            assert not weights[len(weights) - 3 * cut.halo // 4 :].any()
        near = range(index + 1, min(index + 5, last + 1))
        later = [cut.span(other)[0] + np.flatnonzero(cut.weights(other))[0] for other in near]
        assert cut.final_before(index) <= min(later, default=cut.size)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert cut.final_before(last) == cut.size


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(2, 40), st.integers(0, 4))
def test_surroundings_do_not_depend_on_the_tile(size: int, tiles: int, halos: int) -> None:
    halo = 32 * halos
    cut, whole = axis(size, 2 * halo + 32 * tiles, halo), axis(size, 10**6, halo)
    assert cut.starts[0] == whole.starts[0]
    assert cut.stop == whole.stop
    # No cliff: the pixels worked on are those of the scene, its margins and one overlap for each seam.
    worked = sum(cut.length(i) for i in range(len(cut.starts)))
    assert worked == whole.length(0) + (len(cut.starts) - 1) * 2 * halo


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_reflected(size: int) -> None:
    line = np.arange(size)
    expected = np.pad(line, (70, 90), mode="reflect")
    np.testing.assert_array_equal(line[reflected(-70, size + 90, size)], expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_blending_a_constant_gives_the_constant(data: st.DataObject) -> None:
    (rows, _), (cols, _) = data.draw(axes(300)), data.draw(axes(300))
    constants = np.float32([-3.0, 0.25, 11.0])
    out = np.full((3, rows.size, cols.size), np.nan, np.float32)
    blender = RowBlender(3, rows, cols)
    expected_first = 0
    for i in range(len(rows.starts)):
        for j in data.draw(st.permutations(range(len(cols.starts)))):
            tile = np.empty((3, rows.length(i), cols.length(j)), np.float32)
            tile[:] = constants[:, None, None]
            blender.add(i, j, tile)
        first, done = blender.release(i)
        assert first == expected_first
        expected_first += done.shape[1]
        out[:, first:expected_first] = done
    assert expected_first == rows.size
    np.testing.assert_allclose(out, np.broadcast_to(constants[:, None, None], out.shape), rtol=2e-6)


def mean_filter(image: np.ndarray, reach: int) -> np.ndarray:
    """What a network that looks ``reach`` pixels far does: a box mean with zeros outside of the tile."""
    padded = np.pad(image.astype(np.float64), reach)
    for axis_ in (0, 1):
        total = np.cumsum(np.insert(padded, 0, 0.0, axis=axis_), axis=axis_)
        high = np.take(total, range(2 * reach + 1, total.shape[axis_]), axis=axis_)
        low = np.take(total, range(total.shape[axis_] - 2 * reach - 1), axis=axis_)
        padded = (high - low) / (2 * reach + 1)
    return padded.astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 260), st.integers(1, 260), st.integers(1, 6), st.integers(1, 6), st.sampled_from([32, 64]), st.data()
)
def test_tiles_agree_with_the_whole_where_the_network_looks_no_further_than_the_unused_halo(
    height: int, width: int, tall: int, wide: int, halo: int, data: st.DataObject
) -> None:
    image = np.random.default_rng(height).normal(size=(height, width)).astype(np.float32)

    def run(rows: Axis, cols: Axis) -> np.ndarray:
        blender = RowBlender(1, rows, cols)
        parts = []
        for i in range(len(rows.starts)):
            for j in range(len(cols.starts)):
                window = image[np.ix_(rows.pixels(i), cols.pixels(j))]
                blender.add(i, j, mean_filter(window, 3 * halo // 4)[None])
            parts.append(blender.release(i)[1].copy())
        return np.concatenate(parts, axis=1)[0]

    whole = run(axis(height, 10**6, halo), axis(width, 10**6, halo))
    tiled = run(axis(height, 2 * halo + 32 * tall, halo), axis(width, 2 * halo + 32 * wide, halo))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_a_tile_that_is_left_out_counts_as_zero() -> None:
    rows, cols = axis(64, 96, 32), axis(200, 96, 32)
    blender = RowBlender(2, rows, cols)
    for i in range(len(rows.starts)):
        blender.add(i, 0, np.ones((2, rows.length(i), cols.length(0)), np.float32))
        _, done = blender.release(i)
        assert (done[:, :, : cols.starts[1]] == 1).all()
        assert not done[:, :, cols.span(0)[1] :].any()


@pytest.mark.parametrize(
    ("size", "tile", "halo"), [(0, 512, 64), (100, 128, 64), (100, 64, 33)], ids=["empty", "halo", "rounded-halo"]
)
def test_impossible_tilings_say_what_to_do(size: int, tile: int, halo: int) -> None:
    with pytest.raises(InputError) as caught:
        axis(size, tile, halo)
    assert all((caught.value.found, caught.value.expected, caught.value.remedy))
