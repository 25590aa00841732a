"""RasterBand: one band of a raster file, read window by window on any grid that shares its axes.

A coarser grid is read from the file's resolution levels (JPEG 2000 levels, COG overviews) where there are any, so that
no full-resolution image is decoded to be thrown away. Then follow block means for the rest of a whole ratio, and
bilinear interpolation for what is left (a 60 m band on a 20 m grid, a ratio of 1.5).

Missing pixels win: a coarse pixel that touches a missing pixel is missing. Where a resolution level is used the
native pixels are not seen, therefore the missing area is widened by the reach of the level's filter. JPEG 2000 levels
lie a quarter to half a coarse pixel to the upper left of the block's middle; this is not corrected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from . import radiometry as rad
from .errors import InputError
from .raster_files import POOL, environment, open_file, read_errors
from .resample import Line, bilinear, block_mean
from .scene import Radiometry

_REACH_LEVEL = 2
_REACH_LOSSY = 4
"""Coarse pixels that a level's filter reaches: two for the 5/3 wavelet and for overviews (cubic), four for the 9/7."""

_EPS = 1e-6


@dataclass(frozen=True)
class RasterBand:
    """One band of a raster file; see the module's text. Made by :meth:`open`.

    Attributes:
        path: what GDAL opens.
        index: number of the band in the file, from 1.
        affine: native pixels to map coordinates.
        shape: native rows and columns.
        dtype: name of the stored type.
        levels: factors of the resolution levels, rising.
        reach: coarse pixels by which missing areas are widened when a level is used.
        mask: whether the file has a mask or alpha band of its own.
        thermal: (K1, K2) to turn radiance into kelvin, or None.
        formats: GDAL's names of the formats that the file may have; None means all.
    """

    path: str
    index: int
    affine: Affine
    shape: tuple[int, int]
    dtype: str
    levels: tuple[int, ...] = ()
    reach: int = _REACH_LEVEL
    mask: bool = False
    thermal: tuple[float, float] | None = None
    formats: tuple[str, ...] | None = None

    @classmethod
    def open(
        cls,
        path: str,
        index: int = 1,
        *,
        thermal: tuple[float, float] | None = None,
        formats: tuple[str, ...] | None = None,
    ) -> tuple[RasterBand, Header]:
        """Look at a file's header.

        Returns:
            The band, and what else the header says.

        Raises:
            InputError: the file is missing, damaged, or not a raster, or has no such band.
        """
        with read_errors(path), environment(path), open_file(path, formats) as dataset:
            if not 1 <= index <= dataset.count:
                raise InputError(
                    f"{path} has {dataset.count} bands, and band {index} was asked for.",
                    expected="Bands are counted from 1.",
                    remedy=f"Pass numbers from 1 to {dataset.count}.",
                )
            if np.dtype(dataset.dtypes[index - 1]).kind == "c":
                raise InputError(
                    f"Band {index} of {path} holds complex numbers.",
                    expected="Real numbers are expected.",
                    remedy="Convert the image to amplitudes or reflectance first.",
                )
            flags = dataset.mask_flag_enums[index - 1]
            reversible = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION_REVERSIBILITY")
            jpeg2000 = dataset.driver.startswith("JP2")
            band = cls(
                path=path,
                index=index,
                affine=dataset.transform,
                shape=dataset.shape,
                dtype=dataset.dtypes[index - 1],
                levels=tuple(dataset.overviews(index)),
                reach=_REACH_LOSSY if jpeg2000 and reversible != "LOSSLESS" else _REACH_LEVEL,
                mask=MaskFlags.per_dataset in flags and MaskFlags.all_valid not in flags,
                thermal=thermal,
                formats=formats,
            )
            _check_grid(path, dataset)
            return band, Header.of(dataset)

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        """Physical values on ``geobox``, (y, x) float32, NaN where missing and beyond the file's edges.

        Raises:
            InputError: the grids are turned against each other, or the file cannot be read.
        """
        out = np.full(geobox.shape, np.nan, np.float32)
        relative = ~self.affine * geobox.affine
        if max(abs(relative.b), abs(relative.d)) > _EPS or relative.a <= 0 or relative.e <= 0:
            raise InputError(
                f"The pixels of {self.path} are turned against the grid that was asked for.",
                expected="Both grids have to have the same axes.",
                remedy="Warp the file to the scene's grid first: gdalwarp.",
            )
        factor = max(1, math.floor(min(relative.a, relative.e) + _EPS))
        rows = _Axis.fit(self.shape[0], relative.f, relative.e, geobox.shape[0], factor)
        cols = _Axis.fit(self.shape[1], relative.c, relative.a, geobox.shape[1], factor)
        if rows is None or cols is None:
            return out
        level = next(
            (
                place
                for place, size in reversed(list(enumerate(self.levels)))
                if factor % size == 0 and rows.origin % size == 0 and cols.origin % size == 0
            ),
            None,
        )
        size = 1 if level is None else self.levels[level]
        values = self._cells(rows, cols, factor, level, size, radiometry)
        low_row, low_col = rows.low, cols.low
        line = Line(values.shape[1], cols.line.start - low_col, cols.line.step, cols.line.count)
        # The axis that is cut to the cells at hand must clamp where the raster ends only; `needed` saw to the rest.
        block = bilinear(
            values, Line(values.shape[0], rows.line.start - low_row, rows.line.step, rows.line.count), line
        )
        out[rows.first : rows.first + rows.line.count, cols.first : cols.first + cols.line.count] = block
        return out

    def sample(self, radiometry: Radiometry, side: int = 256) -> NDArray[np.float32]:
        """Physical values spread over the whole image, for checks: (n,) float32, missing pixels left out.

        The coarsest resolution level of at least ``side`` pixels is read; without levels, windows on a regular grid.
        Numbers that float32 cannot hold are infinite.

        Raises:
            InputError: the file cannot be read.
        """
        levels = [place for place, size in enumerate(self.levels) if min(self.shape) // size >= side]
        level = levels[-1] if levels else None
        with read_errors(self.path), environment(self.path), POOL.use(self.path, level, self.formats) as dataset:
            rows, cols = dataset.shape
            if rows * cols <= 16 * side * side:
                windows = [Window(0, 0, cols, rows)]
            else:
                edge = min(side // 4, rows, cols)
                tops = np.linspace(0, rows - edge, 5).astype(int)
                lefts = np.linspace(0, cols - edge, 5).astype(int)
                windows = [Window(left, top, edge, edge) for top in tops for left in lefts]
            parts = []
            for window in windows:
                values = rad.to_reflectance(
                    dataset.read(self.index, window=window), radiometry.scale, radiometry.offset, radiometry.nodata
                )
                if self.mask:
                    values[dataset.read_masks(self.index, window=window) == 0] = np.nan
                parts.append(values[~np.isnan(values)])
        return np.concatenate(parts)

    def _load(
        self, rows: _Axis, cols: _Axis, factor: int, level: int | None, size: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8] | None, _Span, _Span]:
        """Stored values and mask of what the cells need and the filter reaches, and where they lie in it."""
        reach = 0 if level is None else self.reach
        with read_errors(self.path), environment(self.path), POOL.use(self.path, level, self.formats) as dataset:
            y = _Span.of(rows, factor, size, reach, dataset.shape[0])
            x = _Span.of(cols, factor, size, reach, dataset.shape[1])
            window = Window(x.low, y.low, x.high - x.low, y.high - y.low)
            stored = dataset.read(self.index, window=window)
            return stored, dataset.read_masks(self.index, window=window) if self.mask else None, y, x

    def _cells(
        self, rows: _Axis, cols: _Axis, factor: int, level: int | None, size: int, radiometry: Radiometry
    ) -> NDArray[np.float32]:
        """Values of the cells that the target needs, each the mean of ``factor`` x ``factor`` native pixels."""
        per_cell = factor // size
        reach = 0 if level is None else self.reach
        stored, mask, y, x = self._load(rows, cols, factor, level, size)
        gone = rad.missing(stored, radiometry.nodata)
        if mask is not None:
            gone = (mask == 0) if gone is None else gone | (mask == 0)
        values = np.multiply(stored, np.float32(radiometry.scale), dtype=np.float32)
        values += np.float32(radiometry.offset)
        if gone is not None and gone.any():
            values[_widen(gone, reach) if reach else gone] = np.nan
        values = values[y.keep, x.keep]
        if y.before or y.after or x.before or x.after:
            values = np.pad(values, ((y.before, y.after), (x.before, x.after)), mode="edge")
        values = block_mean(values, per_cell)
        if self.thermal is not None:
            values = rad.brightness_temperature(values, *self.thermal)
        return values


@dataclass(frozen=True, eq=False)
class ArrayBand(RasterBand):
    """A band that is in memory, or in an array that is computed when it is sliced; read as a file is.

    Attributes:
        data: stored values, (y, x); anything that numpy can convert after slicing.
    """

    data: Any = None

    @classmethod
    def of(cls, data: Any, affine: Affine, label: str) -> ArrayBand:
        """Wrap an array whose pixels lie at ``affine``."""
        return cls(path=label, index=1, affine=affine, shape=tuple(data.shape), dtype=str(data.dtype), data=data)

    def _load(
        self, rows: _Axis, cols: _Axis, factor: int, level: int | None, size: int
    ) -> tuple[NDArray[Any], NDArray[np.uint8] | None, _Span, _Span]:
        y = _Span.of(rows, factor, size, 0, self.shape[0])
        x = _Span.of(cols, factor, size, 0, self.shape[1])
        return np.asarray(self.data[y.low : y.high, x.low : x.high]), None, y, x

    def sample(self, radiometry: Radiometry, side: int = 256) -> NDArray[np.float32]:
        """Physical values of at most about ``side`` x ``side`` pixels on a regular grid, missing ones left out."""
        step = max(1, min(self.shape) // side)
        values = rad.to_reflectance(
            np.asarray(self.data[::step, ::step]), radiometry.scale, radiometry.offset, radiometry.nodata
        )
        return values[~np.isnan(values)]


@dataclass(frozen=True)
class _Axis:
    """One axis of a read: which target pixels lie on the raster, and which cells they need.

    Cells are blocks of native pixels; cell 0 begins at the native pixel ``origin``, which may be negative.
    """

    origin: int
    first: int
    line: Line
    low: int
    high: int

    @classmethod
    def fit(cls, size: int, offset: float, step: float, count: int, factor: int) -> _Axis | None:
        """None where no target pixel lies on the raster.

        Args:
            size: native pixels of the raster.
            offset, step: native position of the target's edge, and native pixels per target pixel.
            count: target pixels.
            factor: native pixels per cell.
        """
        # Cells follow the target's pixels where both agree, so that no interpolation is left; otherwise they begin at
        # the raster's edge. Either way they are the same for every window of one grid.
        origin = 0
        if factor > 1 and abs(step - factor) < _EPS * factor and abs(offset - round(offset)) < 1e-3:
            origin = round(offset) % factor
            origin -= factor if origin else 0
        cells = -(-(size - origin) // factor)
        start = round((offset + 0.5 * step - origin) / factor - 0.5, 9)
        pitch = step / factor if abs(step / factor - round(step / factor)) > 1e-9 else float(round(step / factor))
        centres = start + pitch * np.arange(count)
        inside = np.flatnonzero((centres > -0.5 - _EPS) & (centres < cells - 0.5 + _EPS))
        if inside.size == 0:
            return None
        first = int(inside[0])
        line = Line(cells, round(start + pitch * first, 9), pitch, int(inside[-1]) - first + 1)
        low, high = line.needed(0, line.count)
        return cls(origin, first, line, low, high)


@dataclass(frozen=True)
class _Span:
    """Pixels to read along one axis of a resolution level.

    Attributes:
        low, high: range to read, the reach of the level's filter included.
        keep: the part of it that belongs to the cells.
        before, after: pixels to repeat at the ends, where the cells reach beyond the raster.
    """

    low: int
    high: int
    keep: slice
    before: int
    after: int

    @classmethod
    def of(cls, axis: _Axis, factor: int, size: int, reach: int, limit: int) -> _Span:
        first = (axis.origin + axis.low * factor) // size
        last = (axis.origin + axis.high * factor) // size
        inner = max(first, 0), min(last, limit)
        low, high = max(inner[0] - reach, 0), min(inner[1] + reach, limit)
        return cls(low, high, slice(inner[0] - low, inner[1] - low), inner[0] - first, last - inner[1])


def _widen(gone: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Every pixel within ``reach`` rows and columns of a missing one."""
    for axis in (0, 1):
        out = gone.copy()
        for shift in range(1, reach + 1):
            if axis == 0:
                out[shift:] |= gone[:-shift]
                out[:-shift] |= gone[shift:]
            else:
                out[:, shift:] |= gone[:, :-shift]
                out[:, :-shift] |= gone[:, shift:]
        gone = out
    return gone


@dataclass(frozen=True)
class Header:
    """What a raster file says about itself.

    Attributes:
        shape: rows and columns.
        affine: pixels to map coordinates; the identity where the file has none.
        crs: reference system, projected or geographic, or None.
        count: number of bands.
        dtypes, nodata, scales, offsets, descriptions, colours: one entry for each band.
        driver: GDAL's name of the format.
        tags: the file's metadata.
    """

    shape: tuple[int, int]
    affine: Affine
    crs: CRS | None
    count: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str | None, ...]
    colours: tuple[str, ...]
    driver: str
    tags: dict[str, str]

    @classmethod
    def of(cls, dataset: Any) -> Header:
        """Header of an open rasterio dataset."""
        return cls(
            shape=dataset.shape,
            affine=dataset.transform,
            crs=_on_earth(dataset.crs),
            count=dataset.count,
            dtypes=dataset.dtypes,
            nodata=dataset.nodatavals,
            scales=dataset.scales,
            offsets=dataset.offsets,
            descriptions=dataset.descriptions,
            colours=tuple(colour.name for colour in dataset.colorinterp),
            driver=dataset.driver,
            tags=dataset.tags(),
        )

    def geobox(self) -> GeoBox:
        """The file's grid."""
        if self.crs is None:
            return GeoBox(self.shape, self.affine, None)
        code = self.crs.to_epsg()
        return GeoBox(self.shape, self.affine, self.crs.to_wkt() if code is None else f"EPSG:{code}")


def header(path: str) -> Header:
    """Header of a raster file.

    Raises:
        InputError: the file is missing, damaged, or not a raster.
    """
    with read_errors(path), environment(path), open_file(path, None) as dataset:
        _check_grid(path, dataset)
        return Header.of(dataset)


def _on_earth(crs: CRS | None) -> CRS | None:
    """A reference system that says where on Earth pixels lie; GDAL makes local ones up for some files without any."""
    return crs if crs is not None and (crs.is_projected or crs.is_geographic) else None


def _check_grid(path: str, dataset: DatasetReader) -> None:
    area = dataset.transform.determinant
    if not math.isfinite(area) or area == 0:
        raise InputError(
            f"The pixels of {path} have an area of {area:g}.",
            expected="Columns and rows lead in two directions, each by the size of a pixel.",
            remedy="Set its position anew: rio edit-info --transform, or gdal_edit -a_ullr.",
        )
