"""What is minimised and what is judged, task by task: one small function for each.

A loss takes the outputs of a network, the batch and the number of the step. Networks say themselves what they return
for training (``outputs``) and, for removal, what it is compared with (``targets``).

Shapes
    n  patches    k  groups of classes    h, w  rows, columns
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import losses
from ..errors import InputError, ModelError
from ..image_metrics import PSNR_CAP, mae, psnr, spectral_angle, ssim
from ..models.cloudmamba import cloudmamba_loss
from .config import LossPart, RunConfig
from .patches import Batch
from .targets import IGNORED, SCHEMES, class_number, judged_as

Outputs = Mapping[str, Tensor]


def forward(net: nn.Module, batch: Batch) -> Outputs:
    """What a network returns for training."""
    given = (batch.image,) if batch.beside is None else (batch.image, batch.beside)
    found: Outputs = net.outputs(*given)  # type: ignore[operator]
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


class Loss:
    """The loss of a run.

    Args:
        config: of the run.
        net: the network itself, for its targets and penalties.

    Raises:
        InputError: a weight names a class that the run does not have.
        ModelError: the network lacks what the loss needs.
    """

    def __init__(self, config: RunConfig, net: nn.Module) -> None:
        self.part, self.net, self.task = config.loss, net, config.task
        scheme = SCHEMES[config.classes]
        self.weights = torch.ones(256)
        for name, weight in config.loss.class_weights.items():
            self.weights[class_number(scheme, name)] = weight
        self.weighted = bool(config.loss.class_weights)
        self.map_loss = _map_loss(config.loss) if config.task == "mask" else None
        if config.loss.kind == "own" and not hasattr(net, "loss"):
            raise ModelError(
                f"The network '{config.model.name}' has no loss of its own.",
                expected="The loss 'own' is for networks that have one, such as mask2former-swin-t.",
                remedy="Choose another loss.kind.",
            )

    def __call__(self, net: nn.Module, batch: Batch, step: int) -> Tensor:
        """The loss of one batch, a scalar.

        Args:
            net: the network to run, as the loop has wrapped it.
            batch: what it is given.
            step: optimiser steps so far, for the warm-up.
        """
        if self.part.kind == "own":
            return own_loss(net, batch)
        return self.of(forward(net, batch), batch, step)

    def judged(self, net: nn.Module, batch: Batch) -> tuple[Outputs, float]:
        """Outputs and loss for model choice, where no warm-up counts."""
        outputs = forward(net, batch)
        loss = own_loss(net, batch) if self.part.kind == "own" else self.of(outputs, batch, self.part.recovery_warm_up)
        return outputs, float(loss)

    def of(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        """The loss that follows from outputs, a scalar."""
        part = self.part
        if self.task == "removal":
            return removal_loss(outputs, self.net.targets(batch.target), part.ssim)  # type: ignore[operator]
        loss = self._mask(outputs, batch)
        if part.recovery_warm_up:  # SEnSeI-v2: the rest rises while recovery is learned at full weight
            loss = loss * min(1.0, step / part.recovery_warm_up) ** 2
        if part.recovery and "recovery_loss" in outputs:
            loss = loss + part.recovery * outputs["recovery_loss"]
        if part.penalty:
            loss = loss + part.penalty * self.net.front.penalty()  # type: ignore[operator, union-attr]
        return loss

    def _mask(self, outputs: Outputs, batch: Batch) -> Tensor:
        assert batch.index is not None
        if self.part.kind == "cloudmamba":
            return cloudmamba_loss(outputs, _class_of(batch), batch.index != IGNORED)
        assert self.map_loss is not None
        weight = self.weights.to(batch.index.device)[batch.index.long()] if self.weighted else None
        map_loss, index = self.map_loss, batch.index

        def one(logits: Tensor, sets: Tensor) -> Tensor:
            return map_loss(logits, sets, index, weight)

        return losses.deep_supervision(one, outputs, batch.target, self.part.outputs)


MapLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From logits (n, k, h, w), sets as bits, certain groups, and weights, each (n, h, w), to a scalar."""


