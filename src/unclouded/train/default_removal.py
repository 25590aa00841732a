"""Builds the default removal model from a folder of real imagery, one command per step.

    python -m unclouded.train.default_removal prepare --data DATA --work runs/removal
    python -m unclouded.train.default_removal fit     --work runs/removal
    python -m unclouded.train.default_removal finish  --work runs/removal --out src/unclouded/weights

``prepare`` reads the imagery and masks the cloudy dates. ``fit`` trains, and resumes exactly where it stopped; with
``--architecture dsen2cr`` it trains that baseline on the same crops. ``finish`` fits the uncertainty's factor on places
kept for that and exports with a card. docs/removal.md tells what the steps measured.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import models
from ..losses import carl
from ..models.card import BandInput, ExpectedError, ModelCard, RadarInput, TrainingSource
from . import checkpoint
from .export import export
from .job import Job
from .loop import make_fabric, run
from .optim import OptimiserPart, Schedule, SchedulePart, make_optimiser
from .patches import SAR_RANGE_DB
from .removal_grounds import BANDS, Ground, read_grounds
from .removal_pairs import Batch, Crops, as_inputs
from .removal_pixels import train_pixels

ARCHITECTURE = "fill-pixels"
OPTIONS: dict[str, dict[str, Any]] = {
    "fill-pixels": {"widths": (96, 64)},
    "fill-unet": {"widths": (32, 48, 80, 128)},
    "dsen2cr": {"features": 32, "blocks": 4},
}
"""Options of the networks that can be trained; DSen2-CR narrowed until a step costs about the same."""

SOURCES: dict[str, tuple[str, str]] = {
    "amazon": ("a Sentinel-2 L2A crop of the Amazon", "not stated; Copernicus"),
    "bigearthnet_s1s2": ("BigEarthNet examples, Sentinel-1 and 2", "CDLA-Permissive-1.0"),
    "bigearthnet_v2": ("BigEarthNet v2 patches, Sentinel-1 and 2", "CDLA-Permissive-1.0"),
    "coasts": ("a Sentinel-2 L2A coast", "MIT; Copernicus"),
    "czechia_sept": ("Sentinel-2 L2A scenes of Czechia", "not stated; Copernicus"),
    "dsen2": ("two Sentinel-2 L1C crops of DSen2", "CC BY 4.0; Copernicus"),
    "landsat_sr": ("Landsat-8/9 surface-reflectance patches", "not stated; USGS public domain"),
    "sen12mscr": ("SEN12MS-CR and SEN12MS-CR-TS patches", "CC BY 4.0 as far as known, not verified"),
    "worldcereal": ("WorldCereal monthly composites, Sentinel-1 and 2", "not stated; Copernicus"),
    "sen1floods11": ("one Sen1Floods11 chip, Sentinel-1 and 2", "not stated; Copernicus"),
}
"""Title and licence of every source."""

LIMITS = (
    "A network of single pixels over smooth fills, learned in minutes on a processor from about 110 small places;"
    " published networks learned from a hundred thousand pairs. docs/removal.md says what was measured.",
    "On six real images of four places it is no better than its own smooth fill by more than chance, though far better"
    " than the cloudy image. Under simulated clouds over the same places it gains 0.7 dB.",
    "Under thick cloud it knows smooth surroundings and the radar image only: fields and roads that neither shows are"
    " not there. Where an earlier or later date exists, prefer it: --history.",
    "In deep shadow it brightens too little.",
    "A scene without any clear ground comes out at the level of typical land; its colours are a guess.",
    "Water, snow, desert and burnt ground are rare among the training places.",
    "Only Sentinel-2 was measured. Bands of other sensors take the place of the Sentinel-2 band of the same name.",
    "Its expected error was fitted on six real images; on six others it was right on the average, but it does not rank"
    " pixels.",
    "Rebuilt pixels are estimates: do not measure with them what only an observation can tell.",
)
"""Where the model fails, for its card."""

SIDE, BATCH, EVERY = 128, 4, 100

RIM, RIM_WEIGHT = 5, 0.3
"""Pixels around what is rebuilt that count as well, and how much: there the result fades into the observed image."""


TRUSTS = tuple(round(0.1 * tenth, 1) for tenth in range(11))

log = logging.getLogger("unclouded")


@click.group()
def main() -> None:
    """Build the default removal model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@main.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
