"""Files of weights from elsewhere, read without executing anything in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..errors import ModelError

_STATES = ("state_dict", "model_state_dict", "model", "weights")
"""Entries under which training programs keep the tensors."""


_ASKED_FOR = re.compile(r"GLOBAL (\S+)")
"""How torch names the object that a file wants to make."""

_UNREADABLE: tuple[type[Exception], ...] = (
    pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError,
    AssertionError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip
"""What torch and safetensors raise at files that are damaged, or of another kind."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by their published names. Nothing in the file is ever executed.

    Args:
        path: a ``.safetensors`` file, or a file of ``torch.save`` (``.pt``, ``.pth``, ``.ckpt``) that holds a state
            dict, alone or beside other plain values.

    Raises:
        ModelError: the file cannot be read, holds objects that would have to be executed, or has no tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of formats that it goes on to refuse
                found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as err:
        raise ModelError(
            f"The checkpoint {path} cannot be read: {err.strerror or err}.",
            expected="It is a file of weights, .pt, .pth, .ckpt or .safetensors.",
            remedy="Check the path.",
        ) from err
    except _UNREADABLE as err:
        if asked := _ASKED_FOR.search(str(err)):
            raise ModelError(
                f"The checkpoint {path} asks for {asked[1]}, which is neither a tensor nor a plain value.",
                expected="Only these are read: anything else in such a file is a program that reading would run.",
                remedy="If you trust the file, load it where it was made and save its tensors alone:"
                " torch.save(model.state_dict(), 'weights.pt').",
            ) from err
        raise ModelError(
            f"The checkpoint {path} is damaged or of another kind ({_gist(err)}).",
            expected="It is a safetensors file, or a file of torch.save with a state dict; TorchScript is not read.",
            remedy="Download it again, or save the network's tensors: torch.save(model.state_dict(), 'weights.pt').",
        ) from err
    for name in _STATES:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    tensors = {}
    if isinstance(found, Mapping):
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f"The checkpoint {path} holds no tensors by name.",
            expected=f"They stand at the top of the file, or under one of {', '.join(_STATES)}.",
            remedy="Save the network's tensors: torch.save(model.state_dict(), 'weights.pt').",
        )
    return tensors


def size_of(tensors: Mapping[str, Tensor], name: str, axis: int) -> int:
    """Length of one axis of an entry.

    Raises:
        ModelError: there is no such entry.
    """
    if name not in tensors or tensors[name].ndim <= axis:
        raise ModelError(
            f"The checkpoint has no entry '{name}' that tells the network's size.",
            expected="It holds all parameters of the published network.",
            remedy="Check that the file is complete and of the kind that was named.",
        )
    return int(tensors[name].shape[axis])


def _gist(err: Exception) -> str:
    """The first sentence of a library's message."""
    text = str(err).partition("WeightsUnpickler error: ")[2] or str(err)
    line = next((line for line in text.splitlines() if line.strip()), "")
    return f"{type(err).__name__}: {line.split('. ')[0].strip().rstrip('.')}".rstrip(": ")
