"""Optimisers and learning rates. A rate is a function of the step, except on a plateau, whose state is saved."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .config import OptimiserPart, SchedulePart
from .muon import Muon
from .tasks import is_better


def freeze(net: nn.Module, patterns: Iterable[str]) -> int:
    """Exclude parameters from training by patterns of their names, ``decoder.*``; returns how many numbers they hold.

    Raises:
        InputError: a pattern fits no parameter, or nothing is left to train.
    """
    for pattern in patterns:
        fitting = [parameter for name, parameter in net.named_parameters() if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise _unknown(pattern, net)
        for parameter in fitting:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise InputError(
            "Every parameter of the network is frozen.",
            expected="Something is left to train.",
            remedy="Remove patterns from model.freeze.",
        )
    return sum(parameter.numel() for parameter in net.parameters() if not parameter.requires_grad)


def make_optimiser(net: nn.Module, part: OptimiserPart) -> torch.optim.Optimizer:
    """The optimiser of a run, its parameters in groups of one rate and decay each.

    Raises:
        InputError: a group's pattern fits no parameter.
    """
    excluded: set[str] = net.no_weight_decay() if hasattr(net, "no_weight_decay") else set()  # type: ignore[operator]
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    for group in part.groups:
        if not any(fnmatch.fnmatchcase(name, group.match) for name in trained):
            raise _unknown(group.match, net)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        factor, decay = 1.0, part.weight_decay
        fitting = next((group for group in part.groups if fnmatch.fnmatchcase(name, group.match)), None)
        if fitting is not None:
            factor = fitting.rate_factor
            decay = decay if fitting.weight_decay is None else fitting.weight_decay
        if name in excluded or (parameter.ndim < 2 and not part.decay_vectors):
            decay = 0.0
        groups.setdefault((part.rate * factor, decay), []).append(parameter)
    given: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    if part.kind == "sgd":
        return torch.optim.SGD(given, lr=part.rate, momentum=part.momentum, nesterov=part.nesterov)
    if part.kind == "muon":
        return Muon(given, lr=part.rate, momentum=part.momentum, betas=part.betas, eps=part.eps)
    kind = torch.optim.Adam if part.kind == "adam" else torch.optim.AdamW
    return kind(given, lr=part.rate, betas=part.betas, eps=part.eps)


@dataclass
class Schedule:
    """The learning rate of a run as a share of its peak, and how many batches make one step.

    Args:
        part: what the configuration says.
        peak: the peak rate, for phases, which name rates.
        accumulate: batches to a step, outside phases.
    """

    part: SchedulePart
    peak: float
    accumulate: int = 1

    def __post_init__(self) -> None:
        self.plateau: dict[str, Any] = {"best": None, "bad": 0, "share": 1.0}

    def share(self, step: int, total: int, epoch: int) -> float:
        """Share of the peak rate.

        Args:
            step: optimiser steps so far.
            total: steps of the whole run.
            epoch: passes so far.

        >>> Schedule(SchedulePart(kind="cosine", warm_up=2), 1e-3).share(2, 10, 0)
        1.0
        """
        part = self.part
        if step < part.warm_up:
            return part.warm_up_from + (1.0 - part.warm_up_from) * (step + 1) / part.warm_up
        done = min((step - part.warm_up) / max(total - part.warm_up, 1), 1.0)
        if part.kind == "cosine":
            return part.floor + (1.0 - part.floor) * 0.5 * (1.0 + math.cos(math.pi * done))
        if part.kind == "poly":
            return max(part.floor, (1.0 - done) ** part.power)
        if part.kind == "step":
            return part.factor ** (epoch // part.every)
        if part.kind == "phases":
            return [phase.rate for phase in part.phases if phase.epoch <= epoch][-1] / self.peak
        if part.kind == "plateau":
            return float(self.plateau["share"])
        return 1.0

    def batches(self, epoch: int) -> int:
        """Batches to one step in this epoch."""
        if self.part.kind == "phases":
            return [phase.accumulate for phase in self.part.phases if phase.epoch <= epoch][-1]
        return self.accumulate

    def judged(self, name: str, score: float) -> None:
        """Lower the rate of ``plateau`` when the score has not improved for longer than its patience."""
        if self.part.kind != "plateau":
            return
        state = self.plateau
        if is_better(name, score, state["best"]):
            state.update(best=score, bad=0)
            return
        state["bad"] += 1
        if state["bad"] > self.part.patience:
            state.update(bad=0, share=max(self.part.floor, state["share"] * self.part.factor))


def _unknown(pattern: str, net: nn.Module) -> InputError:
    heads = sorted({name.split(".")[0] for name, _ in net.named_parameters()})
    return InputError(
        f"No parameter of the network fits the pattern '{pattern}'.",
        expected=f"Names begin with {', '.join(heads)}.",
        remedy="Correct the pattern, e.g. encoder.*",
    )
