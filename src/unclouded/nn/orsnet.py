"""The original-resolution network: residual blocks at full size that take in features of an earlier stage.

Shapes
    n  batch    c  features    h, w  pixels

Source
    Zamir et al., Multi-Stage Progressive Image Restoration (2021): the third stage of MPRNet. One slope of the
    activation is shared by all blocks of a network there; here the network owns it and hands it to its blocks, so that
    saved weights hold it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST_SLOPE = 0.25
"""First value of the shared activation slope (the usual start of a parametric ReLU)."""


class ChannelAttentionBlock(nn.Module):
    """Two 3 x 3 convolutions around the shared activation, features weighed by their means, and a skip.

    Args:
        channels: c.
        reduction: the weights pass through c / reduction features.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.excite = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        y = self.second(F.prelu(self.first(x), slope))
        weight = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return x + y * torch.sigmoid(weight)


class OriginalResolutionBlock(nn.Module):
    """Channel-attention blocks and a 3 x 3 convolution, with a skip over all of them.

    Args:
        channels: c.
        blocks: channel-attention blocks; 8 in MPRNet.
        reduction: of the channel attention.
    """

    def __init__(self, channels: int, blocks: int = 8, reduction: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ChannelAttentionBlock(channels, reduction) for _ in range(blocks))
        self.last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y, slope)
        return x + self.last(y)


class Lift(nn.Module):
    """Bring features of an earlier stage to full size: bilinear doublings, each followed by a 1 x 1 convolution.

    Args:
        widths: features before the first and after each doubling; one entry means no doubling.
        channels: features of the result.

    >>> Lift((80, 60, 40), 56)(torch.zeros(1, 80, 4, 3)).shape
    torch.Size([1, 56, 16, 12])
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(before, after, 1, bias=False) for before, after in pairwise(widths))
        self.project = nn.Conv2d(widths[-1], channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            # A 1 x 1 convolution commutes with the interpolation and is four times cheaper before it.
            x = F.interpolate(step(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.project(x)


class ORSNet(nn.Module):
    """Original-resolution blocks, with features of an earlier stage added after each.

    Args:
        channels: features of the blocks.
        encoder: for each block, the widths of the lift (see :class:`Lift`) of the encoder features added after it.
        decoder: the same of the decoder features; blocks beyond its length get encoder features only.
        blocks: channel-attention blocks in each original-resolution block.
        reduction: of the channel attention.
    """

    def __init__(
        self,
        channels: int,
        encoder: Sequence[Sequence[int]],
        decoder: Sequence[Sequence[int]],
        blocks: int = 8,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((1,), FIRST_SLOPE))
        self.blocks = nn.ModuleList(OriginalResolutionBlock(channels, blocks, reduction) for _ in encoder)
        self.from_encoder = nn.ModuleList(Lift(widths, channels) for widths in encoder)
        self.from_decoder = nn.ModuleList(Lift(widths, channels) for widths in decoder)

    def forward(self, x: Tensor, encoder: Sequence[Tensor], decoder: Sequence[Tensor]) -> Tensor:
        """Refine x (n, c, h, w) with the features of the earlier stage, finest first."""
        for index, block in enumerate(self.blocks):
            x = block(x, self.slope) + self.from_encoder[index](encoder[index])
            if index < len(self.from_decoder):
                x = x + self.from_decoder[index](decoder[index])
        return x
