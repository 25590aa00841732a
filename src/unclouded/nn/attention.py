"""Attention over channels, over places, and from one map to another.

Shapes
    n  batch    c  channels    h, w  rows, columns    p  places h w
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelGate(nn.Module):
    """Efficient channel attention: a weight per channel from its own mean and its neighbours'; (n, c, 1, 1).

    Args:
        channels: c; the kernel is |log2(c) / 2 + 1 / 2| rounded down, made odd, 3 at least.

    Source:
        Wang et al., ECA-Net, CVPR 2020; MSCloudCAM, eq. (8).

    >>> ChannelGate(512).conv.kernel_size
    (5,)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int(abs(math.log2(channels) / 2 + 0.5))
        kernel = max(kernel if kernel % 2 else kernel + 1, 3)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3))[:, None]  # n, 1, c
        return torch.sigmoid(self.conv(mean))[:, 0, :, None, None]


class SpatialGate(nn.Module):
    """A weight per place from the mean and the maximum over channels; (n, 1, h, w).

    Source:
        Woo et al., CBAM, ECCV 2018; MSCloudCAM, eq. (8).
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(summary))


class CombinedGate(nn.Module):
    """Channel gate, then spatial gate, with a skip; (n, c, h, w) to the same.

    Args:
        channels: c.
        printed: the form of MSCloudCAM's eq. (8), the product of both gated maps instead of one after the other.
    """

    def __init__(self, channels: int, printed: bool = False) -> None:
        super().__init__()
        self.channel, self.spatial = ChannelGate(channels), SpatialGate()
        self.printed = printed

    def forward(self, z: Tensor) -> Tensor:
        a = z * self.channel(z)
        if self.printed:
            return a * (z * self.spatial(z)) + z
        return a * self.spatial(a) + z


class CrossAttention(nn.Module):
    """Every place of one map attends to every place of another, with a skip; (n, c, h, w) to the same.

    Args:
        channels: c of the map that asks.
        context: channels of the map that answers.
        heads: number of heads.

    Source:
        MSCloudCAM, eqs. (5) and (6); the convolutions are pointwise.
    """

    def __init__(self, channels: int, context: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(context, channels, 1)
        self.value = nn.Conv2d(context, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = (
            each.reshape(n, self.heads, c // self.heads, -1).transpose(2, 3)
            for each in (self.query(x), self.key(context), self.value(context))
        )  # n, heads, p, c / heads
        attended = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, c, h, w)
        return x + self.out(attended)
