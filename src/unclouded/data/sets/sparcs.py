"""SPARCS: 80 pieces of 1000 x 1000 pixels of Landsat 8 scenes, with masks of cloud, shadow, water, snow and flood.

Files of a piece: ``<id>_data.tif`` (B1 to B7, B9, B10, B11), ``<id>_mtl.txt`` of the whole scene, and the mask, either
``<id>_labels.tif`` with codes (Oregon State University) or ``<id>_mask.png`` with colours (USGS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .. import labels as lab
from ..tiff import write_tiff
from . import _fakes, register
from ._landsat import LandsatSet, cloud_cover
from ._scenes import by_scene, files_below, missing_counterpart, read_window
from .base import Record, split_by_scene

COLOURS = {
    (0, 0, 0): 0, (0, 0, 128): 1, (0, 0, 255): 2, (0, 255, 255): 3, (128, 128, 128): 4, (255, 255, 255): 5,
    (128, 128, 0): 6,
}  # fmt: skip
"""Codes of the colours (red, green, blue) of the USGS release."""


@register
class Sparcs(LandsatSet):
    """See the module's text. Splits: none is official.

    ``random`` gives 60, 20 and 20 % of the scenes, seed 42. ``sensei`` trains on all.
    """

    name = "sparcs"
    title = "SPARCS: spatial procedures for automated removal of cloud and shadow, L8 validation masks"
    licence = "Public domain (US Government)"
    citation = (
        "U.S. Geological Survey, 2016. L8 SPARCS Cloud Validation Masks. doi:10.5066/F7FB5146. Hughes & Kennedy, 2019, "
        "Remote Sensing 11(21), 2591"
    )
    homepage = "https://www.usgs.gov/landsat-missions/spatial-procedures-automated-removal-cloud-and-shadow-sparcs-validation-data"
    obtain = "Download the archive from the homepage, or sparcs_data_L8.zip from emapr.ceoas.oregonstate.edu/sparcs, \
and unpack it."
    sensors = ("landsat-oli-c1-l1",)
    labels: ClassVar[Mapping[int, int]] = {
        0: lab.SHADOW, 1: lab.SHADOW, 2: lab.bits("water"), 3: lab.bits("snow"), 4: lab.bits("land"), 5: lab.CLOUD,
        6: lab.bits("land", "water"),
    }  # fmt: skip
    schemes = ("random", "sensei")
    stacked = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10", "B11")

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are <id>_data.tif, <id>_mtl.txt, and <id>_labels.tif or <id>_mask.png in one folder."

    def find_scenes(self) -> Iterator[Record]:
        """Pieces by their images; of two masks the one with codes is taken."""
        for image in files_below(self.root, "_data.tif"):
            piece = image.name[: -len("_data.tif")]
            there = {path.name.casefold(): path for path in image.parent.iterdir() if path.name.startswith(piece)}
            mask = there.get(f"{piece}_labels.tif".casefold()) or there.get(f"{piece}_mask.png".casefold())
            metadata = there.get(f"{piece}_mtl.txt".casefold())
            if mask is None or metadata is None:
                raise missing_counterpart(
                    image, "mask" if mask is None else "metadata", f"Unpack {piece}_* again, all files of the piece."
                )
            yield Record(
                piece, piece[:21], {"image": image, "label": mask, "mtl": metadata}, tags=cloud_cover(metadata)
            )

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "sensei":
            return {record.name: "train" for record in self.records}
        parts = (("train", 0.6), ("choose", 0.2), ("test", 0.2))
        return by_scene(self.records, split_by_scene((record.scene for record in self.records), parts, 42))

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes, from codes or colours."""
        path, part = record.files["label"], self.window(record)
        if path.suffix.casefold() == ".tif":
            return lab.to_sets(read_window(path, part, count=1, dtypes=("uint8",))[0], self.labels, str(path))
        picture = read_window(path, part, count=(3, 4), dtypes=("uint8",))[:3].astype(np.int32)
        packed = picture[0] << 16 | picture[1] << 8 | picture[2]
        known = {red << 16 | green << 8 | blue: code for (red, green, blue), code in COLOURS.items()}
        strange = sorted(set(np.unique(packed).tolist()) - set(known))
        if strange:
            raise InputError(
                f"{path} holds the colour #{strange[0]:06x}"
                + (f" and {len(strange) - 1} more." if len(strange) > 1 else "."),
                expected=f"Colours are {', '.join(f'#{colour:06x}' for colour in sorted(known))}.",
                remedy="Get the mask again as it was published; it was resampled or stored with loss.",
            )
        return lab.to_sets(packed, {colour: self.labels[code] for colour, code in known.items()})

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0, release: Literal["osu", "usgs"] = "osu") -> None:
        """Write six small pieces, two of them of one scene."""
        rng = np.random.default_rng(seed)
        for index in range(6):
            scene = f"LC8{max(index, 1):03d}0022014{15:03d}LGN00"
            piece = f"{scene}_{18 + index}"
            label = _fakes.code_blocks(sorted(cls.labels), (40, 40), rng)
            levels = {0: 7000, 1: 6500, 2: 7500, 3: 26000, 4: 12000, 5: 30000, 6: 9000}
            folder = root / "sending" if release == "usgs" else root
            counts = _fakes.counts(label, levels, 10, rng, "uint16")
            write_tiff(folder / f"{piece}_data.tif", counts, **_fakes.grid(30.0))
            write_tiff(folder / f"{piece}_qmask.tif", np.full(label.shape, 20480, np.uint16), **_fakes.grid(30.0))
            _fakes.write_oli_metadata(folder / f"{piece}_mtl.txt", scene)
            if release == "osu":
                write_tiff(folder / f"{piece}_labels.tif", label, **_fakes.grid(30.0))
                continue
            colours = np.array([colour for colour, _ in sorted(COLOURS.items(), key=lambda pair: pair[1])], np.uint8)
            picture = colours[label].transpose(2, 0, 1)
            write_tiff(folder / f"{piece}_mask.png", picture, driver="PNG", **_fakes.NOWHERE)
