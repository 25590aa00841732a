"""Rasters of data sets, read with the checks that every reader needs: present, readable, and of the promised form."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ..errors import InputError

UTM33 = {"crs": "EPSG:32633", "transform": Affine(10, 0, 4e5, 0, -10, 5.8e6)}
"""A grid for made-up rasters that have to lie somewhere."""


def read_tiff(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    count: int | tuple[int, ...] | None = None,
    dtypes: Sequence[str] = (),
    shape: tuple[int, int] | None = None,
    window: Window | None = None,
) -> NDArray[Any]:
    """Read a raster and check that it has the form its data set promises.

    Args:
        path: file, or anything that GDAL opens, such as ``/vsisubfile/...``.
        bands: numbers of the bands to read, from 1; None reads all.
        count: number of bands that the file must have, or the numbers allowed.
        dtypes: types allowed; none means any.
        shape: (rows, columns) that the file must have.
        window: part to read; None reads all.

    Returns:
        Stored numbers, (band, y, x).

    Raises:
        InputError: the file is missing, damaged, or of another form.
    """
    counts = (count,) if isinstance(count, int) else count
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                if counts is not None and file.count not in counts:
                    raise _unfit(path, f"{file.count} bands", " or ".join(map(str, counts)) + " bands")
                if dtypes and not set(file.dtypes) <= set(dtypes):
                    raise _unfit(path, f"the type {file.dtypes[0]}", " or ".join(dtypes))
                if shape is not None and file.shape != shape:
                    raise _unfit(path, f"{file.height} x {file.width} pixels", f"{shape[0]} x {shape[1]} pixels")
                read: NDArray[Any] = file.read(bands, window=window)
                return read
    except RasterioError as err:
        raise InputError(
            f"{path} cannot be read: {err}.",
            expected="It is an image of the data set, complete and in a format that GDAL knows.",
            remedy="Check that it exists, or get it again.",
        ) from err


def write_tiff(path: Path, image: NDArray[Any], **profile: Any) -> None:
    """Write a raster (band, y, x) or (y, x) and the folders above it; for made-up data sets.

    Raises:
        OSError: the file cannot be written.
    """
    planes = image[None] if image.ndim == 2 else image
    os.makedirs(path.parent, exist_ok=True)
    size = {"count": len(planes), "height": planes.shape[1], "width": planes.shape[2], "dtype": planes.dtype}
    form = {"driver": "GTiff", "compress": "deflate", "zlevel": 1, **UTM33, **profile}
    with rasterio.open(path, "w", **size, **form) as file:
        file.write(np.ascontiguousarray(planes))


def _unfit(path: str | Path, found: str, expected: str) -> InputError:
    return InputError(
        f"{path} has {found}.",
        expected=f"This data set has {expected} here.",
        remedy="Check that the file belongs to this data set and release, or get it again.",
    )
