"""Any raster file whose bands have names: from the caller, from the file's band descriptions, or from a sensor.

Radiometry, in this order: the caller's scale and offset; the file's own scale and offset tags; what the sensor's
definition fixes; decimal numbers in the range of reflectance; pictures of 8 bits as uncalibrated. Integers of unknown
scale are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .. import sensors
from ..errors import InputError, RadiometryError, RadiometryWarning, UncloudedWarning
from ..radiometry import unknown_scale
from ..raster import Header, RasterBand, header
from ..scene import Band, Radiometry, Scene, metres_per_pixel
from . import Reader, Request, register
from .checks import check_kelvin

_ASSUMED_PIXEL_M = 10.0
_COLOURS = ("red", "green", "blue")
UNCALIBRATED = "The numbers are not calibrated to reflectance: probabilities are not reliable."
ASSUMED = f"The image has no georeference: a pixel size of {_ASSUMED_PIXEL_M:g} m is assumed."

_PLAUSIBLE = (-0.5, 5.0)
"""Limits of the 1st and 99th percentile of decimal numbers that are taken as reflectance. Saturated cloud reaches 2, a
glint or a hot fire more; counts of 8 bits and more lie far above."""


@register
class GeoTiffReader(Reader):
    """Raster files that GDAL opens."""

    name = "geotiff"
    title = "a GeoTIFF or other raster with named bands"
    rank = 90

    def matches(self, source: Any) -> bool:
        """Any file or address; whether GDAL can open it is seen on opening."""
        return isinstance(source, str) or (isinstance(source, Path) and source.is_file())

    def open(self, source: Any, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        path = str(source)
        head = header(path)
        if head.count == 0:
            raise InputError(
                f"{path} holds several images rather than one.",
                expected="One raster with bands is expected.",
                remedy="Open it in Python, pick the bands of one date, and pass those:"
                " unclouded.mask(xarray.open_dataset(path)[bands].isel(time=0)); or write them to one GeoTIFF.",
            )
        sensor = self._sensor(path, head, request)
        named = _named_bands(path, head, request, sensor)
        notes: list[str] = []
        bands: list[Band] = []
        sources: dict[str, Any] = {}
        radiometry: dict[str, Radiometry] = {}
        pixel_m, assumed = pixel_size(head, request, sensor)
        gsd = pixel_m if pixel_m is not None else metres_per_pixel(head.geobox())
        for entry in named:
            raster, _ = RasterBand.open(path, entry.index)
            sources[entry.band.name] = raster
            radiometry[entry.band.name] = file_radiometry(raster, head, entry.band, sensor, request)
            bands.append(replace(entry.band, gsd_m=gsd))
        calibrated = all(record.calibrated for record in radiometry.values())
        if not calibrated:
            notes.append(UNCALIBRATED)
            warnings.warn(notes[-1], RadiometryWarning, stacklevel=3)
        if assumed:
            notes.append(ASSUMED)
            warnings.warn(notes[-1], UncloudedWarning, stacklevel=3)
        return Scene(
            id=_stem(path),
            sensor=sensor.name if sensor is not None else "generic",
            level=request.level or level_of(sensor, calibrated),
            bands=tuple(bands),
            geobox=head.geobox(),
            radiometry=radiometry,
            sources=sources,
            source=path,
            warnings=tuple(notes),
            pixel_m=pixel_m,
        )

    def _sensor(self, path: str, head: Header, request: Request) -> sensors.Sensor | None:
        if request.sensor is not None:
            return sensors.load(request.sensor)
        found = sensors.detect(_stem(path)) or sensors.detect(PurePosixPath(path).name)
        # A stack that is named like a product is taken as one only if it has the product's bands.
        return found if found is not None and len(found.band) == len(_data_bands(head)) else None


@dataclass(frozen=True)
class _Named:
    """A band and its number in the file."""

    index: int
    band: Band


def _named_bands(path: str, head: Header, request: Request, sensor: sensors.Sensor | None) -> list[_Named]:
    """Which band of the file is which.

    Raises:
        InputError: nothing says it, or the names do not fit the file.
    """
    data = _data_bands(head)
    if isinstance(request.bands, Mapping):
        names, numbers = list(request.bands), [int(number) for number in request.bands.values()]
        wrong = [str(number) for number in numbers if not 1 <= number <= head.count]
        if wrong or len(set(numbers)) != len(numbers):
            raise InputError(
                f"Band numbers {', '.join(str(number) for number in numbers)} are given for {path}.",
                expected=f"It has {head.count} bands, counted from 1; each may be named once.",
                remedy="Correct the numbers, e.g. --bands blue=1,green=2,red=3.",
            )
        return _resolved(names, numbers, sensor)
    if request.bands is not None:
        if len(request.bands) not in (len(data), head.count):
            raise InputError(
                f"{len(request.bands)} band names are given for {path}, which has {len(data)} bands.",
                expected="One name for each band, in the file's order.",
                remedy="Name all, or number those wanted: --bands blue=1,green=2,red=3.",
            )
        return _resolved(list(request.bands), list(range(1, len(request.bands) + 1)), sensor)
    described = _from_descriptions(head, sensor)
    if described:
        return _resolved([name for _, name in described], [index for index, _ in described], sensor)
    if sensor is not None:
        if len(sensor.band) != len(data):
            raise InputError(
                f"{path} has {len(data)} bands, and {sensor.name} has {len(sensor.band)}.",
                expected="Unnamed bands can only be matched when all are there.",
                remedy="Say which is which, e.g. --bands blue=1,green=2,red=3.",
            )
        return [_Named(index, band) for index, band in zip(data, sensor.bands, strict=True)]
    coloured = {colour: index for index, colour in enumerate(head.colours, start=1) if colour in _COLOURS}
    if len(coloured) == 3 and head.dtypes[0] == "uint8":
        return _resolved(list(_COLOURS), [coloured[colour] for colour in _COLOURS], sensors.load("generic-rgb8"))
    raise InputError(
        f"Nothing says what the {len(data)} bands of {path} are.",
        expected="Bands are named in the file's band descriptions, by the caller, or by a sensor.",
        remedy="Name them: --bands blue=1,green=2,red=3,nir=4; or name a sensor: --sensor.",
    )


def _resolved(names: list[str], numbers: list[int], sensor: sensors.Sensor | None) -> list[_Named]:
    bands = sensors.resolve_bands(names, sensor)
    return [_Named(number, band) for number, band in zip(numbers, bands, strict=True)]


def _from_descriptions(head: Header, sensor: sensors.Sensor | None) -> list[tuple[int, str]]:
    """Bands whose description is a name that is known."""
    found = []
    for index, text in enumerate(head.descriptions, start=1):
        if text:
            try:
                sensors.resolve_bands([text], sensor)
            except InputError:
                continue
            found.append((index, text))
    return found


def _data_bands(head: Header) -> list[int]:
    return [index for index, colour in enumerate(head.colours, start=1) if colour != "alpha"]


def file_radiometry(
    raster: RasterBand, head: Header, band: Band, sensor: sensors.Sensor | None, request: Request
) -> Radiometry:
    """How the numbers of a raster without metadata of its own become reflectance: see the module's text.

    Raises:
        RadiometryError: nothing says it.
    """
    record = request.radiometry(_known(raster, head, band, sensor, request), kind=band.kind)
    if record is None:
        raise unknown_scale(raster.path, raster.dtype)
    if record.source == "dtype-float" and band.kind == "optical":
        _check_float(raster, record, band.name)
    if band.kind == "thermal":
        check_kelvin(raster.sample(record), record, f"'{band.name}' of {raster.path}")
    return record


def level_of(sensor: sensors.Sensor | None, calibrated: bool) -> str:
    """Level of what was read: the sensor's, or what the numbers allow to say."""
    if not calibrated:
        return "counts"
    return "unknown" if sensor is None else sensor.level


