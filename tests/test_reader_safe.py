"""Sentinel-2 products: offsets as the product lists them, layouts as they occur, and damage of every kind."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from unclouded.errors import InputError, RadiometryError, UncloudedError
from unclouded.readers import open_scene
from unclouded.readers.files import Files
from unclouded.readers.safe_metadata import parse_product, parse_tile
from unclouded.simulate.safe import write_safe

from .fakes_products import CRS, ULX, ULY, image, make_counts, make_safe

THREE = ["B02", "B04", "B11"]


def metadata(product: Path) -> Path:
    return next(product.glob("MTD_MSI*.xml"))


def three_parts(error: UncloudedError) -> bool:
    return bool(error.found and error.expected and error.remedy)


@pytest.fixture(scope="module")
def l1c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_safe(tmp_path_factory.mktemp("l1c"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A product of three bands that a test may spoil."""
    return make_safe(tmp_path, counts=make_counts(1200, bands=THREE))


def test_level_1c(l1c: Path) -> None:
    scene = open_scene(l1c)
    assert scene.sensor == "sentinel2-l1c"
    assert scene.level == "toa"
    assert scene.id == l1c.name.removesuffix(".SAFE")
    assert len(scene.bands) == 13
    assert scene.geobox.shape == (240, 240)
    assert str(scene.geobox.crs) == CRS
    assert scene.resolution_m == 10
    assert scene.datetime == "2024-06-01T10:10:31.000Z"
    assert scene.properties["processing_baseline"] == "05.11"
    assert scene.properties["tile"] == "T33UUB"
    assert scene.properties["sun_zenith_deg"] == pytest.approx(40)
    assert scene.properties["sun_azimuth_deg"] == pytest.approx(160)
    assert scene.properties["spacecraft"] == "Sentinel-2B"
    assert scene.properties["missing_bands"] == []
    counts = make_counts()
    out = scene.read(scene.geobox, ["B02", "B8A"])
    assert out[0] == pytest.approx((counts["B02"].astype(float) - 1000) / 10000, abs=1e-6)
    assert out[1, 1::2, 1::2].mean() == pytest.approx((counts["B8A"].mean() - 1000) / 10000, abs=1e-3)


def test_description_is_json_and_says_where_everything_comes_from(l1c: Path) -> None:
    description = json.loads(json.dumps(open_scene(l1c).describe()))
    band = next(band for band in description["bands"] if band["name"] == "B02")
    assert band["scale"] == 0.0001
    assert band["offset"] == -0.1
    assert band["nodata"] == 0
    assert band["radiometry"] == "product-xml"
    assert band["file"].endswith("B02.jp2")
    assert description["baseline"] == "05.11"
    assert description["crs"] == CRS
    assert description["resolution_m"] == 10


@pytest.mark.parametrize("baseline", ["02.09", "04.00", "99.33"])
@pytest.mark.parametrize("offset", [None, -1000, 0])
def test_the_list_decides_not_the_baseline(tmp_path: Path, baseline: str, offset: int | None) -> None:
    product = make_safe(tmp_path, baseline=baseline, offset=offset, counts=make_counts(1200, bands=["B02"]))
    record = open_scene(product).radiometry["B02"]
    assert record.offset == pytest.approx((offset or 0) / 10000)
    assert record.source == "product-xml"


def test_offsets_are_taken_per_band(tmp_path: Path) -> None:
    offsets = {"B02": -1000, "B04": -500, "B11": 30}
    product = make_safe(tmp_path, offset=offsets, counts=make_counts(1200, bands=THREE))
    scene = open_scene(product)
    assert {name: record.offset for name, record in scene.radiometry.items()} == pytest.approx(
        {"B02": -0.1, "B04": -0.05, "B11": 0.003}
    )


def test_quantification_is_read(tmp_path: Path) -> None:
    product = make_safe(tmp_path, quantification=20000, counts=make_counts(1200, bands=["B02"]))
    record = open_scene(product).radiometry["B02"]
    assert (record.scale, record.offset) == pytest.approx((5e-5, -0.05))


def test_fill_stays_missing_and_nothing_is_clipped(tmp_path: Path) -> None:
    counts = np.full((120, 120), 3000, np.uint16)
    counts[:40], counts[50], counts[60], counts[70] = 0, 200, 15000, 65535
    product = make_safe(tmp_path, counts={"B02": counts})
    scene = open_scene(product)
    out = scene.read(scene.geobox)[0]
    assert np.isnan(out[:40]).all()
    assert out[[45, 50, 60, 70], 0] == pytest.approx([0.2, -0.08, 1.4, 6.4535], abs=1e-5)


