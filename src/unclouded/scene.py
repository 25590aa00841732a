"""Scene: a lazy image that carries its bands, grid, radiometry and missing pixels with it.

Arrays never travel without their meaning: a reader makes a Scene, everything after it takes one.
Axes are (band, y, x).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import InputError

_METRES_PER_DEGREE = 111_320.0
"""Length of one degree of latitude, and of longitude at the equator."""


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Attributes:
        name: the sensor's own name, e.g. ``B02`` or ``SR_B2``.
        common_name: blue, green, red, nir, swir16, swir22, cirrus, ... (STAC eo names), or None.
        min_nm, max_nm: wavelength range in nanometres; None for SAR and elevation.
        gsd_m: native pixel size in metres.
        kind: ``optical``, ``thermal``, ``sar`` or ``dem``.
    """

    name: str
    common_name: str | None
    min_nm: float | None
    max_nm: float | None
    gsd_m: float
    kind: str = "optical"

    @property
    def centre_nm(self) -> float:
        """Middle of the wavelength range in nanometres.

        Raises:
            InputError: the band has no wavelengths.
        """
        if self.min_nm is None or self.max_nm is None:
            raise InputError(
                f"Band '{self.name}' of kind '{self.kind}' has no wavelengths.",
                expected="Only optical and thermal bands have them.",
                remedy="Leave the band out, or give its range in nanometres.",
            )
        return 0.5 * (self.min_nm + self.max_nm)


@dataclass(frozen=True)
class Radiometry:
    """How the stored numbers of one band become reflectance, and who says so.

    ``reflectance = dn * scale + offset``; ``nodata`` marks missing pixels before scaling. For thermal bands the result
    is kelvin, or radiance that the source turns into kelvin; for SAR decibel, for elevation metres.

    Attributes:
        scale: reflectance per count.
        offset: reflectance added after scaling.
        nodata: stored value of missing pixels, or None when only NaN is missing.
        source: ``product-xml``, ``product-mtl``, ``stac``, ``file`` (tags of the raster), ``sensor`` (fixed by the
            product's definition), ``user``, ``array``, ``dtype-float`` (decimal numbers taken as reflectance),
            ``dtype-8bit`` (a picture).
        calibrated: False when the numbers are not reflectance (8-bit pictures and the like).
        saturated: stored value of pixels too bright to be measured, which keep it; None where it is not known.
    """

    scale: float
    offset: float
    nodata: float | None
    source: str
    calibrated: bool = True
    saturated: float | None = None


def metres_per_pixel(geobox: GeoBox) -> float:
    """Pixel size of a grid in metres, mean of both sides; of geographic grids at the grid's middle."""
    x, y = abs(geobox.resolution.x), abs(geobox.resolution.y)
    if geobox.crs is not None and geobox.crs.geographic:
        latitude = geobox.boundingbox.bottom + 0.5 * geobox.boundingbox.span_y
        x *= _METRES_PER_DEGREE * float(np.cos(np.radians(latitude)))
        y *= _METRES_PER_DEGREE
    elif geobox.crs is not None:
        factor = geobox.crs.proj.axis_info[0].unit_conversion_factor
        x, y = x * factor, y * factor
    return float(np.sqrt(x * y))


class BandSource(Protocol):
    """Where the stored numbers of one band come from."""

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        """Reflectance on ``geobox``, (y, x) float32, NaN where missing.

        ``geobox`` has the scene's CRS and its pixels are a whole multiple or fraction of the source's.
        """
        ...


