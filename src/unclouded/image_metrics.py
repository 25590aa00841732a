"""How well an image, a probability or an outline agrees with the truth: what the confusion matrix cannot tell.

Images are (band, y, x), class rasters and masks (y, x), probabilities (class, y, x). Missing pixels are NaN in images
or False in ``valid``, and count nowhere. No scipy: everything here runs in the base install.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classes import NO_DATA
from .errors import InputError

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

PSNR_CAP = 100.0
"""What benchmarks put for the infinite PSNR of two equal images, in dB."""


def mae(prediction: Image, target: Image, valid: Mask | None = None) -> float:
    """Mean absolute error over valid pixels and all bands.

    >>> mae(np.zeros((1, 2, 2)), np.full((1, 2, 2), 0.25))
    0.25
    """
    x, y = _pixels(prediction, target, valid)
    return float(np.abs(x - y).mean())


def mse(prediction: Image, target: Image, valid: Mask | None = None) -> float:
    """Mean squared error over valid pixels and all bands."""
    x, y = _pixels(prediction, target, valid)
    return float(((x - y) ** 2).mean())


def psnr(
    prediction: Image, target: Image, valid: Mask | None = None, *, data_range: float = 1.0, cap: float = math.inf
) -> float:
    """Peak signal-to-noise ratio of one image in dB, 20 log10(range / root mean squared error).

    Args:
        prediction, target: (band, y, x).
        valid: (y, x).
        data_range: largest minus smallest possible value.
        cap: result for equal images and upper bound, e.g. :data:`PSNR_CAP`; infinite by default.

    >>> round(psnr(np.zeros((1, 2, 2)), np.full((1, 2, 2), 0.1)), 9)
    20.0
    """
    error = mse(prediction, target, valid)
    return cap if error == 0.0 else min(20.0 * math.log10(data_range / math.sqrt(error)), cap)


def spectral_angle(
    prediction: Image, target: Image, valid: Mask | None = None, *, flattened: bool = False
) -> float:
    """Mean angle between the spectra of each pixel, in degrees; NaN where no pixel has one.

    Args:
        prediction, target: (band, y, x).
        valid: (y, x). Pixels whose spectrum is zero in either image have no angle and are left out.
        flattened: one angle between both images as whole vectors, the form printed in MMCANet's eq. (20).

    >>> round(spectral_angle(np.float64([[[1.0]], [[0.0]]]), np.float64([[[1.0]], [[1.0]]])), 6)
    45.0
    """
    x, y = _pixels(prediction, target, valid)  # band, pixel
    if flattened:
        x, y = x.reshape(-1, 1), y.reshape(-1, 1)
    lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    known = lengths > 0
    if not known.any():
        return math.nan
    cosine = (x * y).sum(axis=0)[known] / lengths[known]
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))).mean())


def ssim_map(
    prediction: Image, target: Image, *, window: int = 11, sigma: float = 1.5, data_range: float = 1.0
) -> NDArray[np.float64]:
    """Structural similarity at every place where the Gaussian window lies inside, (band, y - 10, x - 10).

    NaN where the window touches a missing pixel.

    Args:
        prediction, target: (band, y, x).
        window: side of the window in pixels, odd.
        sigma: of the Gaussian, in pixels.
        data_range: largest minus smallest possible value.

    Raises:
        InputError: the image is smaller than the window.

    Source:
        Wang et al., IEEE Transactions on Image Processing, 2004, constants 0.01 and 0.03, biased moments.
    """
    _same(prediction, target)
    if min(prediction.shape[1:]) < window:
        raise InputError(
            f"SSIM was asked for an image of {prediction.shape[1]} x {prediction.shape[2]} pixels.",
            expected=f"It is at least {window} x {window} pixels large.",
            remedy="Compare larger images.",
        )
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    place = np.arange(window) - (window - 1) / 2
    kernel = np.exp(-(place**2) / (2.0 * sigma**2))
    kernel /= kernel.sum()

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis in (1, 2):
            size = values.shape[axis] - window + 1
            taken = (np.take(values, range(k, k + size), axis=axis) * kernel[k] for k in range(window))
            values = sum(taken, start=np.zeros(1))
        return values

    mx, my = smooth(x), smooth(y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2.0 * mx * my + c1) / (mx * mx + my * my + c1)
    contrast = (2.0 * (smooth(x * y) - mx * my) + c2) / (smooth(x * x) - mx * mx + smooth(y * y) - my * my + c2)
    return luminance * contrast


def ssim(
    prediction: Image,
    target: Image,
    valid: Mask | None = None,
    *,
    where: Mask | None = None,
    window: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
) -> float:
    """Structural similarity of one image, the mean of :func:`ssim_map` over places and bands; NaN where there is none.

    Args:
        prediction, target: (band, y, x).
        valid: (y, x); places whose window touches a pixel that is not valid do not count.
        where: (y, x); only places whose middle is here count, whatever lies around them.
        window, sigma, data_range: see :func:`ssim_map`.

    >>> image = np.random.default_rng(0).random((3, 16, 16))
    >>> round(ssim(image, image), 12)
    1.0
    """
    if valid is not None:
        prediction = np.where(valid, prediction, np.nan)
    values = ssim_map(prediction, target, window=window, sigma=sigma, data_range=data_range)
    known = np.isfinite(values)
    if where is not None:
        edge = (window - 1) // 2
        known &= where[edge : where.shape[0] - edge, edge : where.shape[1] - edge]
    return float(values[known].mean()) if known.any() else math.nan


def restoration(
    prediction: Image, target: Image, where: Mask | None = None, *, cap: float = PSNR_CAP
) -> dict[str, float]:
    """How well an image was rebuilt: ``PSNR`` in dB, ``SSIM``, ``MAE``, ``RMSE`` and ``SAM`` in degrees.

    Args:
        prediction, target: reflectance, (band, y, x), NaN where missing.
        where: pixels that count, such as those under cloud, (y, x); None means all.
        cap: PSNR of equal images.

    Returns:
        All NaN where no pixel counts.

    >>> found = restoration(np.full((1, 16, 16), 0.2), np.full((1, 16, 16), 0.1), np.eye(16, dtype=bool))
    >>> round(found["PSNR"], 6), round(found["MAE"], 6), found["SAM"]
    (20.0, 0.1, 0.0)
    """
    _same(prediction, target)
    known: Mask = np.asarray(np.isfinite(prediction).all(axis=0) & np.isfinite(target).all(axis=0))
    if where is not None:
        known = known & where
    if not known.any():
        return dict.fromkeys(("PSNR", "SSIM", "MAE", "RMSE", "SAM"), math.nan)
    return {
        "PSNR": psnr(prediction, target, known, cap=cap),
        "SSIM": ssim(prediction, target, where=where),
        "MAE": mae(prediction, target, known),
        "RMSE": math.sqrt(mse(prediction, target, known)),
        "SAM": spectral_angle(prediction, target, known),
    }


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width.

    Attributes:
        confidence, accuracy: means per bin, NaN where a bin is empty.
        count: pixels per bin.
        error: expected calibration error: the mean over pixels of |confidence - accuracy| of their bin.
        worst: the largest |confidence - accuracy| of any bin.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float
    worst: float


def reliability(
    probability: Image, truth: NDArray[np.integer], *, bins: int = 15, ignore: int = NO_DATA
) -> Reliability:
    """How far the probability of the most likely class is from how often it is right, bin by bin.

    The error is that of :func:`unclouded.infer.calibrate.expected_calibration_error`, with the curve behind it.

    Args:
        probability: (class, y, x), sums to 1; NaN where missing.
        truth: class codes (y, x).
        bins: number of bins between 0 and 1.
        ignore: code that counts nowhere.

    Raises:
        InputError: no pixel is left, or a code names no class.

    Source:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    p, y = _labelled(probability, truth, ignore)
    top = p.argmax(axis=0)
    confidence, right = p.max(axis=0), (top == y).astype(np.float64)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / count
        share = np.bincount(place, right, bins) / count
    gap = np.abs(mean - share)
    filled = count > 0
    error = float((gap[filled] * count[filled]).sum() / count.sum())
    return Reliability(mean, share, count, error, float(gap[filled].max()))


