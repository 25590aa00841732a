"""Scaling of reflectance before a network, and the statistics of a training set that it takes.

Modes
    none                as given
    divide-3000         counts / 3000, i.e. reflectance x 10000 / 3000 (MSCloudCAM)
    percentile          (clip(x, P1, P99) - P1) / (P99 - P1), per band (percentile-normalised U-Net)
    percentile-literal  the same formula as printed, clip(x, P99, P1) / (P99 - P1): a constant, kept to show that
    standardise         (x - mean) / standard deviation, per band

Statistics come from the training set (the printed text), or from the scene at hand. Arrays are (band, y, x), NaN where
missing; NaN stays NaN, and what is missing never counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

Mode = Literal["none", "divide-3000", "percentile", "percentile-literal", "standardise"]
MODES: tuple[str, ...] = get_args(Mode)

COUNTS_PER_REFLECTANCE = 10000.0
"""Sentinel-2's quantification value."""


class BandHistogram:
    """Counts of values per band, from which percentiles, means and deviations of any amount of data follow.

    Values are rounded to multiples of ``step``; for integer counts with step 1 the percentiles are exact, equal to
    those of all values at once. Values outside the range count as its ends.

    Args:
        bands: number of bands.
        step: width of a bin in the unit of the data: 1 for counts, 1e-4 for reflectance.
        low, high: range of the data, in its unit.

    >>> histogram = BandHistogram(1, step=1.0, low=0, high=100)
    >>> histogram.update(np.arange(101.0).reshape(1, 1, -1))
    >>> histogram.percentiles([1, 50, 99])
    array([[ 1., 50., 99.]])
    """

    def __init__(self, bands: int, *, step: float = 1e-4, low: float = -0.5, high: float = 3.0) -> None:
        if not (step > 0 and high > low):
            raise InputError(
                f"A histogram from {low} to {high} in steps of {step} was asked for.",
                expected="The step is positive and the range runs upwards.",
                remedy="For counts take step=1, low=0, high=65535; for reflectance leave the defaults.",
            )
        self.step, self.first = step, round(low / step)
        self.bins = round(high / step) - self.first + 1
        self.counts = np.zeros((bands, self.bins), np.int64)
        self.sums = np.zeros(bands)
        self.squares = np.zeros(bands)

    def update(self, image: NDArray[np.generic], valid: NDArray[np.bool_] | None = None) -> None:
        """Count one image.

        Args:
            image: (band, y, x); NaN does not count.
            valid: (y, x), False where a pixel must not count, e.g. in padding.

        Raises:
            InputError: the number of bands is another.
        """
        if image.ndim != 3 or image.shape[0] != len(self.counts):
            raise InputError(
                f"An image of shape {image.shape} was given to a histogram of {len(self.counts)} bands.",
                expected="Images are (band, y, x) with as many bands as the histogram.",
                remedy="Make one histogram per set of bands.",
            )
        for row, band in enumerate(image):
            values = np.asarray(band if valid is None else band[valid], np.float64).reshape(-1)
            values = values[np.isfinite(values)]
            place = np.clip(np.rint(values / self.step).astype(np.int64) - self.first, 0, self.bins - 1)
            self.counts[row] += np.bincount(place, minlength=self.bins)
            self.sums[row] += values.sum()
            self.squares[row] += (values * values).sum()

    def merge(self, other: BandHistogram) -> None:
        """Add the counts of a histogram with the same bins, e.g. from another worker."""
        if (self.step, self.first, self.counts.shape) != (other.step, other.first, other.counts.shape):
            raise InputError(
                "Two histograms with different bins were merged.",
                expected="Bands, step and range agree.",
                remedy="Make both with the same arguments.",
            )
        self.counts += other.counts
        self.sums += other.sums
        self.squares += other.squares

    def percentiles(self, q: ArrayLike) -> NDArray[np.float64]:
        """Percentiles per band with linear interpolation, (band, len(q)).

        Raises:
            InputError: a band has no valid value.
        """
        shares = np.atleast_1d(np.asarray(q, np.float64)) / 100.0
        out = np.empty((len(self.counts), len(shares)))
        for row, total in enumerate(self._totals()):
            position = shares * (total - 1)
            below = np.floor(position)
            cumulative = np.cumsum(self.counts[row])
            lower = np.searchsorted(cumulative, below, side="right")
            upper = np.searchsorted(cumulative, np.minimum(below + 1, total - 1), side="right")
            out[row] = lower + (position - below) * (upper - lower)
        return (out + self.first) * self.step

    def mean(self) -> NDArray[np.float64]:
        """Mean per band, of the unrounded values."""
        return self.sums / self._totals()

    def std(self) -> NDArray[np.float64]:
        """Standard deviation per band, of the unrounded values."""
        return np.sqrt(np.maximum(self.squares / self._totals() - self.mean() ** 2, 0.0))

    def _totals(self) -> NDArray[np.int64]:
        totals: NDArray[np.int64] = self.counts.sum(axis=1)
        if not totals.all():
            raise InputError(
                f"Band {int(np.argmin(totals > 0)) + 1} has no valid value at all.",
                expected="Statistics need at least one value in every band.",
                remedy="Leave the band out, or check what marks missing pixels.",
            )
        return totals


