"""Outlines of clouds and shadows as FlatGeobuf or GeoParquet.

    write_polygons("out/scene_mask.tif", "out/scene_clouds.fgb")

Outlines follow the pixels' edges and do not overlap; each stands for the pixels of one class that touch by their sides.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import CLASSES
from .errors import InputError, MissingDependencyError
from .write.atomic import cannot_write, partial_folder, replace_file

FORMATS = {".fgb": "FlatGeobuf", ".parquet": "GeoParquet"}
"""Formats by the ending of the file."""


def write_polygons(
    mask: str | Path, target: str | Path, *, classes: Sequence[str] | None = None, min_pixels: int = 1
) -> int:
    """Write the outlines of a mask's classes.

    Args:
        mask: ``<id>_mask.tif``. It is read whole, one byte per pixel.
        target: file to write, ``.fgb`` or ``.parquet``; it is replaced if it was there.
        classes: names of the classes wanted, see :data:`unclouded.classes.CLASSES`; None means clouds and shadows.
        min_pixels: patches of fewer pixels are given to the largest patch beside them first.

    Returns:
        Number of polygons. Each has ``class`` (code), ``name`` and ``pixels``.

    Raises:
        InputError: the mask cannot be read or is something else, or a class or the ending is unknown.
        MissingDependencyError: pyogrio or pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    target = Path(target).expanduser()
    if target.suffix.lower() not in FORMATS:
        raise InputError(
            f"The polygons are to be written to {target.name}.",
            expected=f"The ending says the format: {', '.join(f'{end} is {name}' for end, name in FORMATS.items())}.",
            remedy="Give the file one of these endings.",
        )
    names = [one.name for one in CLASSES]
    wanted = names[1:] if classes is None else list(classes)
    if unknown := [name for name in wanted if name not in names]:
        raise InputError(
            f"There is no class called {', '.join(map(repr, unknown))}.",
            expected=f"Classes are {', '.join(names)}.",
            remedy="Correct the name.",
        )
    if min_pixels < 1:
        raise InputError(
            f"The smallest patch has {min_pixels} pixels.",
            expected="It has one or more.",
            remedy="Pass --min-pixels 1 to keep all.",
        )
    save = _flatgeobuf if target.suffix.lower() == ".fgb" else _geoparquet
    outlines, crs = _trace(Path(mask), [names.index(name) for name in wanted], min_pixels)
    with partial_folder(target.parent, target.name) as partial:
        made = partial / target.name
        save(made, target, outlines, crs)
        replace_file(made, target)
    return len(outlines["class"])


def require(ending: str) -> None:
    """See whether the library for a format is there, before work is done that would be lost without it.

    Args:
        ending: ``fgb`` or ``parquet``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    name = "pyogrio" if ending == "fgb" else "pyarrow"
    if importlib.util.find_spec(name) is None:
        raise MissingDependencyError.for_extra(name, "polygons")


def _trace(mask: Path, codes: Sequence[int], min_pixels: int) -> tuple[dict[str, NDArray[Any]], Any]:
    """Outlines as well-known binary with their class, name and pixels; and the reference system or None."""
    import rasterio
    import shapely  # type: ignore[import-untyped]
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.features import shapes, sieve

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(mask) as file:
                if file.count != 1 or file.dtypes[0] != "uint8":
                    raise InputError(
                        f"{mask} has {file.count} bands of type {file.dtypes[0]}.",
                        expected="A mask has one band of class codes, uint8.",
                        remedy="Pass a file that ends in _mask.tif.",
                    )
                values, crs, transform = file.read(1), file.crs, file.transform
    except (RasterioError, OSError) as err:
        raise InputError(
            f"The mask {mask} cannot be read: {err}.",
            expected="It is a file that unclouded mask wrote.",
            remedy="Make the mask again.",
        ) from err
    if min_pixels > 1:
        values = sieve(values, min_pixels, connectivity=4)
    pixel_area = abs(transform.determinant)
    binary: list[bytes] = []
    classes: list[int] = []
    pixels: list[int] = []
    for outline, code in shapes(values, np.isin(values, codes), connectivity=4, transform=transform):
        polygon = shapely.geometry.shape(outline)
        binary.append(shapely.to_wkb(polygon))
        classes.append(int(code))
        pixels.append(round(polygon.area / pixel_area))
    geometry = np.empty(len(binary), object)
    geometry[:] = binary
    told = np.array([CLASSES[code].name for code in classes], object)
    columns = {
        "geometry": geometry, "class": np.array(classes, np.int16), "name": told, "pixels": np.array(pixels, np.int64),
    }  # fmt: skip
    return columns, crs


def _flatgeobuf(made: Path, target: Path, outlines: dict[str, NDArray[Any]], crs: Any) -> None:
    try:
        from pyogrio import raw
        from pyogrio.errors import DataSourceError, GeometryError
    except ImportError as err:
        raise MissingDependencyError.for_extra("pyogrio", "polygons") from err
    fields = [name for name in outlines if name != "geometry"]
    try:
        with warnings.catch_warnings():
            # Images without position have none to give.
            warnings.filterwarnings("ignore", message=".*crs.*", category=UserWarning)
            raw.write(
                made,
                outlines["geometry"],
                [outlines[name] for name in fields],
                fields,
                driver="FlatGeobuf",
                geometry_type="Polygon",
                crs=None if crs is None else crs.to_wkt(),
                layer=target.stem,
            )
    except (DataSourceError, GeometryError, OSError) as err:
        raise cannot_write(target, err) from err


def _geoparquet(made: Path, target: Path, outlines: dict[str, NDArray[Any]], crs: Any) -> None:
    """Source: GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/ (a missing reference system is ``null``)."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as err:
        raise MissingDependencyError.for_extra("pyarrow", "polygons") from err
    import pyproj
    import shapely

    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt()).to_json_dict(),
    }
    if len(outlines["geometry"]):
        column["bbox"] = [float(one) for one in shapely.total_bounds(shapely.from_wkb(outlines["geometry"]))]
    told = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    kinds = {
        "geometry": pyarrow.binary(), "class": pyarrow.int16(), "name": pyarrow.string(), "pixels": pyarrow.int64(),
    }  # fmt: skip
    table = pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in outlines.items()})
    try:
        parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(told)}), made, compression="zstd")
    except (pyarrow.ArrowException, OSError) as err:
        raise cannot_write(target, err) from err
