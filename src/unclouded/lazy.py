"""Masks of Dask arrays, computed when and where they are asked for.

The eager path cuts a scene into tiles by its size and the options alone. Here each of these tiles is one task, and
each block of the result is made of the few tiles that reach into it, by the same steps in the same order. The values
are therefore those of the eager path to the last bit, however the input is chunked. Tasks carry the name of the model
and the plan; each process loads the weights when its first tile comes.

    (band, y, x) --tile--> logits on the model grid --block--> classes, uncertainty, probability on the output grid
"""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .classes import CLASSES
from .infer.calibrate import fold
from .infer.plan import Plan, coarser, make_plan
from .infer.predict import Finisher, Strip, read_input
from .infer.runner import load_runner
from .infer.tiling import Axis, axis
from .labelled import labelled
from .models.card import ModelCard
from .normalise import Normaliser
from .options import Options
from .raster import ArrayBand
from .readers import Request
from .readers import array as reader
from .readers.checks import check_scene
from .result import ATTRIBUTES
from .scene import Radiometry, Scene

if TYPE_CHECKING:
    import xarray

_Span = tuple[int, int]
_OVERVIEW_ROWS = 64
_LOADING = threading.Lock()


def lazy_mask(source: Any, options: Options, reading: Mapping[str, Any]) -> xarray.Dataset:
    """The mask of a Dask-backed array, not computed yet.

    Args:
        source: DataArray (band, y, x) or (time, band, y, x), or Dataset with one variable (y, x) or (time, y, x) for
            each band, as odc-stac makes it.
        options: settings; ``threads=0`` means one thread for each task, as Dask runs several.
        reading: how numbers become reflectance, see :func:`unclouded.open_scene`.

    Returns:
        ``classes`` and ``uncertainty``, and ``probability`` if the options ask for it, as in
        :class:`unclouded.Result`, with the axis ``time`` where the source has one. Its chunks follow the network's
        windows.

    Raises:
        InputError, RadiometryError, ModelError: as :func:`unclouded.mask`. Decimal numbers that are no reflectance
            are found when they are computed.
    """
    import xarray

    request = Request(**reading, resolution_m=options.resolution_m)
    timed = "time" in source.dims
    dates = [source.isel(time=[number]) for number in range(source.sizes["time"])] if timed else [source]
    runner = load_runner(options.model, options.threads or 1)
    made = []
    for number, one in enumerate(dates):
        scene, planes = _opened(one, request)
        plan = make_plan(
            scene,
            runner.card,
            options.resolution_m,
            max_missed_cloud=options.max_missed_cloud,
            max_lost_clear=options.max_lost_clear,
        )
        if number == 0:
            for warning in plan.warnings:
                warnings.warn(warning, stacklevel=3)
        made.append(_dataset(plan, planes, options, one))
    out = made[0]
    if timed:
        out = xarray.concat(made, source["time"], coords="minimal", compat="override", join="override")
    return out.assign_attrs(model=f"{runner.card.name} {runner.card.version}", model_sha256=runner.sha256)


def _opened(source: Any, request: Request) -> tuple[Scene, dict[str, Any]]:
    """A scene that knows everything but the pixels, and the plane of each band."""
    source = source.squeeze("time") if "time" in source.dims else source
    planes = reader._planes(source)
    if request.bands is not None:
        planes = reader._renamed(planes, request)

    def empty(plane: Any) -> Any:
        fill = np.array(np.nan if np.dtype(plane.dtype).kind == "f" else 0, plane.dtype)
        return plane.copy(data=np.broadcast_to(fill, plane.shape))

    template = source.map(empty, keep_attrs=True) if hasattr(source, "data_vars") else empty(source)
    scene = check_scene(reader.ArrayReader().open(template, request))
    return replace(scene, sources={}), dict(zip((band.name for band in scene.bands), planes.values(), strict=True))


