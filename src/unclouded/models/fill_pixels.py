"""Fill and refine by pixels: the fill of fill-unet, corrected pixel by pixel from means of its surroundings.

Shapes
    n  batch    b  optical bands    c  what is looked at    f  features    h, w  pixels, multiples of 32 inside

Steps
    1. and 2. as in :mod:`unclouded.models.fill_unet`
    3. the parts (n, c, h, w), their means over about 12 and 48 pixels, and a network of single pixels over all of them
    4. as in :mod:`unclouded.models.fill_unet`

It cannot draw shapes that nothing shows, and has twenty times fewer weights than the U-Net. So it learns from single
pixels, of which a few hundred thousand are read in minutes, and does not learn the places of a small training set by
heart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import register
from .fill_unet import FillUNet

CELLS = (4, 16)
"""Sides of the cells of the two means; each is smoothed over 3 x 3 cells."""


class PixelNet(nn.Module):
    """Parts (n, c, h, w) to (n, k, h, w), each pixel from its own features.

    Args:
        channels: c.
        outputs: k.
        widths: features of the hidden layers.
    """

    def __init__(self, channels: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels * (1 + len(CELLS)), widths[0], 1)
        self.hidden = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[-1], outputs, 1)
        nn.init.normal_(self.last.weight, std=1e-3)  # untrained, it gives what the fill gives
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def features(self, parts: Tensor) -> Tensor:
        """The parts and the means of their surroundings, (n, 3 c, h, w)."""
        out = [parts]
        for cell in CELLS:
            mean = F.avg_pool2d(F.avg_pool2d(parts, cell), 3, 1, 1, count_include_pad=False)
            out.append(F.interpolate(mean, scale_factor=float(cell), mode="bilinear", align_corners=False))
        return torch.cat(out, 1)

    def decide(self, features: Tensor, bias: Tensor) -> Tensor:
        """Features (n, 3 c, h, w) and what is known of the bands (n, f) to (n, k, h, w)."""
        x = F.silu(self.first(features) + bias[:, :, None, None])
        for layer in self.hidden:
            x = F.silu(layer(x))
        found: Tensor = self.last(x)
        return found

    def forward(self, parts: Tensor, bias: Tensor) -> Tensor:
        return self.decide(self.features(parts), bias)


@register("fill-pixels")
class FillPixels(FillUNet):
    """As :class:`unclouded.models.fill_unet.FillUNet`, with a network of single pixels in place of the U-Net.

    Args:
        bands, sar_bands, mean, std: as there.
        widths: features of the hidden layers.

    >>> net = FillPixels(bands=3, widths=(16, 16)).eval()
    >>> net(torch.rand(1, 3, 40, 50), torch.rand(1, 2, 40, 50)).shape
    torch.Size([1, 3, 40, 50])
    """

    def __init__(
        self,
        bands: int = 13,
        sar_bands: int = 2,
        widths: Sequence[int] = (96, 64),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__(bands, sar_bands, widths[:1], 1, mean, std)
        channels = 2 * bands + 3 + (sar_bands + 1 if sar_bands else 0)
        self.unet: PixelNet = PixelNet(channels, 2 * bands + 1, widths)  # type: ignore[assignment]
