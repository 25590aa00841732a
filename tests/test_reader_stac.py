"""STAC items of several catalogues: who applied the offset, what the bands are, where the files lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

from unclouded import sensors
from unclouded.errors import InputError, RadiometryError, RadiometryWarning
from unclouded.readers import open_scene
from unclouded.readers.stac_item import Item, rules

from .fakes_products import make_tif


def raster(folder: Path, name: str, value: int = 3000, dtype: str = "uint16", **profile: Any) -> str:
    data = np.full((1, 12, 12), value, dtype)
    data[0, 0, 0] = 0
    make_tif(folder / name, data, **profile)
    return f"./{name}"


def write(
    folder: Path, assets: dict[str, Any], properties: dict[str, Any], collection: str, version: str = "1.0.0"
) -> Path:
    item = {
        "type": "Feature",
        "stac_version": version,
        "id": "scene",
        "collection": collection,
        "geometry": None,
        "properties": {"datetime": "2024-06-01T10:10:31Z", **properties},
        "links": [],
        "assets": assets,
    }
    path = folder / "scene.json"
    path.write_text(json.dumps(item))
    return path


def earth_search(folder: Path, applied: bool | None, collection: str = "sentinel-2-l2a") -> Path:
    bands = {"red": "red", "rededge2": "rededge", "nir": "nir"}
    assets: dict[str, Any] = {
        key: {
            "href": raster(folder, f"{key}.tif"),
            "type": "image/tiff; application=geotiff",
            "eo:bands": [{"name": key, "common_name": common}],
            "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}],
        }
        for key, common in bands.items()
    }
    assets["red-jp2"] = {"href": "s3://somewhere/B04.jp2", "type": "image/jp2", "eo:bands": [{"common_name": "red"}]}
    assets["scl"] = {"href": raster(folder, "scl.tif", 4, "uint8"), "type": "image/tiff"}
    properties = {} if applied is None else {"earthsearch:boa_offset_applied": applied}
    return write(folder, assets, {**properties, "view:sun_elevation": 55.0}, collection)


@pytest.mark.parametrize(
    ("applied", "collection", "offset"),
    [(True, "sentinel-2-l2a", 0.0), (False, "sentinel-2-l2a", -0.1), (None, "sentinel-2-c1-l2a", -0.1)],
)
def test_earth_search(tmp_path: Path, applied: bool | None, collection: str, offset: float) -> None:
    scene = open_scene(earth_search(tmp_path, applied, collection))
    assert (scene.sensor, scene.level, scene.id) == ("sentinel2-l2a", "boa", "scene")
    assert [band.name for band in scene.bands] == ["B04", "B06", "B08"]
    assert {(record.scale, record.offset, record.source) for record in scene.radiometry.values()} == {
        (1e-4, offset, "stac")
    }
    assert scene.properties["sun_zenith_deg"] == 35
    out = scene.read(scene.geobox)
    assert np.isnan(out[:, 0, 0]).all()
    assert out[0, 5, 5] == pytest.approx(0.3 + offset, abs=1e-6)


@pytest.mark.parametrize(("baseline", "offset"), [("05.09", -0.1), ("02.14", 0.0)])
def test_planetary_computer(tmp_path: Path, baseline: str, offset: float) -> None:
    assets = {
        name: {"href": raster(tmp_path, f"{name}.tif"), "type": "image/tiff", "eo:bands": [{"name": name}]}
        for name in ("B02", "B8A", "B11")
    }
    scene = open_scene(write(tmp_path, assets, {"s2:processing_baseline": baseline}, "sentinel-2-l2a"))
    assert [band.name for band in scene.bands] == ["B02", "B8A", "B11"]
    assert {record.offset for record in scene.radiometry.values()} == {offset}
    assert scene.properties["processing_baseline"] == baseline


def test_stac_1_1_of_the_copernicus_data_space(tmp_path: Path) -> None:
    assets = {
        f"{name}_{size}m": {
            "href": raster(tmp_path, f"{name}_{size}m.tif", pixel_m=float(size)),
            "type": "image/jp2",
            "gsd": size,
            "bands": [{"name": name, "eo:common_name": "blue" if name == "B02" else "swir16"}],
            "raster:scale": 0.0001,
            "raster:offset": -0.1,
            "nodata": 0,
        }
        for name, size in (("B02", 20), ("B02", 10), ("B11", 20))
    }
    path = write(tmp_path, assets, {"processing:level": "L2"}, "sentinel-2-l2a", "1.1.0")
    document = json.loads(path.read_text())
    for asset in document["assets"].values():
        asset["href"] = asset["href"].replace("B11_20m", "B11_20m")
    with pytest.raises(InputError, match="different ground"):
        open_scene(path)  # the fakes of different pixel size cover different ground
    scene = open_scene(path, bands=["B02"])
    assert scene.bands[0].gsd_m == 10
    assert scene.radiometry["B02"].offset == -0.1


@pytest.mark.parametrize(
    ("instruments", "sensor"),
    [(["oli", "tirs"], "landsat-oli-c2-l2"), (["tm"], "landsat-tm-c2-l2"), (["etm"], "landsat-etm-c2-l2")],
)
def test_landsat_level_2(tmp_path: Path, instruments: list[str], sensor: str) -> None:
    assets = {
        key: {
            "href": raster(tmp_path, f"{key}.tif", 18639),
            "type": "image/tiff",
            "eo:bands": [{"name": key, "common_name": key}],
        }
        for key in ("red", "swir16")
    }
    scene = open_scene(write(tmp_path, assets, {"instruments": instruments}, "landsat-c2-l2"))
    assert scene.sensor == sensor
    assert scene.read(scene.geobox)[0, 5, 5] == pytest.approx(0.3125725, abs=1e-6)


def test_landsat_level_1_gets_the_sun_term(tmp_path: Path) -> None:
    assets = {
        "red": {
            "href": raster(tmp_path, "red.tif", 10000),
            "type": "image/tiff",
            "eo:bands": [{"common_name": "red"}],
            "raster:bands": [{"scale": 2e-5, "offset": -0.1}],
        }
    }
    properties = {"instruments": ["oli"], "view:sun_elevation": 30.0}
    scene = open_scene(write(tmp_path, assets, properties, "landsat-c2-l1"))
    assert scene.read(scene.geobox)[0, 5, 5] == pytest.approx(0.2, abs=1e-6)
    with pytest.raises(RadiometryError, match="how high the sun"):
        open_scene(write(tmp_path, assets, {"instruments": ["oli"]}, "landsat-c2-l1"))


def test_unknown_collection_with_described_bands(tmp_path: Path) -> None:
    asset = {
        "href": raster(tmp_path, "a.tif"),
        "type": "image/tiff",
        "eo:bands": [{"name": "b1", "common_name": "red", "center_wavelength": 0.66, "full_width_half_max": 0.04}],
        "raster:bands": [{"scale": 0.001, "offset": 0.0, "nodata": 0}],
    }
    scene = open_scene(write(tmp_path, {"data": asset}, {}, "mine"))
    band = scene.bands[0]
    assert (scene.sensor, band.common_name, band.min_nm, band.max_nm) == ("generic", "red", 640, 680)
    assert scene.radiometry[band.name].scale == 0.001


def test_unknown_scale_is_an_error_and_the_user_settles_it(tmp_path: Path) -> None:
    assets = {"red": {"href": raster(tmp_path, "r.tif"), "type": "image/tiff", "eo:bands": [{"common_name": "red"}]}}
    path = write(tmp_path, assets, {}, "mine")
    with pytest.raises(RadiometryError, match="'red' of scene"):
        open_scene(path)
    assert open_scene(path, scale=1e-4, offset=-0.1).radiometry["red"].source == "user"
    record = open_scene(path, scale=1e-4, offset=-0.1, sensor="sentinel2-l2a").radiometry["B04"]
    assert (record.source, record.nodata) == ("user", 0)


def test_objects_and_documents(tmp_path: Path) -> None:
    path = earth_search(tmp_path, True)
    expected = open_scene(path)
    item = pystac.Item.from_file(str(path))
    assert open_scene(item).radiometry == expected.radiometry
    document = json.loads(path.read_text())
    document["links"] = [{"rel": "self", "href": str(path)}]
    assert open_scene(document).radiometry == expected.radiometry


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "type 'list'"),
        ('{"type": "Collection"}', "type 'Collection'"),
        ('{"type": "Feature", "assets": []}', "not a valid STAC item"),
        ('{"type": "Feature", "id": "x", "assets": {}}', "no image that is a band"),
        ('{"type": "Feature", "assets": {"red": {"href": "gone.tif", "type": "image/tiff"}}}', "gone.tif"),
    ],
)
def test_what_is_not_an_item(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        open_scene(path)
    assert caught.value.expected
    assert caught.value.remedy


def test_an_address_that_cannot_be_fetched() -> None:
    with pytest.raises(InputError, match="cannot be fetched"):
        open_scene("http://127.0.0.1:9/items/scene.json")


@pytest.mark.parametrize(
    ("base", "href", "expected"),
    [
        ("https://host/a/item.json", "./B02.tif", "https://host/a/B02.tif"),
        ("https://host/a/item.json", "https://other/B02.tif", "https://other/B02.tif"),
        ("/data/item.json", "../B02.tif", "/B02.tif"),
        ("/data/item.json", "/elsewhere/B02.tif", "/elsewhere/B02.tif"),
        ("/data/item.json", "s3://bucket/B02.tif", "s3://bucket/B02.tif"),
        ("/data/item.json", "file:///x/B%2002.tif", "/x/B 02.tif"),
    ],
)
def test_references_are_resolved(base: str, href: str, expected: str) -> None:
    assert Item("a", "", {}, {}, base).resolve(href) == expected


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: "-".join(rule.collection))
def test_every_rule_names_a_sensor_that_exists(rule: Any) -> None:
    found = [rule.sensor.replace("{instrument}", family) for family in ("oli", "etm", "tm")]
    for name in set(found):
        sensor = sensors.load(name)
        assert set(rule.assets.values()) <= {band.name for band in sensor.band}
        assert rule.radiometry != "sensor" or sensor.radiometry == "fixed"
    assert (rule.radiometry == "flag") == (rule.flag is not None)


def test_real_items(shared_data: Path) -> None:
    items = sorted((shared_data / "stac" / "mapchete_s2_l2a" / "sentinel-2-l2a").glob("*/*.json"))
    assert len(items) == 5
    for path in items:
        scene = open_scene(path)
        assert [band.name for band in scene.bands] == ["B02", "B03", "B04", "B08"]
        assert {(record.scale, record.offset) for record in scene.radiometry.values()} == {(1e-4, 0.0)}
        assert scene.warnings == ()
    with pytest.warns(RadiometryWarning, match="applied twice"):
        open_scene(items[0], scale=1e-4, offset=-0.1)
    scene = open_scene(next((shared_data / "stac" / "s2_cog_29RKH").glob("*.json")))
    assert len(scene.bands) == 12
    scene = open_scene(
        shared_data / "stac" / "landsat_c2_001062" / "LC08_L2SP_001062_20201031_20201106_02_T2_SR_stac.json"
    )
    assert (scene.sensor, len(scene.bands)) == ("landsat-oli-c2-l2", 7)
