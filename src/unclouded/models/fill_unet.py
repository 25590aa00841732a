"""Fill and refine: spread what is seen around a gap into it, then let a small U-Net correct that with radar.

Shapes
    n  batch    b  optical bands    s  radar bands (VV, VH)    h, w  pixels, multiples of 32 inside

Steps
    1. seen = image where it is neither missing nor marked: its means over cells of 2, 4, ... 32 pixels
    2. coarsest to finest: a cell's own mean where it has seen enough, else what its neighbourhood says (the fill)
    3. U-Net over image, fill, radar and marks; per pixel a correction c, a gain g for every band, and a log scale
    4. restored = fill + t (g (image - fill) + c), the middle term only where the ground is not fully hidden; t is 1
       while it learns, and less where places that it has not seen show that it corrects too much

Step 2 is the classical pull-push interpolation, so that an untrained network already fills gaps smoothly. In step 4
thin cloud and shadow keep the detail that comes through: a gain undoes their loss of contrast. An untrained network
trusts the fill more than the veiled image, and has to learn what may be taken from there. Nothing looks at the whole
tile, the fill at most 128 pixels far, so that results do not depend on how a scene is tiled.

Source of pull-push: Gortler et al., The lumigraph, SIGGRAPH 1996, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from . import register
from .mmcanet import check_inputs, pad
from .unet_small import SmallUNet

LEVELS = 5
"""Halvings of the grid for the fill: cells of 32 pixels are the coarsest."""

DOUBT = 2.0
"""By how much the logit of the gain is lowered: at 0 it is 0.24 in place of 1."""

SHARE = 0.05
"""Share of a cell's pixels that has to be seen for its own mean to weigh as much as its neighbourhood."""

# Typical reflectance of clear ground in the bands of Sentinel-2 from B01 to B12, and its spread; not tuned.
MEAN = (0.14, 0.12, 0.11, 0.11, 0.14, 0.21, 0.24, 0.23, 0.25, 0.09, 0.003, 0.20, 0.13)
STD = (0.06, 0.06, 0.06, 0.08, 0.08, 0.09, 0.10, 0.10, 0.11, 0.05, 0.003, 0.10, 0.09)


class Given(NamedTuple):
    """What the network looks at; reflectance less its mean in units of its spread.

    Attributes:
        parts: all of it, (n, c, h, w).
        present: 1 for each band that there is, (n, b).
        scaled: the image, (n, b, h, w).
        filled: the fill, (n, b, h, w).
        visible: 1 where some of the ground is seen, (n, 1, h, w).
    """

    parts: Tensor
    present: Tensor
    scaled: Tensor
    filled: Tensor
    visible: Tensor


