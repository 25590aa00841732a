"""Runs a network with onnxruntime on the CPU: the base install needs no torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.card import ModelCard
from .runner import descriptor_length, input_names, read_weights, result_name, result_names, second_input

try:  # onnxruntime exports its exceptions nowhere else
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    BROKEN: tuple[type[Exception], ...] = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, RuntimeError)
except ImportError:
    BROKEN = (RuntimeError,)


class OnnxRunner:
    """A network in an onnxruntime session, see :class:`unclouded.infer.runner.Runner`.

    Args:
        card: the model's card.
        weights: path of the ``.onnx`` file.
        threads: CPU threads.

    Raises:
        ModelError: the file is damaged, is not the one of the card, or has other inputs and outputs than expected.
    """

    def __init__(self, card: ModelCard, weights: Path, threads: int) -> None:
        content, self.sha256 = read_weights(weights, card)
        self.card = card
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A pattern would come on top of what the first run of a shape allocated, and is no faster.
        options.enable_mem_pattern = False
        # Waiting threads must not burn the core that decodes the next rows.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except BROKEN as err:
            raise ModelError(
                f"onnxruntime cannot load {weights}: {_first_line(err)}.",
                expected="The file is an ONNX network of operator set 17 or another that onnxruntime knows.",
                remedy="Export the model again, or update onnxruntime.",
            ) from err
        self._check(weights)
        # The arena gives back what a run needed: it would keep the blocks of every tile shape otherwise.
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._users = 0
        self._lock = threading.Lock()

    def run(self, image: NDArray[np.float32], second: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The network's result for a batch, see :class:`unclouded.infer.runner.Runner`."""
        feed = {"image": np.ascontiguousarray(image)}
        name = second_input(self.card)
        if name is not None and second is not None:
            feed[name] = np.ascontiguousarray(second)
        options = None if self._users else self._shrinking
        out: NDArray[np.float32] = self._session.run([result_name(self.card)], feed, options)[0]
        return out

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """See :class:`unclouded.infer.runner.Runner`.

        Fresh memory for every run takes a third of the network's time.
        """
        if self.card.tile is not None:  # a run that only gives memory back would be as large as any
            yield
            return
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
            if not self._users:
                self._session.run(None, self._smallest(), self._shrinking)

    def restore(
        self,
        image: NDArray[np.float32],
        sar: NDArray[np.float32] | None = None,
        hidden: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What a removal network makes of a batch, see :class:`unclouded.infer.runner.Runner`."""
        given = {"image": image, "sar": sar, "hidden": hidden}
        feed = {name: np.ascontiguousarray(given[name]) for name in input_names(self.card)}
        image, *error = self._session.run(result_names(self.card), feed, self._shrinking)
        return image, error[0] if error else None

    def _smallest(self) -> dict[str, NDArray[np.float32]]:
        """Zeros of the least size that the network takes."""
        feed = {}
        for node in self._session.get_inputs():
            least = [1, 1] + [self.card.stride] * (len(node.shape) - 2)
            feed[node.name] = np.zeros(
                [size if isinstance(size, int) else small for size, small in zip(node.shape, least, strict=True)],
                np.float32,
            )
        return feed

    def _check(self, weights: Path) -> None:
        """Compare inputs and output with what the caller will give and take."""
        card = self.card
        side = {} if card.tile is None else {2: card.tile, 3: card.tile}
        fixed = {1: len(card.bands)} if card.bands else {}
        wanted: dict[str, tuple[str, int, dict[int, int]]] = {
            "image": ("tensor(float)", 4, fixed | side),
            result_name(card): ("tensor(float)", 4, {1: len(card.classes) or len(card.bands)} | side),
        }
        if second_input(card) == "descriptors":
            wanted["descriptors"] = ("tensor(float)", 3, {2: descriptor_length(card)})
        elif second_input(card) == "sar":
            wanted["sar"] = ("tensor(float)", 4, {1: len(card.sar)} | side)
        if card.marks:
            wanted["hidden"] = ("tensor(float)", 4, {1: 2} | side)
        if "log_scale" in result_names(card):
            wanted["log_scale"] = ("tensor(float)", 4, {1: 1} | side)
        nodes = {node.name: node for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        problem = ""
        if nodes.keys() != wanted.keys():
            problem = f"has the inputs and outputs {', '.join(nodes)}"
        for name, (kind, dimensions, sizes) in wanted.items() if not problem else ():
            node = nodes[name]
            if node.type != kind or len(node.shape) != dimensions:
                problem = f"has {name} of type {node.type} and shape {node.shape}"
            for axis, size in sizes.items():
                if not problem and isinstance(node.shape[axis], int) and node.shape[axis] != size:
                    problem = f"has {node.shape[axis]} where {size} are expected along axis {axis} of {name}"
        if problem:
            raise ModelError(
                f"The network {weights} {problem}.",
                expected=f"By its card its inputs and output are {', '.join(wanted)}, all float32: {_shapes(wanted)}.",
                remedy="Export it with unclouded.train.export.export, which checks this.",
            )


def _shapes(wanted: dict[str, tuple[str, int, dict[int, int]]]) -> str:
    """Shapes as text, e.g. ``image (?, 13, ?, ?)``."""
    rows = []
    for name, (_, dimensions, sizes) in wanted.items():
        rows.append(f"{name} ({', '.join(str(sizes.get(axis, '?')) for axis in range(dimensions))})")
    return ", ".join(rows)


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0].rstrip(".")
