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
    if stretch == 1.0:
        radius2 = fx**2 + fy**2
    else:
        cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
        radius2 = ((fx * cos + fy * sin) * np.float32(stretch)) ** 2 + (fy * cos - fx * sin) ** 2
    floor = 1.0 / (largest_px if largest_px is not None else max(rows, cols))
    # The power of a float array by way of its logarithm, which is several times faster.
    amplitude = np.maximum(radius2, np.float32(floor**2), out=radius2)
    np.log(amplitude, out=amplitude)
    amplitude *= np.float32(-exponent / 4.0)
    np.exp(amplitude, out=amplitude)
    amplitude[0, 0] = 0.0
    spectrum = rng.standard_normal((rows, fx.shape[1], 2), dtype=np.float32)
    spectrum *= amplitude[..., None]
    field = np.fft.irfft2(spectrum.view(np.complex64)[..., 0], s=shape).astype(np.float32, copy=False)
    field -= field.mean()
    deviation = float(np.sqrt(np.mean(np.square(field))))
    field *= np.float32(1.0 / deviation if deviation > 0 else 1.0)
    return field


def blur(field: NDArray[np.float32], radius_px: float) -> NDArray[np.float32]:
    """Gaussian blur of standard deviation ``radius_px`` along the last two axes, wrapping around at the edges.

    >>> spot = np.zeros((5, 5), np.float32)
    >>> spot[2, 2] = 1
    >>> blur(spot, 0.5)[2].round(3)
    array([0.   , 0.084, 0.619, 0.084, 0.   ], dtype=float32)
    """
    if radius_px <= 0:
        return field
    reach = int(np.ceil(3.2 * radius_px))
    if radius_px > 3 or reach >= min(field.shape[-2:]):
        fy = np.fft.fftfreq(field.shape[-2]).astype(np.float32)[:, None]
        fx = np.fft.rfftfreq(field.shape[-1]).astype(np.float32)[None, :]
        response = np.exp(np.float32(-2.0 * (np.pi * radius_px) ** 2) * (fx**2 + fy**2))
        out = np.fft.irfft2(np.fft.rfft2(field) * response, s=field.shape[-2:])
        return np.asarray(out, dtype=np.float32)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / radius_px) ** 2).astype(np.float32)
    weights /= weights[0] + 2 * weights[1:].sum()
    return _convolve(_convolve(np.asarray(field, np.float32), weights, -2), weights, -1)


def enlarge(field: NDArray[np.float32], shape: tuple[int, int], factor: int) -> NDArray[np.float32]:
    """A field on a grid ``factor`` times finer, linear in between and constant beyond its outer pixel centres.

    Args:
        field: (y, x) float32.
        shape: rows and columns wanted, at most ``factor`` times those of ``field``.
        factor: pixels wanted for each pixel along a side.

    >>> enlarge(np.float32([[0, 1]]), (1, 4), 2)
    array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    # Two taps along each side; matrix products would wake up the threads of the algebra library for nothing.
    out = field
    for axis, size in enumerate(shape):
        position = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, out.shape[axis] - 1)
        first = position.astype(np.intp)
        second = np.minimum(first + 1, out.shape[axis] - 1)
        share = np.asarray(position - first, np.float32)
        near, far = np.take(out, first, axis=axis), np.take(out, second, axis=axis)
        far -= near
        far *= share[:, None] if axis == 0 else share
        out = np.add(near, far, out=near)
    return out


def _convolve(field: NDArray[np.float32], weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Symmetric convolution along one axis; ``weights`` are those of the middle and of one side."""
    size, reach = field.shape[axis], len(weights) - 1
    wide = np.concatenate(
        [_part(field, axis, size - reach, size), field, _part(field, axis, 0, reach)], axis=axis
    )
    out = _part(wide, axis, reach, reach + size) * weights[0]
    pair = np.empty_like(out)
    for step in range(1, reach + 1):
        before, after = (_part(wide, axis, reach + way, reach + way + size) for way in (-step, step))
        np.add(before, after, out=pair)
        pair *= weights[step]
        out += pair
    return np.asarray(out)


def _part(field: NDArray[np.float32], axis: int, first: int, last: int) -> NDArray[np.float32]:
    return field[..., first:last, :] if axis == -2 else field[..., first:last]
