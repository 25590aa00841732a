"""On Cloud N: chips of 512 x 512 pixels of Sentinel-2 Level-2A, with masks of cloud; almost 12,000 to train on.

Layouts, found by themselves:
    competition     train_features/<chip>/B02.tif, B03.tif, B04.tif, B08.tif, train_labels/<chip>.tif,
                    train_metadata.csv; after the end also test_features/, test_labels/, test_metadata.csv
    one raster      chip_<n>_image.tif with these four bands, chip_<n>_label.tif
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from ... import sensors
from ...errors import InputError, RadiometryError
from .. import labels as lab
from ..sample import Sample
from ..tiff import read_tiff, write_tiff
from . import _fakes, register
from ._scenes import by_scene, hold_out, missing_counterpart
from .base import DataSet, Record, split_by_scene

BANDS = ("B02", "B03", "B04", "B08")
_OFFSET_SINCE = "2022-01-25"
"""Baseline 04.00: counts of later acquisitions would carry an offset of 1000."""


@register
class OnCloudN(DataSet):
    """See the module's text. Reflectance is count / 10000: all chips are from before processing baseline 04.00.

    Outlines are generous, gaps between clouds are filled, and shadow is not labelled. The scene is the location of the
    metadata, where it is there.

    Splits: ``official`` calls all chips of the competition ``train``, and those published after its end ``test``;
    ``held-out`` takes a tenth of the former locations for model choice; ``by-location`` gives 70, 10 and 20 % of all
    locations, seed 42.
    """

    name = "on_cloud_n"
    title = "On Cloud N: Sentinel-2 cloud cover segmentation"
    licence = "CC-BY-4.0"
    citation = (
        "Radiant Earth Foundation, 2022. Sentinel-2 Cloud Cover Segmentation Dataset (Version 1). "
        "doi:10.34911/rdnt.hfq6m7"
    )
    homepage = "https://www.drivendata.org/competitions/83/cloud-cover/"
    obtain = "Download ref_cloud_cover_detection_challenge_v1 from Source Cooperative (Radiant Earth), keeping its \
folders public and private."
    sensors = ("sentinel2-l2a",)
    labels: ClassVar[Mapping[int, int]] = {0: lab.NOT_CLOUD, 1: lab.CLOUD, 255: lab.MISSING}
    schemes = ("official", "held-out", "by-location")

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return (
            "Expected are train_features/<chip>/B02.tif, B03.tif, B04.tif, B08.tif with train_labels/<chip>.tif, or "
            "chip_<n>_image.tif with chip_<n>_label.tif."
        )

    def find(self) -> Iterator[Record]:
        """Chips by their blue band, or by their one raster."""
        for blue in sorted(self.root.rglob("*_features/*/B02.tif")):
            chip, part = blue.parent, blue.parent.parent.name.removesuffix("_features")
            if part not in ("train", "test"):
                continue
            files = {band: chip / f"{band}.tif" for band in BANDS}
            files["label"] = chip.parent.parent / f"{part}_labels" / f"{chip.name}.tif"
            gone = [path for path in files.values() if not path.is_file()]
            if gone:
                raise missing_counterpart(chip, str(gone[0]), "Download the chip again, four bands and the labels.")
            told = _metadata(chip.parent.parent / f"{part}_metadata.csv").get(chip.name, {})
            tags = {key: told[key] for key in ("location", "datetime") if told.get(key)}
            if tags.get("datetime", "") >= _OFFSET_SINCE:
                raise RadiometryError(
                    f"Chip {chip.name} was taken on {tags['datetime']}.",
                    expected="Chips are from 2018 to 2020, when counts had no offset.",
                    remedy="Check the metadata; this is not the data set as published.",
                )
            yield Record(chip.name, str(tags.get("location", chip.name)), files, part, tags)
        for image in sorted(self.root.rglob("chip_*_image.tif")):
            label = image.with_name(image.name.replace("_image.tif", "_label.tif"))
            if not label.is_file():
                raise missing_counterpart(image, f"{label.name} beside it", "Get the chip again.")
            chip_name = re.sub(r"_image\.tif$", "", image.name)
            yield Record(chip_name, chip_name, {"image": image, "label": label}, "train")

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "official":
            return super()._assign(scheme)
        if scheme == "held-out":
            return hold_out(self.records)
        parts = (("train", 0.7), ("choose", 0.1), ("test", 0.2))
        return by_scene(self.records, split_by_scene((record.scene for record in self.records), parts, 42))

    def read(self, record: Record) -> Sample:
        """Read one chip."""
        if "image" in record.files:
            stored = read_tiff(record.files["image"], count=4, dtypes=("uint16",))
        else:
            planes = [read_tiff(record.files[band], count=1, dtypes=("uint16", "int16")) for band in BANDS]
            shapes = {plane.shape for plane in planes}
            if len(shapes) > 1:
                raise InputError(
                    f"The bands of chip {record.name} have the shapes {sorted(shapes)}.",
                    expected="All bands have the same size.",
                    remedy="Download the chip again.",
                )
            stored = np.concatenate(planes)
        codes = read_tiff(record.files["label"], count=1, dtypes=("uint8",), shape=stored.shape[1:])[0]
        image = stored.astype(np.float32) * np.float32(1e-4)
        sets, missing = lab.to_sets(codes, self.labels, str(record.files["label"])), (stored == 0).all(axis=0)
        image[:, missing], sets[missing] = np.nan, lab.MISSING
        bands = sensors.bands_of("sentinel2-l2a", BANDS)
        return Sample(record.name, self.name, record.scene, record.split, image, sets, bands, 10.0, "boa")

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write eight chips of four places to train on and two to test."""
        rng = np.random.default_rng(seed)
        for part, count in (("train", 8), ("test", 2)):
            folder = root / ("public" if part == "train" else "private")
            rows = ["chip_id,location,datetime,cloudpath"]
            for index in range(count):
                chip = "".join(chr(97 + digit) for digit in rng.integers(0, 26, 3)) + chr(97 + index)
                label = _fakes.code_blocks([0, 1], (512, 512), rng)
                label[:4] = 255
                image = _fakes.counts(label, {0: 1500, 1: 6000}, 4, rng, "uint16")
                place = _fakes.grid(10.0)
                for band, plane in zip(BANDS, image, strict=True):
                    write_tiff(folder / f"{part}_features" / chip / f"{band}.tif", plane, **place)
                write_tiff(folder / f"{part}_labels" / f"{chip}.tif", label, **place)
                town = "Chifunfu" if part == "test" else ("Lodwar", "Bamako", "Arlit", "Jijiga")[index // 2]
                rows.append(f"{chip},{town},2020-04-29T08:20:47Z,az://./{part}_features/{chip}")
            (folder / f"{part}_metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@lru_cache(maxsize=16)
def _metadata(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Rows by chip; none where there is no such file."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if "chip_id" not in (rows.fieldnames or ()):
            raise InputError(
                f"{path} has the columns {', '.join(rows.fieldnames or ())}.",
                expected="Its columns are chip_id, location, datetime, cloudpath.",
                remedy="Download it again.",
            )
        return {row["chip_id"]: row for row in rows}
