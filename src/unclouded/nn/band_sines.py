"""Sum over bands of gain * sin(frequency * reflectance + phase), without the tensor of all bands and channels.

Shapes
    n  batch    b  bands    c  channels    p  pixels of one chunk    h, w  rows, columns

The sine is cheap to compute again and costly to keep: forward and backward walk over images, bands and chunks of pixels
that fit the cache, so that memory grows with c h w and never with b c h w. Bands whose gain is all zero (padding) are
skipped, which changes nothing.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_CHUNK = 1 << 18
"""Values (channels x pixels) of one step on the CPU: 1 MB in float32, so that its few temporaries stay in cache."""


def band_sines(image: Tensor, frequency: Tensor, phase: Tensor, gain: Tensor) -> Tensor:
    """Sum over bands b of gain_bc sin(frequency_bc image_b + phase_bc).

    Args:
        image: (n, b, h, w).
        frequency, phase, gain: (n, b, c).

    Returns:
        (n, c, h, w).

    >>> image = torch.full((1, 2, 3, 4), 0.5)
    >>> one = torch.ones(1, 2, 1)
    >>> band_sines(image, one, 0 * one, one)[0, 0, 0, 0].item() == 2 * torch.tensor(0.5).sin().item()
    True
    """
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return _scripted()(image, frequency, phase, gain)
    if torch.compiler.is_compiling():
        argument = frequency[..., None, None] * image[:, :, None] + phase[..., None, None]
        return (gain[..., None, None] * torch.sin(argument)).sum(dim=1)
    out: Tensor = _BandSines.apply(image, frequency, phase, gain)
    return out


def _looped(image: Tensor, frequency: Tensor, phase: Tensor, gain: Tensor) -> Tensor:
    first = image[:, 0:1] * 0.0
    out = first.expand(-1, frequency.size(2), -1, -1)
    for band in range(image.size(1)):
        argument = frequency[:, band, :, None, None] * image[:, band, None] + phase[:, band, :, None, None]
        out = out + gain[:, band, :, None, None] * torch.sin(argument)
    return out


@functools.cache
def _scripted() -> Callable[..., Tensor]:
    # A script keeps its loop, which becomes an ONNX Loop over however many bands there are; a trace would unroll it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: Callable[..., Tensor] = torch.jit.script(_looped)
    return scripted


def _steps(image: Tensor, gain: Tensor) -> Iterator[tuple[slice, int, slice]]:
    """(images, band, pixels) of every step; ``image`` is (n, b, h w)."""
    n, b, pixels = image.shape
    if image.device.type != "cpu":  # many small steps would leave a GPU idle
        everything = slice(0, pixels)
        yield from ((slice(0, n), band, everything) for band in range(b))
        return
    real = (gain != 0).any(dim=2).tolist()
    width = max(_CHUNK // gain.shape[2], 1)
    for start in range(0, pixels, width):
        for index in range(n):
            for band in range(b):
                if real[index][band]:
                    yield slice(index, index + 1), band, slice(start, start + width)


class _BandSines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, image: Tensor, frequency: Tensor, phase: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(image, frequency, phase, gain)
        n, b, h, w = image.shape
        flat = image.reshape(n, b, h * w)
        out = image.new_zeros(n, frequency.shape[2], h * w)
        for images, band, pixels in _steps(flat, gain):
            values = torch.addcmul(
                phase[images, band, :, None], frequency[images, band, :, None], flat[images, band, None, pixels]
            ).sin_()
            out[images, :, pixels].addcmul_(gain[images, band, :, None], values)
        return out.reshape(n, -1, h, w)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        image, frequency, phase, gain = ctx.saved_tensors  # type: ignore[attr-defined]
        n, b, h, w = image.shape
        flat = image.reshape(n, b, h * w)
        up = upstream.reshape(n, -1, h * w)
        to_image = torch.zeros_like(flat) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        to_frequency, to_phase, to_gain = (torch.zeros_like(frequency) for _ in range(3))
        for images, band, pixels in _steps(flat, gain):
            values = flat[images, band, None, pixels]  # n, 1, p
            argument = torch.addcmul(phase[images, band, :, None], frequency[images, band, :, None], values)
            piece = up[images, :, pixels]
            to_gain[images, band] += (argument.sin() * piece).sum(dim=2)
            slope = argument.cos_().mul_(piece)  # n, c, p
            to_phase[images, band] += slope.sum(dim=2) * gain[images, band]
            to_frequency[images, band] += (slope @ values.transpose(1, 2))[..., 0] * gain[images, band]
            if to_image is not None:
                weight = (gain * frequency)[images, band, None]  # n, 1, c
                to_image[images, band, pixels] += (weight @ slope)[:, 0]
        return (None if to_image is None else to_image.reshape(n, b, h, w)), to_frequency, to_phase, to_gain