def brier_score(probability: Image, truth: NDArray[np.integer], *, ignore: int = NO_DATA) -> float:
    """Mean over pixels of the squared distance between probabilities and the true class, from 0 to 2."""
    p, y = _labelled(probability, truth, ignore)
    onehot = np.arange(len(p))[:, None] == y
    return float(((p - onehot) ** 2).sum(axis=0).mean())


def negative_log_likelihood(probability: Image, truth: NDArray[np.integer], *, ignore: int = NO_DATA) -> float:
    """Mean over pixels of -ln of the true class's probability; probabilities below 1e-12 count as that."""
    p, y = _labelled(probability, truth, ignore)
    return float(-np.log(np.maximum(np.take_along_axis(p, y[None], axis=0), 1e-12)).mean())


@dataclass(frozen=True)
class BoundaryScore:
    """Agreement of outlines. Undefined shares are NaN.

    Attributes:
        precision: share of the predicted outline near a true one.
        recall: share of the true outline near a predicted one.
        f1: harmonic mean; 1 where neither has an outline at all.
    """

    precision: float
    recall: float
    f1: float


def boundary_f1(prediction: Mask, truth: Mask, *, tolerance: float = 2.0, valid: Mask | None = None) -> BoundaryScore:
    """How well the outline of a class agrees with the true one.

    A pixel is on the outline when it is in the class and one of its four neighbours is not; beyond the image's edge and
    at invalid pixels nothing is known, so no outline is there.

    Args:
        prediction, truth: (y, x), True inside the class.
        tolerance: pixels by which outlines may lie apart, Euclidean.
        valid: (y, x).

    Source:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013.

    >>> square = np.zeros((20, 20), bool)
    >>> square[5:15, 5:15] = True
    >>> boundary_f1(np.roll(square, 1, axis=1), square, tolerance=1.0).f1
    1.0
    """
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise InputError(
            f"Masks of shape {prediction.shape} and {truth.shape} were compared.",
            expected="Both are (y, x) on one grid.",
            remedy="Resample one of them.",
        )
    known = np.ones(truth.shape, bool) if valid is None else valid
    ours, theirs = _outline(prediction.astype(bool), known), _outline(truth.astype(bool), known)
    if not ours.any() and not theirs.any():
        return BoundaryScore(math.nan, math.nan, 1.0)
    precision = float((ours & _within(theirs, tolerance)).sum() / ours.sum()) if ours.any() else math.nan
    recall = float((theirs & _within(ours, tolerance)).sum() / theirs.sum()) if theirs.any() else math.nan
    if math.isnan(precision) or math.isnan(recall) or precision + recall == 0.0:
        return BoundaryScore(precision, recall, 0.0)
    return BoundaryScore(precision, recall, 2.0 * precision * recall / (precision + recall))


