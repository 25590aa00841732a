"""The loop: the result does not depend on tiles, strips, threads, prefetching or the order of bands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.classes import FOUR_FROM_SEVEN
from unclouded.errors import InputError
from unclouded.infer.arrays import ArrayBand, array_scene
from unclouded.infer.calibrate import decide, doubt
from unclouded.infer.plan import Plan, make_plan
from unclouded.infer.predict import ModelRows, Strip, finish, model_rows, percent
from unclouded.infer.runner import Runner, load_runner
from unclouded.result import finish_plan
from unclouded.scene import Radiometry, Scene
from unclouded.sensors import resolve_bands

NAMES = ("blue", "green", "red", "nir")


def surface(shape: tuple[int, int], bands: int = 4, seed: int = 0) -> np.ndarray:
    """Smooth random reflectance."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((bands, shape[0] // 4 + 2, shape[1] // 4 + 2), dtype=np.float32)
    return np.ascontiguousarray(coarse.repeat(4, 1).repeat(4, 2)[:, : shape[0], : shape[1]])


def scene(image: np.ndarray, resolution_m: float = 20.0, names: Sequence[str] = NAMES) -> Scene:
    bands = resolve_bands(names, gsd_m=resolution_m)
    return array_scene(image, bands, sensor="generic", level="toa", resolution_m=resolution_m, nodata=None)


def run(
    plan: Plan, runner: Runner, tile: int = 512, halo: int = 32, prefetch: bool = True, probability: bool = True
) -> Strip:
    """The whole result as one strip; its rows have to come in order and without gaps."""
    return whole(finish_plan(plan, model_rows(plan, runner, tile=tile, halo=halo, prefetch=prefetch), probability))


def whole(strips: Any) -> Strip:
    made = list(strips)
    assert [strip.first for strip in made] == np.cumsum([0, *(strip.classes.shape[0] for strip in made[:-1])]).tolist()
    shares = [strip.probability for strip in made if strip.probability is not None]
    return Strip(
        0,
        np.concatenate([strip.classes for strip in made]),
        np.concatenate([strip.uncertainty for strip in made]),
        np.concatenate(shares, axis=1) if shares else None,
    )


