"""Kernel basis attention, and the restoration block built on it (the MFF block of MMCANet).

Shapes
    n  batch    c  features    h, w  pixels    t  basis kernels (32)    k  side of a basis kernel
    i  features per group of a basis kernel (4)

Source
    Zhang et al., KBNet: Kernel Basis Network for Image Restoration (2023), the block; the MMCANet paper calls it
    MFF, multi-branch feature fusion. Numbers in brackets are the steps of :class:`MFFBlock`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import ModelError

BASES = 32
"""Basis kernels that the coefficients mix (KBNet)."""

BASIS_GROUP = 4
"""Features per group of a basis kernel (KBNet)."""

SELECTOR_WIDTH = 32
"""Most features in the branch that chooses among the bases (KBNet)."""

LAYER_SCALE = 1e-2
"""First value of every learned scale in the block (KBNet)."""


def kernel_basis_attention(
    x: Tensor, coefficients: Tensor, weight: Tensor, bias: Tensor, *, recompute: bool = False
) -> Tensor:
    """Convolve every pixel with its own mixture of learned kernels.

    ``y(p) = sum over t of coefficients_t(p) * (weight_t * x + bias_t)(p)``, where ``*`` between weight and x is a
    grouped convolution with zero padding.

    The kernel of a pixel is never stored whole: its k x k taps are formed one after the other, each by a 1 x 1
    convolution of the coefficients, used and dropped. That needs ``c * i`` maps at a time instead of ``c * i * k * k``
    and only operations that every runtime has.

    Args:
        x: (n, c, h, w).
        coefficients: (n, t, h, w), the weight of each basis at each pixel.
        weight: (t, c, i, k, k), k odd; output feature j reads the i features of its group, ``j // i``.
        bias: (t, c).
        recompute: in training, form the taps again in the backward pass rather than keeping them.

    Returns:
        (n, c, h, w).

    >>> x = torch.randn(1, 4, 5, 6)
    >>> weight, bias = torch.randn(2, 4, 4, 3, 3), torch.randn(2, 4)
    >>> coefficients = torch.zeros(1, 2, 5, 6)
    >>> coefficients[:, 1] = 1.0                                        # the second basis alone
    >>> y = kernel_basis_attention(x, coefficients, weight, bias)
    >>> torch.allclose(y, F.conv2d(x, weight[1], bias[1], padding=1), atol=1e-5)
    True
    """
    bases, features, group, side, _ = (int(size) for size in weight.shape)  # plain numbers in a traced graph too
    margin = side // 2
    padded = F.pad(x, (margin, margin, margin, margin))
    # Input feature i of its group for every output feature, so that the taps need no reshaping: n i*c h w
    seen = padded.unflatten(1, (features // group, group)).transpose(1, 2)[:, :, :, None]  # n i c/i 1 h w
    seen = seen.expand(-1, -1, -1, group, -1, -1).flatten(1, 3)
    taps = weight.permute(3, 4, 2, 1, 0).reshape(side * side, group * features, bases, 1, 1)
    again = recompute and torch.is_grad_enabled()
    total: Tensor | None = None
    for index in range(side * side):
        given = (seen, coefficients, taps[index], side, *divmod(index, side))
        part = checkpoint(_tap, *given, use_reentrant=False, preserve_rng_state=False) if again else _tap(*given)
        total = part if total is None else total + part
    assert total is not None
    y = total.unflatten(1, (group, features)).sum(1)  # n c h w
    return y + F.conv2d(coefficients, bias.t()[:, :, None, None])


def _tap(seen: Tensor, coefficients: Tensor, tap: Tensor, side: int, row: int, col: int) -> Tensor:
    """One tap of every pixel's kernel times what it sees: (n, i * c, h, w)."""
    # Ends counted from the far side stay right whatever the size when the graph is exported.
    window = seen[:, :, row : row - side + 1 or None, col : col - side + 1 or None]
    return F.conv2d(coefficients, tap) * window


