"""A scene from an array in memory, so that arrays and files take the same way through the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..errors import InputError, RadiometryError
from ..radiometry import missing
from ..resample import block_mean
from ..scene import Band, Radiometry, Scene

_PLAUSIBLE = (-0.5, 5.0)
"""Limits of the 1st and 99th percentile of numbers that are taken as reflectance; as for decimal rasters."""


@dataclass(frozen=True)
class ArrayBand:
    """One plane of an array as a band of a scene.

    Attributes:
        values: (y, x) of any decimal type.
        grid: grid of the array.
    """

    values: NDArray[np.floating]
    grid: GeoBox

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        """Values on ``geobox``, (y, x) float32, NaN where missing and beyond the array.

        A coarser pixel is the mean of those under it, and missing if one of them is.

        Args:
            geobox: rows and columns of the array's grid, or of one that is coarser by a whole factor.
            radiometry: scale, offset and value of missing pixels.

        Raises:
            InputError: the grids do not share their pixel edges.
        """
        relative = ~self.grid.affine * geobox.affine
        factor, top, left = round(relative.a), round(relative.f), round(relative.c)
        exact = Affine(factor, 0.0, left, 0.0, factor, top)
        if factor < 1 or not relative.almost_equals(exact, 1e-3):
            raise InputError(
                f"A grid with pixels of {relative.a:g} x {relative.e:g} array pixels from row {relative.f:g}, column"
                f" {relative.c:g} was asked for.",
                expected="Arrays are read on their own grid, or on one that is coarser by a whole factor.",
                remedy="Ask for another pixel size.",
            )
        size = self.values.shape
        rows = max(top, 0), min(top + factor * geobox.shape.y, size[0])
        cols = max(left, 0), min(left + factor * geobox.shape.x, size[1])
        out = np.full(geobox.shape, np.nan, np.float32)
        if rows[0] >= rows[1] or cols[0] >= cols[1] or (rows[0] - top) % factor or (cols[0] - left) % factor:
            return out
        stored = self.values[rows[0] : rows[1], cols[0] : cols[1]]
        if (radiometry.scale, radiometry.offset) == (1.0, 0.0):
            values = np.asarray(stored, np.float32)
        else:
            values = np.multiply(stored, np.float32(radiometry.scale), dtype=np.float32)
            values += np.float32(radiometry.offset)
        gone = None if radiometry.nodata is None else missing(stored, radiometry.nodata)
        if gone is not None:
            values = np.where(gone, np.float32(np.nan), values)
        with np.errstate(invalid="ignore"):  # infinite with minus infinite
            values = block_mean(values, factor)
        y, x = (rows[0] - top) // factor, (cols[0] - left) // factor
        place = out[y : y + values.shape[0], x : x + values.shape[1]]
        place[...] = values
        place[np.isinf(place)] = np.nan
        return out


def array_scene(
    image: NDArray[np.floating],
    bands: Sequence[Band],
    *,
    sensor: str,
    level: str,
    resolution_m: float,
    nodata: float | None,
) -> Scene:
    """A scene of reflectance in memory.

    Args:
        image: reflectance, (band, y, x), any decimal type; NaN, infinite, masked or ``nodata`` where missing.
        bands: one for each plane.
        sensor, level: what the scene says of itself; the level selects the calibration.
        resolution_m: pixel size in metres.
        nodata: value of missing pixels, beside NaN.

    Raises:
        InputError: the shape, the number of bands or the resolution is impossible.
        RadiometryError: the numbers are integers, or far from reflectance.
    """
    if isinstance(image, np.ma.MaskedArray) and image.dtype.kind == "f":
        image = image.filled(np.nan)
    image = np.asarray(image)
    _check_shape(image, bands, resolution_m)
    if image.dtype.kind in "iub":
        raise RadiometryError(
            f"The image holds {image.dtype.name} numbers.",
            expected="Reflectance, decimal numbers of about 0 to 1, is expected.",
            remedy="Convert it first: image * scale + offset, e.g. image * 0.0001 - 0.1 for Sentinel-2, with NaN where"
            " pixels are missing.",
        )
    if image.dtype.kind != "f":
        raise InputError(
            f"The image is of type {image.dtype}.",
            expected="Real decimal numbers are expected.",
            remedy="Convert it: image.astype('float32').",
        )
    grid = GeoBox(image.shape[1:], Affine(resolution_m, 0.0, 0.0, 0.0, -resolution_m, 0.0), None)
    planes = {band.name: ArrayBand(plane, grid) for band, plane in zip(bands, image, strict=True)}
    for band in bands:
        if band.kind == "optical":
            _check_values(band, planes[band.name].values, nodata)
    return Scene(
        id="array",
        sensor=sensor,
        level=level,
        bands=tuple(
            Band(band.name, band.common_name, band.min_nm, band.max_nm, resolution_m, band.kind) for band in bands
        ),
        geobox=grid,
        radiometry={band.name: Radiometry(1.0, 0.0, nodata, "array") for band in bands},
        sources=dict(planes),
        source="array",
        pixel_m=resolution_m,
    )


def _check_shape(image: NDArray[np.floating], bands: Sequence[Band], resolution_m: float) -> None:
    if image.ndim != 3 or 0 in image.shape:
        raise InputError(
            f"The image has the shape {image.shape}.",
            expected="An image is (band, y, x) with at least one pixel.",
            remedy="Stack the bands along the first axis: np.stack([blue, green, red]).",
        )
    if image.shape[0] != len(bands):
        last = image.shape[2] == len(bands)
        raise InputError(
            f"The image has the shape {image.shape}, and {len(bands)} bands are named.",
            expected="The first axis has one plane for each band.",
            remedy="Put the bands first: np.moveaxis(image, -1, 0)." if last else "Name every band once, in order.",
        )
    if not (np.isfinite(resolution_m) and resolution_m > 0):
        raise InputError(
            f"The resolution is {resolution_m} m.",
            expected="It is the size of a pixel in metres, a positive number.",
            remedy="Pass for example resolution_m=10.",
        )


def _check_values(band: Band, plane: NDArray[np.floating], nodata: float | None) -> None:
    step = max(1, max(plane.shape) // 256)
    some = plane[::step, ::step]
    gone = missing(some, nodata)
    values = some if gone is None else some[~gone]
    if values.size == 0:
        return
    low, high = np.percentile(values.astype(np.float64), [1, 99])
    if low < _PLAUSIBLE[0] or high > _PLAUSIBLE[1]:
        raise RadiometryError(
            f"Band '{band.name}' holds numbers from {low:.5g} to {high:.5g} (1st and 99th percentile).",
            expected="Reflectance lies between 0 and about 1.5.",
            remedy="Convert counts to reflectance first: image * scale + offset; if a value marks missing pixels, name"
            " it: nodata=-9999.",
        )
