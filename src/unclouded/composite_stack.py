"""Scenes of one place on one grid, and what hides the ground in each: read together, window by window."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox, geobox_union_conservative
from rasterio.errors import RasterioError
from rasterio.windows import Window

from .errors import InputError
from .infer.composites import Composite, Method, best_scores, compose, distance_to, reach
from .infer.runner import load_runner
from .options import Options
from .scene import Band, Scene, metres_per_pixel

_SIDE = 512
_BYTES = 512 * 2**20
"""Largest stack of one window."""


def mask_options(options: Options, method: str) -> Options:
    """Settings that scenes are masked with for a composite.

    >>> mask_options(Options(quicklook=True), "best").probability
    True
    """
    return options.but(
        probability=method == "best", quicklook=False, polygons=None, resolution_m=None, overwrite=False, resume=False
    )


@dataclass(frozen=True)
class Stack:
    """Scenes on one grid.

    Attributes:
        scenes: in the order of their time; those without time come last, in the order given.
        bands: bands of the composite.
        names: for every scene the names of these bands.
        grid: grid that holds all scenes.
    """

    scenes: tuple[Scene, ...]
    bands: tuple[Band, ...]
    names: tuple[tuple[str, ...], ...]
    grid: GeoBox

    @classmethod
    def open(cls, sources: Any, bands: Sequence[str] | None) -> Stack:
        """Open scenes, and see whether they fit together.

        Raises:
            InputError: they do not, or there are none.
        """
        from .readers import open_scene

        if isinstance(sources, (str, os.PathLike, Scene)):
            sources = [sources]
        scenes = [open_scene(source) for source in sources]
        if not scenes:
            raise InputError(
                "No scene was given.", expected="A composite is made of one scene or more.", remedy="Name some."
            )
        scenes.sort(key=lambda scene: (scene.datetime is None, scene.datetime or ""))
        if len({scene.id for scene in scenes}) < len(scenes):
            double = next(one.id for n, one in enumerate(scenes) if one.id in {o.id for o in scenes[:n]})
            raise InputError(
                f"Two scenes are called '{double}'.",
                expected="Every scene counts once.",
                remedy="Leave one out, or give it another name.",
            )
        if len(levels := {scene.level for scene in scenes}) > 1:
            raise InputError(
                f"The scenes have the levels {', '.join(sorted(levels))}.",
                expected="All are top-of-atmosphere, or all are surface reflectance.",
                remedy="Composite each level by itself.",
            )
        chosen, names = _common_bands(scenes, bands)
        try:
            grid = geobox_union_conservative([scene.geobox for scene in scenes])
        except ValueError as err:
            raise InputError(
                f"The grids of the scenes do not fit: {err}.",
                expected="All have the same reference system and pixel size, and pixel edges that coincide.",
                remedy="Warp the scenes to one grid first, for example with gdalwarp -tap, or leave out other tiles.",
            ) from err
        return cls(tuple(scenes), chosen, names, grid)

    def fingerprint(self, masks: Any, method: str, target: str | None, buffer: int, options: Options) -> str:
        """Checksum over everything that decides the files: scenes, their masks, bands, settings.

        Masks in a folder count as their items say that they were made, so that they are the same whether they were
        made before or are still to be made.
        """
        from .write.resume import FINGERPRINT, fingerprint

        def of_folder(folder: Path, scene: Scene) -> list[Any]:
            try:
                item = json.loads((folder / f"{scene.id}.json").read_text(encoding="utf-8"))
                return [item["properties"][FINGERPRINT]]
            except (OSError, ValueError, KeyError, TypeError):  # masks of other makers have no such item
                paths = [folder / f"{scene.id}_{product}.tif" for product in ("mask", "prob")]
                return [[path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.exists()]

        seen: list[Any]
        if masks is None:
            sha256 = load_runner(options.model, options.threads).sha256
            seen = [[fingerprint(scene, sha256, mask_options(options, method))] for scene in self.scenes]
        elif isinstance(masks, (str, os.PathLike)):
            seen = [of_folder(Path(masks).expanduser(), scene) for scene in self.scenes]
        else:
            seen = [hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest() for one in masks]
        parts = {
            "scenes": [fingerprint(scene, "", Options()) for scene in self.scenes],
            "masks": seen,
            "bands": self.names,
            "settings": [method, target, buffer],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def masks(self, masks: Any, method: str, options: Options, around: ExitStack) -> list[SceneMask]:
        """The mask of every scene."""
        if masks is None:
            from . import mask

            made = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="unclouded-")))
            for scene in self.scenes:
                mask(scene, mask_options(options, method), output=made)
            masks = made
        if isinstance(masks, (str, os.PathLike)):
            return [_FileMask.find(Path(masks).expanduser(), scene) for scene in self.scenes]
        arrays = [np.asarray(one) for one in masks]
        for number, scene in enumerate(self.scenes):
            if len(arrays) != len(self.scenes) or arrays[number].shape != tuple(scene.geobox.shape):
                raise InputError(
                    f"{len(arrays)} masks came with {len(self.scenes)} scenes, or one has another size.",
                    expected=f"One (y, x) of classes per scene, in the order of time; '{scene.id}' has"
                    f" {scene.geobox.shape.y} x {scene.geobox.shape.x} pixels.",
                    remedy="Pass a folder with the output of 'unclouded mask' instead.",
                )
        return [_ArrayMask(array) for array in arrays]

    def windows(
        self,
        masks: Sequence[SceneMask],
        method: Method,
        target: str | None,
        buffer: int,
        progress: Callable[[float], None] | None,
    ) -> Iterator[tuple[int, int, Composite]]:
        """The composite window by window, with the first row and column of each."""
        days = days_from([scene.datetime for scene in self.scenes], target)
        angles = [scene.properties.get("view_zenith_deg") for scene in self.scenes]
        view = cast("list[float]", angles) if all(angle is not None for angle in angles) else None
        pixel_m = self.scenes[0].pixel_m or metres_per_pixel(self.grid)
        halo = max(buffer, reach(pixel_m) if method == "best" else 0)
        rows, cols = (int(size) for size in self.grid.shape)
        side = _SIDE if len(self.scenes) * len(self.bands) * _SIDE**2 * 4 <= _BYTES else _SIDE // 2
        places = [(row, col) for row in range(0, rows, side) for col in range(0, cols, side)]
        origins = [_offset(scene.geobox, self.grid) for scene in self.scenes]
        for number, (row, col) in enumerate(places):
            height, width = min(side, rows - row), min(side, cols - col)
            window = self.grid[row : row + height, col : col + width]
            values = np.stack(
                [scene.read(window, names) for scene, names in zip(self.scenes, self.names, strict=True)]
            )
            wide = (row - halo, col - halo, height + 2 * halo, width + 2 * halo)
            seen = [
                mask.read(wide[0] - first, wide[1] - left, *wide[2:])
                for mask, (first, left) in zip(masks, origins, strict=True)
            ]
            classes = np.stack([one[0] for one in seen])
            inner = (slice(None), slice(halo, halo + height), slice(halo, halo + width))
            clear, hidden = clear_of(classes, buffer)
            scores = None
            if method == "best":
                cloud = np.stack([one[1] for one in seen])
                scores = best_scores(cloud, hidden, days=days, view_zenith_deg=view, pixel_m=pixel_m)[inner]
            yield row, col, compose(values, clear[inner], method, scores=scores)
            if progress is not None:
                progress((number + 1) / len(places))


def clear_of(classes: NDArray[np.uint8], buffer: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels (date, y, x) that are clear and not within ``buffer`` pixels of cloud or shadow; and cloud and shadow.

    >>> clear_of(np.uint8([[[0, 0, 1, 255, 0, 0]]]), 1)[0].astype(int).ravel().tolist()
    [1, 0, 0, 0, 1, 1]
    """
    hidden = (classes >= 1) & (classes <= 3)
    clear = classes == 0
    if buffer:
        clear &= np.stack([distance_to(one, buffer + 1) > buffer for one in hidden])
    return clear, hidden


