"""What eight-bit integers would gain and cost: the default model, quantised, beside itself.

    python benchmarks/int8.py --data DATA --work FOLDER [--size 2048] [--rounds 3] [--images 12]

Writes a quantised copy of the shipped network to FOLDER: static, weights of each output channel and activations in
eight bits, ranges from every second of the labelled images. The front end, which forms the slots and their logarithms,
stays in float32. Prints the processor time of both on the array of benchmarks/peers.py, the share of pixels of the
same class there, and the cloud IoU of both on the labelled images that gave no ranges. The calibration of the shipped
model was fitted on these images: the difference counts, not the level.

    pip install onnx
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from accuracy import SETS, counts, iou
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from peers import SENSOR, cost, scene

import unclouded
from unclouded import sensors
from unclouded.data.sample import Sample
from unclouded.infer.arrays import array_scene
from unclouded.infer.plan import make_plan
from unclouded.infer.predict import read_input
from unclouded.infer.runner import find_model, load_runner
from unclouded.models.card import ModelCard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=12, help="images of each set, at most")
    arguments = parser.parse_args()
    samples = {name: list(islice(read(arguments.data), arguments.images)) for name, read in SETS.items()}
    models = {"float32": "default", "int8": str(quantised(arguments.work, samples))}

    image, names = scene(arguments.size), [band.name for band in sensors.load(SENSOR).bands]
    spent: dict[str, list[float]] = {kind: [] for kind in models}
    classes: dict[str, NDArray[np.uint8]] = {}
    for number in range(arguments.rounds + 1):
        for kind, model in models.items():

            def run(array: NDArray[np.float32], kind: str = kind, model: str = model) -> NDArray[Any]:
                classes[kind] = unclouded.predict(array, names, sensor=SENSOR, model=model).classes
                return classes[kind]

            seconds = cost(run, image)[0]
            if number:  # the first loads the model
                spent[kind].append(seconds)
    for kind, rows in spent.items():
        print(f"{kind}: {median(rows):.3f} CPU-s/MP ({min(rows):.3f}-{max(rows):.3f})")
    print(f"the same class: {(classes['int8'] == classes['float32']).mean():.2%} of the simulated pixels\n")

    print("| images | cloud IoU float32 | cloud IoU int8 | the same class |\n|---|---|---|---|")
    for name, images in samples.items():
        totals = {kind: np.zeros(4, np.int64) for kind in models}
        same: list[float] = []
        for sample in images[1::2]:
            found = {kind: ours(sample, model) for kind, model in models.items()}
            for kind, codes in found.items():
                totals[kind] += counts(sample, codes)["cloud"]
            same.append(float((found["int8"] == found["float32"]).mean()))
        if same:
            scores = " | ".join(f"{iou(total):.4f}" for total in totals.values())
            print(f"| {name}, {len(same)} | {scores} | {np.mean(same):.2%} |")


def ours(sample: Sample, model: str) -> NDArray[np.uint8]:
    """Classes of one image."""
    bands = [(band.min_nm, band.max_nm) for band in sample.bands]
    image = sample.image.astype(np.float32)
    return unclouded.predict(image, bands, resolution_m=sample.gsd_m, level=sample.level, model=model).classes


class Ranges(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of the network, from which the ranges of its activations are taken."""

    def __init__(self, samples: Iterator[Sample], card: ModelCard) -> None:
        self._inputs = (inputs(sample, card) for sample in samples)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input, None at the end."""
        return next(self._inputs, None)


def inputs(sample: Sample, card: ModelCard) -> dict[str, NDArray[np.float32]]:
    """What the network is given of one image."""
    pixels = sample.image.astype(np.float32)
    made = array_scene(
        pixels, sample.bands, sensor="generic", level=sample.level, resolution_m=sample.gsd_m, nodata=None
    )
    plan = make_plan(made, card)
    rows, cols = (size // card.stride * card.stride for size in plan.model_grid.shape)
    image, _ = read_input(made, plan.model_grid[:rows, :cols], [band.name for band in plan.bands], plan.normaliser())
    descriptors = plan.descriptors()
    assert descriptors is not None
    return {"image": image[np.newaxis], "descriptors": descriptors[np.newaxis]}


def quantised(folder: Path, samples: dict[str, list[Sample]]) -> Path:
    """A model folder with the quantised network."""
    import onnx

    files, card = find_model("default"), load_runner("default").card
    folder.mkdir(parents=True, exist_ok=True)
    whole, target = folder / "whole.onnx", folder / "int8" / "int8.onnx"
    target.parent.mkdir(exist_ok=True)
    quant_pre_process(str(files.weights), str(whole), skip_symbolic_shape=True)
    front = [node.name for node in onnx.load(str(whole)).graph.node if node.name.startswith(("/front", "/presence"))]
    quantize_static(
        str(whole),
        str(target),
        Ranges((sample for images in samples.values() for sample in images[::2]), card),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Add", "Relu", "Resize", "DepthToSpace"],
        nodes_to_exclude=front,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    whole.unlink()
    shutil.copy(files.card, target.with_suffix(".json"))
    told = ModelCard.load(target.with_suffix(".json"))
    sums = {"onnx": hashlib.sha256(target.read_bytes()).hexdigest()}
    told.model_copy(update={"name": "int8", "sha256": sums}).save(target.with_suffix(".json"))
    return target.parent


if __name__ == "__main__":
    main()
