"""CCA-Ext: validation scenes of Landsat 8 (Collections 1 and 2) and Landsat 9; for testing only.

A scene is a folder with one ``*_MTL.txt``, the bands that belong to it, and one raster with ``mask`` in its name. The
names and codes of the masks are not documented where they are distributed; the codes of L8 Biome are expected, without
shadow, and anything else is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import labels as lab
from ..tiff import write_tiff
from . import _fakes, register
from ._landsat import CcaSet, cloud_cover, only
from ._scenes import files_below, missing_counterpart
from .base import Record

_MASK = re.compile(r"mask[^.]*\.(img|tiff?)$", re.IGNORECASE)
_SCENE = re.compile(r"LC0([89])_L1[A-Z]{2}_\d{6}_\d{8}_\d{8}_0([12])_", re.IGNORECASE)


@register
class CcaExt(CcaSet):
    """See the module's text. The one split puts every scene into ``test``."""

    name = "cca_ext"
    title = "Landsat 8 and 9 cloud cover assessment validation scenes (CCA-Ext)"
    licence = "Public domain (US Government)"
    citation = (
        "U.S. Geological Survey, Landsat 8 Collection 1, Landsat 8 Collection 2 and Landsat 9 Collection 2 Cloud Truth "
        "Mask Validation Sets, ScienceBase"
    )
    homepage = "https://www.sciencebase.gov/catalog/item/61015b2fd34ef8d7055d6395"
    obtain = "Download the scenes of the ScienceBase items 60536863d34e7eb1cb3ebfb1, 61015b2fd34ef8d7055d6395 and \
653fbac9d34ee4b6e05bc5c7, and unpack each into a folder of its own below one folder."
    sensors = ("landsat-oli-c1-l1", "landsat-oli-c2-l1")
    labels: ClassVar[Mapping[int, int]] = {0: lab.MISSING, 128: lab.NOT_CLOUD, 192: lab.THIN, 255: lab.THICK}
    schemes = ("test-only",)
    stacked = tuple(f"B{number}" for number in range(1, 12))

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are folders, each with *_MTL.txt, *_B1.TIF ... *_B11.TIF, and one *mask*.img or *mask*.tif."

    def find_scenes(self) -> Iterator[Record]:
        """Scenes by their metadata."""
        for metadata in files_below(self.root, "_mtl.txt"):
            scene, folder = metadata.name[: -len("_mtl.txt")], metadata.parent
            only(files_below(folder, "_mtl.txt"), "the metadata of one scene", folder)
            mask = only((path for path in folder.iterdir() if _MASK.search(path.name)), "the mask", folder)
            if mask is None:
                raise missing_counterpart(metadata, "mask beside it", "Put the scene's *mask*.img or .tif there.")
            files = {"label": mask, "mtl": metadata}
            for path in folder.iterdir():
                place = re.search(r"_(B\d+)\.TIFF?$", path.name, re.IGNORECASE)
                if place is not None and path.name.startswith(scene):
                    files[place[1].upper()] = path
            yield Record(scene, scene, files, "test", {**_satellite(scene), **cloud_cover(metadata)})

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write two small scenes, one of each satellite."""
        rng = np.random.default_rng(seed)
        for scene in ("LC08_L1TP_042008_20130808_20200912_02_T1", "LC09_L1TP_112081_20220209_20220209_02_T1"):
            label = _fakes.code_blocks(sorted(cls.labels), (48, 40), rng, corner=0)
            counts = _fakes.counts(label, {128: 11000, 192: 18000, 255: 32000}, 11, rng, "uint16")
            folder = root / scene
            _fakes.write_oli_metadata(folder / f"{scene}_MTL.txt", scene)
            for number, plane in enumerate(counts, 1):
                fine = np.kron(plane, np.ones((2, 2), plane.dtype))[:-1, :-1]
                place = _fakes.grid(15.0, aside_m=7.5) if number == 8 else _fakes.grid(30.0)
                write_tiff(folder / f"{scene}_B{number}.TIF", fine if number == 8 else plane, **place)
            _fakes.write_envi(folder / f"{scene}_fixedmask.img", label)


def _satellite(scene: str) -> dict[str, str | float]:
    """The tags ``satellite`` and ``sensor`` from a scene's name in a collection; none from other names."""
    found = _SCENE.match(scene)
    return {"satellite": f"Landsat {found[1]}", "sensor": f"landsat-oli-c{found[2]}-l1"} if found else {}
