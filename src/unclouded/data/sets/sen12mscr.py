"""SEN12MS-CR: pairs of cloudy and clear Sentinel-2 images with Sentinel-1, 256 x 256 pixels at 10 m, 2018.

    <root>/ROIs1158_spring_{s1,s2,s2_cloudy}/{s1,s2,s2_cloudy}_<id>/ROIs1158_spring_{s1,s2,s2_cloudy}_<id>_p<n>.tif
    <root>/{s1,s2_cloudfree,s2_cloudy}/ROIs1158_spring_<id>_p<n>.tif, and a list of the parts (the flat packaging)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from ..sample import Sample
from ..tiff import read_tiff, write_tiff
from . import register
from ._cloudsen12 import check_decibel
from .base import DataSet, Pair, Record

SIDE = 256
_SEASONS = {"spring": "ROIs1158", "summer": "ROIs1868", "fall": "ROIs1970", "winter": "ROIs2017"}
_KINDS = {"s1": "s1", "s2": "clear", "s2_cloudy": "cloudy"}
_FLAT = {"s1": "s1", "s2_cloudfree": "clear", "s2_cloudy": "cloudy"}
_NAME = re.compile(r"(ROIs\d{4}_(?:spring|summer|fall|winter))(?:_(s1|s2|s2_cloudy))?_(\d+)_p?(\d+)\.tif")

# Places of the public split, by season; all others train. Source: the split of SEN12MS-CR-TS, which conforms to it.
_CHOOSE = {"winter": (22, 107, 130, 84), "summer": (19, 80, 127, 17), "fall": (65,), "spring": (17,)}
_TEST = {"spring": (106, 123, 140, 31, 44), "summer": (119, 73), "fall": (139,), "winter": (108, 63)}

_OUTSIDE = {"summer": 951, "fall": 1514, "winter": 954}
"""Images of the other seasons that MMCANet is tested with; it trains on spring alone."""
_LIST_PARTS = {"1": "train", "2": "choose", "3": "test"}


@register
class Sen12MsCr(DataSet):
    """SEN12MS-CR, in the public or in the flat packaging; incomplete triplets are left out."""

    name = "sen12mscr"
    title = "SEN12MS-CR"
    licence = "CC BY 4.0 (as far as known)"
    citation = (
        "Ebel et al. (2021): Multisensor data fusion for cloud removal in global and all-season Sentinel-2 imagery. "
        "IEEE Transactions on Geoscience and Remote Sensing 59(7), 5866-5878, doi:10.1109/TGRS.2020.3024744"
    )
    homepage = "https://patricktum.github.io/cloud_removal/sen12mscr/"
    obtain = (
        "Get ROIs1158_spring_s1.tar.gz, _s2 and _s2_cloudy, and those of the other seasons where wanted, from "
        "mediatum.ub.tum.de/1554803, and unpack them into one folder."
    )
    sensors = ("sentinel2-l1c", "sentinel1-grd")
    task = "removal"
    schemes = ("official", "mmcanet", "list")

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return (
            "Folders ROIs1158_spring_s1, _s2 and _s2_cloudy (or other seasons) with folders s1_<id> and so on; or the "
            "folders s1, s2_cloudfree and s2_cloudy with files of the same names."
        )

    def find(self) -> Iterator[Record]:
        """One record per complete triplet, found by its name alone."""
        found: dict[tuple[str, str, str], dict[str, Path]] = defaultdict(dict)
        for path in self.root.glob("ROIs*_*/*_*/ROIs*.tif"):
            match = _NAME.fullmatch(path.name)
            kind = match[2] if match else None
            if match and kind and path.parent.name == f"{kind}_{match[3]}":
                found[match[1], match[3], match[4]][_KINDS[kind]] = path
        for folder in self.root.iterdir():
            for path in folder.glob("ROIs*.tif") if folder.name.casefold() in _FLAT else ():
                match = _NAME.fullmatch(path.name)
                if match:
                    found[match[1], match[3], match[4]].setdefault(_FLAT[folder.name.casefold()], path)
        for (season, place, patch), files in found.items():
            if len(files) == len(_KINDS):
                scene = f"{season}_{place}"
                short = season.split("_")[1]
                yield Record(f"{scene}_p{patch}", scene, files, _official(short, int(place)), {"season": short})

    def read(self, record: Record) -> Sample:
        """Refuse: there are no labels."""
        raise InputError(
            f"{self.title} has no labels of clouds.",
            expected="It holds pairs of cloudy and clear images.",
            remedy="Read these with read_pair, or choose a data set whose task is 'mask'.",
        )

    def read_pair(self, record: Record) -> Pair:
        """Read a cloudy image, its clear counterpart and the backscatter; nothing is clipped."""
        sar = read_tiff(record.files["s1"], count=2, dtypes=("float32", "float64"), shape=(SIDE, SIDE))
        sar = sar.astype(np.float32)
        check_decibel(sar, record.files["s1"])
        return Pair(
            name=record.name,
            scene=record.scene,
            split=record.split,
            cloudy=_reflectance(record.files["cloudy"]),
            clear=_reflectance(record.files["clear"]),
            sar=sar,
            bands=sensors.bands_of("sentinel2-l1c"),
            gsd_m=10.0,
            season=str(record.tags["season"]),
        )

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "official":
            return {record.name: record.split for record in self.records}
        if scheme == "list":
            return self._listed()
        rng = np.random.default_rng(42)
        out = {record.name: record.split if record.tags["season"] == "spring" else "" for record in self.records}
        for season, count in _OUTSIDE.items():
            there = [record.name for record in self.records if record.tags["season"] == season]
            out |= dict.fromkeys(rng.permutation(there)[:count].tolist(), "test")
        return out

    def _listed(self) -> dict[str, str]:
        """Parts as the list of the flat packaging says: part, three folders and the file name in each line."""
        parts: dict[str, str] = {}
        for path in sorted([*self.root.glob("*.csv"), *self.root.glob("*.txt")]):
            for line in path.read_text(encoding="utf-8").splitlines():
                cells = [cell.strip() for cell in re.split(r"[,\t]", line)]
                match = _NAME.fullmatch(cells[-1])
                if len(cells) == 5 and match and cells[0] in _LIST_PARTS:
                    parts[f"{match[1]}_{match[3]}_p{match[4]}"] = _LIST_PARTS[cells[0]]
        missing = [record.name for record in self.records if record.name not in parts]
        if missing:
            raise InputError(
                f"No list in {self.root} names '{missing[0]}' and {len(missing) - 1} more.",
                expected="The flat packaging has a .csv or .txt file with part (1 train, 2 validation, 3 test), the "
                "three folders and the file name in each line.",
                remedy="Put the list there, or choose the split 'official'.",
            )
        return {record.name: parts[record.name] for record in self.records}

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Six triplets of four seasons and all parts, an incomplete one, and a list of parts."""
        rng = np.random.default_rng(seed)
        lines = []
        places = (("spring", 1), ("spring", 17), ("spring", 106), ("summer", 73), ("winter", 8), ("fall", 65))
        for number, (season, place) in enumerate(places):
            start = f"{_SEASONS[season]}_{season}"
            for kind, image in _fake_triplet(rng).items():
                folder = root / f"{start}_{kind}" / f"{kind}_{place}"
                write_tiff(folder / f"{start}_{kind}_{place}_p{30 + number}.tif", image)
            lines.append(f"{number % 3 + 1},s1,s2,s2_cloudy,{start}_{place}_p{30 + number}.tif")
        start = f"{_SEASONS['fall']}_fall"
        write_tiff(root / f"{start}_s1" / "s1_2" / f"{start}_s1_2_p30.tif", _fake_triplet(rng)["s1"])
        (root / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _official(season: str, place: int) -> str:
    """Part of a place in the public split; numbers are compared whole, so that 1 is not 106."""
    return "test" if place in _TEST[season] else "choose" if place in _CHOOSE[season] else "train"


def _reflectance(path: Path) -> NDArray[np.float32]:
    counts = read_tiff(path, count=13, dtypes=("uint16",), shape=(SIDE, SIDE))
    image = counts.astype(np.float32) * np.float32(1e-4)
    image[:, (counts == 0).all(axis=0)] = np.nan
    return image


def _fake_triplet(rng: np.random.Generator) -> Mapping[str, NDArray[np.generic]]:
    ground = np.repeat(np.repeat(rng.integers(300, 2500, (13, 16, 16)), 16, 1), 16, 2)
    cloud = np.repeat(np.repeat(rng.integers(0, 2, (16, 16)), 16, 0), 16, 1)
    cloudy = np.where(cloud, 6000, ground)
    cloudy[:, :2] = 0
    sar = np.stack([np.full((SIDE, SIDE), value, np.float32) for value in (-9.5, -16.0)])
    return {"s1": sar, "s2": ground.astype(np.uint16), "s2_cloudy": cloudy.astype(np.uint16)}
