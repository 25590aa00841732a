"""Every sensor file of the catalogue keeps the rules, and breaking one is an error that says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclouded import sensors
from unclouded.descriptors import sensei_descriptor, slot_index
from unclouded.errors import InputError


@pytest.mark.parametrize("name", sensors.names())
class TestSensor:
    def test_loads_and_carries_its_name(self, name: str) -> None:
        sensor = sensors.load(name)
        assert sensor.name == name
        assert sensor.title

    def test_examples_are_recognised_as_this_sensor_and_no_other(self, name: str) -> None:
        for example in sensors.load(name).example:
            found = sensors.detect(example)
            assert found is not None
            assert found.name == name

    def test_bands_lie_where_light_is_measured(self, name: str) -> None:
        for band in sensors.load(name).bands:
            assert 0.3 <= band.gsd_m <= 1000
            if band.kind == "optical":
                assert 380 <= band.min_nm < band.max_nm <= 2600
            elif band.kind == "thermal":
                assert 3000 <= band.min_nm < band.max_nm <= 15000

    def test_common_names_agree_with_wavelengths(self, name: str) -> None:
        generic = {
            band: sensors.resolve_bands([band])[0] for band in ("blue", "green", "red", "nir", "swir16", "swir22")
        }
        for band in sensors.load(name).bands:
            if band.common_name in generic:
                typical = generic[band.common_name]
                assert band.min_nm < typical.max_nm
                assert band.max_nm > typical.min_nm

    def test_a_product_is_named_and_says_what_is_missing_and_what_is_saturated(self, name: str) -> None:
        sensor = sensors.load(name)
        light = any(band.kind == "optical" for band in sensor.bands)
        if sensor.radiometry in ("product", "fixed") or not light:
            assert sensor.pattern
            assert sensor.example
        if sensor.radiometry in ("product", "fixed"):
            assert sensor.nodata is not None
        if light and sensor.radiometry != "user" and not name.startswith("hls-"):  # HLS defines none
            assert sensor.saturated is not None
            assert sensor.saturated != sensor.nodata

    def test_models_can_use_it(self, name: str) -> None:
        bands = sensors.load(name).bands
        for band in bands:
            assert sensei_descriptor(band).any()
        if any(band.kind == "optical" for band in bands):
            assert sum(slot_index(band) is not None for band in bands) >= 2

    def test_bands_are_found_by_their_own_names(self, name: str) -> None:
        sensor = sensors.load(name)
        names = [band.name for band in sensor.bands]
        assert sensors.bands_of(name, list(reversed(names))) == tuple(reversed(sensor.bands))


GOOD = """
name = "mine"
title = "Mine"
level = "boa"
radiometry = "fixed"
scale = 0.0001
offset = 0.0
grid_m = 10
pattern = ["MINE_*"]
example = ["MINE_1"]
[[band]]
name = "b1"
common_name = "blue"
min_nm = 450
max_nm = 510
gsd_m = 10
[[band]]
name = "b2"
common_name = "red"
min_nm = 630
max_nm = 690
gsd_m = 10
"""


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert [band.centre_nm for band in sensors.read(path).bands] == [480, 660]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('level = "boa"', 'level = "toaa"', "level"),
        ("scale = 0.0001\n", "", "scale and offset are given exactly when"),
        ('radiometry = "fixed"', 'radiometry = "product"', "scale and offset are given exactly when"),
        ("max_nm = 510", "max_nm = 440", "min_nm has to be below max_nm"),
        ("min_nm = 450\n", "", "need min_nm and max_nm"),
        ('"b2"', '"B1"', "unique"),
        ('common_name = "blue"', 'common_name = "bleu"', "common_names.toml"),
        ('pattern = ["MINE_*"]', 'pattern = ["YOURS_*"]', "matches none of the examples"),
        ("gsd_m = 10\n[[band]]", "gsd_m = -10\n[[band]]", "gsd_m"),
        ("grid_m = 10", "grid_m = 10\nunknown = 1", "unknown"),
        ("scale = 0.0001", "scale = nan", "scale"),
        ("[[band]]", "[[band", "TOML"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        sensors.read(path)
    assert message in caught.value.found
    assert caught.value.expected
    assert caught.value.remedy


def test_unknown_sensor_names_the_known() -> None:
    with pytest.raises(InputError, match="sentinel2-l1c"):
        sensors.load("sentinel9")
    with pytest.raises(InputError):
        sensors.load("../common_names")


def test_resolve_bands_by_name_common_name_and_range() -> None:
    bands = sensors.resolve_bands(["B02", "b8a", "cirrus", "B3"], "sentinel2-l1c")
    assert [band.name for band in bands] == ["B02", "B8A", "B10", "B03"]
    bands = sensors.resolve_bands(["blue", (845, 885)], gsd_m=30)
    assert [(band.name, band.min_nm, band.gsd_m) for band in bands] == [("blue", 450, 30), ("845-885nm", 845, 30)]
    assert sensors.resolve_bands(["nir"], "generic")[0].common_name == "nir"


@pytest.mark.parametrize(
    ("bands", "sensor", "message"),
    [
        (["red", "B04"], "sentinel2-l1c", "given twice"),
        (["infrared"], None, "not known without a sensor"),
        (["B02"], None, "name the sensor"),
        (["B77"], "sentinel2-l1c", "has no band 'B77'"),
        ([(885, 845)], None, "885 to 845"),
        ([(0.4, 0.5)], None, "nanometres"),
        ([("a", "b")], None, "pair of wavelengths"),
        ("red,green", None, "list"),
    ],
)
def test_bands_that_cannot_be_meant(bands: object, sensor: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sensors.resolve_bands(bands, sensor)  # type: ignore[arg-type]
    assert caught.value.expected
    assert caught.value.remedy
