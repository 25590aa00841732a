"""The selective scan in chunks: few large tensor operations instead of many small ones per step.

Letters
    n  batch            k  groups that share B and C      d  channels of one block
    s  state size       l  steps of the sequence          g  chunks in the sequence
    t  steps in a chunk, g * t >= l                       m  batch items times g: the chunks of a block

The sequence is cut into g chunks of t steps, and one Python step moves all chunks on together:

    1. every chunk is run from a zero state; its end state and its total decay are kept,
    2. the end states are chained over the chunks in log2(g) doublings,
    3. every chunk is run again from its true start, now with output.

All decays are exp(dt A) with their true exponents, or products of such; nothing is ever divided by a decay. So
nothing overflows where the recurrence itself does not, however long the sequence or strong the decay.

The backward pass keeps the inputs and the start state of each chunk, 1/t of all states, and recomputes the rest a
block of channels at a time. Working memory beside that is two tensors of t state blocks.

Two choices come from measurements on CPUs. The layout (t, s, d, m), with the chunks innermost, gives every operation
long contiguous rows, also where B and C are broadcast. And a state block stays just below the size at which torch
divides one operation among threads: these are thousands of operations of some microseconds each, and dividing them
means as many barriers, each of which waits for the slowest thread. On a machine that is busy otherwise the scan then
takes a hundred times longer. Python threads with a share of the blocks each do no better: they wait for each other's
interpreter lock instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_STATE_NUMBERS = {"cpu": (1 << 15) - 1, "other": 1 << 22}
"""Most numbers in one state block, (s, d, m). On a CPU: one less than torch's grain size for element-wise loops."""


