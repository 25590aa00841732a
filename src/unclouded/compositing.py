"""Composites of many scenes, or of an xarray cube: what ``unclouded.composite`` does.

Scenes are read window by window, so that memory holds one window of all dates, whatever the scenes' size. Cubes may be
Dask arrays; the result is then lazy, and the same however they are chunked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .composite_stack import Stack, certain, clear_of, days_from
from .errors import InputError
from .infer.composites import METHODS, NO_DATE, Composite, Method, best_scores, compose, reach
from .options import Options

if TYPE_CHECKING:
    import xarray

METRES_PER_DEGREE = 111_320.0

BUFFER = 2
"""Pixels around cloud and shadow that are not used either, by default."""


@dataclass(frozen=True)
class Composited:
    """A composite.

    Attributes:
        scenes: names of the dates, by number.
        image: reflectance, (band, y, x) float32, NaN where no date is clear; None where it went to files.
        date: number of the date, (y, x) uint16, 65535 where none; None where it went to files.
        count: clear dates of each pixel, (y, x) uint16; None where it went to files.
        filled_percent: share of the pixels that some date shows; None for lazy arrays.
        outputs: paths of the files by product: ``image``, ``dates``, ``item``; empty where nothing was written.
    """

    scenes: tuple[str, ...]
    image: xarray.DataArray | None = None
    date: xarray.DataArray | None = None
    count: xarray.DataArray | None = None
    filled_percent: float | None = None
    outputs: dict[str, Path] = field(default_factory=dict)


def composite(
    scenes: Any,
    *,
    method: Method = "median",
    masks: Any = None,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    buffer: int = BUFFER,
    output: str | os.PathLike[str] | None = None,
    name: str = "composite",
    overwrite: bool = False,
    resume: bool = False,
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> Composited:
    """One clear image out of many dates of one place.

    Args:
        scenes: paths of products, STAC items or Scenes, whose grids have the same reference system and pixels; or a
            DataArray (time, band, y, x) of reflectance, which may be a Dask array.
        method: ``median``, ``medoid``, ``geomedian`` or ``best``, see :func:`unclouded.infer.composites.compose`.
        masks: what hides the ground. For scenes a folder with the output of ``unclouded mask``, or one class raster
            (y, x) per scene; None masks them now. For a DataArray a DataArray (time, y, x) of classes.
        bands: names of the bands; None takes the optical bands that all scenes have.
        target: date that ``best`` prefers, YYYY-MM-DD; None prefers none.
        buffer: pixels around cloud and shadow that are not used either.
        output: folder for the files, which are written while they are made; None keeps the result in memory.
        name: first part of the files' names.
        overwrite: replace existing files.
        resume: keep existing, complete files that were made of the same scenes, masks and settings.
        options: settings of the masking that is done now.
        progress: called with the share done, 0 to 1.

    Returns:
        Image, dates and counts, or with ``output`` the paths of the files that hold them.

    Raises:
        InputError: scenes do not fit together, or an argument is impossible.
        OutputError: files exist already or cannot be written.

    Example:
        june = unclouded.composite(sorted(Path("june").glob("*.SAFE")), method="geomedian", output="out")
    """
    if method not in METHODS:
        raise InputError(
            f"The method '{method}' is unknown.",
            expected=f"Methods are {', '.join(METHODS)}.",
            remedy="Choose one of these.",
        )
    if buffer < 0:
        raise InputError(
            f"The buffer is {buffer} pixels.", expected="It is 0 or more.", remedy="Pass for example --buffer 2."
        )
    if hasattr(scenes, "dims"):
        return _of_cube(scenes, masks, method, target, buffer)
    stack = Stack.open(scenes, bands)
    options = options or Options()
    kept = None if output is None else Path(output).expanduser()
    same = ""
    if kept is not None:
        from .write.composite import paths_of
        from .write.resume import plan_files

        same = stack.fingerprint(masks, method, target, buffer, options)
        paths = paths_of(kept, name)
        if not plan_files(kept, name, paths, list(paths.values()), same, overwrite=overwrite, resume=resume):
            return _finished_before(stack, paths)
    with ExitStack() as around:
        read_mask = stack.masks(masks, method, options, around)
        parts = stack.windows(read_mask, method, target, buffer, progress)
        if kept is not None:
            return _to_files(stack, parts, kept, name, method, target, buffer, same)
        return _in_memory(stack, parts)


def _in_memory(stack: Stack, parts: Iterator[tuple[int, int, Composite]]) -> Composited:
    shape = tuple(int(size) for size in stack.grid.shape)
    image = np.empty((len(stack.bands), *shape), np.float32)
    dates, count = np.empty(shape, np.uint16), np.empty(shape, np.uint16)
    for row, col, part in parts:
        height, width = part.date.shape
        place = (slice(row, row + height), slice(col, col + width))
        image[:, place[0], place[1]], dates[place], count[place] = part.image, part.date, part.count
    from .labelled import labelled

    names = [band.name for band in stack.bands]
    ids = tuple(scene.id for scene in stack.scenes)
    return Composited(
        ids,
        labelled(image, stack.grid, name="reflectance", attrs={"units": "1"}, first_axis=("band", names)),
        labelled(dates, stack.grid, name="date", attrs={"scenes": list(ids), "missing": NO_DATE}),
        labelled(count, stack.grid, name="count", attrs={}),
        100.0 * float((dates != NO_DATE).mean()),
    )


def _to_files(
    stack: Stack,
    parts: Iterator[tuple[int, int, Composite]],
    folder: Path,
    name: str,
    method: str,
    target: str | None,
    buffer: int,
    same: str,
) -> Composited:
    from .write.composite import CompositeWriter, write_composite_item
    from .write.resume import FINGERPRINT

    valid = 0
    with CompositeWriter(folder, name, stack.grid, [band.name for band in stack.bands]) as writer:
        for row, col, part in parts:
            writer.write(row, col, part)
            valid += int((part.date != NO_DATE).sum())
        outputs = writer.finish()
    total = int(stack.grid.shape.y) * int(stack.grid.shape.x)
    properties = {
        "unclouded:method": method,
        "unclouded:target": target,
        "unclouded:buffer": buffer,
        "unclouded:level": stack.scenes[0].level,
        "unclouded:filled_percent": round(100.0 * valid / total, 4),
        FINGERPRINT: same,
    }
    outputs["item"] = write_composite_item(folder, name, stack.grid, stack.bands, stack.scenes, properties)
    return Composited(
        tuple(scene.id for scene in stack.scenes), filled_percent=100.0 * valid / total, outputs=outputs
    )


def _finished_before(stack: Stack, paths: dict[str, Path]) -> Composited:
    """The composite of an earlier run of the same kind, which was complete."""
    filled = json.loads(paths["item"].read_text(encoding="utf-8"))["properties"]["unclouded:filled_percent"]
    return Composited(tuple(scene.id for scene in stack.scenes), filled_percent=float(filled), outputs=dict(paths))


def _on_coordinates(masks: Any, cube: Any) -> Any:
    """Masks with the coordinates of their cube; those of the same pixels may differ in the last digits."""
    for axis in ("time", "y", "x"):
        ours, theirs = cube[axis].values, masks[axis].values
        same = ours.shape == theirs.shape
        if same and axis != "time":
            step = abs(float(ours[1] - ours[0])) if ours.size > 1 else 1.0
            same = bool(np.allclose(ours, theirs, rtol=0, atol=0.01 * step))
        elif same:
            same = bool((ours == theirs).all())
        if not same:
            raise InputError(
                f"The coordinates '{axis}' of the masks are not those of the cube.",
                expected="Masks and cube have the same dates and pixels.",
                remedy="Mask the cube itself, or bring the masks to its grid and dates.",
            )
    return masks.assign_coords({axis: cube[axis] for axis in ("y", "x")})


def _of_cube(cube: Any, masks: Any, method: Method, target: str | None, buffer: int) -> Composited:
    """The composite of a DataArray, lazy where that is lazy."""
    import xarray

    if set(cube.dims) != {"time", "band", "y", "x"} or not hasattr(masks, "dims") or set(masks.dims) != {
        "time", "y", "x",
    }:  # fmt: skip
        raise InputError(
            f"A cube with the axes {', '.join(map(str, cube.dims))} came with masks"
            f" {', '.join(map(str, getattr(masks, 'dims', ()))) or 'of another kind'}.",
            expected="The cube is a DataArray (time, band, y, x), the masks one of classes (time, y, x).",
            remedy="Rename the axes, and pass masks=, for example of unclouded.mask or a decoded quality band.",
        )
    cube = cube.transpose("time", "band", "y", "x")
    masks = masks.transpose("time", "y", "x")
    masks = _on_coordinates(masks, cube)
    times = [np.datetime_as_string(time, unit="D") for time in cube.time.values.astype("datetime64[ns]")]
    days = days_from(times, target)
    pixel_m = float(abs(cube.x[1] - cube.x[0])) if cube.sizes["x"] > 1 else 1.0
    if str(cube.x.attrs.get("units", "")).startswith("degree"):
        pixel_m *= METRES_PER_DEGREE
    depth = max(buffer, reach(pixel_m) if method == "best" else 0)

    def judged(classes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score of every date and pixel, NaN where it may not be used."""
        clear, hidden = clear_of(classes, buffer)
        scores = np.zeros(classes.shape, np.float32)
        if method == "best":
            scores = best_scores(certain(classes), hidden, days=days, pixel_m=pixel_m)
        return np.where(clear, scores, np.float32(np.nan))

    if cube.chunks is not None or masks.chunks is not None:
        cube, masks = cube.chunk(time=-1, band=-1), masks.chunk(time=-1)
        looked = masks.data.map_overlap(judged, depth=(0, depth, depth), boundary="none", dtype=np.float32)
    else:
        looked = judged(masks.values)
    scores = xarray.DataArray(looked, masks.coords, masks.dims)

    def composed(values: NDArray[np.float32], scores: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        stack, judged_by = np.moveaxis(values, (-2, -1), (0, 1)), np.moveaxis(scores, -1, 0)
        found = compose(stack, np.isfinite(judged_by), method, scores=judged_by)
        return np.moveaxis(found.image, 0, -1), found.date, found.count

    image, dates, count = xarray.apply_ufunc(
        composed,
        cube,
        scores,
        input_core_dims=[["time", "band"], ["time"]],
        output_core_dims=[["band"], [], []],
        dask="parallelized",
        output_dtypes=[np.float32, np.uint16, np.uint16],
    )
    return Composited(tuple(str(time) for time in times), image.transpose("band", "y", "x"), dates, count)
