"""Sentinel-1 and elevation rasters on the grid of an optical scene, whatever grid and reference system they have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.transform import array_bounds
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window

from .. import sensors
from ..errors import InputError, RadiometryError
from ..radiometry import missing
from ..raster import Header, header
from ..raster_files import environment, read_errors
from ..scene import Band, Radiometry, Scene, metres_per_pixel


@dataclass(frozen=True)
class WarpedBand:
    """A raster band that is warped to the grid asked for, bilinearly and without approximation of the transform.

    Attributes:
        path: what GDAL opens.
        index: number of the band in the file, from 1.
        power: the file holds linear power, which becomes decibel before it is interpolated.
    """

    path: str
    index: int
    power: bool = False

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        """Values on ``geobox``, (y, x) float32, NaN where missing.

        Raises:
            InputError: the file cannot be read.
        """
        out = np.full(geobox.shape, np.nan, np.float32)
        with read_errors(self.path), environment(self.path), rasterio.open(self.path) as dataset:
            window = _window(dataset, geobox)
            if window is None:
                return out
            stored = dataset.read(self.index, window=window)
            values = stored.astype(np.float32) * np.float32(radiometry.scale) + np.float32(radiometry.offset)
            gone = missing(stored, radiometry.nodata)
            if gone is not None:
                values[gone] = np.nan
            if self.power:
                values = np.where(values > 0, 10.0 * np.log10(np.where(values > 0, values, 1.0)), np.nan)
            if dataset.crs is None:  # as large as the scene, which has no reference system either: pixel on pixel
                top, left = _place(dataset, geobox)
                row, col = int(window.row_off) - top, int(window.col_off) - left
                out[row : row + values.shape[0], col : col + values.shape[1]] = values
                return out
            own = metres_per_pixel(Header.of(dataset).geobox())
            ratio = own / metres_per_pixel(geobox)
            reproject(
                values.astype(np.float32),
                out,
                src_transform=dataset.window_transform(window),
                src_crs=dataset.crs,
                src_nodata=np.nan,
                dst_transform=geobox.affine,
                dst_crs=str(geobox.crs),
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
                tolerance=0.0,
                num_threads=1,
                # Otherwise GDAL derives the ratio of pixel sizes, and with it the kernel, from the window at hand.
                XSCALE=ratio,
                YSCALE=ratio,
            )
        return out


def open_aligned(
    source: str | os.PathLike[str],
    like: Scene | GeoBox,
    *,
    sensor: Literal["sentinel1-grd", "dem"],
    bands: Sequence[str] | Mapping[str, int] | None = None,
    unit: Literal["decibel", "power"] = "decibel",
    nodata: float | None = None,
) -> Scene:
    """Open a Sentinel-1 or elevation raster so that it reads on an optical scene's grid.

    Args:
        source: raster with VV, VH (and angle), or with heights.
        like: the optical scene or its grid; it needs a reference system.
        sensor: ``sentinel1-grd`` or ``dem``.
        bands: names in the file's order, or name -> number from 1; None takes the file's band descriptions, or the
            sensor's order.
        unit: what backscatter is stored as; the scene gives decibel either way.
        nodata: stored value of missing pixels, where the file does not say it.

    Returns:
        A scene on the same grid as ``like``; missing where the raster does not reach.

    Raises:
        InputError: the file cannot be read, a grid has no reference system, or the bands are not known.
        RadiometryError: the values cannot be in the unit named.
    """
    path = os.path.expanduser(os.fspath(source))
    grid = like.geobox if isinstance(like, Scene) else like
    head = header(path)
    same_size = head.crs is None and grid.crs is None and tuple(head.shape) == tuple(grid.shape)
    if (head.crs is None or grid.crs is None) and not same_size:
        raise InputError(
            f"{path if head.crs is None else 'The optical scene'} has no reference system.",
            expected="Both rasters need one to be laid over each other, unless neither has one and both have the same"
            " size.",
            remedy="Georeference it first.",
        )
    catalogue = sensors.load(sensor)
    named = _numbers(path, catalogue, head.descriptions, bands, head.count)
    found: list[Band] = []
    sources: dict[str, Any] = {}
    radiometry: dict[str, Radiometry] = {}
    for name, index in named.items():
        band = catalogue.find(name)
        assert band is not None
        held = WarpedBand(path, index, power=unit == "power" and band.kind == "sar" and band.name != "angle")
        record = Radiometry(
            head.scales[index - 1],
            head.offsets[index - 1],
            head.nodata[index - 1] if nodata is None else nodata,
            "file",
        )
        if band.name in ("vv", "vh"):
            _check_unit(path, index, record, unit)
        found.append(band.band())
        sources[band.name], radiometry[band.name] = held, record
    return Scene(
        id=PurePath(path).stem,
        sensor=sensor,
        level=catalogue.level,
        bands=tuple(found),
        geobox=grid,
        radiometry=radiometry,
        sources=sources,
        source=path,
    )


def _numbers(
    path: str,
    sensor: sensors.Sensor,
    descriptions: Sequence[str | None],
    bands: Sequence[str] | Mapping[str, int] | None,
    count: int,
) -> dict[str, int]:
    if isinstance(bands, Mapping):
        named = {str(name): int(number) for name, number in bands.items()}
    elif bands is not None:
        named = {str(name): number for number, name in enumerate(bands, start=1)}
    else:
        named = {
            text.casefold(): number
            for number, text in enumerate(descriptions, start=1)
            if text and sensor.find(text) is not None
        }
        if not named and count <= len(sensor.band):
            named = {band.name: number for number, band in enumerate(sensor.band[:count], start=1)}
    unknown = [name for name in named if sensor.find(name) is None]
    wrong = [number for number in named.values() if not 1 <= number <= count]
    if not named or unknown or wrong:
        raise InputError(
            f"The {count} bands of {path} are named {', '.join(named) or 'nothing'}.",
            expected=f"Bands of {sensor.name} are {', '.join(band.name for band in sensor.band)}, numbered from 1.",
            remedy='Name them, e.g. bands={"vv": 1, "vh": 2}.',
        )
    return named


def _check_unit(path: str, index: int, record: Radiometry, unit: str) -> None:
    with read_errors(path), environment(path), rasterio.open(path) as dataset:
        step = max(1, min(dataset.shape) // 256)
        stored = dataset.read(index, out_shape=(dataset.height // step, dataset.width // step))
    gone = missing(stored, record.nodata)
    values = stored[~gone] if gone is not None else stored.ravel()
    if values.size == 0:
        return
    low = float(np.percentile(values, 1)) * record.scale + record.offset
    middle = float(np.median(values)) * record.scale + record.offset
    if unit == "decibel" and (low >= 0 or not -60 < middle < 30):
        raise RadiometryError(
            f"Band {index} of {path} has a median of {middle:.4g} and a 1st percentile of {low:.4g}.",
            expected="Backscatter in decibel is mostly negative, about -25 to 0.",
            remedy='If it is linear power, pass unit="power"; if a value marks missing pixels, name it: nodata=0.',
        )
    if unit == "power" and low < 0:
        raise RadiometryError(
            f"Band {index} of {path} has a 1st percentile of {low:.4g}.",
            expected="Linear power is positive.",
            remedy='If it is in decibel, pass unit="decibel".',
        )


def _window(dataset: Any, geobox: GeoBox) -> Window | None:
    """Part of the file that the grid touches, with a margin for the interpolation; None where there is none."""
    if dataset.crs is None:
        top, left = _place(dataset, geobox)
        rows = max(top, 0), min(top + geobox.shape[0], dataset.height)
        cols = max(left, 0), min(left + geobox.shape[1], dataset.width)
        inside = rows[0] < rows[1] and cols[0] < cols[1]
        return Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0]) if inside else None
    bounds = transform_bounds(
        str(geobox.crs), dataset.crs, *array_bounds(geobox.shape[0], geobox.shape[1], geobox.affine), densify_pts=51
    )
    inverse = ~dataset.transform
    corners = [inverse * (x, y) for x in (bounds[0], bounds[2]) for y in (bounds[1], bounds[3])]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    left, right = max(int(np.floor(min(xs))) - 2, 0), min(int(np.ceil(max(xs))) + 2, dataset.width)
    top, bottom = max(int(np.floor(min(ys))) - 2, 0), min(int(np.ceil(max(ys))) + 2, dataset.height)
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _place(dataset: Any, geobox: GeoBox) -> tuple[int, int]:
    """Row and column of a raster without reference system at which a grid of the same pixels begins."""
    relative = ~dataset.transform * geobox.affine
    if not relative.almost_equals(relative.translation(round(relative.c), round(relative.f)), 1e-3):
        raise InputError(
            f"{dataset.name} has no reference system, and other pixels than the grid that was asked for.",
            expected="Without a reference system both rasters have the same pixels.",
            remedy="Georeference both, or cut them to the same pixels.",
        )
    return round(relative.f), round(relative.c)
