"""Builds the default model from a folder of real imagery, one command per step.

    python -m unclouded.train.default_model prepare --data DATA --work runs/default
    python -m unclouded.train.default_model teach   --work runs/default
    python -m unclouded.train.default_model fit     --work runs/default
    python -m unclouded.train.default_model finish  --work runs/default --out src/unclouded/weights

``prepare`` reads the imagery. ``teach`` draws tiles of it, without any image that people labelled, and asks the teacher
about each. ``fit`` trains on these. Both go on where they were stopped. ``finish`` calibrates on the images that people
labelled and exports with a card. To measure what it ships, it also writes one card for each quarter of these images,
calibrated on the other three: so neither network nor calibration has seen the image that is scored.
docs/default-model.md tells what was measured, and why labels made by people do not train the network.
"""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import models
from ..classes import SEVEN
from ..data.default_corpus import FOLDS, read_corpus, with_roles
from ..data.sample import Sample
from ..infer.calibrate import fold as fold_scores
from ..infer.calibrate import probabilities
from ..models.card import ModelCard, TrainingSource
from .calibration import fit_calibration, fit_guarantees
from .export import export
from .lessons import FOLDER, Lessons, make_lessons
from .scores import predict_sample
from .student import Settings, train

ARCHITECTURE = "slots-unet"
OPTIONS: dict[str, Any] = {"widths": (16, 48, 96, 160), "depth": 1, "logarithms": True, "details": 16}
LESSONS = 9000

SOURCES: dict[str, tuple[str, Any, str, str]] = {
    "sen12mscr": (
        "SEN12MS-CR and SEN12MS-CR-TS patches, Sentinel-2 L1C", "teacher", "CC BY 4.0 as far as known, not verified",
        "clear dates as backgrounds; others labelled by ukis-csmask 1.0.0 (Apache-2.0)",
    ),
    "landsat_sr": (
        "Landsat-8/9 surface-reflectance patches with WorldCover codes", "none", "not stated; USGS public domain",
        "clear backgrounds",
    ),
    "czechia_sept": ("Sentinel-2 L2A scenes of Czechia", "none", "not stated; Copernicus", "clear backgrounds"),
    "bigearthnet_v2": ("BigEarthNet v2 patches, Sentinel-2 L2A", "none", "CDLA-Permissive-1.0", "clear backgrounds"),
    "sen1floods11": ("one Sen1Floods11 chip, Sentinel-2 L1C", "none", "not stated; Copernicus", "clear background"),
    "dsen2": ("two Sentinel-2 L1C crops of DSen2's examples", "none", "CC BY 4.0", "clear backgrounds"),
    "amazon": ("one Sentinel-2 L2A crop of the Amazon", "none", "not stated; Copernicus", "clear background"),
    "eo_browser": ("two Sentinel-2 L2A and two Landsat-8 crops with smoke and small cumulus", "teacher",
                   "GPL-3 repository, data only; Copernicus, USGS public domain", "ukis-csmask labels"),
    "kentucky": ("one Landsat-8 scene with cumulus", "teacher", "MIT; USGS public domain", "ukis-csmask labels"),
    "coasts": ("two Sentinel-2 L2A coasts", "teacher", "MIT; Copernicus", "ukis-csmask labels, one clear"),
    "eolearn": ("five Sentinel-2 L1C dates of eo-learn's examples", "teacher", "MIT; Copernicus", "ukis-csmask labels"),
    "landsat_l1": ("a Landsat-8 and a Landsat-5 Level-1 crop", "teacher", "MIT, GPL-3 package data; USGS public domain",
                   "ukis-csmask labels"),
    "safe_60m": ("a Sentinel-2 L2A product of Ireland at 60 m", "teacher", "Apache-2.0 repository; Copernicus",
                 "ukis-csmask labels"),
    "landsat_l2": ("three Landsat-8 Level-2 scenes at 450 to 600 m, one of Antarctica", "teacher",
                   "Apache-2.0, BSD-3 repositories; USGS public domain", "ukis-csmask labels"),
    "desert": ("a Sentinel-2 L2A desert tile at 100 m", "teacher", "BSD-3 repository; Copernicus",
               "ukis-csmask labels"),
    "mapchete": ("five Sentinel-2 L2A dates of Austria at 120 m", "teacher", "MIT; Copernicus", "ukis-csmask labels"),
    "l8_bqa": ("8-bit Landsat-8 RGB patches with quality-band labels", "algorithmic", "not stated; USGS public domain",
               "uncalibrated pictures"),
}  # fmt: skip
"""Title, kind of labels, licence and use of every source that was trained on."""

LIMITS = (
    "Trained on few scenes: about 240 small images, simulated clouds, and the answers of another network (ukis-csmask) "
    "about them, whose errors it has learned as well. Expect surprises on surfaces not among them.",
    "A whole image can be wrong: one of the measured images, wholly under an even anvil, is called snow.",
    "Snow, ice, salt and bright sand are taken for cloud at times, most of all without a short-wave infrared band.",
    "Without short-wave infrared bands cloud IoU is about 0.07 lower on the Landsat-8 images, with colours alone 0.09.",
    "Thin cloud and haze are missed often: of simulated thin cloud at most half is found. The border to thick is soft.",
    "Shadow was learned from a teacher and simulation only: it is the weakest class.",
    "Landsat-8, Landsat-7, Sentinel-2 and 8-bit pictures were measured; other sensors were not.",
    "Uncalibrated pictures work, but their probabilities are not to be read as calibrated.",
    "The network has seen none of the images behind the figures, and each was scored with a calibration that has not "
    "seen it either; but images of this kind were looked at while the recipe was made: fresh scenes may score lower.",
    "Calibration error of the probability of cloud: 0.06 to 0.11 on calibrated images, 0.06 on 8-bit pictures.",
    "Not for decisions that endanger people, and not as the only source of ground truth.",
)
"""Where the model fails, for its card."""


