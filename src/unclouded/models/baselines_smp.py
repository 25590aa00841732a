"""Comparison networks from segmentation-models-pytorch: U-Net, U-Net++, DeepLabV3+ and UPerNet.

Shapes
    n  batch    b  bands    k  classes    h, w  rows, columns

Any decoder and encoder of the library can be had as ``create("smp", decoder=..., encoder=...)``; those of the published
comparisons have names of their own. Needs the extra ``baselines``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from ..nn.context import PoolTo
from ..nn.on_grid import on_grid
from ..nn.timm_guard import import_smp
from . import register

NAMED: dict[str, tuple[str, str]] = {
    "unet-resnet101": ("Unet", "resnet101"),
    "unetplusplus-mobilenetv2": ("UnetPlusPlus", "mobilenet_v2"),
    "unetplusplus-resnet101": ("UnetPlusPlus", "resnet101"),
    "deeplabv3plus-mobilenetv2": ("DeepLabV3Plus", "mobilenet_v2"),
    "deeplabv3plus-resnet34": ("DeepLabV3Plus", "resnet34"),
    "deeplabv3plus-resnet50": ("DeepLabV3Plus", "resnet50"),
    "deeplabv3plus-resnet101": ("DeepLabV3Plus", "resnet101"),
    "upernet-resnet50": ("UPerNet", "resnet50"),
}
"""Decoder and encoder behind each name."""


@register("smp")
class SmpNetwork(nn.Module):
    """A network of segmentation-models-pytorch with this project's call.

    Args:
        bands: input bands b. The library repeats ImageNet kernels over them, scaled by 3 / b.
        classes: number of classes k.
        decoder: name of the library's class, e.g. ``Unet``.
        encoder: name of the library's encoder, e.g. ``resnet34``.
        pretrained: start the encoder from ImageNet weights (downloads them).
        **options: passed on to the library.

    Raises:
        MissingDependencyError: the library is not installed.
        ModelError: the library has no such decoder.
    """

    front_end = "fixed"
    stride = 32

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        decoder: str = "Unet",
        encoder: str = "mobilenet_v2",
        pretrained: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        smp = import_smp()
        maker = getattr(smp, decoder, None)
        if not (isinstance(maker, type) and issubclass(maker, smp.base.SegmentationModel)):
            raise ModelError(
                f"segmentation-models-pytorch has no decoder '{decoder}'.",
                expected="Decoders are Unet, UnetPlusPlus, DeepLabV3Plus, UPerNet and others.",
                remedy="See the library's documentation for names.",
            )
        weights = "imagenet" if pretrained else None
        self.net = maker(encoder, encoder_weights=weights, in_channels=bands, classes=classes, **options)
        _exportable(self.net)

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w)."""
        return on_grid(image, self.stride, self.net)

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """The logits alone."""
        return {"logits": self(image)}


def _exportable(net: nn.Module) -> None:
    """Replace poolings to a grid of cells by their like that export to ONNX at any size of the map."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            side = child.output_size if isinstance(child, nn.AdaptiveAvgPool2d) else 1
            if isinstance(side, int) and side > 1:
                setattr(parent, name, PoolTo(side))


def _maker(decoder: str, encoder: str) -> Callable[..., SmpNetwork]:
    def make(**options: Any) -> SmpNetwork:
        return SmpNetwork(decoder=decoder, encoder=encoder, **options)

    make.__doc__ = f"{decoder} with {encoder}, see :class:`SmpNetwork`."
    return make


for _name, (_decoder, _encoder) in NAMED.items():
    register(_name)(_maker(_decoder, _encoder))
