"""Folders of finished results, made by the writers themselves and without a network."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from unclouded.infer.runner import find_model
from unclouded.models.card import ModelCard
from unclouded.options import Options
from unclouded.write.product import ProductWriter
from unclouded.write.quicklook import write_quicklook
from unclouded.write.stac import make_item, write_item

from .fakes_scene import UTM_GRID, make_scene

NO_PLACE = GeoBox((120, 160), Affine.identity(), None)


def write_result(
    folder: Path,
    name: str = "scene",
    *,
    geobox: GeoBox = UTM_GRID,
    datetime: str | None = "2024-06-01T10:00:31Z",
    cloud_rows: int = 30,
    quicklook: bool = True,
    warnings: tuple[str, ...] = (),
    source: str = "memory",
) -> Path:
    """A result: thick cloud in the upper rows, thin cloud at the left, no data in a corner. Returns the item's path."""
    from dataclasses import replace

    scene = replace(make_scene(geobox, datetime=datetime, source=source), id=name)
    classes = np.zeros(geobox.shape, np.uint8)
    classes[:, :40] = 2
    classes[:cloud_rows] = 1
    classes[-20:, -20:] = 255
    percent = np.where(classes == 255, 255, 25).astype(np.uint8)
    with ProductWriter(folder, name, geobox, probability=False, tags={}) as writer:
        writer.write_rows(0, classes, percent)
        outputs = dict(writer.finish())
        counts = dict(writer.counts)
    if quicklook:
        outputs["quicklook"] = write_quicklook(scene, outputs["mask"], folder / f"{name}_quicklook.png", counts)
    card_path = find_model("default").card
    item = make_item(
        scene,
        geobox=geobox,
        outputs=outputs,
        counts=counts,
        card=ModelCard.model_validate_json(card_path.read_text(encoding="utf-8")),
        card_path=card_path,
        model_sha256="0" * 64,
        bands=[band.name for band in scene.bands],
        options=Options(),
        warnings=warnings,
        fingerprint="f" * 64,
        created=dt.datetime(2024, 7, 1, tzinfo=dt.UTC),
    )
    return write_item(item, folder / f"{name}.json")


def edit_item(path: Path, **changes: object) -> None:
    """Change an item: ``id``, ``assets`` and the like; ``properties`` are added to those that are there."""
    told = json.loads(path.read_text(encoding="utf-8"))
    told["properties"].update(changes.pop("properties", {}))
    told["assets"].update(changes.pop("assets", {}))
    told.update(changes)
    path.write_text(json.dumps(told), encoding="utf-8")
