"""Masks of Dask arrays: the values of the eager path, whatever the chunks, and nothing computed before it is asked."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import xarray
from onnx import TensorProto, helper, numpy_helper

import unclouded
from unclouded import Options, UncloudedWarning
from unclouded.classes import SEVEN
from unclouded.errors import InputError, RadiometryError
from unclouded.models.card import BandInput, Scaling

from .infer.conftest import make_model, tiny  # noqa: F401  fixtures

dask = pytest.importorskip("dask")

SMALL = Options(tile=128, halo=32)
"""Several tiles in a small image."""


def image(rows: int = 290, cols: int = 330, step: float = 20.0, dates: int = 0) -> xarray.DataArray:
    rng = np.random.default_rng(5)
    values = rng.uniform(0.02, 0.2, (max(dates, 1), 4, rows, cols)).astype(np.float32)
    values[:, :, 40:180, 60:200] += 0.5
    values[0, 1, 100:140, 150:260] = np.nan
    values[0, :, 250:, :90] = np.nan
    if dates > 1:
        values[1, :, :150] = np.nan
    array = xarray.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array([f"2024-06-{day + 1:02}" for day in range(max(dates, 1))], "datetime64[ns]"),
            "band": ["blue", "green", "red", "nir"],
            "y": 5.8e6 - step * (np.arange(rows) + 0.5),
            "x": 4e5 + step * (np.arange(cols) + 0.5),
        },
        attrs={"crs": "EPSG:32633"},
    )
    return array if dates else array.isel(time=0)


def same(lazy: xarray.Dataset, eager: unclouded.Result) -> None:
    for name in ("classes", "uncertainty", "probability"):
        found, wanted = lazy[name], getattr(eager, name)
        assert found.dims == wanted.dims
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found.values, wanted.values, err_msg=name)
        assert found.attrs == wanted.attrs


BANDS = tuple(
    BandInput(name=name, common_name=name, min_nm=low, max_nm=high)
    for name, low, high in (("blue", 459, 525), ("green", 541, 577), ("red", 649, 680), ("nir", 780, 886))
)


def convolution() -> onnx.ModelProto:
    """Four bands in fixed order, one 3 x 3 convolution to the logits."""
    kernel = np.random.default_rng(2).normal(0, 0.6, (len(SEVEN), 4, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["logits"], pads=[1] * 4)],
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(SEVEN), "h", "w"])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CHUNKS = [{"y": -1, "x": -1}, {"y": 100, "x": 77}, {"y": 31, "x": 330}, {"band": 1, "y": 256, "x": 256}]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_equal_to_the_eager_result_for_any_chunks(chunks: dict[str, int], tiny: Path) -> None:  # noqa: F811
    array = image()
    eager = unclouded.mask(array, SMALL, model=str(tiny), level="toa")
    lazy = unclouded.mask(array.chunk(chunks), SMALL, model=str(tiny), level="toa", probability=True)
    assert isinstance(lazy, xarray.Dataset)
    assert all(lazy[name].chunks is not None for name in lazy.data_vars)
    same(lazy.compute(scheduler="threads", num_workers=3), eager)
    np.testing.assert_array_equal(lazy.x, array.x)


@pytest.mark.parametrize(
    ("step", "resolution_m"), [(10.0, None), (10.0, 30.0), (10.0, 60.0), (20.0, 20.0), (20.0, 70.0), (15.0, None)]
)
def test_equal_on_other_grids(step: float, resolution_m: float | None, tiny: Path) -> None:  # noqa: F811
    array = image(step=step)
    settings: dict[str, Any] = {"model": str(tiny), "level": "toa", "resolution_m": resolution_m}
    lazy = unclouded.mask(array.chunk({"y": 90, "x": 101}), SMALL, **settings, probability=True)
    same(lazy.compute(scheduler="sync"), unclouded.mask(array, SMALL, **settings))


@pytest.mark.parametrize(
    "card",
    [
        {"tile": 128},
        {
            "front_end": "bands",
            "bands": BANDS,
            "scaling": Scaling(mode="percentile", scope="scene"),
            "graph": convolution(),
        },
        {"front_end": "senseiv2", "percentiles": True},
        {"grid_m": 10.0},
    ],
    ids=["windows of one size", "scaled by the scene", "told percentiles", "fine"],
)
def test_equal_for_models_of_every_kind(card: dict[str, Any], make_model: Callable[..., Path]) -> None:  # noqa: F811
    model = str(make_model(**card))
    array = image()
    lazy = unclouded.mask(array.chunk({"y": 64, "x": 200}), SMALL, model=model, level="toa", probability=True)
    same(lazy.compute(scheduler="sync"), unclouded.mask(array, SMALL, model=model, level="toa"))


def test_equal_with_the_default_model() -> None:
    array = image(200, 230)
    settings: dict[str, Any] = {"level": "toa", "threads": 1}
    lazy = unclouded.mask(array.chunk({"y": 70, "x": 70}), SMALL, **settings, probability=True)
    same(lazy.compute(scheduler="sync"), unclouded.mask(array, SMALL, **settings))


def test_every_date_of_a_cube(tiny: Path) -> None:  # noqa: F811
    cube = image(dates=3)
    lazy = unclouded.mask(
        cube.chunk({"time": 1, "y": 150}), SMALL, model=str(tiny), level="toa", probability=True
    )  # fmt: skip
    assert lazy.classes.dims == ("time", "y", "x")
    np.testing.assert_array_equal(lazy.time, cube.time)
    found = lazy.compute(scheduler="sync")
    for number in range(3):
        eager = unclouded.mask(cube.isel(time=number), SMALL, model=str(tiny), level="toa")
        same(found.isel(time=number), eager)
    assert unclouded.mask(cube[:1].chunk(), SMALL, model=str(tiny), level="toa").classes.dims == ("time", "y", "x")


def test_counts_in_a_dataset(tiny: Path) -> None:  # noqa: F811
    counts = (image().fillna(0) * 10_000).astype(np.uint16).to_dataset(dim="band").assign_attrs(crs="EPSG:32633")
    settings: dict[str, Any] = {"model": str(tiny), "level": "toa", "scale": 1e-4, "offset": 0.0, "nodata": 0}
    lazy = unclouded.mask(counts.chunk({"y": 111}), SMALL, **settings, probability=True)
    same(lazy.compute(scheduler="sync"), unclouded.mask(counts, SMALL, **settings))
    assert (lazy.classes.values == 255).any()


def _never(*args: Any, **kwargs: Any) -> np.ndarray:
    raise AssertionError("computed too early, or too much")


def test_nothing_is_computed_before_it_is_asked_for(tiny: Path) -> None:  # noqa: F811
    array = image()
    trap = dask.array.map_blocks(_never, dtype=np.float32, chunks=((4,), (100, 100, 90), (330,)))
    unclouded.mask(array.copy(data=trap), SMALL, model=str(tiny), level="toa")


def test_a_window_needs_only_the_chunks_around_it(tiny: Path) -> None:  # noqa: F811
    array = image()
    whole = dask.array.from_array(array.values, chunks=(4, 58, 66))
    trap = dask.array.map_blocks(_never, dtype=np.float32, chunks=((4,), (58,), (66,)))
    blocks = [[whole.blocks[0, i, j] if i < 4 and j < 4 else trap for j in range(5)] for i in range(5)]
    mixed = array.copy(data=dask.array.block(blocks))
    found = unclouded.mask(mixed, SMALL, model=str(tiny), level="toa").classes[:30, :40].compute(scheduler="sync")
    eager = unclouded.mask(array, SMALL, model=str(tiny), level="toa").classes
    np.testing.assert_array_equal(found, eager[:30, :40])


def test_the_graph_is_small_and_holds_no_weights() -> None:
    array = image(600, 600).chunk({"y": 300, "x": 300})
    lazy = unclouded.mask(array, tile=256, halo=32, level="toa")
    blocks = lazy.classes.data.npartitions
    assert blocks == 16
    graph = dict(dask.optimize(lazy)[0].__dask_graph__())
    assert len(graph) <= 12 * blocks
    pixels = array.nbytes
    assert len(pickle.dumps(graph)) < pixels + 1_000_000, "the weights are 7 MB"


def test_counts_without_scale_are_refused_at_once(tiny: Path) -> None:  # noqa: F811
    counts = (image().fillna(0) * 10_000).astype(np.uint16).chunk()
    with pytest.raises(RadiometryError):
        unclouded.mask(counts, model=str(tiny), level="toa")


def test_decimal_counts_are_refused_when_they_are_computed(tiny: Path) -> None:  # noqa: F811
    lazy = unclouded.mask((image() * 10_000).chunk(), SMALL, model=str(tiny), level="toa")
    with pytest.raises(RadiometryError, match="say their scale"):
        lazy.compute(scheduler="sync")


def test_doubts_are_told_once(tiny: Path) -> None:  # noqa: F811
    with pytest.warns(UncloudedWarning, match="too little") as caught:
        unclouded.mask(image(40, 60, dates=2).chunk(), model=str(tiny), level="toa")
    assert len(caught) == 1


def test_an_array_without_names_is_refused(tiny: Path) -> None:  # noqa: F811
    with pytest.raises(InputError, match="no names"):
        unclouded.mask(image().drop_vars("band").chunk(), model=str(tiny), level="toa")


def test_with_an_output_folder_it_is_written(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    array = image().chunk({"y": 100})
    result = unclouded.mask(array, SMALL, model=str(tiny), level="toa", output=tmp_path)
    np.testing.assert_array_equal(
        result.classes, unclouded.mask(array, SMALL, model=str(tiny), level="toa").classes
    )  # fmt: skip
