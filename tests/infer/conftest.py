"""A small ONNX model of known behaviour, so that tests of inference do not depend on the shipped weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unclouded.classes import SEVEN
from unclouded.descriptors import SLOTS
from unclouded.models.card import Calibration, ModelCard

WIDTH = 2 * 3 + 1
"""The tiny network looks at 7 x 7 pixels."""


def tiny_graph(descriptors: int = len(SLOTS), classes: int = len(SEVEN)) -> onnx.ModelProto:
    """Bands placed by their descriptors, then one 7 x 7 convolution to the logits."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.6, (classes, descriptors, WIDTH, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("Einsum", ["descriptors", "image"], ["placed"], equation="nbs,nbhw->nshw"),
        helper.make_node("Conv", ["placed", "kernel", "bias"], ["logits"], pads=[WIDTH // 2] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", "b", "h", "w"]),
            helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", "b", descriptors]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes, "h", "w"])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(rng.normal(0, 0.5, classes).astype(np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder; keywords change the card."""

    def make(name: str = "tiny", graph: onnx.ModelProto | None = None, **card: Any) -> Path:
        folder = tmp_path / f"model-{name}"
        folder.mkdir()
        weights = folder / f"{name}.onnx"
        if graph is None:
            front, percentiles = card.get("front_end", "slots"), card.get("percentiles", False)
            graph = tiny_graph(len(SLOTS) if front == "slots" else 79 if percentiles else 74)
        onnx.save(graph, str(weights))
        settings: dict[str, Any] = {
            "name": name,
            "title": "Tiny network for tests",
            "version": "1",
            "architecture": "none",
            "front_end": "slots",
            "classes": SEVEN,
            "licence": "Apache-2.0",
            "parameters": 1,
            "calibration": {"default": Calibration(temperature=1.5)},
            "sha256": {"onnx": hashlib.sha256(weights.read_bytes()).hexdigest()},
        }
        ModelCard(**{**settings, **card}).save(folder / f"{name}.json")
        return folder

    return make


@pytest.fixture
def tiny(make_model: Callable[..., Path]) -> Path:
    """Folder of the tiny model."""
    return make_model()
