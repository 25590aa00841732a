"""The STAC item: valid by the schemas, true to the run, written whole."""

from __future__ import annotations

import datetime as dt
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pystac.validation import validate_dict
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from unclouded.errors import OutputError
from unclouded.options import Options
from unclouded.scene import Scene
from unclouded.write.footprint import footprint
from unclouded.write.resume import FINGERPRINT, fingerprint, output_paths, plan_outputs
from unclouded.write.stac import EXTENSIONS, cloud_percent, make_item, write_item

from .fakes_scene import BANDS, CARD, UTM_GRID, make_scene

COUNTS = {0: 10_000, 1: 4_000, 2: 3_000, 3: 1_800, 255: 400}
OUTPUTS = {
    "mask": Path("scene_mask.tif"),
    "uncertainty": Path("scene_uncertainty.tif"),
    "prob": Path("scene_prob.tif"),
    "quicklook": Path("scene_quicklook.png"),
}


def item_of(scene: Scene, folder: Path = Path(), geobox: GeoBox | None = None, **changes: Any) -> pystac.Item:
    given: dict[str, Any] = {
        "geobox": geobox or scene.geobox,
        "outputs": {product: folder / path for product, path in OUTPUTS.items()},
        "counts": COUNTS,
        "card": CARD,
        "card_path": folder / "default.json",
        "model_sha256": "ab" * 32,
        "bands": ["B02", "B03", "B04"],
        "options": Options(probability=True, quicklook=True),
        "fingerprint": "cd" * 32,
    }
    return make_item(scene, **{**given, **changes})


@pytest.fixture(scope="module")
def validator(shared_data: Path) -> JsonSchemaSTACValidator:
    """Validator that knows the extensions without a network."""
    out = JsonSchemaSTACValidator()
    for path in (shared_data / "stac_schemas").glob("*.json"):
        name, version = path.stem.rsplit("-", 1)
        schema = json.loads(path.read_text())
        out.schema_cache[f"https://stac-extensions.github.io/{name}/{version}/schema.json"] = schema
    # Version 2.0.0 of classification adds percentage and count and wants names where this one wants descriptions.
    text = (shared_data / "stac_schemas" / "classification-v1.1.0.json").read_text().replace("v1.1.0", "v2.0.0")
    out.schema_cache[EXTENSIONS["classification"]] = json.loads(text)
    # Projection refers to this one, which comes with neither pystac nor the folder; items here hold no PROJJSON.
    out.schema_cache["https://proj.org/schemas/v0.7/projjson.schema.json"] = {"$schema": "http://json-schema.org/draft-07/schema#"}
    return out


