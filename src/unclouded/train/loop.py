"""The training loop: one, visible from top to bottom, for every network and every source of batches. Exact to resume.

Nothing random is carried from step to step: a batch depends on seed, epoch and place, dropout on seed and step. So a
checkpoint needs weights, their average, the optimiser, the position and the scores so far, and a run that was killed at
any moment ends bit for bit as if it had not been, on the same machine with the same threads and number of processes.

Devices, precision and several processes are Lightning Fabric's part. The second half of this file is the run of the
default model, which has batches, a loss and scores of its own.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import models
from ..data.sample import Sample
from ..errors import InputError, MissingDependencyError, ModelError, UncloudedError
from ..losses import coarsen, group_cross_entropy, member_cross_entropy, set_cross_entropy
from ..nn.timm_guard import import_torchvision
from . import checkpoint
from .batches import Batch, Crops
from .config import OptimiserPart, SchedulePart
from .job import Job, Outcome, Position, restore, state_of, weights_of
from .journal import Journal
from .lessons import Lessons
from .optim import Schedule, make_optimiser
from .scores import predict_sample, summary
from .tasks import is_better

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("unclouded")

GROUPS = ((0, 1, 2), (3, 4))
"""Classes that the coarse question does not tell apart: land, water and snow; thin and thick cloud."""

METHODS = ("outputs", "loss")
"""What a network is called by in training, beside its forward."""

COARSE = (*GROUPS, (5,))
"""Clear, cloud and shadow, which the teacher tells apart."""


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


# --- The default model -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Everything that decides the outcome of a run of the default model."""

    architecture: str = "slots-unet"
    options: tuple[tuple[str, Any], ...] = ()
    steps: int = 16000
    batch: int = 8
    side: int = 128
    optimiser: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 6e-3
    warm_up: int = 400
    weight_decay: float = 0.01
    shadow_weight: float = 2.0
    fine_weight: float = 0.2
    recovery_weight: float = 0.1
    average: float = 0.999
    seed: int = 1
    precision: str = "bf16"
    check_every: int = 1000


def total_loss(outputs: dict[str, Tensor], batch: Batch, settings: Settings) -> Tensor:
    """The coarse question (clear, cloud, shadow) at full weight, the fine classes at a fifth, recovery at a tenth.

    Where the teacher has spoken, the coarse question is how far the network is from its probabilities, and labels
    only decide between the members of a group; elsewhere both are asked of the labels.
    """
    possible, taught = batch.sets, batch.taught
    logits = outputs["logits"].float()
    known = taught.sum(dim=1) > 0
    wrong = group_cross_entropy(logits, taught, COARSE)
    labelled = set_cross_entropy(logits, coarsen(possible, GROUPS, logits.shape[1]), reduction="none")
    weight = 1.0 + (settings.shadow_weight - 1.0) * taught[:, 2]
    judged = known | possible.any(dim=1)
    loss = (weight * torch.where(known, wrong, labelled)).sum() / (weight * judged).sum().clamp(min=1.0)
    fine = member_cross_entropy(logits, possible, torch.where(known[:, None], taught, torch.ones_like(taught)), COARSE)
    loss = loss + settings.fine_weight * fine.sum() / possible.any(dim=1).sum().clamp(min=1)
    if "recovery_loss" in outputs:
        loss = loss + settings.recovery_weight * outputs["recovery_loss"].float()
    return loss


@dataclass
class _Crop:
    """A batch of the default model that the loop can move."""

    batch: Batch

    def to(self, device: torch.device) -> _Crop:
        return _Crop(Batch(**{one.name: getattr(self.batch, one.name).to(device) for one in fields(self.batch)}))


def train(
    samples: Sequence[Sample],
    lessons: Lessons,
    folder: Path,
    settings: Settings,
    until: int | None = None,
    workers: int = 0,
) -> nn.Module:
    """Train the default model, or go on with what ``folder`` holds.

    Args:
        samples: all samples; pictures among the ``train`` ones are learned from, the others are scored on the way.
        lessons: what is learned from beside pictures.
        folder: checkpoints, log and settings of this run.
        settings: must equal those that a resumed folder was started with.
        until: stop after so many steps, whole epochs of ``settings.check_every``; a later call may go on.
        workers: processes that draw batches; 0 draws in a thread. The result does not depend on it.

    Returns:
        The averaged network in eval mode.

    Raises:
        InputError: ``until`` is not the end of an epoch.
    """
    if until is not None and until % settings.check_every:
        raise InputError(
            f"The run is to stop after {until} steps.",
            expected=f"It can stop at the end of an epoch of {settings.check_every} steps.",
            remedy=f"Stop after {until - until % settings.check_every or settings.check_every} steps.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(precision={"bf16": "bf16", "fp32": "32"}[settings.precision])
    fabric.launch()
    torch.manual_seed(settings.seed)
    net = models.create(settings.architecture, **dict(settings.options))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learned = [sample for sample in samples if sample.split == "train"]
    crops = Crops(lessons, learned, settings.side, settings.seed)
    judged = [sample for sample in samples if sample.split != "train"]

    def draw(epoch: int, place: int) -> _Crop:
        return _Crop(crops.batch(epoch * settings.check_every + place, settings.batch))

    def loss(wrapped: nn.Module, crop: _Crop, step: int) -> Tensor:
        descriptors = crop.batch.slots if net.front_end == "slots" else crop.batch.descriptors
        return total_loss(wrapped.outputs(crop.batch.image, descriptors), crop.batch, settings)  # type: ignore[operator]

    def judge(mean: nn.Module) -> dict[str, float]:
        return summary(judged, [predict_sample(mean, sample) for sample in judged])

    peak = settings.learning_rate
    part = OptimiserPart(kind=settings.optimiser, rate=peak, weight_decay=settings.weight_decay, momentum=0.95)
    job = Job(
        net=net,
        optimiser=make_optimiser(net, part),
        schedule=Schedule(SchedulePart(kind="cosine", warm_up=settings.warm_up, floor=0.01), peak),
        draw=draw,
        loss=loss,
        weight=lambda crop: 1.0,
        judge=judge,
        epochs=-(-settings.steps // settings.check_every),
        images=settings.check_every * settings.batch,
        batch=settings.batch,
        steps=settings.steps,
        until=until,
        workers=workers,
        identity=json.dumps(asdict(settings), sort_keys=True),
        seed=settings.seed,
        clip=1.0,
        average=settings.average,
        select="mean cloud IoU",
    )
    return run(job, folder, fabric).net
