"""Runs a network with torch: for weights without an ONNX file, and to compare both."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError, ModelError
from ..models import create
from ..models.card import ModelCard
from .runner import input_names, read_weights, result_names


class TorchRunner:
    """A network of the model registry with safetensors weights, see :class:`unclouded.infer.runner.Runner`.

    Args:
        card: the model's card; it names the architecture and its options.
        weights: path of the ``.safetensors`` file.
        threads: CPU threads; torch has one setting for the whole process.
        device: where the network runs, ``cpu`` or ``cuda``.

    Raises:
        ModelError: the weights are damaged, or do not fit the architecture.
        MissingDependencyError: torch is not installed.
    """

    def __init__(self, card: ModelCard, weights: Path, threads: int, device: str = "cpu") -> None:
        try:
            import torch
            from safetensors import SafetensorError
            from safetensors.torch import load
        except ImportError as err:
            raise MissingDependencyError.for_extra("torch", "torch") from err
        content, self.sha256 = read_weights(weights, card)
        self.card = card
        self._device = torch.device(device)
        self._threads = threads
        network = create(card.architecture, **card.options)
        try:
            network.load_state_dict(load(content))
        except (SafetensorError, RuntimeError) as err:
            raise ModelError(
                f"The weights {weights} do not fit the architecture '{card.architecture}':"
                f" {str(err).strip().splitlines()[0]}",
                expected="Weights and card come from the same export.",
                remedy="Export the model again.",
            ) from err
        self._network = network.eval().to(self._device)

    def run(self, image: NDArray[np.float32], second: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The network's result for a batch, see :class:`unclouded.infer.runner.Runner`."""
        import torch

        self._set_threads()
        given = [torch.from_numpy(np.ascontiguousarray(part)) for part in (image, second) if part is not None]
        with torch.inference_mode():
            out: NDArray[np.float32] = self._network(*(part.to(self._device) for part in given)).float().cpu().numpy()
        return out

    def keeping(self) -> AbstractContextManager[None]:
        """Nothing: torch keeps memory as it sees fit."""
        return nullcontext()

    def restore(
        self,
        image: NDArray[np.float32],
        sar: NDArray[np.float32] | None = None,
        hidden: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What a removal network makes of a batch, see :class:`unclouded.infer.runner.Runner`."""
        import torch

        self._set_threads()
        arrays = {"image": image, "sar": sar, "hidden": hidden}
        given = {
            name: torch.from_numpy(np.ascontiguousarray(arrays[name])).to(self._device)
            for name in input_names(self.card)
        }
        with torch.inference_mode():
            found = self._network.outputs(given.pop("image"), **given)  # type: ignore[operator]
        error = found["log_scale"].float().cpu().numpy() if "log_scale" in result_names(self.card) else None
        return found["image"].float().cpu().numpy(), error

    def _set_threads(self) -> None:
        import torch

        if self._device.type == "cpu" and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
