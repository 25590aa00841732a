"""SEnSeI-v2 in front of the small U-Net: the default model's other front end.

Shapes
    n  batch    b  bands    d  descriptor    c  features    k  classes    h, w  pixels
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..classes import SEVEN
from ..nn.on_grid import on_grid
from . import register
from .senseiv2 import Recovery, SEnSeIv2
from .unet_small import SmallUNet


@register("senseiv2-unet")
class SenseiUNet(nn.Module):
    """SEnSeI-v2 in front of the small U-Net, with the recovery module for training.

    Args:
        classes: number of classes.
        channels: features of the band embedding.
        descriptor: length of a descriptor: 74, or 79 with scene percentiles.
        preset: size of the encoder, see :class:`unclouded.models.senseiv2.SEnSeIv2`.
        widths, depth: of the U-Net.
    """

    front_end = "senseiv2"
    stride = 32

    def __init__(
        self,
        classes: int = len(SEVEN),
        channels: int = 16,
        descriptor: int = 79,
        preset: str = "medium",
        widths: Sequence[int] = (24, 48, 96, 160),
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.front = SEnSeIv2(channels=channels, descriptor=descriptor, preset=preset)
        self.recovery = Recovery(channels=channels, descriptor=descriptor)
        self.unet = SmallUNet(channels, classes, widths, depth)

    def forward(self, image: Tensor, descriptors: Tensor) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w) with its descriptors (n, b, d)."""
        return on_grid(self.front(image, descriptors), self.stride, self.unet)

    def outputs(self, image: Tensor, descriptors: Tensor) -> dict[str, Tensor]:
        """``logits``, and the ``recovery_loss`` of the auxiliary task."""
        features = self.front(image, descriptors)
        loss = self.recovery.loss(features, image, descriptors)
        return {"logits": on_grid(features, self.stride, self.unet), "recovery_loss": loss}
