"""GF1_WHU: 108 scenes of Gaofen-1 WFV with masks of cloud and shadow.

A scene is ``<scene>.tar.gz`` with a GeoTIFF of four bands (counts of 10 bits), or that GeoTIFF unpacked, and
``<scene>_ReferenceMask.tif``, in one folder or below it.
"""

from __future__ import annotations

import logging
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from ...readers.files import Files
from .. import labels as lab
from ..sample import Sample
from ..tiff import write_tiff
from . import _fakes, register
from ._scenes import SceneSet, by_scene, files_below, hold_out, missing_counterpart, read_window
from .base import Record, Window, split_by_scene

_LOG = logging.getLogger("unclouded")

TRAIN_SCENES, ALL_SCENES = 86, 108
"""Of CloudMamba, which trains on 86 scenes and tests on 22."""

SATURATED = 1023
"""Largest count of 10 bits; larger ones are cut, as the authors of Levir_CS do with the same camera."""


@register
class Gf1Whu(SceneSet):
    """See the module's text. Counts are divided by 1023; this is not reflectance.

    Splits: ``random`` gives 70, 10 and 20 % of the scenes, seed 42. ``cloudmamba`` trains on 86 of 108 scenes and tests
    on 22. Which ones is not published: they are drawn, seed 42, unless the folder holds lists of your own, one scene a
    line: ``train.txt``, ``test.txt`` and if there is one ``choose.txt``. Without that last one a tenth of the training
    scenes is taken for model choice.
    """

    name = "gf1_whu"
    title = "GF1_WHU cloud and cloud shadow masks of Gaofen-1 WFV"
    licence = "Shared for academic purposes only (no licence text)"
    citation = (
        "Li et al., 2017. Multi-feature combined cloud and cloud shadow detection in GaoFen-1 wide field of view "
        "imagery. Remote Sensing of Environment 191, 342-358"
    )
    homepage = "http://sendimage.whu.edu.cn/en/mfc-validation-data/"
    obtain = "Download scenes and masks from the homepage into one folder; unpack the *.tar.gz to read windows of them."
    sensors = ("gaofen1-wfv",)
    labels: ClassVar[Mapping[int, int]] = {0: lab.MISSING, 1: lab.CLEAR, 128: lab.SHADOW, 255: lab.CLOUD}
    schemes = ("random", "cloudmamba")

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are <scene>_ReferenceMask.tif with <scene>.tiff, <scene>.tif or <scene>.tar.gz."

    def find_scenes(self) -> Iterator[Record]:
        """Scenes by their masks."""
        images = {re.sub(r"\.(tiff?|tar\.gz)$", "", path.name): path for path in
                  reversed(files_below(self.root, ".tif", ".tiff", ".tar.gz"))
                  if not path.name.casefold().endswith("_referencemask.tif")}  # fmt: skip
        unpacked = {name: path for name, path in images.items() if path.suffix != ".gz"}
        for mask in files_below(self.root, "_ReferenceMask.tif"):
            scene = mask.name[: -len("_ReferenceMask.tif")]
            image = unpacked.get(scene) or images.get(scene)
            if image is None:
                raise missing_counterpart(mask, f"image {scene}.tiff or {scene}.tar.gz", self.obtain)
            camera = re.match(r"GF1_(WFV\d)_", scene)
            yield Record(scene, scene, {"image": image, "label": mask}, tags={"camera": camera[1]} if camera else {})

    def _assign(self, scheme: str) -> dict[str, str]:
        scenes = {record.scene for record in self.records}
        if scheme == "random":
            return by_scene(self.records, split_by_scene(scenes, (("train", 0.7), ("choose", 0.1), ("test", 0.2)), 42))
        lists = {part: self.root / f"{part}.txt" for part in ("train", "choose", "test")}
        given = {part: path for part, path in lists.items() if path.is_file()}
        if not given:
            _LOG.info("%s: no train.txt and test.txt in %s, the split is drawn", self.name, self.root)
            split = split_by_scene(scenes, (("train", TRAIN_SCENES / ALL_SCENES), ("test", 1.0)), 42)
        else:
            split = self._listed(given, scenes)
        if "choose" in given:
            return by_scene(self.records, split)
        return hold_out([replace(record, split=split[record.scene]) for record in self.records])

    def _listed(self, lists: Mapping[str, Path], scenes: set[str]) -> dict[str, str]:
        """Part of every scene as lists in the folder say."""
        gone = [f"{part}.txt" for part in ("train", "test") if part not in lists]
        if gone:
            raise InputError(
                f"{self.root} holds {', '.join(path.name for path in lists.values())}, but no {gone[0]}.",
                expected="Lists of scenes come as train.txt and test.txt, and if there is one choose.txt.",
                remedy=f"Write {gone[0]}, one scene a line, or remove the others to have the scenes drawn.",
            )
        split: dict[str, str] = {}
        for part, path in lists.items():
            for scene in path.read_text(encoding="utf-8").split():
                if split.setdefault(scene, part) != part:
                    raise InputError(
                        f"The scene {scene} is in {split[scene]}.txt and in {part}.txt.",
                        expected="A scene is in one of the lists.",
                        remedy="Remove it from one of them.",
                    )
        left = sorted(scenes - set(split))
        if left:
            raise InputError(
                f"The lists in {self.root} leave out {len(left)} scenes, e.g. {left[0]}.",
                expected="Every scene is in train.txt, test.txt or choose.txt.",
                remedy="Add the scene, or move its files out of the folder.",
            )
        return split

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes of a scene or window, (y, x)."""
        codes = read_window(record.files["label"], self.window(record), count=1, dtypes=("uint8",))[0]
        return lab.to_sets(codes, self.labels, str(record.files["label"]))

    def read(self, record: Record) -> Sample:
        """Read one scene, or a window of it."""
        sensor, sets = sensors.load("gaofen1-wfv"), self.read_sets(record)
        image = counts_of_10_bits(self._raster(record), self.window(record), ("uint16", "int16"))
        return Sample(
            record.name, self.name, record.scene, record.split, image, sets, sensor.bands, 16.0, "counts"
        )

    def _raster(self, record: Record) -> str:
        path = record.files["image"]
        if path.suffix != ".gz":
            return str(path)
        if record.window is not None:
            raise InputError(
                f"{path} is packed.",
                expected="Windows are read from unpacked scenes: every window would unpack the whole archive.",
                remedy=f"Unpack it there: tar -xzf {path.name}",
            )
        archive = Files.of(path)
        inside = [name for name in archive.names if re.search(r"\.tiff?$", name, re.IGNORECASE)]
        if len(inside) != 1:
            raise InputError(
                f"{path} holds {len(inside)} images.",
                expected="The archive of a scene holds one GeoTIFF.",
                remedy="Download it again.",
            )
        return archive.gdal(inside[0])

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write five small scenes, the last one packed."""
        rng = np.random.default_rng(seed)
        scenes = [f"GF1_WFV{1 + index % 4}_E6{index}.4_N30.9_2018081{index}_L2A000340048{index}" for index in range(5)]
        for scene in scenes:
            label = _fakes.code_blocks(sorted(cls.labels), (40, 44), rng, corner=0)
            counts = _fakes.counts(label, {1: 250, 128: 120, 255: 800}, 4, rng, "uint16")
            write_tiff(root / f"{scene}_ReferenceMask.tif", label, **_fakes.grid(16.0))
            write_tiff(root / f"{scene}.tiff", np.minimum(counts, SATURATED).astype(np.uint16), **_fakes.grid(16.0))
        packed = root / f"{scenes[-1]}.tiff"
        with tarfile.open(root / f"{scenes[-1]}.tar.gz", "w:gz") as tar:
            tar.add(packed, packed.name)
        packed.unlink()


def counts_of_10_bits(path: str | Path, window: Window, dtypes: tuple[str, ...]) -> NDArray[np.float32]:
    """Counts of Gaofen-1 WFV divided by 1023, (band, y, x); NaN where all four bands are 0."""
    sensor = sensors.load("gaofen1-wfv")
    assert sensor.scale is not None
    stored = read_window(path, window, count=4, dtypes=dtypes)
    image = np.clip(stored, 0, SATURATED).astype(np.float32) * np.float32(sensor.scale)
    image[:, (stored == 0).all(axis=0)] = np.nan
    return image
