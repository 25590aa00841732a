"""Memory that one training step of a network takes, found without doing the arithmetic.

The step runs on tensors without values (torch's ``meta`` device): every operation computes shapes only, so that a
laptop can say what a step takes on a large GPU. Every storage is counted from the operation that makes it until its
last user lets go of it, as autograd does in earnest. What is counted is float32 weights, gradients, the two moments of
Adam, activations and the temporaries that Python sees; not the work space inside a kernel, and not the device's
context. :data:`RESERVE` leaves room for these.

Attention runs in its memory-saving form, as it does on GPUs.
"""

from __future__ import annotations

import functools
import tomllib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import ModelError
from ..losses import l1_ssim, set_cross_entropy
from .cloudmamba import CloudMamba, cloudmamba_loss
from .complexity import example_inputs, without_values

BLOCK = 512
"""Bytes that CUDA's allocator rounds a tensor up to."""

RESERVE = 2 * 2**30
"""Bytes of a device left for its context, work space inside kernels, and gaps between tensors."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one optimiser step.

    Attributes:
        parameters: weights and buffers.
        state: moments of the optimiser.
        peak: most bytes at any moment, everything together.
    """

    parameters: int
    state: int
    peak: int

    def fits(self, device: int) -> bool:
        """Whether the step fits on a device with so many bytes, with :data:`RESERVE` left free."""
        return self.peak + RESERVE <= device


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside the ``with`` block, and the most at any moment.

    Attributes:
        now: bytes alive.
        peak: most bytes alive.

    >>> with LiveBytes() as live:
    ...     x = torch.zeros(256)
    ...     del x
    ...     y = torch.zeros(128)
    >>> live.now, live.peak
    (512, 1024)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1  # libraries ask whether all values are finite
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return out

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        # The Python object of a storage lives as long as the storage itself.
        key = id(storage)
        if key in self._known:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _SavingAttention(TorchFunctionMode):
    """Attention without stored score maps; tensors without values would get the plain form otherwise."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and args[0].is_meta and kwargs.get("attn_mask") is None:
            kwargs.pop("attn_mask", None)
            kwargs.pop("enable_gqa", None)
            query, key, value = (each[None] if each.ndim == 3 else each for each in args[:3])
            dropout = kwargs.pop("dropout_p", 0.0)
            attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            out = attend(query, key, value, dropout, kwargs.pop("is_causal", False), **kwargs)[0]
            return out[0] if args[0].ndim == 3 else out
        return func(*args, **kwargs)


def step_memory(net: nn.Module, loss: Callable[[], Tensor], *, accumulate: bool = False) -> StepMemory:
    """Bytes of a step of Adam that is not the first one: its moments exist already.

    Args:
        net: a network in training mode; on the ``meta`` device there is no arithmetic.
        loss: computes the network's loss over a batch.
        accumulate: gradients of another part of the batch exist already.
    """
    with LiveBytes() as live, _SavingAttention():
        for value in (*net.parameters(), *net.buffers()):
            live.count(value)
        parameters = live.now
        learned = [p for p in net.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(learned, foreach=True)
        for p in learned:
            p.grad = torch.zeros_like(p)
        optimiser.step()
        optimiser.zero_grad()
        state = live.now - parameters
        for p in learned if accumulate else ():
            p.grad = torch.zeros_like(p)
        live.peak = live.now
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()
    return StepMemory(parameters, state, live.peak)


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step of a paper, and how to take it on a device of 24 GB.

    Attributes:
        name: unique, used on the command line.
        model, options: the network.
        side: rows and columns of a patch.
        paper_batch: patches in a step, all devices together.
        batch: patches at once on one device; gradients of ``paper_batch / batch`` such parts are accumulated.
        source: where the batch is from.
    """

    name: str
    model: str
    side: int
    paper_batch: int
    batch: int
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accumulate(self) -> int:
        """Parts whose gradients are added up for one step."""
        return self.paper_batch // self.batch

    def memory(self, batch: int | None = None) -> StepMemory:
        """Bytes of the step with ``batch`` patches at once; None for the default.

        Raises:
            MissingDependencyError: a library that the network needs is not installed.
        """
        batch = batch or self.batch
        net = without_values(self.model, self.options).train()
        inputs = example_inputs(net, batch, self.side, torch.device("meta"))
        return step_memory(net, lambda: training_loss(net, inputs), accumulate=batch < self.paper_batch)


@functools.cache
def training_steps() -> dict[str, TrainingStep]:
    """The optimiser steps of the papers by name.

    >>> step = training_steps()["cloudmamba"]
    >>> step.paper_batch == step.batch * step.accumulate
    True
    """
    text = resources.files(__package__).joinpath("steps.toml").read_text(encoding="utf-8")
    steps = [TrainingStep(**row) for row in tomllib.loads(text)["step"]]
    return {step.name: step for step in steps}


def chosen_steps(chosen: Sequence[str] = ()) -> list[TrainingStep]:
    """The training steps of these names, all of them where there are none.

    Raises:
        ModelError: there is no such step.
    """
    steps = training_steps()
    unknown = [name for name in chosen if name not in steps]
    if unknown:
        raise ModelError(
            f"There is no training step called '{unknown[0]}'.",
            expected=f"Training steps are {', '.join(steps)}.",
            remedy="Choose one of these.",
        )
    return [steps[name] for name in chosen or steps]


def training_loss(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """A loss of the kind that the network's paper trains with, on targets of the right shape.

    Mask2Former gets a cross-entropy: its matching of queries needs values.
    """
    image = inputs[0]
    outputs: dict[str, Tensor] = net.outputs(*inputs)  # type: ignore[operator]
    if isinstance(net, CloudMamba):
        return cloudmamba_loss(outputs, torch.zeros_like(image[:, 0], dtype=torch.long))
    if getattr(net, "task", "mask") == "removal":
        targets: dict[str, Tensor] = net.targets(image)  # type: ignore[operator]
        return torch.stack([l1_ssim(outputs[key], targets[key]) for key in targets]).sum()
    maps = [value for key, value in outputs.items() if key == "logits" or key.startswith("aux")]
    losses = [set_cross_entropy(each, torch.ones_like(each, dtype=torch.bool)) for each in maps]
    return torch.stack([*losses, *(value for key, value in outputs.items() if key == "recovery_loss")]).sum()
