"""Export: a trained network to safetensors and ONNX with its card, checked equal to torch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..descriptors import SLOTS
from ..errors import MissingDependencyError, ModelError
from ..infer.runner import descriptor_length, input_names, result_names, second_input
from ..models.card import ModelCard

EQUAL_WITHIN = 1e-4
"""Largest difference between the results of torch and ONNX, relative to their largest magnitude."""

ONE_SIZE = 512
"""Sides of the images, at most, that an ONNX file takes whose network exports at one size only."""

_log = logging.getLogger("unclouded")


def example_inputs(card: ModelCard, n: int, bands: int, rows: int, cols: int) -> tuple[Tensor, ...]:
    """Random inputs of the right shapes: an image (n, b, h, w), and what the network takes beside it.

    Args:
        card: the network's card; fixed bands override ``bands``.
        n, bands, rows, cols: sizes.

    >>> card = ModelCard(name="x", title="X", version="1", architecture="slots-unet", front_end="slots",
    ...                  classes=("clear", "cloud"), licence="none", parameters=1)
    >>> [tuple(one.shape) for one in example_inputs(card, 2, 4, 64, 96)]
    [(2, 4, 64, 96), (2, 4, 10)]
    """
    bands = len(card.bands) or bands
    rng = np.random.default_rng(bands * 1000 + rows)
    image = torch.from_numpy(rng.uniform(0.0, 0.8, (n, bands, rows, cols)).astype(np.float32))
    second = second_input(card)
    if second != "descriptors":
        given = [image]
        if second == "sar":
            given.append(torch.from_numpy(rng.uniform(0.0, 1.0, (n, len(card.sar), rows, cols)).astype(np.float32)))
        if card.marks:
            given.append(torch.from_numpy(rng.integers(0, 2, (n, 2, rows, cols)).astype(np.float32)))
        return tuple(given)
    descriptors = rng.uniform(-1, 1, (n, bands, descriptor_length(card))).astype(np.float32)
    if card.front_end == "slots":
        descriptors = np.zeros_like(descriptors)
        for band in range(bands):
            descriptors[:, band, band % len(SLOTS)] = 1.0
        descriptors /= np.maximum(descriptors.sum(axis=1, keepdims=True), 1.0)
    return image, torch.from_numpy(descriptors)


def export(net: nn.Module, card: ModelCard, folder: Path, *, onnx: bool = True) -> ModelCard:
    """Write ``<name>.safetensors``, ``<name>.onnx`` and ``<name>.json`` into a folder.

    Args:
        net: the network in eval mode, on the CPU.
        card: its card; checksums, the number of parameters and, for networks that export at one size only, the tile
            are filled in.
        folder: where the files go; files of the same name are replaced.
        onnx: also write the ONNX file. Without it the model runs with torch only.

    Returns:
        The completed card.

    Raises:
        ModelError: the network has no ONNX form, or ONNX and torch disagree.
        MissingDependencyError: the ONNX file is wanted, and the package onnx is not installed.
    """
    from safetensors.torch import save_file

    net = net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    card = card.model_copy(update={"parameters": sum(p.numel() for p in net.parameters())})
    if onnx and card.tile is None and not getattr(net, "any_size", True):
        card = card.model_copy(update={"tile": ONE_SIZE // card.stride * card.stride})
    text = card.model_dump_json(exclude={"sha256"})
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        weights, graph = Path(scratch) / "weights", Path(scratch) / "graph.onnx"
        # Clones, because entries that share memory are refused.
        state = {key: value.contiguous().clone() for key, value in net.state_dict().items()}
        save_file(state, str(weights), metadata={"card": text})
        made = {"safetensors": weights}
        if onnx:
            _write_graph(net, card, graph, text)
            made["onnx"] = graph
        sums = {}
        for suffix, path in made.items():
            sums[suffix] = hashlib.sha256(path.read_bytes()).hexdigest()
            path.chmod(0o644)
            os.replace(path, folder / f"{card.name}.{suffix}")
    if not onnx:  # what an earlier export left would not be this network
        (folder / f"{card.name}.onnx").unlink(missing_ok=True)
    card = card.model_copy(update={"sha256": sums})
    card.save(folder / f"{card.name}.json")
    return card


def _write_graph(net: nn.Module, card: ModelCard, path: Path, text: str) -> None:
    try:
        import onnx
    except ImportError as err:
        raise MissingDependencyError.for_extra("onnx", "torch") from err

    given = example_inputs(card, *_cases(card)[0])
    names, results = input_names(card), result_names(card)
    axes = {name: {0: "n", 2: "h", 3: "w"} for name in (*names, *results)}
    if "descriptors" in names:
        axes["image"][1], axes["descriptors"] = "b", {0: "n", 1: "b"}
    if card.task == "removal":
        net = _Removal(net, card).eval()  # the exporter puts back the mode of the outermost module
    said = io.StringIO()
    try:
        # The exporter prints the whole graph when it fails, and warns of every size that it takes as constant; that
        # the result is right at other sizes is checked below.
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net, given, str(path), input_names=names, output_names=results,
                dynamic_axes=axes if card.tile is None else None, opset_version=17, dynamo=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as err:
        _log.debug("%s", said.getvalue())
        raise ModelError(
            f"The network '{card.architecture}' has no ONNX form: {(str(err).strip().splitlines() or ['?'])[0]}",
            expected="Every part of the network is an operation of ONNX operator set 17.",
            remedy="Write it without ONNX, and run it with torch, or put the part differently.",
        ) from err
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {"card": text})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    _same(net, path, card)


class _Removal(nn.Module):
    """A removal network with the inputs and outputs that its card names, in their order."""

    def __init__(self, net: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.net = net
        self.inputs, self.results = input_names(card)[1:], result_names(card)

    def forward(self, image: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        found = self.net.outputs(image, **dict(zip(self.inputs, others, strict=True)))  # type: ignore[operator]
        return tuple(found["image" if name == "restored" else name] for name in self.results)


def _cases(card: ModelCard) -> list[tuple[int, int, int, int]]:
    """Batch, bands, rows and columns of the example, and of what is compared."""
    if card.tile is not None:
        return [(1, 1, card.tile, card.tile)]
    unit = -(-32 // card.stride) * card.stride
    return [(2, 4, 2 * unit, 3 * unit), (1, 2, 2 * unit, 2 * unit), (2, 6, 3 * unit, 5 * unit), (1, 13, 4 * unit, unit)]


def _same(net: nn.Module, path: Path, card: ModelCard) -> None:
    """Compare torch and ONNX on images that the export has not seen."""
    import onnxruntime

    from ..infer.onnx_runner import BROKEN

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n, bands, rows, cols in _cases(card)[1:] or _cases(card):
        given = tuple(1.0 - one if one.ndim == 4 else one for one in example_inputs(card, n, bands, rows, cols))
        with torch.no_grad():
            told = net(*given)
        expected = [one.numpy() for one in (told if isinstance(told, tuple) else (told,))]
        feed = {node.name: one.numpy() for node, one in zip(session.get_inputs(), given, strict=True)}
        try:
            got = session.run(None, feed)
        except BROKEN:
            got = []  # sizes inside that do not fit
        fits = [one.shape for one in got] == [one.shape for one in expected]
        differences = (float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, expected, strict=False))
        worst = max(differences) if fits else float("inf")
        if not worst <= EQUAL_WITHIN:
            raise ModelError(
                f"The exported network differs from torch by {worst:.2g} for {given[0].shape[1]} bands of"
                f" {rows} x {cols} pixels.",
                expected=f"Both agree within {EQUAL_WITHIN:g} of the largest value.",
                remedy="Look for an operation whose export depends on the example's size; a network that exports at one"
                " size only says so with any_size = False.",
            )
