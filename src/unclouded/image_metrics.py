"""How close a restored image is to the true one: MAE, MSE, PSNR, SSIM and spectral angle, in numpy.

Images are (..., band, y, x) reflectance, bands together; leading axes are images, each measured by itself. A mask
``valid`` (..., y, x) leaves pixels out, and so does NaN. Everything is computed in float64. Undefined results
are NaN, never 0.

Source
    The measures of the MMCANet paper, eqs. (15) to (20). Its eq. (20) takes the angle between two whole images as
    vectors, where its text means one angle per pixel: :func:`spectral_angle` is the latter,
    :func:`spectral_angle_literal` the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Array = NDArray[np.float64]

WINDOW = 11
"""Side of the window of SSIM in pixels (Wang et al., 2004)."""

SIGMA = 1.5
"""Standard deviation of the window of SSIM in pixels (Wang et al., 2004)."""

PSNR_CAP = 100.0
"""PSNR in dB that an image equal to its target counts as in a mean."""


def mae(x: NDArray[Any], y: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Array:
    """Mean absolute error over pixels and bands, one value per image.

    >>> float(mae(np.zeros((3, 2, 2)), np.full((3, 2, 2), 0.25)))
    0.25
    """
    x, y, used = _prepare(x, y, valid)
    return _mean(np.abs(x - y).mean(axis=-3), used)


def mse(x: NDArray[Any], y: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Array:
    """Mean squared error over pixels and bands, one value per image."""
    x, y, used = _prepare(x, y, valid)
    return _mean(((x - y) ** 2).mean(axis=-3), used)


def psnr(
    x: NDArray[Any], y: NDArray[Any], valid: NDArray[np.bool_] | None = None, *, data_range: float = 1.0
) -> Array:
    """Peak signal-to-noise ratio in dB, 20 log10(data_range / sqrt(mse)), one value per image.

    Infinite where the images are equal.

    >>> round(float(psnr(np.zeros((3, 2, 2)), np.full((3, 2, 2), 0.1))), 6)
    20.0
    """
    with np.errstate(divide="ignore"):
        return 20 * np.log10(data_range / np.sqrt(mse(x, y, valid)))


def ssim(
    x: NDArray[Any],
    y: NDArray[Any],
    valid: NDArray[np.bool_] | None = None,
    *,
    data_range: float = 1.0,
    boundary: Literal["valid", "zero", "reflect"] = "valid",
) -> Array:
    """Structural similarity of every band, the mean of :func:`ssim_map` over pixels, (..., band).

    Windows that touch a pixel left out do not count.
    """
    x, y, used = _prepare(x, y, valid)
    maps = ssim_map(x, y, data_range=data_range, boundary=boundary)
    whole = np.broadcast_to(_whole_windows(used, boundary)[..., None, :, :], maps.shape)
    return _mean(maps, whole)


def ssim_map(
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    data_range: float = 1.0,
    boundary: Literal["valid", "zero", "reflect"] = "valid",
) -> Array:
    """Structural similarity at every pixel and band.

    Args:
        x, y: (..., y, x).
        data_range: largest minus smallest possible value.
        boundary: ``valid`` keeps the windows that lie inside, ``zero`` and ``reflect`` extend the image by half a
            window.

    Returns:
        (..., y - 10, x - 10) for ``valid``, otherwise the shape of x.

    Raises:
        InputError: the image is smaller than a window.

    Source:
        Wang et al., Image Quality Assessment, 2004: Gaussian window of 11 x 11 pixels and sigma 1.5, constants
        (0.01 range)^2 and (0.03 range)^2.
    """
    least = WINDOW if boundary == "valid" else WINDOW // 2 + 1
    if min(x.shape[-2:]) < least:
        raise InputError(
            f"SSIM was asked for an image of {x.shape[-2]} x {x.shape[-1]} pixels.",
            expected=f"With the boundary '{boundary}' it is at least {least} x {least} pixels large.",
            remedy="Compare larger images.",
        )
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_x, mean_y = _smooth(x, boundary), _smooth(y, boundary)
    var_x = _smooth(x * x, boundary) - mean_x**2
    var_y = _smooth(y * y, boundary) - mean_y**2
    covariance = _smooth(x * y, boundary) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def spectral_angle(x: NDArray[Any], y: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Array:
    """Mean over pixels of the angle between the two spectra, in degrees, one value per image.

    Pixels where a spectrum is zero have no angle and do not count.
    """
    x, y, used = _prepare(x, y, valid)
    angle = spectral_angle_map(x, y)
    return _mean(angle, used & np.isfinite(angle))


def spectral_angle_map(x: NDArray[Any], y: NDArray[Any]) -> Array:
    """Angle between the spectra of every pixel in degrees, (..., y, x); NaN where a spectrum is zero.

    Args:
        x, y: (..., band, y, x).

    >>> one = np.array([1.0, 0.0])[:, None, None]
    >>> both = np.array([1.0, 1.0])[:, None, None]
    >>> round(float(spectral_angle_map(one, both)[0, 0]), 6)
    45.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return _angle((x * y).sum(axis=-3), (x * x).sum(axis=-3), (y * y).sum(axis=-3))


