"""Landsat Level-1 scenes in data sets: one raster per band or all bands in one, calibrated by the metadata file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError, RadiometryError
from ...raster import Header, RasterBand
from ...readers.files import Files
from ...readers.landsat import Calibration, calibration
from ...readers.mtl import number, read_mtl
from ...scene import Band, Radiometry
from .. import labels as lab
from ..sample import Sample
from ._scenes import SceneSet, codes_in, head, read_window, stamp
from .base import Record, Window

CCA = {0: lab.MISSING, 64: lab.SHADOW, 128: lab.CLEAR, 192: lab.THIN, 255: lab.THICK}
"""Label codes of the cloud cover assessment sets of the USGS."""


class LandsatSet(SceneSet):
    """Base of sets of Landsat Level-1 scenes with masks at 30 m.

    The files of a record are ``label``, the metadata ``mtl`` if there is one, and either one for each band by its name
    or ``image`` with the bands of ``stacked`` in that order.

    Args:
        root: folder that holds the data set.
        level: ``toa`` gives reflectance at the top of the atmosphere, and kelvin for thermal bands. ``counts`` gives
            the stored numbers times ``count_scale``, for networks that were trained on them.
        bands: names or common names of the bands wanted, in that order; None means all that all scenes have.
        patch, stride, edge, empty: see :class:`SceneSet`.

    Class attributes:
        sensor: of the bands' names and wavelengths.
        stacked: bands of a raster that holds them all.
        count_scale: for ``counts``; 1e-4 makes the mode ``divide-3000`` divide Level-1 numbers by 3000.
        thermal: (K1, K2) for metadata that does not have them, or None.
    """

    sensor: ClassVar[str] = "landsat-oli-c1-l1"
    stacked: ClassVar[tuple[str, ...]] = ()
    stored: ClassVar[tuple[str, ...]] = ("uint16",)
    count_scale: ClassVar[float] = 1e-4
    thermal: ClassVar[tuple[float, float] | None] = None
    gsd_m: ClassVar[float] = 30.0

    def __init__(
        self,
        root: Path,
        *,
        level: Literal["toa", "counts"] = "toa",
        bands: Sequence[str] | None = None,
        patch: int | None = None,
        stride: int | None = None,
        edge: Literal["drop", "align"] = "drop",
        empty: bool = True,
    ) -> None:
        if level not in ("toa", "counts"):
            raise InputError(
                f"The option level is '{level}'.",
                expected="It is 'toa' for reflectance, or 'counts' for the stored numbers.",
                remedy="Leave it out for reflectance.",
            )
        self.level = level
        self.bands: tuple[Band, ...] = sensors.bands_of(self.sensor, bands or self.stacked)
        for band in self.bands:
            if band.name not in self.stacked:
                raise InputError(
                    f"{self.title} has no band '{band.name}'.",
                    expected=f"Its bands are {', '.join(self.stacked)}.",
                    remedy="Leave the band out.",
                )
        super().__init__(root, patch=patch, stride=stride, edge=edge, empty=empty)

    def planes(self, record: Record) -> dict[str, tuple[Path, int]]:
        """File and number of every band wanted.

        Raises:
            InputError: a band has no file, or the raster of all bands has another number of them.
        """
        if "image" in record.files:
            path = record.files["image"]
            found = head(path)
            if found.count != len(self.stacked):
                raise InputError(
                    f"{path} has {found.count} bands.",
                    expected=f"It has {len(self.stacked)}: {', '.join(self.stacked)}.",
                    remedy="Check that the file belongs to this data set, or get it again.",
                )
            return {band.name: (path, self.stacked.index(band.name) + 1) for band in self.bands}
        gone = [band.name for band in self.bands if band.name not in record.files]
        if gone:
            raise InputError(
                f"{record.name} has no raster of {', '.join(gone)}.",
                expected=f"A scene has one raster for each of {', '.join(band.name for band in self.bands)}.",
                remedy="Unpack the scene again, or leave the bands out with the option bands.",
            )
        return {band.name: (record.files[band.name], 1) for band in self.bands}

    def grid_band(self, record: Record) -> Path:
        """A raster of 30 m."""
        if "image" in record.files:
            return record.files["image"]
        fine = [name for name in self.stacked if _native(self.sensor, name) == self.gsd_m and name in record.files]
        if not fine:
            raise InputError(
                f"{record.name} has no raster of {self.gsd_m:g} m.",
                expected=f"Bands are {', '.join(self.stacked)}.",
                remedy="Unpack the scene again.",
            )
        return record.files[fine[0]]

    def size(self, record: Record) -> tuple[int, int]:
        """Rows and columns that bands and labels have in common; these may differ by one.

        Raises:
            InputError: they differ by more.
        """
        mask = super().size(record)
        bands = head(self.grid_band(record)).shape
        if max(abs(mask[0] - bands[0]), abs(mask[1] - bands[1])) > 1:
            raise InputError(
                f"The labels of {record.name} have {mask[0]} x {mask[1]} pixels, its bands {bands[0]} x {bands[1]}.",
                expected="They agree, but for one row or column.",
                remedy="Check that both belong to the same scene, or get them again.",
            )
        return min(mask[0], bands[0]), min(mask[1], bands[1])

    def calibrations(self, record: Record) -> Mapping[str, Calibration]:
        """How counts become what ``level`` asks for, by band."""
        if self.level == "counts":
            nodata = sensors.load(self.sensor).nodata
            raw = Radiometry(self.count_scale, 0.0, nodata, "user", calibrated=False)
            return {band.name: (raw, None) for band in self.bands}
        if "mtl" not in record.files:
            raise RadiometryError(
                f"{record.name} comes without its metadata, so that the elevation of the sun is not known.",
                expected="Reflectance is counted from the *_MTL.txt of the scene.",
                remedy="Put the scene's *_MTL.txt beside its image, or take the stored numbers with level='counts'.",
            )
        metadata = record.files["mtl"]
        return _calibration(metadata, stamp(metadata), tuple(band.name for band in self.bands), self.thermal)

    def read(self, record: Record) -> Sample:
        """Read one scene, or a window of it."""
        part = self.window(record)
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        grid = head(self.grid_band(record)).geobox()[rows, cols]
        factors = self.calibrations(record)
        image = np.empty((len(self.bands), part.height, part.width), np.float32)
        for row, (name, (path, index)) in enumerate(self.planes(record).items()):
            record_of_band, constants = factors[name]
            raster, found = _open(path, index, constants, stamp(path))
            if found.dtypes[index - 1] not in self.stored:
                raise InputError(
                    f"{path} holds numbers of the type {found.dtypes[index - 1]}.",
                    expected=f"Counts of this data set are {' or '.join(self.stored)}.",
                    remedy="Check that the file belongs to this data set, or get it again.",
                )
            image[row] = raster.read(grid, record_of_band)
        return Sample(
            record.name, self.name, record.scene, record.split, image, self.read_sets(record), self.bands,
            self.gsd_m, self.level,
        )  # fmt: skip


class CcaSet(LandsatSet):
    """Base of the sets with the label codes of the USGS, of which some scenes have shadows labelled and some not."""

    labels: ClassVar[Mapping[int, int]] = CCA

    def codes_of_scene(self, record: Record) -> frozenset[int]:
        """All codes that occur in the scene, whatever window of it is meant."""
        return codes_in(record.files["label"])

    def read_codes(self, record: Record) -> NDArray[np.uint8]:
        """Label codes of a record, (y, x)."""
        part = self.window(record)
        return read_window(record.files["label"], part, count=1, dtypes=("uint8",))[0]

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes; where a scene has no shadow labelled, what is called clear may also be shadow."""
        shadowed = 64 in self.codes_of_scene(record)
        table = dict(self.labels) if shadowed else {**self.labels, 128: lab.NOT_CLOUD}
        return lab.to_sets(self.read_codes(record), table, str(record.files["label"]))