@dataclass(frozen=True)
class Scene:
    """One acquisition: bands on one grid, read piece by piece.

    Attributes:
        id: name of the product, without path and suffix.
        sensor: name in the sensor catalogue, e.g. ``sentinel2-l1c``.
        level: ``toa``, ``boa``, ``counts`` (not calibrated), or ``unknown`` reflectance; ``backscatter`` and
            ``elevation`` for SAR and terrain.
        bands: bands that are present, in the product's order.
        geobox: finest grid of any band; the grid of the output unless another resolution is asked for.
        radiometry: one record per band name.
        sources: one source per band name.
        source: path or address that was opened.
        datetime: acquisition time, ISO 8601 in UTC, or None.
        properties: what else the product says: processing baseline, sun elevation, ...
        warnings: suspicious findings, for the user and for the output item.
        pixel_m: pixel size in metres where the grid itself does not say it (no reference system), or None.
    """

    id: str
    sensor: str
    level: str
    bands: tuple[Band, ...]
    geobox: GeoBox
    radiometry: dict[str, Radiometry]
    sources: dict[str, BandSource] = field(repr=False)
    source: str
    datetime: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    pixel_m: float | None = None

    @property
    def resolution_m(self) -> float:
        """Pixel size of the finest grid in metres; of geographic grids at the scene's middle, mean of both sides."""
        if self.pixel_m is not None:
            return self.pixel_m
        return metres_per_pixel(self.geobox)

    def read(self, geobox: GeoBox, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Reflectance on ``geobox``.

        Args:
            geobox: any window of the scene's grid or of a coarser one; :meth:`grid` makes such grids.
            bands: names of the bands wanted, in the order wanted; None means all.

        Returns:
            Reflectance [1], (band, y, x) float32, NaN where missing, not clipped.

        Raises:
            InputError: a band is unknown, or its file cannot be read.
        """
        names = [band.name for band in self.bands] if bands is None else list(bands)
        for name in names:
            if name not in self.sources:
                raise InputError(
                    f"Scene '{self.id}' has no band '{name}'.",
                    expected=f"Its bands are {', '.join(band.name for band in self.bands)}.",
                    remedy="Ask for one of these.",
                )
        out = np.empty((len(names), *geobox.shape), np.float32)

        def read_one(index: int) -> None:
            out[index] = self.sources[names[index]].read(geobox, self.radiometry[names[index]])

        # One thread per band: decoding releases the interpreter, and every band has a file of its own.
        with ThreadPoolExecutor(max(1, min(len(names), os.cpu_count() or 1)), "unclouded-read") as pool:
            for _ in pool.map(read_one, range(len(names))):
                pass
        return out

    def grid(self, resolution_m: float) -> GeoBox:
        """The scene's footprint on pixels of ``resolution_m``; the last row and column may reach beyond it.

        Raises:
            InputError: the resolution is not a positive number.
        """
        if not resolution_m > 0:
            raise InputError(
                f"The resolution is {resolution_m} m.",
                expected="It has to be a positive number of metres.",
                remedy="Pass for example 20.",
            )
        factor = resolution_m / self.resolution_m
        rows, cols = (int(np.ceil(round(size / factor, 6))) for size in self.geobox.shape)
        return GeoBox((rows, cols), self.geobox.affine * self.geobox.affine.scale(factor), self.geobox.crs)

    def describe(self) -> dict[str, Any]:
        """What was recognised, as plain values that JSON can hold.

        Returns:
            Sensor, level, grid and, for every band, wavelengths, file, scale, offset and where these come from.
        """
        crs = self.geobox.crs
        return {
            "id": self.id,
            "source": self.source,
            "sensor": self.sensor,
            "level": self.level,
            "datetime": self.datetime,
            "baseline": self.properties.get("processing_baseline"),
            "resolution_m": round(self.resolution_m, 6),
            "shape": [int(size) for size in self.geobox.shape],
            "crs": None if crs is None else (f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt()),
            "transform": [float(value) for value in self.geobox.affine[:6]],
            "calibrated": all(record.calibrated for record in self.radiometry.values()),
            "bands": [self._describe(band) for band in self.bands],
            "properties": dict(self.properties),
            "warnings": list(self.warnings),
        }

    def _describe(self, band: Band) -> dict[str, Any]:
        record = self.radiometry[band.name]
        nodata = record.nodata
        return {
            "name": band.name,
            "common_name": band.common_name,
            "kind": band.kind,
            "min_nm": band.min_nm,
            "max_nm": band.max_nm,
            "gsd_m": band.gsd_m,
            "file": getattr(self.sources[band.name], "path", None),
            "scale": record.scale,
            "offset": record.offset,
            "nodata": nodata if nodata is None or np.isfinite(nodata) else str(nodata),  # JSON has no NaN
            "radiometry": record.source,
            "calibrated": record.calibrated,
            "saturated": record.saturated,
        }