def _map_loss(part: LossPart) -> MapLoss:
    def set_cross_entropy(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        return losses.set_cross_entropy(logits, sets, weight=weight, base=part.base)

    def set_mse(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        return losses.set_mse(logits, sets, weight=weight)

    def cross_entropy(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        known = index != IGNORED
        each = F.cross_entropy(logits, torch.where(known, index, 0).long(), reduction="none")
        share = known.float() if weight is None else known * weight
        return (each * share).sum() / share.sum().clamp(min=1e-9)

    def dice(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        return losses.dice(logits, torch.where(index == IGNORED, -1, index.long()))

    def both(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        return cross_entropy(logits, sets, index, weight) + dice(logits, sets, index, weight)

    def bce_dice(logits: Tensor, sets: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
        if logits.shape[1] != 1:
            raise InputError(
                f"The loss 'bce-dice' met {logits.shape[1]} maps.",
                expected="It takes a network with one map, that of cloud.",
                remedy="Set model.options.classes to 1, or choose the loss 'cross-entropy-dice'.",
            )
        known = index != IGNORED
        return losses.bce_dice(logits[:, 0], torch.where(known, index, 0), valid=known)

    known = {
        "set-cross-entropy": set_cross_entropy,
        "set-mse": set_mse,
        "cross-entropy": cross_entropy,
        "dice": dice,
        "cross-entropy-dice": both,
        "bce-dice": bce_dice,
    }
    return known.get(part.kind, set_cross_entropy)


def removal_loss(outputs: Outputs, targets: Outputs, ssim_weight: float) -> Tensor:
    """L1 plus 1 - SSIM over every stage that a network returns, all at the same weight, a scalar."""
    missing = set(targets) - set(outputs)
    if missing:
        raise ModelError(
            f"The network returned {', '.join(outputs)}.",
            expected=f"It also has a target for {', '.join(sorted(missing))}.",
            remedy="Outputs and targets of a network have the same names.",
        )
    parts = [losses.l1_ssim(outputs[name], target, ssim_weight=ssim_weight) for name, target in targets.items()]
    return torch.stack(parts).sum()


def own_loss(net: nn.Module, batch: Batch) -> Tensor:
    """The loss that a network computes by itself, over the images with any label; Mask2Former."""
    assert batch.index is not None
    labelled = (batch.index != IGNORED).flatten(1).any(dim=1)
    if not labelled.any():
        return torch.zeros((), device=batch.image.device, requires_grad=True)
    loss: Tensor = net.loss(batch.image[labelled], batch.index[labelled].long())  # type: ignore[operator]
    return loss


def weight_of(batch: Batch) -> float:
    """How much a batch counts when several make one step: its judged pixels, or its images for removal."""
    if batch.index is None:
        return float(len(batch.image))
    return float((batch.target != 0).sum())


def _class_of(batch: Batch) -> Tensor:
    """Index of the certain group, 0 where there is none; (n, h, w) int64."""
    assert batch.index is not None
    return torch.where(batch.index == IGNORED, 0, batch.index.long())


class MaskScores:
    """Counts of a run's validation, from which every score follows; they add up over batches and processes.

    Args:
        classes: name of the run's scheme. Scores are those of :func:`unclouded.train.targets.judged_as`.

    Attributes:
        table: pixels by truth and prediction, (k, k) int64.
        cloud: the same for cloud against everything else, (2, 2) int64.
        loss: sum of losses times weights, and sum of weights, (2,) float64.
    """

    def __init__(self, classes: str) -> None:
        scheme, given = SCHEMES[judged_as(classes)], SCHEMES[classes]
        self.names, self.cloud_groups = scheme.names, scheme.cloud_groups()
        self.members = members_of(classes)
        # Certain group of the judged scheme for every set of groups of the run's.
        sets = np.zeros(256, np.uint8)
        for mask in range(256):
            groups = [group for index, group in enumerate(given.groups) if mask >> index & 1]
            sets[mask] = sum(1 << one for group in groups for one in group) & 0xFF
        self.certain = torch.from_numpy(scheme.index(sets))
        self.table = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)
        self.cloud = torch.zeros(2, 2, dtype=torch.int64)
        self.loss = torch.zeros(2, dtype=torch.float64)

    def add(self, outputs: Outputs, batch: Batch, loss: float) -> None:
        """Count one batch."""
        assert batch.cloud is not None
        found = predicted(outputs["logits"], self.members)
        truth = self.certain.to(found.device)[batch.target.long()]
        self.table += _table(truth, found, len(self.names))
        if self.cloud_groups:
            is_cloud = torch.isin(found, torch.tensor(self.cloud_groups, device=found.device)).to(torch.uint8)
            self.cloud += _table(batch.cloud, is_cloud, 2)
        weight = weight_of(batch)
        if weight:
            self.loss += torch.tensor([loss * weight, weight], dtype=torch.float64)

    def tensors(self) -> list[Tensor]:
        """Everything that has to be summed over processes."""
        return [self.table, self.cloud, self.loss]

    def scores(self) -> dict[str, float]:
        """``loss``, ``mean IoU``, ``accuracy``, IoU by class, ``cloud IoU``, ``cloud BA``; NaN where undefined."""
        table = self.table.double()
        truth, found, right = table.sum(1), table.sum(0), table.diagonal()
        iou = right / (truth + found - right)  # 0 / 0 is NaN: labels and prediction do not have the class
        out = {
            "loss": float(self.loss[0] / self.loss[1]),
            "mean IoU": float(iou.nanmean()),
            "accuracy": float(right.sum() / table.sum()),
        }
        out |= {f"IoU {name}": float(value) for name, value in zip(self.names, iou, strict=True)}
        if self.cloud_groups:
            (tn, fp), (fn, tp) = self.cloud.double().tolist()
            out["cloud IoU"] = _ratio(tp, tp + fp + fn)
            out["cloud BA"] = 0.5 * (_ratio(tp, tp + fn) + _ratio(tn, tn + fp))
        return out


@dataclass
class RemovalScores:
    """Sums over images of a removal run's validation."""

    sums: Tensor = field(default_factory=lambda: torch.zeros(6, dtype=torch.float64))

    def add(self, outputs: Outputs, batch: Batch, loss: float) -> None:
        """Count one batch."""
        found, clear = (part.clamp(0, 1).cpu().double().numpy() for part in (outputs["image"], batch.target))
        for one, wanted in zip(found, clear, strict=True):
            row = [loss, psnr(one, wanted, cap=PSNR_CAP), ssim(one, wanted), mae(one, wanted)]
            self.sums += torch.tensor([*row, spectral_angle(one, wanted), 1.0], dtype=torch.float64)

    def tensors(self) -> list[Tensor]:
        """Everything that has to be summed over processes."""
        return [self.sums]

    def scores(self) -> dict[str, float]:
        """``loss``, ``PSNR`` in dB (identical images count 100), ``SSIM``, ``MAE``, ``SAM`` in degrees; means."""
        means = (self.sums[:-1] / self.sums[-1]).tolist()
        return dict(zip(("loss", "PSNR", "SSIM", "MAE", "SAM"), means, strict=True))


def counter(config: RunConfig) -> MaskScores | RemovalScores:
    """Empty counts for a run's validation."""
    if config.task == "removal":
        return RemovalScores()
    return MaskScores(config.classes)


def is_better(name: str, value: float, best: float | None, least: float = 0.0) -> bool:
    """Whether a score beats the best so far by more than ``least``; errors count downwards, NaN never wins.

    >>> is_better("loss", 0.5, 0.6), is_better("mean IoU", 0.5, 0.6), is_better("mean IoU", math.nan, None)
    (True, False, False)
    """
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value < best - least if name in ("loss", "MAE", "SAM") else value > best + least


def members_of(classes: str) -> tuple[tuple[int, ...], ...]:
    """For every judged group of a scheme the outputs of the network whose probabilities are added."""
    given, judged = SCHEMES[classes], SCHEMES[judged_as(classes)]
    return tuple(
        tuple(index for index, own in enumerate(given.groups) if set(own) <= set(group)) for group in judged.groups
    )


def predicted(logits: Tensor, members: tuple[tuple[int, ...], ...]) -> Tensor:
    """Judged group of every pixel, (n, h, w) int64; a single map is the log-odds of the second of two groups.

    >>> predicted(torch.tensor([1.0, 1.0, 1.5]).view(1, 3, 1, 1), ((0, 1), (2,))).item()
    0
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long()
    scores = [logits[:, list(group)].logsumexp(dim=1) for group in members]
    return torch.stack(scores, dim=1).argmax(dim=1)


def _table(truth: Tensor, found: Tensor, size: int) -> Tensor:
    judged = truth < size
    pairs = truth[judged].long() * size + found[judged].long()
    return torch.bincount(pairs, minlength=size * size).reshape(size, size).cpu()


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
