"""Traps that have caught other tools: what must not decide the offset, and what a band's number does not say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unclouded import sensors
from unclouded.errors import RadiometryWarning
from unclouded.readers import open_scene
from unclouded.simulate.safe import write_safe

from .fakes_products import CRS, ULX, ULY, make_counts, make_safe, make_tif


def offset_of(product: Path) -> float:
    record = open_scene(product).radiometry["B02"]
    assert record.source == "product-xml"
    return record.offset


@pytest.mark.parametrize(
    ("datetime", "baseline", "listed", "expected"),
    [
        # Collection 1 put the offset on scenes from before it was invented on 25 January 2022.
        ("2018-07-21T05:37:21Z", "05.00", -1000, -0.1),
        ("2018-07-21T05:37:21Z", "02.06", None, 0.0),
        ("2022-01-24T23:59:59Z", "03.01", None, 0.0),
        ("2022-01-26T00:00:01Z", "04.00", -1000, -0.1),
        # Products made by oneself, and products without the list whatever they are called.
        ("2024-06-01T10:10:31Z", "99.33", -1000, -0.1),
        ("2024-06-01T10:10:31Z", "99.33", None, 0.0),
        ("2024-06-01T10:10:31Z", "05.11", None, 0.0),
    ],
)
def test_neither_date_nor_baseline_decides(
    tmp_path: Path, datetime: str, baseline: str, listed: int | None, expected: float
) -> None:
    counts = make_counts(1200, bands=["B02"])
    place: dict[str, Any] = {"crs": CRS, "ulx": ULX, "uly": ULY, "level": "L1C"}
    product = write_safe(tmp_path, counts, datetime=datetime, baseline=baseline, offset=listed, **place)
    assert offset_of(product) == pytest.approx(expected)


@pytest.mark.parametrize("number", ["14", "15", "147", "150"])
def test_the_number_of_the_format_decides_nothing(tmp_path: Path, number: str) -> None:
    product = make_safe(tmp_path, counts=make_counts(1200, bands=["B02"]))
    path = next(product.glob("MTD_MSI*.xml"))
    text = path.read_text()
    changed = re.sub(r"psd-\d+", f"psd-{number}", text)
    assert "psd-" in changed
    path.write_text(changed)
    assert offset_of(product) == pytest.approx(-0.1)


def test_the_same_band_number_is_another_wavelength_on_another_instrument() -> None:
    def name(sensor: str, band: str) -> str | None:
        found = sensors.load(sensor).find(band)
        return found.common_name if found is not None else None

    assert [name("landsat-tm-c2-l1", f"B{place}") for place in (1, 4, 5)] == ["blue", "nir", "swir16"]
    assert [name("landsat-oli-c2-l1", f"B{place}") for place in (1, 4, 5)] == ["coastal", "red", "nir08"]


def test_a_flag_that_is_wrong_is_noticed_on_pixels(tmp_path: Path) -> None:
    """Counts whose offset is removed already, in an item that says that it is not: dark pixels come out below zero."""
    counts = np.random.default_rng(0).gamma(2.0, 300, (3, 1, 120, 120)).astype(np.uint16) + 1
    assets = {}
    for name, plane in zip(("red", "nir", "swir22"), counts, strict=True):
        make_tif(tmp_path / f"{name}.tif", plane, nodata=0)
        raster = {"nodata": 0, "scale": 0.0001, "offset": -0.1}
        assets[name] = {"href": f"./{name}.tif", "type": "image/tiff", "raster:bands": [raster]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "scene",
        "collection": "sentinel-2-l2a",
        "geometry": None,
        "properties": {"datetime": "2023-08-10T10:00:00Z", "earthsearch:boa_offset_applied": False},
        "links": [],
        "assets": assets,
    }
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(item))
    with pytest.warns(RadiometryWarning, match="applied twice"):
        scene = open_scene(path)
    assert scene.warnings
    item["properties"]["earthsearch:boa_offset_applied"] = True
    path.write_text(json.dumps(item))
    assert open_scene(path).warnings == ()


@pytest.mark.parametrize(
    ("name", "sensor", "top"),
    [
        ("GF1_WFV2_E60.4_N30.9_20180819_L1A0003400484", "gaofen1-wfv", 1023),
        ("IMG_PER1_20190217152904_ORT_MS_000659", "perusat1-ms", 4095),
    ],
)
def test_counts_without_calibration_are_marked_unless_the_user_knows_better(
    tmp_path: Path, name: str, sensor: str, top: int
) -> None:
    counts = np.random.default_rng(0).integers(1, top + 1, (4, 80, 90)).astype(np.uint16)
    counts[:, 0] = 0
    path = make_tif(tmp_path / f"{name}.tif", counts)
    with pytest.warns(RadiometryWarning, match="not calibrated"):
        scene = open_scene(path)
    assert (scene.sensor, scene.level) == (sensor, "counts")
    assert not scene.describe()["calibrated"]
    assert {record.saturated for record in scene.radiometry.values()} == {top}
    out = scene.read(scene.geobox)
    assert np.isnan(out[:, 0]).all()
    assert np.nanmax(out) == pytest.approx(1.0)
    known = open_scene(path, scale=1.7e-4, offset=-0.01, level="toa")
    assert known.level == "toa"
    assert {(one.scale, one.offset, one.source, one.calibrated) for one in known.radiometry.values()} == {
        (1.7e-4, -0.01, "user", True)
    }
    assert np.isnan(known.read(known.geobox)[:, 0]).all()


METHODS = {
    "sentinel2-l1c": {
        "B01": (425, 461), "B02": (446, 542), "B03": (537.5, 582.5), "B04": (645.5, 684.5), "B05": (694, 714),
        "B06": (731, 749), "B07": (767, 795), "B08": (763.5, 904.5), "B8A": (847.5, 880.5), "B09": (930.5, 957.5),
        "B10": (1337, 1413), "B11": (1541, 1683), "B12": (2074, 2314),
    },
    "landsat-oli-c2-l1": {
        "B1": (435, 451), "B2": (452, 512), "B3": (533.5, 590.5), "B4": (636.5, 673.5), "B5": (851, 879),
        "B6": (1566.5, 1651.5), "B7": (2114.5, 2287.5), "B8": (496.5, 683.5), "B9": (1363.5, 1384.5),
        "B10": (10600, 11190), "B11": (11500, 12510),
    },
    "landsat-etm-c2-l1": {
        "B1": (454.5, 527.5), "B2": (519, 601), "B3": (631.5, 692.5), "B4": (772, 898), "B5": (1547, 1749),
        "B6_VCID_1": (10310, 12360), "B6_VCID_2": (10310, 12360), "B7": (2064.5, 2345.5), "B8": (514.5, 895.5),
    },
    "perusat1": {"red": (630, 700), "green": (530, 590), "blue": (450, 500), "nir": (752, 885)},
}  # fmt: skip
"""Wavelength ranges in nanometres of the band descriptors of SEnSeI-v2 (its catalogue of sensors)."""
ALIKE = {
    "sentinel2-l2a": "sentinel2-l1c",
    "landsat-oli-c1-l1": "landsat-oli-c2-l1",
    "landsat-oli-c1-l2": "landsat-oli-c2-l1",
    "landsat-oli-c2-l2": "landsat-oli-c2-l1",
    "landsat-etm-c1-l1": "landsat-etm-c2-l1",
    "landsat-etm-c1-l2": "landsat-etm-c2-l1",
    "landsat-etm-c2-l2": "landsat-etm-c2-l1",
    "perusat1-ms": "perusat1",
}
"""Products of the same instrument, whose bands may have a prefix."""


@pytest.mark.parametrize("name", [*METHODS, *ALIKE])
def test_wavelengths_are_those_that_the_networks_were_told(name: str) -> None:
    expected = METHODS[ALIKE.get(name, name)]
    bands = {re.sub(r"^(SR_|ST_|sr_band)", "", band.name): band for band in sensors.load(name).bands}
    bands = {key if key[0].isalpha() else f"B{key}": band for key, band in bands.items()}
    if name in METHODS:
        assert set(bands) == set(expected)
    # Level 2 has one thermal band of TM and ETM+, made from either gain.
    for key in bands:
        known = expected.get(key, expected.get("B6_VCID_1") if key == "B6" else None)
        assert known is not None, key
        assert (bands[key].min_nm, bands[key].max_nm) == known
