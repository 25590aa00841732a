"""SEnSeI-v1: the front end for any set of bands that SEnSeI-v2 replaces, as a baseline.

Glossary
    n  batch    b  bands    f  features of a band (64)    c  channels of the output (64)    h, w  rows, columns

Steps
    descriptor block over ln(wavelength - 300) - 2 of each band's lower edge, centre and upper edge    (n, b, 3)
    pair block over every pair of bands, mean over the second one                                      (n, b, b, 2 f)
    combined block over a band's own features beside that mean                                         (n, b, 2 f)
    band multiplication: features times (S + 0.5), mean over the bands                                 (n, c, h, w)

Layers are linear, group normalisation with two groups, leaky ReLU 0.01, with a skip where sizes agree; the last layer
of a block is linear alone. All-zero descriptors are padding.

Source: A. Francis, J. Mrziglod, P. Sidiropoulos, J.-P. Muller, SEnSeI: a deep learning module for creating sensor
independent cloud masks, IEEE Transactions on Geoscience and Remote Sensing, 2021.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

V1_DESCRIPTOR = 3
V1_CHANNELS = 64
L1_WEIGHT = 1e-5
"""Weight of :meth:`SEnSeIv1.penalty` in training."""

_DESCRIPTOR = (16, 16, 32, 16, 16, 64, 128, 64)
_PAIRS = (128, 128, 128, 64)
_COMBINED = (128, 256, 128, 96, 64, 128, 64)


class Block(nn.Module):
    """Layers as the head of this file says; (..., i) to (..., outputs)."""

    def __init__(self, inputs: int, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        sizes = (inputs, *widths)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.GroupNorm(2, width) for width in widths)
        self.last = nn.Linear(sizes[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])
        for linear, norm in zip(self.linears, self.norms, strict=True):
            out = F.leaky_relu(norm(linear(x)), 0.01)
            x = x + out if out.shape[1] == x.shape[1] else out
        out = self.last(x)
        return out.reshape(*shape, out.shape[1])


class SEnSeIv1(nn.Module):
    """Bands and their descriptors to a fixed number of feature maps, after SEnSeI-v1.

    Args:
        channels: feature maps c.

    >>> SEnSeIv1().eval()(torch.rand(2, 5, 8, 9), torch.rand(2, 5, 3)).shape
    torch.Size([2, 64, 8, 9])
    """

    def __init__(self, channels: int = V1_CHANNELS) -> None:
        super().__init__()
        self.describe_band = Block(V1_DESCRIPTOR, _DESCRIPTOR, 64)
        self.describe_pair = Block(128, _PAIRS, 64)
        self.combine = Block(128, _COMBINED, channels)
        self.channels = self.features = channels

    def describe(self, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every band, (n, b, c), and which bands are real, (n, b) bool."""
        mask = (descriptors != 0).any(dim=2)
        own = self.describe_band(descriptors)
        n, b, f = own.shape
        both = torch.cat([own[:, :, None].expand(n, b, b, f), own[:, None].expand(n, b, b, f)], dim=3)
        weight = mask[:, None, :, None].to(own.dtype)
        others = (self.describe_pair(both) * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1.0)
        return self.combine(torch.cat([own, others], dim=2)), mask

    def encode(self, image: Tensor, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps (n, c, h, w) and features of the bands (n, b, c).

        Raises:
            InputError: the shapes do not belong together.
        """
        if not torch.jit.is_tracing() and descriptors.shape != (*image.shape[:2], V1_DESCRIPTOR):
            raise InputError(
                f"The image is {tuple(image.shape)} and the descriptors are {tuple(descriptors.shape)}.",
                expected="They are (n, b, h, w) and (n, b, 3).",
                remedy="Compute descriptors with unclouded.descriptors.sensei_v1_descriptors.",
            )
        features, mask = self.describe(descriptors)
        real = mask.to(features.dtype)
        weight = features * (real / real.sum(dim=1, keepdim=True).clamp(min=1.0))[..., None]
        n, b, h, w = image.shape
        out = weight.transpose(1, 2) @ (image + 0.5).reshape(n, b, h * w)
        return out.reshape(n, -1, h, w), features

    def forward(self, image: Tensor, descriptors: Tensor) -> Tensor:
        """Feature maps (n, c, h, w) of an image (n, b, h, w) with descriptors (n, b, 3)."""
        return self.encode(image, descriptors)[0]

    def penalty(self) -> Tensor:
        """Sum of the absolute weights of the blocks' last layers, a scalar; times :data:`L1_WEIGHT` in training."""
        return torch.stack(
            [block.last.weight.abs().sum() for block in (self.describe_band, self.describe_pair, self.combine)]
        ).sum()


class Candidates(nn.Module):
    """What SEnSeI-v1 was pretrained on: is a band with this descriptor among the inputs, and what is its value?

    Args:
        channels: feature maps c of the front end.
        hidden: widths of the layers.
    """

    def __init__(self, channels: int = V1_CHANNELS, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        self.block = Block(channels + V1_DESCRIPTOR, hidden, 2)

    def forward(self, features: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Values (n, m, p) and logits of being present (n, m, p).

        Args:
            features: (n, c, p) at p pixels.
            candidates: (n, m, 3) descriptors of m bands, some of the inputs and some not.
        """
        n, c, p = features.shape
        m = candidates.shape[1]
        pixels = features.transpose(1, 2)[:, None].expand(n, m, p, c)
        asked = candidates[:, :, None].expand(n, m, p, V1_DESCRIPTOR)
        value, present = self.block(torch.cat([pixels, asked], dim=3)).unbind(3)
        return value, present

    def loss(self, features: Tensor, candidates: Tensor, present: Tensor, values: Tensor) -> Tensor:
        """Cross-entropy of presence, and mean squared error of the values of bands that are present, a scalar.

        Args:
            features, candidates: see :meth:`forward`.
            present: (n, m) bool.
            values: (n, m, p), used where present.
        """
        value, logit = self(features, candidates)
        known = present[..., None].to(value.dtype)
        error = ((value - values) ** 2 * known).sum() / (known.sum() * value.shape[2]).clamp(min=1.0)
        return F.binary_cross_entropy_with_logits(logit, known.expand_as(logit)) + error
