"""Many small scenes for tests of batches, and what to compare in their output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from .fakes_clouds import cloud


def write_scene(path: Path, seed: int, size: int = 64) -> Path:
    """A plain raster of four bands with a cloud; every seed gives another."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.03, 0.1, (4, size, size)).astype(np.float32)
    low, high = sorted(rng.integers(0, size, 2))
    values += cloud((size, size), (low, high), (low, high), seed)
    profile = {"driver": "GTiff", "count": 4, "height": size, "width": size, "crs": "EPSG:32633", "tiled": True}
    with rasterio.open(path, "w", dtype="float32", transform=Affine(20, 0, 4e5, 0, -20, 5.8e6), **profile) as file:
        file.write(values)
        file.descriptions = ("blue", "green", "red", "nir")
    return path


def write_scenes(folder: Path, count: int, size: int = 64) -> list[Path]:
    """Several of them, with names in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_scene(folder / f"scene{number:02}.tif", number, size) for number in range(count)]


def contents(folder: Path) -> dict[str, Any]:
    """Everything in an output folder, hidden files too: pixels of rasters, items without what tells when and on
    how many threads they were made, the bytes of all else."""
    out: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tif":
            with rasterio.open(path) as file:
                out[path.name] = (file.profile["dtype"], file.read().tobytes(), file.tags())
        elif path.suffix == ".json":
            out[path.name] = _without_times(json.loads(path.read_text()))
        else:
            out[path.name] = path.read_bytes() if path.is_file() else None
    return out


def _without_times(item: dict[str, Any]) -> dict[str, Any]:
    for name in ("created", "updated", "processing:datetime", "end_datetime"):
        item["properties"].pop(name, None)
    item["properties"].get("unclouded:options", {}).pop("threads", None)
    return item
