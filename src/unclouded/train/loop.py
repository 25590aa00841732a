"""The training loop of the default model: visible from top to bottom, exact to resume.

A checkpoint holds weights, their running average, optimiser and step. Batches depend on (seed, step) alone, and the
learning rate on the step, so that a resumed run continues bit for bit on the same machine and thread count.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..classes import SEVEN
from ..data.sample import Sample
from ..losses import coarse_set_cross_entropy, set_cross_entropy
from .batches import Batch, Crops
from .scores import predict_sample, summary

log = logging.getLogger("unclouded")

GROUPS = ((0, 1, 2), (3, 4))
"""Classes that the coarse question does not tell apart: land, water and snow; thin and thick cloud."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the outcome of a run.

    ``start`` names a checkpoint whose averaged weights the run starts from.
    """

    architecture: str = "slots-unet"
    options: tuple[tuple[str, Any], ...] = ()
    steps: int = 16000
    batch: int = 8
    side: int = 128
    learning_rate: float = 2e-3
    warm_up: int = 400
    weight_decay: float = 0.01
    shadow_weight: float = 4.0
    fine_weight: float = 0.2
    recovery_weight: float = 0.1
    average: float = 0.999
    seed: int = 1
    precision: str = "bf16"
    check_every: int = 1000
    start: str = ""


def total_loss(outputs: dict[str, Tensor], batch: Batch, settings: Settings) -> Tensor:
    """The coarse question (clear, cloud, shadow) at full weight, the fine classes at a fifth, recovery at a tenth."""
    possible = batch.sets
    shadow = SEVEN.index("shadow")
    only_shadow = possible[:, shadow] & (possible.sum(dim=1) == 1)
    weight = 1.0 + (settings.shadow_weight - 1.0) * only_shadow
    logits = outputs["logits"].float()
    loss = coarse_set_cross_entropy(logits, possible, GROUPS, weight=weight)
    loss = loss + settings.fine_weight * set_cross_entropy(logits, possible)
    if "recovery_loss" in outputs:
        loss = loss + settings.recovery_weight * outputs["recovery_loss"].float()
    return loss


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(settings.steps - settings.warm_up, 1)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))


def train(samples: Sequence[Sample], folder: Path, settings: Settings) -> nn.Module:
    """Train, or go on with what ``folder`` holds.

    Args:
        samples: all samples; ``train`` ones are learned from, the others are scored on the way.
        folder: checkpoints, log and settings of this run.
        settings: must equal those that a resumed folder was started with.

    Returns:
        The averaged network in eval mode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    net = models.create(settings.architecture, **dict(settings.options))
    if settings.start:
        net.load_state_dict(torch.load(settings.start, weights_only=True)["mean"])
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = models.create(settings.architecture, **dict(settings.options)).eval()
    mean.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    first = _resume(folder, settings, net, mean, optimiser)
    crops = Crops([sample for sample in samples if sample.split == "train"], settings.side, settings.seed)
    judged = [sample for sample in samples if sample.split != "train"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    mean.to(device)
    total, begun = 0.0, time.monotonic()
    ahead = ThreadPoolExecutor(1)  # draws the next batch while the network learns from this one
    coming = ahead.submit(crops.batch, first, settings.batch)
    for step in range(first, settings.steps):
        batch = coming.result()
        if step + 1 < settings.steps:
            coming = ahead.submit(crops.batch, step + 1, settings.batch)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        net.train()
        descriptors = batch.slots if net.front_end == "slots" else batch.descriptors
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout, the same after a resume
        with torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bf16"):
            outputs = net.outputs(batch.image.to(device), descriptors.to(device))  # type: ignore[operator]
        batch.sets = batch.sets.to(device)
        loss = total_loss(outputs, batch, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        _average(mean, net, min(settings.average, (step + 1) / (step + 10)))
        total += float(loss.detach())
        done = step + 1
        if done % settings.check_every == 0 or done == settings.steps:
            seconds = time.monotonic() - begun
            row = {"step": done, "loss": total / (done - first), "seconds": round(seconds, 1)}
            first, total, begun = done, 0.0, time.monotonic()
            row |= summary(judged, [predict_sample(mean, sample) for sample in judged])
            _log(folder / "log.csv", row)
            log.info("%s", {key: round(value, 4) for key, value in row.items()})
            _save(folder, settings, net, mean, optimiser, done)
    ahead.shutdown()
    return mean.eval()


def _average(mean: nn.Module, net: nn.Module, keep: float) -> None:
    with torch.no_grad():
        for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
            if old.dtype.is_floating_point:
                old.lerp_(new.to(old.dtype), 1.0 - keep)
            else:
                old.copy_(new)


def _save(
    folder: Path, settings: Settings, net: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer, step: int
) -> None:
    state = {
        "step": step,
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "net": net.state_dict(),
        "mean": mean.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    temporary = folder / "last.pt.partial"
    torch.save(state, temporary)
    os.replace(temporary, folder / "last.pt")


def _resume(
    folder: Path, settings: Settings, net: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    path = folder / "last.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != json.dumps(asdict(settings), sort_keys=True):
        raise models.ModelError(
            f"The run in {folder} was started with other settings.",
            expected="A run goes on with the settings that it was started with.",
            remedy="Choose another folder, or the same settings.",
        )
    net.load_state_dict(state["net"])
    mean.load_state_dict(state["mean"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(
            {key: f"{value:.5g}" if isinstance(value, float | np.floating) else value for key, value in row.items()}
        )
