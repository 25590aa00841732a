"""What percentile normalisation does across a real shift of sensor and level: U-Net/MobileNetV2, three modes.

    python benchmarks/percentile_transfer.py --data DATA [--steps 120] [--seeds 1] [--bands rgb] [--json FILE]

The network learns cloud against everything else from L8 Biome patches (Landsat-8, top of atmosphere, labelled by
people) of three folds out of four, and is judged on the fourth fold, on Landsat-7 (UKIS: another sensor), on Sentinel-2
L2A (On Cloud N: another sensor, level and pixel size), and on 95-Cloud (Landsat-8 as 8-bit pictures, stretched one by
one). With blue, green, red and near infrared for the first three, and with blue, green and red for the last.

Modes: ``none``, reflectance as it is; ``train``, the percentiles 1 and 99 of the training set; ``scene``, those of
every image. The encoder is the full MobileNetV2 without ImageNet weights; the decoder is narrow (64, 48, 32, 24, 16
for 256, 128, 64, 32, 16), patches are 96 and batches 8 for 256 and 16: 3.2 million weights. Counts of all seeds are
added up; intervals are over images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from partial_labels import ASIDE, labelled, part_of
from real_folders import write_folder

from unclouded.train.config import DataPart
from unclouded.train.config_file import make_config
from unclouded.train.evaluate import MaskEvaluation, evaluate, open_test
from unclouded.train.evaluate_judge import MaskImage
from unclouded.train.evaluate_models import TrainedRun
from unclouded.train.run import fit

FOLD = 0
MODES = {"none": ("none", "train"), "train": ("percentile", "train"), "scene": ("percentile", "scene")}
BANDS = {"rgb-nir": ("blue", "green", "red", "nir"), "rgb": ("blue", "green", "red")}
JUDGED = {"rgb-nir": ("l8biome", "ukis", "oncloudn"), "rgb": ("l8biome", "95-cloud")}
METRICS = ("IoU clear", "IoU cloud", "mean IoU", "accuracy")


def train(folder: Path, bands: tuple[str, ...], mode: str, seed: int, steps: int, output: Path) -> TrainedRun:
    """One network in one mode."""
    kind, scope = MODES[mode]
    values: dict[str, Any] = {
        "model": {
            "name": "smp",
            "options": {"decoder": "Unet", "encoder": "mobilenet_v2", "decoder_channels": [64, 48, 32, 24, 16]},
        },
        "classes": "cloud", "bands": list(bands),
        "data": [{"name": "folder", "root": str(folder)}],
        "normalise": {"mode": kind, "scope": scope},
        "patch": {"size": 96},
        "augment": [{"name": "turn"}],
        "loss": {"kind": "dice"},
        "optimiser": {"kind": "adam", "rate": 1e-3},
        "batch": 8, "steps": steps, "images_per_epoch": 8 * steps, "threads": 1, "accelerator": "cpu", "pictures": 0,
        "seed": seed, "output": str(output),
    }  # fmt: skip
    return TrainedRun(fit(make_config(values)), "last", name=mode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--bands", choices=list(BANDS), help="one set of bands alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    samples = labelled(arguments.data)
    ASIDE[FOLD + 1] = {s.name for s in [x for x in samples["l8biome"] if x.split == f"fold{FOLD + 1}"][:2]}
    report: dict[str, Any] = {}
    for title in [arguments.bands] if arguments.bands else list(BANDS):
        bands = BANDS[title]
        kept: dict[tuple[str, str], list[MaskImage]] = defaultdict(list)
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            folders = {
                source: write_folder(
                    root / source, samples[source],
                    part_of(FOLD, True) if source == "l8biome" else lambda sample: "test", bands,
                )
                for source in JUDGED[title]
            }  # fmt: skip
            for seed in range(1, arguments.seeds + 1):
                runs = [
                    train(folders["l8biome"], bands, mode, seed, arguments.steps, root / f"{mode}-{seed}")
                    for mode in MODES
                ]
                for source in JUDGED[title]:
                    test = open_test(DataPart(name="folder", root=folders[source]), "test")
                    for one in evaluate(runs, test, classes="cloud"):
                        kept[source, one.name] += one.images
                print(f"{title}, seed {seed} done", flush=True)
        for (source, mode), images in kept.items():
            whole = MaskEvaluation(mode, source, tuple(images), 0.0, "cloud", ("clear", "cloud"))
            found = whole.figures()
            row = {metric: [round(v, 4) for v in (found[metric].value, found[metric].low, found[metric].high)]
                   for metric in METRICS}  # fmt: skip
            report.setdefault(f"{source}, {title}", {})[mode] = row | {"images": len(images) // arguments.seeds}
    for source, modes in report.items():
        for mode, row in modes.items():
            cells = [found_text(row[metric]) for metric in METRICS]
            print(f"| {source} ({row['images']}) | {mode} | " + " | ".join(cells) + " |")
    if arguments.json:
        text = json.dumps(report, indent=1).replace("NaN", "null")
        arguments.json.write_text(text + "\n", encoding="utf-8")


def found_text(values: list[float]) -> str:
    """A figure with its interval, where there are images enough for one."""
    value, low, high = values
    return f"{value:.3f}" if low != low else f"{value:.3f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