def chunked_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence h = exp(dt A) h + dt B u, y = C h, from h = 0, differentiable once.

    Args:
        u: input, (n, k*d, l), float32 or float64 as all the others.
        dt: step size, positive, (n, k*d, l).
        A: decay rate, (k*d, s).
        B: input weight, (n, k, s, l).
        C: output weight, (n, k, s, l).

    Returns:
        y, (n, k*d, l).
    """
    return _ChunkedScan.apply(u, dt, A, B, C)


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        kept: list[Tensor] = []
        for part in _parts(u, B):
            dt_t, b_t, c_t = part.pack(dt), part.pack_shared(B), part.pack_shared(C)
            x_t, total = part.pack(u).mul_(dt_t), dt_t.sum(0)
            y_t = torch.empty_like(x_t)
            starts = _forward(part, A, dt_t, total, x_t, b_t, c_t, y_t)
            part.unpack(y_t, y)
            if any(ctx.needs_input_grad):
                kept += starts
        ctx.save_for_backward(u, dt, A, B, C, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        u, dt, A, B, C, *kept = ctx.saved_tensors
        grad_u, grad_dt = torch.empty_like(u), torch.empty_like(dt)
        grad_A, grad_B, grad_C = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        for part in _parts(u, B):
            dt_t, u_t, b_t, c_t = part.pack(dt), part.pack(u), part.pack_shared(B), part.pack_shared(C)
            x_t, gy_t, total = u_t * dt_t, part.pack(grad_y), dt_t.sum(0)
            gx_t, gdt_t = torch.empty_like(x_t), torch.empty_like(x_t)
            starts = [kept.pop(0) for _ in part.blocks]
            gb_t, gc_t = _backward(part, starts, A, dt_t, total, x_t, b_t, c_t, gy_t, gx_t, gdt_t, grad_A)
            part.unpack(gx_t * dt_t, grad_u)
            part.unpack(gdt_t.addcmul_(gx_t, u_t), grad_dt)
            part.unpack_shared(gb_t, grad_B)
            part.unpack_shared(gc_t, grad_C)
        return grad_u, grad_dt, grad_A, grad_B, grad_C


def _forward(
    part: _Part, A: Tensor, dt_t: Tensor, total: Tensor, x_t: Tensor, b_t: Tensor, c_t: Tensor, y_t: Tensor
) -> list[Tensor]:
    """Scan all channels into ``y_t``; returns the start states of the chunks of every block, (s, d, m) each."""
    work = x_t.new_empty(part.t * part.state_size(part.blocks[0]))
    starts = []
    for block in part.blocks:
        decays, rate = part.states(work, block), part.rate(A, block)
        dt_b, x_b, y_b = dt_t[:, block], x_t[:, block], y_t[:, block]
        end = torch.zeros_like(decays[0])
        for a, step, x, b in zip(decays, dt_b, x_b, b_t, strict=True):
            torch.mul(rate, step, out=a).exp2_()
            if part.g > 1:
                end.mul_(a).addcmul_(x, b)
        h = _chain(torch.mul(rate, total[block]).exp2_(), end, part.g, reverse=False)
        starts.append(h.clone())
        product = torch.empty_like(h)
        for a, x, b, c, y in zip(decays, x_b, b_t, c_t, y_b, strict=True):
            h.mul_(a).addcmul_(x, b)
            torch.sum(torch.mul(h, c, out=product), 0, out=y)
    return starts


def _backward(
    part: _Part,
    starts: list[Tensor],
    A: Tensor,
    dt_t: Tensor,
    total: Tensor,
    x_t: Tensor,
    b_t: Tensor,
    c_t: Tensor,
    gy_t: Tensor,
    gx_t: Tensor,
    gdt_t: Tensor,
    grad_A: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of all channels into ``gx_t``, ``gdt_t``, ``grad_A``; returns those of B and C."""
    size = part.t * part.state_size(part.blocks[0])
    work_a, work_h = x_t.new_empty(size), x_t.new_empty(size)
    gb_t, gc_t = torch.zeros_like(b_t), torch.zeros_like(c_t)
    row = torch.empty_like(b_t[0])
    for block, start in zip(part.blocks, starts, strict=True):
        decays, states, rate = part.states(work_a, block), part.states(work_h, block), part.rate(A, block)
        dt_b, x_b, gy_b, gx_b, gdt_b = (value[:, block] for value in (dt_t, x_t, gy_t, gx_t, gdt_t))
        h = start
        for a, state, step, x, b in zip(decays, states, dt_b, x_b, b_t, strict=True):
            torch.mul(rate, step, out=a).exp2_()
            h = torch.mul(h, a, out=state).addcmul_(x, b)

        # The adjoint state g = a' g' + C gy runs backwards, and is chained over the chunks like the state.
        end = torch.zeros_like(start)
        if part.g > 1:
            for a, gy, c in _backwards(decays, gy_b, c_t):
                end.addcmul_(gy, c).mul_(a)
        gh = _chain(torch.mul(rate, total[block]).exp2_(), end, part.g, reverse=True)

        product, sum_A = torch.empty_like(gh), torch.zeros_like(gh)
        log_rate = rate * math.log(2.0)
        before = (start, *states[:-1])
        for a, h, h_before, step, x, b, c, gy, gx, gdt, gb, gc in _backwards(
            decays, states, before, dt_b, x_b, b_t, c_t, gy_b, gx_b, gdt_b, gb_t, gc_t
        ):
            gh.addcmul_(gy, c)
            if gh.shape[1] == 1:
                gc.addcmul_(h, gy)
                gb.addcmul_(gh, x)
            else:
                gc.add_(torch.sum(torch.mul(h, gy, out=product), 1, keepdim=True, out=row))
                gb.add_(torch.sum(torch.mul(gh, x, out=product), 1, keepdim=True, out=row))
            torch.sum(torch.mul(gh, b, out=product), 0, out=gx)
            gh.mul_(a)
            torch.mul(gh, h_before, out=product)  # gradient of the exponent dt A
            sum_A.addcmul_(product, step)
            torch.sum(product.mul_(log_rate), 0, out=gdt)
        grad_A[part.first + block.start : part.first + block.stop] += sum_A.sum(-1).T
    return gb_t, gc_t


