"""Runs a network whose sides have to be multiples of its coarsest cell on images of any size."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def on_grid(image: Tensor, stride: int, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Extend the image to whole cells by its last row and column, run, bring to full size, and crop.

    Args:
        image: (n, b, h, w).
        stride: sides are extended to a multiple of this.
        run: takes the extended image, returns maps of the same size or of a fraction of it.

    Returns:
        (n, k, h, w).

    >>> import torch
    >>> on_grid(torch.rand(1, 3, 37, 65), 32, lambda x: x[:, :2, ::4, ::4]).shape
    torch.Size([1, 2, 37, 65])
    """
    h, w = image.shape[-2:]
    whole = F.pad(image, (0, -w % stride, 0, -h % stride), mode="replicate")
    return to_image(run(whole), whole, image)


def to_image(maps: Tensor, whole: Tensor, image: Tensor) -> Tensor:
    """Maps of an extended image resized to it (bilinear) and cropped to the image."""
    if maps.shape[-2:] != whole.shape[-2:]:
        maps = F.interpolate(maps, whole.shape[-2:], mode="bilinear", align_corners=False)
    return maps[..., : image.shape[-2], : image.shape[-1]]
