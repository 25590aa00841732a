"""What a removal network has to beat: simple ways to fill what clouds hide, all with one call.

    filled = baseline(image, hidden, history, history_clear)

        image          (band, y, x) float32 reflectance, NaN where missing
        hidden         (y, x) bool, what is to be filled
        history        (date, band, y, x) float32, nearest date first; may have no date
        history_clear  (date, y, x) bool, where each date shows clear ground

Each returns a new image (band, y, x); pixels that are not hidden are as they were, and hidden ones that it cannot fill
stay as they were, too, which counts against it. None looks at radar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingDependencyError
from .matching import match

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Baseline = Callable[[Image, Mask, Image, Mask], Image]


def unchanged(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """The cloudy image itself."""
    _check(image, hidden, history, history_clear)
    return image.copy()


def harmonic(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """Inpainting: every hidden pixel becomes the mean of its four neighbours, until nothing changes any more.

    The Laplace equation is solved from coarse to fine grids, each starting from the one before.

    >>> ramp = np.broadcast_to(np.linspace(0, 1, 9, dtype=np.float32), (1, 9, 9)).copy()
    >>> hidden = np.zeros((9, 9), bool)
    >>> hidden[3:6, 3:6] = True
    >>> none = np.zeros((0, 1, 9, 9), np.float32), np.zeros((0, 9, 9), bool)
    >>> bool(np.abs(harmonic(np.where(hidden, 9, ramp), hidden, *none) - ramp).max() < 1e-3)
    True
    """
    _check(image, hidden, history, history_clear)
    known = np.isfinite(image).all(axis=0) & ~hidden
    out = image.copy()
    if known.any():
        filled = _laplace(np.where(known, image, 0.0).astype(np.float32), known)
        out[:, hidden] = filled[:, hidden]
    return out


def biharmonic(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """Inpainting by the biharmonic equation, of scikit-image: smooth across the edge. Slow for large gaps.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    _check(image, hidden, history, history_clear)
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError as err:
        raise MissingDependencyError.for_extra("scikit-image", "restore") from err
    gap = hidden | ~np.isfinite(image).all(axis=0)
    out = image.copy()
    if not gap.all():
        given = np.where(gap, 0.0, image).astype(np.float64)
        filled = inpaint_biharmonic(given, gap, split_into_regions=True, channel_axis=0)
        out[:, hidden] = filled[:, hidden]
    return out


def nearest_date(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """The nearest date that shows a pixel clear, as it is."""
    _check(image, hidden, history, history_clear)
    out, left = image.copy(), hidden.copy()
    for date, clear in zip(history, history_clear, strict=True):
        use = left & clear & np.isfinite(date).all(axis=0)
        out[:, use] = date[:, use]
        left &= ~use
    return out


def matched_date(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """The nearest date that shows a pixel clear, brought to the image's radiometry as :func:`unclouded.remove` does."""
    _check(image, hidden, history, history_clear)
    shape = (hidden.shape[0], hidden.shape[1])
    matched = [
        match(image.astype(np.float32), date.astype(np.float32), clear & ~hidden).apply(
            date.astype(np.float32), 0, shape
        )
        for date, clear in zip(history, history_clear, strict=True)
    ]
    return nearest_date(image, hidden, np.reshape(matched, history.shape), history_clear)


def temporal_median(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> Image:
    """The median of all dates that show a pixel clear, band by band.

    >>> dates = np.float32([0.1, 0.2, 0.9]).reshape(3, 1, 1, 1)
    >>> one = np.ones((1, 1, 1), np.float32)
    >>> temporal_median(one, np.ones((1, 1), bool), dates, np.ones((3, 1, 1), bool)).tolist()
    [[[0.20000000298023224]]]
    """
    _check(image, hidden, history, history_clear)
    out = image.copy()
    shown = history_clear & np.isfinite(history).all(axis=1)
    use = hidden & shown.any(axis=0)
    if use.any():
        values = np.where(shown[:, np.newaxis], history, np.nan)[:, :, use]
        out[:, use] = np.nanmedian(values, axis=0)
    return out


BASELINES: dict[str, Baseline] = {
    "unchanged": unchanged,
    "harmonic": harmonic,
    "biharmonic": biharmonic,
    "nearest-date": nearest_date,
    "matched-date": matched_date,
    "temporal-median": temporal_median,
}
"""All of them by name."""


def _laplace(values: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """Solve for the unknown pixels of (band, y, x), whose values are 0; mirrored at the edges."""
    rows, cols = known.shape
    if known.all():
        return values
    guess = np.broadcast_to(values[:, known].mean(axis=1)[:, None, None], values.shape)
    if min(rows, cols) > 4:
        padding = ((0, rows % 2), (0, cols % 2))
        weight = np.pad(known.astype(np.float32), padding)
        count = _quarter(weight)
        total = _quarter(np.pad(values * known, ((0, 0), *padding)))
        coarse = _laplace(np.where(count > 0, total / np.maximum(count, 1), 0).astype(np.float32), count > 0)
        guess = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :cols]
    out = np.where(known, values, guess).astype(np.float32)
    unknown = ~known
    odd = np.add.outer(np.arange(rows), np.arange(cols)) % 2 == 1
    for _ in range(60):
        for part in (unknown & odd, unknown & ~odd):  # over-relaxed Gauss-Seidel, one colour after the other
            edge = np.pad(out, ((0, 0), (1, 1), (1, 1)), mode="edge")
            mean = 0.25 * (edge[:, :-2, 1:-1] + edge[:, 2:, 1:-1] + edge[:, 1:-1, :-2] + edge[:, 1:-1, 2:])
            out[:, part] += np.float32(1.5) * (mean - out)[:, part]
    return out


def _quarter(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of blocks of 2 x 2 pixels along the last two axes."""
    return planes[..., ::2, ::2] + planes[..., 1::2, ::2] + planes[..., ::2, 1::2] + planes[..., 1::2, 1::2]


def _check(image: Image, hidden: Mask, history: Image, history_clear: Mask) -> None:
    shape = image.shape
    if (
        image.ndim != 3 or hidden.shape != shape[1:] or history.shape[1:] != shape
        or history_clear.shape != (len(history), *shape[1:])
    ):  # fmt: skip
        raise InputError(
            f"The image has the shape {shape}, what is hidden {hidden.shape}, other dates {history.shape} and their"
            f" clear pixels {history_clear.shape}.",
            expected="They are (band, y, x), (y, x), (date, band, y, x) and (date, y, x).",
            remedy="Cut and order them alike; without other dates pass arrays of no date.",
        )
