"""The sensor catalogue: one TOML file per sensor product, in this folder. A new sensor is one new file.

A file says what the bands are, how stored counts become reflectance, and how the product's files are called.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, first_fault
from ..scene import Band

_FOLDER = Path(__file__).parent
_COMMON_NAMES = _FOLDER.parent / "common_names.toml"

BandLike: TypeAlias = "str | tuple[float, float] | Band"
"""How a caller may name a band: the sensor's name, a common name, (min_nm, max_nm), or a ready Band."""


class SensorBand(BaseModel):
    """One band of a sensor file.

    Attributes:
        name: the sensor's own name.
        common_name: STAC electro-optical name, see common_names.toml.
        min_nm, max_nm: half-power limits in nanometres; left out for SAR and elevation.
        gsd_m: native pixel size in metres.
        kind: ``optical``, ``thermal`` (kelvin), ``sar`` (decibel; angle in degrees) or ``dem`` (metres).
        scale, offset, nodata: only where they differ from the sensor's.
        irradiance: mean solar irradiance at one astronomical unit in W/(m2 um), for products that give radiance only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    common_name: str | None = None
    min_nm: float | None = Field(default=None, gt=300, lt=20000)
    max_nm: float | None = Field(default=None, gt=300, lt=20000)
    gsd_m: float = Field(gt=0)
    kind: Literal["optical", "thermal", "sar", "dem"] = "optical"
    scale: float | None = Field(default=None, gt=0)
    offset: float | None = None
    nodata: float | None = None
    irradiance: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        light = self.kind in ("optical", "thermal")
        if light != (self.min_nm is not None) or light != (self.max_nm is not None):
            raise ValueError(f"band '{self.name}': optical and thermal bands need min_nm and max_nm, others must not")
        if self.min_nm is not None and self.max_nm is not None and self.min_nm >= self.max_nm:
            raise ValueError(f"band '{self.name}': min_nm has to be below max_nm")
        if self.common_name is not None and light and self.common_name not in _common_names():
            raise ValueError(f"band '{self.name}': '{self.common_name}' is not in common_names.toml")
        return self

    def band(self) -> Band:
        """The band as a scene carries it."""
        return Band(self.name, self.common_name, self.min_nm, self.max_nm, self.gsd_m, self.kind)


class Sensor(BaseModel):
    """One sensor product.

    Attributes:
        name: identifier, e.g. ``sentinel2-l1c``; also the file's name.
        title: text for people.
        level: ``toa`` or ``boa`` reflectance, ``counts`` without calibration, ``backscatter``, ``elevation``.
        radiometry: where scale and offset come from. ``product``: read from each product. ``fixed``: the product's
            definition, given here. ``user``: the user says, or the file's own tags. ``uncalibrated``: there is none;
            scale and offset here only bring counts to about 0 to 1.
        scale, offset: ``reflectance = count * scale + offset``; for ``fixed`` and ``uncalibrated`` only.
        nodata: stored value of missing pixels.
        saturated: stored value of pixels too bright to measure; these are kept.
        grid_m: pixel size of the output in metres, unless the user wants another.
        pattern: shell patterns of product names.
        example: product names; each pattern matches one, and each is matched.
        band: the bands, in the product's order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str = Field(min_length=1)
    level: Literal["toa", "boa", "counts", "backscatter", "elevation"]
    radiometry: Literal["product", "fixed", "user", "uncalibrated"]
    scale: float | None = Field(default=None, gt=0)
    offset: float | None = None
    nodata: float | None = None
    saturated: float | None = None
    grid_m: float = Field(gt=0)
    pattern: tuple[str, ...] = ()
    example: tuple[str, ...] = ()
    band: tuple[SensorBand, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        fixed = self.radiometry in ("fixed", "uncalibrated")
        if fixed != (self.scale is not None) or fixed != (self.offset is not None):
            raise ValueError("scale and offset are given exactly when radiometry is 'fixed' or 'uncalibrated'")
        names = [band.name.casefold() for band in self.band]
        if len(set(names)) != len(names):
            raise ValueError("band names have to be unique")
        for pattern in self.pattern:
            if not any(fnmatch.fnmatchcase(example, pattern) for example in self.example):
                raise ValueError(f"the pattern '{pattern}' matches none of the examples")
        for example in self.example:
            if not self.matches(example):
                raise ValueError(f"no pattern matches the example '{example}'")
        return self

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands as scenes carry them."""
        return tuple(band.band() for band in self.band)

    def matches(self, product: str) -> bool:
        """Whether a product's file or folder name belongs to this sensor."""
        return any(fnmatch.fnmatchcase(product, pattern) for pattern in self.pattern)

    def find(self, name: str) -> SensorBand | None:
        """The band of that name, or the only band of that common name; upper and lower case are the same.

        ``B2`` finds ``B02``.
        """
        wanted = _plain(name)
        for band in self.band:
            if _plain(band.name) == wanted:
                return band
        common = [band for band in self.band if (band.common_name or "") == name.casefold()]
        return common[0] if len(common) == 1 else None


def _plain(name: str) -> str:
    """``B02`` and ``b2`` are the same band."""
    stem = name.casefold()
    return stem[0] + stem[1:].lstrip("0") if len(stem) > 2 and stem[0] == "b" and stem[1] == "0" else stem


@cache
def _common_names() -> dict[str, tuple[float, float]]:
    with _COMMON_NAMES.open("rb") as file:
        return {name: (float(low), float(high)) for name, (low, high) in tomllib.load(file).items()}


def names() -> list[str]:
    """Names of all sensors, sorted.

    >>> "sentinel2-l1c" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def load(name: str) -> Sensor:
    """One sensor by name.

    Raises:
        InputError: no sensor has that name, or its file is not valid.

    >>> load("landsat-oli-c2-l2").scale
    2.75e-05
    """
    path = _FOLDER / f"{name}.toml"
    if name not in names():
        raise InputError(
            f"There is no sensor called '{name}'.",
            expected=f"Sensors are {', '.join(names())}.",
            remedy="Choose one of these with --sensor, or describe yours in a TOML file: see docs/add-a-sensor.md.",
        )
    sensor = read(path)
    if sensor.name != name:
        raise InputError(
            f"The sensor file {path.name} says that its name is '{sensor.name}'.",
            expected="The file is called after the sensor.",
            remedy=f"Rename the file to {sensor.name}.toml, or correct the name in it.",
        )
    return sensor


def read(path: Path) -> Sensor:
    """Read and check one sensor file, which may lie anywhere.

    Raises:
        InputError: the file cannot be read, is not TOML, or breaks a rule of the catalogue.
    """
    try:
        with path.open("rb") as file:
            return Sensor.model_validate(tomllib.load(file))
    except OSError as err:
        raise InputError(
            f"The sensor file {path} cannot be read: {err.strerror or err}.",
            expected="A sensor is one TOML file.",
            remedy="Check the path.",
        ) from err
    except tomllib.TOMLDecodeError as err:
        raise InputError(
            f"The sensor file {path} is not TOML: {err}.",
            expected="A sensor is one TOML file.",
            remedy="Compare it with the files in unclouded/sensors.",
        ) from err
    except ValidationError as err:
        raise InputError(
            f"The sensor file {path} is not valid: {first_fault(err)}.",
            expected="A sensor file follows docs/add-a-sensor.md.",
            remedy="Correct the file.",
        ) from err


def detect(product: str) -> Sensor | None:
    """The sensor whose file pattern matches a product name, or None.

    >>> detect("S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454.SAFE").name
    'sentinel2-l2a'
    """
    for name in names():
        sensor = load(name)
        if sensor.matches(product):
            return sensor
    return None


def bands_of(sensor: str | Sensor, wanted: Sequence[str] | None = None) -> tuple[Band, ...]:
    """Bands of a sensor, by their own or common names, in the order wanted; None means all.

    Raises:
        InputError: the sensor or a band is unknown, or a band is named twice.

    >>> [band.name for band in bands_of("sentinel2-l1c", ["red", "B2"])]
    ['B04', 'B02']
    """
    found = load(sensor) if isinstance(sensor, str) else sensor
    return found.bands if wanted is None else resolve_bands(wanted, found)


def resolve_bands(
    bands: Sequence[BandLike], sensor: str | Sensor | None = None, *, gsd_m: float = 10.0
) -> tuple[Band, ...]:
    """Turn band names or wavelength ranges into bands.

    Args:
        bands: each is a band name of ``sensor``, a common name (blue, green, red, nir, nir08, swir16, cirrus, ...),
            a pair (min_nm, max_nm) in nanometres, or a :class:`Band`.
        sensor: sensor that the names belong to; None or ``"generic"`` means typical ranges of the common names.
        gsd_m: pixel size in metres of bands that are not from a sensor.

    Returns:
        One band for each entry, in the same order.

    Raises:
        InputError: a name is unknown or stands for several bands, a range is impossible, or a band comes twice.

    >>> [(band.name, band.centre_nm) for band in resolve_bands(["red", (845, 885)])]
    [('red', 660.0), ('845-885nm', 865.0)]
    """
    if isinstance(bands, str):
        raise InputError(
            f"The bands are given as the text '{bands}'.",
            expected="A list with one entry for each band is expected.",
            remedy=f"Pass bands={[part.strip() for part in bands.split(',')]!r}.",
        )
    catalogue = None if sensor is None or sensor == "generic" else load(sensor) if isinstance(sensor, str) else sensor
    out: list[Band] = []
    for entry in bands:
        band = _resolve(entry, catalogue, gsd_m)
        if any(band.name.casefold() == other.name.casefold() for other in out):
            raise InputError(
                f"Band '{band.name}' is given twice.",
                expected="Every band may be given once.",
                remedy=f"Remove the second '{entry}'.",
            )
        out.append(band)
    return tuple(out)


def _resolve(entry: BandLike, sensor: Sensor | None, gsd_m: float) -> Band:
    if isinstance(entry, Band):
        return entry
    if not isinstance(entry, str):
        return _from_range(entry, gsd_m)
    if sensor is not None:
        found = sensor.find(entry)
        if found is not None:
            return found.band()
        same = [band.name for band in sensor.band if band.common_name == entry.casefold()]
        raise InputError(
            f"'{entry}' stands for several bands of {sensor.name}: {', '.join(same)}."
            if same
            else f"{sensor.title} has no band '{entry}'.",
            expected="Its bands are "
            + ", ".join(f"{band.name} ({band.common_name or band.kind})" for band in sensor.band)
            + ".",
            remedy="Name one of these.",
        )
    common = _common_names()
    if entry.casefold() in common:
        low, high = common[entry.casefold()]
        return Band(entry.casefold(), entry.casefold(), low, high, gsd_m, "thermal" if low > 3000 else "optical")
    raise InputError(
        f"The band name '{entry}' is not known without a sensor.",
        expected=f"Common names are {', '.join(common)}.",
        remedy="Use one of these, give a range in nanometres such as (845, 885), or name the sensor: "
        'sensor="sentinel2-l1c".',
    )


def _from_range(entry: tuple[float, float], gsd_m: float) -> Band:
    try:
        low, high = (float(value) for value in entry)
    except (TypeError, ValueError) as err:
        raise InputError(
            f"A band is given as {entry!r}.",
            expected="A band is a name or a pair of wavelengths in nanometres.",
            remedy="Pass for example (845, 885).",
        ) from err
    if not 300 < low < high < 20000:
        raise InputError(
            f"A band reaches from {low:g} to {high:g} nm.",
            expected="Wavelengths rise, and lie between 300 and 20000 nanometres.",
            remedy="Give nanometres, for example (845, 885); 0.845 um is 845 nm.",
        )
    return Band(f"{low:g}-{high:g}nm", None, low, high, gsd_m, "thermal" if low > 3000 else "optical")
