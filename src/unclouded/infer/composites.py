"""One clear image out of many dates, pixel by pixel: median, medoid, geometric median, or the best date.

Shapes
    d  dates    b  bands    y, x  pixels

A stack is (d, b, y, x) reflectance, NaN where missing; ``clear`` (d, y, x) says which pixels may be used. A date counts
at a pixel where it is clear and every band has a value. All four methods look at one pixel at a time, and add up in the
order of the dates, so that the result is the same to the last bit however a scene is cut into pieces. Distances to the
nearest cloud look :func:`reach` pixels far: pieces need that much around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Method = Literal["median", "medoid", "geomedian", "best"]
METHODS: tuple[str, ...] = get_args(Method)

NO_DATE = 65535
"""Code of pixels that no date shows."""

REACH_M = 1500.0
"""Distance from which on a cloud is too far away to matter: 50 Landsat pixels. Source: as for :func:`best_scores`."""

_CLOSE = 1e-7
"""Reflectance by which the geometric median moves at most in its last step."""
_STEPS = 1000


@dataclass(frozen=True)
class Composite:
    """A composite of some pixels.

    Attributes:
        image: reflectance, (b, y, x) float32, NaN where no date is clear.
        date: number of the date, (y, x) uint16: the one that was taken, or for median and geometric median the one
            whose spectrum comes nearest; 65535 where there is none.
        count: dates that are clear there, (y, x) uint16.
    """

    image: NDArray[np.float32]
    date: NDArray[np.uint16]
    count: NDArray[np.uint16]


def compose(
    stack: NDArray[np.floating],
    clear: NDArray[np.bool_],
    method: Method = "median",
    *,
    scores: NDArray[np.floating] | None = None,
) -> Composite:
    """Composite a stack.

    Args:
        stack: reflectance, (d, b, y, x), NaN where missing.
        clear: (d, y, x), True where a date may be used.
        method: ``median`` takes the median of every band by itself; ``medoid`` the date whose spectrum is nearest to
            all others, which keeps observed spectra; ``geomedian`` the point nearest to all spectra; ``best`` the date
            of the highest score.
        scores: (d, y, x), for ``best``; see :func:`best_scores`. Of equal scores the first date's counts.

    Raises:
        InputError: shapes do not fit, the method is unknown, or the scores are missing.

    >>> stack = np.float32([0.125, 0.25, 0.875]).reshape(3, 1, 1, 1)
    >>> found = compose(stack, np.array([True, True, False]).reshape(3, 1, 1))
    >>> float(found.image[0, 0, 0]), int(found.date[0, 0]), int(found.count[0, 0])
    (0.1875, 0, 2)
    """
    _check(stack, clear, method, scores)
    dates, bands, rows, cols = stack.shape
    values = np.ascontiguousarray(stack, np.float32).reshape(dates, bands, rows * cols)
    usable = clear.reshape(dates, -1) & np.isfinite(values).all(axis=1)
    count = usable.sum(axis=0)
    some = count > 0
    if method == "best":
        assert scores is not None
        chosen = _first_largest(np.asarray(scores, np.float32).reshape(dates, -1), usable)
    elif method == "medoid":
        chosen = _first_largest(-_distance_sums(values, usable), usable)
    else:
        image = _median(values, usable) if method == "median" else geometric_median(values, usable)
        chosen = _first_largest(-_distances(values, image), usable)
    if method in ("best", "medoid"):
        image = np.take_along_axis(values, chosen[None, None], axis=0)[0]
    image = np.where(some, image, np.float32(np.nan)).astype(np.float32)
    date = np.where(some, chosen, NO_DATE).astype(np.uint16)
    shape = (rows, cols)
    return Composite(image.reshape(bands, *shape), date.reshape(shape), count.astype(np.uint16).reshape(shape))


def best_scores(
    cloud: NDArray[np.floating],
    hidden: NDArray[np.bool_],
    *,
    days: Sequence[float] | None = None,
    spread_days: float = 30.0,
    view_zenith_deg: Sequence[float] | None = None,
    pixel_m: float = 30.0,
) -> NDArray[np.float32]:
    """How good every date is at every pixel: the sum of up to four scores between 0 and 1.

    - share of probability that the pixel is free of cloud
    - distance to the nearest hidden pixel: 1 / (1 + exp(-0.2 (min(D, 50) - 25))), D in pixels of 30 m
    - date: exp(-0.5 (days / spread)**2)
    - view: the cosine of the zenith angle

    Args:
        cloud: probability of cloud or shadow, (d, y, x), NaN where missing.
        hidden: cloud and shadow, (d, y, x).
        days: distance of every date from the one wanted, in days; None leaves this score out.
        spread_days: standard deviation of the date's score.
        view_zenith_deg: zenith angle of the sensor by date; None leaves this score out.
        pixel_m: size of a pixel in metres.

    Source:
        Distance and date: Griffiths et al., A pixel-based Landsat compositing algorithm for large area land cover
        mapping, IEEE JSTARS 6(5), 2013; in the form of White et al., Canadian Journal of Remote Sensing 40(3), 2014.
        The paper's Landsat pixels are 30 m large.

    >>> far, near = np.zeros((1, 1, 60)), np.zeros((1, 1, 60), bool)
    >>> near[0, 0, 0] = True
    >>> scores = best_scores(far, near)
    >>> bool(scores[0, 0, 5] < scores[0, 0, 40])
    True
    """
    out = np.where(np.isfinite(cloud), 1 - cloud, 0).astype(np.float32)
    for date in range(len(out)):
        landsat = np.minimum(distance_to(hidden[date], reach(pixel_m)) * np.float32(pixel_m / 30), 50)
        out[date] += 1 / (1 + np.exp(-0.2 * (landsat - 25)))
        if days is not None:
            out[date] += np.float32(np.exp(-0.5 * (days[date] / spread_days) ** 2))
        if view_zenith_deg is not None:
            out[date] += np.float32(np.cos(np.radians(view_zenith_deg[date])))
    return out


def reach(pixel_m: float) -> int:
    """Pixels that :func:`best_scores` looks far.

    >>> reach(30.0), reach(10.0)
    (50, 150)
    """
    return max(1, int(np.ceil(REACH_M / pixel_m)))


def distance_to(mask: NDArray[np.bool_], most: int) -> NDArray[np.float32]:
    """Distance of every pixel to the nearest one of a mask in pixels, at most ``most``; exact, (y, x) float32.

    >>> distance_to(np.array([[True, False, False]]), most=9).tolist()
    [[0.0, 1.0, 2.0]]
    """
    rows, cols = mask.shape
    if not mask.any():
        return np.full(mask.shape, most, np.float32)
    place = np.arange(cols)
    last = np.maximum.accumulate(np.where(mask, place, -most - 1), axis=1)
    after = np.minimum.accumulate(np.where(mask, place, cols + most)[:, ::-1], axis=1)[:, ::-1]
    along = np.minimum(np.minimum(place - last, after - place), most).astype(np.float32) ** 2
    best = along.copy()
    for step in range(1, min(most, rows - 1) + 1):
        away = np.float32(step * step)
        np.minimum(best[step:], along[:-step] + away, out=best[step:])
        np.minimum(best[:-step], along[step:] + away, out=best[:-step])
    return np.minimum(np.sqrt(best), np.float32(most))


def geometric_median(
    values: NDArray[np.float32], usable: NDArray[np.bool_], *, close: float = _CLOSE, steps: int = _STEPS
) -> NDArray[np.float32]:
    """The point with the smallest sum of distances to the usable spectra of every pixel, by Weiszfeld's iteration.

    Each pixel stops by itself when it moves less than ``close``, so that its result does not depend on others.

    Args:
        values: (d, b, pixel).
        usable: (d, pixel).
        close: largest step at the end, in the unit of the values.
        steps: largest number of steps.

    Returns:
        (b, pixel) float32; 0 where nothing is usable.

    Source:
        Vardi and Zhang, The multivariate L1-median and associated data depth, PNAS 97(4), 2000, eqs. 2.6 and 2.7: what
        Weiszfeld's step becomes where the point falls on one of the data.
    """
    dates, bands, _ = values.shape
    shown = usable.astype(np.float64)
    data = np.where(usable[:, None], values, 0).astype(np.float64)
    count = np.maximum(_added(shown), 1.0)
    middle = np.stack([_added(data[:, band]) / count for band in range(bands)])
    left = np.flatnonzero(usable.any(axis=0))
    for _ in range(steps):
        if not left.size:
            break
        x, w, y = data[:, :, left], shown[:, left], middle[:, left]
        away = np.sqrt(np.stack([_added((x[date] - y) ** 2) for date in range(dates)]))
        on = (away < 1e-12) & (w > 0)
        weight = np.where(on, 0.0, w / np.where(on | (away == 0), 1.0, away))
        total = _added(weight)
        somewhere = total > 0  # else every usable spectrum is the point itself
        safe = np.where(somewhere, total, 1.0)
        step = np.stack([_added(weight * x[:, band]) / safe for band in range(bands)])
        pull = total * np.sqrt(_added((step - y) ** 2))
        stay = np.minimum(1.0, _added(on.astype(np.float64)) / np.where(pull > 0, pull, 1.0))
        stay = np.where(on.any(axis=0), np.where(pull > 0, stay, 1.0), 0.0)
        new = np.where(somewhere, (1 - stay) * step + stay * y, y)
        middle[:, left] = new
        left = left[np.abs(new - y).max(axis=0) > close]
    return middle.astype(np.float32)


def _median(values: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    ordered = np.sort(np.where(usable[:, None], values, np.float32(np.inf)), axis=0)
    count = usable.sum(axis=0)
    low = np.maximum(count - 1, 0) // 2
    high = np.maximum(count // 2, low)
    low, high = (np.broadcast_to(place, (1, *ordered.shape[1:])) for place in (low, high))
    pair = [np.take_along_axis(ordered, np.minimum(place, len(values) - 1), axis=0)[0] for place in (low, high)]
    with np.errstate(invalid="ignore"):  # infinite where nothing is usable
        middle: NDArray[np.float32] = (pair[0] + pair[1]) * np.float32(0.5)
    return middle


def _distances(values: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of every date's spectrum from a point (b, pixel), as (d, pixel)."""
    known = np.where(np.isfinite(point), point, 0)
    return np.sqrt(np.stack([_added((np.nan_to_num(one) - known) ** 2) for one in values]))


