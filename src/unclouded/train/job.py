"""A training run as the loop sees it: what to do, where it stands, and how both are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import checkpoint
from .journal import Journal
from .optim import Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass
class Job:
    """What the loop needs to know of a run.

    Attributes:
        net: the network.
        optimiser: over its parameters, with ``initial_lr`` in every group.
        schedule: of the learning rate.
        draw: (epoch, place) to a batch on the CPU; places are counted over all processes.
        loss: (network, batch, step) to a scalar.
        weight: how much a batch counts among those of one step.
        judge: network to scores, after every epoch; it runs in every process and returns the same in all.
        epochs: number of epochs.
        images: patches of an epoch.
        batch: patches of one batch.
        steps: end of the run in optimiser steps, or None.
        until: stop here, at the end of an epoch, however long the run is; a later call may go on. None for no stop.
        identity: everything that a resumed run has to agree on.
        seed: of dropout.
        clip: largest norm of the gradient, or None.
        average: share that the running average of the weights keeps, or None.
        select: score that decides which weights are best.
        patience, least: early stopping, see the configuration; None for none.
        workers: processes that draw batches; 0 draws the next one in a thread.
        checkpoint_minutes: between checkpoints within an epoch.
        picture: draws pictures with the network after an epoch, in the first process.
    """

    net: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    draw: Callable[[int, int], Any]
    loss: Callable[[nn.Module, Any, int], Tensor]
    weight: Callable[[Any], float]
    judge: Callable[[nn.Module], dict[str, float]]
    epochs: int
    images: int
    batch: int
    steps: int | None = None
    until: int | None = None
    identity: str = ""
    seed: int = 0
    clip: float | None = None
    average: float | None = None
    select: str = "loss"
    patience: int | None = None
    least: float = 0.0
    workers: int = 0
    checkpoint_minutes: float = 10.0
    picture: Callable[[nn.Module, Journal, int], None] | None = None

    def steps_in(self, epoch: int, world: int) -> int:
        """Optimiser steps of an epoch: whole ones, at least one."""
        return max(1, self.images // (self.batch * self.schedule.batches(epoch) * world))

    def total(self, world: int) -> int:
        """Optimiser steps of the whole run."""
        return self.steps or sum(self.steps_in(epoch, world) for epoch in range(self.epochs))


@dataclass
class Position:
    """Where a run is, and what it remembers besides weights; plain values only.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done.
        inside: steps done within the current epoch.
        loss: sum of the losses of this epoch.
        seconds: spent in this epoch.
        best: best score so far, and where.
        bad: epochs since then.
        done: the run has come to its end.
    """

    step: int = 0
    epoch: int = 0
    inside: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    bad: int = 0
    done: bool = False


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        net: the network, averaged where the run averages, in eval mode on the CPU.
        position: where it ended.
        scores: of the last epoch; empty if the run had ended before.
    """

    net: nn.Module
    position: Position
    scores: dict[str, float] = field(default_factory=dict)


def state_of(
    job: Job, fabric: Fabric, net: nn.Module, mean: nn.Module | None, at: Position
) -> dict[str, Any]:
    """Everything that a run needs to go on."""
    return {
        "identity": job.identity,
        "step": at.step,
        "position": asdict(at),
        "net": net.state_dict(),
        "mean": None if mean is None else mean.state_dict(),
        "optimiser": job.optimiser.state_dict(),
        "plateau": job.schedule.plateau,
        "precision": fabric.strategy.precision.state_dict(),
    }


def weights_of(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint of the best weights holds."""
    return {key: state[key] for key in ("identity", "step", "position", "net", "mean")}


def restore(
    job: Job, folder: Path, net: nn.Module, mean: nn.Module | None, at: Position
) -> dict[str, Any] | None:
    """Bring a run to where its last checkpoint left it, all but the optimiser, which has to be on its device first.

    Returns:
        The checkpoint, or None for a fresh run.

    Raises:
        InputError: the checkpoint is of another run, or cannot be read.
    """
    state = checkpoint.load(folder)
    if state is None:
        return None
    if state.get("identity") != job.identity:
        raise InputError(
            f"The run in {folder} was started otherwise: {_differences(state.get('identity', '{}'), job.identity)}.",
            expected="A run goes on with the configuration, data and number of processes that it was started with.",
            remedy="Choose another output folder, or undo the change.",
        )
    net.load_state_dict(state["net"])
    if mean is not None:
        mean.load_state_dict(state["mean"])
    job.schedule.plateau = state["plateau"]
    for key, value in state["position"].items():
        setattr(at, key, value)
    return state


def _differences(old: str, new: str) -> str:
    """Keys whose values differ between two JSON objects."""
    before, after = json.loads(old), json.loads(new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return "; ".join(f"{key} was {before.get(key)}, is {after.get(key)}" for key in keys[:3]) or "in its format"