def _known(
    raster: RasterBand, head: Header, band: Band, sensor: sensors.Sensor | None, request: Request
) -> Radiometry | None:
    """Radiometry as the file or the sensor says it, or None."""
    place = raster.index - 1
    own = sensor.find(band.name) if sensor is not None else None
    nodata = head.nodata[place]
    if nodata is None and sensor is not None:
        nodata = own.nodata if own is not None and own.nodata is not None else sensor.nodata
    scale, offset = head.scales[place], head.offsets[place]
    kind = np.dtype(raster.dtype)
    if (scale, offset) != (1.0, 0.0):
        return Radiometry(scale, offset, nodata, "file")
    if kind.kind == "f":
        return Radiometry(1.0, 0.0, nodata, "dtype-float")
    if sensor is not None and sensor.radiometry == "fixed" and sensor.scale is not None and sensor.offset is not None:
        if own is not None and own.scale is not None and own.offset is not None:
            return Radiometry(own.scale, own.offset, nodata, "sensor")
        return Radiometry(sensor.scale, sensor.offset, nodata, "sensor")
    if kind == np.uint8 and (sensor is None or sensor.radiometry in ("uncalibrated", "user")):
        return Radiometry(1.0 / 255.0, 0.0, nodata, "dtype-8bit", calibrated=False)
    if sensor is not None and sensor.radiometry == "uncalibrated" and sensor.scale is not None:
        return Radiometry(sensor.scale, sensor.offset or 0.0, nodata, "sensor", calibrated=False)
    if (request.scale is not None or request.offset is not None) and band.kind != "thermal":
        return Radiometry(1.0, 0.0, nodata, "file") if request.scale is not None else None
    return None


def _check_float(raster: RasterBand, record: Radiometry, name: str) -> None:
    values = raster.sample(record)
    if values.size == 0:
        return
    low, high = np.percentile(values, [1, 99], method="nearest")
    if low < _PLAUSIBLE[0] or high > _PLAUSIBLE[1]:
        raise RadiometryError(
            f"Band '{name}' of {raster.path} holds decimal numbers from {low:.5g} to {high:.5g} (1st and 99th"
            " percentile).",
            expected="Reflectance lies between 0 and about 1.5.",
            remedy="If these are scaled numbers, say so: --scale 0.0001 --offset 0; if a value marks missing pixels,"
            " name it: --nodata -9999.",
        )


def pixel_size(head: Header, request: Request, sensor: sensors.Sensor | None) -> tuple[float | None, bool]:
    """Pixel size of an image whose grid does not say it, and whether it had to be assumed."""
    if head.crs is not None:
        return None, False
    if request.resolution_m is not None:
        return request.resolution_m, False
    if sensor is not None and not sensor.name.startswith("generic"):
        return sensor.grid_m, False
    return _ASSUMED_PIXEL_M, True


def _stem(path: str) -> str:
    name = PurePosixPath(path.replace("\\", "/").split("?")[0]).name
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and len(suffix) <= 4 else name