class SceneMask(ABC):
    """Classes and probability of cloud or shadow of one scene, read by windows that may reach beyond it."""

    @abstractmethod
    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Window of both."""


@dataclass(frozen=True)
class _ArrayMask(SceneMask):
    classes: NDArray[np.uint8]

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        out = np.full((height, width), 255, np.uint8)
        rows, cols = self.classes.shape
        top, left, end, right = max(row, 0), max(col, 0), min(row + height, rows), min(col + width, cols)
        if top < end and left < right:
            out[top - row : end - row, left - col : right - col] = self.classes[top:end, left:right]
        return out, certain(out)


@dataclass(frozen=True)
class _FileMask(SceneMask):
    path: Path
    probability: Path | None

    @classmethod
    def find(cls, folder: Path, scene: Scene) -> _FileMask:
        path, probability = (folder / f"{scene.id}_{product}.tif" for product in ("mask", "prob"))
        try:
            with rasterio.open(path) as file:
                fits = file.shape == tuple(scene.geobox.shape) and file.transform.almost_equals(scene.geobox.affine)
        except RasterioError as err:
            raise InputError(
                f"The mask {path} cannot be read: {err}.",
                expected="The folder of masks holds the output of 'unclouded mask' for every scene.",
                remedy="Mask the scenes first, or leave --masks out.",
            ) from err
        if not fits:
            raise InputError(
                f"The mask {path} has another grid than '{scene.id}'.",
                expected="Masks have the grid of their scene.",
                remedy="Mask the scene again, without --resolution.",
            )
        return cls(path, probability if probability.exists() else None)

    def read(self, row: int, col: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        window = Window(col, row, width, height)
        with rasterio.open(self.path) as file:
            classes: NDArray[np.uint8] = file.read(1, window=window, boundless=True, fill_value=255)
        if self.probability is None:
            return classes, certain(classes)
        with rasterio.open(self.probability) as file:
            clear = file.read(1, window=window, boundless=True, fill_value=255)
        return classes, np.where(clear == 255, np.nan, 1 - 0.01 * clear.astype(np.float32)).astype(np.float32)


def certain(classes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probability of cloud or shadow where only classes are known."""
    return np.where(classes == 255, np.nan, classes > 0).astype(np.float32)


