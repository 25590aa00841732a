"""Export: a trained network to safetensors and ONNX with its card, checked equal to torch."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..descriptors import SLOTS
from ..errors import ModelError
from ..infer.runner import descriptor_length
from ..models.card import ModelCard

EQUAL_WITHIN = 1e-4
"""Largest difference between the logits of torch and ONNX, relative to their largest magnitude."""


def example_inputs(card: ModelCard, n: int, bands: int, rows: int, cols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random inputs of the right shapes: image (n, b, h, w) and descriptors (n, b, d)."""
    rng = np.random.default_rng(bands * 1000 + rows)
    image = rng.uniform(0.0, 0.8, (n, bands, rows, cols)).astype(np.float32)
    descriptors = rng.uniform(-1, 1, (n, bands, descriptor_length(card))).astype(np.float32)
    if card.front_end == "slots":
        descriptors = np.zeros_like(descriptors)
        for band in range(bands):
            descriptors[:, band, band % len(SLOTS)] = 1.0
        descriptors /= np.maximum(descriptors.sum(axis=1, keepdims=True), 1.0)
    return torch.from_numpy(image), torch.from_numpy(descriptors)


def export(net: nn.Module, card: ModelCard, folder: Path) -> ModelCard:
    """Write ``<name>.safetensors``, ``<name>.onnx`` and ``<name>.json`` into a folder.

    Args:
        net: the network in eval mode, on the CPU.
        card: its card; checksums and the number of parameters are filled in.
        folder: where the three files go; files of the same name are replaced.

    Returns:
        The completed card.

    Raises:
        ModelError: ONNX and torch disagree.
    """
    import onnx
    from safetensors.torch import save_file

    net = net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    card = card.model_copy(update={"parameters": sum(p.numel() for p in net.parameters())})
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        weights, graph = Path(scratch) / "weights", Path(scratch) / "graph.onnx"
        state = {key: value.contiguous() for key, value in net.state_dict().items()}
        text = card.model_dump_json(exclude={"sha256"})
        save_file(state, str(weights), metadata={"card": text})
        image, descriptors = example_inputs(card, 2, 4, 64, 96)
        names = {"image": {0: "n", 1: "b", 2: "h", 3: "w"}, "descriptors": {0: "n", 1: "b"}}
        torch.onnx.export(
            net,
            (image, descriptors),
            str(graph),
            input_names=["image", "descriptors"],
            output_names=["logits"],
            dynamic_axes={**names, "logits": {0: "n", 2: "h", 3: "w"}},
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(str(graph))
        onnx.helper.set_model_props(model, {"card": text})
        onnx.checker.check_model(model)
        onnx.save(model, str(graph))
        _same(net, graph, card)
        sums = {}
        for made, suffix in ((weights, "safetensors"), (graph, "onnx")):
            sums[suffix] = hashlib.sha256(made.read_bytes()).hexdigest()
            made.chmod(0o644)
            os.replace(made, folder / f"{card.name}.{suffix}")
    card = card.model_copy(update={"sha256": sums})
    card.save(folder / f"{card.name}.json")
    return card


def _same(net: nn.Module, graph: Path, card: ModelCard) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for n, bands, rows, cols in ((1, 2, 64, 64), (2, 6, 96, 160), (1, 13, 128, 32)):
        image, descriptors = example_inputs(card, n, bands, rows, cols)
        with torch.no_grad():
            expected = net(image, descriptors).numpy()
        got = session.run(None, {"image": image.numpy(), "descriptors": descriptors.numpy()})[0]
        worst = float(np.abs(got - expected).max() / np.abs(expected).max())
        if not worst <= EQUAL_WITHIN:
            raise ModelError(
                f"The exported network differs from torch by {worst:.2g} for {bands} bands of {rows} x {cols} pixels.",
                expected=f"Both agree within {EQUAL_WITHIN:g} of the largest logit.",
                remedy="Look for an operation whose export depends on the example's shape.",
            )