def spectral_angle_literal(x: NDArray[Any], y: NDArray[Any]) -> Array:
    """Angle between two whole images as vectors, in degrees: the printed eq. (20), to compare with figures made so."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    axes = (-3, -2, -1)
    return _angle((x * y).sum(axis=axes), (x * x).sum(axis=axes), (y * y).sum(axis=axes))


def scores(
    restored: NDArray[Any], target: NDArray[Any], valid: NDArray[np.bool_] | None = None, *, data_range: float = 1.0
) -> dict[str, float]:
    """All measures of one restored image, clipped to 0..data_range first.

    Args:
        restored, target: (band, y, x) reflectance; NaN is left out.
        valid: (y, x); other pixels are left out.
        data_range: largest possible value.

    Returns:
        ``mae``, ``mse``, ``psnr`` (dB), ``ssim`` (mean over bands), ``sam`` (degrees).

    Raises:
        InputError: the shapes differ, or the image is smaller than a window of SSIM.

    >>> truth = np.random.default_rng(0).uniform(0, 1, (3, 16, 16))
    >>> found = scores(truth, truth)
    >>> found["mae"], found["psnr"], round(found["ssim"], 12), round(found["sam"], 4)
    (0.0, inf, 1.0, 0.0)
    """
    x, y = np.clip(restored, 0, data_range), np.clip(target, 0, data_range)
    return {
        "mae": float(mae(x, y, valid)),
        "mse": float(mse(x, y, valid)),
        "psnr": float(psnr(x, y, valid, data_range=data_range)),
        "ssim": float(ssim(x, y, valid, data_range=data_range).mean()),
        "sam": float(spectral_angle(x, y, valid)),
    }


def average(each: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of the scores of many images, image by image as the papers do.

    An infinite PSNR counts as 100 dB; ``equal`` says how many there were. Undefined scores are left out.

    >>> average([{"psnr": 30.0, "ssim": 0.9}, {"psnr": float("inf"), "ssim": float("nan")}])
    {'psnr': 65.0, 'ssim': 0.9, 'images': 2, 'equal': 1}
    """
    result: dict[str, float] = {}
    for name in dict.fromkeys(key for one in each for key in one):
        values = np.array([one[name] for one in each if name in one and not np.isnan(one[name])])
        if name == "psnr":
            values = np.minimum(values, PSNR_CAP)
        result[name] = float(values.mean()) if values.size else float("nan")
    equal = sum(np.isinf(one.get("psnr", 0.0)) for one in each)
    return {**result, "images": len(each), "equal": int(equal)}


def _prepare(
    x: NDArray[Any], y: NDArray[Any], valid: NDArray[np.bool_] | None
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Both images in float64 with 0 where left out, and what is not left out, (..., y, x)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim < 3:
        raise InputError(
            f"Images of the shapes {x.shape} and {y.shape} were to be compared.",
            expected="Both are (..., band, y, x) and of the same shape.",
            remedy="Bring both to the same bands and grid.",
        )
    used = np.isfinite(x).all(axis=-3) & np.isfinite(y).all(axis=-3)
    if valid is not None:
        try:
            used = used & np.broadcast_to(valid, used.shape)
        except ValueError as err:
            raise InputError(
                f"A mask of the shape {np.shape(valid)} came with images of the shape {x.shape}.",
                expected=f"The mask is {used.shape}.",
                remedy="Bring the mask to the grid of the images.",
            ) from err
    inside = used[..., None, :, :]
    return np.where(inside, x, 0.0), np.where(inside, y, 0.0), used


def _mean(values: Array, used: NDArray[np.bool_]) -> Array:
    """Mean over the last two axes of the values used, NaN where there are none."""
    count = used.sum(axis=(-2, -1))
    total = np.where(used, values, 0.0).sum(axis=(-2, -1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _angle(product: Array, square_x: Array, square_y: Array) -> Array:
    length = np.sqrt(square_x) * np.sqrt(square_y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.degrees(np.arccos(np.clip(product / length, -1.0, 1.0)))


def _extend(x: Array, boundary: str) -> Array:
    """The image with half a window more on every side, (..., y, x); as it is for ``valid``."""
    if boundary == "valid":
        return x
    margin = [(0, 0)] * (x.ndim - 2) + [(WINDOW // 2, WINDOW // 2)] * 2
    return np.pad(x, margin, mode="reflect" if boundary == "reflect" else "constant")


def _smooth(x: Array, boundary: str) -> Array:
    """Gaussian mean over the window around each pixel, (..., y, x)."""
    distance = np.arange(WINDOW) - (WINDOW - 1) / 2
    weight = np.exp(-(distance**2) / (2 * SIGMA**2))
    weight /= weight.sum()
    x = _extend(x, boundary)
    rows, cols = x.shape[-2] - WINDOW + 1, x.shape[-1] - WINDOW + 1
    x = sum(w * x[..., i : i + rows, :] for i, w in enumerate(weight))
    return sum(w * x[..., i : i + cols] for i, w in enumerate(weight))


def _whole_windows(used: NDArray[np.bool_], boundary: str) -> NDArray[np.bool_]:
    """Where no pixel of the window was left out; what lies beyond the edge counts as used."""
    if boundary != "valid":
        margin = [(0, 0)] * (used.ndim - 2) + [(WINDOW // 2, WINDOW // 2)] * 2
        used = np.pad(used, margin, constant_values=True)
    columns = np.lib.stride_tricks.sliding_window_view(used, WINDOW, axis=-2).all(axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(columns, WINDOW, axis=-1)
    return np.asarray(windows.all(axis=-1))
