"""Scenes from arrays: coarser grids, missing pixels, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.errors import InputError, RadiometryError, UncloudedError
from unclouded.infer.arrays import ArrayBand, array_scene
from unclouded.infer.plan import coarser
from unclouded.scene import Radiometry
from unclouded.sensors import resolve_bands

PLAIN = Radiometry(1.0, 0.0, None, "array")


def grid(rows: int, cols: int) -> GeoBox:
    return GeoBox((rows, cols), Affine(10, 0, 0, 0, -10, 0), None)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.data())
def test_windows_of_coarser_grids_are_block_means(rows: int, cols: int, factor: int, data: st.DataObject) -> None:
    values = np.random.default_rng(rows).random((rows, cols))
    values[np.random.default_rng(cols).random((rows, cols)) < 0.02] = np.nan
    band = ArrayBand(values, grid(rows, cols))
    whole = coarser(band.grid, factor)
    high = data.draw(st.integers(1, whole.shape.y))
    low = data.draw(st.integers(0, high - 1))
    found = band.read(whole[low:high, :], PLAIN)
    padded = np.pad(values, ((0, -rows % factor), (0, -cols % factor)), mode="edge")
    expected = padded.reshape(whole.shape.y, factor, whole.shape.x, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(found, expected[low:high], rtol=1e-5)


def test_beyond_the_array_there_is_nothing() -> None:
    band = ArrayBand(np.ones((4, 5)), grid(4, 5))
    wide = GeoBox((8, 9), Affine(10, 0, -20, 0, -10, 20), None)
    found = band.read(wide, PLAIN)
    expected = np.full((8, 9), np.nan)
    expected[2:6, 2:7] = 1
    np.testing.assert_array_equal(found, expected)


def test_radiometry_is_applied_after_masking() -> None:
    band = ArrayBand(np.array([[-9999.0, 2000.0, np.inf]]), grid(1, 3))
    found = band.read(band.grid, Radiometry(1e-4, -0.1, -9999, "user"))
    np.testing.assert_allclose(found, [[np.nan, 0.1, np.nan]], rtol=1e-5)


@pytest.mark.parametrize(
    "affine", [Affine(15, 0, 0, 0, -15, 0), Affine(10, 0, 4, 0, -10, 0), Affine(5, 0, 0, 0, -5, 0)]
)
def test_other_grids_are_refused(affine: Affine) -> None:
    with pytest.raises(InputError, match="own grid"):
        ArrayBand(np.ones((4, 5)), grid(4, 5)).read(GeoBox((2, 2), affine, None), PLAIN)


GOOD = np.full((3, 8, 9), 0.2, np.float32)


@pytest.mark.parametrize(
    ("image", "kind", "told"),
    [
        ((GOOD * 10000).astype(np.uint16), RadiometryError, "uint16"),
        (GOOD > 0, RadiometryError, "bool"),
        (GOOD * 10000, RadiometryError, "from 2000 to 2000"),
        (np.where(np.arange(9) < 4, np.float32(-9999), GOOD), RadiometryError, "nodata=-9999"),
        (GOOD.astype(complex), InputError, "complex"),
        (GOOD[0], InputError, "(8, 9)"),
        (GOOD[:, :0], InputError, "(3, 0, 9)"),
        (np.moveaxis(GOOD, 0, -1), InputError, "np.moveaxis"),
        (GOOD[:2], InputError, "3 bands are named"),
    ],
    ids=["counts", "bool", "decimal-counts", "nodata", "complex", "plane", "empty", "bands-last", "too-few"],
)
def test_refused(image: np.ndarray, kind: type[UncloudedError], told: str) -> None:
    bands = resolve_bands(["blue", "green", "red"])
    with pytest.raises(kind) as caught:
        array_scene(image, bands, sensor="generic", level="toa", resolution_m=10, nodata=None)
    assert told in str(caught.value)
    assert all((caught.value.found, caught.value.expected, caught.value.remedy))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_accepted(dtype: str) -> None:
    bands = resolve_bands(["blue", "green", "red"])
    image = GOOD.astype(dtype)
    image[1, 2, 3] = -9999
    scene = array_scene(image, bands, sensor="generic", level="toa", resolution_m=10, nodata=float(image[1, 2, 3]))
    found = scene.read(scene.geobox, ["green", "red"])
    assert found.dtype == np.float32
    assert np.isnan(found[0, 2, 3])
    assert np.isnan(found).sum() == 1
    masked = np.ma.masked_greater(GOOD.copy(), 0.1)
    empty = array_scene(masked, bands, sensor="generic", level="toa", resolution_m=10, nodata=None)
    assert np.isnan(empty.read(empty.geobox)).all()
