"""Harmonized Landsat Sentinel-2: folders with one GeoTIFF for each band."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

from .. import sensors
from ..errors import InputError
from ..raster import Header, RasterBand
from ..raster_files import PRODUCT_FORMATS
from ..scene import Band, Radiometry, Scene
from . import Reader, Request, register
from .files import Files
from .grids import check_grids, finest

_IMAGE = re.compile(
    r"^(HLS\.([SL])30\.(T\w{5})\.(\d{4})(\d{3})T(\d{2})(\d{2})(\d{2})\.v\d+\.\d+)\.(B\w\w)\.tif$", re.IGNORECASE
)


@register
class HlsReader(Reader):
    """HLS S30 and L30."""

    name = "hls"
    title = "a folder of HLS S30 or L30 bands"
    rank = 25

    def matches(self, source: Any) -> bool:
        """A folder with HLS bands."""
        if not isinstance(source, Path) or not source.is_dir():
            return False
        return any(_IMAGE.match(path.name) for path in source.iterdir())

    def open(self, source: Path, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        files = Files.of(source.absolute())
        found = {match.group(9).upper(): match for name in files.names if (match := _IMAGE.match(name))}
        products = {match.group(1) for name in files.names if (match := _IMAGE.match(name))}
        if len(products) > 1:
            raise InputError(
                f"{source} holds {len(products)} HLS products: {', '.join(sorted(products)[:3])}.",
                expected="One product is opened at a time.",
                remedy="Put each into a folder of its own.",
            )
        first = next(iter(found.values()))
        sensor = sensors.load(f"hls-{first.group(2).lower()}30")
        if request.sensor not in (None, sensor.name):
            raise InputError(
                f"{source} is a product of {sensor.name}, and the sensor was given as {request.sensor}.",
                expected="The product says itself what it is.",
                remedy="Leave --sensor out.",
            )
        present = [band.name for band in sensor.band if band.name in found]
        names = request.wanted(present, sensor, first.group(1))
        bands: list[Band] = []
        sources: dict[str, Any] = {}
        headers: dict[str, Header] = {}
        radiometry: dict[str, Radiometry] = {}
        for name in names:
            own = sensor.find(name)
            assert own is not None
            raster, header = RasterBand.open(files.gdal(found[name].group(0)), formats=PRODUCT_FORMATS)
            scale = sensor.scale if own.scale is None else own.scale
            offset = sensor.offset if own.offset is None else own.offset
            assert scale is not None
            assert offset is not None
            nodata = header.nodata[0] if header.nodata[0] is not None else sensor.nodata
            record = request.radiometry(Radiometry(scale, offset, nodata, "sensor"), kind=own.kind)
            assert record is not None
            bands.append(own.band())
            sources[name], headers[name], radiometry[name] = raster, header, record
        check_grids({name: header.geobox() for name, header in headers.items()}, str(source))
        year, day, *clock = first.groups()[3:8]
        return Scene(
            id=first.group(1),
            sensor=sensor.name,
            level=request.level or sensor.level,
            bands=tuple(bands),
            geobox=finest([header.geobox() for header in headers.values()]),
            radiometry=radiometry,
            sources=sources,
            source=str(source),
            datetime=_iso(int(year), int(day), clock),
            properties={
                "tile": first.group(3).upper(),
                "missing_bands": [band.name for band in sensor.band if band.name not in present],
            },
        )


def _iso(year: int, day: int, clock: list[str]) -> str:
    try:
        date = dt.datetime.strptime(f"{year:04d} {day:03d}", "%Y %j").date()
    except ValueError as err:
        raise InputError(
            f"The product's name says day {day} of the year {year}.",
            expected="Names of HLS products have the day of the year, 001 to 366.",
            remedy="Give the files their original names.",
        ) from err
    return f"{date.isoformat()}T{':'.join(clock)}Z"
