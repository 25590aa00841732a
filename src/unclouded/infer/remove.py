"""Removal, row by row: what the mask hides is taken from other dates, or rebuilt by a network, and faded in.

    plan --restored_strips--> stored numbers, provenance and expected error, from top to bottom

For every pixel, with the scene x, weights w_d of the dates from the best on, and the network's image r:

    filled = sum_d w_d prod_{e<d} (1 - w_e) (gain_d x_d + offset_d)        (1)
    left   = prod_d (1 - w_d)                                              (2)
    y      = x + alpha (filled + left r - x)                               (3)

w_d = s_d t_d: s_d is 1 where date d shows clear ground, and falls to 0 towards its own clouds; t_d is 0 where it stands
apart from the other dates, see :mod:`unclouded.infer.agreement`. So the best date that agrees with the others comes
first, as it is, and is not mixed with them. What is told of its error are k + 1 opinions: the error that is known from
clear ground, summed as in (1), and how far each of the k others lies from (1),

    k = max(sum_d s_d - 1, 0)
    d = sqrt(2 / pi) (sum_d s_d mean_bands (x_d - filled)^2 / k)^1/2
    e = (error + k d) / (k + 1)                                            (4)

with x_d matched and ``filled`` and ``error`` divided by 1 - (2); of normal errors sqrt(2 / pi) of the root of the mean
square is the mean. Dates that are not trusted count there too, for where dates disagree the choice may be wrong.

alpha is 1 under the widened mask and falls to 0 outside of it, see :mod:`unclouded.infer.feather`. Where alpha is 0
stored numbers pass through untouched. The network is given the scene with the dates' ground in it, (1) divided by
1 - (2), as if it were the scene's own, so that it continues what they show.

Memory is that of one row of tiles, and one byte per pixel for each mask.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .agreement import MARGIN, agreement
from .feather import dilated, feathered, veil_of
from .planes import Encoding
from .remove_plan import Date, RemovalPlan
from .runner import Runner
from .tiling import RowBlender, axis

OBSERVED, REBUILT, OTHER_DATE, NO_DATA = 0, 1, 2, 255
"""Codes of the provenance: untouched; from radar and surroundings; from another date; nothing known."""

BLEND = 8
"""Pixels over which one date fades into the next, or into what the network makes, at the edge of its clouds."""

_LEAST = 1e-3
"""Weight of a date's clear pixels in corners where fading leaves nothing: they are still the best that is known."""

_ROWS = 64
"""Rows that are computed at a time, for intermediate results of all bands take several times the room of the image."""

_STRIP = 256
"""Rows that are read at a time without a network."""


@dataclass(frozen=True)
class RestoredStrip:
    """Rows of the result.

    Attributes:
        first: number of the first row.
        stored: numbers as they are stored, (band, y, x) float32, NaN where missing.
        provenance: (y, x) uint8, see :data:`OBSERVED`.
        error: expected absolute error in reflectance, mean over the bands, (y, x) float32; 0 where observed, NaN
            where nothing is known.
    """

    first: int
    stored: NDArray[np.float32]
    provenance: NDArray[np.uint8]
    error: NDArray[np.float32]