def _outline(mask: Mask, known: Mask) -> Mask:
    out = np.zeros_like(mask)
    for axis in (0, 1):
        here, there = (slice(None, -1), slice(1, None))
        for one, other in ((here, there), (there, here)):
            a = tuple(one if index == axis else slice(None) for index in (0, 1))
            b = tuple(other if index == axis else slice(None) for index in (0, 1))
            out[a] |= mask[a] & ~mask[b] & known[a] & known[b]
    return out


def _within(outline: Mask, tolerance: float) -> Mask:
    """Pixels not farther than ``tolerance`` from the outline."""
    radius = int(tolerance)
    rows, cols = outline.shape
    padded = np.pad(outline, radius)
    out = np.zeros_like(outline)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= tolerance * tolerance:
                out |= padded[radius + dy : radius + dy + rows, radius + dx : radius + dx + cols]
    return out


def _same(x: Image, y: Image) -> None:
    if x.shape != y.shape or x.ndim != 3:
        raise InputError(
            f"Images of shape {x.shape} and {y.shape} were compared.",
            expected="Both are (band, y, x) with the same bands and grid.",
            remedy="Select the same bands and resample one of them.",
        )


def _pixels(x: Image, y: Image, valid: Mask | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Valid pixels of both as (band, pixel)."""
    _same(x, y)
    known = np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
    if valid is not None:
        known &= valid
    if not known.any():
        raise InputError(
            "Two images without a common valid pixel were compared.",
            expected="At least one pixel is valid in both.",
            remedy="Check the masks and what marks missing pixels.",
        )
    return np.asarray(x[:, known], np.float64), np.asarray(y[:, known], np.float64)


def _labelled(
    probability: Image, truth: NDArray[np.integer], ignore: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (class, pixel) and codes (pixel,) of the pixels that count."""
    known = np.isfinite(probability).all(axis=0) & (truth != ignore)
    y = truth[known].astype(np.int64)
    if not y.size or y.min() < 0 or y.max() >= len(probability):
        raise InputError(
            "No pixel is left to judge." if not y.size else f"The truth holds the code {int(y.max())}.",
            expected=f"Pixels have codes from 0 to {len(probability) - 1}, others are {ignore}.",
            remedy="Check the label raster and its mapping to classes.",
        )
    return np.asarray(probability[:, known], np.float64), y
