"""The run of the default model: a student of lessons, with batches, a loss and scores of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import models
from ..data.sample import Sample
from ..errors import InputError
from ..losses import coarsen, group_cross_entropy, member_cross_entropy, set_cross_entropy
from .batches import Batch, Crops
from .config import OptimiserPart, SchedulePart
from .job import Job
from .lessons import Lessons
from .loop import make_fabric, run
from .optim import Schedule, make_optimiser
from .scores import predict_sample, summary

GROUPS = ((0, 1, 2), (3, 4))
"""Classes that the coarse question does not tell apart: land, water and snow; thin and thick cloud."""

COARSE = (*GROUPS, (5,))
"""Clear, cloud and shadow, which the teacher tells apart."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the outcome of a run of the default model.

    From the share ``large_from`` of the steps on, batches are of whole lessons. In small crops most pixels are near a
    border, where convolutions see zeros: a network that knew nothing else would agree less with its teacher the more
    it is shown around a pixel.
    """

    architecture: str = "slots-unet"
    options: tuple[tuple[str, Any], ...] = ()
    steps: int = 16000
    batch: int = 8
    side: int = 128
    large_from: float = 0.6
    large_batch: int = 4
    large_side: int = 256
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
    crops = Crops(lessons, learned, settings.seed)
    judged = [sample for sample in samples if sample.split != "train"]

    def draw(epoch: int, place: int) -> _Crop:
        step = epoch * settings.check_every + place
        if step < settings.large_from * settings.steps:
            return _Crop(crops.batch(step, settings.batch, settings.side))
        return _Crop(crops.batch(step, settings.large_batch, settings.large_side))

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
