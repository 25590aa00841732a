"""Stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zeroes whole images of a residual branch in training and scales the others up; does nothing in eval mode.

    Args:
        rate: probability of dropping, in [0, 1).

    >>> DropPath(0.5).eval()(torch.ones(3, 2)).sum().item()
    6.0
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        drawn = torch.bernoulli(torch.full((x.shape[0],) + (1,) * (x.ndim - 1), keep, device=x.device))
        return x * (drawn / keep).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