def _stacked(source: Any, planes: list[Any]) -> Any:
    """Planes as one Dask array (band, y, x), each chunk with all bands."""
    import dask.array

    if hasattr(source, "data_vars"):
        return dask.array.stack([dask.array.asarray(plane.data) for plane in planes]).rechunk({0: -1})
    # Taken at once: a task for each band of each chunk would make the graph many times as large.
    axis_name = next(name for name in source.dims if name not in planes[0].dims and name != "time")
    data = source.squeeze("time") if "time" in source.dims else source
    data = data.transpose(axis_name, *planes[0].dims).data.rechunk({0: -1})
    labels = source.coords[axis_name].values.tolist()
    order = [labels.index(plane.coords[axis_name].item()) for plane in planes]
    return data if order == list(range(len(labels))) else data[order]


@dataclass(frozen=True)
class _Job:
    """What every task of one date needs; small, the weights are not in it.

    Attributes:
        plan: bands and grids; its scene has no pixels.
        factor: native pixels along a pixel of the model grid.
        size: native rows and columns.
        options: model, threads and whether probabilities are wanted.
    """

    plan: Plan
    factor: int
    size: tuple[int, int]
    options: Options

    @property
    def card(self) -> ModelCard:
        return self.plan.card

    @property
    def names(self) -> list[str]:
        return [band.name for band in self.plan.bands]

    def axes(self) -> tuple[Axis, Axis]:
        """The tiles along rows and columns, as :func:`unclouded.infer.predict.model_rows` cuts them."""
        only = self.card.tile
        rows, cols = (
            axis(int(size), only or self.options.tile, self.options.halo, self.card.stride, exact=only is not None)
            for size in self.plan.model_grid.shape
        )
        return rows, cols

    def finisher(self) -> Finisher:
        model, output = (
            (int(grid.shape.y), int(grid.shape.x)) for grid in (self.plan.model_grid, self.plan.output_grid)
        )
        return Finisher(model, output, self.plan.zoom, self.plan.cloud_from)

    def native(self, rows: _Span, cols: _Span) -> tuple[slice, slice]:
        """The native pixels of a window of the model grid."""
        first, second = (
            slice(low * self.factor, min(high * self.factor, size))
            for (low, high), size in zip((rows, cols), self.size, strict=True)
        )
        return first, second

    def scene(self, pixels: NDArray[Any], rows: slice, cols: slice) -> Scene:
        """The scene with the pixels of a window, (band, y, x)."""
        scene = self.plan.scene
        affine = scene.geobox.affine * scene.geobox.affine.translation(cols.start, rows.start)
        sources: dict[str, Any] = {}
        for name, plane in zip(self.names, pixels, strict=True):
            sources[name] = ArrayBand.of(plane, affine, f"array '{name}'")
        return replace(scene, sources=sources)


@dataclass(frozen=True)
class _Tile:
    """A tile's part of the result: logits (k, y, x), None without data, and missing pixels, from ``top``, ``left``."""

    top: int
    left: int
    logits: NDArray[np.float32] | None
    missing: NDArray[np.bool_]