def test_level_2a_takes_each_band_at_its_finest(tmp_path: Path) -> None:
    product = make_safe(tmp_path, level="L2A", offset={"B02": -1000, "B8A": -900})
    coarse = image(product, "B02").parent.parent / "R20m" / image(product, "B02").name.replace("10m", "20m")
    shutil.copy(image(product, "B05"), coarse)
    image(product, "B09").unlink()
    scene = open_scene(product)
    assert scene.sensor == "sentinel2-l2a"
    assert scene.level == "boa"
    assert {band.name: band.gsd_m for band in scene.bands}["B02"] == 10
    assert scene.radiometry["B8A"].offset == pytest.approx(-0.09)
    assert "B10" not in scene.radiometry
    assert scene.properties["missing_bands"] == ["B09"]


def test_zip_reads_the_same_as_the_folder(tmp_path: Path) -> None:
    counts = make_counts(1200, bands=THREE)
    folder, archive = make_safe(tmp_path / "a", counts=counts), make_safe(tmp_path / "b", counts=counts, zipped=True)
    first, second = open_scene(folder), open_scene(archive)
    assert (first.id, first.bands, first.radiometry) == (second.id, second.bands, second.radiometry)
    assert np.array_equal(first.read(first.geobox), second.read(second.geobox))


@pytest.mark.parametrize("place", ["MTD_MSIL1C.xml", "manifest.safe", "GRANULE/*", "GRANULE/*/IMG_DATA", "GRANULE"])
def test_any_part_of_the_product_leads_to_it(small: Path, place: str) -> None:
    part = next(iter(small.glob(place)))
    scene = open_scene(str(part))
    assert scene.id == small.name.removesuffix(".SAFE")
    assert scene.radiometry["B02"].source == "product-xml"


def test_bands_can_be_chosen(small: Path) -> None:
    scene = open_scene(small, bands=["B11", "blue"])
    assert [band.name for band in scene.bands] == ["B11", "B02"]
    assert scene.geobox.resolution.x == 10
    with pytest.raises(InputError, match="no file for band B08"):
        open_scene(small, bands=["B08"])
    with pytest.raises(InputError, match="Band numbers"):
        open_scene(small, bands={"blue": 1})


def test_a_home_folder_is_resolved(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(small.parent))
    monkeypatch.setenv("USERPROFILE", str(small.parent))
    assert open_scene(f"~/{small.name}").sensor == "sentinel2-l1c"


def test_the_user_overrules_the_product_and_it_is_recorded(small: Path) -> None:
    record = open_scene(small, scale=0.0002, offset=0.0, nodata=7).radiometry["B02"]
    assert (record.scale, record.offset, record.nodata, record.source) == (0.0002, 0.0, 7, "user")
    assert open_scene(small, nodata=7).radiometry["B02"].source == "product-xml"


def test_without_metadata_the_radiometry_is_asked_for(small: Path) -> None:
    metadata(small).unlink()
    with pytest.raises(RadiometryError) as caught:
        open_scene(small)
    assert three_parts(caught.value)
    assert "--scale 0.0001 --offset 0" in caught.value.remedy
    assert "--offset -0.1" in caught.value.remedy
    assert caught.value.exit_code == 4
    scene = open_scene(small, scale=0.0001, offset=-0.1)
    assert scene.radiometry["B02"].source == "user"
    assert scene.radiometry["B02"].nodata == 0
    assert scene.level == "toa"
    assert scene.datetime == "2024-06-01T10:10:31Z"


def test_odd_case_of_the_metadata_name(small: Path) -> None:
    metadata(small).rename(small / "MTD_MSIL1c.xml")
    assert open_scene(small).radiometry["B02"].offset == pytest.approx(-0.1)


def test_a_bare_image_folder(small: Path, tmp_path: Path) -> None:
    bare = tmp_path / "elsewhere" / "T33UUB" / "IMG_DATA"
    shutil.copytree(image(small, "B02").parent, bare)
    with pytest.raises(RadiometryError, match="Level-1C or Level-2A"):
        open_scene(bare, scale=0.0001)
    scene = open_scene(bare, scale=0.0001, offset=-0.1, sensor="sentinel2-l1c")
    assert scene.id == "T33UUB"
    assert scene.properties["tile"] == "T33UUB"