def _distance_sums(values: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Sum of the distances from every date to all usable ones, (d, pixel)."""
    return np.stack([_added(_distances(values, one) * usable) for one in values])


def _first_largest(scores: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.where(usable, scores, -np.inf).argmax(axis=0)


def _added(parts: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sum along the first axis, strictly in its order: numpy's own sum groups differently for other shapes."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _check(
    stack: NDArray[np.floating], clear: NDArray[np.bool_], method: str, scores: NDArray[np.floating] | None
) -> None:
    problem, expected = "", ""
    if method not in METHODS:
        problem, expected = f"The method '{method}' is unknown.", f"Methods are {', '.join(METHODS)}."
    elif stack.ndim != 4 or clear.shape != (stack.shape[0], *stack.shape[2:]) or not len(stack):
        problem = f"A stack of shape {stack.shape} came with a mask of {clear.shape}."
        expected = "They are (date, band, y, x) and (date, y, x), with one date or more."
    elif len(stack) >= NO_DATE:
        problem, expected = f"The stack has {len(stack)} dates.", f"Fewer than {NO_DATE} can be numbered."
    elif method == "best" and (scores is None or scores.shape != clear.shape):
        problem = f"The method 'best' came with scores of shape {None if scores is None else scores.shape}."
        expected = f"It needs scores of shape {clear.shape}."
    if problem:
        raise InputError(problem, expected=expected, remedy="See unclouded.infer.composites.compose.")
