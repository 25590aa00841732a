"""38-Cloud and 95-Cloud: patches of 384 x 384 pixels of Landsat 8 scenes, with masks of cloud.

Layouts, found by themselves:
    published   38-Cloud_training/train_{red,green,blue,nir,gt}/<colour>_patch_<n>_<row>_by_<col>_<scene>.TIF, the
                same folders of 95-Cloud with an ending such as _additional_to38cloud, and
                38-Cloud_test/test_{red,green,blue,nir}/ with Entire_scene_gts/edited_corrected_gts_<scene>.TIF
    pictures    patch_<n>_<row>_by_<col>_<scene>_rgb.png of 8 bits, stretched per patch, with ..._gt.png
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from ...readers.landsat import calibration
from ...scene import Band
from .. import labels as lab
from ..sample import Sample
from ..tiff import read_tiff, write_tiff
from . import _fakes, register
from ._scenes import files_below, head, hold_out, missing_counterpart, read_window
from .base import DataSet, Record, Window

SIDE = 384
COLOURS = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B5"}
_PATCH = re.compile(r"patch_(\d+)_(\d+)_by_(\d+)_(L[A-Za-z0-9_]+?)(?:_rgb)?\.(?:TIFF?|png)$", re.IGNORECASE)


@register
class Cloud38(DataSet):
    """See the module's text.

    The patches hold Level-1 counts without metadata. Where ``<scene>_MTL.txt`` lies anywhere below the folder the
    patch becomes reflectance at the top of the atmosphere; otherwise counts are divided by 65535, as the authors do.
    Thin cloud counts as cloud, and shadow is not labelled. Pixels without data (0 in all bands) are missing.

    Splits: ``official`` is by folder; ``held-out`` takes a tenth of the training scenes for model choice.

    Args:
        root: folder that holds one or both sets.
        nonempty: only training patches named in a list ``*nonempty.csv`` of the authors: those with data in a fifth
            of their pixels or more.
    """

    name = "cloud38"
    title = "38-Cloud and 95-Cloud: cloud segmentation of Landsat 8"
    licence = "Not stated (scenes: public domain, US Government)"
    citation = (
        "Mohajerani & Saeedi, 2019. Cloud-Net. IGARSS, 1029-1032. doi:10.1109/IGARSS.2019.8898776. Mohajerani & "
        "Saeedi, 2020. Cloud-Net+: a cloud segmentation CNN for Landsat 8 remote sensing imagery optimized with "
        "filtered Jaccard loss function. arXiv:2001.08768"
    )
    homepage = "https://github.com/SorourMo/95-Cloud-An-Extension-to-38-Cloud-Dataset"
    obtain = "Download both sets from the links of the homepage (Kaggle), and unpack them below one folder."
    sensors = ("landsat-oli-c1-l1", "generic-rgb8")
    labels: ClassVar[Mapping[int, int]] = {0: lab.NOT_CLOUD, 1: lab.CLOUD, 255: lab.CLOUD}
    schemes = ("official", "held-out")

    def __init__(self, root: Path, *, nonempty: bool = False) -> None:
        self.nonempty = nonempty
        super().__init__(root)

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return (
            "Expected are folders train_red, train_green, train_blue, train_nir and train_gt, or test_red ... beside "
            "Entire_scene_gts, or patch_*_rgb.png with patch_*_gt.png."
        )

    def find(self) -> Iterator[Record]:
        """Patches by their red band, or by their picture."""
        wanted = self._nonempty() if self.nonempty else None
        metadata = {path.name[: -len("_mtl.txt")]: path for path in files_below(self.root, "_mtl.txt")}
        for folder in sorted(path for path in self.root.rglob("*_red*") if path.is_dir()):
            place = re.fullmatch(r"(train|test)_red(_.*)?", folder.name)
            if place is None:
                continue
            part, ending = place[1], place[2] or ""
            for red in files_below(folder, ".tif"):
                patch = re.sub(r"^red_", "", red.stem)
                if wanted is not None and part == "train" and patch not in wanted:
                    continue
                scene, row, col = _place(red)
                files = {colour: folder.parent / f"{part}_{colour}{ending}" / f"{colour}_{patch}{red.suffix}"
                         for colour in COLOURS}  # fmt: skip
                files["label"] = (
                    folder.parent / f"{part}_gt{ending}" / f"gt_{patch}{red.suffix}"
                    if part == "train"
                    else folder.parent / "Entire_scene_gts" / f"edited_corrected_gts_{scene}.TIF"
                )
                gone = [path for path in files.values() if not path.is_file()]
                if gone:
                    raise missing_counterpart(red, str(gone[0]), "Unpack all folders of the set again.")
                if scene in metadata:
                    files["mtl"] = metadata[scene]
                yield Record(patch, scene, files, part, {"row": row, "col": col})
        for picture in files_below(self.root, "_rgb.png"):
            if _PATCH.search(picture.name) is None:
                continue
            label = picture.with_name(re.sub(r"_rgb\.png$", "_gt.png", picture.name, flags=re.IGNORECASE))
            if not label.is_file():
                raise missing_counterpart(picture, f"{label.name} beside it", "Get the patch again.")
            scene, row, col = _place(picture)
            files = {"rgb": picture, "label": label}
            yield Record(picture.stem[: -len("_rgb")], scene, files, "train", {"row": row, "col": col})

    def _nonempty(self) -> set[str]:
        lists = files_below(self.root, "nonempty.csv")
        if not lists:
            raise InputError(
                f"{self.root} holds no list *nonempty.csv.",
                expected="The authors publish training_patches_38-cloud_nonempty.csv, and the like of 95-Cloud.",
                remedy="Download it with the set, or leave the option nonempty out.",
            )
        names: set[str] = set()
        for path in lists:
            with path.open(encoding="utf-8", newline="") as stream:
                names.update(row[0].strip() for row in csv.reader(stream) if row)
        return names

    def _assign(self, scheme: str) -> dict[str, str]:
        return super()._assign(scheme) if scheme == "official" else hold_out(self.records)

    def read(self, record: Record) -> Sample:
        """Read one patch."""
        if "rgb" in record.files:
            stored, bands, level = self._picture(record.files["rgb"])
            image = stored.astype(np.float32) / np.float32(255)
        else:
            planes = [read_tiff(record.files[colour], count=1, dtypes=("uint16",), shape=(SIDE, SIDE))
                      for colour in COLOURS]  # fmt: skip
            stored, bands = np.concatenate(planes), sensors.bands_of("landsat-oli-c1-l1", list(COLOURS.values()))
            image, level = stored.astype(np.float32), "counts"
            if "mtl" in record.files:
                level = "toa"
                factors_of_bands = calibration(record.files["mtl"], list(COLOURS.values()))[1]
                for row, (factors, _) in enumerate(factors_of_bands.values()):
                    image[row] = image[row] * np.float32(factors.scale) + np.float32(factors.offset)
            else:
                image /= np.float32(65535)
        sets = self._sets(record)
        # Pictures are stretched, so that their darkest pixels are 0 too; outside the scene nothing is called cloud.
        missing = (stored == 0).all(axis=0) & ((sets != lab.CLOUD) | ("rgb" not in record.files))
        image[:, missing], sets[missing] = np.nan, lab.MISSING
        return Sample(record.name, self.name, record.scene, record.split, image, sets, bands, 30.0, level)

    @staticmethod
    def _picture(path: Path) -> tuple[NDArray[np.uint8], tuple[Band, ...], str]:
        sensor = sensors.load("generic-rgb8")
        return read_tiff(path, count=3, dtypes=("uint8",), shape=(SIDE, SIDE)), sensor.bands, sensor.level

    def _sets(self, record: Record) -> NDArray[np.uint8]:
        path = record.files["label"]
        if not path.name.startswith("edited_corrected_gts_"):
            patch = read_tiff(path, count=1, dtypes=("uint8",), shape=(SIDE, SIDE))[0]
            return lab.to_sets(patch, self.labels, str(path))
        # Scenes were padded to whole patches, evenly on both sides, the odd pixel below and at the right.
        window, sets = [], np.full((SIDE, SIDE), lab.MISSING, np.uint8)
        for size, number in zip(head(path).shape, (record.tags["row"], record.tags["col"]), strict=True):
            count = -(-size // SIDE)
            if not 1 <= int(number) <= count:
                raise InputError(
                    f"{record.name} is number {int(number)} along one side of a scene with labels for {count}.",
                    expected="The patches of a scene cover its labels.",
                    remedy="Check that patch and labels are of the same scene.",
                )
            first = (int(number) - 1) * SIDE - (count * SIDE - size) // 2
            window.append((max(first, 0), min(first + SIDE, size), max(-first, 0)))
        (top, bottom, down), (left, right, across) = window
        codes = read_window(path, Window(top, left, bottom - top, right - left), count=1, dtypes=("uint8",))[0]
        part = (slice(down, down + codes.shape[0]), slice(across, across + codes.shape[1]))
        sets[part] = lab.to_sets(codes, self.labels, str(path))
        return sets

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write three scenes of 38-Cloud and one of 95-Cloud to train on, and one of 2 x 1 patches to test."""
        rng = np.random.default_rng(seed)
        scenes = [f"LC08_L1TP_0{2 + index:02d}053_20160520_20170324_01_T1" for index in range(5)]
        for index, scene in enumerate(scenes):
            part, ending, folder = "train", "", root / "38-Cloud_training"
            if index == 3:
                folder, ending = root / "95-cloud_training_only_additional_to38-cloud", "_additional_to38cloud"
            elif index == 4:
                part, folder = "test", root / "38-Cloud_test"
            whole = _fakes.code_blocks([0, 255], (2 * SIDE - 25, SIDE - 10), rng)
            padded = np.pad(whole, ((12, 13), (5, 5)))
            counts = _fakes.counts(padded, {0: 9000, 255: 30000}, 4, rng, "uint16")
            counts[:, :12], counts[:, -13:], counts[:, :, :5], counts[:, :, -5:] = 0, 0, 0, 0
            names = []
            for row in (1, 2):
                names.append(f"patch_{row}_{row}_by_1_{scene}")
                rows = slice((row - 1) * SIDE, row * SIDE)
                for colour, plane in zip(COLOURS, counts, strict=True):
                    place = folder / f"{part}_{colour}{ending}" / f"{colour}_{names[-1]}.TIF"
                    write_tiff(place, plane[rows], **_fakes.NOWHERE)
                if part == "train":
                    place = folder / f"train_gt{ending}" / f"gt_{names[-1]}.TIF"
                    write_tiff(place, padded[rows], **_fakes.NOWHERE)
            if part == "test":
                place = folder / "Entire_scene_gts" / f"edited_corrected_gts_{scene}.TIF"
                write_tiff(place, (whole > 0).astype(np.uint8), **_fakes.NOWHERE)
            elif index == 0:
                _fakes.write_oli_metadata(folder / f"{scene}_MTL.txt", scene)
                text = "\n".join(["name", names[0]]) + "\n"
                (folder / "training_patches_38-cloud_nonempty.csv").write_text(text, encoding="utf-8")


def _place(path: Path) -> tuple[str, int, int]:
    """Scene, row and column that a patch's name says."""
    found = _PATCH.search(path.name)
    if found is None:
        raise InputError(
            f"{path} is not called like a patch.",
            expected="Names are <colour>_patch_<n>_<row>_by_<col>_<scene>.TIF.",
            remedy="Move the file out of the folder.",
        )
    return found[4], int(found[2]), int(found[3])