@dataclass(frozen=True)
class _Rows:
    """Rows with all that is known before the network. Axes end in (y, x).

    Attributes:
        stored: numbers as the scene stores them, NaN where missing.
        filled, error: equation (1), and the same for the expected errors; 0 where no date is used.
        left: equation (2).
        alpha: of equation (3).
        gone: missing in the scene or its mask.
        veil: 1 under thick cloud, widened by a pixel, 0.5 in shadow, else 0.
        radar: backscatter brought to 0..1, 0 where missing; of no bands without radar.
    """

    stored: NDArray[np.float32]
    filled: NDArray[np.float32]
    error: NDArray[np.float32]
    left: NDArray[np.float32]
    alpha: NDArray[np.float32]
    gone: NDArray[np.bool_]
    veil: NDArray[np.float32]
    radar: NDArray[np.float32]

    def part(self, first: int, end: int) -> _Rows:
        """Some of the rows."""
        return _Rows(*(getattr(self, one.name)[..., first:end, :] for one in fields(self)))

    def tail(self, first: int) -> _Rows:
        """A copy of the rows from ``first`` on, so that the others can be freed."""
        return _Rows(*(getattr(self, one.name)[..., first:, :].copy() for one in fields(self)))

    def joined(self, below: _Rows) -> _Rows:
        """These rows and those below them."""
        return _Rows(*(np.concatenate([getattr(x, f.name) for x in (self, below)], axis=-2) for f in fields(self)))

    def tile(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> _Rows:
        """A copy of some rows and columns."""
        place = np.ix_(rows, cols)
        return _Rows(*(getattr(self, one.name)[..., place[0], place[1]] for one in fields(self)))

    @property
    def need(self) -> NDArray[np.bool_]:
        """Where the network has a say."""
        return (self.alpha > 0) & (self.left > 0)

    def given(self, encoding: Encoding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The network's image, 0 where missing, and its marks (2, y, x)."""
        own = encoding.reflectance(self.stored)
        seen = (self.alpha > 0) & (self.left < 1)
        image = np.where(seen, self.filled / np.maximum(1 - self.left, np.float32(1e-6)), own)
        rebuild = ((self.alpha == 1) & ~seen) | self.gone
        marks = np.stack([rebuild, rebuild * self.veil]).astype(np.float32)
        return np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), marks


def restored_strips(
    plan: RemovalPlan, runner: Runner | None, progress: Callable[[float], None] | None = None
) -> Generator[RestoredStrip, None, None]:
    """Remove the clouds, from top to bottom.

    Args:
        plan: see :func:`unclouded.infer.remove_plan.plan_removal`.
        runner: the network of the plan's card, or None where the plan has none.
        progress: called with the share that is done.

    Yields:
        All rows of the plan's grid, in order and without gaps.

    Raises:
        InputError: the scene, the radar image or another date cannot be read.
    """
    if runner is None:
        height = plan.shape[0]
        for first in range(0, height, _STRIP):
            end = min(first + _STRIP, height)
            yield from _merged(plan, first, _prepared(plan, first, end), None)
            if progress is not None:
                progress(end / height)
    else:
        yield from _with_network(plan, runner, progress)


def _with_network(
    plan: RemovalPlan, runner: Runner, progress: Callable[[float], None] | None
) -> Generator[RestoredStrip, None, None]:
    card, options = runner.card, plan.options
    height, width = plan.shape
    rows, cols = (
        axis(size, card.tile or options.tile, options.halo, card.stride, exact=card.tile is not None)
        for size in (height, width)
    )
    across = [cols.pixels(j) for j in range(len(cols.starts))]
    spans = [(int(index.min()), int(index.max()) + 1) for index in map(rows.pixels, range(len(rows.starts)))]
    # Reflection can make a later row of tiles look further up than the one before.
    firsts = np.minimum.accumulate([first for first, _ in spans][::-1])[::-1].tolist()
    blender = RowBlender(len(plan.names) + 1, rows, cols)
    held, top = _prepared(plan, 0, spans[0][1]), 0
    for i, (_, end) in enumerate(spans):
        if firsts[i] > top:
            held, top = held.tail(firsts[i] - top), firsts[i]
        known = top + held.alpha.shape[0]
        if end > known:
            held = held.joined(_prepared(plan, known, end))
        down = rows.pixels(i) - top
        need = held.need
        for j, index in enumerate(across):
            if need[np.ix_(down, index)].any():
                blender.add(i, j, _run(plan, runner, held.tile(down, index)))
            if progress is not None:
                progress((i * len(across) + j + 1) / (len(spans) * len(across)))
        first, found = blender.release(i)
        yield from _merged(plan, first, held.part(first - top, first - top + found.shape[1]), found)


def _run(plan: RemovalPlan, runner: Runner, tile: _Rows) -> NDArray[np.float32]:
    """The network's bands and its expected error for one tile, (band + 1, y, x)."""
    card = runner.card
    image, marks = tile.given(plan.encoding)
    full = np.zeros((1, len(card.bands), *image.shape[1:]), np.float32)
    full[0, plan.places] = image
    sar = tile.radar[np.newaxis] if card.sar else None
    hidden = marks[np.newaxis] if card.marks else None
    restored, log_scale = runner.restore(full, sar, hidden)
    told = card.expected_error
    if log_scale is None:
        mirrored = (None if one is None else one[..., ::-1] for one in (full, sar, hidden))
        again = runner.restore(*mirrored)[0][..., ::-1]  # type: ignore[arg-type]
        error = np.abs(restored - again)[:, plan.places].mean(axis=1)
        restored = 0.5 * (restored + again)
    else:
        error = np.exp(np.minimum(log_scale[:, 0], 0.0))
    error = error * np.float32(1.0 if told is None else told.factor)
    return np.concatenate([restored[0, plan.places], error]).astype(np.float32)


def _prepared(plan: RemovalPlan, first: int, end: int) -> _Rows:
    """Everything before the network for some rows."""
    options = plan.options
    height = plan.shape[0]
    margin = options.dilation + max(options.feather + 2, BLEND + 1, MARGIN)
    low, high = max(first - margin, 0), min(end + margin, height)
    inner = slice(first - low, end - low)
    classes = plan.mask.rows(plan.grid, low, high)
    region = dilated(np.isin(classes, options.codes), options.dilation)
    alpha = feathered(region, options.feather)[inner]
    veil = veil_of(classes)[inner]
    stored = plan.planes.read(first, end)
    gone = ~np.isfinite(stored).all(axis=0) | (classes[inner] == NO_DATA)
    alpha[gone] = 0.0
    filled, error, left = _from_dates(plan, first, end, low, high, alpha > 0)
    radar = np.zeros((0, *alpha.shape), np.float32)
    if plan.card is not None and plan.card.sar:
        wanted = ((alpha > 0) & (left > 0)).any()
        radar = plan.radar(first, end) if wanted else np.zeros((len(plan.card.sar), *alpha.shape), np.float32)
    return _Rows(stored, filled, error, left, alpha, gone, veil, radar)


def _from_dates(
    plan: RemovalPlan, first: int, end: int, low: int, high: int, open_: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What the dates show of some rows: (1), the same for the errors of (4), and (2).

    Args:
        plan: the plan.
        first, end: the rows.
        low, high: these and the rows around them that agreement is judged by.
        open_: where ground is wanted, (y, x).
    """
    size = (len(plan.names), *open_.shape)
    filled, total = np.zeros(size, np.float32), np.zeros(size if len(plan.dates) > 1 else (0, 0, 0), np.float32)
    error, squares, count = np.zeros((3, *open_.shape), np.float32)
    left = np.ones(open_.shape, np.float32)
    for date, shown, trust in _weights(plan, first, end, low, high, open_):
        values = date.planes.read(first, end)
        shown[~np.isfinite(values).all(axis=0)] = 0.0
        share = shown * trust * left
        for row in range(0, end - first, _ROWS):
            part = slice(row, row + _ROWS)
            other = date.matching.apply(date.encoding.reflectance(values[:, part]), first + row, plan.shape)
            error[part] += share[part] * date.matching.change.errors(other, first + row, plan.shape)
            other = np.nan_to_num(other)
            filled[:, part] += share[part] * other
            if total.size:
                total[:, part] += shown[part] * other
                squares[part] += shown[part] * (other**2).mean(axis=0)
        count += shown
        left = left * (1 - shown * trust)
    if (count > 1).any():
        for row in range(0, end - first, _ROWS):
            part = slice(row, row + _ROWS)
            known = 1 - left[part]
            one = filled[:, part] / np.maximum(known, np.float32(1e-6))
            apart = squares[part] + (one * (count[part] * one - 2 * total[:, part])).mean(axis=0)
            others = np.maximum(count[part] - 1, 0)
            doubt = np.float32(np.sqrt(2 / np.pi)) * np.sqrt(others * np.maximum(apart, 0))
            error[part] = (error[part] + known * doubt) / (1 + others)
    return filled, error, left


def _weights(
    plan: RemovalPlan, first: int, end: int, low: int, high: int, open_: NDArray[np.bool_]
) -> Iterator[tuple[Date, NDArray[np.float32], NDArray[np.float32]]]:
    """The dates that show some of the ground that is wanted, with the s and t of (1)."""
    if not open_.any():
        return
    inner = slice(first - low, end - low)
    weights = [(date, _shown(plan, date, low, high)) for date in plan.dates]
    # Dates that show only what lies around count as well, or else the result would hang on where strips end.
    weights = [(date, weight) for date, weight in weights if weight.any()]
    useful = [(weight[inner][open_] > 0).any() for _, weight in weights]
    trust = [np.ones((high - low, open_.shape[1]), np.float32)] * len(weights)
    if sum(useful) > 1:
        levels = [date.level(plan.haziest, low, high, plan.shape) for date, _ in weights]
        trust = agreement(levels, [(w > 0) & np.isfinite(x) for (_, w), x in zip(weights, levels, strict=True)])
    for (date, weight), use, share in zip(weights, useful, trust, strict=True):
        if use:
            yield date, weight[inner] * open_, share[inner]


def _shown(plan: RemovalPlan, date: Date, low: int, high: int) -> NDArray[np.float32]:
    """Weight of a date's pixels, (y, x): 1 well inside its clear ground, 0 outside."""
    hidden = dilated(date.mask.rows(plan.grid, low, high) != 0, plan.options.dilation)
    weight = 1 - feathered(hidden, BLEND)
    return np.where(hidden, np.float32(0.0), np.maximum(weight, np.float32(_LEAST)))


def _merged(
    plan: RemovalPlan, first: int, rows: _Rows, found: NDArray[np.float32] | None
) -> Iterator[RestoredStrip]:
    """The result of some rows, a few at a time."""
    for row in range(0, rows.alpha.shape[0], _ROWS):
        part = None if found is None else found[:, row : row + _ROWS]
        yield _merge(plan, first + row, rows.part(row, row + _ROWS), part)


def _merge(plan: RemovalPlan, first: int, rows: _Rows, found: NDArray[np.float32] | None) -> RestoredStrip:
    """Equation (3), and what is to be told of it."""
    if found is None:  # dates alone: their weights are made to add up to 1
        total = np.maximum(1 - rows.left, np.float32(1e-6))
        value, error = rows.filled / total, rows.error / total
        rebuilt = (rows.alpha > 0) & (rows.left < 1)
        lost = (rows.alpha == 1) & (rows.left == 1)
        provenance = np.where(rebuilt, OTHER_DATE, OBSERVED).astype(np.uint8)
    else:
        value, error = rows.filled + rows.left * found[:-1], rows.error + rows.left * found[-1]
        rebuilt = rows.alpha > 0
        lost = np.zeros_like(rebuilt)
        provenance = np.where(rebuilt, np.where(rows.left < 0.5, OTHER_DATE, REBUILT), OBSERVED).astype(np.uint8)
    image = np.where(rows.gone, np.float32(0.0), plan.encoding.reflectance(rows.stored))
    made = plan.encoding.stored((image + rows.alpha * (value - image)).astype(np.float32))
    stored = np.where(rebuilt, made, rows.stored)
    stored[:, lost] = np.nan
    provenance[rows.gone | lost] = NO_DATA
    error = np.where(rebuilt, rows.alpha * error, np.float32(0.0))
    error[provenance == NO_DATA] = np.nan
    return RestoredStrip(first, stored, provenance, error.astype(np.float32))
