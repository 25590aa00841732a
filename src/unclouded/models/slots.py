"""Canonical slots: any set of bands placed into fixed inputs by wavelength, with a mark for those that are missing.

Shapes
    n  batch    b  bands of the scene    s  slots    h, w  pixels

The assignment (n, b, s) is computed from the bands by :func:`unclouded.descriptors.slot_weights`; here it is only
applied, so that the network sees the same tensor whatever the order of the bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..descriptors import SLOTS

# Typical top-of-atmosphere reflectance of each slot over all classes, for a common scale of the inputs; not tuned.
_MEAN = {"coastal": 0.28, "blue": 0.27, "green": 0.26, "red": 0.27, "rededge": 0.31, "nir": 0.34,
         "watervapour": 0.2, "cirrus": 0.02, "swir16": 0.22, "swir22": 0.17}  # fmt: skip
_STD = {"coastal": 0.22, "blue": 0.22, "green": 0.22, "red": 0.24, "rededge": 0.22, "nir": 0.22,
        "watervapour": 0.15, "cirrus": 0.03, "swir16": 0.15, "swir22": 0.13}  # fmt: skip

_FLOOR = 0.02
"""Added before logarithms: reflectance below it is mostly noise and path radiance."""


class CanonicalSlots(nn.Module):
    """Places bands into slots: (n, b, h, w) and (n, b, s) to (n, s, h, w) and presence (n, s).

    Args:
        logarithms: append the logarithm of every slot, (n, 2 s, h, w) in all. Ratios of bands, such as the
            normalised difference snow index, are differences of logarithms, which a convolution can form.
    """

    mean: Tensor
    gain: Tensor

    def __init__(self, logarithms: bool = False) -> None:
        super().__init__()
        self.logarithms = logarithms
        self.channels = (2 if logarithms else 1) * len(SLOTS)
        mean = torch.tensor([_MEAN[slot.name] for slot in SLOTS])
        std = torch.tensor([_STD[slot.name] for slot in SLOTS])
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("gain", 1.0 / std.view(1, -1, 1, 1))

    def forward(self, image: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        n, b, h, w = image.shape
        placed = torch.bmm(weights.transpose(1, 2), image.reshape(n, b, h * w)).reshape(n, -1, h, w)  # n, s, h, w
        present = weights.sum(dim=1).clamp(max=1.0)  # n, s
        shown = present[:, :, None, None]
        slots = (placed - self.mean) * self.gain * shown
        if self.logarithms:
            # In float32: half precision has three digits left for the differences that matter here.
            logs = torch.log(placed.float().clamp(min=0.0) + _FLOOR) + 1.5
            slots = torch.cat([slots, (logs * shown).to(slots.dtype)], dim=1)
        return slots, present