def _dataset(plan: Plan, planes: Mapping[str, Any], options: Options, source: Any) -> xarray.Dataset:
    import dask
    import dask.array
    import xarray
    from dask.highlevelgraph import HighLevelGraph

    data = _stacked(source, [planes[band.name] for band in plan.bands])
    factor = max(1, round(plan.model_grid.affine.a / plan.scene.geobox.affine.a))
    job = _Job(plan, factor, (data.shape[1], data.shape[2]), options)
    rows, cols = job.axes()
    shared = dask.delayed(job, pure=False)
    told = dask.delayed(_told, pure=False)(job, _overview(job, shared, data))
    tiles = {}
    for i in range(len(rows.starts)):
        for j in range(len(cols.starts)):
            window = data[:, *job.native(*(_shown(one, n) for one, n in ((rows, i), (cols, j))))]
            tiles[i, j] = dask.delayed(_tile, pure=False)(shared, told, i, j, window)
    finisher = job.finisher()
    downs, acrosses = (
        _cuts(tiles_of, plan.zoom, size) for tiles_of, size in zip((rows, cols), finisher.output_shape, strict=True)
    )
    strips = {}
    for (a, down), (b, across) in product(enumerate(downs), enumerate(acrosses)):
        needed = finisher.needed(down, across)
        touched = [tiles[place] for place in product(_reaching(rows, needed[0]), _reaching(cols, needed[1]))]
        strips[a, b] = dask.delayed(_block, pure=False)(shared, down, across, touched)
    chunks = tuple(tuple(last - first for first, last in spans) for spans in (downs, acrosses))

    def assembled(field: str, dtype: Any, before: tuple[int, ...] = ()) -> Any:
        name = f"unclouded-{field}-{uuid.uuid4().hex}"
        first = (0,) * len(before)
        layer: dict[Any, Any] = {(name, *first, *place): (getattr, strip.key, field) for place, strip in strips.items()}
        graph = HighLevelGraph.from_collections(name, layer, dependencies=list(strips.values()))
        return dask.array.Array(graph, name, (*((size,) for size in before), *chunks), dtype)

    grid = plan.output_grid
    arrays = {
        "classes": labelled(assembled("classes", np.uint8), grid, name="classes", attrs=ATTRIBUTES["classes"]),
        "uncertainty": labelled(
            assembled("uncertainty", np.float32), grid, name="uncertainty", attrs=ATTRIBUTES["uncertainty"]
        ),
    }
    if options.probability:
        arrays["probability"] = labelled(
            assembled("probability", np.float32, (len(CLASSES),)),
            grid,
            name="probability",
            attrs=ATTRIBUTES["probability"],
            first_axis=("class", [one.name for one in CLASSES]),
        )
    out = xarray.Dataset(arrays)
    own = {name: source[name] for name in ("y", "x") if name in source.coords}
    if len(own) == 2 and grid.shape == job.size and source.sizes["y"] == job.size[0]:
        out = out.assign_coords(own)  # the very same numbers, so that xarray aligns both
    return out


def _overview(job: _Job, shared: Any, data: Any) -> list[Any]:
    """Overviews of strips of the scene, for models that want statistics of it; empty for others."""
    import dask

    scaling = job.card.scaling
    wanted = job.card.front_end == "senseiv2" and job.card.percentiles
    if not wanted and (scaling.mode == "none" or scaling.scope != "scene"):
        return []
    step = job.plan.overview_step()
    grid = coarser(job.plan.model_grid, step)
    out = []
    for first in range(0, int(grid.shape.y), _OVERVIEW_ROWS):
        last = min(first + _OVERVIEW_ROWS, int(grid.shape.y))
        model_rows = (first * step, min(last * step, int(job.plan.model_grid.shape.y)))
        window = data[:, *job.native(model_rows, (0, int(job.plan.model_grid.shape.x)))]
        out.append(dask.delayed(_overview_rows, pure=False)(shared, first, last, model_rows, window))
    return out


def _overview_rows(job: _Job, first: int, last: int, model_rows: _Span, pixels: NDArray[Any]) -> NDArray[np.float32]:
    native = job.native(model_rows, (0, int(job.plan.model_grid.shape.x)))
    grid = coarser(job.plan.model_grid, job.plan.overview_step())
    return job.scene(pixels, *native).read(grid[first:last, :], job.names)


def _told(job: _Job, overview: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32] | None, Normaliser | None]:
    """Descriptors and normalisation of a scene, from its overview where they depend on it."""
    plan = job.plan
    if overview:
        grid = coarser(plan.model_grid, plan.overview_step())
        sources: dict[str, Any] = {}
        for name, plane in zip(job.names, np.concatenate(overview, axis=1), strict=True):
            sources[name] = ArrayBand.of(plane, grid.affine, f"array '{name}'")
        known = dict.fromkeys(job.names, Radiometry(1.0, 0.0, None, "array"))
        plan = replace(plan, scene=replace(plan.scene, sources=sources, radiometry=known))
    return plan.descriptors(), plan.normaliser()


def _shown(tiles: Axis, index: int) -> _Span:
    """The pixels of the scene that a tile shows, its reflected surroundings included."""
    pixels = tiles.pixels(index)
    return int(pixels.min()), int(pixels.max()) + 1


def _reach(tiles: Axis, index: int) -> _Span:
    """The pixels of the scene for which a tile counts."""
    low, high = tiles.inside(index)
    counts = np.flatnonzero(tiles.weights(index)[low - tiles.starts[index] : high - tiles.starts[index]])
    return low + int(counts[0]), low + int(counts[-1]) + 1


