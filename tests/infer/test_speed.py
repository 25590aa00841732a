"""What masking costs, without a clock: how many pixels the network works on, and that shortcuts change no value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.infer.arrays import array_scene
from unclouded.infer.calibrate import decide
from unclouded.infer.plan import make_plan
from unclouded.infer.predict import _Block, _runs, _Window, model_rows
from unclouded.infer.runner import Runner, load_runner
from unclouded.infer.tiling import axis, reflected
from unclouded.options import Options
from unclouded.sensors import resolve_bands

SIZES = (1000, 1024, 2048, 2049)
"""Sides in pixels of 10 m whose cost per pixel is compared, as by benchmarks/peers.py."""


class Counting:
    """A runner that counts the pixels that it is given, and finds nothing."""

    def __init__(self, runner: Runner) -> None:
        self.card, self.sha256 = runner.card, runner.sha256
        self.pixels = 0

    def run(self, image: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
        self.pixels += image.shape[2] * image.shape[3]
        return np.zeros((1, len(self.card.classes), *image.shape[2:]), np.float32)

    def keeping(self) -> AbstractContextManager[None]:
        return nullcontext()


def worked_on(side: int) -> float:
    """Pixels that the default model's network is given, per pixel of a square scene at its own pixel size."""
    runner = Counting(load_runner("default", threads=1))
    bands = resolve_bands(["red", "nir"], gsd_m=10.0)
    image = np.broadcast_to(np.float32(0.2), (2, side, side))
    scene = array_scene(image, bands, sensor="generic", level="toa", resolution_m=10.0, nodata=None)
    plan = make_plan(scene, runner.card)
    for _ in model_rows(plan, runner, tile=Options().tile, halo=Options().halo):
        pass
    return runner.pixels / (plan.model_grid.shape.y * plan.model_grid.shape.x)


def test_sizes_cost_the_same_per_pixel_within_a_quarter() -> None:
    costs = {side: worked_on(side) for side in SIZES}
    assert min(costs.values()) >= 1.0
    assert max(costs.values()) <= 1.25 * min(costs.values()), costs
    assert costs[2048] < 1.15


def test_a_whole_tile_of_sentinel_2_costs_half_as_much_again_at_most() -> None:
    cut = axis(5490, Options().tile, Options().halo)
    along = sum(cut.length(i) for i in range(len(cut.starts))) / cut.size
    assert along**2 < 1.5


@pytest.mark.parametrize(("size", "tiles"), [(896 - 64, 1), (1088 - 64, 1), (1120 - 64, 1), (1120 - 63, 2)])
def test_a_scene_little_larger_than_a_tile_is_not_cut(size: int, tiles: int) -> None:
    assert len(axis(size, 896, 96).starts) == tiles


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(-70, 10), st.integers(1, 120))
def test_runs_take_what_the_indices_say(size: int, start: int, length: int) -> None:
    index = reflected(start, start + length, size)
    line = np.arange(size)
    out = np.full(index.size, -1)
    runs = _runs(index)
    for place, source in runs:
        out[place] = line[source]
    np.testing.assert_array_equal(out, index)
    if size > 1:
        assert len(runs) <= 2 + length // (size - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 30), st.lists(st.integers(1, 39), max_size=4), st.data())
def test_tiles_are_copied_from_blocks_as_from_one_image(
    height: int, width: int, cuts: list[int], data: st.DataObject
) -> None:
    image = np.random.default_rng(height).random((2, height, width), dtype=np.float32)
    missing = np.random.default_rng(width).random((height, width)) < data.draw(st.sampled_from([0.0, 0.9, 1.0]))
    edges = [0, *sorted({cut for cut in cuts if cut < height}), height]
    blocks = [_Block(a, image[:, a:b], missing[a:b]) for a, b in pairwise(edges)]
    rows, cols = (
        reflected(start, start + data.draw(st.integers(1, 50)), size)
        for size, start in ((height, data.draw(st.integers(-30, 20))), (width, data.draw(st.integers(-30, 20))))
    )
    out = np.full((2, rows.size, cols.size), np.nan, np.float32)
    some = _Window(blocks).copy_tile(rows, cols, out)
    np.testing.assert_array_equal(out, image[:, rows][:, :, cols])
    shown = missing[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    assert some == (not shown.all())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.2, 0.5, 0.9]))
def test_decisions_equal_their_definition(seed: int, cloud_from: float | None) -> None:
    share = np.random.default_rng(seed).dirichlet(np.ones(4), 50).T.astype(np.float32).round(1)  # with ties
    for column, found in zip(share.T, decide(share, cloud_from), strict=True):
        clear, thick, thin, shadow = column
        cloud = thick + thin
        limit = max(clear, shadow) if cloud_from is None else np.float32(cloud_from) * (clear + cloud + shadow)
        if cloud > limit or (cloud_from is not None and cloud == limit):
            assert found == (1 if thick >= thin else 2)
        else:
            assert found == (3 if shadow > clear else 0)


def test_keeping_memory_changes_no_value_and_ends(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    rng = np.random.default_rng(3)
    descriptors = np.eye(4, 10, dtype=np.float32)[np.newaxis]
    images = [rng.random((1, 4, 64, width), dtype=np.float32) for width in (64, 96, 64)]
    apart = [runner.run(image, descriptors) for image in images]
    with runner.keeping(), runner.keeping():
        together = [runner.run(image, descriptors) for image in images]
    after = runner.run(images[0], descriptors)
    for one, two in zip((*apart, apart[0]), (*together, after), strict=True):
        np.testing.assert_array_equal(one, two)


def test_keeping_memory_ends_with_an_error(make_model: Callable[..., Path]) -> None:
    runner = load_runner(make_model("kept"), threads=1)
    with pytest.raises(KeyError), runner.keeping():
        raise KeyError
    assert runner.run(np.zeros((1, 3, 32, 32), np.float32), np.eye(3, 10, dtype=np.float32)[np.newaxis]).shape[1] == 7
