"""Masks of the scene and of other dates in any of the forms that users have them in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from .errors import InputError
from .infer.remove_plan import ClassPlane
from .result import Result
from .scene import Scene


def class_plane(mask: Any, scene: Scene) -> ClassPlane | None:
    """A mask in any of the forms that users have it in."""
    if mask is None:
        return None
    grid = scene.geobox
    affine = grid.affine
    if isinstance(mask, Result):
        values, affine = mask.classes.values, mask.geobox.affine
    elif isinstance(mask, (str, os.PathLike)):
        import rasterio

        from .raster import header
        from .raster_files import environment, read_errors

        path = os.path.expanduser(os.fspath(mask))
        head = header(path)
        if head.crs is not None and grid.crs is not None and head.geobox().crs != grid.crs:
            raise InputError(
                f"The mask {path} is in {head.geobox().crs}, and the scene in {grid.crs}.",
                expected="Mask and scene have one reference system.",
                remedy="Warp the mask to the scene's grid, by nearest neighbour: gdalwarp -r near.",
            )
        with read_errors(path), environment(path), rasterio.open(path) as file:
            values = file.read(1)
        affine = head.affine
        _check_overlap(path, head.geobox(), scene)
    else:
        values = np.asarray(mask)
        if values.shape != tuple(grid.shape):
            raise InputError(
                f"The mask has the shape {values.shape}, and the scene {tuple(grid.shape)}.",
                expected="A mask that is an array lies on the scene's grid.",
                remedy="Pass the path of the mask's file, or resample it.",
            )
    known = np.isin(values, (0, 1, 2, 3, 255)) if values.dtype.kind in "iu" else np.zeros(1, bool)
    if not known.all():
        raise InputError(
            f"The mask holds {values.dtype} numbers that are no classes.",
            expected="Classes are 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 255 no data, whole numbers.",
            remedy="Translate other masks with unclouded.decode.",
        )
    return ClassPlane(values.astype(np.uint8), affine)


def _check_overlap(path: str, grid: GeoBox, scene: Scene) -> None:
    step = ~grid.affine * scene.geobox.affine
    corners = [step * (x, y) for x in (0, scene.geobox.shape.x) for y in (0, scene.geobox.shape.y)]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if max(xs) <= 0 or max(ys) <= 0 or min(xs) >= grid.shape.x or min(ys) >= grid.shape.y:
        raise InputError(
            f"The mask {path} lies beside the scene '{scene.id}'.",
            expected="Mask and scene show the same ground.",
            remedy="Pass the mask of this scene, or leave it out to have it made.",
        )


def date_planes(masks: Any, dates: Sequence[Scene]) -> list[ClassPlane] | None:
    if masks is None:
        return None
    if len(masks) != len(dates):
        raise InputError(
            f"{len(masks)} masks are given for {len(dates)} other dates.",
            expected="Every date has its mask, in the same order, or none has.",
            remedy="Leave them out to have all of them found.",
        )
    return [plane for one, scene in zip(masks, dates, strict=True) if (plane := class_plane(one, scene)) is not None]
