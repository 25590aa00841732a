"""Levir_CS: 4,168 scenes of Gaofen-1 WFV at a tenth of their resolution, with masks of cloud and snow.

    train/mss/<scene>_mss.tiff, train/dem/<scene>_dem.tiff, train/label_0_1_2/<scene>_roiMap.tif, and test/ alike
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from ...scene import Band
from .. import labels as lab
from ..sample import Sample
from ..tiff import write_tiff
from . import _fakes, register
from ._scenes import SceneSet, files_below, hold_out, read_window
from .base import Record
from .gf1_whu import counts_of_10_bits

_LOG = logging.getLogger("unclouded")


@register
class LevirCs(SceneSet):
    """See the module's text. Counts are divided by 1023; this is not reflectance.

    Splits: ``official`` has 3,068 scenes to train on and 1,100 to test, by folder; ``held-out`` takes a tenth of the
    former for model choice. CloudMamba's 3 x 3 windows of 512 are ``patch=512, edge="align"``.

    Args:
        root: folder that holds ``train`` and ``test``.
        dem: add the elevation in metres as a fifth band.
        patch, stride, edge, empty: see :class:`SceneSet`.
    """

    name = "levir_cs"
    title = "Levir_CS cloud and snow masks of Gaofen-1 WFV"
    licence = "Not stated for the data (the authors' code is Apache-2.0)"
    citation = (
        "Wu, Shi & Zou, 2021. A geographic information-driven method and a new large scale dataset for remote sensing "
        "cloud/snow detection. ISPRS Journal of Photogrammetry and Remote Sensing 174, 87-104"
    )
    homepage = "https://github.com/permanentCH5/GeoInfoNet"
    obtain = "Follow the links of the homepage, and unpack train and test into one folder."
    sensors = ("gaofen1-wfv", "dem")
    labels: ClassVar[Mapping[int, int]] = {0: lab.bits("land", "water", "shadow"), 1: lab.CLOUD, 2: lab.bits("snow")}
    schemes = ("official", "held-out")

    def __init__(
        self,
        root: Path,
        *,
        dem: bool = False,
        patch: int | None = None,
        stride: int | None = None,
        edge: Literal["drop", "align"] = "drop",
        empty: bool = True,
    ) -> None:
        self.dem = dem
        super().__init__(root, patch=patch, stride=stride, edge=edge, empty=empty)

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are train/ and test/ with mss/<scene>_mss.tiff and label_0_1_2/<scene>_roiMap.tif."

    def find_scenes(self) -> Iterator[Record]:
        """Scenes that have labels; those without are counted in the log."""
        labels = {path.name.casefold(): path for path in files_below(self.root, "_roimap.tif", "_roimap.tiff")}
        heights = {path.name.casefold(): path for path in files_below(self.root, "_dem.tif", "_dem.tiff")}
        bare = 0
        for image in files_below(self.root, "_mss.tif", "_mss.tiff"):
            scene = re.sub(r"_mss\.tiff?$", "", image.name, flags=re.IGNORECASE)
            label = _either(labels, scene, "roimap")
            if label is None:
                bare += 1
                continue
            files = {"image": image, "label": label}
            height = _either(heights, scene, "dem")
            if height is not None:
                files["dem"] = height
            parts = [part.casefold() for part in image.relative_to(self.root.parent).parts[:-1]]
            split = next((part for part in reversed(parts) if part in ("train", "test")), "")
            if not split:
                raise InputError(
                    f"{image} lies neither below train/ nor below test/.",
                    expected="The folder says whether a scene is for training or testing.",
                    remedy="Move it, with its labels, into one of them.",
                )
            place = re.search(r"_([EW])([\d.]+)_([NS])([\d.]+)_", scene)
            tags = {} if place is None else {
                "longitude": float(place[2]) * (1 if place[1] == "E" else -1),
                "latitude": float(place[4]) * (1 if place[3] == "N" else -1),
            }  # fmt: skip
            yield Record(scene, scene, files, split, tags)
        if bare:
            _LOG.warning("%s: %d images have no labels and are left out", self.root, bare)

    def _assign(self, scheme: str) -> dict[str, str]:
        return super()._assign(scheme) if scheme == "official" else hold_out(self.records)

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes of a scene or window; pixels without data, called 0 in the masks, are missing."""
        part = self.window(record)
        codes = read_window(record.files["label"], part, count=1, dtypes=("uint8",))[0]
        sets = lab.to_sets(codes, self.labels, str(record.files["label"]))
        stored = read_window(record.files["image"], part, count=4, dtypes=("uint16", "int16"))
        sets[(stored == 0).all(axis=0)] = lab.MISSING
        return sets

    def read(self, record: Record) -> Sample:
        """Read one scene, or a window of it."""
        part = self.window(record)
        image = counts_of_10_bits(record.files["image"], part, ("uint16", "int16"))
        bands: tuple[Band, ...] = sensors.load("gaofen1-wfv").bands
        if self.dem:
            if "dem" not in record.files:
                raise InputError(
                    f"{record.name} has no elevation.",
                    expected="It lies in dem/<scene>_dem.tiff.",
                    remedy="Unpack it, or leave the option dem out.",
                )
            height = read_window(record.files["dem"], part, count=1)
            image = np.concatenate([image, height.astype(np.float32)])
            bands = (*bands, *sensors.load("dem").bands[:1])
        return Sample(
            record.name, self.name, record.scene, record.split, image, self.read_sets(record), bands, 160.0, "counts"
        )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write four small scenes to train on and two to test."""
        rng = np.random.default_rng(seed)
        for index in range(6):
            scene = f"GF1_WFV{1 + index % 4}_E{60 + index}.4_N30.9_2018081{index}_L1A0003400{484 + index}"
            label = _fakes.code_blocks([0, 1, 2, 0], (40, 44), rng)
            counts = np.minimum(_fakes.counts(label, {0: 200, 1: 700, 2: 850}, 4, rng, "uint16"), 1023)
            counts[:, :3] = 0
            label[:3] = 0
            folder = root / ("train" if index < 4 else "test")
            place = _fakes.grid(160.0)
            write_tiff(folder / "mss" / f"{scene}_mss.tiff", counts.astype(np.uint16), **place)
            write_tiff(folder / "dem" / f"{scene}_dem.tiff", rng.integers(0, 3000, (40, 44)).astype(np.int16), **place)
            write_tiff(folder / "label_0_1_2" / f"{scene}_roiMap.tif", label, **place)


def _either(found: Mapping[str, Path], scene: str, ending: str) -> Path | None:
    stem = f"{scene}_{ending}".casefold()
    return found.get(f"{stem}.tif") or found.get(f"{stem}.tiff")