def cloud_cover(metadata: Path | None) -> dict[str, float]:
    """The tag ``cloud_cover`` in percent as the metadata says it, or none."""
    if metadata is None:
        return {}
    said = number(read_mtl(Files(metadata.parent, [metadata.name]), metadata.name), "CLOUD_COVER")
    return {} if said is None or said < 0 else {"cloud_cover": said}


def only(paths: Iterable[Path], what: str, folder: Path) -> Path | None:
    """The one path, or None.

    Raises:
        InputError: there are several.
    """
    found = sorted(paths)
    if len(found) > 1:
        raise InputError(
            f"{folder} holds {len(found)} files that could be {what}: {', '.join(path.name for path in found[:3])}.",
            expected="Every scene has one.",
            remedy="Move the others out of the folder.",
        )
    return found[0] if found else None


def first_pixel(path: Path) -> int:
    """Code of the upper left pixel."""
    return int(read_window(path, Window(0, 0, 1, 1), count=1, dtypes=("uint8",))[0, 0, 0])


@lru_cache(maxsize=1024)
def _calibration(
    path: Path, changed: int, bands: tuple[str, ...], thermal: tuple[float, float] | None
) -> Mapping[str, Calibration]:
    return calibration(path, bands, thermal=thermal)[1]


@lru_cache(maxsize=4096)
def _open(path: Path, index: int, thermal: tuple[float, float] | None, changed: int) -> tuple[RasterBand, Header]:
    return RasterBand.open(str(path), index, thermal=thermal)


def _native(sensor: str, band: str) -> float:
    found = sensors.load(sensor).find(band)
    assert found is not None
    return found.gsd_m
