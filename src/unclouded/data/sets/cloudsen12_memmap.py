"""CloudSEN12 as raw arrays: one file per band and part, patches of 512 x 512 one after the other, without header.

    <root>/{train,val,test}/metadata.csv, LABEL_*.dat
                            L1C_B1.dat ..., L2A_B1.dat ..., S1_VV.dat ..., EXTRA_elevation.dat
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from . import register
from ._cloudsen12 import SIDE, STORED_SIDE, CloudSen12Base, Stored, bands, check_decibel, place_tags
from .base import Record
from .cloudsen12 import fake_codes, fake_counts

_PARTS = {"train": "train", "val": "choose", "test": "test"}
_GROUPS = ("cloudfree", "almostclear", "lowcloudy", "midcloudy", "cloudy")
"""Folders of the release without labels."""
_PIXELS = STORED_SIDE * STORED_SIDE
_SAR = ("S1_VV", "S1_VH", "S1_angle")
_DEM = "EXTRA_elevation"
_LABEL = {"high": "LABEL_manual_hq", "scribble": "LABEL_manual_sc"}
_MASKS = {
    "kappamask_l1c": "LABEL_kappamask_L1C", "kappamask_l2a": "LABEL_kappamask_L2A", "sen2cor": "LABEL_sen2cor",
    "fmask": "LABEL_fmask", "s2cloudless": "LABEL_s2cloudless", "cd-fcnn": "LABEL_CD-FCNN", "qa60": "LABEL_qa60",
}  # fmt: skip
_TYPES = {"L1C": "<i2", "L2A": "<i2", "S1": "<f4", "EXTRA": "<i2", "LABEL": "i1"}


@register
class CloudSen12Memmap(CloudSen12Base):
    """CloudSEN12 as raw arrays. Options: see :class:`CloudSen12Base`.

    Only the files that the options ask for have to be there.
    """

    name = "cloudsen12-memmap"
    title = "CloudSEN12 (raw arrays)"
    licence = "CC BY-NC 4.0"
    obtain = (
        "Get the folders train/, val/ and test/ of huggingface.co/datasets/csaybar/CloudSEN12-high, or of -scribble; "
        "only the .dat files that you need, and metadata.csv."
    )

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return "A folder train, val or test with metadata.csv, LABEL_manual_hq.dat or LABEL_manual_sc.dat, and bands."

    def find(self) -> Iterator[Record]:
        """One record per patch; only file sizes and the table are looked at."""
        folders = [part for part in _PARTS if (self.root / part).is_dir()]
        if not folders and any((self.root / group).is_dir() for group in _GROUPS):
            raise InputError(
                f"{self.root} holds the release without labels.",
                expected="Patches with labels are in the releases -high and -scribble.",
                remedy=self.obtain,
            )
        for part in folders:
            label = self.root / part / f"{_LABEL[self.kind]}.dat"
            if not label.is_file():
                continue
            rows = self._rows(label)
            files = {stem: self.root / part / f"{stem}.dat" for stem in self._stems()} | {"label": label}
            for number, row in enumerate(rows):
                tags: dict[str, str | float] = {**place_tags(row["s2_id_gee"], row.get("proj_centroid") or "")}
                tags |= {key: row[key] for key in ("cloud_coverage", "difficulty") if row.get(key)}
                name = f"{row['roi_id']}__{row['s2_id_gee']}"
                yield Record(name, row["roi_id"], files, _PARTS[part], tags, number)

    def _stems(self) -> list[str]:
        """Names of the files of one patch, without suffix, in the order of the planes."""
        stems = _optical(self.level)
        stems += ["L2A_AOT"] * self.with_aot
        return stems + list(_SAR) * self.with_sar + [_DEM] * self.with_dem

    def _rows(self, label: Path) -> list[dict[str, str]]:
        """The table of a part, checked against the size of its label file."""
        path = label.with_name("metadata.csv")
        if not path.is_file():
            raise InputError(
                f"{path} is missing.",
                expected="The table says which patches the arrays hold.",
                remedy=self.obtain,
            )
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if rows and not {"roi_id", "s2_id_gee"} <= set(rows[0]):
            raise InputError(
                f"{path} has the columns {', '.join(rows[0])}.",
                expected="The table has roi_id and s2_id_gee among its columns.",
                remedy="Get the table again.",
            )
        size = label.stat().st_size
        if size != len(rows) * _PIXELS:
            raise InputError(
                f"{label} has {size} bytes.",
                expected=f"The table has {len(rows)} rows, which makes {len(rows) * _PIXELS} bytes.",
                remedy="The download is incomplete: get the file again.",
            )
        return rows

    def _patch(self, path: Path, record: Record) -> NDArray[Any]:
        """One patch of one file."""
        dtype = np.dtype(_TYPES[path.name.split("_")[0]])
        if not path.is_file():
            raise InputError(
                f"{path} is missing.",
                expected="The options chosen need this file.",
                remedy="Get it from the release, or leave out the level or the part that needs it.",
            )
        patches = record.files["label"].stat().st_size // _PIXELS
        size = path.stat().st_size
        if size != patches * _PIXELS * dtype.itemsize:
            raise InputError(
                f"{path} has {size} bytes.",
                expected=f"{patches} patches of type {dtype.name} make {patches * _PIXELS * dtype.itemsize} bytes.",
                remedy="The download is incomplete: get the file again.",
            )
        shape = (patches, STORED_SIDE, STORED_SIDE)
        return np.array(np.memmap(path, dtype, "r", shape=shape)[record.index])

    def _stored(self, record: Record) -> Stored:
        stems = self._stems()
        planes = [self._patch(record.files[stem], record) for stem in stems]
        optical = sum(stem.startswith(("L1C", "L2A")) for stem in stems)
        empty = np.empty((0, STORED_SIDE, STORED_SIDE), np.float32)
        extra = np.stack(planes[optical:]).astype(np.float32) if len(planes) > optical else empty
        if self.with_sar:
            check_decibel(extra, record.files[_SAR[0]])
        codes = self._patch(record.files["label"], record)
        return Stored(np.stack(planes[:optical]), extra, codes)

    def _mask_codes(self, record: Record, program: str) -> NDArray[np.integer]:
        return self._patch(record.files["label"].with_name(f"{_MASKS[program]}.dat"), record)

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Two, one and one patches in the three parts, all bands, both kinds of labels, every label code."""
        rng = np.random.default_rng(seed)
        for place, (part, dates) in enumerate((("train", (6, 7)), ("val", (6,)), ("test", (6,)))):
            folder = root / part
            folder.mkdir(parents=True)
            with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["roi_id", "s2_id_gee", "proj_centroid", "cloud_coverage", "difficulty"])
                for month in dates:
                    product = f"2019{month:02d}12T101031_2019{month:02d}12T101033_T33UUB"
                    writer.writerow([f"ROI_{place:04d}", product, "POINT (12.5 51.25)", "mid-cloudy", "1"])
            codes = {kind: [_padded(fake_codes(kind, SIDE, rng)) for _ in dates] for kind in _LABEL}
            for kind, stem in _LABEL.items():
                _write(folder, stem, codes[kind])
            _write(folder, _MASKS["sen2cor"], [np.where(one == 1, 9, 4) for one in codes["high"]])
            for level in ("l1c", "l2a"):
                names = _optical(level) + ["L2A_AOT"] * (level == "l2a")
                images = [fake_counts(len(names), one, "high") for one in codes["high"]]
                for number, stem in enumerate(names):
                    _write(folder, stem, [_padded(image[number, : SIDE, STORED_SIDE - SIDE :]) for image in images])
            for stem, value in zip((*_SAR, _DEM), (-9.5, -16.0, 38.0, 320), strict=True):
                _write(folder, stem, [np.full((STORED_SIDE, STORED_SIDE), value) for _ in dates])


def _optical(level: str) -> list[str]:
    """File names of the spectral bands; the set writes B1 for B01."""
    names = [band.name for band in bands(level)]
    return [f"{level.upper()}_B{name[1:].lstrip('0')}" for name in names]


def _padded(plane: NDArray[Any]) -> NDArray[Any]:
    """Zeros at the left and below, as in the release."""
    more = STORED_SIDE - SIDE
    return np.pad(plane, ((0, more), (more, 0)))


def _write(folder: Path, stem: str, patches: list[NDArray[Any]]) -> None:
    np.stack(patches).astype(_TYPES[stem.split("_")[0]]).tofile(folder / f"{stem}.dat")
