"""A folder with one raster for each band, told apart by the ends of the files' names: ``scene_B02.tif``, ``red.tif``.

Bands of the same name are taken at their smallest pixels. Radiometry is found as for single rasters, see
:mod:`unclouded.readers.geotiff`: a folder of rasters has no metadata of its own.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from .. import sensors
from ..errors import InputError, RadiometryWarning, UncloudedWarning
from ..raster import Header, RasterBand
from ..scene import Band, Radiometry, Scene, metres_per_pixel
from . import Reader, Request, register
from .files import Files
from .geotiff import ASSUMED, UNCALIBRATED, file_radiometry, level_of, pixel_size
from .grids import check_grids, finest

_RASTER = re.compile(r"\.(tif|tiff|jp2|img)$", re.IGNORECASE)
_CODE = re.compile(r"(?:^|[_.-])B\d{1,2}A?(?:_\d+m)?\.\w+$", re.IGNORECASE)
"""Bands by number, whose meaning the sensor has to say."""

_SIZE = re.compile(r"[_.-]\d+m$", re.IGNORECASE)
_LONGEST = 3
"""Parts of a file's name that may make up the name of a band, as in ``scene_SR_B2``."""


@register
class BandSetReader(Reader):
    """Folders of single bands."""

    name = "bandset"
    title = "a folder with one raster for each band, named by it"
    rank = 80

    def matches(self, source: Any) -> bool:
        """A folder with two rasters or more whose names end with those of bands."""
        if not isinstance(source, Path) or not source.is_dir():
            return False
        try:
            names = [path.name for path in source.iterdir() if _RASTER.search(path.name)]
        except OSError:
            return False
        sensor = _detected(source.name, names)
        return sum(bool(_CODE.search(name)) or _band(name, sensor) is not None for name in names) >= 2

    def open(self, source: Path, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        files = Files.of(source.absolute())
        names = [name for name in files.names if "/" not in name and _RASTER.search(name)]
        sensor = sensors.load(request.sensor) if request.sensor is not None else _detected(files.root.name, names)
        found: dict[str, tuple[Band, RasterBand, Header]] = {}
        for name in names:
            band = _band(name, sensor)
            if band is None:
                continue
            raster, header = RasterBand.open(files.gdal(name))
            if header.count != 1:
                raise InputError(
                    f"{raster.path} has {header.count} bands, and is named after band {band.name}.",
                    expected="Each file of the folder holds one band.",
                    remedy="Pass the file itself, with --bands.",
                )
            held = found.get(band.name)
            if held is None or abs(raster.affine.a) < abs(held[1].affine.a):
                found[band.name] = band, raster, header
        order = [band.name for band in sensor.band] if sensor is not None else list(found)
        present = [name for name in order if name in found]
        chosen = request.wanted(present, sensor, str(source))
        if not chosen:
            raise InputError(
                f"The {len(names)} rasters in {source} are named after no band of {sensor.name if sensor else 'any'}.",
                expected="Files are called like scene_B02.tif, or red.tif.",
                remedy="Name the sensor with --sensor, or rename the files.",
            )
        bands: list[Band] = []
        radiometry: dict[str, Radiometry] = {}
        pixel_m, assumed = pixel_size(found[chosen[0]][2], request, sensor)
        for name in chosen:
            band, raster, header = found[name]
            radiometry[name] = file_radiometry(raster, header, band, sensor, request)
            gsd = pixel_m if pixel_m is not None else metres_per_pixel(header.geobox())
            bands.append(replace(band, gsd_m=round(gsd, 6)))
        grids = {name: found[name][2].geobox() for name in chosen}
        check_grids(grids, str(source))
        calibrated = all(record.calibrated for record in radiometry.values())
        notes = [*[UNCALIBRATED] * (not calibrated), *[ASSUMED] * assumed]
        for note in notes:
            warnings.warn(note, RadiometryWarning if note is UNCALIBRATED else UncloudedWarning, stacklevel=3)
        # A panchromatic band is finer than anything the mask is made from.
        others = [grids[band.name] for band in bands if band.common_name != "pan"]
        return Scene(
            id=files.root.name,
            sensor=sensor.name if sensor is not None else "generic",
            level=request.level or level_of(sensor, calibrated),
            bands=tuple(bands),
            geobox=finest(others or list(grids.values())),
            radiometry=radiometry,
            sources={name: found[name][1] for name in chosen},
            source=str(source),
            properties=(
                {} if sensor is None else {"missing_bands": [name for name in order if name not in present]}
            ),
            warnings=tuple(notes),
            pixel_m=pixel_m,
        )


def _detected(folder: str, names: list[str]) -> sensors.Sensor | None:
    """The sensor that the folder or one of the files is called after.

    Radar and heights may lie beside an image: they count only where there is no other, and only for bands of their own.
    """
    found = [sensor for name in (folder, *sorted(names)) if (sensor := sensors.detect(name)) is not None]
    for sensor in found:
        if sensor.level not in ("backscatter", "elevation"):
            return sensor
    return next((sensor for sensor in found if any(_band(name, sensor) is not None for name in names)), None)


def _band(name: str, sensor: sensors.Sensor | None) -> Band | None:
    """The band that the end of a file's name names; longer ends first, so that ``SR_B2`` is not ``B2``."""
    stem = _SIZE.sub("", PurePosixPath(name).stem)
    parts = re.split(r"[_.-]", stem)
    for count in range(min(_LONGEST, len(parts)), 0, -1):
        end = "_".join(parts[-count:])
        try:
            return sensors.resolve_bands([end], sensor)[0]
        except InputError:
            continue
    return None
