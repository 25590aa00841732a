"""xarray objects, HLS folders, Sentinel-1 and elevation on an optical grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.errors import InputError, RadiometryError
from unclouded.readers import open_scene
from unclouded.readers.aligned import open_aligned

from .fakes_products import CRS, ULX, ULY, make_tif

GRID = GeoBox((30, 40), Affine(10, 0, ULX, 0, -10, ULY), CRS)


COORDS: dict[str, Any] = {
    "y": ULY - 10 * (np.arange(30) + 0.5),
    "x": ULX + 10 * (np.arange(40) + 0.5),
    "spatial_ref": ((), 0, {"crs_wkt": GRID.crs.to_wkt()}),
}


def array(values: np.ndarray, names: list[str], **attrs: Any) -> xr.DataArray:
    return xr.DataArray(values, dims=("band", "y", "x"), coords={"band": names, **COORDS}, attrs=attrs)


def reflectance(bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.02, 0.5, (bands, 30, 40)).astype(np.float32)


def test_array_of_reflectance() -> None:
    data = reflectance()
    data[0, 2, 3] = np.nan
    scene = open_scene(array(data, ["red", "nir", "swir16"]), level="toa")
    assert [band.common_name for band in scene.bands] == ["red", "nir", "swir16"]
    assert (scene.level, scene.resolution_m, scene.geobox) == ("toa", 10, GRID)
    assert np.array_equal(scene.read(scene.geobox), data, equal_nan=True)
    assert np.isnan(scene.read(scene.grid(20))[0, 1, 1])
    assert scene.describe()["bands"][0]["radiometry"] == "dtype-float"


def test_dataset_of_counts_with_attributes() -> None:
    counts = (reflectance() * 10000).astype(np.uint16)
    counts[1, 0, 0] = 0
    planes = {}
    for name, plane in zip(["B02", "B04", "B8A"], counts, strict=True):
        planes[name] = xr.DataArray(
            plane, dims=("y", "x"), coords=COORDS, attrs={"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 0}
        )
    scene = open_scene(xr.Dataset(planes), sensor="sentinel2-l2a")
    assert {(record.scale, record.offset, record.source) for record in scene.radiometry.values()} == {
        (1e-4, -0.1, "array")
    }
    out = scene.read(scene.geobox)
    assert np.isnan(out[1, 0, 0])
    assert out[0, 3, 3] == pytest.approx(counts[0, 3, 3] * 1e-4 - 0.1, abs=1e-6)


def test_counts_without_a_scale_are_refused() -> None:
    counts = (reflectance() * 10000).astype(np.uint16)
    with pytest.raises(RadiometryError, match="'red'"):
        open_scene(array(counts, ["red", "nir", "swir16"]))
    with pytest.raises(RadiometryError, match="decimal numbers") as caught:
        open_scene(array(counts.astype(np.float32), ["red", "nir", "swir16"]))
    assert "scale=0.0001" in caught.value.remedy
    scene = open_scene(array(counts, ["red", "nir", "swir16"]), scale=1e-4, offset=0.0, nodata=0)
    assert scene.radiometry["red"].source == "user"


def test_a_scale_of_reflectance_does_not_make_kelvin() -> None:
    counts = xr.Dataset({name: (("y", "x"), np.full((9, 9), 3000, np.uint16)) for name in ("red", "nir", "lwir11")})
    with pytest.raises(RadiometryError, match="kelvin"):
        open_scene(counts, scale=1e-4, offset=0.0)
    counts["lwir11"] = counts["lwir11"].assign_attrs(scale_factor=0.1)
    scene = open_scene(counts, scale=1e-4, offset=0.0)
    assert scene.read(scene.geobox)[:, 0, 0] == pytest.approx([0.3, 0.3, 300])


def test_bands_can_be_renamed_and_chosen() -> None:
    source = array(reflectance(), ["a", "b", "c"])
    with pytest.raises(InputError, match="'a'"):
        open_scene(source)
    assert [band.name for band in open_scene(source, bands=["red", "nir", "blue"]).bands] == ["red", "nir", "blue"]
    scene = open_scene(source, bands={"nir": 3, "red": 1})
    assert np.array_equal(scene.read(scene.geobox, ["nir"])[0], source.values[2])
    named = array(reflectance(), ["red", "nir", "blue"])
    assert [band.name for band in open_scene(named, bands=["blue", "red"]).bands] == ["blue", "red"]


def test_one_date_is_taken_and_several_are_refused() -> None:
    source = array(reflectance(), ["red", "nir", "blue"]).expand_dims(time=np.array(["2024-06-01T10:10:31"], "M8[ns]"))
    assert open_scene(source).datetime == "2024-06-01T10:10:31Z"
    with pytest.raises(InputError, match="2 dates"):
        open_scene(xr.concat([source, source], "time"))
    for axis in ("t", "timestamp"):  # openEO, Earth Engine
        other = source.rename(time=axis)
        assert open_scene(other).datetime == "2024-06-01T10:10:31Z"
        for several in (xr.concat([other, other], axis), xr.concat([other, other], axis).to_dataset("band")):
            with pytest.raises(InputError, match="2 dates") as caught:
                open_scene(several)
            assert f"isel({axis}=0)" in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (xr.DataArray(np.zeros((2, 3))), "axes"),
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x")), "no names"),
        (xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), coords={"band": ["red", "red"]}), "red, red"),
        (xr.Dataset(), "variables"),
        (xr.Dataset({"red": (("y", "x"), np.zeros((2, 3))), "nir": (("y2", "x2"), np.zeros((4, 5)))}), "one size"),
    ],
)
def test_arrays_that_cannot_be_a_scene(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_scene(source)
    assert caught.value.remedy


def test_uneven_coordinates_are_refused() -> None:
    source = array(reflectance(), ["red", "nir", "blue"])
    with pytest.raises(InputError, match="not evenly spaced"):
        open_scene(source.assign_coords(x=np.cumsum(np.arange(40.0))))


def test_degrees_and_rows_from_south_to_north() -> None:
    coords: dict[str, Any] = {"latitude": 50 + 0.001 * np.arange(30), "longitude": 10 + 0.001 * np.arange(40)}
    source = xr.DataArray(
        reflectance(), dims=("band", "latitude", "longitude"), coords={"band": ["red", "nir", "blue"], **coords}
    )
    scene = open_scene(source)
    assert scene.geobox.crs.epsg == 4326
    assert scene.resolution_m == pytest.approx(89.3, abs=0.1)
    assert np.array_equal(scene.read(scene.geobox), source.values)


def test_an_array_without_coordinates_has_a_pixel_grid() -> None:
    source = xr.DataArray(reflectance(), dims=("band", "y", "x"), coords={"band": ["red", "nir", "blue"]})
    scene = open_scene(source, resolution_m=30)
    assert scene.geobox.crs is None
    assert scene.resolution_m == 30
    assert np.array_equal(scene.read(scene.geobox), source.values)


@pytest.mark.parametrize(("kind", "bands"), [("S30", ["B02", "B8A", "B10"]), ("L30", ["B02", "B05", "B10"])])
def test_hls(tmp_path: Path, kind: str, bands: list[str]) -> None:
    stem = f"HLS.{kind}.T33UUB.2024153T101031.v2.0"
    for band in bands:
        data = np.full((1, 10, 10), 2500, np.int16)
        data[0, 0, 0] = -9999
        make_tif(tmp_path / f"{stem}.{band}.tif", data, pixel_m=30.0, nodata=-9999)
    make_tif(tmp_path / f"{stem}.Fmask.tif", np.zeros((1, 10, 10), np.uint8), pixel_m=30.0)
    scene = open_scene(tmp_path)
    assert (scene.sensor, scene.level, scene.id) == (f"hls-{kind.lower()}", "boa", stem)
    assert scene.datetime == "2024-06-01T10:10:31Z"
    out = scene.read(scene.geobox)
    assert np.isnan(out[:, 0, 0]).all()
    assert out[:, 5, 5] == pytest.approx([0.25, 0.25, 298.15 if kind == "L30" else 0.25])
    with pytest.raises(InputError, match="sensor was given"):
        open_scene(tmp_path, sensor="sentinel2-l2a")
    make_tif(tmp_path / f"{stem.replace('T33UUB', 'T33UVB')}.B02.tif", data, pixel_m=30.0)
    with pytest.raises(InputError, match="2 HLS products"):
        open_scene(tmp_path)


def test_elevation_is_laid_on_the_optical_grid(tmp_path: Path) -> None:
    # A plane in UTM zone 33, stored in zone 34: warping back has to give the plane.
    from rasterio.warp import calculate_default_transform, reproject

    y, x = np.mgrid[0:80, 0:80]
    plane = (x * 3 + y * 2 + 100).astype(np.float32)
    wide = Affine(20, 0, ULX - 400, 0, -20, ULY + 400)
    affine, width, height = calculate_default_transform(
        CRS, "EPSG:32634", 80, 80, ULX - 400, ULY - 1200, ULX + 1200, ULY + 400
    )
    turned = np.full((height, width), -9999, np.float32)
    reproject(
        plane, turned, src_transform=wide, src_crs=CRS, dst_transform=affine, dst_crs="EPSG:32634", dst_nodata=-9999
    )
    path = make_tif(tmp_path / "dem.tif", turned[None], crs="EPSG:32634", nodata=-9999, transform=affine)
    scene = open_aligned(path, GRID, sensor="dem")
    assert (scene.sensor, scene.level, scene.geobox) == ("dem", "elevation", GRID)
    out = scene.read(GRID)[0]
    rows, cols = np.mgrid[0:30, 0:40]
    expected = ((cols + 0.5) / 2 + 20 - 0.5) * 3 + ((rows + 0.5) / 2 + 20 - 0.5) * 2 + 100
    assert np.abs(out - expected).max() < 3.0
    strips = [scene.read(GRID[first : min(first + 7, 30), :])[0] for first in range(0, 30, 7)]
    assert np.concatenate(strips) == pytest.approx(out, abs=1e-3)
    far = GeoBox((5, 5), Affine(10, 0, ULX + 1e5, 0, -10, ULY), CRS)
    assert np.isnan(scene.read(far)).all()


def test_backscatter_in_decibel_and_as_power(tmp_path: Path) -> None:
    decibel = np.random.default_rng(0).uniform(-22, -8, (2, 30, 40)).astype(np.float32)
    first = make_tif(tmp_path / "db.tif", decibel, descriptions=["VV", "VH"])
    scene = open_aligned(first, GRID, sensor="sentinel1-grd")
    assert [band.name for band in scene.bands] == ["vv", "vh"]
    assert scene.level == "backscatter"
    assert scene.read(GRID) == pytest.approx(decibel, abs=1e-4)
    power = make_tif(tmp_path / "power.tif", (10 ** (decibel / 10)).astype(np.float32))
    with pytest.raises(RadiometryError, match="median") as caught:
        open_aligned(power, GRID, sensor="sentinel1-grd")
    assert 'unit="power"' in caught.value.remedy
    out = open_aligned(power, GRID, sensor="sentinel1-grd", unit="power").read(GRID)
    assert out == pytest.approx(decibel, abs=1e-3)
    with pytest.raises(RadiometryError, match="positive"):
        open_aligned(first, GRID, sensor="sentinel1-grd", unit="power")


def test_bands_and_grids_that_do_not_fit(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", np.full((2, 10, 10), -10, np.float32))
    for bands in ({"vv": 3}, {"hh": 1}, {}):
        with pytest.raises(InputError, match="are named"):
            open_aligned(path, GRID, sensor="sentinel1-grd", bands=bands)
    bare = make_tif(tmp_path / "b.tif", np.full((1, 10, 10), -10, np.float32), crs=None)
    with pytest.raises(InputError, match="no reference system"):
        open_aligned(bare, GRID, sensor="dem")
    with pytest.raises(InputError, match="no reference system"):
        open_aligned(path, GeoBox((3, 3), Affine.identity(), None), sensor="sentinel1-grd")


def test_real_elevation_on_a_real_scene(shared_data: Path) -> None:
    folder = shared_data / "landsat" / "LT52240631988227CUB02"
    scene = open_scene(folder)
    heights = open_aligned(folder / "dem_srtm.tif", scene, sensor="dem").read(scene.geobox)[0]
    assert heights.shape == scene.geobox.shape
    assert 0 < np.nanmedian(heights) < 500
