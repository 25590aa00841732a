"""DSen2-CR: the residual network that removes clouds from an optical image with the help of radar.

Shapes
    n  batch    b  optical bands    s  radar bands (VV, VH)    f  features    h, w  pixels

Structure
    1. optical and radar image side by side, 3 x 3 convolution to f features, ReLU
    2. residual blocks: 3 x 3 convolution, ReLU, 3 x 3 convolution, times 0.1, plus the block's input
    3. 3 x 3 convolution to the optical bands, plus the cloudy image

No resolution is lost and no block normalises. It was published with 16 blocks of 256 features and the cloud-adaptive
loss :func:`unclouded.losses.carl`.

Source: Meraner, Ebel, Zhu and Schmitt (2020): Cloud removal in Sentinel-2 imagery using a deep residual neural network
and SAR-optical data fusion. ISPRS Journal of Photogrammetry and Remote Sensing 166, 333-346, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import register
from .mmcanet import check_inputs

SCALE = 0.1
"""Share of a block's result that is added to its input."""

OPTICAL_GAIN, SAR_GAIN = 5.0, 2.0
"""The paper divides counts of 1e-4 by 2000, and brings radar to 0..2."""


class Block(nn.Module):
    """Residual block, (n, f, h, w) to (n, f, h, w)."""

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.first = _conv(features, features)
        self.second = _conv(features, features)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(F.relu(self.first(x)))


@register("dsen2cr")
class DSen2CR(nn.Module):
    """Optical and radar image to the image without clouds.

    Args:
        bands: optical bands, in and out.
        sar_bands: radar bands, 0 for none.
        features: of every layer.
        blocks: residual blocks.
        scale: share of a block's result that is added to its input.

    >>> net = DSen2CR(bands=4, features=8, blocks=2)
    >>> net(torch.zeros(1, 4, 21, 30), torch.zeros(1, 2, 21, 30)).shape
    torch.Size([1, 4, 21, 30])
    """

    task = "removal"

    def __init__(
        self, bands: int = 13, sar_bands: int = 2, features: int = 256, blocks: int = 16, scale: float = SCALE
    ) -> None:
        super().__init__()
        self.bands, self.sar_bands = bands, sar_bands
        self.first = _conv(bands + sar_bands, features)
        self.blocks = nn.Sequential(*(Block(features, scale) for _ in range(blocks)))
        self.last = _conv(features, bands)

    def forward(self, image: Tensor, sar: Tensor | None = None) -> Tensor:
        """Restore an image of any size.

        Args:
            image: (n, b, h, w) float32 reflectance with clouds, 0 where missing.
            sar: (n, s, h, w) float32, backscatter brought to 0..1.

        Returns:
            (n, b, h, w) reflectance, not clipped.

        Raises:
            ModelError: the inputs are not those that the network was made for.
        """
        check_inputs(image, sar, self.bands, self.sar_bands)
        parts = [OPTICAL_GAIN * image] if sar is None else [OPTICAL_GAIN * image, SAR_GAIN * sar]
        features = F.relu(self.first(torch.cat(parts, 1)))  # (1)
        change = self.last(self.blocks(features))  # (2)
        return image + change / OPTICAL_GAIN  # (3)

    def outputs(self, image: Tensor, sar: Tensor | None = None) -> dict[str, Tensor]:
        """What the loss compares with :meth:`targets`: the restored image, under "image"."""
        return {"image": self(image, sar)}

    def targets(self, target: Tensor) -> dict[str, Tensor]:
        """The cloud-free image (n, b, h, w) under the key of :meth:`outputs`."""
        return {"image": target}


def _conv(c_in: int, c_out: int) -> nn.Conv2d:
    layer = nn.Conv2d(c_in, c_out, 3, padding=1)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
