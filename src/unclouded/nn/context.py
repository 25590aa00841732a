"""Context at several scales: atrous (ASPP) and pooled (PSP) pyramids.

Shapes
    n  batch    i, o  input and output channels    h, w  rows, columns
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ASPP(nn.Module):
    """Parallel convolutions of growing dilation beside the mean of the whole map, fused; (n, i, h, w) to (n, o, h, w).

    Args:
        inputs, outputs: channels.
        rates: dilations. Rate 1 is a 1 x 1 convolution, unless ``printed``.
        printed: the form of MSCloudCAM's eq. (2): 3 x 3 for rate 1 too, and a ReLU after every branch.

    Source:
        MSCloudCAM, section on context; after Chen et al., DeepLab, 2017. Branches have a bias and neither
        normalisation nor activation.
    """

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int] = (1, 6, 12, 18), printed: bool = False) -> None:
        super().__init__()
        self.printed = printed
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            if rate == 1 and not printed
            else nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate)
            for rate in rates
        )
        self.pooled = nn.Conv2d(inputs, outputs, 1)
        self.fuse = nn.Sequential(
            nn.Conv2d((len(rates) + 1) * outputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        # One value per channel, resized: the same everywhere.
        mean = self.pooled(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, x.shape[2], x.shape[3])
        maps = [*(branch(x) for branch in self.branches), mean]
        if self.printed:
            maps = [F.relu(each) for each in maps]
        out: Tensor = self.fuse(torch.cat(maps, dim=1))
        return out


class PSP(nn.Module):
    """Means over ever finer grids, resized back, beside the map itself, fused; (n, i, h, w) to (n, o, h, w).

    Args:
        inputs, outputs: channels.
        grids: sides of the pooled grids.
        printed: the form of MSCloudCAM's eq. (3): neither the map itself nor the fusion; branches share the channels.

    Source:
        MSCloudCAM, section on context; after Zhao et al., PSPNet, CVPR 2017.
    """

    def __init__(self, inputs: int, outputs: int, grids: Sequence[int] = (1, 2, 3, 6), printed: bool = False) -> None:
        super().__init__()
        self.grids = tuple(grids)
        width = outputs // len(self.grids) if printed else outputs
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in self.grids
        )
        self.fuse: nn.Module | None = None
        if not printed:
            self.fuse = nn.Sequential(
                nn.Conv2d(inputs + len(self.grids) * outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
            )

    def forward(self, x: Tensor) -> Tensor:
        maps = [
            F.interpolate(branch(pool_to(x, grid)), x.shape[2:], mode="bilinear", align_corners=False)
            for branch, grid in zip(self.branches, self.grids, strict=True)
        ]
        if self.fuse is None:
            return torch.cat(maps, dim=1)
        out: Tensor = self.fuse(torch.cat([x, *maps], dim=1))
        return out


class PoolTo(nn.Module):
    """:func:`pool_to` as a module, in the place of an adaptive pooling that does not export."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return pool_to(x, self.side)


def pool_to(x: Tensor, side: int) -> Tensor:
    """Adaptive average pooling to side x side cells, (n, c, h, w) to (n, c, side, side).

    Written as two matrix products, which export to ONNX at any size of the map.

    >>> x = torch.rand(1, 2, 7, 11)
    >>> torch.allclose(pool_to(x, 3), F.adaptive_avg_pool2d(x, 3))
    True
    """
    return _cells(x.shape[2], side, x) @ x @ _cells(x.shape[3], side, x).transpose(0, 1)


def _cells(size: int, side: int, like: Tensor) -> Tensor:
    """Share of every row in every cell, (side, size); cells overlap where the size is no multiple."""
    place = torch.arange(size, device=like.device)
    cell = torch.arange(side, device=like.device)[:, None]
    first = torch.div(cell * size, side, rounding_mode="floor")
    last = torch.div((cell + 1) * size + side - 1, side, rounding_mode="floor")
    inside = ((place >= first) & (place < last)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