def test_a_sensor_that_contradicts_the_product_is_refused(small: Path) -> None:
    for wrong in ("sentinel2-l2a", "landsat-oli-c2-l2"):
        with pytest.raises(InputError, match="sensor was given"):
            open_scene(small, sensor=wrong)


def test_several_tiles_have_to_be_chosen_from(small: Path) -> None:
    granule = next((small / "GRANULE").iterdir())
    other = granule.with_name(granule.name.replace("T33UUB", "T33UVB"))
    shutil.copytree(granule, other)
    with pytest.raises(InputError, match="2 tiles") as caught:
        open_scene(small)
    assert "GRANULE/" in caught.value.remedy
    assert open_scene(other).radiometry["B02"].source == "product-xml"


def test_the_layout_of_2015_and_2016(small: Path, tmp_path: Path) -> None:
    stem = "S2A_OPER_MSI_L1C_TL_EPA__20160318T145513_A002345_{tile}_N02.01"
    product = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20160318T145513_R022_V20160114T100825_20160114T100825.SAFE"
    for tile in ("T33UUB", "T33UVB"):
        name = stem.format(tile=tile)
        images = product / "GRANULE" / name / "IMG_DATA"
        images.mkdir(parents=True)
        for band in THREE:
            shutil.copy(image(small, band), images / f"{name.removesuffix('_N02.01')}_{band}.jp2")
        tile_file = next(small.glob("GRANULE/*/MTD_TL.xml")).read_text().replace("T33UUB", tile)
        (images.parent / f"{name.replace('MSI', 'MTD').removesuffix('_N02.01')}.xml").write_text(tile_file)
    text = re.sub(
        r"<Radiometric_Offset_List>.*</Radiometric_Offset_List>", "", metadata(small).read_text(), flags=re.DOTALL
    )
    (product / "S2A_OPER_MTD_SAFL1C_PDMC_20160318T145513_R022_V20160114T100825_20160114T100825.xml").write_text(text)
    with pytest.raises(InputError, match="2 tiles"):
        open_scene(product)
    scene = open_scene(product / "GRANULE" / stem.format(tile="T33UVB"), bands=["B02"])
    assert (scene.sensor, scene.properties["tile"]) == ("sentinel2-l1c", "T33UVB")
    assert scene.radiometry["B02"].offset == 0
    assert scene.radiometry["B02"].source == "product-xml"
    assert scene.properties["sun_zenith_deg"] == pytest.approx(40)


def test_a_scene_without_any_data_stays_without(tmp_path: Path) -> None:
    product = make_safe(tmp_path, counts={"B02": np.zeros((120, 120), np.uint16)})
    scene = open_scene(product)
    assert scene.warnings == ()
    assert np.isnan(scene.read(scene.geobox)).all()
    assert np.isnan(scene.read(scene.grid(20))).all()


# damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 100, 5000, -1])
def test_an_image_cut_short_is_named(small: Path, kept: int) -> None:
    path = image(small, "B04")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=path.name) as caught:
        open_scene(small)
    assert three_parts(caught.value)
    assert len(open_scene(small, bands=["B02"]).bands) == 1


def test_other_formats_under_the_products_names_are_read(small: Path) -> None:
    path = image(small, "B04")
    with rasterio.open(path) as dataset:
        values, profile = dataset.read(), dataset.profile
    path.unlink()
    with rasterio.open(path, "w", **{**profile, "driver": "GTiff", "tiled": False, "nodata": None}) as dataset:
        dataset.write(values)
    scene = open_scene(small)
    assert scene.read(scene.geobox, ["B04"])[0] == pytest.approx(values[0] * 1e-4 - 0.1, abs=1e-6)


def test_an_image_missing_in_the_middle_of_a_run(small: Path) -> None:
    scene = open_scene(small)
    image(small, "B04").unlink()
    with pytest.raises(InputError, match="B04"):
        scene.read(scene.geobox)


