"""From logits to calibrated probabilities, and how good their calibration is. Numpy only.

Shapes
    k  the network's classes        c  the four output classes        y, x  pixels        n  pixels in a list
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..classes import CLASSES, SEVEN, members
from ..errors import InputError
from ..models.card import Calibration

_LOG_TEMPERATURE = (-3.0, 3.0)
"""Natural logarithms of the lowest and highest temperature that a fit may give: about 0.05 to 20."""


_LOWEST = np.finfo(np.float32).min

_ABSENT = np.float32(-1e4)
"""Score of an output class that the network does not know; finite, so that it can be interpolated."""


_FINITE = np.float32(60.0)
"""Log-odds beyond which nothing changes any more; their exponential is finite."""

_CACHED = 2**15
"""Pixels whose planes stay in the processor's cache."""


def fold(
    logits: NDArray[np.float32], calibration: Calibration, classes: Sequence[str] = SEVEN
) -> NDArray[np.float32]:
    """Calibrated scores of the four output classes from the logits of the network's.

    The probability of an output class is the sum over its members, after ``logits / temperature + bias``; the odds of
    thick against thin cloud are then multiplied by ``e^thick``, which moves nothing between cloud and the rest. The
    class 'no data' is dropped: missing pixels are known, not predicted. Scores are unnormalised log-probabilities, so
    that they can be interpolated; :func:`probabilities` makes them add up to 1.

    Args:
        logits: (k, y, x) float32 in the order of ``classes``; overwritten. Those of the single class ``cloud`` are
            log-odds.
        calibration: temperature, class biases, and what favours thick over thin cloud.
        classes: the network's classes, names of :data:`unclouded.classes.OUTPUT_OF`.

    Returns:
        (c, y, x) float32.

    >>> scores = fold(np.zeros((7, 1, 1), np.float32), Calibration())
    >>> probabilities(scores)[:, 0, 0].round(3)
    array([0.5  , 0.167, 0.167, 0.167], dtype=float32)
    >>> probabilities(fold(np.float32([[[1.0986123]]]), Calibration(), ["cloud"]))[:, 0, 0].round(3)
    array([0.25, 0.75, 0.  , 0.  ], dtype=float32)
    """
    groups = members(classes)
    out = np.empty((len(CLASSES), *logits.shape[1:]), np.float32)
    gain = np.float32(1.0 / calibration.temperature)
    step = max(1, _CACHED // max(1, logits.shape[2]))
    for top in range(0, logits.shape[1], step):
        planes = logits[:, top : top + step]
        for group, scores in zip(groups, out[:, top : top + step], strict=True):
            for member in group:
                planes[member] *= gain
                if calibration.bias and calibration.bias[member]:
                    planes[member] += np.float32(calibration.bias[member])
            if not group:
                scores[...] = _ABSENT
            elif len(group) == 1:
                scores[...] = planes[group[0]]
            else:
                _add_exponentials([planes[member] for member in group], scores)
        if calibration.thick and groups[1] and groups[2]:
            _favour(out[1, top : top + step], out[2, top : top + step], calibration.thick)
    if len(classes) == 1:  # log-odds: clear has the score 0
        out[0] = 0.0
    return out


def _favour(thick: NDArray[np.float32], thin: NDArray[np.float32], by: float) -> None:
    """Add ``by`` to the difference of two planes of log-probabilities, in place; the sum of the probabilities stays.

    With r = e^(thick - thin), thin loses log((1 + r e^by) / (1 + r)).
    """
    ratio = np.subtract(thick, thin)
    np.clip(ratio, -_FINITE, _FINITE, out=ratio)
    np.exp(ratio, out=ratio)
    lost = np.float32(np.exp(by)) * ratio
    lost += np.float32(1)
    ratio += np.float32(1)
    lost /= ratio
    np.log(lost, out=lost)
    thin -= lost
    lost -= np.float32(by)
    thick -= lost


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the first axis.

    >>> probabilities(np.float32([[0.0], [0.0]])).tolist()
    [[0.5], [0.5]]
    """
    out = np.subtract(scores, scores.max(axis=0))
    np.exp(out, out=out)
    out /= out.sum(axis=0)
    return out


def decide(probability: NDArray[np.floating], cloud_from: float | None = None) -> NDArray[np.uint8]:
    """Class of every pixel, in two steps: clear, cloud or shadow first, then thick or thin among clouds.

    Thick and thin cloud are one thing to be told from clear ground. Where the network cannot tell which of the two it
    is, the most probable of four classes would be clear although cloud as a whole is more likely than not.

    Args:
        probability: (c, ...) in class order, or anything proportional to it.
        cloud_from: share of the total from which a pixel is cloud, instead of where cloud is likeliest of the three.

    Returns:
        Class codes, (...) uint8.

    >>> decide(np.array([[0.4], [0.3], [0.25], [0.05]])).tolist()
    [1]
    """
    clear, thick, thin, shadow = probability
    cloud = thick + thin
    if cloud_from is None:
        found = cloud > np.maximum(clear, shadow)
    else:
        found = cloud >= probability.dtype.type(cloud_from) * (clear + cloud + shadow)
    # Arithmetic on truth values: choosing by masks takes ten times as long.
    cloudy = found.view(np.uint8)
    kind = np.uint8(2) - (thick >= thin).view(np.uint8)
    other = np.uint8(3) * (shadow > clear).view(np.uint8)
    classes: NDArray[np.uint8] = kind * cloudy + other * (np.uint8(1) - cloudy)
    return classes


def doubt(probability: NDArray[np.floating], cloud_from: float | None = None) -> NDArray[np.floating]:
    """How near :func:`decide` was to another class: twice the share of the runner-up beside the class that it chose.

    Clear ground, cloud and shadow compete; whether a cloud is thick or thin raises no doubt. On images labelled by
    people it ranks pixels by how often cloud and clear are confused; entropy, which counts every question, does not.

    Args:
        probability: (c, ...) in class order, or anything proportional to it.
        cloud_from: as for :func:`decide`. Cloud is weighed so that at this share it is as likely as not.

    Returns:
        (...) in 0..1: 0 where nothing else was possible, 1 where two classes were equal.

    >>> even, sure = doubt(np.array([[0.5, 1.0], [0.4, 0.0], [0.1, 0.0], [0.0, 0.0]])).tolist()
    >>> even, sure
    (1.0, 0.0)
    >>> doubt(np.array([[0.7], [0.3], [0.0], [0.0]]), cloud_from=0.3).round(6).tolist()
    [1.0]
    """
    clear, thick, thin, shadow = probability
    cloud = thick + thin
    greater, lesser = np.maximum(clear, shadow), np.minimum(clear, shadow)
    if cloud_from is None:
        rest = greater
    else:
        rest = clear + shadow
        cloud = cloud * probability.dtype.type((1.0 - cloud_from) / cloud_from)
    least = np.finfo(probability.dtype).tiny
    ratio = np.minimum(cloud, rest) / np.maximum(np.maximum(cloud, rest), least)
    among = lesser / np.maximum(greater, least)
    ratio = np.maximum(ratio, among * (cloud < rest))  # among clouds clear or shadow is no question
    # second / first = r makes second / (first + second) = r / (1 + r)
    out: NDArray[np.floating] = 2 * ratio / (1 + ratio)
    return out


def fit_temperature(
    logits: NDArray[np.floating], sets: NDArray[np.bool_], fitted_on: str = "", classes: Sequence[str] = SEVEN
) -> Calibration:
    """The temperature under which blended logits explain the labels best.

    Args:
        logits: (k, n), blended as in production.
        sets: (k, n), True for each class that the label leaves possible; a certain label has one. Pixels with no
            possible class, or with all, say nothing and are left out.
        fitted_on: what the data are, for the card.
        classes: the network's classes, two or more.

    Returns:
        Calibration with the temperature that minimises the mean of ``-log(sum of the possible classes'
        probabilities)``, no biases, and the calibration error that is left.

    Raises:
        InputError: shapes differ, or no pixel has a label.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2, with the loss over sets of
        SEnSeI-v2 in place of the cross-entropy, which it equals for certain labels.
    """
    logits = np.asarray(logits, np.float64)
    sets = np.asarray(sets, bool)
    if logits.shape != sets.shape or logits.ndim != 2 or logits.shape[0] != len(classes):
        raise InputError(
            f"Logits have the shape {logits.shape}, label sets {sets.shape}.",
            expected=f"Both are ({len(classes)}, n).",
            remedy="Flatten the pixels and put the classes first.",
        )
    judged = sets.any(axis=0) & ~sets.all(axis=0)
    if not judged.any():
        raise InputError(
            "No pixel has a label that excludes a class.",
            expected="Temperature is fitted on labelled pixels.",
            remedy="Pass pixels with labels.",
        )
    logits, sets = logits[:, judged], sets[:, judged]

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        possible = np.where(sets, scaled, -np.inf)
        return float((_log_sum_exp(scaled) - _log_sum_exp(possible)).mean())

    temperature = float(np.exp(_golden_section(loss, *_LOG_TEMPERATURE)))
    fitted = Calibration(temperature=temperature, fitted_on=fitted_on)
    four = probabilities(fold(logits[:, None].astype(np.float32), fitted, classes))[:, 0]
    groups = np.stack([sets[list(group)].any(axis=0) for group in members(classes)])
    return fitted.model_copy(update={"expected_calibration_error": expected_calibration_error(four, groups)})


def expected_calibration_error(
    probability: NDArray[np.floating], truth: NDArray[Any], bins: int = 15
) -> float | None:
    """Mean distance between how sure a prediction is and how often it is right.

    Args:
        probability: (c, ...), summing to 1 along the first axis; pixels with NaN are left out.
        truth: class codes (...) integer, codes outside of 0..c-1 are left out; or possible classes (c, ...) bool,
            where the prediction is right if its class is possible, and pixels with no possible class are left out.
        bins: number of equal intervals of confidence.

    Returns:
        Value in 0..1, or None when there is no pixel to judge.

    Raises:
        InputError: the shapes do not fit.

    Source:
        Guo et al., ICML 2017, equation 3.

    >>> sure = np.array([[0.8] * 10, [0.2] * 10])
    >>> round(expected_calibration_error(sure, np.array([0] * 8 + [1] * 2)), 6)
    0.0
    >>> round(expected_calibration_error(sure, np.array([0] * 10)), 6)
    0.2
    """
    probability = np.asarray(probability)
    truth = np.asarray(truth)
    count = probability.shape[0]
    of_sets = truth.dtype == bool
    if truth.shape != (probability.shape if of_sets else probability.shape[1:]):
        raise InputError(
            f"Probabilities have the shape {probability.shape}, labels {truth.shape}.",
            expected="Labels are class codes (y, x), or booleans of the probabilities' shape.",
            remedy="Pass both for the same pixels, with the classes first.",
        )
    flat = probability.reshape(count, -1)
    best = flat.argmax(axis=0)
    confidence = flat.max(axis=0).astype(np.float64)
    if of_sets:
        sets = truth.reshape(count, -1)
        judged, right = sets.any(axis=0), sets[best, np.arange(best.size)]
    else:
        codes = truth.ravel()
        judged, right = (codes >= 0) & (codes < count), codes == best
    judged = judged & np.isfinite(flat).all(axis=0)
    total = int(judged.sum())
    if total == 0:
        return None
    confidence, right = confidence[judged], right[judged]
    place = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    gap = np.bincount(place, confidence, bins) - np.bincount(place, right, bins)
    return float(np.abs(gap).sum() / total)


def _add_exponentials(planes: Sequence[NDArray[np.float32]], out: NDArray[np.float32]) -> None:
    """log(sum of e^plane), written to ``out``; the planes are overwritten."""
    np.maximum(planes[0], planes[1], out=out)
    for plane in planes[2:]:
        np.maximum(out, plane, out=out)
    np.maximum(out, _LOWEST, out=out)  # where all are minus infinity
    for plane in planes:
        np.subtract(plane, out, out=plane)
        np.exp(plane, out=plane)
    total = planes[0]
    for plane in planes[1:]:
        total += plane
    with np.errstate(divide="ignore"):
        np.log(total, out=total)
    out += total


def _log_sum_exp(values: NDArray[Any]) -> NDArray[Any]:
    highest = values.max(axis=0)
    highest = np.where(np.isfinite(highest), highest, 0).astype(values.dtype)
    with np.errstate(divide="ignore"):
        total: NDArray[Any] = np.log(np.exp(values - highest).sum(axis=0)) + highest
    return total


def _golden_section(function: Any, low: float, high: float, tolerance: float = 1e-4) -> float:
    """Where a function with one minimum is lowest."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return float((low + high) / 2.0)