GRIDS = {
    "utm": UTM_GRID,
    "antimeridian": GeoBox((10980, 10980), Affine(10, 0, 99_960, 0, -10, 8_300_020), "EPSG:32701"),
    "pole": GeoBox((500, 500), Affine(2000, 0, -500_000, 0, -2000, 500_000), "EPSG:3031"),
    "degrees": GeoBox((50, 50), Affine(0.01, 0, 12, 0, -0.01, 50), "EPSG:4326"),
    "no-epsg": GeoBox((50, 50), Affine(10, 0, 0, 0, -10, 0), "+proj=laea +lat_0=51 +lon_0=9 +units=m"),
    "no-crs": GeoBox((50, 50), Affine.identity(), None),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("datetime", ["2024-06-01T10:00:31.024000Z", None])
def test_is_valid(validator: JsonSchemaSTACValidator, name: str, datetime: str | None) -> None:
    item = item_of(make_scene(GRIDS[name], datetime=datetime))
    checked = validate_dict(item.to_dict(), validator=validator)
    assert {*EXTENSIONS.values()} <= {*checked}


def test_is_valid_without_any_valid_pixel(validator: JsonSchemaSTACValidator) -> None:
    item = item_of(make_scene(), counts={0: 0, 1: 0, 2: 0, 3: 0, 255: 19_200})
    validate_dict(item.to_dict(), validator=validator)
    assert "eo:cloud_cover" not in item.properties
    assert EXTENSIONS["eo"] not in item.stac_extensions


def test_the_core_is_valid_without_other_schemas() -> None:
    item = item_of(make_scene()).to_dict()
    item["stac_extensions"] = []
    assert validate_dict(item, validator=JsonSchemaSTACValidator())


def test_says_what_went_in() -> None:
    scene = make_scene(baseline="05.11", warnings=("the offset looks odd",))
    item = item_of(scene, warnings=["coarse", "the offset looks odd"])
    properties = item.properties
    assert properties["unclouded:sensor"] == "sentinel2-l1c"
    assert properties["unclouded:level"] == "toa"
    assert properties["unclouded:bands"] == ["B02", "B03", "B04"]
    assert [*properties["unclouded:radiometry"]] == ["B02", "B03", "B04"]
    assert properties["unclouded:radiometry"]["B03"] == {
        "scale": 1e-4,
        "offset": -0.1,
        "nodata": 0,
        "source": "product-xml",
        "calibrated": True,
    }
    assert properties["unclouded:product"] == {"baseline": "05.11"}
    assert properties["unclouded:model"] == {"name": "default", "version": "1.2", "sha256": "ab" * 32}
    assert properties["unclouded:warnings"] == ["the offset looks odd", "coarse"]
    assert properties["unclouded:options"]["tile"] == 1024
    assert properties[FINGERPRINT] == "cd" * 32
    assert properties["processing:level"] == "L4"
    assert properties["processing:software"]["unclouded"]
    assert properties["gsd"] == 10


def test_cloud_cover_is_of_valid_pixels() -> None:
    item = item_of(make_scene())
    assert item.properties["eo:cloud_cover"] == pytest.approx(100 * 7_000 / 18_800, abs=1e-3)
    classes = item.assets["mask"].extra_fields["classification:classes"]
    assert [one["value"] for one in classes] == [0, 1, 2, 3, 255]
    assert sum(one.get("percentage", 0) for one in classes) == pytest.approx(100, abs=1e-3)
    assert [one["count"] for one in classes] == [10_000, 4_000, 3_000, 1_800, 400]
    assert [one["value"] for one in classes if one.get("nodata")] == [255]
    assert all(len(one["color_hint"]) == 6 and one["color_hint"] == one["color_hint"].upper() for one in classes)


def test_cloud_percent_of_nothing_is_unknown() -> None:
    assert cloud_percent({255: 5}) is None


def test_percentages_can_be_decoded_from_the_item() -> None:
    item = item_of(make_scene())
    (band,) = item.assets["uncertainty"].extra_fields["bands"]
    assert band["raster:scale"] == 0.01
    assert band["raster:offset"] == 0
    assert band["nodata"] == 255
    assert band["data_type"] == "uint8"
    assert [one["name"] for one in item.assets["prob"].extra_fields["bands"]] == [
        "clear",
        "thick-cloud",
        "thin-cloud",
        "cloud-shadow",
    ]


def test_links_lead_to_input_and_card(tmp_path: Path) -> None:
    (tmp_path / "in.tif").write_bytes(b"")
    item = item_of(make_scene(source=str(tmp_path / "in.tif")), tmp_path)
    links = [link.get_href() for link in item.get_links("derived_from")]
    assert links == [(tmp_path / "in.tif").as_posix(), (tmp_path / "default.json").as_posix()]
    remote = item_of(make_scene(source="https://example.com/item.json"), card_path=None)
    assert [link.get_href() for link in remote.get_links("derived_from")] == ["https://example.com/item.json"]


def test_an_unknown_time_is_an_interval() -> None:
    now = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    item = item_of(make_scene(datetime=None), created=now)
    assert item.datetime is None
    assert item.properties["end_datetime"] == "2025-01-02T03:04:05Z"
    assert "not known" in item.properties["description"]


def test_the_written_item_moves_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for path in OUTPUTS.values():
        (folder / path).write_bytes(b"")
    written = write_item(item_of(make_scene(), folder), folder / "scene.json")
    folder.rename(tmp_path / "b")
    item = pystac.Item.from_file(tmp_path / "b" / written.name)
    assert all(Path(asset.get_absolute_href() or "").exists() for asset in item.assets.values())
    assert not [link for link in item.links if link.rel == "self" and str(tmp_path / "a") in str(link.target)]
    assert [path.name for path in (tmp_path / "b").glob(".*")] == []


def test_odd_properties_become_json(tmp_path: Path) -> None:
    scene = make_scene(
        angles=np.float32([1.5, np.nan]), when=dt.datetime(2024, 1, 1, tzinfo=dt.UTC), path=Path("a"), n=np.int16(3)
    )
    written = write_item(item_of(scene, tmp_path), tmp_path / "scene.json")
    product = json.loads(written.read_text())["properties"]["unclouded:product"]
    assert product == {"angles": [1.5, "nan"], "when": "2024-01-01T00:00:00+00:00", "path": "a", "n": 3}


# The outline ------------------------------------------------------------------------------------------------------


def test_outline_of_a_tile_at_the_antimeridian() -> None:
    found = footprint(GRIDS["antimeridian"])
    assert found is not None
    outline, box = found
    assert outline["type"] == "MultiPolygon"
    # T01LAC lies at 179.26 E to 179.70 W (its metadata say so).
    assert box == pytest.approx([179.257, -16.352, -179.703, -15.345], abs=2e-3)
    longitudes = [point[0] for polygon in outline["coordinates"] for point in polygon[0]]
    assert all(abs(lon) > 179 and abs(lon) <= 180 for lon in longitudes)


def test_outline_over_a_pole() -> None:
    found = footprint(GRIDS["pole"])
    assert found is not None
    assert found[1][0::2] == [-180, 180]
    assert found[1][1] == -90


def test_outline_of_the_whole_globe() -> None:
    for west in (-180, 0):
        found = footprint(GeoBox((180, 360), Affine(1, 0, west, 0, -1, 90), "EPSG:4326"))
        assert found is not None
        assert found[1] == [-180, -90, 180, 90]


@settings(max_examples=40, deadline=None)
@given(zone=st.integers(1, 60), north=st.booleans(), x=st.integers(100, 800), y=st.integers(200, 9000))
def test_outlines_are_closed_counterclockwise_and_on_the_globe(zone: int, north: bool, x: int, y: int) -> None:
    epsg = (32600 if north else 32700) + zone
    grid = GeoBox((1000, 1000), Affine(100, 0, x * 1000, 0, -100, y * 1000), f"EPSG:{epsg}")
    found = footprint(grid)
    assert found is not None
    outline, (west, south, east, north_edge) = found
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south <= north_edge <= 90
    polygons = [outline["coordinates"]] if outline["type"] == "Polygon" else outline["coordinates"]
    assert (len(polygons) > 1) == (west > east) or (west, east) == (-180, 180)
    for (ring,) in polygons:
        assert ring[0] == ring[-1]
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
        assert area > 0
        assert max(lon for lon, _ in ring) - min(lon for lon, _ in ring) <= 360


# Existing output --------------------------------------------------------------------------------------------------


def done(folder: Path, options: Options, mark: str) -> None:
    for product, path in output_paths(folder, "scene", options).items():
        path.write_text(json.dumps({"properties": {FINGERPRINT: mark}}) if product == "item" else "")


def test_resume_keeps_only_complete_output_of_the_same_run(tmp_path: Path) -> None:
    options = Options(resume=True)
    assert plan_outputs(tmp_path / "absent", "scene", "f", options)
    done(tmp_path, options, "f")
    assert not plan_outputs(tmp_path, "scene", "f", options)
    assert plan_outputs(tmp_path, "scene", "other", options)
    assert plan_outputs(tmp_path, "scene", "f", options.but(probability=True))
    (tmp_path / "scene_mask.tif").unlink()
    assert plan_outputs(tmp_path, "scene", "f", options)


def test_without_the_item_nothing_is_done(tmp_path: Path) -> None:
    done(tmp_path, Options(), "f")
    (tmp_path / "scene.json").unlink()
    assert plan_outputs(tmp_path, "scene", "f", Options(resume=True))


def test_existing_output_is_refused(tmp_path: Path) -> None:
    done(tmp_path, Options(), "f")
    with pytest.raises(OutputError, match=r"scene_mask\.tif") as caught:
        plan_outputs(tmp_path, "scene", "f", Options())
    assert "--overwrite" in caught.value.remedy
    assert plan_outputs(tmp_path, "scene", "f", Options(overwrite=True))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"type": "Feature", "properties": {}}', "\x00"])
