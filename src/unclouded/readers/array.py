"""xarray objects: a DataArray with named bands, or a Dataset with one variable per band.

Whether an array is scaled already cannot be seen from its values: libraries differ, and so do their versions. Scale and
offset therefore come from the caller, from the attributes ``scale_factor`` and ``add_offset`` of arrays that xarray has
not decoded, from a sensor's definition, or the array holds decimal numbers in the range of reflectance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError

from .. import sensors
from ..errors import InputError, RadiometryError
from ..radiometry import unknown_scale
from ..raster import ArrayBand
from ..scene import Band, Radiometry, Scene, metres_per_pixel
from . import Reader, Request, register
from .checks import check_kelvin

_BAND_AXES = ("band", "bands", "variable", "channel")
_DATE_AXES = ("time", "t", "timestamp", "datetime", "date")
"""What xarray's own backends, openEO and Earth Engine exporters call the axis of dates."""

_PIXEL_M = 10.0
_LIMITS = (-0.5, 5.0)


@register
class ArrayReader(Reader):
    """xarray DataArray and Dataset."""

    name = "xarray"
    title = "an xarray DataArray or Dataset with named bands"
    rank = 5

    def matches(self, source: Any) -> bool:
        """An xarray object."""
        return type(source).__module__.split(".")[0] == "xarray" and hasattr(source, "dims")

    def open(self, source: Any, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        planes = _planes(source)
        _check_kind(planes)
        sensor = sensors.load(request.sensor) if request.sensor is not None else None
        if request.bands is not None:
            planes = _renamed(planes, request)
        resolved = sensors.resolve_bands(list(planes), sensor)
        geobox, pixel_m = _grid(source, next(iter(planes.values())), request)
        gsd = pixel_m if pixel_m is not None else metres_per_pixel(geobox)
        bands: list[Band] = []
        sources: dict[str, Any] = {}
        radiometry: dict[str, Radiometry] = {}
        for band, plane in zip(resolved, planes.values(), strict=True):
            nodata = _nodata(plane, source, sensor)
            record = request.radiometry(_known(plane, source, sensor, band, nodata), nodata, kind=band.kind)
            if record is None:
                raise unknown_scale(f"The array's band '{band.name}'", plane.dtype)
            held = ArrayBand.of(plane.data, geobox.affine, f"array '{band.name}'")
            if record.source == "dtype-float" and band.kind == "optical":
                _check_range(held, record, band.name)
            if band.kind == "thermal":
                check_kelvin(held.sample(record), record, f"'{band.name}' of the array")
            bands.append(replace(band, gsd_m=gsd))
            sources[band.name], radiometry[band.name] = held, record
        return Scene(
            id=str(source.attrs.get("id") or getattr(source, "name", None) or "array"),
            sensor="generic" if sensor is None else sensor.name,
            level=request.level or ("unknown" if sensor is None else sensor.level),
            bands=tuple(bands),
            geobox=geobox,
            radiometry=radiometry,
            sources=sources,
            source=f"xarray.{type(source).__name__}",
            datetime=_datetime(source),
            pixel_m=pixel_m,
        )


def _planes(source: Any) -> dict[str, Any]:
    """One DataArray with the axes y and x for each band, by name.

    Raises:
        InputError: there are several dates, the axes are unknown, or the bands have no names.
    """
    source = source.squeeze([name for name in source.dims if name in _DATE_AXES and source.sizes[name] == 1])
    dates = next((str(name) for name in source.dims if name in _DATE_AXES), None)
    if dates is not None:
        raise InputError(
            f"The array holds {source.sizes[dates]} dates.",
            expected="One acquisition is opened at a time.",
            remedy=f"Pick one: array.isel({dates}=0).",
        )
    if hasattr(source, "data_vars"):
        found = {str(name): plane for name, plane in source.data_vars.items() if plane.ndim == 2}
        if len({(plane.dims, plane.shape) for plane in found.values()}) > 1 or not found:
            raise InputError(
                f"The variables are {', '.join(f'{name} {plane.shape}' for name, plane in found.items()) or 'none'}.",
                expected="All bands of a Dataset have the axes y and x and one size.",
                remedy="Select the bands, and resample them to one grid first.",
            )
        return found
    axis = next((str(name) for name in source.dims if name in _BAND_AXES), None)
    if source.ndim != 3 or axis is None:
        raise InputError(
            f"The array has the axes {', '.join(map(str, source.dims))}.",
            expected="Axes band, y and x are expected.",
            remedy='Name them: xarray.DataArray(data, dims=("band", "y", "x"), coords={"band": ["red", "nir"]}).',
        )
    if axis not in source.coords:
        raise InputError(
            f"The {source.sizes[axis]} bands of the array have no names.",
            expected="The coordinate 'band' holds a name for each band.",
            remedy='Name them: array.assign_coords(band=["red", "green", "blue"]).',
        )
    labels = [str(label) for label in source.coords[axis].values]
    if len(set(labels)) != len(labels):
        raise InputError(
            f"The bands of the array are called {', '.join(labels)}.",
            expected="Every name stands once.",
            remedy="Rename or drop the doubled ones.",
        )
    return {label: source.isel({axis: place}) for place, label in enumerate(labels)}


def _check_kind(planes: dict[str, Any]) -> None:
    if not planes or 0 in next(iter(planes.values())).shape:
        size = " x ".join(str(count) for count in next(iter(planes.values())).shape) if planes else "no"
        raise InputError(
            f"The array has {len(planes)} bands of {size} pixels.",
            expected="An image has at least one band and one pixel.",
            remedy="Check how the array was cut out.",
        )
    for name, plane in planes.items():
        if np.dtype(plane.dtype).kind not in "fiu":
            raise InputError(
                f"The array's band '{name}' is of type {plane.dtype}.",
                expected="Real numbers are expected, whole or decimal.",
                remedy="Convert it: array.astype('float32').",
            )


def _renamed(planes: dict[str, Any], request: Request) -> dict[str, Any]:
    names = list(planes)
    if isinstance(request.bands, Mapping):
        wrong = [number for number in request.bands.values() if not 1 <= int(number) <= len(names)]
        if wrong:
            raise InputError(
                f"Band number {wrong[0]} is given for an array of {len(names)} bands.",
                expected="Bands are counted from 1.",
                remedy="Correct the numbers.",
            )
        return {name: planes[names[int(number) - 1]] for name, number in request.bands.items()}
    wanted = [str(name) for name in request.bands or ()]
    if set(wanted) <= set(names) and len(set(wanted)) == len(wanted):
        return {name: planes[name] for name in wanted}
    if len(wanted) != len(names) or len(set(wanted)) != len(wanted):
        raise InputError(
            f"The bands {', '.join(wanted)} are given for an array with {', '.join(names)}.",
            expected="Names of its bands, or a new name for each, in order.",
            remedy="Pass as many names as there are bands.",
        )
    return dict(zip(wanted, planes.values(), strict=True))


def _grid(source: Any, plane: Any, request: Request) -> tuple[GeoBox, float | None]:
    """The array's grid from its coordinates, or a pixel grid where it has none.

    ``odc.geo.xr`` would do the same, but cannot be imported without Dask.

    Raises:
        InputError: coordinates are not evenly spaced, or the reference system is not known.
    """
    rows, cols = (str(name) for name in plane.dims)
    crs = _crs(source, plane, (rows, cols))
    if crs is None or rows not in plane.coords or cols not in plane.coords:
        return GeoBox(plane.shape, Affine.identity(), None), request.resolution_m or _PIXEL_M
    (top, height), (left, width) = (_spacing(plane.coords[name].values, name) for name in (rows, cols))
    if height is None or width is None:
        return GeoBox(plane.shape, Affine.identity(), None), request.resolution_m or _PIXEL_M
    affine = Affine(width, 0.0, left - 0.5 * width, 0.0, height, top - 0.5 * height)
    try:
        return GeoBox(plane.shape, affine, crs), None
    except (ValueError, CRSError) as err:
        raise InputError(
            f"The array's reference system is '{crs}'.",
            expected="An EPSG code or WKT is expected.",
            remedy="Correct its coordinate 'spatial_ref'.",
        ) from err


def _spacing(centres: Any, name: str) -> tuple[float, float | None]:
    """First pixel centre and pixel size; None where a single pixel leaves the size open."""
    values = np.asarray(centres, np.float64)
    if values.size < 2:
        return float(values[0]), None
    step = (values[-1] - values[0]) / (values.size - 1)
    if step == 0 or np.abs(np.diff(values) - step).max() > 1e-3 * abs(step):
        raise InputError(
            f"The coordinate '{name}' is not evenly spaced.",
            expected="Pixels of one size are expected.",
            remedy="Resample the array to a regular grid first.",
        )
    return float(values[0]), float(step)


def _crs(source: Any, plane: Any, axes: tuple[str, str]) -> str | None:
    """Reference system as ``spatial_ref`` (rioxarray, odc-geo, CF grid mappings) or the attribute ``crs`` say it."""
    mapping = plane.encoding.get("grid_mapping") or plane.attrs.get("grid_mapping") or "spatial_ref"
    for holder in (source, plane):
        found = holder.coords.get(mapping)
        if found is None and hasattr(holder, "data_vars"):
            found = holder.data_vars.get(mapping)
        if found is not None:
            text = found.attrs.get("crs_wkt") or found.attrs.get("spatial_ref")
            if text:
                return str(text)
        if holder.attrs.get("crs"):
            return str(holder.attrs["crs"])
    return "EPSG:4326" if axes in (("latitude", "longitude"), ("lat", "lon")) else None


def _nodata(plane: Any, source: Any, sensor: sensors.Sensor | None) -> float | None:
    """Stored value of missing pixels, by the array's attributes or the sensor."""
    attrs = {**source.attrs, **plane.attrs}
    nodata = next((attrs[key] for key in ("_FillValue", "nodata", "missing_value") if key in attrs), None)
    integer = np.dtype(plane.dtype).kind in "ui"
    if nodata is None and integer:
        nodata = plane.encoding.get("_FillValue")
    if nodata is None and sensor is not None and integer:
        nodata = sensor.nodata
    return None if nodata is None else _attribute("_FillValue", nodata)


def _known(
    plane: Any, source: Any, sensor: sensors.Sensor | None, band: Band, nodata: float | None
) -> Radiometry | None:
    attrs = {**source.attrs, **plane.attrs}
    if "scale_factor" in attrs or "add_offset" in attrs:
        scale, offset = attrs.get("scale_factor", 1.0), attrs.get("add_offset", 0.0)
        return Radiometry(_attribute("scale_factor", scale), _attribute("add_offset", offset), nodata, "array")
    if np.dtype(plane.dtype).kind not in "ui":
        return Radiometry(1.0, 0.0, nodata, "dtype-float")
    own = sensor.find(band.name) if sensor is not None else None
    if sensor is not None and sensor.scale is not None and sensor.offset is not None:
        scale = own.scale if own is not None and own.scale is not None else sensor.scale
        offset = own.offset if own is not None and own.offset is not None else sensor.offset
        return Radiometry(scale, offset, nodata, "sensor", calibrated=sensor.radiometry == "fixed")
    return None


def _attribute(name: str, value: Any) -> float:
    try:
        return float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError) as err:
        raise InputError(
            f"The array's attribute {name} is {value!r}.", expected="A number is expected.", remedy="Correct it."
        ) from err


def _check_range(held: ArrayBand, record: Radiometry, name: str) -> None:
    values = held.sample(record)
    if values.size == 0:
        return
    low, high = np.percentile(values, [1, 99], method="nearest")
    if low < _LIMITS[0] or high > _LIMITS[1]:
        raise RadiometryError(
            f"Band '{name}' of the array holds decimal numbers from {low:.5g} to {high:.5g}.",
            expected="Reflectance lies between 0 and about 1.5.",
            remedy="If these are counts that became decimal because missing pixels are NaN, say their scale:"
            " scale=0.0001, offset=0.",
        )


def _datetime(source: Any) -> str | None:
    time = next((source.coords[name] for name in _DATE_AXES if name in source.coords), None)
    if time is None or time.size != 1:
        return None
    moment = np.ravel(time.values)[0]
    if not isinstance(moment, np.datetime64) or np.isnat(moment):
        return None
    return f"{np.datetime_as_string(moment, unit='s')}Z"
