"""Imports of timm, segmentation-models-pytorch and transformers, made to work where torchvision's binary part does not.

timm imports torchvision. The torchvision wheel that fits a CPU build of torch is built for CUDA: its binary part does
not load, the operators ``nms`` and ``qnms`` are never defined, and importing torchvision fails while it describes
them. None of them is used here. :func:`import_torchvision` defines the two names, without a body, only where the import
fails for exactly this reason; calling them still fails, and a complete torchvision is left as it is.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types

import torch

from ..errors import MissingDependencyError

_EXTRA = "baselines"
_MISSING = "torchvision::nms does not exist"


@functools.cache
def import_torchvision() -> types.ModuleType:
    """torchvision, with its two unconditional operators defined where its binary part is missing.

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as err:
        raise MissingDependencyError.for_extra("torchvision", _EXTRA) from err
    except RuntimeError as err:
        if _MISSING not in str(err):
            raise
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]  # half imported
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")


def import_timm() -> types.ModuleType:
    """timm.

    Raises:
        MissingDependencyError: timm or torchvision is not installed.
    """
    return _after_torchvision("timm")


def import_smp() -> types.ModuleType:
    """segmentation-models-pytorch.

    Raises:
        MissingDependencyError: it, timm or torchvision is not installed.
    """
    return _after_torchvision("segmentation_models_pytorch")


def import_transformers() -> types.ModuleType:
    """transformers, which looks for torchvision by itself and has to find it usable.

    Raises:
        MissingDependencyError: transformers is not installed.
    """
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return _optional("transformers")


def _after_torchvision(name: str) -> types.ModuleType:
    import_torchvision()
    return _optional(name)


def _optional(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise MissingDependencyError.for_extra(err.name or name, _EXTRA) from err
