"""CloudPeru2: 22,400 patches of 512 x 512 pixels of PeruSat-1 scenes, with masks of cloud.

    {train,val,test}/images/<name>.tif with red, green, blue and near infrared of 8 bits,
    {train,val,test}/masks/<name>_Mask.tif with 0 and 255

The layout is that of a reader of a third party, and the order of the bands that of SEnSeI: the authors' own
description is not public. Type, number of bands, sizes and codes are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from ... import sensors
from .. import labels as lab
from ..sample import Sample
from ..tiff import read_tiff, write_tiff
from . import _fakes, register
from ._scenes import hold_out, missing_counterpart
from .base import DataSet, Record

_FOLDERS = {"train": "train", "val": "choose", "test": "test"}


@register
class CloudPeru2(DataSet):
    """See the module's text. Counts are divided by 255; this is not reflectance.

    Splits: ``official`` is by folder; ``held-out`` takes a tenth of the training scenes for model choice, for copies
    without ``val``. The scene is the patch's name without the numbers at its end.
    """

    name = "cloudperu2"
    title = "CloudPeru2 cloud masks of PeruSat-1"
    licence = "Not found"
    citation = (
        "Morales, Ramirez & Telles, 2019. End-to-end cloud segmentation in high-resolution multispectral satellite "
        "imagery using deep learning. arXiv:1904.12743"
    )
    homepage = "https://arxiv.org/abs/1904.12743"
    obtain = "Ask the authors of the paper, and unpack train and val into one folder."
    sensors = ("perusat1",)
    labels: ClassVar[Mapping[int, int]] = {0: lab.NOT_CLOUD, 255: lab.CLOUD}
    schemes = ("official", "held-out")

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are train/images/<name>.tif with train/masks/<name>_Mask.tif, and val/ or test/ alike."

    def find(self) -> Iterator[Record]:
        """Patches by their images."""
        for image in sorted(self.root.rglob("images/*.tif")):
            folder = image.parent.parent
            split = _FOLDERS.get(folder.name.casefold())
            if split is None:
                continue
            mask = folder / "masks" / f"{image.stem}_Mask.tif"
            if not mask.is_file():
                raise missing_counterpart(image, f"mask {mask}", "Get the patch again, with its mask.")
            scene = re.sub(r"([_-]\d{1,5})+$", "", image.stem) or image.stem
            yield Record(f"{folder.name}/{image.stem}", scene, {"image": image, "label": mask}, split)

    def _assign(self, scheme: str) -> dict[str, str]:
        return super()._assign(scheme) if scheme == "official" else hold_out(self.records)

    def read(self, record: Record) -> Sample:
        """Read one patch."""
        sensor = sensors.load("perusat1")
        assert sensor.scale is not None
        stored = read_tiff(record.files["image"], count=4, dtypes=("uint8",))
        codes = read_tiff(record.files["label"], count=1, dtypes=("uint8",), shape=stored.shape[1:])[0]
        image = stored.astype(np.float32) * np.float32(sensor.scale)
        sets, outside = lab.to_sets(codes, self.labels, str(record.files["label"])), (stored == 0).all(axis=0)
        image[:, outside], sets[outside] = np.nan, lab.MISSING
        return Sample(
            record.name, self.name, record.scene, record.split, image, sets, sensor.bands, sensor.grid_m, "counts"
        )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write six patches of three scenes to train on, and two of a fourth for model choice."""
        rng = np.random.default_rng(seed)
        for index in range(8):
            folder = root / ("train" if index < 6 else "val")
            name = f"IMG_PER1_2018{index // 2 + 1:02d}051523_ORT_P_{index % 2 + 1:03d}"
            label = _fakes.code_blocks([0, 255], (512, 512), rng)
            image = _fakes.counts(label, {0: 70, 255: 210}, 4, rng, "uint8")
            write_tiff(folder / "images" / f"{name}.tif", image, **_fakes.NOWHERE)
            write_tiff(folder / "masks" / f"{name}_Mask.tif", label, **_fakes.NOWHERE)