@pytest.mark.parametrize("options", [Options(overwrite=True), Options(resume=True), Options()])
def test_an_item_of_others_is_never_replaced(tmp_path: Path, content: str, options: Options) -> None:
    (tmp_path / "scene.json").write_text(content)
    with pytest.raises(OutputError, match="not an item that unclouded wrote"):
        plan_outputs(tmp_path, "scene", "f", options)


def test_fingerprint_follows_what_matters(tmp_path: Path) -> None:
    source = tmp_path / "in.SAFE"
    (source / "GRANULE").mkdir(parents=True)
    image = source / "GRANULE" / "B02.jp2"
    image.write_bytes(b"1234")
    scene = make_scene(source=str(source))
    one = fingerprint(scene, "model", Options())
    assert one == fingerprint(scene, "model", Options(resume=True, threads=3))
    different = {
        fingerprint(scene, "other", Options()),
        fingerprint(scene, "model", Options(tile=512)),
        fingerprint(make_scene(source=str(source), bands=BANDS[:3]), "model", Options()),
    }
    os.utime(image, ns=(1, 1))
    different.add(fingerprint(scene, "model", Options()))
    image.write_bytes(b"12345")
    os.utime(image, ns=(1, 1))
    different.add(fingerprint(scene, "model", Options()))
    assert len(different | {one}) == 6


def test_arrays_in_memory_never_look_done() -> None:
    scene = make_scene(source="memory")
    assert fingerprint(scene, "m", Options()) != fingerprint(scene, "m", Options())
