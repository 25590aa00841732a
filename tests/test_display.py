"""Plots, notebooks and the xarray accessor."""

from __future__ import annotations

import numpy as np
import pytest
import xarray

import unclouded
import unclouded.accessor
from unclouded.display import paint, png, thinned
from unclouded.errors import InputError


@pytest.fixture(scope="module")
def cube() -> xarray.DataArray:
    values = np.random.default_rng(1).uniform(0.03, 0.08, (4, 160, 192)).astype(np.float32)
    values[:, 20:60, 30:80] = 0.75
    values[:, :10, :10] = np.nan
    return xarray.DataArray(values, {"band": ["blue", "green", "red", "nir"]}, ("band", "y", "x"), "<b>patch</b>")


@pytest.fixture(scope="module")
def result(cube: xarray.DataArray) -> unclouded.Result:
    return unclouded.mask(cube)


def test_the_accessor_is_the_function(cube: xarray.DataArray, result: unclouded.Result) -> None:
    np.testing.assert_array_equal(cube.unclouded.mask().classes, result.classes)
    clear = cube.unclouded.clear()
    seen = result.classes.values == 0
    assert 0 < seen.mean() < 1
    np.testing.assert_array_equal(np.isfinite(clear.values), np.broadcast_to(seen, clear.shape))
    np.testing.assert_array_equal(clear.values[:, seen], cube.values[:, seen])
    with pytest.raises(InputError, match="same pixels"):
        cube.unclouded.clear(resolution_m=20)


def test_plots_show_the_values(result: unclouded.Result) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    ax = result.plot()
    shown = ax.images[0]
    np.testing.assert_array_equal(shown.get_array(), paint(result.classes.values))
    titles = [text.get_text().split()[0] for text in ax.get_legend().get_texts()]
    assert titles == ["Clear", "Thick", "Thin", "Cloud", "No"]
    other = result.plot("uncertainty", ax=pyplot.subplots()[1])
    np.testing.assert_array_equal(other.images[0].get_array().filled(np.nan), result.uncertainty.values)
    with pytest.raises(InputError, match="'colour'"):
        result.plot("colour")
    pyplot.close("all")


def test_notebooks_show_the_classes_and_no_foreign_markup(result: unclouded.Result) -> None:
    page = result._repr_html_()
    assert "<b>patch" not in page
    assert "Thick cloud" in page
    assert f"{100 * result.counts[1] / (160 * 192 - result.counts[255]):.1f} %" in page
    assert "data:image/png;base64," in page


def test_pictures_keep_codes(result: unclouded.Result) -> None:
    import rasterio

    codes = result.classes.values
    with rasterio.MemoryFile(png(paint(codes))) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), paint(codes))
    assert set(np.unique(thinned(codes, 20))) <= set(np.unique(codes))
