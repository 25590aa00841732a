"""SegFormer B0 to B5, through transformers.

Shapes
    n  batch    b  bands    k  classes    h, w  rows, columns

``segformer-b3-narrow`` is the network that the MSCloudCAM comparison lists as SegFormer-MiT-B5: it has the depths of B3
and a decoder of width 512. A true B5 is ``segformer-b5``. Needs the extra ``baselines``.

Source: Xie et al., SegFormer, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from ..nn.on_grid import on_grid
from ..nn.timm_guard import import_transformers
from . import register

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "b0": ((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "b1": ((2, 2, 2, 2), (64, 128, 320, 512), 256),
    "b2": ((3, 4, 6, 3), (64, 128, 320, 512), 768),
    "b3": ((3, 4, 18, 3), (64, 128, 320, 512), 768),
    "b3-narrow": ((3, 4, 18, 3), (64, 128, 320, 512), 512),
    "b4": ((3, 8, 27, 3), (64, 128, 320, 512), 768),
    "b5": ((3, 6, 40, 3), (64, 128, 320, 512), 768),
}
"""Depths and widths of the four stages, and the decoder's width."""


class SegFormer(nn.Module):
    """SegFormer with this project's call; logits at a quarter of the size are resized (bilinear).

    Args:
        bands: input bands b.
        classes: number of classes k.
        size: one of :data:`SIZES`.
        pretrained: name or folder of a checkpoint to start from, e.g. ``nvidia/mit-b2``; the first patch embedding and
            the classifier start afresh where they do not fit. None starts from random weights.
        **options: passed on to the library's configuration.

    Raises:
        MissingDependencyError: transformers is not installed.
        ModelError: the size does not exist.
    """

    front_end = "fixed"
    stride = 32

    def __init__(
        self, bands: int = 13, classes: int = 4, size: str = "b2", pretrained: str | None = None, **options: Any
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ModelError(
                f"There is no SegFormer '{size}'.",
                expected=f"Sizes are {', '.join(SIZES)}.",
                remedy="Choose one of these.",
            )
        transformers = import_transformers()
        depths, widths, decoder = SIZES[size]
        settings = {
            "num_channels": bands, "num_labels": classes, "depths": list(depths), "hidden_sizes": list(widths),
            "decoder_hidden_size": decoder,
        }  # fmt: skip
        config = transformers.SegformerConfig(**{**settings, **options})
        maker = transformers.SegformerForSemanticSegmentation
        if pretrained is None:
            self.net = maker(config)
        else:
            self.net = maker.from_pretrained(pretrained, config=config, ignore_mismatched_sizes=True)

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w)."""
        return on_grid(image, self.stride, lambda whole: self.net(pixel_values=whole).logits)

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """The logits alone."""
        return {"logits": self(image)}


def _maker(size: str) -> Callable[..., SegFormer]:
    def make(**options: Any) -> SegFormer:
        return SegFormer(size=size, **options)

    make.__doc__ = f"SegFormer {size.upper()}, see :class:`SegFormer`."
    return make


for _size in SIZES:
    register(f"segformer-{_size}")(_maker(_size))
