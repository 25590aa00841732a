"""Saturated pixels: too bright to be measured. They keep their value, are never missing, and are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import radiometry as rad
from .scene import Radiometry

_SIDE = 128
"""Side of the windows that are sampled, in native pixels."""

_PLACES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
"""Where the windows lie, as shares of rows and columns."""


class Tally:
    """Counts saturated pixels while a scene is read.

    A pixel that is the mean of finer ones counts only if all of them are saturated.

    Args:
        radiometry: how each band became reflectance.

    >>> tally = Tally({"red": Radiometry(1e-4, 0.0, 0, "user", saturated=65535)})
    >>> tally.add(["red"], np.float32([[[0.1, 6.5535, np.nan]]]))
    >>> tally.percent()
    {'red': 50.0}
    """

    def __init__(self, radiometry: Mapping[str, Radiometry]) -> None:
        self._limits = {
            name: np.float32(one.saturated) * np.float32(one.scale) + np.float32(one.offset)
            for name, one in radiometry.items()
            if one.saturated is not None
        }
        self._saturated: Counter[str] = Counter()
        self._valid: Counter[str] = Counter()

    def add(self, names: Sequence[str], image: NDArray[np.float32]) -> None:
        """Count the pixels of some rows, (band, y, x), NaN where missing."""
        for name, plane in zip(names, image, strict=True):
            if name in self._limits:
                # Means of equal values differ from them in the last digits.
                self._saturated[name] += int((plane >= self._limits[name] * np.float32(1 - 1e-6)).sum())
                self._valid[name] += int(np.isfinite(plane).sum())

    def percent(self) -> dict[str, float]:
        """Share of saturated pixels among those with data in percent, of each band whose limit is known."""
        return {
            name: round(100.0 * self._saturated[name] / self._valid[name], 4)
            for name in self._limits
            if self._valid[name]
        }


def sampled_percent(source: Any, record: Radiometry) -> float | None:
    """Share of saturated pixels in five native windows of a band, in percent.

    Returns:
        None where the sensor's saturation value is not known, where the band is not a file on this machine, and where
        the windows hold no data.

    Raises:
        InputError: the file cannot be read.
    """
    import rasterio
    from rasterio.windows import Window

    from .raster import RasterBand
    from .raster_files import environment, is_remote, read_errors

    if record.saturated is None or not isinstance(source, RasterBand) or is_remote(source.path):
        return None
    saturated = valid = 0
    with read_errors(source.path), environment(source.path), rasterio.open(source.path) as dataset:
        height, width = (min(_SIDE, size) for size in dataset.shape)
        for down, across in _PLACES:
            top, left = int(down * (dataset.height - height)), int(across * (dataset.width - width))
            stored = dataset.read(source.index, window=Window(left, top, width, height))
            gone = rad.missing(stored, record.nodata)
            valid += stored.size - (0 if gone is None else int(gone.sum()))
            saturated += int((stored == record.saturated).sum())
    return round(100.0 * saturated / valid, 4) if valid else None
