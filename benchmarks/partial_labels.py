"""What partial labels are worth: one small seven-class network on four label schemes together, and on one alone.

    python benchmarks/partial_labels.py --data DATA --work FOLDER [--steps 300] [--fold 0] [--json FILE]

Four label schemes: L8 Biome patches (clear, thin, thick, shadow; Landsat-8, 7 bands), On Cloud N (cloud or not;
Sentinel-2 L2A, 4 bands), UKIS (land, water, shadow, cloud; Landsat-7, 6 bands), 95-Cloud (cloud or not; 8-bit RGB).
Four folds by the place of an image in the alphabet. In every fold one network learns from the L8 Biome patches of the
other folds, another from all four sets' images of the other folds: the same network with the same settings, for as many
more steps as it takes to see as many L8 Biome patches (--equal-steps: for as many steps, of which a smaller share is L8
Biome). Weights of the last step, so that nothing is chosen. Judged is cloud against everything else on the images
left out. The interval of the difference draws images with replacement, the same for both networks. Folds that FOLDER
holds are not done again; --fold does one alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from real_folders import write_folder

from unclouded.data import default_corpus
from unclouded.data.sample import Sample
from unclouded.train.config import DataPart
from unclouded.train.config_file import make_config
from unclouded.train.evaluate import evaluate, open_test
from unclouded.train.evaluate_models import TrainedRun
from unclouded.train.run import fit

Fold = dict[str, list[list[list[list[int]]]]]
"""Counts of cloud by source, image, network (alone, together), truth and prediction."""

FOUR_CLASS = "l8biome"
SHARE = {"l8biome": 0.6, "oncloudn": 0.15, "ukis": 0.1, "95-cloud": 0.15}
"""Of the patches drawn, in the run on all sets."""

AUGMENT = [
    {"name": "turn"}, {"name": "usual-bands", "p": 0.5}, {"name": "gain", "p": 0.3}, {"name": "band-gain", "p": 0.3},
]  # fmt: skip


def labelled(data: Path) -> dict[str, list[Sample]]:
    """The images labelled by people, by source."""
    def rgb(root: Path) -> Iterator[Sample]:
        return (sample for sample in default_corpus.rgb8(root) if sample.split.startswith("fold"))

    readers = {
        "l8biome": default_corpus.l8biome, "oncloudn": default_corpus.oncloudn, "ukis": default_corpus.ukis,
        "95-cloud": rgb,
    }  # fmt: skip
    return {name: list(read(data)) for name, read in readers.items()}


def part_of(fold: int, chooses: bool) -> Callable[[Sample], str]:
    """Part of a sample in a fold; two images of the next fold are put aside, for a run needs some."""
    def part(sample: Sample) -> str:
        number = int(sample.split.removeprefix("fold"))
        if number == fold:
            return "test"
        aside = chooses and number == (fold + 1) % default_corpus.FOLDS and sample.name in ASIDE[number]
        return "choose" if aside else "train"

    return part


ASIDE: dict[int, set[str]] = defaultdict(set)


def train(folders: dict[str, Path], names: Sequence[str], output: Path, steps: int) -> TrainedRun:
    """A network of 142,000 weights, trained on these sets."""
    values: dict[str, Any] = {
        "model": {"name": "slots-unet", "options": {"widths": [16, 24, 32, 48], "depth": 1}},
        "classes": "seven",
        "data": [{"name": "folder", "root": str(folders[name]), "weight": SHARE[name]} for name in names],
        "patch": {"size": 96},
        "augment": AUGMENT,
        "optimiser": {"kind": "adamw", "rate": 2e-3, "weight_decay": 0.01},
        "schedule": {"kind": "cosine", "warm_up": 30, "floor": 0.01},
        "average": 0.98, "clip": 1.0, "batch": 8, "steps": steps, "images_per_epoch": 8 * steps,
        "threads": 1, "accelerator": "cpu", "pictures": 0, "seed": 1, "output": str(output),
    }  # fmt: skip
    return TrainedRun(fit(make_config(values)), "last", name=output.name)


def judge_fold(samples: dict[str, list[Sample]], fold: int, steps: int, longer: int) -> Fold:
    """Train both networks on the other folds, and count on this one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = {
            source: write_folder(root / source, found, part_of(fold, source == FOUR_CLASS))
            for source, found in samples.items()
        }
        usable = [source for source, found in samples.items() if any(one.split != f"fold{fold}" for one in found)]
        runs = [
            train(folders, [FOUR_CLASS], root / "alone", steps),
            train(folders, usable, root / "together", longer),
        ]
        out = {}
        for source, found in samples.items():
            if any(one.split == f"fold{fold}" for one in found):
                test = open_test(DataPart(name="folder", root=folders[source]), "test")
                alone, together = evaluate(runs, test)
                out[source] = [
                    [one.questions["cloud"].tolist() for one in pair]
                    for pair in zip(alone.images, together.images, strict=True)
                ]
    return out


