"""The labelled real images as data sets of the kind 'folder', so that training and evaluation read them as anyone's."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import yaml
from rasterio.transform import from_origin

from unclouded.classes import SEVEN
from unclouded.data.sample import Sample


def write_folder(
    root: Path, samples: Iterable[Sample], split: Callable[[Sample], str], colours: Sequence[str] | None = None
) -> Path:
    """Write samples of one source as images, labels, ``dataset.yaml`` and ``splits.csv``.

    Args:
        root: folder of the data set.
        samples: with the same bands.
        split: part of each sample, "" to leave it out.
        colours: common names of the bands to keep, None for all. Near infrared is called ``nir``.
    """
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rows, masks, first = [], {0}, None
    for sample in samples:
        sample = replace(sample, bands=tuple(replace(b, common_name=_colour(b.common_name)) for b in sample.bands))
        part = split(sample)
        if not part:
            continue
        keep = [row for row, band in enumerate(sample.bands) if colours is None or band.common_name in colours]
        keep.sort(key=lambda row: row if colours is None else list(colours).index(sample.bands[row].common_name))
        first = first or replace(sample, image=sample.image[keep], bands=tuple(sample.bands[row] for row in keep))
        _raster(root / f"images/{sample.name}.tif", sample.image[keep].astype(np.float32))
        _raster(root / f"labels/{sample.name}.tif", sample.sets[None])
        masks |= set(np.unique(sample.sets).tolist())
        rows.append((sample.name, part, sample.scene))
    assert first is not None
    classes = {mask: [name for bit, name in enumerate(SEVEN) if mask >> bit & 1] or "ignore" for mask in sorted(masks)}
    # Wavelengths are enough for networks that take any bands, names for the others.
    bands = [list(colours)] if colours else [[[band.min_nm, band.max_nm] for band in first.bands]]
    description = {
        "title": first.source, "bands": bands[0], "level": "boa" if first.level == "boa" else "toa",
        "gsd_m": first.gsd_m, "classes": classes,
    }  # fmt: skip
    (root / "dataset.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    with (root / "splits.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("name", "split", "scene"), *rows])
    return root


def _colour(name: str | None) -> str | None:
    return "nir" if name == "nir08" else name


def _raster(path: Path, planes: np.ndarray) -> None:
    profile = {
        "driver": "GTiff", "dtype": planes.dtype.name, "count": len(planes), "height": planes.shape[1],
        "width": planes.shape[2], "compress": "deflate", "transform": from_origin(0, 0, 30, 30),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.write(planes)
