"""Random fields with a power-law spectrum: the shapes of clouds and landscapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def power_law_field(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    exponent: float,
    largest_px: float | None = None,
    stretch: float = 1.0,
    angle_rad: float = 0.0,
) -> NDArray[np.float32]:
    """Gaussian random field whose power falls as frequency to the ``-exponent``.

    Args:
        shape: (y, x) in pixels.
        rng: source of randomness; the same state gives the same field.
        exponent: slope of the power spectrum; 2 is rough, 4 smooth. Cloud water has about 2.7 to 3.7.
        largest_px: size in pixels above which the power stays constant; None means the field's own size.
        stretch: elongation of structures, 1 for none.
        angle_rad: direction of the elongation, from the x axis.

    Returns:
        Field of mean 0 and standard deviation 1, (y, x) float32. It wraps around at its edges.

    >>> field = power_law_field((64, 48), np.random.default_rng(1), exponent=3.0)
    >>> field.shape, bool(abs(field.std() - 1) < 1e-3)
    ((64, 48), True)
    """
    rows, cols = shape
    fy = np.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(cols).astype(np.float32)[None, :]
    along = fx * np.cos(angle_rad) + fy * np.sin(angle_rad)
    across = fy * np.cos(angle_rad) - fx * np.sin(angle_rad)
    radius2 = (along * stretch) ** 2 + across**2
    floor = 1.0 / (largest_px if largest_px is not None else max(rows, cols))
    amplitude = np.maximum(radius2, np.float32(floor**2)) ** np.float32(-exponent / 4.0)
    amplitude[0, 0] = 0.0
    noise = rng.standard_normal((rows, fx.shape[1], 2), dtype=np.float32)
    spectrum = (noise[..., 0] + 1j * noise[..., 1]) * amplitude
    field = np.fft.irfft2(spectrum, s=shape).astype(np.float32)
    deviation = float(field.std())
    return (field - field.mean()) / (deviation if deviation > 0 else 1.0)


def blur(field: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """Gaussian blur of standard deviation ``radius_px`` along the last two axes, wrapping around at the edges."""
    if radius_px <= 0:
        return field
    fy = np.fft.fftfreq(field.shape[-2]).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(field.shape[-1]).astype(np.float32)[None, :]
    response = np.exp(-2.0 * (np.pi * radius_px) ** 2 * (fx**2 + fy**2))
    out = np.fft.irfft2(np.fft.rfft2(field) * response, s=field.shape[-2:])
    return np.asarray(out, dtype=np.float32)