def figures(counts: np.ndarray) -> tuple[float, float]:
    """IoU and balanced accuracy of cloud from counts by truth and prediction, (2, 2)."""
    (tn, fp), (fn, tp) = counts
    recalls = [part / whole for part, whole in ((tp, tp + fn), (tn, tn + fp)) if whole]
    return tp / max(tp + fp + fn, 1), float(np.mean(recalls))


def compared(counts: np.ndarray) -> dict[str, Any]:
    """Both networks on the same images, and the difference with its 95 % interval; counts are (image, 2, 2, 2)."""
    rng = np.random.default_rng(0)
    draws = [counts[rng.integers(len(counts), size=len(counts))].sum(axis=0) for _ in range(1000)]
    whole = counts.sum(axis=0)
    out: dict[str, Any] = {"images": len(counts)}
    for place, metric in enumerate(("cloud IoU", "cloud BA")):
        values = np.array([figures(both)[place] for both in whole])
        drawn = np.array([[figures(both)[place] for both in draw] for draw in draws])
        both = {"alone": (values[0], drawn[:, 0]), "together": (values[1], drawn[:, 1])}
        both["difference"] = (values[1] - values[0], drawn[:, 1] - drawn[:, 0])
        out[metric] = {
            name: [round(float(v), 4) for v in (value, *np.percentile(span, (2.5, 97.5)))]
            for name, (value, span) in both.items()
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="keeps what every fold counted")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--equal-steps", action="store_true")
    parser.add_argument("--fold", type=int, choices=range(default_corpus.FOLDS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    samples = labelled(arguments.data)
    for sample in samples[FOUR_CLASS]:
        number = int(sample.split.removeprefix("fold"))
        if len(ASIDE[number]) < 2:
            ASIDE[number].add(sample.name)
    arguments.work.mkdir(parents=True, exist_ok=True)
    folds = range(default_corpus.FOLDS) if arguments.fold is None else [arguments.fold]
    longer = arguments.steps if arguments.equal_steps else round(arguments.steps / SHARE[FOUR_CLASS])
    kept: list[Fold] = []
    for fold in folds:
        file = arguments.work / f"fold{fold}.json"
        if not file.exists():
            file.write_text(json.dumps(judge_fold(samples, fold, arguments.steps, longer)), encoding="utf-8")
        kept.append(json.loads(file.read_text(encoding="utf-8")))
    report = {}
    for source in (*samples, "all"):
        rows = [row for one in kept for name, found in one.items() if source in (name, "all") for row in found]
        if rows:
            report[source] = compared(np.array(rows))
    for source, row in report.items():
        for metric in ("cloud IoU", "cloud BA"):
            cells = [f"{v[0]:.3f} ({v[1]:.3f} to {v[2]:.3f})" for v in row[metric].values()]
            print(f"| {source} ({row['images']}) | {metric} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
