"""A small, fast U-Net behind either front end: the segmenter of the default model.

Shapes
    n  batch    b  bands    c  features of the front end    k  classes    d  details    h, w  pixels, multiples of 32

The first convolution halves the grid and the head doubles it again by pixel shuffle, so that three quarters of the
work at full size are saved. What that costs in sharpness a small network of single pixels gives back: it sees the
features of its pixel beside what the U-Net says of it.

Nothing looks at the whole tile (no global pooling, no attention over pixels, batch normalisation folds into the
convolutions), so that a prediction depends on its surroundings only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classes import SEVEN
from ..descriptors import SLOTS
from ..nn.on_grid import on_grid
from . import register
from .slots import CanonicalSlots


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out))


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a skip, (n, c, h, w) to (n, c, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class SmallUNet(nn.Module):
    """U-Net from features (n, c, h, w) to logits (n, k, h, w).

    Args:
        channels: features of the input.
        classes: logits of the output.
        widths: features per level, from half the grid downwards.
        depth: residual blocks per level.
        details: hidden features of the network of single pixels at full size; 0 leaves it out.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int] = (24, 48, 96, 160),
        depth: int = 1,
        details: int = 0,
    ) -> None:
        super().__init__()
        self.stem = _conv(channels, widths[0], 2)  # h/2
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.lateral = nn.ModuleList()
        self.merge = nn.ModuleList()
        self.first = nn.Sequential(*[Residual(widths[0]) for _ in range(depth)])
        for small, large in itertools.pairwise(widths):
            self.down.append(
                nn.Sequential(_conv(small, large, 2), nn.ReLU(), *[Residual(large) for _ in range(depth)])
            )
            self.up.append(nn.Conv2d(large, small, 1, bias=False))
            self.merge.append(Residual(small))
        kernel = 1 if details else 3  # details are put in order by the network of single pixels
        self.head = nn.Sequential(
            nn.Conv2d(widths[0], 4 * (details or classes), kernel, 1, kernel // 2), nn.PixelShuffle(2)
        )
        if details:
            self.spectrum = nn.Conv2d(channels, details, 1, bias=False)
            self.decide = nn.Conv2d(details, classes, 1)

    def forward(self, features: Tensor, bias: Tensor | None = None) -> Tensor:
        x = self.stem(features)
        if bias is not None:
            x = x + bias[:, :, None, None]
        x = self.first(F.relu(x))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(reversed(list(self.up)), reversed(list(self.merge)), strict=True):
            skip = skips.pop()
            # The 1 x 1 convolution commutes with bilinear interpolation and is four times cheaper before it.
            x = F.interpolate(up(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = merge(x + skip)
        if not hasattr(self, "decide"):
            out: Tensor = self.head(x)
            return out
        if self.training:
            detailed: Tensor = self.decide(F.relu(self.head(x) + self.spectrum(features)))
            return detailed
        return self._detailed_at_half(x, features)

    def _detailed_at_half(self, x: Tensor, features: Tensor) -> Tensor:
        """The head and the network of single pixels on the halved grid, four pixels side by side: the same sums.

        Shuffling the logits alone, and not all details, saves a seventh of the time.
        """
        corner = torch.eye(4, dtype=x.dtype, device=x.device)
        seen = self.spectrum.weight[:, None] * corner.view(1, 4, 1, 2, 2)  # d, corner, c, 2, 2
        details = F.conv2d(features, seen.flatten(0, 1), stride=2)
        weight = torch.einsum("kd,pq->kpdq", self.decide.weight[:, :, 0, 0], corner).flatten(0, 1).flatten(1)
        bias = self.decide.bias
        assert bias is not None
        hidden = F.relu(self.head[0](x) + details)
        return F.pixel_shuffle(F.conv2d(hidden, weight[:, :, None, None], bias.repeat_interleave(4)), 2)


@register("slots-unet")
class SlotsUNet(nn.Module):
    """Canonical slots in front of the small U-Net.

    Args:
        classes: number of classes; seven is what the default model predicts.
        widths: features per level, from half the grid downwards.
        depth: residual blocks per level.
        logarithms: give the network the logarithms of the slots as well.
        details: hidden features of the network of single pixels at full size; 0 leaves it out.
    """

    front_end = "slots"
    stride = 32

    def __init__(
        self,
        classes: int = len(SEVEN),
        widths: Sequence[int] = (24, 48, 96, 160),
        depth: int = 1,
        logarithms: bool = False,
        details: int = 0,
    ) -> None:
        super().__init__()
        self.front = CanonicalSlots(logarithms)
        self.presence = nn.Linear(len(SLOTS), widths[0])
        self.unet = SmallUNet(self.front.channels, classes, widths, depth, details)

    def forward(self, image: Tensor, descriptors: Tensor) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w) whose bands are placed by (n, b, s)."""

        def run(whole: Tensor) -> Tensor:
            placed, present = self.front(whole, descriptors)
            return self.unet(placed, self.presence(present))

        # Exported files get whole cells from the tiler, and need no copy of the image for an edge that it has not.
        if torch.jit.is_tracing() or not any(side % self.stride for side in image.shape[-2:]):
            return run(image)
        return on_grid(image, self.stride, run)

    def outputs(self, image: Tensor, descriptors: Tensor) -> dict[str, Tensor]:
        return {"logits": self(image, descriptors)}
