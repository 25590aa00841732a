"""The loop: rows of a scene are read, cut into tiles, given to the network, blended, calibrated and released.

    scene --model_rows--> scores of four classes on the model grid --finish--> classes, uncertainty on the output grid

Both steps are generators that pass strips of rows from top to bottom. Memory is that of one row of tiles, whatever the
scene's height; the next rows are read while the network works.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import CLASSES, NO_DATA
from ..normalise import Normaliser
from ..resample import Line, bilinear, block_mean, nearest
from ..saturation import Tally
from ..scene import Scene
from .calibrate import decide, fold, probabilities
from .plan import Plan
from .runner import Runner
from .tiling import Axis, RowBlender, axis

_CHUNK = 2**17
"""Output pixels that are finished at a time: their planes stay in the processor's cache."""

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
        uncertainty: entropy of the probabilities / log(4), NaN where missing, (y, x) float32.
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
    total = len(rows.starts) * len(cols.starts)
    with _windows(plan, rows, prefetch, tally) as windows:
        for i, window in enumerate(windows):
            for j in range(len(cols.starts)):
                image, empty = window.tile(rows.pixels(i), cols.pixels(j))
                if not empty:  # without any data there is nothing to predict
                    blender.add(i, j, runner.run(image[np.newaxis], second)[0])
                if progress is not None:
                    progress((i * len(cols.starts) + j + 1) / total)
            first, logits = blender.release(i)
            scores = fold(logits, calibration, plan.card.classes)
            yield ModelRows(first, scores, window.missing(first, first + scores.shape[1]))


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
    below = scores - scores.max(axis=0)
    power = np.exp(below)
    classes = decide(power, cloud_from)
    total = power.sum(axis=0)
    # H = log(sum e^s) - sum(e^s s) / sum e^s, so that no logarithm of a small probability is needed.
    below *= power
    uncertainty = below.sum(axis=0)
    uncertainty /= -total
    uncertainty += np.log(total)
    uncertainty *= np.float32(1.0 / np.log(len(CLASSES)))
    np.clip(uncertainty, 0.0, 1.0, out=uncertainty)
    shares = None
    if probability:
        power /= total
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

    def tail(self, first: int) -> _Block:
        """A copy of the last rows, so that the others can be freed."""
        first = max(first, self.first)
        return _Block(first, self.image[:, first - self.first :].copy(), self.missing[first - self.first :].copy())


@dataclass(frozen=True)
class _Window:
    """The rows that one row of tiles looks at."""

    blocks: list[_Block]

    def tile(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> tuple[NDArray[np.float32], bool]:
        """One tile, (b, h, w), and whether it holds no data at all."""
        out = np.empty((self.blocks[0].image.shape[0], rows.size, cols.size), np.float32)
        empty = True
        across = _as_slice(cols)
        for block in self.blocks:
            here = np.flatnonzero((rows >= block.first) & (rows < block.end))
            if not here.size:
                continue
            target, down = _as_slice(here), _as_slice(rows[here] - block.first)
            out[:, target] = block.image[:, down][:, :, across]
            empty = empty and bool(block.missing[down][:, across].all())
        return out, empty

    def missing(self, first: int, end: int) -> NDArray[np.bool_]:
        """Missing pixels of some rows."""
        return np.concatenate(
            [one.missing[max(first - one.first, 0) : max(end - one.first, 0)] for one in self.blocks]
        )


def _as_slice(index: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Consecutive indices as a slice, which numpy copies much faster."""
    if index[-1] - index[0] == index.size - 1 and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


@contextmanager
def _windows(plan: Plan, rows: Axis, prefetch: bool, tally: Tally | None) -> Iterator[Iterator[_Window]]:
    """The rows that each row of tiles looks at; every row is read once."""
    spans = [(int(index.min()), int(index.max()) + 1) for index in map(rows.pixels, range(len(rows.starts)))]
    ends = [end for _, end in spans]
    # Reflection can make a later row of tiles look further up than the one before.
    firsts = np.minimum.accumulate([first for first, _ in spans][::-1])[::-1].tolist()
    limits = [(firsts[0] if i == 0 else max(ends[:i]), end) for i, end in enumerate(ends)]
    names = [band.name for band in plan.bands]
    normaliser = plan.normaliser()

    def read(number: int) -> _Block:
        first, end = limits[number]
        return _read(plan, names, normaliser, tally, first, max(first, end))

    pool = ThreadPoolExecutor(1, "unclouded-ahead") if prefetch else None

    def walk() -> Iterator[_Window]:
        ahead: Future[_Block] | None = pool.submit(read, 0) if pool else None
        kept: list[_Block] = []
        for number in range(len(limits)):
            block = ahead.result() if ahead else read(number)
            if pool and number + 1 < len(limits):
                ahead = pool.submit(read, number + 1)
            kept = [one for one in (*kept, block) if one.end > firsts[number]]
            yield _Window(kept)
            if number + 1 < len(limits):
                kept = [one.tail(firsts[number + 1]) for one in kept if one.end > firsts[number + 1]]
            del block

    try:
        yield walk()
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(
    plan: Plan, names: list[str], normaliser: Normaliser | None, tally: Tally | None, first: int, end: int
) -> _Block:
    grid = plan.model_grid
    if first == end:
        empty = np.empty((len(names), 0, grid.shape.x), np.float32)
        return _Block(first, empty, np.empty((0, grid.shape.x), bool))
    return _Block(first, *read_input(plan.scene, grid[first:end, :], names, normaliser, tally))


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
        gone = ~np.isfinite(plane)
        if gone.any():
            plane[gone] = 0.0
            missing |= gone
    return image, missing
