"""The loop: rows of a scene are read, cut into tiles, given to the network, blended, calibrated and released.

    scene --model_rows--> scores of four classes on the model grid --finish--> classes, uncertainty on the output grid

Both steps are generators that pass strips of rows from top to bottom. Memory is that of one row of tiles, whatever the
scene's height; the next rows are read while the network works. What is done to each pixel beside the network is done
to a few rows at a time, which stay in the processor's cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import NO_DATA
from ..normalise import Normaliser
from ..resample import Line, bilinear, block_mean, nearest
from ..saturation import Tally
from ..scene import Scene
from .calibrate import decide, doubt, fold, probabilities
from .plan import Plan
from .runner import Runner
from .tiling import Axis, RowBlender, axis

_CHUNK = 2**17
"""Output pixels that are finished at a time: their planes stay in the processor's cache."""

READ_ROWS = 128
"""Rows of the model grid that are read at a time."""

AHEAD = 1
"""Reads that may be done before their rows are needed."""

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


@dataclass(frozen=True)
class ModelRows:
    """Rows of the model grid, finished by the network.

    Attributes:
        first: number of the first row.
        scores: unnormalised log-probabilities, (class, y, x) float32, see :func:`unclouded.infer.calibrate.fold`.
        missing: pixels where a band that the model uses has no value, (y, x) bool.
    """

    first: int
    scores: NDArray[np.float32]
    missing: NDArray[np.bool_]


@dataclass(frozen=True)
class Strip:
    """Rows of the result.

    Attributes:
        first: number of the first row of the output grid.
        classes: codes of :data:`unclouded.classes.CLASSES`, 255 where missing, (y, x) uint8.
        uncertainty: see :func:`unclouded.infer.calibrate.doubt`, NaN where missing, (y, x) float32.
        probability: (class, y, x) float32, NaN where missing; None unless asked for.
    """

    first: int
    classes: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    probability: NDArray[np.float32] | None


