"""One product in its other forms: as an archive, and as a STAC item that points at its files."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from unclouded.scene import Scene


def as_zip(folder: Path, target: Path) -> Path:
    """The folder in a zip, under its own name."""
    archive = target / f"{folder.name.removesuffix('.SAFE')}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, Path(folder.name) / path.relative_to(folder))
    return archive


def as_tar(folder: Path, target: Path, suffix: str = ".tar") -> Path:
    """The folder's files in a tar, as the USGS packs them: without a folder."""
    archive = target / f"{folder.name}{suffix}"
    with tarfile.open(archive, "w:gz" if suffix.endswith("gz") else "w") as out:
        for path in sorted(folder.iterdir()):
            out.add(path, path.name)
    return archive


def unpacked(archive: Path, target: Path) -> Path:
    """The product's folder from its archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as held:
            held.extractall(target)
        return next(path for path in target.iterdir() if path.is_dir())
    folder = target / archive.name.partition(".")[0]
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def as_item(scene: Scene, target: Path, base: str | None = None) -> Path:
    """An item of STAC 1.0 whose assets are the files that a scene reads its optical bands from.

    Args:
        scene: opened from local files.
        target: folder of the item.
        base: address that stands for the folder of the files; None leaves local paths.
    """
    assets: dict[str, Any] = {}
    for band in scene.bands:
        source: Any = scene.sources[band.name]
        if band.kind != "optical":
            continue
        record = scene.radiometry[band.name]
        href = source.path if base is None else f"{base}/{Path(source.path).name}"
        entry = {
            "name": band.name,
            "common_name": band.common_name,
            "center_wavelength": 0.001 * band.centre_nm,
            "full_width_half_max": 0.001 * (band.max_nm - band.min_nm),  # type: ignore[operator]
        }
        raster = {"scale": record.scale, "offset": record.offset, "nodata": record.nodata}
        held = assets.setdefault(source.path, {"href": href, "roles": ["data"], "eo:bands": [], "raster:bands": []})
        assert source.index == len(held["eo:bands"]) + 1
        held["eo:bands"].append(entry)
        held["raster:bands"].append(raster)
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.id,
        "geometry": None,
        "properties": {"datetime": scene.datetime or "2020-01-01T00:00:00Z"},
        "links": [],
        "assets": {
            asset["eo:bands"][0]["name"] if len(asset["eo:bands"]) == 1 else "data": asset for asset in assets.values()
        },
    }
    path = target / f"{scene.id}.json"
    path.write_text(json.dumps(document))
    return path
