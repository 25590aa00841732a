"""Attention between an optical and a radar stream: keys that both streams find alike.

Shapes
    n  batch    c  features of a stream    h, w  pixels    p  pixels of the attended grid, row by row

Equations (MMCANet paper; m is the optical or the radar stream)
    P_m  = softmax over keys of  Q_m^T K_m                 (n, p, p)
    P_f  = P_optical * P_radar, element by element
    AP_m = V_m P_f^T                                        (n, c, p)
    AP   = AP_optical * AP_radar, element by element

The rows of P_f sum to about 1/p, so that AP is around 1/p^2 and the branch starts almost dead. By default the rows are
brought back to a sum of 1. That is the softmax of the sum of both scores, in other words ordinary attention with the
queries and keys of both streams laid end to end, for which fast kernels exist that never store a p x p map. The
printed form is the same result times ``exp(lse(sum of scores) - lse(optical) - lse(radar))`` per query, with lse the
logarithm of the sum of exponentials over keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUERIES_AT_ONCE = 1024
"""Rows of the score maps held at a time where the printed form needs their sums."""


def joint_attention(
    queries: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    values: Tensor,
    *,
    scale: float = 1.0,
    literal: bool = False,
) -> Tensor:
    """Attend with the product of two attention maps, without storing either.

    Args:
        queries: of the two streams, (n, p, c) each.
        keys: of the two streams, (n, p, c) each.
        values: (n, p, v).
        scale: factor on the scores; the paper has none, 1 / sqrt(c) is customary.
        literal: leave the rows of the product as they are; otherwise each is brought to a sum of 1.

    Returns:
        (n, p, v).

    >>> q, k = [tuple(torch.randn(1, 6, 4) for _ in range(2)) for _ in range(2)]
    >>> v = torch.randn(1, 6, 3)
    >>> torch.allclose(joint_attention(q, k, v), joint_attention_by_maps(q, k, v), atol=1e-5)
    True
    """
    attended = F.scaled_dot_product_attention(torch.cat(queries, -1), torch.cat(keys, -1), values, scale=scale)
    if not literal:
        return attended
    sums = []
    # A traced graph has one number of parts for all sizes: one.
    parts = [(q,) if torch.jit.is_tracing() else q.split(QUERIES_AT_ONCE, dim=1) for q in queries]
    for optical, radar in zip(*parts, strict=True):
        first = scale * optical @ keys[0].transpose(1, 2)
        second = scale * radar @ keys[1].transpose(1, 2)
        sums.append((first + second).logsumexp(-1) - first.logsumexp(-1) - second.logsumexp(-1))
    return attended * torch.cat(sums, 1).exp()[..., None]


def joint_attention_by_maps(
    queries: tuple[Tensor, Tensor],
    keys: tuple[Tensor, Tensor],
    values: Tensor,
    *,
    scale: float = 1.0,
    literal: bool = False,
) -> Tensor:
    """The same as :func:`joint_attention`, equation by equation, storing the p x p maps."""
    first, second = (torch.softmax(scale * q @ k.transpose(1, 2), -1) for q, k in zip(queries, keys, strict=True))
    product = first * second
    if not literal:
        product = product / product.sum(-1, keepdim=True)
    return product @ values


class CrossAttention(nn.Module):
    """The common view of two streams, (n, c, h, w) each, to one map (n, c, h, w).

    Args:
        channels: features of each stream.
        literal: the printed form, see the head of this file.
        scale: True for scores divided by the square root of the number of features.
        pool: attend on a grid this many times coarser and interpolate the result; h and w are multiples of it.
        by_maps: compute with stored maps, to check the fast form.
    """

    def __init__(
        self, channels: int, literal: bool = False, scale: bool = False, pool: int = 1, by_maps: bool = False
    ) -> None:
        super().__init__()
        self.query_optical = nn.Conv2d(channels, channels, 1)
        self.query_sar = nn.Conv2d(channels, channels, 1)
        # A bias on the keys adds the same score to all keys of a query, and the softmax takes it away again.
        self.key_optical = nn.Conv2d(channels, channels, 1, bias=False)
        self.key_sar = nn.Conv2d(channels, channels, 1, bias=False)
        self.value_optical = nn.Conv2d(channels, channels, 1)
        self.value_sar = nn.Conv2d(channels, channels, 1)
        self.literal = literal
        self.scale = channels**-0.5 if scale else 1.0
        self.pool = pool
        self.by_maps = by_maps

    def forward(self, optical: Tensor, sar: Tensor) -> Tensor:
        if self.pool > 1:
            optical, sar = (F.avg_pool2d(x, self.pool) for x in (optical, sar))
        queries = _rows(self.query_optical(optical)), _rows(self.query_sar(sar))
        keys = _rows(self.key_optical(optical)), _rows(self.key_sar(sar))
        values = torch.cat((_rows(self.value_optical(optical)), _rows(self.value_sar(sar))), -1)
        attend = joint_attention_by_maps if self.by_maps else joint_attention
        both = attend(queries, keys, values, scale=self.scale, literal=self.literal)  # n p 2c
        # The radar's sides: in a chain of networks the ONNX exporter takes those of the optical stream for constants.
        from_optical, from_sar = both.transpose(1, 2).unflatten(2, sar.shape[-2:]).chunk(2, dim=1)
        common = from_optical * from_sar  # n c h w
        if self.pool > 1:
            common = F.interpolate(common, scale_factor=float(self.pool), mode="bilinear", align_corners=False)
        return common


def _rows(x: Tensor) -> Tensor:
    """(n, c, h, w) to (n, p, c)."""
    return x.flatten(2).transpose(1, 2)