@register("fill-unet")
class FillUNet(nn.Module):
    """Image with gaps, radar and marks to the image without gaps, with the expected error of every pixel.

    Args:
        bands: optical bands, in and out.
        sar_bands: radar bands, 0 for none.
        widths: features of the U-Net per level, from half the grid downwards.
        depth: residual blocks per level.
        mean, std: typical reflectance per band and its spread; by default those of the 13 bands of Sentinel-2, or 0.15
            and 0.1 for other numbers of bands.

    Raises:
        ModelError: the options do not fit together.

    >>> net = FillUNet(bands=3, widths=(8, 8, 16)).eval()
    >>> net(torch.rand(1, 3, 40, 50), torch.rand(1, 2, 40, 50)).shape
    torch.Size([1, 3, 40, 50])
    """

    task = "removal"
    marks = True

    mean: Tensor
    std: Tensor
    trust: Tensor

    def __init__(
        self,
        bands: int = 13,
        sar_bands: int = 2,
        widths: Sequence[int] = (32, 48, 80, 128),
        depth: int = 1,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        mean = mean or (MEAN if bands == len(MEAN) else (0.15,) * bands)
        std = std or (STD if bands == len(STD) else (0.1,) * bands)
        if len(mean) != bands or len(std) != bands or len(widths) > LEVELS:
            raise ModelError(
                f"FillUNet cannot have {bands} bands, {len(mean)} means, {len(std)} spreads and {len(widths)} widths.",
                expected=f"One mean and one spread per band, and at most {LEVELS} widths.",
                remedy="See the options of unclouded.models.fill_unet.FillUNet.",
            )
        self.bands, self.sar_bands = bands, sar_bands
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, -1, 1, 1))
        self.register_buffer("trust", torch.ones(()))
        self.presence = nn.Linear(bands, widths[0])
        channels = 2 * bands + 3 + (sar_bands + 1 if sar_bands else 0)
        self.unet = SmallUNet(channels, 2 * bands + 1, widths, depth)

    def forward(self, image: Tensor, sar: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """Restore an image of any size.

        Args:
            image: (n, b, h, w) float32 reflectance with clouds, 0 where missing; a band that is 0 throughout counts as
                one that the sensor does not have, and what is returned for it means nothing.
            sar: (n, s, h, w) float32, backscatter brought to 0..1; 0 in all bands, or None, where there is none.
            hidden: (n, 2, h, w) float32. First plane: 1 where the image is to be rebuilt, elsewhere it is taken as
                clear ground. Second: 1 where nothing of the ground is seen, as under thick cloud, 0.5 in shadow. None
                takes every pixel as in doubt, and seen.

        Returns:
            (n, b, h, w) reflectance, not clipped.

        Raises:
            ModelError: the inputs are not those that the network was made for.
        """
        return self.outputs(image, sar, hidden)["image"]

    def outputs(self, image: Tensor, sar: Tensor | None = None, hidden: Tensor | None = None) -> dict[str, Tensor]:
        """The restored image under "image", and under "log_scale" (n, 1, h, w) the logarithm of the absolute error
        that is expected of each pixel, as the mean over the bands."""
        rows, cols = image.shape[-2:]
        given = self.given(image, sar, hidden)
        found = self.compose(self.unet(given.parts, self.presence(given.present)), given)  # (3) (4)
        return {name: plane[..., :rows, :cols] for name, plane in found.items()}

    def given(self, image: Tensor, sar: Tensor | None = None, hidden: Tensor | None = None) -> Given:
        """Steps 1 and 2, on sides that are multiples of 32; arguments and errors as those of :meth:`forward`."""
        rows, cols = image.shape[-2:]
        check_inputs(image, sar, self.bands, 0 if sar is None else self.sar_bands)
        image = pad(image, 2**LEVELS)
        if hidden is None:
            hidden = torch.stack((torch.ones_like(image[:, 0]), torch.zeros_like(image[:, 0])), 1)
        else:
            hidden = pad(hidden, 2**LEVELS)
        there = (image != 0).any(1, keepdim=True).to(image.dtype)
        present = (image != 0).flatten(2).any(2).to(image.dtype)  # n, b
        scaled = (image - self.mean) / self.std * present[:, :, None, None]
        known = there * (1 - hidden[:, :1])
        filled = fill(scaled * known, known)  # (1) (2)
        visible = there * (hidden[:, 1:] < 0.75).to(image.dtype)
        parts = [scaled * visible, filled, hidden, there]
        if self.sar_bands:
            if sar is None:
                sar = image.new_zeros(image.shape[0], self.sar_bands, rows, cols)
            sar = pad(sar, 2**LEVELS)
            measured = (sar != 0).any(1, keepdim=True).to(sar.dtype)
            parts += [(4 * sar - 2) * measured, measured]
        return Given(torch.cat(parts, 1), present, scaled, filled, visible)

    def compose(self, found: Tensor, given: Given) -> dict[str, Tensor]:
        """Step 4, from what the U-Net found, (n, 2 b + 1, h, w)."""
        change, gain, log_scale = found.split((self.bands, self.bands, 1), 1)
        seen = torch.sigmoid(gain - DOUBT) * 2 * given.visible * (given.scaled - given.filled)
        restored = given.filled + self.trust * (seen + change)
        return {"image": restored * self.std + self.mean, "log_scale": log_scale - 4.0}

    def targets(self, target: Tensor) -> dict[str, Tensor]:
        """The cloud-free image (n, b, h, w) under the key of :meth:`outputs`."""
        return {"image": target}


def fill(values: Tensor, known: Tensor) -> Tensor:
    """Pull-push: known values spread into the gaps, smoothly, up to 128 pixels far.

    Args:
        values: (n, b, h, w), 0 where unknown; sides are multiples of 32.
        known: (n, 1, h, w), 1 or 0.

    Returns:
        (n, b, h, w): about the local mean; 0 far from anything known.

    >>> known = torch.ones(1, 1, 64, 64)
    >>> known[..., 20:40, 20:40] = 0
    >>> out = fill(0.5 * known, known)
    >>> round(out[..., 30, 30].item(), 2)
    0.5
    """
    stack = torch.cat((values, known), 1)
    levels = []
    for _ in range(LEVELS):
        stack = F.avg_pool2d(stack, 2)
        levels.append(stack)
    # Two wider means let the coarsest cells look two and three cells around themselves; both weigh little.
    near, wide = (F.avg_pool2d(stack, side, 1, side // 2) for side in (3, 7))
    stack = stack + SHARE * near + SHARE * SHARE * wide
    filled = stack[:, :-1] / (stack[:, -1:] + SHARE**4)
    for level in reversed(levels[:-1]):
        filled = F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
        filled = (level[:, :-1] + SHARE * filled) / (level[:, -1:] + SHARE)
    return F.interpolate(filled, scale_factor=2.0, mode="bilinear", align_corners=False)
