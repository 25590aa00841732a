"""U-Net with a MobileNetV2 encoder: the network of the percentile-normalisation study, and of CloudSEN12's baseline.

Shapes
    n  batch    b  bands    k  classes    h, w  rows, columns

The normalisation can live in the network, so that exported weights cannot be used with another one: ``low`` and
``high`` are percentiles of every band over the training set (see :mod:`unclouded.normalise`), applied as
(clip(x, low, high) - low) / (high - low). Without them the network takes what it is given.
Needs the extra ``baselines``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ModelError
from . import register
from .baselines_smp import SmpNetwork


@register("unet-mobilenetv2")
class UNetMobileNetV2(SmpNetwork):
    """U-Net on MobileNetV2, decoder 256, 128, 64, 32, 16.

    Args:
        bands: input bands b.
        classes: number of classes k.
        low, high: per-band percentiles of the training set, in the unit of the input; None for no normalisation.
        pretrained: start the encoder from ImageNet weights (downloads them).

    Raises:
        MissingDependencyError: segmentation-models-pytorch is not installed.
        ModelError: the percentiles do not fit the bands.
    """

    low: Tensor
    gain: Tensor

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        low: Sequence[float] | None = None,
        high: Sequence[float] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__(bands, classes, "Unet", "mobilenet_v2", pretrained)
        if (low is None) != (high is None) or (low is not None and not len(low) == len(high or ()) == bands):
            raise ModelError(
                f"The network has {bands} bands, {len(low or ())} lower and {len(high or ())} upper percentiles.",
                expected="There is one pair of percentiles for every band, or none at all.",
                remedy="Give low and high for every band.",
            )
        self.normalises = low is not None
        bottom = torch.tensor(low if low is not None else [0.0] * bands, dtype=torch.float64)
        span = torch.tensor(high if high is not None else [1.0] * bands, dtype=torch.float64) - bottom
        # A band without spread carries nothing: it becomes 0 rather than infinite.
        gain = torch.where(span > 0, 1.0 / span.clamp(min=1e-12), torch.zeros_like(span))
        self.register_buffer("low", bottom.float()[:, None, None])
        self.register_buffer("gain", gain.float()[:, None, None])

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w)."""
        if self.normalises:
            image = ((image - self.low) * self.gain).clamp(0.0, 1.0)
        return super().forward(image)
