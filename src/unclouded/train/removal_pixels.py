"""Training of removal networks of single pixels: crops are drawn once, a few hundred pixels kept of each."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..models.fill_pixels import FillPixels
from ..models.fill_unet import Given
from . import checkpoint
from .removal_grounds import Ground
from .removal_pairs import Batch, Crops

PER_CROP = 256
"""Pixels that are kept of each crop."""

log = logging.getLogger("unclouded")


@dataclass
class Pixels:
    """Pixels to rebuild, each with its features.

    Attributes:
        features: of the network, (n, 3 c, 1, 1).
        present: bands that there are, (n, b).
        scaled, filled, visible: see :class:`unclouded.models.fill_unet.Given`, (n, ., 1, 1).
        target: what is to be found, (n, b, 1, 1), NaN where unknown.
        weight: what the pixel counts, (n, 1, 1, 1).
    """

    features: Tensor
    present: Tensor
    scaled: Tensor
    filled: Tensor
    visible: Tensor
    target: Tensor
    weight: Tensor

    def at(self, index: Tensor) -> Pixels:
        """Some of them."""
        return Pixels(*(getattr(self, one.name)[index] for one in fields(self)))

    def given(self) -> Given:
        """As the network's last step takes them."""
        return Given(self.features, self.present, self.scaled, self.filled, self.visible)

    def batch(self) -> Batch:
        """As the loss takes them."""
        marked = torch.cat((self.weight, self.weight), 1)
        return Batch(self.present[:, :, None, None], marked, marked, self.target)


def gather(net: FillPixels, crops: Crops, count: int) -> Pixels:
    """Draw crops and keep some pixels that are to be rebuilt of each.

    Args:
        net: the network, for its features; none of them depends on weights.
        crops: where they are drawn.
        count: how many.
    """
    kept: list[Pixels] = []
    for place in range(count):
        batch = crops.batch(place, 1)
        with torch.no_grad():
            given = net.given(batch.image, batch.sar, batch.hidden)
            features = net.unet.features(given.parts)
        known = torch.isfinite(batch.target).any(1)[0] & (batch.hidden[0, 0] > 0)
        rows, cols = known.nonzero(as_tuple=True)
        if not rows.numel():
            continue
        rng = np.random.default_rng((crops.seed, place, 1))
        chosen = torch.from_numpy(rng.integers(rows.numel(), size=PER_CROP))
        rows, cols = rows[chosen], cols[chosen]

        def picked(plane: Tensor, y: Tensor = rows, x: Tensor = cols) -> Tensor:
            return plane[0][:, y, x].T[:, :, None, None].clone()

        scaled, filled, visible = (picked(one) for one in (given.scaled, given.filled, given.visible))
        present, weight = given.present.repeat(PER_CROP, 1), torch.ones(PER_CROP, 1, 1, 1)
        kept.append(Pixels(picked(features), present, scaled, filled, visible, picked(batch.target), weight))
        if place % 500 == 499:
            log.info("%d of %d crops", place + 1, count)
    return Pixels(*(torch.cat([getattr(one, part.name) for one in kept]) for part in fields(Pixels)))


def train_pixels(
    places: Sequence[Ground],
    folder: Path,
    options: dict[str, object],
    *,
    crops: Crops,
    count: int,
    steps: int,
    rate: float,
    size: int = 1024,
) -> nn.Module:
    """Train a network of single pixels; writes a checkpoint, and returns the averaged network in eval mode.

    Args:
        places: all places; those of the split ``choose`` tell how it goes.
        folder: of the run.
        options: of :class:`unclouded.models.fill_pixels.FillPixels`.
        crops: where pixels come from.
        count: crops that are drawn.
        steps: of the optimiser.
        rate: peak of the learning rate, which falls to 0 along a cosine.
        size: pixels of a step.
    """
    from .default_removal import judge_removal, loss_of

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(crops.seed)
    net: nn.Module = models.create("fill-pixels", **options)
    assert isinstance(net, FillPixels)
    pixels = gather(net, crops, count)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.05)
    draw = torch.Generator().manual_seed(crops.seed)
    total = 0.0
    for step in range(1, steps + 1):
        some = pixels.at(torch.randint(len(pixels.features), (size,), generator=draw))
        found = net.compose(net.unet.decide(some.features, net.presence(some.present)), some.given())
        loss = loss_of(found, some.batch())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(net)
        total += float(loss.detach())
        if step % 500 == 0 or step == steps:
            told = judge_removal(mean.module.eval(), places)
            log.info("step %d, train loss %.4f, loss %.5f", step, total / (step % 500 or 500), told)
            total = 0.0
    state = {"mean": mean.module.state_dict(), "step": steps, "identity": json.dumps({"crops": count, "steps": steps})}
    checkpoint.save(folder, checkpoint.LAST, state)
    return mean.module.eval()