def test_no_images_at_all(small: Path) -> None:
    for path in small.rglob("*.jp2"):
        path.unlink()
    with pytest.raises(InputError, match="no image"):
        open_scene(small)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Level-1C_User_Product>&b;</Level-1C_User_Product>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Level-1C_User_Product>&x;</Level-1C_User_Product>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [(BOMB, "entities"), (OUTSIDE, "entities"), ("", "not XML"), ("<a><b></a>", "not XML"), ("\x00\x01", "not XML")],
)
def test_hostile_metadata(small: Path, content: str, message: str) -> None:
    metadata(small).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        open_scene(small)
    assert three_parts(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (r'<QUANTIFICATION_VALUE unit="none">10000', '<QUANTIFICATION_VALUE unit="none">many', InputError, "'many'"),
        (r'<QUANTIFICATION_VALUE unit="none">10000', '<QUANTIFICATION_VALUE unit="none">0', InputError, "is 0"),
        (r"<QUANTIFICATION_VALUE.*?</QUANTIFICATION_VALUE>", "", RadiometryError, "no QUANTIFICATION_VALUE"),
        (r'<RADIO_ADD_OFFSET band_id="1">-1000', '<RADIO_ADD_OFFSET band_id="1">x', InputError, "'x'"),
        (r'<RADIO_ADD_OFFSET band_id="1">', '<RADIO_ADD_OFFSET band_id="77">', InputError, "'77'"),
        (r'<RADIO_ADD_OFFSET band_id="1">-1000</RADIO_ADD_OFFSET>', "", RadiometryError, "none for B02"),
    ],
)
def test_metadata_with_wrong_numbers(
    small: Path, old: str, new: str, error: type[UncloudedError], message: str
) -> None:
    text = metadata(small).read_text()
    assert re.search(old, text)
    metadata(small).write_text(re.sub(old, new, text))
    with pytest.raises(error, match=re.escape(message)) as caught:
        open_scene(small)
    assert three_parts(caught.value)


def test_bands_on_different_ground_are_refused(small: Path, tmp_path: Path) -> None:
    other = write_safe(
        tmp_path / "b",
        make_counts(1200, bands=["B04"]),
        crs="EPSG:32634",
        ulx=ULX,
        uly=ULY,
        datetime="2024-06-01T10:10:31Z",
    )
    shutil.copy(image(other, "B04"), image(small, "B04"))
    with pytest.raises(InputError, match="EPSG:32633 and EPSG:32634"):
        open_scene(small)
    other = write_safe(
        tmp_path / "c",
        make_counts(1200, bands=["B04"]),
        crs=CRS,
        ulx=ULX + 600,
        uly=ULY,
        datetime="2024-06-01T10:10:31Z",
    )
    shutil.copy(image(other, "B04"), image(small, "B04"))
    with pytest.raises(InputError, match="different ground"):
        open_scene(small)


def test_archives_that_lead_out_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "S2A_MSIL1C_bad.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("../../evil_B02.jp2", b"x")
    with pytest.raises(InputError, match="leads out of the archive"):
        open_scene(archive)
    archive.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match="cannot be read"):
        open_scene(archive)


def test_metadata_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "S2A_bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("X.SAFE/GRANULE/L1C/IMG_DATA/T33UUB_20240601T101031_B02.jp2", b"x")
        out.writestr("X.SAFE/MTD_MSIL1C.xml", b" " * (65 * 1024 * 1024))
    assert archive.stat().st_size < 200_000
    with pytest.raises(InputError, match="larger than 8 MiB"):
        open_scene(archive)


@pytest.mark.parametrize("name", ["nothing.SAFE", "nothing.tif"])
def test_what_does_not_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_scene(tmp_path / name)


def test_radar_as_the_agency_ships_it_is_named(tmp_path: Path) -> None:
    product = tmp_path / "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017022_01C5A4_4F6E.SAFE"
    (product / "measurement").mkdir(parents=True)
    with pytest.raises(InputError, match="Sentinel-1 product") as caught:
        open_scene(product)
    assert three_parts(caught.value)


def test_what_is_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known kind"):
        open_scene(tmp_path)
    with pytest.raises(InputError, match="no known kind"):
        open_scene(42)


# real products ------------------------------------------------------------------------------------------------------