def same(one: Strip, two: Strip, atol: float = 1e-5) -> None:
    assert one.probability is not None
    assert two.probability is not None
    np.testing.assert_allclose(one.probability, two.probability, atol=atol)
    np.testing.assert_allclose(one.uncertainty, two.uncertainty, atol=atol)
    assert (one.classes == two.classes).mean() > 0.9999


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([96, 128, 192]),
    st.sampled_from([10.0, 20.0, 9.0]),
    st.booleans(),
)
def test_any_size_and_tile_gives_the_same(
    tiny: Path, height: int, width: int, tile: int, resolution_m: float, prefetch: bool
) -> None:
    runner = load_runner(tiny, threads=1)
    image = surface((height, width), seed=height)
    image[:, : height // 5, : width // 3] = np.nan
    plan = make_plan(scene(image, resolution_m), runner.card)
    tiled = run(plan, runner, tile, prefetch=prefetch)
    assert tiled.classes.shape == (height, width)
    same(tiled, run(plan, runner, 2048))


def test_against_plain_arithmetic(tiny: Path) -> None:
    """The network, temperature, folding and softmax written out in float64, away from the edges."""
    import onnx
    from onnx import numpy_helper

    kernel, bias = (
        numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(str(tiny / "tiny.onnx")).graph.initializer
    )
    runner = load_runner(tiny, threads=1)
    image = surface((120, 130))
    plan = make_plan(scene(image), runner.card)
    found = run(plan, runner, 96)
    assert found.probability is not None
    order = [NAMES.index(band.name) for band in plan.bands]
    slots = plan.descriptors().argmax(axis=1)
    for row, col in ((20, 30), (70, 31), (63, 100), (110, 9)):
        window = image[order, row - 3 : row + 4, col - 3 : col + 4].astype(np.float64)
        logits = (np.einsum("kbyx,byx->k", kernel[:, slots], window) + bias) / 1.5
        power = np.exp(logits - logits.max())
        four = np.array([power[list(members)].sum() for members in FOUR_FROM_SEVEN])
        four /= four.sum()
        np.testing.assert_allclose(found.probability[:, row, col], four, atol=1e-4)
        assert found.classes[row, col] == four.argmax()
        np.testing.assert_allclose(found.uncertainty[row, col], doubt(four), atol=1e-4)


def test_the_order_of_bands_changes_nothing(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    image = surface((70, 90))
    order = [2, 0, 3, 1]
    one = run(make_plan(scene(image), runner.card), runner)
    two = run(make_plan(scene(image[order], names=[NAMES[i] for i in order]), runner.card), runner)
    same(one, two, atol=0)


def test_the_number_of_threads_changes_nothing(tiny: Path) -> None:
    image = surface((200, 90))
    results = []
    for threads in (1, 2):
        runner = load_runner(tiny, threads=threads)
        results.append(run(make_plan(scene(image), runner.card), runner, 128))
    same(*results)


def test_missing_in_one_band_is_missing_everywhere_and_nowhere_else(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    image = surface((130, 130))
    gone = np.random.default_rng(0).random((130, 130)) < 0.01
    gone[40:60, 30:90] = True
    image[2][gone] = np.nan
    found = run(make_plan(scene(image), runner.card), runner, 96)
    assert found.probability is not None
    np.testing.assert_array_equal(found.classes == 255, gone)
    np.testing.assert_array_equal(np.isnan(found.uncertainty), gone)
    np.testing.assert_array_equal(np.isnan(found.probability), np.broadcast_to(gone, found.probability.shape))
    np.testing.assert_allclose(found.probability[:, ~gone].sum(axis=0), 1.0, atol=1e-5)


def test_a_missing_model_pixel_makes_all_its_output_pixels_missing(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    image = surface((131, 129))
    image[0, 50, 61] = np.nan
    image[3, 130, 128] = np.nan  # in the last row and column, which stand for half a model pixel
    found = run(make_plan(scene(image, 10.0), runner.card), runner, 96)
    expected = np.zeros((131, 129), bool)
    expected[50:52, 60:62] = True
    expected[130, 128] = True
    np.testing.assert_array_equal(found.classes == 255, expected)


def test_a_scene_without_any_data_never_meets_the_network(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)

    class Never:
        card, sha256 = runner.card, runner.sha256

        def run(self, image: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
            raise AssertionError("there is nothing to predict")

        def keeping(self) -> AbstractContextManager[None]:
            return nullcontext()

    plan = make_plan(scene(np.full((4, 200, 100), np.nan, np.float32)), runner.card)
    found = run(plan, Never(), 96)
    assert (found.classes == 255).all()
    assert np.isnan(found.uncertainty).all()


def test_every_row_is_read_once_and_by_one_other_thread(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    made = scene(surface((900, 64)))
    reads: list[tuple[int, int]] = []
    threads: set[str] = set()

    class Watched(ArrayBand):
        def read(self, geobox: GeoBox, radiometry: Radiometry) -> np.ndarray:
            top = round((~self.grid.affine * geobox.affine).f)
            reads.append((top, top + geobox.shape.y))
            threads.add(threading.current_thread().name)
            return super().read(geobox, radiometry)

    source = made.sources["red"]
    assert isinstance(source, ArrayBand)
    made.sources["red"] = Watched(source.values, source.grid)
    run(make_plan(made, runner.card), runner, 128)
    assert len(reads) > 5
    assert [first for first, _ in reads] == [0, *(end for _, end in reads[:-1])]
    assert reads[-1][1] == 900
    assert threading.current_thread().name not in threads


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_failing_read_ends_the_run_with_its_own_error(tiny: Path, prefetch: bool) -> None:
    runner = load_runner(tiny, threads=1)
    made = scene(surface((900, 64)))

    class Broken(ArrayBand):
        def read(self, geobox: GeoBox, radiometry: Radiometry) -> np.ndarray:
            if (~self.grid.affine * geobox.affine).f > 300:
                raise InputError("The file ends early.", expected="All rows.", remedy="Download it again.")
            return super().read(geobox, radiometry)

    source = made.sources["red"]
    assert isinstance(source, ArrayBand)
    made.sources["red"] = Broken(source.values, source.grid)
    before = threading.active_count()
    with pytest.raises(InputError, match="ends early"):
        run(make_plan(made, runner.card), runner, 128, prefetch=prefetch)
    assert threading.active_count() <= before


def test_a_run_that_is_given_up_leaves_no_thread(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    plan = make_plan(scene(surface((900, 64))), runner.card)
    before = threading.active_count()
    rows = model_rows(plan, runner, tile=128, halo=32)
    next(rows)
    rows.close()
    assert threading.active_count() <= before


def test_progress_rises_to_one(tiny: Path) -> None:
    runner = load_runner(tiny, threads=1)
    plan = make_plan(scene(surface((300, 300))), runner.card)
    told: list[float] = []
    for _ in model_rows(plan, runner, tile=128, halo=32, progress=told.append):
        pass
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 1.0


def test_networks_that_see_percentiles_get_those_of_the_whole_scene(make_model: Callable[..., Path]) -> None:
    runner = load_runner(make_model("with-statistics", front_end="senseiv2", percentiles=True), threads=1)
    image = surface((150, 200))
    image[:, :75] *= 0.2  # tiles of their own would have other percentiles
    plan = make_plan(scene(image), runner.card)
    same(run(plan, runner, 128), run(plan, runner, 1024), atol=1e-4)


# ---- from the model grid to the output grid


def random_rows(shape: tuple[int, int], cuts: Sequence[int] = (), seed: int = 0) -> list[ModelRows]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (4, *shape)).astype(np.float32)
    missing = rng.random(shape) < 0.05
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < shape[0]}), shape[0]]
    return [ModelRows(a, scores[:, a:b], missing[a:b]) for a, b in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 40),
    st.lists(st.integers(1, 59), max_size=8),
    st.sampled_from([1.0, 2.0, 4.0, 7.0, 4 / 3, 0.5, 1 / 3, 0.4, 0.71, 0.05]),
)
def test_strips_equal_the_whole(height: int, width: int, cuts: list[int], zoom: float) -> None:
    shape = (height, width)
    out = (max(1, round(height * zoom)), max(1, round(width * zoom)))
    one = whole(finish(random_rows(shape), shape, out, zoom, probability=True))
    cut = whole(finish(random_rows(shape, cuts), shape, out, zoom, probability=True))
    assert one.classes.shape == out
    np.testing.assert_array_equal(one.classes, cut.classes)
    np.testing.assert_array_equal(one.uncertainty, cut.uncertainty)
    np.testing.assert_array_equal(one.probability, cut.probability)
    without = whole(finish(random_rows(shape, cuts), shape, out, zoom))
    assert without.probability is None
    np.testing.assert_array_equal(without.classes, one.classes)


def test_the_same_grid_gives_the_softmax_of_the_scores() -> None:
    (part,) = random_rows((30, 40))
    found = whole(finish([part], (30, 40), (30, 40), 1.0, probability=True))
    power = np.exp(part.scores.astype(np.float64))
    expected = power / power.sum(axis=0)
    expected[:, part.missing] = np.nan
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    np.testing.assert_array_equal(found.classes, np.where(part.missing, 255, decide(np.exp(part.scores))))


def test_scores_far_apart_stay_finite() -> None:
    scores = np.zeros((4, 2, 2), np.float32)
    scores[0, 0], scores[1, 1] = 3000.0, 3000.0
    found = whole(finish([ModelRows(0, scores, np.zeros((2, 2), bool))], (2, 2), (8, 8), 4.0, probability=True))
    assert np.isfinite(found.probability).all()
    assert np.isfinite(found.uncertainty).all()
    assert found.classes[0, 0] == 0
    assert found.classes[-1, -1] == 1
    assert found.uncertainty[0].max() == 0


def test_a_coarser_output_has_the_mean_probability() -> None:
    (part,) = random_rows((30, 42))
    part.missing[:] = False
    part.missing[4, 7] = True
    found = whole(finish([part], (30, 42), (10, 14), 1 / 3, probability=True))
    power = np.exp(part.scores.astype(np.float64))
    expected = (power / power.sum(axis=0)).reshape(4, 10, 3, 14, 3).mean(axis=(2, 4))
    expected[:, 1, 2] = np.nan
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    assert (found.classes == 255).sum() == 1


@given(st.floats(0, 1, width=32))
def test_percent_is_the_nearest_whole_one(value: float) -> None:
    (stored,) = percent(np.float32([value]), np.array([False])).tolist()
    assert 0 <= stored <= 100
    assert abs(stored - 100 * value) <= 0.5001
