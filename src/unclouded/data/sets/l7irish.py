"""L7 Irish: 206 Landsat 7 scenes in nine zones of latitude, with masks of cloud, thin cloud and, in 45, shadow.

Layouts, found by themselves:
    USGS        <zone>/p<path>_r<row>[_n]/L71..._B10.TIF ... _B80.TIF, ..._MTL.txt, L7_p<path>_r<row>_newmask2015.TIF
    one raster  the same folder with one L71....TIF of nine bands at 30 m (as TorchGeo has it)

Masks follow one of two conventions, told apart by the codes of the file and by its upper left pixel, which never
holds data:
    documented  0 fill, 64 shadow, 128 clear, 192 thin cloud, 255 cloud
    second      0 shadow, 128 cloud, 192 thin cloud, 255 clear, and fill where a band of 30 m is 0
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .. import labels as lab
from ..tiff import write_tiff
from . import _fakes, register
from ._landsat import CCA, CcaSet, cloud_cover, first_pixel, only
from ._scenes import by_scene, files_below, missing_counterpart, read_window
from .base import Record, split_by_scene

ZONES = (
    "austral", "boreal", "mid_latitude_north", "mid_latitude_south", "polar_north", "polar_south",
    "subtropical_north", "subtropical_south", "tropical",
)  # fmt: skip
SECOND = {0: lab.SHADOW, 128: lab.THICK, 192: lab.THIN, 255: lab.CLEAR}
_FILES = {"10": "B1", "20": "B2", "30": "B3", "40": "B4", "50": "B5", "61": "B6_VCID_1", "62": "B6_VCID_2",
          "70": "B7", "80": "B8"}  # fmt: skip
_IMAGE = re.compile(r"^L7[12](\d{3})(\d{3})_(\d{3})(\d{8})(?:_(B\d\d|MTL))?\.(?:TIFF?|txt)$", re.IGNORECASE)
_LOG = logging.getLogger("unclouded")


@register
class L7Irish(CcaSet):
    """See the module's text. Splits: none is official.

    ``random`` gives 60, 20 and 20 % of the scenes, seed 42. ``sensei`` trains on all.

    Args:
        root: folder that holds the data set.
        mask: year in the masks' names; those of 2019 are a later correction of some scenes, and only scenes that have
            one are read then.
        level, bands, patch, stride, edge, empty: see :class:`LandsatSet`.
    """

    name = "l7irish"
    title = "L7 Irish cloud validation masks"
    licence = "Public domain (US Government)"
    citation = (
        "U.S. Geological Survey, 2016. L7 Irish Cloud Validation Masks. doi:10.5066/F7XD0ZWC. Scaramuzza et al., 2012, "
        "IEEE Transactions on Geoscience and Remote Sensing 50(4), 1140-1154"
    )
    homepage = "https://www.usgs.gov/landsat-missions/landsat-7-cloud-cover-assessment-validation-data"
    obtain = "Download the archives of the zones from the homepage, or from huggingface.co/datasets/torchgeo/l7irish, \
and unpack them below one folder."
    sensors = ("landsat-etm-c1-l1",)
    schemes = ("random", "sensei")
    sensor = "landsat-etm-c1-l1"
    stacked = tuple(_FILES.values())
    stored = ("uint8",)
    count_scale = 1 / 255
    thermal = (666.09, 1282.71)
    """Landsat 7 Data Users Handbook; metadata from before August 2012 do not have them."""

    def __init__(
        self,
        root: Path,
        *,
        mask: Literal["2015", "2019"] = "2015",
        level: Literal["toa", "counts"] = "toa",
        bands: Sequence[str] | None = None,
        patch: int | None = None,
        stride: int | None = None,
        edge: Literal["drop", "align"] = "drop",
        empty: bool = True,
    ) -> None:
        if mask not in ("2015", "2019"):
            raise InputError(
                f"The option mask is '{mask}'.",
                expected="Masks are called *mask2015.TIF as published, or *mask2019.tif as corrected.",
                remedy="Pass '2015' or '2019'.",
            )
        self.mask = mask
        super().__init__(root, level=level, bands=bands, patch=patch, stride=stride, edge=edge, empty=empty)

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are folders with L7_p<path>_r<row>_newmask2015.TIF beside L71*_B10.TIF ... or one L71*.TIF."

    def find_scenes(self) -> Iterator[Record]:
        """Scenes by their masks."""
        for mask in files_below(self.root, f"mask{self.mask}.tif"):
            files, dates = {"label": mask}, set()
            for path in sorted(mask.parent.iterdir()):
                place = _IMAGE.match(path.name)
                if place is None:
                    continue
                dates.add(place[4])
                kind = (place[5] or "").upper()
                role = "mtl" if kind == "MTL" else _FILES.get(kind[1:], "") if kind else "image"
                if role:
                    only([path, *([files[role]] if role in files else [])], f"the {role} of one scene", mask.parent)
                    files[role] = path
            if "B1" in files:
                files.pop("image", None)
            elif "image" not in files:
                raise missing_counterpart(mask, "bands", "Unpack the scene again: L71*_B10.TIF ... or L71*.TIF.")
            zone = [part for part in mask.relative_to(self.root).parts if part.casefold() in ZONES] or [
                part for part in (self.root.name,) if part in ZONES
            ]
            name = f"{mask.parent.name}_{min(dates)}"
            tags: dict[str, str | float] = {"zone": zone[-1].casefold()} if zone else {}
            tags |= cloud_cover(files.get("mtl"))
            yield Record(name, name, files, tags=tags)

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "sensei":
            return {record.name: "train" for record in self.records}
        parts = (("train", 0.6), ("choose", 0.2), ("test", 0.2))
        return by_scene(self.records, split_by_scene((record.scene for record in self.records), parts, 42))

    def convention(self, record: Record) -> Literal["documented", "second"]:
        """Which codes a scene's mask uses.

        Raises:
            InputError: neither convention fits.
        """
        codes, corner = self.codes_of_scene(record), first_pixel(record.files["label"])
        if codes <= set(CCA) and (64 in codes or corner == 0):
            found: Literal["documented", "second"] = "documented"
        elif codes <= set(SECOND) and corner == 255:
            found = "second"
        else:
            raise InputError(
                f"{record.files['label']} holds the codes {sorted(codes)}, and {corner} in its upper left pixel.",
                expected="Fill in that corner is 0 where 255 is cloud, or 255 where 128 is cloud.",
                remedy="Check that the mask is complete and of this data set; leave the scene out otherwise.",
            )
        _LOG.debug("%s: codes %s, convention '%s'", record.files["label"], sorted(codes), found)
        return found

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes, by the convention of the scene's mask."""
        if self.convention(record) == "documented":
            return super().read_sets(record)
        codes = self.read_codes(record)
        clear = lab.CLEAR if 0 in self.codes_of_scene(record) else lab.NOT_CLOUD
        sets = lab.to_sets(codes, {**SECOND, 255: clear}, str(record.files["label"]))
        part = self.window(record)
        for name in ("B1", "B2", "B3", "B4", "B5", "B7"):
            path, index = (
                (record.files["image"], self.stacked.index(name) + 1)
                if "image" in record.files
                else (record.files[name], 1)
            )
            stored = read_window(path, part, bands=[index], dtypes=self.stored)[0]
            sets[(stored == 0) & (codes == 255)] = lab.MISSING
        return sets

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0, layout: Literal["usgs", "one-raster"] = "usgs") -> None:
        """Write six small scenes of three zones: both conventions, with and without shadow."""
        rng = np.random.default_rng(seed)
        chosen = ([0, 64, 128, 192, 255], [0, 128, 192, 255], [0, 128, 192, 255], [128, 192, 255]) * 2
        for index, codes in enumerate(chosen[:6]):
            second = index % 4 >= 2
            label = _fakes.code_blocks(codes, (48, 40), rng, corner=255 if second else 0)
            bright = {0: 20, 128: 240, 192: 120, 255: 60} if second else {64: 20, 128: 60, 192: 120, 255: 240}
            counts = _fakes.counts(label, bright, 9, rng, "uint8")
            if second:
                counts[:, :6, :6] = 0
                label[:6, :6] = 255
            folder = root / ZONES[index % 3] / f"p{226 + index}_r98"
            stem = f"L71{226 + index}098_09820011{103 + index:03d}"
            _fakes.write_etm_metadata(folder / f"{stem}_MTL.txt", sun_elevation=30.0 + index)
            write_tiff(folder / f"L7_p{226 + index}_r98_newmask2015.TIF", label, **_fakes.grid(30.0))
            if layout == "one-raster":
                write_tiff(folder / f"{stem}.TIF", counts, **_fakes.grid(30.0))
                continue
            for (number, band), plane in zip(_FILES.items(), counts, strict=True):
                fine = np.kron(plane, np.ones((2, 2), plane.dtype))
                if band == "B8":
                    plane, pixel, aside = fine[:-1, :-1], 15.0, 7.5
                elif band.startswith("B6"):
                    plane, pixel, aside = plane[::2, ::2], 60.0, 0.0
                else:
                    pixel, aside = 30.0, 0.0
                prefix = stem.replace("L71", "L72") if number in ("62", "70", "80") else stem
                write_tiff(folder / f"{prefix}_B{number}.TIF", plane, **_fakes.grid(pixel, aside_m=aside))
