"""The rasters and products of a simulated scene, as data sets and readers expect them."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from .. import sensors
from ..classes import NO_DATA
from ..scene import Band
from ..write.atomic import cannot_write, partial_folder, replace_file
from .safe import write_safe
from .scenes import DrawnScene

UNSEEN = 4
"""Label of shadow that nobody could see: it may be shadow or clear."""

LABELS: dict[int, str | list[str]] = {
    0: "clear",
    1: "thick",
    2: "thin",
    3: "shadow",
    UNSEEN: ["land", "water", "snow", "shadow"],
    NO_DATA: "no-data",
}
"""Meaning of the label codes, as dataset.yaml says it."""

SAFE_LEVELS = {"sentinel2-l1c": "L1C", "sentinel2-l2a": "L2A"}
"""Sensors whose products can be written whole."""

_KELVIN_STEP = 0.01
_STEP = 1e-4


def label_codes(drawn: DrawnScene) -> NDArray[np.uint8]:
    """Label raster of a scene in the codes of :data:`LABELS`, (y, x) uint8."""
    codes = drawn.sky.classes.copy()
    codes[drawn.sky.ambiguous] = UNSEEN
    codes[~np.isfinite(drawn.sky.image).all(axis=0)] = NO_DATA
    return codes


def write_labelled(
    root: Path, name: str, sensor: sensors.Sensor, drawn: DrawnScene, labels: NDArray[np.uint8]
) -> dict[str, Path]:
    """An image with its label raster, and radar and heights where the scene has them."""
    stored, scales, offsets = stored_counts(drawn.sky.image, drawn.bands, sensor)
    names = [band.name for band in drawn.bands]
    files = {
        "image": _raster(root / f"images/{name}.tif", stored, drawn.geobox, names, nodata=0, factors=(scales, offsets)),
        "label": _raster(root / f"labels/{name}.tif", labels[None], drawn.geobox, ["label"], nodata=NO_DATA),
    }
    if drawn.radar is not None:
        files["sar"] = _raster(root / f"sar/{name}.tif", drawn.radar, drawn.geobox, ["vv", "vh"])
    if drawn.heights is not None:
        files["dem"] = _raster(root / f"dem/{name}.tif", drawn.heights[None], drawn.geobox, ["elevation"])
    return files


def stored_counts(
    image: NDArray[np.float32], bands: Sequence[Band], sensor: sensors.Sensor
) -> tuple[NDArray[np.uint16], list[float], list[float]]:
    """Reflectance and temperature as counts, 0 where missing.

    Args:
        image: reflectance or kelvin, (band, y, x) float32.
        bands: one per plane.
        sensor: its scale and offset where its definition fixes them; otherwise steps of 0.0001, and of 0.01 K.

    Returns:
        Counts, (band, y, x) uint16, and scale and offset of every band.
    """
    scales, offsets = [], []
    out = np.zeros(image.shape, np.uint16)
    # 8-bit pictures saturate at 255; everything else at the last number of 16 bits, which stays free for sensors' use.
    most = min(sensor.saturated or 65534, 65534)
    for row, band in enumerate(bands):
        known = sensor.find(band.name)
        scale, offset = _STEP, 0.0
        if sensor.scale is not None and sensor.offset is not None:
            scale = known.scale if known is not None and known.scale is not None else sensor.scale
            offset = known.offset if known is not None and known.offset is not None else sensor.offset
        elif band.kind == "thermal":
            scale = _KELVIN_STEP
        counts = np.clip(np.round((image[row] - offset) / scale), 1, most)
        out[row] = np.where(np.isfinite(counts), counts, 0)
        scales.append(scale)
        offsets.append(offset)
    return out, scales, offsets


def write_pair(root: Path, name: str, drawn: DrawnScene) -> dict[str, Path]:
    """SEN12MS-CR: 13 bands of counts of 0.0001, and VV and VH in decibel."""
    season, place, patch = name.rsplit("_", 2)
    assert drawn.radar is not None
    files = {}
    planes = {"s1": drawn.radar, "s2": drawn.clear, "s2_cloudy": drawn.sky.image}
    for kind, image in planes.items():
        path = root / f"{season}_{kind}" / f"{kind}_{place}" / f"{season}_{kind}_{place}_{patch}.tif"
        if kind != "s1":
            stored = np.clip(np.round(image / _STEP), 1, 65534)
            image = np.where(np.isfinite(stored), stored, 0).astype(np.uint16)
        names = ["VV", "VH"] if kind == "s1" else [band.name for band in drawn.bands]
        files[kind] = _raster(path, image, drawn.geobox, names)
    return files


def write_product(root: Path, sensor: sensors.Sensor, moment: dt.datetime, drawn: DrawnScene) -> Path:
    """A whole Sentinel-2 product with the offset of present processing baselines."""
    level, offset, quantification = SAFE_LEVELS[sensor.name], -1000, 10_000
    counts = {}
    for band, plane in zip(drawn.bands, drawn.sky.image, strict=True):
        factor = round(band.gsd_m / 10)
        side = len(plane) // factor
        coarse = plane.reshape(side, factor, side, factor).mean(axis=(1, 3))
        stored = np.clip(np.round(coarse * quantification - offset), 1, 65534)
        counts[band.name] = np.where(np.isfinite(stored), stored, 0).astype(np.uint16)
    # What a run that was cut short left without an item has the same name; it is made again.
    for old in root.glob(f"S2B_MSI{level}_{moment:%Y%m%dT%H%M%S}_*.SAFE"):
        shutil.rmtree(old)
    return write_safe(
        root,
        counts,
        crs=str(drawn.geobox.crs),
        ulx=drawn.geobox.affine.c,
        uly=drawn.geobox.affine.f,
        datetime=moment,
        level=level,
        offset=offset,
        quantification=quantification,
        sun_zenith_deg=drawn.parameters["sun_zenith_deg"],
        sun_azimuth_deg=drawn.parameters["sun_azimuth_deg"],
    )


def write_truth(root: Path, name: str, drawn: DrawnScene, labels: NDArray[np.uint8]) -> dict[str, Path]:
    """What is true of every pixel: class, optical thickness, share of sunlight."""
    planes = np.stack([labels.astype(np.float32), drawn.sky.tau, drawn.sky.sunlight])
    path = root / "truth" / f"{name}.tif"
    return {"truth": _raster(path, planes, drawn.geobox, ["class", "optical thickness", "sunlight"])}


def _raster(
    path: Path,
    planes: NDArray[Any],
    geobox: GeoBox,
    names: Sequence[str],
    *,
    nodata: float | None = None,
    factors: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Path:
    with partial_folder(path.parent, path.stem) as partial:
        made = partial / path.name
        try:
            with rasterio.open(
                made,
                "w",
                driver="GTiff",
                dtype=planes.dtype,
                count=len(planes),
                height=planes.shape[1],
                width=planes.shape[2],
                crs=None if geobox.crs is None else str(geobox.crs),
                transform=geobox.affine,
                nodata=nodata,
                compress="deflate",
                predictor=3 if planes.dtype.kind == "f" else 2,
            ) as file:
                file.write(planes)
                file.descriptions = tuple(names)
                if factors is not None:
                    file.scales, file.offsets = (tuple(one) for one in factors)
        except (RasterioError, OSError) as err:
            raise cannot_write(path, err) from err
        replace_file(made, path)
    return path
