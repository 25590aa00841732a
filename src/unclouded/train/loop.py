"""The training loop: one, visible from top to bottom, for every network and every source of batches. Exact to resume.

Nothing random is carried from step to step: a batch depends on seed, epoch and place, dropout on seed and step. So a
checkpoint needs weights, their average, the optimiser, the position and the scores so far, and a run that was killed at
any moment ends bit for bit as if it had not been, on the same machine with the same threads and number of processes.

Devices, precision and several processes are Lightning Fabric's part.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError, MissingDependencyError, ModelError, UncloudedError
from ..nn.timm_guard import import_torchvision
from . import checkpoint
from .job import Job, Outcome, Position, restore, state_of, weights_of
from .journal import Journal
from .tasks import is_better

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("unclouded")

METHODS = ("outputs", "loss")
"""What a network is called by in training, beside its forward."""


def make_fabric(accelerator: str = "auto", devices: int = 1, nodes: int = 1, precision: str = "32") -> Fabric:
    """Lightning Fabric for the devices of a run; under torchrun their number follows from it.

    Raises:
        MissingDependencyError: Lightning Fabric is not installed.
    """
    try:
        import_torchvision()  # Fabric imports it where it is installed, whether it works or not
    except MissingDependencyError:
        log.debug("torchvision is not installed, and not needed")
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as err:
        raise MissingDependencyError.for_extra("lightning_fabric", "train") from err
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("WORLD_SIZE", devices * nodes)) // devices
    mixed = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[precision]
    # Losses leave some outputs out, such as the fused map of CloudMamba: their parameters have no gradient.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if devices * nodes > 1 else "auto"
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=mixed, strategy=strategy)  # type: ignore[arg-type]


def run(job: Job, folder: Path, fabric: Fabric, progress: Callable[[float], None] | None = None) -> Outcome:
    """Train, or go on with what ``folder`` holds.

    Args:
        job: the run.
        folder: of its checkpoints and log.
        fabric: launched.
        progress: called with the share done, in the first process.

    Raises:
        InputError: the folder holds a run of another configuration, or no checkpoint that can be read.
        ModelError: the loss is no longer a number.
    """
    world, rank = fabric.world_size, fabric.global_rank
    first = rank == 0
    at, plain = Position(), job.net
    mean = copy.deepcopy(plain).eval().requires_grad_(False) if job.average is not None else None
    state = restore(job, folder, plain, mean, at)
    if mean is not None:
        mean.to(fabric.device)
    net, optimiser = fabric.setup(plain, job.optimiser)
    for name in METHODS:
        if hasattr(plain, name):
            net.mark_forward_method(name)
    if state is not None:
        job.optimiser.load_state_dict(state["optimiser"])
        fabric.strategy.precision.load_state_dict(state["precision"])
    journal = Journal(folder, at.step) if first else None
    total, scores = job.total(world), dict[str, float]()
    end = total if job.until is None else min(job.until, total)
    saved = time.monotonic()
    while not at.done and at.step < end:
        parts, steps = job.schedule.batches(at.epoch), job.steps_in(at.epoch, world)
        steps = min(steps, at.inside + end - at.step)
        places = [
            (step * parts + part) * world + rank for step in range(at.inside, steps) for part in range(parts)
        ]
        with closing(drawn(functools.partial(job.draw, at.epoch), places, job.workers)) as batches:
            for _ in range(at.inside, steps):
                begun = time.monotonic()
                share = job.schedule.share(at.step, total, at.epoch)
                for group in job.optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * share
                given = [next(batches) for _ in range(parts)]
                at.loss += _step(job, fabric, net, optimiser, given, at.step)
                at.step, at.inside = at.step + 1, at.inside + 1
                at.seconds += time.monotonic() - begun
                if mean is not None and job.average is not None:
                    _average(mean, plain, min(job.average, at.step / (at.step + 9)))
                if journal is not None:
                    journal.step(at.step, at.loss / at.inside, job.optimiser.param_groups[0]["lr"])
                    if progress is not None:
                        progress(at.step / total)
                    if at.inside < steps and time.monotonic() - saved > 60.0 * job.checkpoint_minutes:
                        checkpoint.save(folder, checkpoint.LAST, state_of(job, fabric, plain, mean, at))
                        saved = time.monotonic()
        scores = _judged(job, fabric, plain if mean is None else mean)
        row: dict[str, float] = {"epoch": at.epoch + 1, "step": at.step, "train loss": at.loss / at.inside}
        row |= {"rate": job.optimiser.param_groups[0]["lr"], "seconds": round(at.seconds, 2)} | scores
        improved = _advance(job, at, scores, total)
        if journal is not None:
            journal.epoch(row)
            if job.picture is not None:
                job.picture(mean or plain, journal, at.epoch)
            state = state_of(job, fabric, plain, mean, at)
            if improved:
                checkpoint.save(folder, checkpoint.BEST, weights_of(state))
            checkpoint.save(folder, checkpoint.LAST, state)
            saved = time.monotonic()
        fabric.barrier()
    if journal is not None:
        journal.close()
    return Outcome((mean or plain).cpu().eval(), at, scores)


class Mixed:
    """The wrapped network, whose ``outputs`` and ``loss`` run in the precision of the run as its forward does.

    Fabric takes care of such methods only where its strategy wraps the network, so not on a single device.
    """

    def __init__(self, net: Any, fabric: Fabric) -> None:
        self._net, self._fabric = net, fabric

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._net(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._net, name)
        if name not in METHODS:
            return found

        @functools.wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._fabric.autocast():
                return found(*args, **kwargs)

        return call


def _step(
    job: Job, fabric: Fabric, net: Any, optimiser: Any, given: Sequence[Any], step: int
) -> float:
    """One step of the optimiser over several batches and processes, as over one batch of all their pixels."""
    net.train()
    weights = torch.tensor([job.weight(batch) for batch in given], dtype=torch.float64)
    whole = _summed(fabric, weights.sum())
    loss = torch.zeros((), dtype=torch.float64)
    for number, batch in enumerate(given):
        torch.manual_seed(_mix(job.seed, step, number * fabric.world_size + fabric.global_rank))
        # Fabric averages gradients over processes; the share makes a sum over judged pixels of it again.
        share = float(weights[number] * fabric.world_size / whole) if whole else 0.0
        with fabric.no_backward_sync(net, enabled=number + 1 < len(given)):
            one = job.loss(Mixed(net, fabric), batch.to(fabric.device), step)  # type: ignore[arg-type]
            fabric.backward(one * share)
        loss += one.detach().double().cpu() * share / fabric.world_size
    loss = _summed(fabric, loss)
    if not torch.isfinite(loss):
        raise ModelError(
            f"The loss is {float(loss)} at step {step + 1}.",
            expected="It stays a finite number.",
            remedy="Lower optimiser.rate, set 'clip: 1.0', or train with precision 32.",
        )
    if job.clip is not None:
        fabric.clip_gradients(net, optimiser, max_norm=job.clip, error_if_nonfinite=False)
    optimiser.step()
    job.optimiser.zero_grad(set_to_none=True)
    return float(loss)


def _judged(job: Job, fabric: Fabric, net: nn.Module) -> dict[str, float]:
    """Scores of the network itself, not as it is wrapped: processes judge different numbers of batches."""
    if fabric.world_size > 1:
        for buffer in net.buffers():  # normalisation counted in every process what it alone has seen
            torch.distributed.broadcast(buffer, 0)
    net.eval()
    with torch.no_grad():  # in full precision, as it will be used
        return job.judge(net)


def _advance(job: Job, at: Position, scores: dict[str, float], total: int) -> bool:
    """Close an epoch: best score, patience, learning rate, end; True where the weights are the best so far."""
    if job.select not in scores:
        raise InputError(
            f"There is no score '{job.select}'.",
            expected=f"Scores of this run are {', '.join(scores)}.",
            remedy="Correct 'select'.",
        )
    score = scores[job.select]
    improved = is_better(job.select, score, at.best, job.least)
    at.epoch, at.inside, at.loss, at.seconds = at.epoch + 1, 0, 0.0, 0.0
    if improved:
        at.best, at.best_epoch, at.bad = score, at.epoch, 0
    else:
        at.bad += 1
    job.schedule.judged(job.select, score)
    stopped = job.patience is not None and at.bad >= job.patience
    at.done = stopped or at.step >= total
    return improved


class _Places(Dataset[Any]):
    """Batches by place, for worker processes."""

    def __init__(self, draw: Callable[[int], Any]) -> None:
        self.draw = draw

    def __getitem__(self, place: int) -> Any:
        try:
            return self.draw(place)
        except UncloudedError as err:  # torch would hand over its text alone
            return err


def drawn(draw: Callable[[int], Any], places: Sequence[int], workers: int) -> Generator[Any, None, None]:
    """What ``draw`` makes of every place, in their order, by as many processes, or one ahead by a thread for 0.

    >>> list(drawn(lambda place: place * place, [3, 1, 2], 0))
    [9, 1, 4]
    """
    if workers:
        for found in DataLoader(
            _Places(draw), batch_size=None, sampler=list(places), num_workers=workers, collate_fn=_as_it_is
        ):
            if isinstance(found, UncloudedError):
                raise found
            yield found
        return
    with ThreadPoolExecutor(1) as ahead:
        coming = [ahead.submit(draw, place) for place in places[:1]]
        for place in places[1:]:
            batch = coming.pop().result()
            coming.append(ahead.submit(draw, place))
            yield batch
        for last in coming:
            yield last.result()


def _as_it_is(batch: Any) -> Any:
    return batch


def _summed(fabric: Fabric, value: Tensor) -> Tensor:
    """Sum over processes, float64 on the CPU."""
    if fabric.world_size == 1:
        return value
    kind = torch.float32 if fabric.device.type == "mps" else torch.float64
    out: Tensor = fabric.all_reduce(value.to(fabric.device, kind), reduce_op="sum")  # type: ignore[assignment]
    return out.double().cpu()


def _mix(seed: int, step: int, place: int) -> int:
    return (seed * 1_000_003 + step) * 65_537 + place


def _average(mean: nn.Module, net: nn.Module, keep: float) -> None:
    with torch.no_grad():
        for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
            if old.dtype.is_floating_point:
                old.lerp_(new.to(old.dtype), 1.0 - keep)
            else:
                old.copy_(new)
