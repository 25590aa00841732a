"""Swin transformer backbone: four maps of features at 1/4, 1/8, 1/16 and 1/32 of the image.

Shapes
    n  batch    h, w  rows, columns of the current grid    c  channels    s  side of a window    m  windows

Works at any image size: grids are padded to whole windows, and the shift is left out where one window covers the grid.
Names of weights are those of timm's ``swin_*`` models with ``features_only``, whose ImageNet weights fit.

Source: Liu et al., Swin Transformer, ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .drop_path import DropPath


class WindowAttention(nn.Module):
    """Self-attention within each window, with a learned bias per relative position; (n m, s s, c) to the same.

    Args:
        width: channels c.
        heads: number of heads.
        side: side s of a window.
    """

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.arange(side * side)
        row = (place // side)[:, None] - (place // side) + side - 1
        column = (place % side)[:, None] - (place % side) + side - 1
        self.register_buffer("relative_position_index", row * (2 * side - 1) + column, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        total, places, c = x.shape
        q, k, v = self.qkv(x).reshape(total, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index.reshape(-1)]
        bias = bias.reshape(places, places, self.heads).permute(2, 0, 1)[None]  # 1, heads, s s, s s
        if mask is not None:  # m, s s, s s: the windows of every image follow one another
            windows = mask.shape[0]
            bias = (bias + mask[:, None]).repeat(total // windows, 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out: Tensor = self.proj(x.transpose(1, 2).reshape(total, places, c))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Window attention and a small network, both with skips; (n, h, w, c) to the same.

    Args:
        width, heads, side: see :class:`WindowAttention`.
        shifted: windows are moved by half their side.
        drop_path: probability that a residual branch is skipped in training.
    """

    def __init__(self, width: int, heads: int, side: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.side = side
        self.shift = side // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, side)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._windows(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _windows(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        side = self.side
        shift = (0 if h <= side else self.shift, 0 if w <= side else self.shift)
        moved = shift != (0, 0)
        if moved:
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = F.pad(x, (0, 0, 0, (-w) % side, 0, (-h) % side))
        rows, cols = x.shape[1] // side, x.shape[2] // side
        mask = self._mask(rows, cols, shift, x) if moved else None
        x = x.reshape(n, rows, side, cols, side, c).transpose(2, 3).reshape(-1, side * side, c)
        x = self.attn(x, mask)
        x = x.reshape(n, rows, cols, side, side, c).transpose(2, 3).reshape(n, rows * side, cols * side, c)
        x = x[:, :h, :w]
        return torch.roll(x, shift, (1, 2)) if moved else x

    def _mask(self, rows: int, cols: int, shift: tuple[int, int], like: Tensor) -> Tensor:
        """-100 between places that only the roll brought together, (m, s s, s s)."""
        side = self.side
        parts = []
        for count, offset in ((rows, shift[0]), (cols, shift[1])):
            place = torch.arange(count * side, device=like.device)
            last = (place >= count * side - side).long()
            parts.append(last + (place >= count * side - offset).long() if offset else 0 * last)
        region = parts[0][:, None] * 3 + parts[1]
        region = region.reshape(rows, side, cols, side).transpose(1, 2).reshape(-1, side * side)
        return (region[:, None] != region[:, :, None]).to(like.dtype) * -100.0


class PatchMerging(nn.Module):
    """Halves the grid: 2 x 2 neighbours side by side in the channels, then a linear layer; (n, h, w, c) to 2 c."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        x = x.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2, c).permute(0, 1, 3, 4, 2, 5)
        out: Tensor = self.reduction(self.norm(x.flatten(3)))
        return out


class PatchEmbed(nn.Module):
    """One token per patch of pixels; (n, b, h, w) to (n, h / patch, w / patch, c)."""

    def __init__(self, bands: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(bands, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[-2:]
        image = F.pad(image, (0, (-w) % self.patch, 0, (-h) % self.patch))
        out: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return out


class Stage(nn.Module):
    """Optional halving of the grid, then blocks with plain and shifted windows in turn."""

    def __init__(self, width: int, heads: int, side: int, rates: Sequence[float], downsample: bool) -> None:
        super().__init__()
        self.downsample = PatchMerging(width // 2) if downsample else nn.Identity()
        self.blocks = nn.Sequential(
            *[Block(width, heads, side, index % 2 == 1, rate) for index, rate in enumerate(rates)]
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


class Swin(nn.Module):
    """Swin transformer; (n, b, h, w) to four maps, channel first.

    Args:
        bands: input channels b.
        width: channels of the first stage; they double with every stage. 96 for Swin-T.
        depths: blocks per stage.
        heads: heads per stage.
        window: side of a window.
        patch: side of a patch in pixels.
        drop_path: stochastic depth, rising from 0 to this over the blocks.

    >>> [tuple(f.shape) for f in Swin(4, width=12, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))(torch.rand(1, 4, 64, 96))]
    [(1, 12, 16, 24), (1, 24, 8, 12), (1, 48, 4, 6), (1, 96, 2, 3)]
    """

    def __init__(
        self,
        bands: int = 3,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        patch: int = 4,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = tuple(width << index for index in range(len(depths)))
        self.patch_embed = PatchEmbed(bands, width, patch)
        last = max(sum(depths) - 1, 1)
        rates = [drop_path * index / last for index in range(sum(depths))]
        for index, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            start = sum(depths[:index])
            stage = Stage(self.channels[index], count, window, rates[start : start + depth], index > 0)
            self.add_module(f"layers_{index}", stage)
        self.stages = len(depths)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.patch_embed(image)
        out = []
        for index in range(self.stages):
            x = getattr(self, f"layers_{index}")(x)
            out.append(x.permute(0, 3, 1, 2))
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