class ChannelNorm(nn.Module):
    """Normalise the features of each pixel to mean 0 and variance 1, then scale and shift each feature.

    Args:
        channels: c.
        eps: added to the variance; 1e-6 in KBNet.

    >>> y = ChannelNorm(8)(torch.randn(2, 8, 3, 3) * 5 + 2)
    >>> bool(y.mean(1).abs().max() < 1e-5), bool((y.var(1, correction=0) - 1).abs().max() < 1e-3)
    (True, True)
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        normal = centred * torch.rsqrt(variance + self.eps)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class Gate(nn.Module):
    """The product of the first and the second half of the features, (n, 2c, h, w) to (n, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class MFFBlock(nn.Module):
    """Multi-branch feature fusion: the product of three views of the features, then a gated feed-forward.

    With n = norm(x):

    1. channel attention: s = conv1(mean over pixels of n), no activation;
    2. local branch: v = depthwise(conv1(n));
    3. kernel basis attention: u = depthwise3(conv1(n)), coefficients
       a = scale * conv1(gate(grouped conv3(n))) + conv1(n), r = scale * attention(u, a) + u;
    4. fusion: y = x + scale * conv1(r * v * s);
    5. feed-forward: y + scale * conv1(gate(conv1(norm(y)))).

    Args:
        channels: features; a multiple of 4, beyond 32 a multiple of 32.
        kernel: side of the local branch's convolution: 3, or 5 in MMCANet_l.
        channels_per_group: input features per filter of the local branch: 1 is depthwise as the MMCANet paper
            says, 4 is KBNet's heavier variant.
        bases: basis kernels.
        recompute: in training, save memory by forming the per-pixel kernels again in the backward pass.

    Raises:
        ModelError: the number of features does not fit the groups.
    """

    def __init__(
        self, channels: int, kernel: int = 3, channels_per_group: int = 1, bases: int = BASES, recompute: bool = True
    ) -> None:
        super().__init__()
        selector = min(channels, SELECTOR_WIDTH)
        if channels % BASIS_GROUP or channels % selector or channels % channels_per_group:
            raise ModelError(
                f"An MFF block cannot have {channels} features in groups of {channels_per_group}.",
                expected=f"Features are a multiple of {BASIS_GROUP} and of the group, above 32 a multiple of 32.",
                remedy="Choose other widths, e.g. widths=(32, 64, 128, 256).",
            )
        if kernel % 2 == 0:
            raise ModelError(
                f"An MFF block cannot have a kernel of {kernel}.",
                expected="The side of a kernel is odd.",
                remedy="Choose 3 or 5.",
            )
        self.recompute = recompute
        self.norm = ChannelNorm(channels)
        self.channel_attention = nn.Conv2d(channels, channels, 1)
        self.local_in = nn.Conv2d(channels, channels, 1)
        self.local = nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels // channels_per_group
        )
        self.basis_in = nn.Conv2d(channels, channels, 1)
        self.basis_local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.select = nn.Sequential(
            nn.Conv2d(channels, selector, 3, padding=1, groups=selector), Gate(), nn.Conv2d(selector // 2, bases, 1)
        )
        self.select_linear = nn.Conv2d(channels, bases, 1)
        self.select_scale = nn.Parameter(torch.full((bases, 1, 1), LAYER_SCALE))
        self.basis_weight = nn.Parameter(torch.empty(bases, channels, BASIS_GROUP, 3, 3))
        self.basis_bias = nn.Parameter(torch.empty(bases, channels))
        self.basis_scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))
        self.fuse = nn.Conv2d(channels, channels, 1)
        self.fuse_scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))
        self.feed_norm = ChannelNorm(channels)
        self.feed = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), Gate(), nn.Conv2d(channels, channels, 1))
        self.feed_scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))
        # Kaiming uniform with a = sqrt(5) is uniform within 1 / sqrt(fan in), for kernels and biases alike.
        bound = 1 / math.sqrt(BASIS_GROUP * 9)
        nn.init.uniform_(self.basis_weight, -bound, bound)
        nn.init.uniform_(self.basis_bias, -bound, bound)

    def coefficients(self, normal: Tensor) -> Tensor:
        """Weights of the bases at each pixel, (n, t, h, w), from the normalised features (n, c, h, w)."""
        return self.select_scale * self.select(normal) + self.select_linear(normal)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        scale = self.channel_attention(normal.mean((2, 3), keepdim=True))  # (1)
        local = self.local(self.local_in(normal))  # (2)
        values = self.basis_local(self.basis_in(normal))  # (3)
        mixed = kernel_basis_attention(
            values, self.coefficients(normal), self.basis_weight, self.basis_bias, recompute=self.recompute
        )
        mixed = self.basis_scale * mixed + values
        x = x + self.fuse_scale * self.fuse(mixed * local * scale)  # (4)
        return x + self.feed_scale * self.feed(self.feed_norm(x))  # (5)
