"""What the packagings of CloudSEN12 and CloudSEN12+ share: bands, label codes, splits, and how counts become a sample.

Sources: Aybar et al. 2022 and 2024 (see ``citation``) and the data cards of the releases for codes, scale and padding.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...classes import NO_DATA
from ...errors import InputError
from ...scene import Band
from .. import labels as lab
from ..sample import Sample
from .base import DataSet, Record

SIDE = 509
"""Side of a patch in pixels."""
STORED_SIDE = 512
"""Side of a patch that was padded to a multiple of 32."""
NO_LABEL = 99

HIGH = {0: lab.CLEAR, 1: lab.THICK, 2: lab.THIN, 3: lab.SHADOW, NO_LABEL: lab.IGNORED}
"""Sets of the dense labels."""
SCRIBBLE = {
    0: lab.CLEAR, 1: lab.THICK, 2: lab.THICK, 3: lab.THIN, 4: lab.THIN, 5: lab.SHADOW, 6: lab.SHADOW,
    NO_LABEL: lab.IGNORED,
}  # fmt: skip
"""Sets of the scribbles; border and centre of an object are told apart, odd codes are borders."""
TABLES = {"high": HIGH, "scribble": SCRIBBLE}

THIRD_PARTY: Mapping[str, Mapping[int, int]] = {
    "kappamask_l1c": {1: 0, 4: 1, 3: 2, 2: 3, 0: NO_DATA, 5: NO_DATA},
    "kappamask_l2a": {1: 0, 4: 1, 3: 2, 2: 3, 0: NO_DATA, 5: NO_DATA},
    "sen2cor": {2: 0, 4: 0, 5: 0, 6: 0, 11: 0, 8: 1, 9: 1, 10: 2, 3: 3, 0: NO_DATA, 1: NO_DATA, 7: NO_DATA},
    "fmask": {0: 0, 1: 0, 3: 0, 4: 1, 2: 3, 255: NO_DATA},
    "s2cloudless": {0: 0, 1: 1},
    "cd-fcnn": {0: 0, 1: 1},
    "qa60": {0: 0, 1024: 1, 2048: 2},
}
"""Output class by code, for the masks of other programs that the set holds beside the labels."""

SCALE = np.float32(1e-4)
"""Reflectance per count. The scenes were taken before the offset came, or had it removed."""

_SEQUENTIAL = (("train", 0.85), ("choose", 0.05), ("test", 0.10))
"""MSCloudCAM cuts the table sorted by name at rows 8,500 and 9,000 of 10,000."""
_TEMPERATE = (23.5, 66.5)
_JUNE = 6
_DATE = re.compile(r"(?<!\d)20\d\d-?(0[1-9]|1[0-2])-?[0-3]\d(?!\d)")


@dataclass(frozen=True)
class Stored:
    """One patch as it is stored.

    Attributes:
        counts: optical bands, (band, y, x) integers; aerosol thickness last where it was asked for.
        extra: backscatter in decibel and elevation in metres, (band, y, x) float32.
        codes: label codes, (y, x).
    """

    counts: NDArray[np.integer]
    extra: NDArray[np.float32]
    codes: NDArray[np.integer]


class CloudSen12Base(DataSet):
    """Base of the packagings of CloudSEN12.

    Splits: ``official``; ``mscloudcam``, 85, 5 and 10 % of the table in order; ``temperate-june``, the official parts
    between 23.5 and 66.5 degrees of latitude in June, as the percentile paper trains and tests, on both hemispheres
    or, ``temperate-june-north``, on the northern one.

    Args:
        root: folder that holds the data set.
        level: ``l1c`` (13 bands, top of atmosphere) or ``l2a`` (12 bands, surface).
        kind: labels to read: ``high`` (dense) or ``scribble``.
        with_sar: add backscatter VV and VH in decibel, and the incidence angle in degrees where the packaging has it.
        with_dem: add elevation in metres.
        with_aot: add the aerosol layer of ``l2a`` as a thirteenth band, on the scale of the reflectance, as
            MSCloudCAM does.
        keep_padding: leave padded pixels as they are stored (0, labelled clear) instead of ignoring them.
        ignore_codes: further label codes to ignore; any other unknown code is an error.
    """

    citation = (
        "Aybar et al. (2022): CloudSEN12, a global dataset for semantic understanding of cloud and cloud shadow in "
        "Sentinel-2. Scientific Data 9, 782, doi:10.1038/s41597-022-01878-2"
    )
    homepage = "https://cloudsen12.github.io"
    sensors = ("sentinel2-l1c", "sentinel2-l2a")
    labels = HIGH
    schemes = ("official", "mscloudcam", "temperate-june", "temperate-june-north")
    sar: ClassVar[tuple[str, ...]] = ("vv", "vh", "angle")
    masks: ClassVar[tuple[str, ...]] = tuple(THIRD_PARTY)

    def __init__(
        self,
        root: Path,
        *,
        level: str = "l1c",
        kind: str = "high",
        with_sar: bool = False,
        with_dem: bool = False,
        with_aot: bool = False,
        keep_padding: bool = False,
        ignore_codes: Sequence[int] = (),
    ) -> None:
        choose("level", level, ("l1c", "l2a"))
        choose("kind", kind, tuple(TABLES))
        if with_aot and level != "l2a":
            raise InputError(
                "The aerosol layer is asked for at level l1c.",
                expected="Only level l2a has it.",
                remedy="Pass level='l2a', or leave with_aot out.",
            )
        self.level, self.kind, self.keep_padding = level, kind, keep_padding
        self.with_sar, self.with_dem, self.with_aot = with_sar, with_dem, with_aot
        self.table = TABLES[kind] | dict.fromkeys(ignore_codes, lab.IGNORED)
        self.bands = bands(level, with_aot=with_aot, sar=self.sar if with_sar else (), with_dem=with_dem)
        super().__init__(root)

    @abstractmethod
    def _stored(self, record: Record) -> Stored:
        """The patch as it is stored."""

    @abstractmethod
    def _mask_codes(self, record: Record, program: str) -> NDArray[np.integer]:
        """Codes that another program gave, (y, x)."""

    def read(self, record: Record) -> Sample:
        """Read one patch with its labels; padding and missing pixels are NaN in the image and ignored in the labels."""
        stored = self._stored(record)
        spectral = stored.counts[: len(stored.counts) - self.with_aot]
        # The releases differ in what fills missing pixels: 0, or the no-data value of the labels.
        missing = (spectral == 0).all(axis=0) | (spectral == NO_LABEL).all(axis=0)
        sets = lab.to_sets(stored.codes, self.table, str(record.files["label"]))
        image = stored.counts.astype(np.float32) * SCALE
        if not self.keep_padding:
            image[:, missing] = np.nan
            sets[missing] = lab.IGNORED
        return Sample(
            name=record.name,
            source=self.name,
            scene=record.scene,
            split=record.split,
            image=np.concatenate([image, stored.extra]) if len(stored.extra) else image,
            sets=sets,
            bands=self.bands,
            gsd_m=10.0,
            level="toa" if self.level == "l1c" else "boa",
            background=self.kind == "high" and not stored.codes.any(),
        )

    def third_party(self, record: Record, program: str) -> NDArray[np.uint8]:
        """The mask of another program for a record, in the project's output classes.

        Args:
            record: one of ``records``.
            program: one of ``masks``, e.g. ``sen2cor`` or ``s2cloudless``.

        Returns:
            Output classes, (y, x) uint8; 255 where the program gives none.

        Raises:
            InputError: unknown program, no such mask, or a code that the program does not have.
        """
        choose("program", program, self.masks)
        codes = self._mask_codes(record, program)
        table = THIRD_PARTY[program]
        strange = sorted(set(np.unique(codes).tolist()) - set(table))
        if strange:
            raise InputError(
                f"The {program} mask of '{record.name}' holds the codes {strange[:9]}.",
                expected=f"Known codes are {sorted(table)}.",
                remedy="Probabilities have to be cut to 0 and 1 first; otherwise check the file.",
            )
        out = np.full(codes.shape, NO_DATA, np.uint8)
        for code, value in table.items():
            out[codes == code] = value
        return out

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "mscloudcam":
            return _sequential(self.records)
        unknown = [record.name for record in self.records if not record.split]
        if unknown:
            raise InputError(
                f"{len(unknown)} images of {self.root} have no split, e.g. '{unknown[0]}'.",
                expected="The split stands in the metadata table of the release.",
                remedy="Put the table beside the images, or choose the split 'mscloudcam'.",
            )
        if scheme == "official":
            return {record.name: record.split for record in self.records}
        north = scheme == "temperate-june-north"
        return {record.name: record.split if _is_temperate_june(record, north) else "" for record in self.records}


def choose(option: str, value: str, allowed: Sequence[str]) -> None:
    """Check that an option has one of its values.

    Raises:
        InputError: it has another one.
    """
    if value not in allowed:
        raise InputError(
            f"The option {option} is '{value}'.",
            expected=f"It is one of {', '.join(allowed)}.",
            remedy="Choose one of these.",
        )


def bands(level: str, *, with_aot: bool = False, sar: Sequence[str] = (), with_dem: bool = False) -> tuple[Band, ...]:
    """Bands of a patch in the order of its planes.

    >>> [band.name for band in bands("l2a", with_dem=True)][-3:]
    ['B11', 'B12', 'elevation']
    """
    out = sensors.bands_of(f"sentinel2-{level}")
    if with_aot:
        # Neither light nor ground: only networks with a fixed list of bands can use it.
        out += (Band("AOT", None, None, None, 10.0, "aerosol"),)
    out += sensors.bands_of("sentinel1-grd", sar)
    if with_dem:
        out += sensors.bands_of("dem")
    return out


def check_decibel(sar: NDArray[np.float32], source: str | Path) -> None:
    """Check that VV and VH, the first two planes, are in decibel.

    Raises:
        InputError: no value is negative, as in linear power, or values are beyond what is possible.
    """
    power = sar[:2][np.isfinite(sar[:2])]
    if power.size and (power.min() >= 0 or power.min() < -100 or power.max() > 60):
        raise InputError(
            f"The backscatter of {source} lies between {power.min():g} and {power.max():g}.",
            expected="Decibel are expected: mostly between -30 and 5, and not all positive.",
            remedy="Check the release; linear power becomes decibel by 10 log10.",
        )


def place_tags(date: object, centroid: object) -> dict[str, float]:
    """Month, longitude and latitude, where they are given.

    Args:
        date: text with a date as YYYYMMDD or YYYY-MM-DD in it, or seconds since 1970.
        centroid: well-known text of a point, longitude first.

    >>> place_tags("20190612T101031_20190612T101033_T33UUB", "POINT (12.5 51.25)")
    {'month': 6.0, 'longitude': 12.5, 'latitude': 51.25}
    """
    out: dict[str, float] = {}
    if isinstance(date, int | float):
        date = datetime.fromtimestamp(date, UTC).isoformat()
    found = _DATE.search(str(date))
    if found:
        out["month"] = float(found[1])
    numbers = str(centroid).upper().replace("POINT", "").strip(" ()").split()
    if len(numbers) == 2:
        out["longitude"], out["latitude"] = float(numbers[0]), float(numbers[1])
    return out


def _is_temperate_june(record: Record, north_only: bool = False) -> bool:
    if "latitude" not in record.tags or "month" not in record.tags:
        raise InputError(
            f"Place or date of '{record.name}' are not known.",
            expected="The split 'temperate-june' needs the centroid and the date of every image.",
            remedy="Put the metadata table of the release beside the images.",
        )
    latitude = float(record.tags["latitude"])
    inside = _TEMPERATE[0] <= (latitude if north_only else abs(latitude)) <= _TEMPERATE[1]
    return inside and record.tags["month"] == _JUNE


def _sequential(records: Iterable[Record]) -> dict[str, str]:
    """Cut the sorted table at 85 and 90 %. A place that a cut would divide stays where its first row lies."""
    rows = list(records)
    ends = np.cumsum([round(share * len(rows)) for _, share in _SEQUENTIAL[:-1]])
    first: dict[str, str] = {}
    for number, record in enumerate(rows):
        first.setdefault(record.scene, _SEQUENTIAL[int(np.searchsorted(ends, number, side="right"))][0])
    return {record.name: first[record.scene] for record in rows}
