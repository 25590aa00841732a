"""What partial labels are worth: one small seven-class network on four label schemes together, and on one alone.

    python benchmarks/partial_labels.py --data DATA [--steps 500] [--json FILE]

Four label schemes: L8 Biome patches (clear, thin, thick, shadow; Landsat-8, 7 bands), On Cloud N (cloud or not;
Sentinel-2 L2A, 4 bands), UKIS (land, water, shadow, cloud; Landsat-7, 6 bands), 95-Cloud (cloud or not; 8-bit RGB).
Four folds by the place of an image in the alphabet. In every fold one network learns from the L8 Biome patches of the
other folds, another from all four sets' images of the other folds, the same network for as many steps with the same
settings; weights of the last step, so that nothing is chosen. Judged is cloud against everything else on the images
left out. The interval of the difference draws images with replacement, the same for both networks.
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
from unclouded.train.evaluate_judge import MaskImage
from unclouded.train.evaluate_models import TrainedRun
from unclouded.train.run import fit

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
        "patch": {"size": 128},
        "augment": AUGMENT,
        "optimiser": {"kind": "adamw", "rate": 2e-3, "weight_decay": 0.01},
        "schedule": {"kind": "cosine", "warm_up": 30, "floor": 0.01},
        "average": 0.98, "clip": 1.0, "batch": 8, "steps": steps, "images_per_epoch": 8 * steps,
        "threads": 1, "accelerator": "cpu", "pictures": 0, "seed": 1, "output": str(output),
    }  # fmt: skip
    return TrainedRun(fit(make_config(values)), "last", name=output.name)


def cloud(images: Sequence[MaskImage], chosen: np.ndarray) -> tuple[float, float]:
    """IoU and balanced accuracy of cloud over images, some of them several times."""
    (tn, fp), (fn, tp) = np.stack([image.questions["cloud"] for image in images])[chosen].sum(axis=0)
    recalls = [part / whole for part, whole in ((tp, tp + fn), (tn, tn + fp)) if whole]
    return tp / max(tp + fp + fn, 1), float(np.mean(recalls))


def compared(alone: Sequence[MaskImage], together: Sequence[MaskImage]) -> dict[str, Any]:
    """Both networks on the same images, and the difference with its 95 % interval."""
    everything = np.arange(len(alone))
    out: dict[str, Any] = {"images": len(alone)}
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(alone), size=len(alone)) for _ in range(1000)]
    for place, metric in enumerate(("cloud IoU", "cloud BA")):
        one, other = cloud(alone, everything)[place], cloud(together, everything)[place]
        spans = [np.percentile([cloud(images, draw)[place] for draw in draws], (2.5, 97.5)).round(4).tolist()
                 for images in (alone, together)]  # fmt: skip
        apart = [cloud(together, draw)[place] - cloud(alone, draw)[place] for draw in draws]
        out[metric] = {
            "alone": [round(float(one), 4), *spans[0]],
            "together": [round(float(other), 4), *spans[1]],
            "difference": [round(float(other - one), 4), *np.percentile(apart, (2.5, 97.5)).round(4).tolist()],
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    samples = labelled(arguments.data)
    for sample in samples[FOUR_CLASS]:
        number = int(sample.split.removeprefix("fold"))
        if len(ASIDE[number]) < 2:
            ASIDE[number].add(sample.name)
    judged: dict[str, dict[str, list[MaskImage]]] = {"alone": defaultdict(list), "together": defaultdict(list)}
    for fold in range(default_corpus.FOLDS):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            folders = {
                source: write_folder(root / source, found, part_of(fold, source == FOUR_CLASS))
                for source, found in samples.items()
            }
            usable = [s for s, found in samples.items() if any(x.split != f"fold{fold}" for x in found)]
            runs = {
                "alone": train(folders, [FOUR_CLASS], root / "alone", arguments.steps),
                "together": train(folders, usable, root / "together", arguments.steps),
            }
            for source, found in samples.items():
                if not any(sample.split == f"fold{fold}" for sample in found):
                    continue
                test = open_test(DataPart(name="folder", root=folders[source]), "test")
                for one in evaluate(list(runs.values()), test):
                    judged[one.name][source] += one.images
        print(f"fold {fold} done", flush=True)
    report = {s: compared(judged["alone"][s], judged["together"][s]) for s in samples}
    everything = [[image for source in samples for image in judged[who][source]] for who in ("alone", "together")]
    report["all"] = compared(everything[0], everything[1])
    for source, row in report.items():
        for metric in ("cloud IoU", "cloud BA"):
            cells = [f"{v[0]:.3f} ({v[1]:.3f} to {v[2]:.3f})" for v in row[metric].values()]
            print(f"| {source} ({row['images']}) | {metric} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
