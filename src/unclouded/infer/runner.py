"""Runner: what executes a network, whichever library does it, and how a model's files are found.

A model is a folder with ``<name>.json``, its card, and ``<name>.onnx`` or ``<name>.safetensors`` or both. ONNX runs
with the base install; safetensors weights need torch.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..descriptors import DESCRIPTOR_LENGTH, PERCENTILES, SLOTS, V1_DESCRIPTOR_LENGTH
from ..errors import ModelError
from ..models.card import ModelCard

_SHIPPED = Path(__file__).resolve().parent.parent / "weights"
_SUFFIXES = ("onnx", "safetensors")  # in the order of preference


class Runner(Protocol):
    """A network ready to run.

    Attributes:
        card: the model's card.
        sha256: checksum of the weights in use.
    """

    card: ModelCard
    sha256: str

    def run(self, image: NDArray[np.float32], second: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The network's result for a batch.

        Args:
            image: reflectance, scaled as the card says, (n, b, h, w) float32, 0 where missing; h and w are multiples
                of the card's stride, or its ``tile``.
            second: what :func:`second_input` names: descriptors (n, b, d) float32, see :mod:`unclouded.descriptors`,
                or radar images (n, s, h, w) float32 in 0..1; None where it names nothing.

        Returns:
            Logits (n, k, h, w) float32, free to be overwritten; of a removal network the image (n, b, h, w).
        """
        ...

    def keeping(self) -> AbstractContextManager[None]:
        """Until it is left, the memory that one run needed is kept for the next; at the end it is given back."""
        ...

    def restore(
        self,
        image: NDArray[np.float32],
        sar: NDArray[np.float32] | None = None,
        hidden: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What a removal network makes of a batch.

        Args:
            image: as in :meth:`run`.
            sar: radar images (n, s, h, w) float32 in 0..1, if the card has any.
            hidden: marks (n, 2, h, w) float32, if the card wants them.

        Returns:
            The restored image (n, b, h, w), and the logarithm of its expected absolute error (n, 1, h, w) where the
            card says that the network knows it.
        """
        ...


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        card: path of the card.
        weights: path of the ``.onnx`` or ``.safetensors`` file.
    """

    card: Path
    weights: Path


def shipped() -> list[str]:
    """Names of the models inside the package, sorted.

    >>> "default" in shipped()
    True
    """
    return sorted(path.stem for path in _SHIPPED.glob("*.json"))


def find_model(model: str | os.PathLike[str]) -> ModelFiles:
    """Files of a model.

    Args:
        model: name of a shipped model, or path of a model folder, or of an ``.onnx``, ``.safetensors`` or card file
            with the other files beside it. Where both kinds of weights are present ONNX is taken, unless the
            safetensors file was named.

    Raises:
        ModelError: there is no such model, its card or weights are missing, or a folder holds several models.
    """
    text = os.fspath(model)
    if text in shipped():
        return _beside(_SHIPPED / f"{text}.json")
    path = Path(text).expanduser()
    if path.is_dir():
        cards = sorted(path.glob("*.json"))
        if len(cards) != 1:
            named = ", ".join(card.name for card in cards) or "none"
            raise ModelError(
                f"The model folder {path} holds {len(cards)} cards ({named}).",
                expected="A model folder holds one card, a JSON file beside its weights.",
                remedy="Name the .onnx file itself." if cards else "Copy the card of the model into the folder.",
            )
        return _beside(cards[0])
    if path.suffix == ".json" and path.is_file():
        return _beside(path)
    if path.suffix[1:] in _SUFFIXES:
        return ModelFiles(path.with_suffix(".json"), path)
    raise ModelError(
        f"There is no model called '{text}'.",
        expected=f"A model is one of {', '.join(shipped()) or 'none shipped'}, a model folder, or an .onnx file with"
        " its card.",
        remedy="List the shipped models with: unclouded models list",
    )


def load_runner(model: str | os.PathLike[str] = "default", threads: int = 0) -> Runner:
    """A runner for a model; the same one again as long as its files stay the same.

    Args:
        model: see :func:`find_model`.
        threads: CPU threads; 0 means all cores that this process may use.

    Raises:
        ModelError: files are missing or damaged, or are not a network that masks clouds.
        MissingDependencyError: the model has only safetensors weights, and torch is not installed.
    """
    files = find_model(model)
    stamps = []
    for kind, path in (("card", files.card), ("weights", files.weights)):
        try:
            stat = path.stat()
        except OSError as err:
            raise ModelError(
                f"The model's {kind} file {path} cannot be read: {err.strerror or err}.",
                expected="A model has a card (.json) and weights (.onnx or .safetensors) of the same name.",
                remedy="Export the model again, or name a shipped one: unclouded models list",
            ) from err
        stamps.append((stat.st_mtime_ns, stat.st_size))
    return _load(files, tuple(stamps), threads or cores())


def cores() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def descriptor_length(card: ModelCard) -> int:
    """Columns of the descriptors that the card's network takes; 0 where it takes none."""
    if card.front_end == "senseiv2":
        return DESCRIPTOR_LENGTH + (len(PERCENTILES) if card.percentiles else 0)
    return {"slots": len(SLOTS), "senseiv1": V1_DESCRIPTOR_LENGTH, "bands": 0}[card.front_end]


def second_input(card: ModelCard) -> str | None:
    """What the network takes beside the image: ``descriptors``, ``sar`` or nothing."""
    if card.front_end != "bands":
        return "descriptors"
    return "sar" if card.sar else None


def input_names(card: ModelCard) -> list[str]:
    """All that the network takes, in its order: ``image``, then ``descriptors``, or ``sar`` and ``hidden``."""
    second = second_input(card)
    return ["image"] + ([second] if second else []) + (["hidden"] if card.marks else [])


def result_name(card: ModelCard) -> str:
    """What the network returns: ``logits``, or for removal the ``restored`` image."""
    return "restored" if card.task == "removal" else "logits"


def result_names(card: ModelCard) -> list[str]:
    """All that the network returns: removal networks may add the ``log_scale`` of their errors."""
    known = card.expected_error is not None and card.expected_error.kind == "log-scale"
    return [result_name(card)] + (["log_scale"] if known else [])


def read_weights(path: Path, card: ModelCard) -> tuple[bytes, str]:
    """Content and checksum of a weights file, compared with the card's.

    Raises:
        ModelError: the file cannot be read, or is not the one that the card describes.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise ModelError(
            f"The weights {path} cannot be read: {err.strerror or err}.",
            expected="The weights lie beside the model's card.",
            remedy="Export the model again, or name a shipped one: unclouded models list",
        ) from err
    found = hashlib.sha256(content).hexdigest()
    stated = card.sha256.get(path.suffix[1:])
    if stated is not None and stated != found:
        raise ModelError(
            f"The checksum of {path} is {found[:12]}..., its card says {stated[:12]}....",
            expected="Weights and card come from the same export.",
            remedy="Copy both files again, or reinstall unclouded if this is a shipped model.",
        )
    return content, found


@lru_cache(maxsize=2)
def _load(files: ModelFiles, stamps: tuple[tuple[int, int], ...], threads: int) -> Runner:
    card = ModelCard.load(files.card)
    if files.weights.suffix == ".onnx":
        from .onnx_runner import OnnxRunner

        return OnnxRunner(card, files.weights, threads)
    from .torch_runner import TorchRunner

    return TorchRunner(card, files.weights, threads)


def _beside(card: Path) -> ModelFiles:
    for suffix in _SUFFIXES:
        weights = card.with_suffix(f".{suffix}")
        if weights.is_file():
            return ModelFiles(card, weights)
    raise ModelError(
        f"The model {card.stem} in {card.parent} has no weights.",
        expected=f"{card.stem}.onnx or {card.stem}.safetensors lies beside the card.",
        remedy="Copy the weights there, or export the model again.",
    )