def model_rows(
    plan: Plan,
    runner: Runner,
    *,
    tile: int,
    halo: int,
    prefetch: bool = True,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> Generator[ModelRows, None, None]:
    """Run the network over a scene, from top to bottom.

    Args:
        plan: bands and grids, see :func:`unclouded.infer.plan.make_plan`.
        runner: the network.
        tile, halo: see :func:`unclouded.infer.tiling.axis`; a card with a ``tile`` of its own overrides the first.
        prefetch: read the next rows in a second thread while the network works.
        progress: called after each tile.
        tally: counts the saturated pixels of what is read.

    Yields:
        All rows of the model grid, in order and without gaps.

    Raises:
        InputError: the scene cannot be read, or the halo leaves nothing of the tiles.
    """
    stride, only = plan.card.stride, plan.card.tile
    shape = (int(size) for size in plan.model_grid.shape)
    rows, cols = (axis(size, only or tile, halo, stride, exact=only is not None) for size in shape)
    descriptors = plan.descriptors()
    second = None if descriptors is None else descriptors[np.newaxis]
    calibration = plan.card.calibration_for(plan.scene.level)
    blender = RowBlender(len(plan.card.classes), rows, cols)
    room = np.empty(len(plan.bands) * rows.length(0) * cols.length(0), np.float32)  # of the largest tile
    step = max(1, int(_CHUNK / max(1.0, plan.zoom) ** 2) // cols.size)
    total = len(rows.starts) * len(cols.starts)
    with _windows(plan, rows, prefetch, tally) as windows, runner.keeping():
        for i, window in enumerate(windows):
            for j in range(len(cols.starts)):
                size = len(plan.bands), rows.length(i), cols.length(j)
                image = room[: size[0] * size[1] * size[2]].reshape(size)
                if window.copy_tile(rows.pixels(i), cols.pixels(j), image):  # else there is nothing to predict
                    blender.add(i, j, runner.run(image[np.newaxis], second)[0])
                if progress is not None:
                    progress((i * len(cols.starts) + j + 1) / total)
            first, logits = blender.release(i)
            for top in range(0, logits.shape[1], step):
                scores = fold(logits[:, top : top + step], calibration, plan.card.classes)
                yield ModelRows(first + top, scores, window.missing(first + top, first + top + scores.shape[1]))


def finish(
    parts: Iterable[ModelRows],
    model_shape: tuple[int, int],
    output_shape: tuple[int, int],
    zoom: float,
    *,
    probability: bool = False,
    cloud_from: float | None = None,
) -> Iterator[Strip]:
    """Bring scores to the output grid and turn them into classes, uncertainty and probabilities.

    Scores are interpolated, not probabilities: edges stay sharp, and a pixel between two certain ones is uncertain.
    A coarser output has the mean probability of the model pixels under each of its pixels. A missing model pixel
    makes every output pixel that lies in it, or that it is averaged into, missing.

    Args:
        parts: rows of the model grid in order.
        model_shape: rows and columns of the model grid.
        output_shape: rows and columns of the output grid; both grids start at the same corner.
        zoom: pixel size of the model grid over that of the output grid.
        probability: whether the strips carry probabilities.
        cloud_from: see :func:`unclouded.infer.calibrate.decide`.

    Yields:
        All rows of the output grid, in order and without gaps.
    """
    block = max(1, round(1.0 / zoom))
    if block > 1:
        parts = _averaged(parts, model_shape[0], block)
        model_shape, zoom = (-(-model_shape[0] // block), -(-model_shape[1] // block)), zoom * block
    rows = Line.zoom(model_shape[0], zoom, output_shape[0])
    cols = Line.zoom(model_shape[1], zoom, output_shape[1])
    last_needed = np.minimum(np.floor(rows.positions() + 1e-6).astype(np.intp) + 2, rows.size)
    step = max(1, _CHUNK // cols.count)
    done = 0
    held: ModelRows | None = None
    for part in parts:
        held = part if held is None else _joined(_from(held, rows.needed(done, done + 1)[0]), part)
        ready = int(np.searchsorted(last_needed, held.first + held.scores.shape[1], side="right"))
        some_missing = bool(held.missing.any())
        while done < ready:
            upto = min(done + step, ready)
            scores = bilinear(held.scores, rows, cols, output=(done, upto), input_first=held.first)
            gone = None
            if some_missing:
                gone = nearest(held.missing, rows, cols, output=(done, upto), input_first=held.first)
            yield _strip(done, scores, gone, probability, cloud_from)
            done = upto


@dataclass(frozen=True)
class Finisher:
    """What :func:`finish` does, for any window of the output; the same values to the last bit.

    Args:
        model_shape, output_shape, zoom, cloud_from: see :func:`finish`.
    """

    model_shape: tuple[int, int]
    output_shape: tuple[int, int]
    zoom: float
    cloud_from: float | None = None

    @property
    def _block(self) -> int:
        return max(1, round(1.0 / self.zoom))

    def _lines(self) -> tuple[Line, Line]:
        block = self._block
        sizes = zip(self.model_shape, self.output_shape, strict=True)
        rows, cols = (Line.zoom(-(-size // block), self.zoom * block, count) for size, count in sizes)
        return rows, cols

    def needed(self, rows: tuple[int, int], cols: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Ranges of rows and columns of the model grid that a window of the output is made of."""
        first, second = (
            (low * self._block, min(high * self._block, size))
            for (low, high), size in zip(
                (line.needed(*part) for line, part in zip(self._lines(), (rows, cols), strict=True)),
                self.model_shape,
                strict=True,
            )
        )
        return first, second

    def window(
        self,
        scores: NDArray[np.float32],
        missing: NDArray[np.bool_],
        rows: tuple[int, int],
        cols: tuple[int, int],
        probability: bool,
    ) -> Strip:
        """A window of the result.

        Args:
            scores, missing: the part of the model grid that :meth:`needed` names.
            rows, cols: the window of the output.
            probability: whether probabilities are wanted.
        """
        (top, _), (left, _) = self.needed(rows, cols)
        if self._block > 1:
            scores, missing = _mean_scores(scores, missing, self._block)
        lines, first, start = self._lines(), top // self._block, left // self._block
        fine = bilinear(scores, *lines, output=rows, input_first=first, output_cols=cols, input_left=start)
        gone = None
        if missing.any():
            gone = nearest(missing, *lines, output=rows, input_first=first, output_cols=cols, input_left=start)
        return _strip(rows[0], fine, gone, probability, self.cloud_from)


def percent(values: NDArray[np.float32], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Shares as whole percent, 255 where missing.

    >>> percent(np.float32([0.004, 0.875, np.nan]), np.array([False, False, True])).tolist()
    [0, 88, 255]
    """
    out = np.multiply(values, np.float32(100.0))
    out += np.float32(0.5)
    np.copyto(out, np.float32(NO_DATA), where=missing)
    return out.astype(np.uint8)


def _strip(
    first: int,
    scores: NDArray[np.float32],
    gone: NDArray[np.bool_] | None,
    probability: bool,
    cloud_from: float | None,
) -> Strip:
    """Classes, uncertainty and probabilities of a few rows."""
    power = np.exp(scores - scores.max(axis=0))
    classes = decide(power, cloud_from)
    uncertainty = doubt(power, cloud_from)
    shares = None
    if probability:
        power /= power.sum(axis=0)
        shares = power
    if gone is not None:
        classes[gone] = NO_DATA
        uncertainty[gone] = np.nan
        if shares is not None:
            shares[:, gone] = np.nan
    return Strip(first, classes, uncertainty, shares)


def _averaged(parts: Iterable[ModelRows], height: int, block: int) -> Iterator[ModelRows]:
    """Mean probabilities of blocks of model pixels, as scores."""
    held: ModelRows | None = None
    done = 0
    for part in parts:
        held = part if held is None else _joined(_from(held, done * block), part)
        end = held.first + held.scores.shape[1]
        upto = -(-end // block) if end == height else end // block
        if upto == done:
            continue
        taken = slice(done * block - held.first, upto * block - held.first)
        yield ModelRows(done, *_mean_scores(held.scores[:, taken], held.missing[taken], block))
        done = upto


def _mean_scores(
    scores: NDArray[np.float32], missing: NDArray[np.bool_], block: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores of the mean probabilities of blocks of pixels, and the blocks with a missing pixel."""
    share = probabilities(scores)
    share[:, missing] = np.nan  # NaN spreads over its block
    share = block_mean(share, block)
    gone = np.isnan(share[0])
    share[:, gone] = 1.0
    return np.log(np.maximum(share, np.float32(1e-30))), gone


def _from(part: ModelRows, row: int) -> ModelRows:
    """The rows from ``row`` on."""
    skip = row - part.first
    return ModelRows(row, part.scores[:, skip:], part.missing[skip:])


def _joined(above: ModelRows, below: ModelRows) -> ModelRows:
    if not above.missing.shape[0]:
        return below
    return ModelRows(
        above.first,
        np.concatenate([above.scores, below.scores], axis=1),
        np.concatenate([above.missing, below.missing]),
    )


@dataclass(frozen=True)
class _Block:
    """Rows of the scene as they were read: 0 where missing, and where that is."""

    first: int
    image: NDArray[np.float32]
    missing: NDArray[np.bool_]

    @property
    def end(self) -> int:
        return self.first + self.missing.shape[0]


@dataclass(frozen=True)
class _Window:
    """The rows that one row of tiles looks at."""

    blocks: list[_Block]

    def copy_tile(self, rows: NDArray[np.intp], cols: NDArray[np.intp], out: NDArray[np.float32]) -> bool:
        """Copy one tile to ``out``, (b, h, w), and tell whether it holds any data."""
        across = _runs(cols)
        left, right = int(cols.min()), int(cols.max()) + 1
        some = False
        for block in self.blocks:
            here = np.flatnonzero((rows >= block.first) & (rows < block.end))
            if not here.size:
                continue
            shown = rows[here] - block.first
            for at, down in _runs(shown):
                target = out[:, here[at.start] : here[at.stop - 1] + 1]
                for place, source in across:
                    target[:, :, place] = block.image[:, down, source]
            some = some or not block.missing[shown.min() : shown.max() + 1, left:right].all()
        return some

    def missing(self, first: int, end: int) -> NDArray[np.bool_]:
        """Missing pixels of some rows."""
        return np.concatenate(
            [one.missing[max(first - one.first, 0) : max(end - one.first, 0)] for one in self.blocks]
        )


def _runs(index: NDArray[np.intp]) -> list[tuple[slice, slice]]:
    """Indices as slices of step 1 and -1, which numpy copies much faster: where they stand, and what they take.

    >>> _runs(np.array([2, 1, 0, 1, 2, 3]))
    [(slice(0, 3, None), slice(2, None, -1)), (slice(3, 6, None), slice(1, 4, 1))]
    """
    out = []
    start = 0
    while start < index.size:
        step = -1 if start + 1 < index.size and index[start + 1] < index[start] else 1
        odd = np.flatnonzero(np.diff(index[start:]) != step)
        stop = start + 1 + int(odd[0]) if odd.size else index.size
        last = int(index[stop - 1]) + step
        out.append((slice(start, stop), slice(int(index[start]), None if last < 0 else last, step)))
        start = stop
    return out


@contextmanager
def _windows(plan: Plan, rows: Axis, prefetch: bool, tally: Tally | None) -> Iterator[Iterator[_Window]]:
    """The rows that each row of tiles looks at; every row is read once."""
    spans = [(int(index.min()), int(index.max()) + 1) for index in map(rows.pixels, range(len(rows.starts)))]
    # Reflection can make a later row of tiles look further up than the one before.
    firsts = np.minimum.accumulate([first for first, _ in spans][::-1])[::-1].tolist()
    names = [band.name for band in plan.bands]
    normaliser = plan.normaliser()
    grid = plan.model_grid

    def read(first: int) -> _Block:
        end = min(first + READ_ROWS, rows.size)
        return _Block(first, *read_input(plan.scene, grid[first:end, :], names, normaliser, tally))

    pool = ThreadPoolExecutor(1, "unclouded-ahead") if prefetch else None

    def read_all() -> Iterator[_Block]:
        starts = range(0, rows.size, READ_ROWS)
        if pool is None:
            yield from map(read, starts)
            return
        ahead: deque[Future[_Block]] = deque()
        for start in starts:
            ahead.append(pool.submit(read, start))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def walk() -> Iterator[_Window]:
        blocks = read_all()
        kept: list[_Block] = []
        for first, (_, end) in zip(firsts, spans, strict=True):
            kept[:] = [one for one in kept if one.end > first]  # the window before has the same list: rows are freed
            while not kept or kept[-1].end < end:
                kept.append(next(blocks))
            yield _Window(kept)

    try:
        yield walk()
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def read_input(
    scene: Scene, grid: GeoBox, names: list[str], normaliser: Normaliser | None, tally: Tally | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What the network is given of a window: bands (b, y, x), 0 where missing, and where a band is missing (y, x)."""
    image = scene.read(grid, names)
    if tally is not None:
        tally.add(names, image)
    if normaliser is not None:
        image = normaliser.apply(image)
    missing = np.zeros(image.shape[1:], bool)
    for plane in image:
        with np.errstate(over="ignore", invalid="ignore"):
            whole = np.isfinite(plane.sum())  # a single pass: whatever is not finite shows in the sum
        if not whole:
            gone = ~np.isfinite(plane)
            plane[gone] = 0.0
            missing |= gone
    return image, missing
