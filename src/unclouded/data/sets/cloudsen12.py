"""CloudSEN12 as first released: one folder per place and date with GeoTIFFs of 509 x 509 pixels.

    <root>/**/<ROI>/<Sentinel-2 id>/S2L1C.tif, S2L2A.tif, S1.tif, extra/*.tif, labels/*.tif
    <root>/cloudsen12_metadata.csv
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..tiff import read_tiff, write_tiff
from . import register
from ._cloudsen12 import HIGH, SCRIBBLE, SIDE, THIRD_PARTY, CloudSen12Base, Stored, check_decibel, place_tags
from .base import Record

_IMAGE = {"l1c": "S2L1C.tif", "l2a": "S2L2A.tif"}
_LAYERS = {"l1c": 13, "l2a": 17}
"""L2A holds twelve bands, then aerosol thickness, water vapour and a picture of three."""
_LABEL = {"high": "manual_hq.tif", "scribble": "manual_sc.tif"}
_TABLE = "cloudsen12_metadata.csv"
_SPLITS = {"0": "train", "1": "test", "2": "choose"}
_PUBLISHED = {"choose": 535, "test": 975}
"""Sizes of the official parts of the dense labels, to tell which code is which."""


@register
class CloudSen12(CloudSen12Base):
    """CloudSEN12, one folder per place and date. Options: see :class:`CloudSen12Base`."""

    name = "cloudsen12"
    title = "CloudSEN12 (GeoTIFF)"
    licence = "CC BY 4.0 (STAC collection); earlier copies CC BY-NC-SA 4.0"
    obtain = (
        "Get the folders high/ or scribble/ with cloudsen12_metadata.csv as described at "
        "https://cloudsen12.github.io/download.html, and unpack the chunks into one folder."
    )

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return (
            "Folders <ROI>/<Sentinel-2 id>/ at any depth, each with S2L1C.tif or S2L2A.tif and labels/manual_hq.tif or "
            f"labels/manual_sc.tif, and {_TABLE} at the top."
        )

    def find(self) -> Iterator[Record]:
        """Every folder with the image of the level and the kind of label asked for."""
        table = self._table()
        for image in self.root.rglob(_IMAGE[self.level]):
            label = image.parent / "labels" / _LABEL[self.kind]
            if not label.is_file():
                continue
            scene, product = image.parent.parent.name, image.parent.name
            split, tags = table.get((scene, product, self.kind), ("", place_tags(product, "")))
            files = {"image": image, "label": label}
            if self.with_sar:
                files["s1"] = _one(image.parent, "s1*.tif", "backscatter")
            if self.with_dem:
                files["dem"] = _one(image.parent, "extra/*elev*.tif", "elevation")
            yield Record(f"{scene}__{product}", scene, files, split, tags)

    def _table(self) -> dict[tuple[str, str, str], tuple[str, dict[str, str | float]]]:
        """Split and tags by place, product and kind of label; empty where there is no table."""
        path = self.root / _TABLE
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        needed = {"roi_id", "s2_id_gee", "label_type", "test"}
        if not rows or not needed <= set(rows[0]):
            raise InputError(
                f"{path} has the columns {', '.join(rows[0]) if rows else 'none'}.",
                expected=f"The table of the release has {', '.join(sorted(needed))} among its columns.",
                remedy="Get the table again.",
            )
        splits = _split_codes(rows, path)
        out = {}
        for row in rows:
            tags: dict[str, str | float] = {**place_tags(row["s2_id_gee"], row.get("proj_centroid") or "")}
            tags |= {key: row[key] for key in ("cloud_coverage", "difficulty") if row.get(key)}
            out[row["roi_id"], row["s2_id_gee"], row["label_type"]] = (splits[_code(row["test"])], tags)
        return out

    def _stored(self, record: Record) -> Stored:
        counts = read_tiff(
            record.files["image"], count=_LAYERS[self.level], dtypes=("int16", "uint16"), shape=(SIDE, SIDE)
        )
        used = (13 if self.level == "l1c" else 12) + self.with_aot
        extra = []
        if self.with_sar:
            sar = read_tiff(record.files["s1"], count=3, dtypes=("float32", "float64"), shape=(SIDE, SIDE))
            check_decibel(sar.astype(np.float32), record.files["s1"])
            extra.append(sar.astype(np.float32))
        if self.with_dem:
            extra.append(read_tiff(record.files["dem"], count=1, shape=(SIDE, SIDE)).astype(np.float32))
        return Stored(
            counts[:used],
            np.concatenate(extra) if extra else np.empty((0, SIDE, SIDE), np.float32),
            read_tiff(record.files["label"], count=1, shape=(SIDE, SIDE))[0],
        )

    def _mask_codes(self, record: Record, program: str) -> NDArray[np.integer]:
        path = _one(record.files["label"].parent, f"{program}*.tif", f"{program} mask")
        return read_tiff(path, count=1, shape=(SIDE, SIDE))[0]

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Three places with one or two dates, all files, every label code."""
        rng = np.random.default_rng(seed)
        rows = []
        for place, (split, dates) in enumerate((("0", (6, 7)), ("2", (6,)), ("1", (6,)))):
            for month in dates:
                scene, product = f"ROI_{place:04d}", f"2019{month:02d}12T101031_2019{month:02d}12T101033_T33UUB"
                for kind in _LABEL if place == 0 else ("high",):
                    fake_place(root / kind / scene / product, kind, rng)
                    rows.append([scene, product, kind, split, "mid-cloudy", "1", f"POINT (12.5 {20 + 20 * place})"])
        with (root / _TABLE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(
                ["roi_id", "s2_id_gee", "label_type", "test", "cloud_coverage", "difficulty", "proj_centroid"]
            )
            writer.writerows(rows)


def fake_place(folder: Path, kind: str, rng: np.random.Generator) -> None:
    """Write the files of one place and date."""
    codes = fake_codes(kind, SIDE, rng)
    for level, name in _IMAGE.items():
        write_tiff(folder / name, fake_counts(_LAYERS[level], codes, kind))
    sar = np.stack([np.full(codes.shape, value, np.float32) for value in (-9.5, -16.0, 38.0)])
    write_tiff(folder / "S1.tif", sar)
    write_tiff(folder / "extra" / "elevation.tif", np.full(codes.shape, 320, np.int16))
    write_tiff(folder / "labels" / _LABEL[kind], codes)
    for program, table in THIRD_PARTY.items():
        code = {value: own for own, value in table.items()}  # of every class that the program tells apart
        found = np.where(codes == 1, code[1], code[0])
        write_tiff(folder / "labels" / f"{program}.tif", found.astype(np.uint16 if found.max() > 255 else np.uint8))


def fake_codes(kind: str, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Label codes in squares, every code of the kind among them."""
    known = sorted(SCRIBBLE if kind == "scribble" else HIGH)
    blocks = rng.permutation(np.resize(known, 64)).reshape(8, 8)
    size = -(-side // 8)
    return np.repeat(np.repeat(blocks, size, 0), size, 1)[:side, :side].astype(np.uint8)


def fake_counts(layers: int, codes: NDArray[np.uint8], kind: str) -> NDArray[np.uint16]:
    """Counts that follow the labels: clouds are bright, shadows dark."""
    bright = np.array([1500, 6000, 3000, 600], np.uint16)
    four = np.array([0, 1, 1, 2, 2, 3, 3] if kind == "scribble" else [0, 1, 2, 3])
    plane = np.where(codes < len(four), bright[four[np.minimum(codes, len(four) - 1)]], 1500)
    return np.stack([plane + 10 * layer for layer in range(layers)]).astype(np.uint16)


def _one(folder: Path, pattern: str, what: str) -> Path:
    """The only file of a pattern, upper and lower case alike."""
    inner, _, name = pattern.rpartition("/")
    inside = (folder / inner).iterdir() if (folder / inner).is_dir() else ()
    found = [path for path in inside if fnmatch(path.name.casefold(), name)]
    if len(found) != 1:
        raise InputError(
            f"{folder} has {len(found)} files like {pattern}.",
            expected=f"One file holds the {what}.",
            remedy="Get the complete release, or leave this part out.",
        )
    return found[0]


def _code(text: str) -> str:
    """``1.0`` and ``1`` are the same code."""
    return text.removesuffix(".0")


def _split_codes(rows: list[dict[str, str]], path: Path) -> dict[str, str]:
    """Which part each code of the column ``test`` stands for.

    Users of the set disagree on which of 1 and 2 is the test part; in a complete table the sizes tell.
    """
    counts = Counter(_code(row["test"]) for row in rows if row["label_type"] == "high")
    strange = {_code(row["test"]) for row in rows} - set(_SPLITS)
    if strange:
        raise InputError(
            f"The column 'test' of {path} holds {', '.join(sorted(strange))}.",
            expected="Known values are 0 (train), 1 and 2.",
            remedy="Get the table again.",
        )
    if (counts["1"], counts["2"]) == (_PUBLISHED["choose"], _PUBLISHED["test"]):
        return {"0": "train", "1": "choose", "2": "test"}
    return dict(_SPLITS)
