"""Sentinel-2 Cloud Mask Catalogue: 513 subscenes of 1022 x 1022 pixels at 20 m, level L1C of 2018, with tags.

    <root>/subscenes/<product>.npy, masks/<product>.npy, classification_tags.csv
    <root>/{train,valid,test}.csv, or in a folder Sentinel-2-splits: the lists that SEnSeI was trained with

A mask says clear, cloud or shadow; the tags of a subscene say which kinds of clear ground and of cloud are possible.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from .. import labels as lab
from ..sample import Sample
from . import register
from .base import DataSet, Record, split_by_scene

_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_TABLE = "classification_tags.csv"
_LISTS = {"train": "train", "valid": "choose", "test": "test"}
_SHARES = (("train", 0.4), ("choose", 0.1), ("test", 0.5))

_WATER_AND_LAND = ("coast", "enclosed", "wetland", "bog", "marsh")
_LAND = (
    "forest", "jungle", "agricultur", "urban", "developed", "hill", "mountain", "desert", "barren", "shrub", "plain",
)  # fmt: skip
"""Beginnings of words that name surfaces in the table's header."""


@register
class S2Catalogue(DataSet):
    """Sentinel-2 Cloud Mask Catalogue, with labels narrowed or widened by the tags of each subscene."""

    name = "s2-catalogue"
    title = "Sentinel-2 Cloud Mask Catalogue"
    licence = "CC BY 4.0 (as far as known)"
    citation = "Francis et al. (2020): Sentinel-2 Cloud Mask Catalogue. Zenodo, doi:10.5281/zenodo.4172871"
    homepage = "https://zenodo.org/record/4172871"
    obtain = "Get subscenes.zip, masks.zip and classification_tags.csv from zenodo.org/record/4172871 and unpack them."
    sensors = ("sentinel2-l1c",)
    labels: ClassVar[Mapping[int, int]] = {0: lab.CLEAR, 1: lab.CLOUD, 2: lab.SHADOW}
    schemes = ("random", "sensei-v1")

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return f"The folders subscenes and masks with .npy files of the same names, and {_TABLE}."

    def find(self) -> Iterator[Record]:
        """One record per subscene of the table that has image and mask."""
        path = self.root / _TABLE
        if not path.is_file():
            raise InputError(f"{path} is missing.", expected=self.expected_layout(), remedy=self.obtain)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
        header = list(rows[0]) if rows else []
        roles = _roles(header, path)
        for row in rows:
            name = row[roles["scene"][0]]
            image, mask = self.root / "subscenes" / f"{name}.npy", self.root / "masks" / f"{name}.npy"
            if not (image.is_file() and mask.is_file()):
                continue
            on = {role: any(_flag(row[column], column, path) for column in columns) for role, columns in roles.items()
                  if role != "scene"}  # fmt: skip
            tags: dict[str, str | float] = {role: float(value) for role, value in on.items()}
            yield Record(name, name, {"image": image, "label": mask}, "", tags)

    def read(self, record: Record) -> Sample:
        """Read one subscene; pixels without reflectance in any band are NaN and ignored."""
        image = _load(record.files["image"], "float32", len(_BANDS))
        mask = _load(record.files["label"], "bool", len(self.labels))
        if not (mask.sum(axis=0, dtype=np.uint8) == 1).all():
            raise InputError(
                f"{record.files['label']} has pixels of no class, or of several.",
                expected="Every pixel is clear, cloud or shadow.",
                remedy="Check that the mask belongs to this data set, or get it again.",
            )
        sets = (mask * np.array(label_sets(record.tags), np.uint8)[:, None, None]).sum(axis=0, dtype=np.uint8)
        missing = ~(image > 0).any(axis=0)
        image[:, missing] = np.nan
        sets[missing] = lab.IGNORED
        bands = sensors.bands_of("sentinel2-l1c", _BANDS)
        clear = bool(mask[0].all()) and bool(record.tags["shadows_marked"])
        return Sample(record.name, self.name, record.scene, record.split, image, sets, bands, 20.0, "toa", clear)

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "random":
            parts = split_by_scene((record.scene for record in self.records), _SHARES, seed=0)
        else:
            parts = self._listed()
        return {record.name: parts.get(record.scene, "") for record in self.records}

    def _listed(self) -> dict[str, str]:
        folders = [folder for folder in (self.root / "Sentinel-2-splits", self.root)
                   if all((folder / f"{name}.csv").is_file() for name in _LISTS)]  # fmt: skip
        if not folders:
            raise InputError(
                f"{self.root} has no lists train.csv, valid.csv and test.csv.",
                expected="The split 'sensei-v1' needs them; each has one product name per line.",
                remedy="Copy the folder Sentinel-2-splits of github.com/aliFrancis/SEnSeI there.",
            )
        out: dict[str, str] = {}
        for name, part in _LISTS.items():
            lines = (folders[0] / f"{name}.csv").read_text(encoding="utf-8").split()
            out |= dict.fromkeys(lines, part)
        return out

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Four small subscenes (the real ones have 1022 pixels a side), each with other tags, and the lists."""
        rng = np.random.default_rng(seed)
        for folder in ("subscenes", "masks", "Sentinel-2-splits"):
            (root / folder).mkdir(parents=True)
        header = ["index", "scene", "difficulty", "shadows_marked", "forest/jungle", "snow/ice", "open_water",
                  "coastal", "cumulus", "ice_clouds", "low", "high", "thin", "thick", "isolated", "extended",
                  "clear_percent", "cloud_percent", "shadow_percent", "dataset"]  # fmt: skip
        tagged = (  # shadows, forest, snow, water, coast, thin, thick
            (1, 1, 0, 0, 0, 0, 1), (0, 0, 1, 0, 0, 1, 0), (1, 0, 0, 1, 0, 1, 1), (0, 0, 0, 0, 0, 0, 0),
        )  # fmt: skip
        names = [f"S2A_MSIL1C_2018{month:02d}12T100031_N0206_R122_T33UUB_20180612T121050" for month in range(1, 5)]
        with (root / _TABLE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            for index, (name, flags) in enumerate(zip(names, tagged, strict=True)):
                shadows, forest, snow, water, coast, thin, thick = flags
                surface = [shadows, forest, snow, water, coast]
                writer.writerow([index, name, 1, *surface, 1, 0, 1, 0, thin, thick, 1, 0, 40, 40, 20, "MAIN"])
                codes = np.repeat(np.repeat(rng.permutation(np.resize(range(3), 64)).reshape(8, 8), 8, 0), 8, 1)
                image = np.repeat(np.array([0.15, 0.6, 0.05], np.float32)[codes][..., None], len(_BANDS), axis=2)
                image[:2] = 0
                np.save(root / "subscenes" / f"{name}.npy", image)
                np.save(root / "masks" / f"{name}.npy", codes[..., None] == np.arange(3))
        for part, listed in zip(_LISTS, (names[:2], names[2:3], names[3:]), strict=True):
            (root / "Sentinel-2-splits" / f"{part}.csv").write_text("\n".join([*listed, "", ""]), encoding="utf-8")


def label_sets(tags: Mapping[str, str | float]) -> tuple[int, int, int]:
    """Sets of the labels clear, cloud and shadow in a subscene with these tags.

    Args:
        tags: ``land``, ``water``, ``snow``, ``thin``, ``thick`` and ``shadows_marked``, 0 or 1.

    Source: the label mapping of SEnSeI-v2 (METHODS B.8).

    >>> clear, cloud, shadow = label_sets({"land": 1, "thick": 1, "shadows_marked": 0})
    >>> clear == lab.bits("land", "shadow"), cloud == lab.THICK
    (True, True)
    """
    clear = lab.bits(*(name for name in ("land", "water", "snow") if tags.get(name)))
    cloud = lab.bits(*(name for name in ("thin", "thick") if tags.get(name)))
    shadow = 0 if tags.get("shadows_marked") else lab.SHADOW
    return (clear or lab.CLEAR) | shadow, cloud or lab.CLOUD, lab.SHADOW


def _roles(header: list[str], path: Path) -> dict[str, list[str]]:
    """Columns of the table by what they say. Names are matched by the beginnings of their words.

    Raises:
        InputError: a column that the labels need is missing or comes twice.
    """
    words = {column: re.findall("[a-z]+", column.casefold()) for column in header}
    surfaces = {column: found for column, found in words.items() if not {"cloud", "clouds"} & set(found)}

    def named(beginnings: tuple[str, ...]) -> list[str]:
        return [c for c, found in surfaces.items() if any(word.startswith(beginnings) for word in found)]

    roles = {
        "scene": [column for column in header if column.casefold() == "scene"],
        "shadows_marked": [column for column in header if column.casefold() == "shadows_marked"],
        "snow": named(("snow",)),
        "water": named(("water", *_WATER_AND_LAND)),
        "land": named((*_LAND, *_WATER_AND_LAND)),
        "thin": [column for column, found in words.items() if "thin" in found],
        "thick": [column for column, found in words.items() if "thick" in found],
    }
    single = ("scene", "shadows_marked", "thin", "thick")
    bad = [role for role, columns in roles.items() if not columns or (role in single and len(columns) > 1)]
    if bad:
        raise InputError(
            f"{path} has the columns {', '.join(header)}; {', '.join(bad)} cannot be told from them.",
            expected="There is one column each for scene, shadows_marked, thin and thick, and some for the surfaces.",
            remedy="Get the table again; if it has changed, its new names have to be added to this reader.",
        )
    return roles


def _flag(text: str, column: str, path: Path) -> bool:
    value = text.strip().casefold().removesuffix(".0")
    if value not in ("0", "1", "true", "false"):
        raise InputError(
            f"The column '{column}' of {path} holds '{text}'.",
            expected="Tags are 0 or 1.",
            remedy="Get the table again.",
        )
    return value in ("1", "true")


def _load(path: Path, dtype: str, channels: int) -> NDArray[Any]:
    """An array stored (y, x, channel), as (channel, y, x)."""
    try:
        stored = open_memmap(path, mode="r")
    except (OSError, ValueError) as err:
        raise InputError(
            f"{path} cannot be read: {err}.",
            expected="It is an array in NumPy's own format.",
            remedy="Get it again.",
        ) from err
    if stored.dtype != dtype or stored.ndim != 3 or stored.shape[2] != channels or stored.shape[0] != stored.shape[1]:
        raise InputError(
            f"{path} holds {stored.dtype} of the shape {stored.shape}.",
            expected=f"It is square, with {channels} channels of the type {dtype}.",
            remedy="Check that it belongs to this data set, or get it again.",
        )
    return np.ascontiguousarray(np.moveaxis(stored, -1, 0))
