"""Saturated pixels are kept, never missing, and counted: in what info says, and in the record of the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unclouded
from unclouded.readers import open_scene
from unclouded.saturation import Tally, sampled_percent
from unclouded.scene import Radiometry

from .fakes_command import records, run
from .fakes_products import make_counts, make_safe, make_tif

BANDS = ("blue", "green", "red", "nir")


def planet(folder: Path, saturated: int = 1024) -> Path:
    """A surface reflectance image of 4 bands at 30 m, some pixels of red saturated and some missing."""
    counts = np.random.default_rng(0).integers(300, 4000, (4, 128, 128)).astype(np.uint16)
    counts[:, :32] = 0
    counts[2, 64 : 64 + saturated // 128] = 65535
    return make_tif(folder / "20220601_101031_22_2455_3B_AnalyticMS_SR.tif", counts, pixel_m=30.0)


def test_info_reports_them(tmp_path: Path) -> None:
    path = planet(tmp_path)
    told, _ = records(run("info", path, "--json"))
    assert {band["name"]: band["saturated"] for band in told["bands"]} == dict.fromkeys(BANDS, 65535)
    # All 128 x 128 pixels are within the windows: 1024 of 96 x 128 with data.
    percent = {band["name"]: band["saturated_percent"] for band in told["bands"]}
    assert percent == {"blue": 0, "green": 0, "red": pytest.approx(100 * 1024 / (96 * 128), abs=1e-4), "nir": 0}
    assert "saturated_percent" in run("info", path).stdout


def test_the_result_reports_them_and_they_are_not_missing(tmp_path: Path) -> None:
    result = unclouded.mask(planet(tmp_path), output=tmp_path / "out")
    records = result.item.properties["unclouded:radiometry"]
    assert records["red"]["saturated_percent"] == pytest.approx(100 * 1024 / (96 * 128), abs=1e-4)
    assert records["blue"]["saturated_percent"] == 0
    assert result.counts[255] == 32 * 128
    assert (result.classes.values[64:72] != 255).all()
    memory = unclouded.mask(planet(tmp_path))
    assert memory.item.properties["unclouded:radiometry"] == records
    memory.save(tmp_path / "saved")
    assert memory.item.properties["unclouded:radiometry"] == records


def test_tiles_and_threads_count_every_pixel_once(tmp_path: Path) -> None:
    path = planet(tmp_path)
    one = unclouded.mask(path, tile=128, halo=32).item.properties["unclouded:radiometry"]
    two = unclouded.mask(path, tile=256, halo=64).item.properties["unclouded:radiometry"]
    assert one == two


def test_sentinel2_at_the_models_pixel_size(tmp_path: Path) -> None:
    counts = make_counts(2400)
    for name, size in (("B04", 240), ("B11", 120)):
        counts[name][size // 2 :, : size // 4] = 65535  # an eighth, on whole pixels of 20 m
    product = make_safe(tmp_path, counts=counts)
    scene = open_scene(product)
    assert sampled_percent(scene.sources["B11"], scene.radiometry["B11"]) == 12.5
    result = unclouded.mask(product)
    records = result.item.properties["unclouded:radiometry"]
    # B04 is read from the JPEG 2000 level of 20 m, whose filter blurs the edge; B11 as it is.
    assert records["B11"]["saturated_percent"] == 12.5
    assert 10.5 < records["B04"]["saturated_percent"] <= 12.5
    assert records["B02"]["saturated_percent"] == 0


def test_where_saturation_is_not_known_nothing_is_said(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(0.02, 0.5, (4, 128, 128)).astype(np.float32)
    path = make_tif(tmp_path / "reflectance.tif", data, descriptions=BANDS, pixel_m=30.0)
    scene = open_scene(path)
    assert {record.saturated for record in scene.radiometry.values()} == {None}
    assert sampled_percent(scene.sources["red"], scene.radiometry["red"]) is None
    item = unclouded.mask(path).item
    assert all("saturated_percent" not in one for one in item.properties["unclouded:radiometry"].values())
    # Decimal numbers are no longer the counts that the sensor's value is about.
    floats = open_scene(make_tif(tmp_path / "toa.tif", data), sensor="planetscope-4b")
    assert {record.saturated for record in floats.radiometry.values()} == {None}


def test_a_tally_of_means_counts_only_what_is_wholly_saturated() -> None:
    tally = Tally({"red": Radiometry(1e-4, -0.1, 0, "user", saturated=65535), "nir": Radiometry(1, 0, None, "user")})
    limit = np.float32(65535) * np.float32(1e-4) - np.float32(0.1)
    tally.add(["red", "nir"], np.float32([[[limit, limit * (1 - 1e-7), 0.9 * limit, np.nan]], [[1, 2, 3, 4]]]))
    tally.add(["red"], np.float32([[[0.1, 0.2]]]))
    assert tally.percent() == {"red": 40.0}
    assert Tally({}).percent() == {}


def test_real_product(shared_data: Path) -> None:
    scene = open_scene(next((shared_data / "safe_s2_l2a_60m").glob("*.SAFE")))
    assert {record.saturated for record in scene.radiometry.values()} == {65535}
    percent = sampled_percent(scene.sources["B02"], scene.radiometry["B02"])
    assert percent is not None
    assert 0 <= percent < 1
