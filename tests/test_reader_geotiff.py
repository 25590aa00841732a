"""Any raster: who names the bands, who says the scale, and what is refused rather than guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from unclouded.errors import InputError, RadiometryError, RadiometryWarning, UncloudedError, UncloudedWarning
from unclouded.readers import open_scene
from unclouded.scene import Scene

from .fakes_products import CRS, make_tif


def counts(bands: int, dtype: str = "uint16", high: int = 8000) -> np.ndarray:
    return np.random.default_rng(0).integers(100, high, (bands, 40, 50)).astype(dtype)


def refused(error: type[UncloudedError], path: Path, **options: Any) -> UncloudedError:
    with pytest.raises(error) as caught:
        open_scene(path, **options)
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.remedy
    return caught.value


def radiometry(scene: Scene) -> set[tuple[float, float, str]]:
    return {(record.scale, record.offset, record.source) for record in scene.radiometry.values()}


def test_numbered_bands_and_the_users_scale(tmp_path: Path) -> None:
    data = counts(4)
    path = make_tif(tmp_path / "a.tif", data)
    scene = open_scene(path, bands={"nir": 4, "red": 1}, scale=1e-4, offset=-0.1, nodata=500, level="toa")
    assert [band.name for band in scene.bands] == ["nir", "red"]
    assert scene.sensor == "generic"
    assert scene.level == "toa"
    assert radiometry(scene) == {(1e-4, -0.1, "user")}
    out = scene.read(scene.geobox)
    assert out[0][data[3] != 500] == pytest.approx(data[3][data[3] != 500] * 1e-4 - 0.1, abs=1e-6)
    assert np.array_equal(np.isnan(out[1]), data[0] == 500)


def test_names_in_the_files_order(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(3), scales=[1e-4] * 3, offsets=[0.0] * 3)
    assert [band.common_name for band in open_scene(path, bands=["blue", "green", "nir"]).bands] == [
        "blue",
        "green",
        "nir",
    ]
    assert "2 band names" in refused(InputError, path, bands=["blue", "green"]).found


def test_descriptions_name_the_bands(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(3), descriptions=["Green", "mask", "SWIR16"])
    scene = open_scene(path, scale=1e-4)
    assert [(band.name, band.gsd_m) for band in scene.bands] == [("green", 10), ("swir16", 10)]
    path = make_tif(tmp_path / "b.tif", counts(2), descriptions=["B8A", "B02"])
    assert [band.name for band in open_scene(path, sensor="sentinel2-l2a", scale=1e-4).bands] == ["B8A", "B02"]


def test_a_sensor_names_bands_and_fixes_the_scale(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(8) + np.uint16(7000), nodata=None)
    scene = open_scene(path, sensor="landsat-oli-c2-l2")
    assert scene.level == "boa"
    assert [band.name for band in scene.bands][:2] == ["SR_B1", "SR_B2"]
    assert scene.radiometry["SR_B1"].scale == 2.75e-5
    assert scene.radiometry["SR_B1"].source == "sensor"
    assert scene.radiometry["SR_B1"].nodata == 0
    assert scene.radiometry["ST_B10"].offset == 149.0
    assert "has 8 bands" in refused(InputError, path, sensor="sentinel2-l1c", scale=1e-4).found


def test_tags_of_the_file_say_the_scale(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(2), scales=[1e-4, 2e-4], offsets=[0.0, -0.1], nodata=0)
    scene = open_scene(path, bands=["red", "nir"])
    assert radiometry(scene) == {(1e-4, 0.0, "file"), (2e-4, -0.1, "file")}
    assert open_scene(path, bands=["red", "nir"], scale=5e-5, offset=0.0).radiometry["red"].source == "user"
    error = refused(RadiometryError, path, bands=["red", "nir"], scale=5e-5)
    assert "the product has the offset -0.1" in error.found


def test_integers_of_unknown_scale_are_refused(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(3))
    error = refused(RadiometryError, path, bands=["red", "green", "blue"])
    assert "--scale" in error.remedy
    assert "--sensor" in error.remedy
    assert error.exit_code == 4
    refused(RadiometryError, path, bands=["red", "green", "blue"], offset=-0.1)
    refused(RadiometryError, path, bands=["red", "green", "blue"], sensor="generic-rgb")


def test_decimal_reflectance_is_taken_as_it_is(tmp_path: Path) -> None:
    data = counts(2).astype(np.float32) / 10000
    data[0, 3, 4], data[1, 5, 6] = np.nan, np.inf
    scene = open_scene(make_tif(tmp_path / "a.tif", data), bands=["red", "nir"])
    assert radiometry(scene) == {(1.0, 0.0, "dtype-float")}
    assert scene.level == "unknown"
    out = scene.read(scene.geobox)
    assert np.argwhere(np.isnan(out)).tolist() == [[0, 3, 4], [1, 5, 6]]


@pytest.mark.parametrize("factor", [1.0, 255.0 / 8000])
def test_decimal_counts_are_refused(tmp_path: Path, factor: float) -> None:
    path = make_tif(tmp_path / "a.tif", counts(2).astype(np.float32) * np.float32(factor))
    assert "--scale" in refused(RadiometryError, path, bands=["red", "nir"]).remedy
    assert radiometry(open_scene(path, bands=["red", "nir"], scale=1e-4)) == {(1e-4, 0.0, "user")}


def test_an_undeclared_missing_value_in_decimal_data_is_refused(tmp_path: Path) -> None:
    data = counts(2).astype(np.float32) / 10000
    data[:, :10] = -9999
    path = make_tif(tmp_path / "a.tif", data)
    assert "--nodata -9999" in refused(RadiometryError, path, bands=["red", "nir"]).remedy
    assert np.isnan(
        open_scene(path, bands=["red", "nir"], nodata=-9999).read(
            open_scene(path, bands=["red", "nir"], nodata=-9999).geobox
        )[:, :10]
    ).all()


def test_a_picture_of_8_bits_is_marked_as_uncalibrated(tmp_path: Path) -> None:
    data = counts(3, "uint8", 255)
    path = make_tif(tmp_path / "a.tif", data, photometric="RGB")
    with pytest.warns(RadiometryWarning, match="not calibrated"):
        scene = open_scene(path)
    assert [band.common_name for band in scene.bands] == ["red", "green", "blue"]
    assert scene.level == "counts"
    assert not scene.describe()["calibrated"]
    assert len(scene.warnings) == 1
    assert scene.read(scene.geobox)[0] == pytest.approx(data[0] / 255, abs=1e-6)
    assert open_scene(path, scale=0.004, offset=0.0).describe()["calibrated"]


def test_transparent_pixels_are_missing(tmp_path: Path) -> None:
    data = counts(4, "uint8", 255)
    data[3] = 255
    data[3, 7] = 0
    path = make_tif(tmp_path / "a.tif", data, photometric="RGB", alpha="YES")
    with pytest.warns(RadiometryWarning):
        scene = open_scene(path)
    assert len(scene.bands) == 3
    assert np.array_equal(np.isnan(scene.read(scene.geobox)).all(axis=(0, 2)), np.arange(40) == 7)


def test_without_georeference_the_pixel_size_is_asked_for_or_assumed(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(2), crs=None)
    options: dict[str, Any] = {"bands": ["red", "nir"], "scale": 1e-4}
    with pytest.warns(UncloudedWarning, match="10 m is assumed"):
        scene = open_scene(path, **options)
    assert scene.resolution_m == 10
    scene = open_scene(path, resolution_m=5, **options)
    assert scene.geobox.crs is None
    assert scene.resolution_m == 5
    assert scene.describe()["crs"] is None
    assert scene.grid(20).shape == (10, 13)
    assert scene.read(scene.grid(20)).shape == (2, 10, 13)
    assert np.isfinite(scene.read(scene.grid(20))).all()


def test_degrees_become_metres(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "a.tif", counts(2), crs="EPSG:4326", pixel_m=0.0001)
    from affine import Affine

    path = make_tif(tmp_path / "b.tif", counts(2), crs="EPSG:4326", transform=Affine(0.001, 0, 10, 0, -0.001, 60))
    scene = open_scene(path, bands=["red", "nir"], scale=1e-4)
    assert scene.resolution_m == pytest.approx(111.32 * np.sqrt(np.cos(np.radians(59.98))), rel=1e-3)
    rows, cols = scene.grid(2 * scene.resolution_m).shape
    assert (rows, cols) == (20, 25)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (None, "Nothing says what the 3 bands"),
        ({"red": 1, "nir": 4}, "Band numbers 1, 4"),
        ({"red": 0}, "Band numbers 0"),
        ({"red": 1, "nir": 1}, "Band numbers 1, 1"),
        ({"red": 1, "RED": 2}, "given twice"),
        ({"ultraviolet": 1}, "not known without a sensor"),
        ([], "No bands are named"),
        ("red,green,blue", "list"),
    ],
)
def test_bands_that_cannot_be_meant(tmp_path: Path, bands: Any, message: str) -> None:
    path = make_tif(tmp_path / "a.tif", counts(3))
    error = refused(InputError, path, bands=bands, scale=1e-4)
    assert message in str(error)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scale": -1.0}, RadiometryError),
        ({"scale": 1e-4, "offset": -1000.0}, RadiometryError),
        ({"scale": 1e-4, "level": "top"}, InputError),
        ({"scale": 1e-4, "sensor": "nosuch"}, InputError),
        ({"scale": 1e-4, "resolution_m": 0.0}, InputError),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: dict[str, Any], error: type[UncloudedError]) -> None:
    refused(error, make_tif(tmp_path / "a.tif", counts(2)), bands=["red", "nir"], **options)


@pytest.mark.parametrize("content", [b"", b"text", b"II*\x00\x08\x00\x00\x00\xff\xff"])
def test_what_is_not_an_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert "a.tif" in refused(InputError, path).found


def test_a_scene_passes_through(tmp_path: Path) -> None:
    scene = open_scene(make_tif(tmp_path / "a.tif", counts(2)), bands=["red", "nir"], scale=1e-4)
    assert open_scene(scene) is scene
    assert str(scene.geobox.crs) == CRS


def test_unknown_bands_of_a_scene_are_named(tmp_path: Path) -> None:
    scene = open_scene(make_tif(tmp_path / "a.tif", counts(2)), bands=["red", "nir"], scale=1e-4)
    with pytest.raises(InputError, match="no band 'blue'"):
        scene.read(scene.geobox, ["blue"])


def test_bands_of_a_stack_stand_in_the_products_order(tmp_path: Path) -> None:
    data = np.repeat(np.arange(1, 8, dtype=np.float32)[:, None, None] / 100, 12, axis=1).repeat(12, axis=2)
    data[5] = 290  # band 6 of TM is thermal, and stands before band 7
    path = make_tif(tmp_path / "LT05_L1TP_193024_20050516_20161127_01_T1.tif", data, pixel_m=30.0)
    scene = open_scene(path)
    assert [band.name for band in scene.bands] == ["B1", "B2", "B3", "B4", "B5", "B6", "B7"]
    assert scene.read(scene.geobox)[:, 0, 0] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05, 290, 0.07])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_scale_of_reflectance_does_not_make_kelvin(tmp_path: Path, dtype: str) -> None:
    path = make_tif(tmp_path / "LT05_L1TP_193024_20050516_20161127_01_T1.tif", counts(7, "uint8", 150), pixel_m=30.0)
    if dtype == "float32":
        with rasterio.open(path) as dataset:
            data = dataset.read().astype(dtype)
        path = make_tif(path, data, pixel_m=30.0)
    refused(RadiometryError, path, scale=0.002, offset=0.0)
    chosen = open_scene(path, scale=0.002, offset=0.0, bands={"B3": 3, "B4": 4})
    assert radiometry(chosen) == {(0.002, 0.0, "user")}
