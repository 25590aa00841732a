"""Small products in real layouts, written by the project's own writers; for tests of everything that reads."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from unclouded import sensors
from unclouded.simulate.safe import write_safe

ULX, ULY, CRS = 300000.0, 5800020.0, "EPSG:32633"


def make_counts(
    size_m: int = 2400, level: str = "L1C", seed: int = 0, low: int = 1100, high: int = 5000, bands: Any = None
) -> dict[str, np.ndarray]:
    """Smooth counts for each band at its own pixel size, (y, x) uint16."""
    rng = np.random.default_rng(seed)
    out = {}
    for band in sensors.load(f"sentinel2-{level.lower()}").bands:
        if bands is not None and band.name not in bands:
            continue
        side = size_m // int(band.gsd_m)
        y, x = np.mgrid[0:side, 0:side] / side
        wave = (
            0.5 + 0.25 * np.sin(2 * np.pi * (3 * x + rng.random())) + 0.25 * np.cos(2 * np.pi * (2 * y + rng.random()))
        )
        out[band.name] = (low + (high - low) * wave).astype(np.uint16)
    return out


def make_safe(
    path: Path,
    level: str = "L1C",
    baseline: str = "05.11",
    offset: int | Mapping[str, int] | None = -1000,
    size_m: int = 2400,
    *,
    counts: Mapping[str, np.ndarray] | None = None,
    zipped: bool = False,
    **options: Any,
) -> Path:
    """A Sentinel-2 product below ``path``: its SAFE folder, or its zip."""
    product = write_safe(
        path,
        make_counts(size_m, level) if counts is None else counts,
        crs=CRS,
        ulx=ULX,
        uly=ULY,
        datetime="2024-06-01T10:10:31Z",
        level=level,
        baseline=baseline,
        offset=offset,
        **options,
    )
    if not zipped:
        return product
    archive = product.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(product.rglob("*")):
            out.write(file, file.relative_to(path))
    return archive


def make_tif(
    path: Path,
    data: np.ndarray,
    *,
    crs: str | None = CRS,
    pixel_m: float = 10.0,
    descriptions: Any = None,
    scales: Any = None,
    offsets: Any = None,
    **profile: Any,
) -> Path:
    """A GeoTIFF of (band, y, x) data."""
    count, height, width = data.shape
    options = {"crs": crs, "transform": Affine(pixel_m, 0, ULX, 0, -pixel_m, ULY)} if crs else {}
    options |= {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": data.dtype} | profile
    with rasterio.open(path, "w", **options) as dataset:
        dataset.write(data)
        if descriptions is not None:
            dataset.descriptions = descriptions
        if scales is not None:
            dataset.scales, dataset.offsets = scales, offsets
    return path


def image(product: Path, band: str) -> Path:
    """Image file of a band in a SAFE folder, at its finest pixel size."""
    return sorted(product.glob(f"GRANULE/*/IMG_DATA/**/*_{band}*.jp2"))[0]
