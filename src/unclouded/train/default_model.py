"""Builds the default model from a folder of real imagery, one command per step.

    python -m unclouded.train.default_model prepare  --data DATA --work runs/default
    python -m unclouded.train.default_model fit      --work runs/default --front slots|senseiv2
    python -m unclouded.train.default_model finish   --work runs/default --front slots

``prepare`` reads and labels the imagery, ``fit`` trains (and resumes), ``finish`` calibrates, measures, exports and
writes the card into the package. docs/default-model.md tells what the steps measured.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import click
import torch

from ..data.default_corpus import read_corpus
from ..data.sample import Sample
from .loop import Settings, train

FRONTS: dict[str, tuple[str, dict[str, Any]]] = {
    "slots": ("slots-unet", {"widths": (32, 64, 128, 192), "depth": 1}),
    "senseiv2": ("senseiv2-unet", {"widths": (32, 64, 128, 192), "depth": 1, "channels": 16}),
}
"""Architecture and options of the two front ends that were trained."""


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
@click.option("--front", type=click.Choice(list(FRONTS)), required=True)
@click.option("--steps", default=16000, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=1, show_default=True)
def fit(work: Path, front: str, steps: int, threads: int, seed: int) -> None:
    """Train one front end, or go on where it stopped."""
    torch.set_num_threads(threads)
    architecture, options = FRONTS[front]
    settings = Settings(architecture=architecture, options=tuple(options.items()), steps=steps, seed=seed)
    train(_samples(work), work / f"{front}-{seed}", settings)


def _samples(work: Path) -> list[Sample]:
    with (work / "corpus.pickle").open("rb") as stream:  # our own file, written by `prepare`
        loaded: list[Sample] = pickle.load(stream)
    return loaded


if __name__ == "__main__":
    main()
