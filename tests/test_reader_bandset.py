"""Folders with one raster for each band: which file is which band, and who says the scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unclouded
from unclouded.errors import InputError, RadiometryError, RadiometryWarning, UncloudedWarning
from unclouded.readers import open_scene

from .fakes_products import make_tif

USER = {"scale": 1e-4, "offset": 0.0}


def plane(value: int = 3000, size: int = 12, dtype: str = "uint16") -> np.ndarray:
    data = np.full((1, size, size), value, dtype)
    data[0, 0, 0] = 0
    return data


def test_names_tell_bands_and_the_folder_the_sensor(tmp_path: Path) -> None:
    folder = tmp_path / "S2A_MSIL2A_20170613T101031_87_48"
    folder.mkdir()
    for number, (name, size) in enumerate({"B02": 12, "B8A": 6, "B11": 6, "SCL": 6, "B02_20m": 6}.items()):
        make_tif(folder / f"{folder.name}_{name}.tif", plane(1000 * (number + 1), size), pixel_m=120.0 / size)
    with pytest.raises(RadiometryError, match="counts"):
        open_scene(folder)
    scene = open_scene(folder, **USER)
    assert (scene.id, scene.sensor, scene.level) == (folder.name, "sentinel2-l2a", "boa")
    assert [(band.name, band.gsd_m) for band in scene.bands] == [("B02", 10), ("B8A", 20), ("B11", 20)]
    assert scene.geobox.shape == (12, 12)
    assert scene.radiometry["B02"].nodata == 0
    out = scene.read(scene.geobox)
    assert out[:, 8, 8] == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)
    assert np.isnan(out[0, 0, 0])
    assert "B04" in scene.properties["missing_bands"]


def test_common_names_do_without_a_sensor(tmp_path: Path) -> None:
    for name in ("red", "field-nir", "mask"):
        make_tif(tmp_path / f"{name}.tif", plane(), scales=[1e-4], offsets=[-0.1])
    scene = open_scene(tmp_path)
    assert (scene.sensor, scene.level) == ("generic", "unknown")
    assert {band.name for band in scene.bands} == {"red", "nir"}
    assert {(record.offset, record.source) for record in scene.radiometry.values()} == {(-0.1, "file")}
    assert [band.name for band in open_scene(tmp_path, bands=["nir"]).bands] == ["nir"]


def test_long_names_of_bands_and_a_scale_that_the_sensor_fixes(tmp_path: Path) -> None:
    for name in ("SR_B4", "SR_B5", "ST_B10"):
        make_tif(tmp_path / f"scene_{name}.TIF", plane(18639), pixel_m=30.0)
    scene = open_scene(tmp_path, sensor="landsat-oli-c2-l2")
    assert [band.name for band in scene.bands] == ["SR_B4", "SR_B5", "ST_B10"]
    assert scene.read(scene.geobox)[0, 5, 5] == pytest.approx(0.3125725, abs=1e-6)
    assert {record.source for record in scene.radiometry.values()} == {"sensor"}


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ("two-bands", USER, InputError, "has 2 bands"),
        ("elsewhere", USER, InputError, "different ground"),
        ("damaged", USER, InputError, "cannot be read"),
        (None, {**USER, "sensor": "perusat1"}, InputError, "no band of perusat1"),
        (None, {**USER, "bands": ["blue"]}, InputError, "no file for band blue"),
        (None, {**USER, "bands": {"red": 1}}, InputError, "Band numbers"),
        (None, {"offset": 0.0}, RadiometryError, "without a scale"),
    ],
)
def test_folders_that_cannot_be_meant(
    tmp_path: Path, change: str | None, options: dict[str, Any], error: type, message: str
) -> None:
    for name in ("pan2_swir16", "swir22"):
        make_tif(tmp_path / f"{name}.tif", plane())
    if change == "two-bands":
        make_tif(tmp_path / "swir22.tif", np.concatenate([plane(), plane()]))
    elif change == "elsewhere":
        make_tif(tmp_path / "swir22.tif", plane(size=20))
    elif change == "damaged":
        (tmp_path / "swir22.tif").write_bytes(b"II*")
    with pytest.raises(error, match=message) as caught:
        open_scene(tmp_path, **options)
    assert caught.value.expected
    assert caught.value.remedy


def test_pictures_and_bands_without_position(tmp_path: Path) -> None:
    for name in ("red", "green", "blue"):
        make_tif(tmp_path / f"{name}.tif", plane(100, dtype="uint8"), crs=None)
    with pytest.warns(RadiometryWarning, match="not calibrated"), pytest.warns(UncloudedWarning, match="pixel size"):
        scene = open_scene(tmp_path)
    assert (scene.level, scene.resolution_m, len(scene.warnings)) == ("counts", 10, 2)
    with pytest.warns(RadiometryWarning):
        assert open_scene(tmp_path, resolution_m=3).resolution_m == 3


def test_a_folder_without_bands_is_of_no_kind(tmp_path: Path) -> None:
    make_tif(tmp_path / "one.tif", plane())
    make_tif(tmp_path / "two.tif", plane())
    with pytest.raises(InputError, match="no known kind"):
        open_scene(tmp_path)


RADAR = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48"


def test_radar_is_told_by_its_name_and_comes_last(tmp_path: Path) -> None:
    folder = tmp_path / RADAR
    folder.mkdir()
    decibel = np.full((1, 12, 12), -12.5, np.float32)
    for name in ("VV", "VH"):
        make_tif(folder / f"{RADAR}_{name}.tif", decibel)
    scene = open_scene(folder)
    assert (scene.sensor, scene.level, [band.name for band in scene.bands]) == (
        "sentinel1-grd",
        "backscatter",
        ["vv", "vh"],
    )
    assert scene.read(scene.geobox)[0, 0, 0] == -12.5
    with pytest.raises(InputError, match="optical"):
        unclouded.mask(folder)

    # Beside an image, neither radar nor heights say what its bands are.
    for name in ("red", "nir"):
        make_tif(folder / f"{name}.tif", plane().astype(np.float32) * 1e-4)
    mixed = folder.rename(tmp_path / "field_dem")
    make_tif(mixed / "dem_field.tif", plane())
    for path in mixed.glob("S1A*"):
        path.unlink()
    assert [band.name for band in open_scene(mixed).bands] == ["nir", "red"]


@pytest.mark.parametrize(("dtype", "source"), [("int16", "sensor"), ("float32", "dtype-float")])
def test_heights_are_told_by_their_name(tmp_path: Path, dtype: str, source: str) -> None:
    heights = plane(812, dtype=dtype)
    heights[0, 0, 0] = -32768
    scene = open_scene(make_tif(tmp_path / "Copernicus_DSM_COG_10_N52_00_E013_00_DEM.tif", heights))
    (band,) = scene.bands
    assert (scene.sensor, scene.level, band.name) == ("dem", "elevation", "elevation")
    assert scene.radiometry["elevation"].source == source
    out = scene.read(scene.geobox)
    assert np.isnan(out[0, 0, 0])
    assert out[0, 1, 1] == 812


def test_real_folder(shared_data: Path) -> None:
    for folder in sorted((shared_data / "multimodal/bigearthnet_s1s2/BigEarthNet-S2-Example").iterdir()):
        scene = open_scene(folder, **USER)
        assert (scene.sensor, len(scene.bands), scene.resolution_m) == ("sentinel2-l2a", 12, 10)
        assert np.isfinite(scene.read(scene.grid(20))).all()