def _common_bands(
    scenes: Sequence[Scene], wanted: Sequence[str] | None
) -> tuple[tuple[Band, ...], tuple[tuple[str, ...], ...]]:
    """Bands of the first scene that all have, and what each scene calls them; across sensors by common name."""
    same = len({scene.sensor for scene in scenes}) == 1

    def key(band: Band) -> str | None:
        return band.name if same else band.common_name

    tables = [{key(band): band.name for band in scene.bands if band.kind == "optical"} for scene in scenes]
    chosen = [
        band
        for band in scenes[0].bands
        if band.kind == "optical" and key(band) is not None and all(key(band) in table for table in tables)
    ]
    if wanted is not None:
        by_name = {name: band for band in chosen for name in (band.common_name, band.name) if name is not None}
        if lacking := [name for name in wanted if name not in by_name]:
            raise InputError(
                f"Not every scene has the band {', '.join(lacking)}.",
                expected=f"Bands that all have are {', '.join(band.name for band in chosen) or 'none'}.",
                remedy="Choose some of these with --bands, or leave scenes out.",
            )
        chosen = [by_name[name] for name in wanted]
    if not chosen:
        raise InputError(
            "The scenes have no optical band in common.",
            expected="Bands are compared by name, across sensors by common name such as red.",
            remedy="Composite the sensors one by one.",
        )
    return tuple(chosen), tuple(tuple(table[key(band)] for band in chosen) for table in tables)


def _offset(inner: GeoBox, outer: GeoBox) -> tuple[int, int]:
    """Row and column of the first pixel of one grid in another one."""
    relative = ~outer.affine * inner.affine
    return round(relative.f), round(relative.c)


def days_from(times: Sequence[str | None], target: str | None) -> list[float] | None:
    """Days between every time and the target; None without a target."""
    if target is None:
        return None
    try:
        wanted = date.fromisoformat(target)
        found = [datetime.fromisoformat(time or "").date() for time in times]
    except ValueError as err:
        raise InputError(
            f"The target is '{target}', and the scenes' times are {', '.join(str(time) for time in times)}.",
            expected="The target is a date such as 2023-08-15, and every scene has a time.",
            remedy="Correct the date, or leave --target out.",
        ) from err
    return [float((one - wanted).days) for one in found]
