"""Writer of Sentinel-2 products in SAFE layout: folders, names, JPEG 2000 images and metadata as users get them.

Simulated scenes leave through here, so that everything after them (readers first) is exercised as with real ones.
Source: ESA, Sentinel-2 Products Specification Document, for names and elements.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform
from rasterio.windows import Window

from .. import sensors
from ..errors import InputError, OutputError
from .safe_xml import BAND_IDS, ProductFacts, granule_xml, manifest_xml, product_xml

RowReader: TypeAlias = "Callable[[int, int], NDArray[np.uint16]]"
"""Gives the rows ``first`` to ``last`` (excluded) of a band, (y, x) uint16."""

_TILE_PX = {10: 1024, 20: 640, 60: 192}
"""Sides of the JPEG 2000 tiles of real products, by pixel size in metres."""

_ROWS = 1024


def write_safe(
    folder: str | os.PathLike[str],
    counts: Mapping[str, NDArray[np.uint16] | RowReader],
    *,
    crs: str | int | CRS,
    ulx: float,
    uly: float,
    datetime: str | dt.datetime,
    level: str = "L1C",
    baseline: str = "05.11",
    offset: int | Mapping[str, int] | None = -1000,
    quantification: int = 10000,
    sun_zenith_deg: float = 40.0,
    sun_azimuth_deg: float = 160.0,
    tile: str = "T33UUB",
    spacecraft: str = "S2B",
    relative_orbit: int = 22,
    size_m: int | None = None,
    scl: NDArray[np.uint8] | None = None,
) -> Path:
    """Write a Sentinel-2 product; it appears under its name only when it is complete.

    Args:
        folder: where the product's own folder is made.
        counts: stored counts of each band, (y, x) uint16 at the band's own pixel size; 0 is no data. Or a function
            (first, last) -> rows, for bands too large for memory; then ``size_m`` has to be given.
        crs: projected reference system, e.g. ``"EPSG:32633"``.
        ulx, uly: upper left corner of the upper left pixel in metres.
        datetime: sensing time, ISO 8601 in UTC.
        level: ``L1C`` or ``L2A``.
        baseline: processing baseline, ``NN.NN``; only written, it decides nothing.
        offset: RADIO_ADD_OFFSET or BOA_ADD_OFFSET in counts, one for all bands or by band name; None leaves the list
            out, as products before baseline 04.00 do.
        quantification: counts per unit of reflectance.
        sun_zenith_deg, sun_azimuth_deg: the sun's angles in degrees.
        tile: tile identifier with the leading T.
        spacecraft: ``S2A`` to ``S2D``.
        relative_orbit: 1 to 143.
        size_m: side of the square footprint in metres; None takes it from the arrays.
        scl: scene classification at 20 m for ``L2A``, (y, x) uint8.

    Returns:
        Path of the ``.SAFE`` folder.

    Raises:
        InputError: level, bands, shapes, types or the reference system do not fit.
        OutputError: the product exists already, or cannot be written.
    """
    sensing = _utc(datetime)
    catalogue = _catalogue(level)
    gsd = {band.name: int(band.gsd_m) for band in catalogue.bands}
    rows, cols = _size_m(counts, gsd, size_m)
    reference = _projected(crs)
    facts = ProductFacts(
        level=level,
        sensing=sensing,
        baseline=baseline,
        offsets=_offsets(offset, [name for name in BAND_IDS if level == "L1C" or name != "B10"]),
        quantification=quantification,
        sun_zenith_deg=sun_zenith_deg,
        sun_azimuth_deg=sun_azimuth_deg,
        tile=tile,
        spacecraft=spacecraft,
        relative_orbit=relative_orbit,
        crs=reference.to_string(),
        crs_name=_crs_name(reference),
        ulx=ulx,
        uly=uly,
        rows_m=rows,
        cols_m=cols,
        footprint=_footprint(reference, ulx, uly, rows, cols),
    )
    target = Path(folder).expanduser() / f"{facts.name}.SAFE"
    if target.exists():
        raise OutputError(
            f"{target} exists already.",
            expected="A product is written once.",
            remedy="Remove it, or choose another folder.",
        )
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        _write_all(part, facts, counts, gsd, reference, scl)
        os.replace(part, target)
    except (OSError, RasterioError) as err:
        raise OutputError(
            f"The product {target} cannot be written: {err}.",
            expected="The folder has to be writable and have room.",
            remedy="Choose another folder.",
        ) from err
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def write_jp2(
    path: Path,
    counts: NDArray[np.uint16] | NDArray[np.uint8] | RowReader,
    *,
    shape: tuple[int, int],
    affine: Affine,
    crs: CRS | None,
    tile_px: int = 1024,
) -> None:
    """Write one band as lossless JPEG 2000, in row blocks, so that memory does not grow with its height.

    Args:
        path: file to write.
        counts: (y, x) uint8 or uint16, or a function (first, last) -> rows.
        shape: rows and columns.
        affine: pixel to map coordinates.
        crs: reference system, or None.
        tile_px: side of the JPEG 2000 tiles.

    Raises:
        InputError: rows have the wrong shape or type.
    """
    rows, cols = shape
    dtype = np.uint16 if callable(counts) else counts.dtype
    plain = path.with_suffix(".tif.part")
    profile = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "count": 1,
        "dtype": dtype,
        "crs": crs,
        "transform": affine,
        "bigtiff": "if_safer",
    }
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=256 * 1024 * 1024):
        try:
            with rasterio.open(plain, "w", **profile) as dataset:
                for first in range(0, rows, _ROWS):
                    last = min(first + _ROWS, rows)
                    block = counts(first, last) if callable(counts) else counts[first:last]
                    if block.shape != (last - first, cols) or block.dtype != dtype:
                        raise InputError(
                            f"Rows {first} to {last} of {path.name} are {block.dtype} of shape {block.shape}.",
                            expected=f"{np.dtype(dtype).name} of shape {(last - first, cols)} is expected.",
                            remedy="Correct the counts.",
                        )
                    dataset.write(block, 1, window=Window(0, first, cols, last - first))
            rasterio.shutil.copy(
                plain,
                path,
                driver="JP2OpenJPEG",
                QUALITY="100",
                REVERSIBLE="YES",
                BLOCKXSIZE=str(tile_px),
                BLOCKYSIZE=str(tile_px),
                RESOLUTIONS=str(_resolutions(min(rows, cols, tile_px))),
            )
        finally:
            plain.unlink(missing_ok=True)


def _resolutions(side: int) -> int:
    """Six, as real products have, or as many as leave something of a small image."""
    return max(1, min(6, side.bit_length() - 2))


def _write_all(
    part: Path,
    facts: ProductFacts,
    counts: Mapping[str, NDArray[np.uint16] | RowReader],
    gsd: Mapping[str, int],
    crs: CRS,
    scl: NDArray[np.uint8] | None,
) -> None:
    images: list[str] = []
    layers: list[tuple[str, int, NDArray[np.uint16] | NDArray[np.uint8] | RowReader]] = [
        (name, gsd[name], counts[name]) for name in gsd if name in counts
    ]
    if scl is not None:
        layers.append(("SCL", 20, scl))
    for name, size, rows in layers:
        path = part / facts.image(name, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = Affine(size, 0, facts.ulx, 0, -size, facts.uly)
        shape = (facts.rows_m // size, facts.cols_m // size)
        write_jp2(path, rows, shape=shape, affine=affine, crs=crs, tile_px=_TILE_PX[size])
        images.append(facts.image(name, size))
    for relative, root in (
        (facts.product_file, product_xml(facts, images)),
        (f"{facts.granule}/MTD_TL.xml", granule_xml(facts)),
    ):
        _write_xml(part / relative, root)
    files = sorted(path for path in part.rglob("*") if path.is_file())
    listing = {path.relative_to(part).as_posix(): (path.stat().st_size, _digest(path)) for path in files}
    _write_xml(part / "manifest.safe", manifest_xml(facts, listing))


def _write_xml(path: Path, root: ET.Element) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha3_256").hexdigest()


def _utc(moment: str | dt.datetime) -> dt.datetime:
    try:
        value = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as err:
        raise InputError(
            f"The sensing time is '{moment}'.",
            expected="ISO 8601 is expected.",
            remedy='Pass for example datetime="2024-06-01T10:10:31Z".',
        ) from err
    return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _catalogue(level: str) -> sensors.Sensor:
    if level not in ("L1C", "L2A"):
        raise InputError(f"The level is '{level}'.", expected="Levels are L1C and L2A.", remedy='Pass level="L1C".')
    return sensors.load(f"sentinel2-{level.lower()}")


def _offsets(offset: int | Mapping[str, int] | None, bands: list[str]) -> dict[str, int] | None:
    if offset is None:
        return None
    if isinstance(offset, Mapping):
        return {name: int(offset.get(name, 0)) for name in bands}
    return dict.fromkeys(bands, int(offset))


def _size_m(
    counts: Mapping[str, NDArray[np.uint16] | RowReader], gsd: Mapping[str, int], size_m: int | None
) -> tuple[int, int]:
    unknown = sorted(set(counts) - set(gsd))
    if unknown or not counts:
        raise InputError(
            f"The bands given are {', '.join(counts) or 'none'}.",
            expected=f"One or more of {', '.join(gsd)}.",
            remedy=f"Remove {', '.join(unknown)}." if unknown else "Give at least one band.",
        )
    sizes = {} if size_m is None else {"size_m": (size_m, size_m)}
    for name, rows in counts.items():
        if not callable(rows):
            if rows.ndim != 2 or rows.dtype != np.uint16:
                raise InputError(
                    f"Band {name} is {rows.dtype} with {rows.ndim} axes.",
                    expected="Counts are uint16 with the axes y and x.",
                    remedy="Convert them: numpy.asarray(counts, dtype='uint16').",
                )
            sizes[name] = (rows.shape[0] * gsd[name], rows.shape[1] * gsd[name])
    if len(set(sizes.values())) != 1 or any(side % gsd[name] for name in counts for side in next(iter(sizes.values()))):
        raise InputError(
            f"The bands cover (rows, columns) in metres: {sizes or 'unknown'}.",
            expected="All cover the same area, a multiple of the largest pixel.",
            remedy="Give every band at its own pixel size, and size_m where a band is a function.",
        )
    return next(iter(sizes.values()))


def _projected(crs: str | int | CRS) -> CRS:
    try:
        found = CRS.from_user_input(crs)
    except CRSError as err:
        raise InputError(
            f"The reference system '{crs}' is not known.",
            expected="A UTM zone is expected.",
            remedy='Pass for example crs="EPSG:32633".',
        ) from err
    if not found.is_projected or found.to_epsg() is None:
        raise InputError(
            f"The reference system is {found.to_string()}.",
            expected="Sentinel-2 products are in a UTM zone with an EPSG code.",
            remedy='Pass for example crs="EPSG:32633".',
        )
    return found


def _crs_name(crs: CRS) -> str:
    code = crs.to_epsg() or 0
    if 32601 <= code <= 32660 or 32701 <= code <= 32760:
        return f"WGS84 / UTM zone {code % 100}{'N' if code < 32700 else 'S'}"
    return crs.to_string()


def _footprint(crs: CRS, ulx: float, uly: float, rows_m: int, cols_m: int) -> list[tuple[float, float]]:
    """Corners as (latitude, longitude) in degrees, closed ring."""
    xs = [ulx, ulx + cols_m, ulx + cols_m, ulx, ulx]
    ys = [uly, uly, uly - rows_m, uly - rows_m, uly]
    longitudes, latitudes = transform(crs, CRS.from_epsg(4326), xs, ys)
    return list(zip(latitudes, longitudes, strict=True))
