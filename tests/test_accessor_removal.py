"""Removal and composites of xarray objects."""

from __future__ import annotations

import numpy as np
import xarray

import unclouded
import unclouded.accessor

BANDS = ["blue", "green", "red", "nir"]


def dates() -> tuple[xarray.DataArray, xarray.DataArray, np.ndarray]:
    """A cloudy date, a clear one, and the mask of the first."""
    ground = np.broadcast_to(np.linspace(0.05, 0.3, 64, dtype=np.float32), (4, 64, 64)).copy()
    cloudy, mask = ground.copy(), np.zeros((64, 64), np.uint8)
    cloudy[:, 20:40, 20:40], mask[20:40, 20:40] = 0.8, 1
    one, other = (xarray.DataArray(image, {"band": BANDS}, ("band", "y", "x")) for image in (cloudy, ground))
    return one, other, mask


def test_remove_is_the_function() -> None:
    cloudy, ground, mask = dates()
    settings = {"mask": mask, "history_masks": [np.zeros_like(mask)], "model": "none"}
    found = cloudy.unclouded.remove(history=[ground], **settings)
    assert isinstance(found, unclouded.Removal)
    np.testing.assert_allclose(found.image, ground, atol=1e-6)
    np.testing.assert_array_equal(found.image, unclouded.remove(cloudy, history=[ground], **settings).image)


def test_composite_is_the_function() -> None:
    cloudy, ground, mask = dates()
    moments = np.array(["2023-01-01", "2023-01-05"], "datetime64[ns]")
    series = xarray.concat([cloudy, ground], "time").assign_coords(time=moments)
    masks = xarray.DataArray(np.stack([mask, np.zeros_like(mask)]), {"time": moments}, ("time", "y", "x"))
    found = series.unclouded.composite(masks=masks, method="medoid")
    np.testing.assert_array_equal(found.image, ground)
    np.testing.assert_array_equal(found.date, unclouded.composite(series, masks=masks, method="medoid").date)