class _Part(NamedTuple):
    """Batch items and one group of channels, the way to and from their layout, and their blocks of channels."""

    items: slice
    group: int
    first: int  # channel of the group
    width: int  # channels in the group
    steps: int
    t: int
    g: int
    s: int
    m: int
    at_once: int  # channels in a block

    @property
    def blocks(self) -> list[slice]:
        starts = range(0, self.width, self.at_once)
        return [slice(start, min(start + self.at_once, self.width)) for start in starts]

    def state_size(self, block: slice) -> int:
        return self.s * (block.stop - block.start) * self.m

    def states(self, work: Tensor, block: slice) -> Tensor:
        """The start of a flat work space as (t, s, d, m)."""
        return work[: self.t * self.state_size(block)].view(self.t, self.s, -1, self.m)

    def rate(self, A: Tensor, block: slice) -> Tensor:
        """Decay rates (s, d, 1) for powers of two: torch computes those four times faster than powers of e."""
        rates = A[self.first + block.start : self.first + block.stop]
        return (rates.T * math.log2(math.e)).unsqueeze(-1)

    def pack(self, value: Tensor) -> Tensor:
        """(n, k*d, l) -> (t, d, m) for all channels of the group, zeros behind the last step."""
        return self._pack(value[self.items, self.first : self.first + self.width])

    def pack_shared(self, value: Tensor) -> Tensor:
        """(n, k, s, l) -> (t, s, 1, m), zeros behind the last step."""
        return self._pack(value[self.items, self.group]).unsqueeze(2)

    def _pack(self, part: Tensor) -> Tensor:
        rows, columns = part.shape[:2]
        part = F.pad(part, (0, self.g * self.t - self.steps)).reshape(rows, columns, self.g, self.t)
        return part.permute(3, 1, 0, 2).contiguous().view(self.t, columns, self.m)

    def unpack(self, packed: Tensor, out: Tensor) -> None:
        """(t, d, m) into its place in (n, k*d, l)."""
        out[self.items, self.first : self.first + self.width] = self._unpack(packed)

    def unpack_shared(self, packed: Tensor, out: Tensor) -> None:
        """(t, s, 1, m) into its place in (n, k, s, l)."""
        out[self.items, self.group] = self._unpack(packed.squeeze(2))

    def _unpack(self, packed: Tensor) -> Tensor:
        t, columns, _ = packed.shape
        steps = packed.view(t, columns, -1, self.g).permute(2, 1, 3, 0)
        return steps.reshape(-1, columns, self.g * t)[..., : self.steps]


def _parts(u: Tensor, B: Tensor) -> Iterator[_Part]:
    n, channels, steps = u.shape
    k, s = B.shape[1:3]
    limit = _STATE_NUMBERS["cpu" if u.device.type == "cpu" else "other"]
    t = _chunk_length(steps, max(1, limit // (2 * s)))
    g = -(-steps // t)
    items = max(1, min(n, limit // (s * g)))
    for first in range(0, n, items):
        last = min(first + items, n)
        m = (last - first) * g
        at_once = max(1, min(channels // k, limit // (s * m)))
        for group in range(k):
            width = channels // k
            yield _Part(slice(first, last), group, group * width, width, steps, t, g, s, m, at_once)


def _chunk_length(steps: int, most_chunks: int) -> int:
    """Steps in one chunk: short sequences keep rows of several chunks, long ones no more chunks than allowed.

    One more than a power of two: the chunks of an image whose sides are powers of two then fill a state block, which
    holds one number less than a power of two, rather than little more than half of it.

    >>> [_chunk_length(steps, 1023) for steps in (5, 256, 4096, 65536)]
    [5, 17, 33, 65]
    """
    usual = 17 if steps <= 1024 else 33 if steps <= 4096 else 65
    return min(steps, max(usual, -(-steps // most_chunks)))


def _chain(decay: Tensor, end: Tensor, g: int, *, reverse: bool) -> Tensor:
    """Start state of every chunk from the total decays and end states of all, (s, d, m); overwrites both.

    Doubling: after the round with distance r, each end state accounts for the last 2r chunks.
    """
    start = torch.zeros_like(end)
    decay, end = decay.unflatten(-1, (-1, g)), end.unflatten(-1, (-1, g))  # (s, d, n, g)
    distance = 1
    while distance < g:
        early, late = slice(None, -distance), slice(distance, None)
        to, of = (early, late) if reverse else (late, early)
        end[..., to] += decay[..., to] * end[..., of]
        decay[..., to] *= decay[..., of].clone()
        distance *= 2
    if reverse:
        start.view_as(end)[..., :-1] = end[..., 1:]
    else:
        start.view_as(end)[..., 1:] = end[..., :-1]
    return start


def _backwards(*sequences: Any) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(reversed(tuple(sequence)) for sequence in sequences), strict=True)