@dataclass(frozen=True)
class Normaliser:
    """A mode with the statistics that it needs; plain numbers, so that a run's configuration can hold them.

    Attributes:
        mode: one of :data:`MODES`.
        low, high: 1st and 99th percentile per band (``percentile``).
        mean, std: per band (``standardise``).
    """

    mode: str = "none"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(
                f"There is no normalisation '{self.mode}'.",
                expected=f"Modes are {', '.join(MODES)}.",
                remedy="Choose one of these.",
            )
        needed = self._needed()
        if any(not values for values in needed) or len({len(values) for values in needed}) > 1:
            raise InputError(
                f"The normalisation '{self.mode}' came without its statistics, or for different numbers of bands.",
                expected="percentile needs low and high, standardise needs mean and std, one number per band.",
                remedy="Make it with Normaliser.of_training or Normaliser.of_scene.",
            )

    @classmethod
    def of_training(cls, mode: Mode, histogram: BandHistogram, q: Sequence[float] = (1.0, 99.0)) -> Normaliser:
        """Constants of a training set, the same for every scene.

        Args:
            mode: one of :data:`MODES`.
            histogram: of all valid pixels of the training set.
            q: lower and upper percentile.
        """
        if mode.startswith("percentile"):
            low, high = histogram.percentiles(q).T
            return cls(mode, low=tuple(low.tolist()), high=tuple(high.tolist()))
        if mode == "standardise":
            return cls(mode, mean=tuple(histogram.mean().tolist()), std=tuple(histogram.std().tolist()))
        return cls(mode)

    @classmethod
    def of_scene(cls, mode: Mode, image: NDArray[np.floating[Any]], q: Sequence[float] = (1.0, 99.0)) -> Normaliser:
        """Constants of one scene.

        Args:
            mode: one of :data:`MODES`.
            image: the whole scene, a reduced version will do; (band, y, x), NaN where missing.
            q: lower and upper percentile.

        Raises:
            InputError: a band has no valid value.
        """
        if mode in ("none", "divide-3000"):
            return cls(mode)
        if not np.isfinite(image).any(axis=(1, 2)).all():
            raise InputError(
                "A band of the scene has no valid value at all.",
                expected="Statistics need at least one value in every band.",
                remedy="Leave the band out, or check what marks missing pixels.",
            )
        values = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
        if mode == "standardise":
            mean, std = np.nanmean(values, axis=(1, 2)), np.nanstd(values, axis=(1, 2))
            return cls(mode, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        low, high = np.nanpercentile(values, q, axis=(1, 2))
        return cls(mode, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def apply(self, image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Normalised values, (band, y, x) float32; a band without spread becomes 0.

        Raises:
            InputError: the number of bands is another than that of the statistics.

        >>> Normaliser("percentile", low=(0.1,), high=(0.5,)).apply(np.float32([[[0.0, 0.3, 0.9, np.nan]]])).round(3)
        array([[[0. , 0.5, 1. , nan]]], dtype=float32)
        """
        needed = self._needed()
        if needed and len(needed[0]) != image.shape[0]:
            raise InputError(
                f"An image of {image.shape[0]} bands met statistics of {len(needed[0])} bands.",
                expected="Both have the same bands in the same order.",
                remedy="Fit the normalisation on these bands.",
            )
        if self.mode == "none":
            return image.astype(np.float32)
        if self.mode == "divide-3000":
            return (image * (COUNTS_PER_REFLECTANCE / 3000.0)).astype(np.float32)
        if self.mode == "standardise":
            mean, std = (np.array(values)[:, None, None] for values in (self.mean, self.std))
            return ((image - mean) * _inverse(std)).astype(np.float32)
        low, high = (np.array(values)[:, None, None] for values in (self.low, self.high))
        gain = _inverse(high - low)
        if self.mode == "percentile-literal":
            return (np.minimum(np.maximum(image, high), low) * gain).astype(np.float32)
        return ((np.clip(image, low, high) - low) * gain).astype(np.float32)

    def _needed(self) -> tuple[tuple[float, ...], ...]:
        if self.mode.startswith("percentile"):
            return self.low, self.high
        return (self.mean, self.std) if self.mode == "standardise" else ()


def _inverse(span: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, span, out=np.zeros_like(span), where=span > 0)
