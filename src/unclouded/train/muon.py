"""Muon for convolutions: momentum whose directions all weigh the same, and AdamW for what is no matrix.

Shapes
    o  outputs of a layer    i  its inputs times the pixels of its kernel

Equations
    (1)  m <- momentum m + (1 - momentum) g
    (2)  u  = momentum m + (1 - momentum) g
    (3)  U V^T of u = U S V^T, nearly: five steps x <- a x + (b x x^T + c (x x^T)^2) x from u / |u|
    (4)  w <- (1 - rate decay) w - 0.2 rate sqrt(max(o, i)) U V^T

Source:
    Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks": (1) to (3) and their constants.
    Liu et al. (2025), "Muon is scalable for LLM training", equation 4: the factor of (4), with which a step is as long
    as one of AdamW, so that both take the same rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""a, b and c: singular values between 0.01 and 1 end between 0.7 and 1.2."""

ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Steps by (1) to (4) for weights of two axes and more, by AdamW for vectors.

    ``torch.optim.Muon`` takes matrices alone; a convolution (o, c, y, x) is the matrix (o, c y x) here.

    Args:
        params: parameters or groups of them.
        lr: rate of both rules.
        weight_decay: share of the rate by which weights shrink in a step, in both rules.
        momentum: of (1) and (2).
        betas, eps: of AdamW.

    >>> weight = torch.nn.Parameter(torch.zeros(2, 3))
    >>> weight.grad = torch.tensor([[100.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> Muon([weight], lr=0.1).step()
    >>> moved = -weight.detach()[[0, 1], [0, 1]]  # both by about 0.2 times 0.1 times the root of 3
    >>> bool(((moved > 0.02) & (moved < 0.045)).all())
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                rule = _orthogonal if weight.ndim > 1 else _adaptive
                rule(weight, weight.grad, self.state[weight], group)
        return loss


def _orthogonal(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(weight)
    keep = group["momentum"]
    state["momentum"].lerp_(gradient, 1.0 - keep)  # (1)
    matrix = gradient.lerp(state["momentum"], keep).reshape(weight.shape[0], -1)  # (2)
    length = 0.2 * max(matrix.shape) ** 0.5
    weight.add_(orthogonalised(matrix).reshape(weight.shape), alpha=-group["lr"] * length)  # (4)


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix (o, i) with the directions of this one and singular values near 1, equation (3).

    The products are formed in bfloat16: a direction needs no more, and it is the faster half of the step's cost.
    """
    a, b, c = POLYNOMIAL
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / x.float().norm().clamp(min=1e-7).bfloat16()
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def _adaptive(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """AdamW without its decay, which the caller has applied."""
    if "mean" not in state:
        state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
    state["step"] += 1
    first, second = group["betas"]
    state["mean"].lerp_(gradient, 1.0 - first)
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
    spread = (state["square"] / (1.0 - second ** state["step"])).sqrt_().add_(group["eps"])
    weight.addcdiv_(state["mean"], spread, value=-group["lr"] / (1.0 - first ** state["step"]))
