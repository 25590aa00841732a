"""The stored numbers of a scene's bands on one grid, exactly: what is not rebuilt is given back bit for bit.

Bands that are coarser than the grid are repeated, so that every pixel holds a number that the product holds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..errors import InputError
from ..scene import Band, Radiometry, Scene

_EXACT = 2**24
"""Whole numbers up to this one are exact in float32."""


def own_grid(scene: Scene, bands: Sequence[Band]) -> GeoBox:
    """The grid of the finest of these bands: the one of its file, or the scene's."""
    finest = min(bands, key=lambda band: band.gsd_m)
    source = scene.sources[finest.name]
    affine, shape = getattr(source, "affine", None), getattr(source, "shape", None)
    return scene.geobox if affine is None or shape is None else GeoBox(shape, affine, scene.geobox.crs)


@dataclass(frozen=True)
class Encoding:
    """How the stored numbers of several bands of one raster become reflectance, and back.

    Attributes:
        dtype: of the stored numbers.
        scale, offset: one for each band: ``reflectance = stored * scale + offset``.
        nodata: stored value of missing pixels; None where none is stored.
    """

    dtype: np.dtype
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: float | None

    @classmethod
    def of(cls, scene: Scene, names: Sequence[str]) -> Encoding:
        """That of a scene's bands: the common type of their files, and the value that most of them call missing.

        Decimal numbers of more than 32 bits become 32.
        """
        kinds = [np.dtype(getattr(scene.sources[name], "dtype", np.float32)) for name in names]
        dtype = np.result_type(*kinds)
        if dtype.kind == "f" or dtype.itemsize > 4:
            dtype = np.dtype(np.float32)
        records = [scene.radiometry[name] for name in names]
        given = [one.nodata for one in records if one.nodata is not None]
        nodata = max(given, key=given.count) if given else None
        if dtype.kind == "f":
            nodata = np.nan if nodata is None else nodata
        return cls(dtype, tuple(one.scale for one in records), tuple(one.offset for one in records), nodata)

    def reflectance(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """(band, y, x) float32, NaN where missing, from stored numbers as :meth:`Planes.read` gives them."""
        scale, offset = (np.array(one, np.float32)[:, None, None] for one in (self.scale, self.offset))
        return stored * scale + offset

    def stored(self, reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
        """The nearest numbers that can be stored, as float32; none that means missing. NaN stays."""
        scale, offset = (np.array(one, np.float32)[:, None, None] for one in (self.scale, self.offset))
        out = (reflectance - offset) / scale
        if self.dtype.kind == "f":
            return out
        limits = np.iinfo(self.dtype)
        out = np.clip(np.rint(out), limits.min, min(limits.max, _EXACT))
        if self.nodata is not None:
            out[out == self.nodata] += 1 if self.nodata < limits.max else -1
        return out

    def cast(self, stored: NDArray[np.float32]) -> NDArray[np.generic]:
        """Stored numbers in their type, missing ones as ``nodata``, or 0 where the type has no such value."""
        filler = np.float32(0.0 if self.nodata is None else self.nodata)
        return np.where(np.isnan(stored), filler, stored).astype(self.dtype)


@dataclass(frozen=True)
class Planes:
    """Some bands of a scene on a grid.

    Attributes:
        scene: the scene.
        names: bands, in order.
        grid: grid that is read on, with the axes of the scene's.
    """

    scene: Scene
    names: tuple[str, ...]
    grid: GeoBox

    def read(self, first: int, end: int) -> NDArray[np.float32]:
        """Stored numbers of some rows, (band, y, x) float32, NaN where missing or beyond the scene.

        Raises:
            InputError: a file cannot be read, or holds whole numbers that float32 cannot.
        """
        out = np.empty((len(self.names), end - first, self.grid.shape.x), np.float32)

        def read_one(index: int) -> None:
            out[index] = self._band(self.names[index], first, end)

        with ThreadPoolExecutor(max(1, min(len(self.names), os.cpu_count() or 1)), "unclouded-read") as pool:
            for _ in pool.map(read_one, range(len(self.names))):
                pass
        return out

    def _band(self, name: str, first: int, end: int) -> NDArray[np.float32]:
        source, record = self.scene.sources[name], self.scene.radiometry[name]
        plain = Radiometry(1.0, 0.0, record.nodata, record.source)
        affine = getattr(source, "affine", self.scene.geobox.affine)
        step = ~affine * self.grid.affine
        if step.a > 0.999 and step.e > 0.999:
            values = source.read(self.grid[first:end, :], plain)
        else:  # repeated: interpolated numbers would be none of the product's
            rows = np.floor(step.f + step.e * (np.arange(first, end) + 0.5) + 1e-6).astype(np.intp)
            cols = np.floor(step.c + step.a * (np.arange(self.grid.shape.x) + 0.5) + 1e-6).astype(np.intp)
            size = int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
            window = GeoBox(size, affine * affine.translation(int(cols[0]), int(rows[0])), self.grid.crs)
            values = source.read(window, plain)[rows - rows[0]][:, cols - cols[0]]
        kind = np.dtype(getattr(source, "dtype", np.float32))
        if kind.kind in "iu" and kind.itemsize > 2 and np.nanmax(np.abs(values), initial=0.0) >= _EXACT:
            raise InputError(
                f"Band '{name}' holds whole numbers of {_EXACT} and more.",
                expected="Counts below that are expected; others cannot be given back exactly.",
                remedy="Convert the band to 16-bit counts, or to decimal reflectance.",
            )
        return values