def test_real_level_2a_with_offsets(shared_data: Path) -> None:
    product = next((shared_data / "safe_s2_l2a_60m").glob("*.SAFE"))
    scene = open_scene(product)
    assert (scene.sensor, scene.level, scene.resolution_m) == ("sentinel2-l2a", "boa", 60)
    assert len(scene.bands) == 11
    assert scene.properties["missing_bands"] == ["B08"]
    assert scene.properties["sun_zenith_deg"] == pytest.approx(57.820574)
    assert {record.offset for record in scene.radiometry.values()} == {-0.1}
    out = scene.read(scene.geobox, ["B02", "B12"])
    with rasterio.open(scene.describe()["bands"][1]["file"]) as dataset:
        dn = dataset.read(1)
    assert np.array_equal(np.isnan(out[0]), dn == 0)
    assert np.abs(out[0][dn > 0] - (dn[dn > 0].astype(float) - 1000) / 10000).max() < 1e-6
    coarse = scene.read(scene.grid(120), ["B02", "B12"])
    rows = [(0, 301), (301, 302), (302, 915)]
    strips = [scene.read(scene.grid(120)[first:end, :], ["B02", "B12"]) for first, end in rows]
    assert np.array_equal(np.concatenate(strips, axis=1), coarse, equal_nan=True)


def test_real_zips(shared_data: Path) -> None:
    for archive in sorted((shared_data / "safe_s2_small").glob("*.zip")):
        scene = open_scene(archive)
        assert len(scene.bands) == 13
        assert {(record.scale, record.offset) for record in scene.radiometry.values()} == {(0.0001, 0.0)}
        assert np.isfinite(scene.read(scene.geobox)).any()


def test_real_folder_without_metadata(shared_data: Path) -> None:
    product = next((shared_data / "safe_s2_small").glob("S2A_MSIL2A*.SAFE"))
    with pytest.raises(RadiometryError):
        open_scene(product)
    scene = open_scene(product, scale=0.0001, offset=0)
    assert (scene.sensor, scene.resolution_m, len(scene.bands)) == ("sentinel2-l2a", 10, 12)
    assert {band.gsd_m for band in scene.bands} == {10, 20, 60}
    scene = open_scene(shared_data / "safe_s2_small" / "L1C_T31TDH_20150726T105026", scale=0.0001, offset=0)
    assert (scene.sensor, len(scene.bands), scene.properties["tile"]) == ("sentinel2-l1c", 13, "T31TDH")
    product = next((shared_data / "safe_s2_small" / "aws_layout_l1c").iterdir())
    scene = open_scene(product, scale=0.0001, offset=0)
    assert (scene.sensor, len(scene.bands), scene.properties["tile"]) == ("sentinel2-l1c", 13, "T55HFA")


OFFSETS = {"02": 0, "03": 0, "04": -1000, "05": -1000}


def test_real_metadata_of_ten_products(shared_data: Path) -> None:
    found = 0
    for path in sorted((shared_data / "safe_meta").glob("*/MTD_MSI*.xml")):
        files = Files.of(path.parent)
        product = parse_product(files.xml(path.name), path.name)
        wanted = OFFSETS[product.properties["processing_baseline"][:2]]
        assert product.quantification == 10000
        assert all(product.offset(band) == wanted for band in ("B01", "B8A", "B12"))
        assert product.level == ("toa" if "L1C" in path.name else "boa")
        for tile in path.parent.glob("GRANULE/*/MTD_TL.xml"):
            properties = parse_tile(files.xml(tile.relative_to(path.parent).as_posix()), tile.name)
            assert 0 <= properties["sun_zenith_deg"] <= 90
            assert f"_{properties['tile']}_" in path.parent.name
        found += 1
    assert found == 10


def test_reference_values_of_toa_reflectance(shared_data: Path) -> None:
    folder = shared_data / "safe_s2_small" / "dn_to_toa"
    for path in sorted(folder.glob("*_MTD.xml")):
        stem = path.name.removesuffix("_MTD.xml")
        product = parse_product(Files.of(folder).xml(path.name), path.name)
        scene = open_scene(
            folder / f"{stem}.tif",
            scale=1 / product.quantification,
            offset=product.offset("B02") / product.quantification,
        )
        assert scene.sensor == "sentinel2-l1c"
        with rasterio.open(folder / f"{stem}_toa.tif") as dataset:
            expected = dataset.read(masked=True)
        out = scene.read(scene.geobox)
        assert np.isfinite(out).any()
        both = np.isfinite(out) & ~np.ma.getmaskarray(expected)
        assert out[both] == pytest.approx(expected.data[both], abs=2e-5)
