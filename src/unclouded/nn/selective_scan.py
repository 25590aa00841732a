"""The selective scan: a linear recurrence whose decay, input and output weights change from step to step.

Letters
    n  batch        k  groups that share B and C, e.g. the four directions of an image
    l  steps        d  channels of one group        s  state size

    h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t        y_t = C_t . h_t + D u_t        h_0 = 0

with dt_t = softplus(dt + bias), for each channel and state on its own. Source: Gu and Dao, Mamba,
arXiv 2312.00752, equations (2) and (4) with the simplified discretisation of B of its published code.

One function, five methods with the same result:

    steps       the recurrence as it stands, one step after the other: the definition, slow
    chunked     many chunks of the sequence together, see :mod:`.chunked_scan`
    fused       the CUDA kernel of the package mamba-ssm
    export      a structured loop that torch.export keeps and that becomes one ONNX ``Scan`` node of any length
    unrolled    plain tensor operations in a fixed number whatever the length, for tracing exporters and runtimes
                without loops; holds all decays at once
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import MissingDependencyError, ModelError
from .chunked_scan import chunked_scan

Method = Literal["auto", "steps", "chunked", "fused", "export", "unrolled"]

_UNROLLED_STEPS = 32
_UNROLLED_ROUNDS = 20
"""Steps of a chunk, and doublings over chunks, of the unrolled form: enough for 32 * 2^20 steps."""


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    *,
    softplus: bool = True,
    method: Method = "auto",
) -> Tensor:
    """Run the selective scan over a sequence.

    The recurrence runs in float32, or in float64 where ``u`` is float64; the result has the type of ``u``.

    Args:
        u: input, (n, k*d, l).
        dt: step size before bias and softplus, (n, k*d, l).
        A: decay rate, negative, (k*d, s).
        B: input weight, (n, k, s, l), or (n, s, l) for a single group.
        C: output weight, as B.
        D: weight of the input that goes straight to the output, (k*d,).
        dt_bias: added to ``dt``, (k*d,).
        softplus: pass ``dt`` through softplus; without it ``dt`` has to be positive already.
        method: see above; ``auto`` takes the form for the exporter where torch exports or traces, the fused kernel for
            CUDA tensors where mamba-ssm is installed, and the chunked form otherwise.

    Returns:
        y, (n, k*d, l).

    Raises:
        ModelError: the shapes do not fit, or the method is unknown.
        MissingDependencyError: the fused method is asked for and mamba-ssm is not installed.

    >>> u = torch.ones(1, 1, 3)
    >>> one = torch.ones(1, 1, 3)
    >>> half_life = torch.log(torch.tensor([[0.5]]))
    >>> selective_scan(u, one, half_life, one, one, softplus=False)
    tensor([[[1.0000, 1.5000, 1.7500]]])
    """
    method = _resolve(u, method)
    if B.ndim == 3:
        B, C = B.unsqueeze(1), C.unsqueeze(1)
    if not torch.jit.is_tracing():  # shapes are no numbers there
        _check(u, dt, A, B, C, D, dt_bias)
    if method == "fused":
        return _fused(u, dt, A, B, C, D, dt_bias, softplus)
    number = torch.float64 if u.dtype == torch.float64 else torch.float32
    step = dt.to(number)
    if dt_bias is not None:
        step = step + dt_bias.to(number).unsqueeze(-1)
    if softplus:
        step = F.softplus(step)
    scan = {"steps": _steps, "chunked": chunked_scan, "export": _export, "unrolled": _unrolled}[method]
    y = scan(u.to(number), step, A.to(number), B.to(number), C.to(number))
    if D is not None:
        y = y + D.to(number).unsqueeze(-1) * u
    return y.to(u.dtype)


def _check(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, dt_bias: Tensor | None) -> None:
    shapes = f"u {tuple(u.shape)}, dt {tuple(dt.shape)}, A {tuple(A.shape)}, B {tuple(B.shape)}, C {tuple(C.shape)}"
    fits = u.ndim == 3 and dt.shape == u.shape and A.ndim == 2 and B.ndim == 4 and C.shape == B.shape
    if fits:
        n, channels, steps = u.shape
        fits = B.shape[0] == n and channels % B.shape[1] == 0 and B.shape[3] == steps and steps > 0
        fits = fits and A.shape == (channels, B.shape[2])
    if not fits:
        raise ModelError(
            f"The selective scan was given {shapes}.",
            expected="Shapes are u and dt (n, k*d, l), A (k*d, s), B and C (n, k, s, l), with one step or more.",
            remedy="Reshape the arguments.",
        )
    for name, value in (("D", D), ("dt_bias", dt_bias)):
        if value is not None and value.shape != A.shape[:1]:
            raise ModelError(
                f"The selective scan was given {name} of shape {tuple(value.shape)}.",
                expected=f"It has one value per channel, ({A.shape[0]},).",
                remedy=f"Reshape {name}.",
            )


def _resolve(u: Tensor, method: Method) -> Method:
    if method not in get_args(Method):
        raise ModelError(
            f"There is no selective scan method '{method}'.",
            expected=f"Methods are {', '.join(get_args(Method))}.",
            remedy="Leave the method out to have it chosen.",
        )
    if method != "auto":
        return method
    if torch.jit.is_tracing():
        return "unrolled"
    if torch.compiler.is_exporting():
        return "export"
    if u.is_cuda and u.dtype != torch.float64 and _kernel() is not None:
        return "fused"
    return "chunked"


def exporting() -> bool:
    """Whether torch is exporting or tracing the code that runs."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def _advance(h: Tensor, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """One step of all groups: state (n, k, d, s) and inputs of the step -> state, output (n, k, d)."""
    decay = torch.exp(dt.unsqueeze(-1) * A)
    h = decay * h + (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    return h, (h * C.unsqueeze(-2)).sum(-1)


def _by_step(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """State (n, k, d, s) of zeros, rate (k, d, s), and u, dt (l, n, k, d) and B, C (l, n, k, s)."""
    groups, size = B.shape[1:3]
    u, dt = (value.unflatten(1, (groups, -1)).movedim(-1, 0) for value in (u, dt))
    A = A.unflatten(0, (groups, -1))
    h = u.new_zeros(*u.shape[1:], size)
    return h, A, (u, dt, B.movedim(-1, 0), C.movedim(-1, 0))


def _steps(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    h, rate, inputs = _by_step(u, dt, A, B, C)
    outputs = []
    for u_t, dt_t, b_t, c_t in zip(*(value.unbind(0) for value in inputs), strict=True):
        h, y_t = _advance(h, u_t, dt_t, rate, b_t, c_t)
        outputs.append(y_t)
    return torch.stack(outputs, dim=-1).flatten(1, 2)


def _export(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    try:
        from torch._higher_order_ops.scan import scan
    except ImportError as err:
        raise MissingDependencyError(
            f"This version of torch ({torch.__version__}) has no structured loop.",
            expected="Exporting a model with a selective scan needs torch 2.9 or newer.",
            remedy="Install it: pip install --upgrade torch",
        ) from err
    h, rate, inputs = _by_step(u, dt, A, B, C)

    def advance(h: Tensor, step: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        u_t, dt_t, b_t, c_t = step
        return _advance(h, u_t, dt_t, rate, b_t, c_t)

    _, y = scan(advance, h, tuple(value.contiguous() for value in inputs), dim=0)  # (l, n, k, d)
    return y.movedim(0, -1).flatten(1, 2)


def _unrolled(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Chunks of fixed length side by side, chained by a fixed number of doublings; sizes may stay symbols."""
    n, channels, steps = u.shape
    k, s = B.shape[1:3]
    d, t = channels // k, _UNROLLED_STEPS
    u, dt, B, C = (F.pad(value, (0, -steps % t)) for value in (u, dt, B, C))
    u, dt = (value.reshape(n, k, d, 1, -1, t) for value in (u, dt))  # (n, k, d, 1, g, t)
    B, C = (value.reshape(n, k, 1, s, -1, t) for value in (B, C))  # (n, k, 1, s, g, t)
    rate = A.reshape(k, d, s, 1)
    x = dt * u
    decays = [torch.exp(rate * dt[..., step]) for step in range(t)]  # (n, k, d, s, g) each
    end = torch.zeros_like(decays[0])
    for step, decay in enumerate(decays):
        end = decay * end + x[..., step] * B[..., step]

    decay = torch.exp(rate * dt.sum(-1))
    chunk = torch.arange(end.shape[-1], device=u.device)
    for distance in (2**power for power in range(_UNROLLED_ROUNDS)):
        before = (chunk - distance).clamp(min=0)
        there = (chunk >= distance).to(u.dtype)
        end = end + decay * end.index_select(-1, before) * there
        decay = decay * decay.index_select(-1, before) * there
    h = end.index_select(-1, (chunk - 1).clamp(min=0)) * (chunk >= 1).to(u.dtype)

    outputs = []
    for step, decay in enumerate(decays):
        h = decay * h + x[..., step] * B[..., step]
        outputs.append((h * C[..., step]).sum(3))  # (n, k, d, g)
    return torch.stack(outputs, dim=-1).reshape(n, channels, -1)[..., :steps]


@functools.cache
def _kernel() -> Callable[..., Any] | None:
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None


def _fused(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    softplus: bool,
) -> Tensor:
    kernel = _kernel()
    if kernel is None:
        raise MissingDependencyError(
            "The Python module 'mamba_ssm' is not installed.",
            expected="The fused selective scan is a CUDA kernel of that package.",
            remedy="Install it: pip install mamba-ssm, or leave the method out.",
        )
    if not u.is_cuda:
        raise ModelError(
            f"The fused selective scan was given tensors on {u.device}.",
            expected="It runs on CUDA devices only.",
            remedy="Leave the method out to have it chosen.",
        )
    number = torch.float32  # the recurrence stays in single precision under mixed precision, too
    given = [None if value is None else value.to(number).contiguous() for value in (u, dt, A, B, C, D, dt_bias)]
    u32, dt32, A32, B32, C32, D32, bias32 = given
    y = kernel(u32, dt32, A32, B32, C32, D=D32, delta_bias=bias32, delta_softplus=softplus)
    return y.to(u.dtype)