@click.group()
def main() -> None:
    """Build the default model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@main.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
def prepare(data: Path, work: Path) -> None:
    """Read and label the imagery."""
    work.mkdir(parents=True, exist_ok=True)
    samples = list(read_corpus(data))
    with (work / "corpus.pickle").open("wb") as stream:
        pickle.dump(samples, stream)
    click.echo(f"{len(samples)} samples")


@main.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--count", default=LESSONS, show_default=True, help="Tiles.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
def teach(work: Path, count: int, workers: int) -> None:
    """Draw tiles and ask the teacher about them, or go on where that stopped."""
    learned = [sample for sample in with_roles(_samples(work)) if sample.split == "train"]

    def progress(done: int) -> None:
        if done % 100 == 0:
            logging.info("%d of %d lessons", done, count)

    make_lessons(learned, work / FOLDER, count, workers=workers, progress=progress)


@main.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--steps", default=20000, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that draw batches; 0 draws in a thread.")
@click.option("--seed", default=1, show_default=True)
def fit(work: Path, steps: int, threads: int, workers: int, seed: int) -> None:
    """Train, or go on where it stopped."""
    torch.set_num_threads(threads)
    settings = Settings(
        architecture=ARCHITECTURE,
        options=tuple(OPTIONS.items()),
        steps=steps,
        seed=seed,
        check_every=2000,
    )
    train(with_roles(_samples(work)), Lessons(work / FOLDER), _folder(work, seed), settings, workers=workers)


@main.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def finish(work: Path, seed: int, out: Path) -> None:
    """Calibrate on the images that people labelled, export, write the cards.

    What is calibrated without one fold goes to ``models-SEED`` below WORK under the fold's name, so that it can be
    measured like the shipped model and by the same call.
    """
    torch.set_num_threads(2)
    samples = _samples(work)
    net = network(work, seed)
    labelled = [sample for sample in samples if sample.split.startswith("fold")]
    logits = [predict_sample(net, sample) for sample in labelled]
    for fold in range(FOLDS):
        others = [row for row, sample in enumerate(labelled) if sample.split != f"fold{fold}"]
        card = card_of(f"fold{fold}", samples, [labelled[row] for row in others], [logits[row] for row in others])
        export(net, card, work / f"models-{seed}")
    card = export(net, card_of("default", samples, labelled, logits), out)
    click.echo(f"{card.parameters} parameters, {card.calibration}, {card.guarantees}")


def card_of(
    name: str, samples: list[Sample], scored: list[Sample], logits: list[NDArray[np.float32]]
) -> ModelCard:
    """The card of one network, calibrated on scored images that it has not seen."""
    calibration = fit_calibration(scored, logits)
    card = ModelCard(
        name=name,
        title="Cloud and shadow mask for any optical sensor",
        version="0.5.1",
        architecture=ARCHITECTURE,
        options=OPTIONS,
        front_end="slots",
        classes=SEVEN,
        calibration=calibration,
        training=sources(samples),
        limits=LIMITS,
        licence="Apache-2.0 (weights); the imagery they were trained on keeps its own licences, see training",
        parameters=1,
    )
    shares = []
    for sample, values in zip(scored, logits, strict=True):
        shares.append(probabilities(fold_scores(values.copy(), card.calibration_for(sample.level)))[1:3].sum(axis=0))
    return card.model_copy(update={"guarantees": fit_guarantees(scored, shares)})


def network(work: Path, seed: int) -> nn.Module:
    """The averaged network of a finished run, in eval mode."""
    net = models.create(ARCHITECTURE, **OPTIONS).eval()
    net.load_state_dict(torch.load(_folder(work, seed) / "last.pt", weights_only=True)["mean"])
    return net


def _folder(work: Path, seed: int) -> Path:
    return work / f"base-{seed}"


def sources(samples: list[Sample]) -> tuple[TrainingSource, ...]:
    """What the training samples were, source by source."""
    counts = Counter(sample.source for sample in samples)
    simulated = TrainingSource(
        name="simulated clouds and shadows",
        labels="simulated",
        images=sum(sample.background for sample in samples),
        licence="own",
        use="over the clear images and over procedural surfaces; ukis-csmask was asked about these tiles, too",
    )
    known = tuple(
        TrainingSource(name=title, labels=labels, images=counts[source], licence=licence, use=use)
        for source, (title, labels, licence, use) in SOURCES.items()
    )
    return (*known, simulated)


def _samples(work: Path) -> list[Sample]:
    with (work / "corpus.pickle").open("rb") as stream:  # our own file, written by `prepare`
        loaded: list[Sample] = pickle.load(stream)
    return loaded


if __name__ == "__main__":
    main()