def _reaching(tiles: Axis, span: _Span) -> list[int]:
    """The tiles that count for some of the pixels of a span."""
    reach = (_reach(tiles, index) for index in range(len(tiles.starts)))
    return [index for index, (low, high) in enumerate(reach) if low < span[1] and high > span[0]]


def _cuts(tiles: Axis, zoom: float, size: int) -> list[_Span]:
    """The output pixels of one axis in blocks of about a tile each, cut where one tile takes over from the other."""
    seams = {round((start + tiles.halo) * zoom) for start in tiles.starts[1:]}
    edges = [0, *sorted(seam for seam in seams if 0 < seam < size), size]
    return list(pairwise(edges))


def _tile(
    job: _Job, told: tuple[NDArray[np.float32] | None, Normaliser | None], i: int, j: int, pixels: NDArray[Any]
) -> _Tile:
    """Run the network on one tile."""
    descriptors, normaliser = told
    axes = job.axes()
    rows, cols = (_shown(tiles, index) for tiles, index in zip(axes, (i, j), strict=True))
    scene = job.scene(pixels, *job.native(rows, cols))
    for band in job.plan.bands:
        record = scene.radiometry[band.name]
        source = scene.sources[band.name]
        if record.source == "dtype-float" and band.kind == "optical" and isinstance(source, ArrayBand):
            reader._check_range(source, record, band.name)
    window = job.plan.model_grid[rows[0] : rows[1], cols[0] : cols[1]]
    image, missing = read_input(scene, window, job.names, normaliser)
    (top, bottom), (left, right) = (_reach(tiles, index) for tiles, index in zip(axes, (i, j), strict=True))
    kept = missing[top - rows[0] : bottom - rows[0], left - cols[0] : right - cols[0]]
    if missing.all():
        return _Tile(top, left, None, kept)
    down, across = axes[0].pixels(i) - rows[0], axes[1].pixels(j) - cols[0]
    with _LOADING:  # tasks of several threads would each load it at first
        runner = load_runner(job.options.model, job.options.threads or 1)
    second = None if descriptors is None else descriptors[np.newaxis]
    logits = runner.run(image[:, down][:, :, across][np.newaxis], second)[0]
    y, x = axes[0].starts[i], axes[1].starts[j]
    # A copy: a view would keep the whole tile in the worker's memory.
    return _Tile(top, left, logits[:, top - y : bottom - y, left - x : right - x].copy(), kept)


def _block(job: _Job, down: _Span, across: _Span, tiles: list[_Tile]) -> Strip:
    """Blend the tiles that reach into a block of the output, and finish it."""
    finisher = job.finisher()
    (top, bottom), (left, right) = finisher.needed(down, across)
    rows, cols = job.axes()
    total = np.zeros((len(job.card.classes), bottom - top, right - left), np.float32)
    missing = np.zeros(total.shape[1:], bool)
    for tile in tiles:
        height, width = tile.missing.shape
        y = max(top, tile.top), min(bottom, tile.top + height)
        x = max(left, tile.left), min(right, tile.left + width)
        there = np.s_[y[0] - tile.top : y[1] - tile.top, x[0] - tile.left : x[1] - tile.left]
        here = np.s_[y[0] - top : y[1] - top, x[0] - left : x[1] - left]
        missing[here] |= tile.missing[there]
        if tile.logits is not None:
            part = tile.logits[:, *there].copy()
            part *= _weights(rows, tile.top, y)[:, None]
            part *= _weights(cols, tile.left, x)
            total[:, *here] += part
    scores = fold(total, job.card.calibration_for(job.plan.scene.level), job.card.classes)
    return finisher.window(scores, missing, down, across, job.options.probability)


def _weights(tiles: Axis, first: int, span: _Span) -> NDArray[np.float32]:
    """Weights that the tile which counts from ``first`` on has for a span of pixels."""
    index = next(n for n in range(len(tiles.starts)) if _reach(tiles, n)[0] == first)
    start = tiles.starts[index]
    return tiles.weights(index)[span[0] - start : span[1] - start]
