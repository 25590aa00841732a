"""SS2D: the selective scan over an image, in four directions.

Letters
    n  batch             c  features outside      d  features inside, expand * c
    h, w  pixels         l  steps, h * w          k  directions, 4
    s  state size        r  rank of the step size

    row-major, column-major, and both reversed:   k = 0, 1, 2, 3

Source: Liu et al., VMamba (2024), the block and its defaults; names and shapes of the parameters are those of its
published weights. The gated form is the Mamba block of CloudMamba (Fig. 2b) without its first normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .selective_scan import exporting, selective_scan

DIRECTIONS = 4

STEP_RANGE = (1e-3, 1e-1)
"""Step sizes at the start are log-uniform between these (Mamba)."""

STEP_FLOOR = 1e-4
"""No step size starts below this (Mamba)."""


class SS2D(nn.Module):
    """Gated selective scan of an image in four directions.

    Args:
        channels: features c.
        expand: inner features d per feature; an integer number of inner features has to result.
        state: state size s.
        rank: rank r of the step size's projection; None for c / 16, rounded up.
        gate: multiply the scan by a SiLU gate.

    The parameters ``A_logs`` and ``Ds`` are not to be decayed: see :func:`undecayed`.

    >>> SS2D(8)(torch.rand(2, 8, 5, 7)).shape
    torch.Size([2, 8, 5, 7])
    """

    def __init__(
        self, channels: int, expand: float = 2.0, state: int = 16, rank: int | None = None, gate: bool = True
    ) -> None:
        super().__init__()
        inner = int(expand * channels)
        self.state = state
        self.rank = rank or math.ceil(channels / 16)
        self.gate = gate
        self.in_proj = nn.Linear(channels, (2 if gate else 1) * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        scale = inner**-0.5
        self.x_proj_weight = nn.Parameter(
            torch.empty(DIRECTIONS, self.rank + 2 * state, inner).uniform_(-scale, scale)
        )
        scale = self.rank**-0.5
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, self.rank).uniform_(-scale, scale))
        low, high = (math.log(edge) for edge in STEP_RANGE)
        step = torch.exp(torch.empty(DIRECTIONS, inner).uniform_(low, high)).clamp_(min=STEP_FLOOR)
        self.dt_projs_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step
        rates = torch.arange(1, state + 1, dtype=torch.float32)
        self.A_logs = nn.Parameter(torch.log(rates).repeat(DIRECTIONS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * inner))
        self.out_norm = PixelNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        x = pointwise(self.in_proj.weight, x)
        gate = None
        if self.gate:
            x, gate = x.chunk(2, dim=1)  # (n, d, h, w) each
        x = F.silu(self.conv2d(x))
        y = self.out_norm(self._scan(x).to(x.dtype))
        if gate is not None:
            y = y * F.silu(gate)
        return pointwise(self.out_proj.weight, y)

    def _scan(self, x: Tensor) -> Tensor:
        """Sum of the four scans of (n, d, h, w)."""
        every = range(DIRECTIONS)
        # A loop in a graph, or a kernel with room for more work, runs the directions as groups of one scan. On a CPU
        # one after the other takes as long, and needs a quarter of the memory.
        together: Sequence[Sequence[int]] = [every] if exporting() or x.device.type != "cpu" else [[k] for k in every]
        return torch.stack([self._scan_directions(x, list(chosen)) for chosen in together]).sum(0)

    def _scan_directions(self, x: Tensor, chosen: list[int]) -> Tensor:
        size = x.shape[-2:]
        inner = x.shape[1]
        rates = self.A_logs.to(torch.promote_types(self.A_logs.dtype, torch.float32))
        sequences, steps, inputs, outputs = [], [], [], []
        for k in chosen:
            # Projections act on single pixels: cheaper before the reordering than after it.
            parts = along(pointwise(self.x_proj_weight[k], x), k).split([self.rank, self.state, self.state], dim=1)
            sequences.append(along(x, k))
            steps.append(self.dt_projs_weight[k] @ parts[0])
            inputs.append(parts[1])
            outputs.append(parts[2])
        y = selective_scan(
            torch.cat(sequences, 1),
            torch.cat(steps, 1),
            -torch.exp(rates.unflatten(0, (DIRECTIONS, inner))[chosen].flatten(0, 1)),
            torch.stack(inputs, 1),
            torch.stack(outputs, 1),
            self.Ds.unflatten(0, (DIRECTIONS, inner))[chosen].flatten(),
            self.dt_projs_bias[chosen].flatten(),
        )
        parts = y.unflatten(1, (len(chosen), inner)).unbind(1)
        return torch.stack([back(part, k, size) for part, k in zip(parts, chosen, strict=True)]).sum(0)


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the features of each pixel of (n, c, h, w)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def pointwise(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply the features of each pixel by a matrix: (o, c) and (n, c, h, w) -> (n, o, h, w)."""
    return F.conv2d(x, weight[:, :, None, None])


def along(x: Tensor, direction: int) -> Tensor:
    """Pixels in the order of a direction, (n, c, h, w) -> (n, c, l).

    >>> along(torch.arange(6).view(1, 1, 2, 3), 3)
    tensor([[[5, 2, 4, 1, 3, 0]]])
    """
    sequence = (x.transpose(2, 3) if direction % 2 else x).flatten(2)
    return sequence.flip(-1) if direction >= 2 else sequence


def back(sequence: Tensor, direction: int, size: Sequence[int]) -> Tensor:
    """Inverse of :func:`along` for an image of ``size`` (h, w)."""
    if direction >= 2:
        sequence = sequence.flip(-1)
    if direction % 2:
        return sequence.unflatten(-1, (size[1], size[0])).transpose(2, 3)
    return sequence.unflatten(-1, (size[0], size[1]))


def undecayed(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay must leave alone: rates and straight paths of every SS2D inside."""
    return {name for name, _ in module.named_parameters() if name.rsplit(".", 1)[-1] in ("A_logs", "Ds")}