def prepare(data: Path, work: Path) -> None:
    """Read the imagery and mask the cloudy dates."""
    work.mkdir(parents=True, exist_ok=True)
    grounds = list(read_grounds(data))
    with (work / "grounds.pickle").open("wb") as stream:
        pickle.dump(grounds, stream)
    radar = sum(ground.sar is not None for ground in grounds)
    pairs = sum(ground.cloudy is not None for ground in grounds)
    click.echo(f"{len(grounds)} places, {radar} with radar, {pairs} with a cloudy date")


@main.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--architecture", type=click.Choice(sorted(OPTIONS)), default=ARCHITECTURE, show_default=True)
@click.option("--steps", default=3000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--rate", default=2e-3, show_default=True, help="Peak of the learning rate.")
@click.option("--crops", default=1500, show_default=True, help="Crops that fill-pixels draws its pixels from.")
def fit(work: Path, architecture: str, steps: int, seed: int, rate: float, crops: int) -> None:
    """Train, or go on where the run stopped; fill-pixels takes minutes and begins anew."""
    torch.set_num_threads(1)
    places, folder = grounds(work), work / f"{architecture}-{seed}"
    if architecture == "fill-pixels":
        train_pixels(
            places, folder, OPTIONS[architecture], crops=Crops(places, SIDE, seed), count=crops, steps=steps, rate=rate
        )
    else:
        train(places, folder, architecture, steps, seed, rate)


@main.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def finish(work: Path, seed: int, out: Path) -> None:
    """Fit how far the network is trusted and the uncertainty's factor, export, write the card."""
    torch.set_num_threads(1)
    places = grounds(work)
    net, steps = network(work, ARCHITECTURE, seed)
    fit_trust(net, places)
    card = export(net, card_of(places, net, steps), out)
    click.echo(f"{card.parameters} parameters, {steps} steps, trust {net.trust:.1f}, {card.expected_error}")


def network(work: Path, architecture: str, seed: int) -> tuple[nn.Module, int]:
    """The averaged network of a run in eval mode, and the steps that it has learned for."""
    state = checkpoint.read(work / f"{architecture}-{seed}" / checkpoint.LAST)
    net = models.create(architecture, **OPTIONS[architecture]).eval()
    net.load_state_dict(state["mean"])
    return net, int(state["step"])


def card_of(places: Sequence[Ground], net: nn.Module, steps: int) -> ModelCard:
    """The card of the default removal model."""
    polarisations: tuple[Literal["vv", "vh"], ...] = ("vv", "vh")
    radar = zip(polarisations, SAR_RANGE_DB, strict=True)
    return ModelCard(
        name="removal",
        title="Rebuilds what clouds and shadows hide, with Sentinel-1 where there is any",
        version="0.1.0",
        architecture=ARCHITECTURE,
        options=OPTIONS[ARCHITECTURE],
        task="removal",
        front_end="bands",
        bands=tuple(
            BandInput(name=band.name, common_name=band.common_name, min_nm=band.min_nm or 0, max_nm=band.max_nm or 0)
            for band in BANDS
        ),
        sar=tuple(RadarInput(name=name, low_db=low, high_db=high) for name, (low, high) in radar),
        partial_inputs=True,
        marks=True,
        expected_error=ExpectedError(
            kind="log-scale",
            factor=factor_of(places, net),
            fitted_on="real cloudy and clear dates of four places that training has not seen",
        ),
        grid_m=10.0,
        coarsest_m=30.0,
        stride=32,
        training=sources(places, steps),
        limits=LIMITS,
        licence="Apache-2.0 (weights); the imagery they were trained on keeps its own licences, see training",
        parameters=1,
    )


def fit_trust(net: nn.Module, places: Sequence[Ground]) -> None:
    """Set ``trust``, the share of its corrections that the network makes, to what serves places best that it has not
    seen: of tenths, the one with the smallest mean over images of the root mean squared error."""
    errors = []
    for trust in TRUSTS:
        net.trust.fill_(trust)  # type: ignore[operator]
        found = []
        for ground in places:
            if ground.split == "choose" and ground.cloudy is not None:
                restored, _, hidden = restore_ground(net, ground)
                error = (restored - ground.clear.astype(np.float32))[:, hidden]
                found.append(float(np.sqrt(np.nanmean(error**2))))
        errors.append(float(np.mean(found)))
        log.info("trust %.1f: %.5f", trust, errors[-1])
    net.trust.fill_(TRUSTS[int(np.argmin(errors))])  # type: ignore[operator]


def factor_of(places: Sequence[Ground], net: nn.Module) -> float:
    """Mean error over mean expected error of the places kept for that, each image counting the same."""
    found, told = [], []
    for ground in places:
        if ground.split == "choose" and ground.cloudy is not None:
            restored, expected, hidden = restore_ground(net, ground)
            assert expected is not None
            error = np.abs(restored - ground.clear.astype(np.float32)).mean(axis=0)
            known = hidden & np.isfinite(error)
            found.append(error[known].mean())
            told.append(expected[known].mean())
    return float(np.mean(found) / np.mean(told))


def sources(places: Sequence[Ground], steps: int) -> tuple[TrainingSource, ...]:
    """What was trained on, source by source."""
    train = [ground for ground in places if ground.split == "train"]
    out = []
    for name in sorted({ground.source for ground in train}):
        there = [ground for ground in train if ground.source == name]
        radar = sum(ground.sar is not None for ground in there)
        pairs = sum(ground.cloudy is not None for ground in there)
        title, licence = SOURCES[name]
        use = f"clear ground under simulated clouds and gaps; {radar} with Sentinel-1, {pairs} with a cloudy date"
        out.append(TrainingSource(name=title, labels="none", images=len(there), licence=licence, use=use))
    simulated = TrainingSource(
        name="simulated clouds, shadows and gaps", labels="simulated", images=steps * BATCH, licence="own",
        use="drawn anew for every crop",
    )  # fmt: skip
    return (*out, simulated)


def train(places: Sequence[Ground], folder: Path, architecture: str, steps: int, seed: int, rate: float) -> nn.Module:
    """Train a removal network on drawn crops; returns the averaged network in eval mode."""
    folder.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(accelerator="cpu", precision="bf16")
    fabric.launch()
    torch.manual_seed(seed)
    net = models.create(architecture, **OPTIONS[architecture]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    crops = Crops(places, SIDE, seed)

    def loss(wrapped: nn.Module, batch: Batch, step: int) -> Tensor:
        given = (batch.image, batch.sar, batch.hidden) if getattr(net, "marks", False) else (batch.image, batch.sar)
        outputs = wrapped.outputs(*given)  # type: ignore[operator]
        return loss_of(outputs, batch) if "log_scale" in outputs else carl_of(outputs["image"].float(), batch)

    job = Job(
        net=net,
        optimiser=make_optimiser(net, OptimiserPart(rate=rate, weight_decay=0.05)),
        schedule=Schedule(SchedulePart(kind="cosine", warm_up=40, floor=0.01), rate),
        draw=lambda epoch, place: crops.batch(epoch * EVERY + place, BATCH),
        loss=loss,
        weight=lambda batch: 1.0,
        judge=lambda mean: {"loss": judge_removal(mean, places)},
        epochs=-(-steps // EVERY),
        images=EVERY * BATCH,
        batch=BATCH,
        steps=steps,
        identity=json.dumps({"architecture": architecture, "steps": steps, "seed": seed, "rate": rate}),
        seed=seed,
        clip=1.0,
        average=0.99,
        checkpoint_minutes=3.0,
    )
    return run(job, folder, fabric).net


def judge_removal(net: nn.Module, places: Sequence[Ground]) -> float:
    """Mean absolute error of what is rebuilt of the real cloudy dates kept to compare recipes."""
    errors = []
    for ground in places:
        if ground.split == "choose" and ground.cloudy is not None:
            restored, _, hidden = restore_ground(net, ground)
            errors.append(float(np.abs(restored - ground.clear.astype(np.float32)).mean(axis=0)[hidden].mean()))
    return float(np.mean(errors))


def loss_of(outputs: dict[str, Tensor], batch: Batch) -> Tensor:
    """Mean absolute error and spectral angle of what was to be rebuilt, and the likelihood of its error.

    The error of a pixel is taken as exponentially distributed with the predicted mean s: -log p = log s + error / s.
    The image does not learn from that term, so that uncertain pixels are not given up.
    """
    restored = outputs["image"].float()
    known = torch.isfinite(batch.target)
    marked = batch.hidden[:, :1]
    around = F.max_pool2d(marked, 2 * RIM + 1, 1, RIM)
    rebuild = (marked + RIM_WEIGHT * (around - marked)) * known.any(1, keepdim=True)
    target = torch.where(known, batch.target, torch.zeros_like(batch.target))
    shown = known & (batch.image != 0).flatten(2).any(2)[:, :, None, None]
    masked = torch.where(shown, restored, torch.zeros_like(restored))
    error = (masked - target * shown).abs().sum(1, keepdim=True) / shown.sum(1, keepdim=True).clamp(min=1)
    area = rebuild.sum().clamp(min=1)
    away = 1 - F.cosine_similarity(masked, target * shown, dim=1, eps=1e-4)[:, None]
    angle = torch.sqrt(2 * away.clamp(min=0) + 1e-4) - 0.01  # in radians, with a finite slope at 0
    loss = 20 * (error * rebuild).sum() / area + 2 * (angle * rebuild).sum() / area
    if "log_scale" in outputs:
        log_scale = outputs["log_scale"].float().clamp(-8, 1)
        fit_of_scale = log_scale + error.detach() * torch.exp(-log_scale)
        loss = loss + 0.1 * (fit_of_scale * rebuild).sum() / area
    return loss


def carl_of(restored: Tensor, batch: Batch) -> Tensor:
    """The loss that DSen2-CR was published with; where the clear image is not known it learns nothing."""
    known = torch.isfinite(batch.target) & (batch.image != 0).flatten(2).any(2)[:, :, None, None]
    target = torch.where(known, batch.target, restored.detach())
    return carl(restored, target, torch.where(known, batch.image, restored.detach()), batch.hidden[:, :1])


def restore_ground(
    net: nn.Module, ground: Ground, *, sar: bool = True
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The cloudy date of a place rebuilt.

    Args:
        net: in eval mode.
        ground: with a cloudy date.
        sar: whether the network is given the radar image.

    Returns:
        The image (13, y, x), pixels that are to be kept as they were; the expected error (y, x) if the network tells
        it; and the pixels that were rebuilt (y, x) bool.
    """
    assert ground.cloudy is not None
    assert ground.classes is not None
    image, radar, marks = as_inputs(ground.cloudy, ground.classes, ground.sar if sar else None)
    with torch.no_grad():
        given = [torch.from_numpy(part)[None] for part in (image, radar, marks)]
        outputs = net.outputs(*(given if getattr(net, "marks", False) else given[:2]))  # type: ignore[operator]
    hidden = marks[0] > 0
    restored = np.where(hidden, outputs["image"][0].float().numpy(), image)
    scale = outputs.get("log_scale")
    return restored, None if scale is None else np.exp(scale[0, 0].float().numpy()), hidden


def grounds(work: Path) -> list[Ground]:
    """What ``prepare`` wrote."""
    with (work / "grounds.pickle").open("rb") as stream:  # our own file
        loaded: list[Ground] = pickle.load(stream)
    return loaded


if __name__ == "__main__":
    main()
