"""Labelled arrays: numpy planes and their grid as an xarray.DataArray that rioxarray and odc-geo understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

if TYPE_CHECKING:
    import xarray


def labelled(
    values: NDArray[Any],
    grid: GeoBox,
    *,
    name: str,
    attrs: Mapping[str, Any],
    first_axis: tuple[str, Sequence[str]] | None = None,
) -> xarray.DataArray:
    """A DataArray with the pixel centres as coordinates, and the reference system in ``spatial_ref``.

    odc-geo's own function for this cannot be imported without dask, which the base install leaves out.

    Args:
        values: (y, x), or (first axis, y, x).
        grid: grid of the pixels.
        name: name of the array.
        attrs: its attributes.
        first_axis: name and labels of the axis before y and x, where there is one.

    Source:
        CF conventions 1.11, section 5.6 (grid mappings); ``GeoTransform`` and ``spatial_ref`` as GDAL writes them.

    >>> from affine import Affine
    >>> grid = GeoBox((2, 3), Affine(10, 0, 300000, 0, -10, 5000000), "EPSG:32633")
    >>> array = labelled(np.zeros((2, 3)), grid, name="classes", attrs={})
    >>> array.x.values.tolist(), array.y.values.tolist()
    ([300005.0, 300015.0, 300025.0], [4999995.0, 4999985.0])
    >>> array.spatial_ref.attrs["GeoTransform"]
    '300000.0 10.0 0.0 5000000.0 0.0 -10.0'
    """
    import xarray

    affine = grid.affine
    geographic = grid.crs is not None and grid.crs.geographic
    y = affine.f + affine.e * (np.arange(grid.shape.y) + 0.5)
    x = affine.c + affine.a * (np.arange(grid.shape.x) + 0.5)
    gdal = (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)
    reference: dict[str, Any] = {"GeoTransform": " ".join(str(float(part)) for part in gdal)}
    if grid.crs is not None:
        wkt = grid.crs.to_wkt()
        reference |= {"spatial_ref": wkt, "crs_wkt": wkt}
    kind = ("latitude", "longitude") if geographic else ("projection_y_coordinate", "projection_x_coordinate")
    unit = "degrees" if geographic else "metre" if grid.crs is not None else "pixel size"
    coords: dict[str, Any] = {
        "y": ("y", y, {"standard_name": kind[0], "units": unit}),
        "x": ("x", x, {"standard_name": kind[1], "units": unit}),
        "spatial_ref": ((), np.int32(0 if grid.crs is None else grid.crs.to_epsg() or 0), reference),
    }
    dims: tuple[str, ...] = ("y", "x")
    if first_axis is not None:
        dims = (first_axis[0], *dims)
        coords[first_axis[0]] = (first_axis[0], list(first_axis[1]))
    array = xarray.DataArray(values, coords, dims, name, dict(attrs))
    array.encoding["grid_mapping"] = "spatial_ref"
    return array
