"""Networks, one system per file, under one registry and one call.

``create(name, ...)`` imports the model files (and torch with them) only when it is called. A model file
registers its class with ``@register("name")``; nothing else has to be edited.

Every model is a ``torch.nn.Module`` with

    forward(image, descriptors=None) -> logits
        image        (n, b, h, w) float32 reflectance, 0 where missing
        descriptors  (n, b, d) float32 for sensor-independent models, see unclouded.descriptors
        logits       (n, k, h, w), the size of the image

    outputs(image, descriptors=None) -> dict
        the same under the key "logits", with whatever else the training losses need

Networks that rebuild what clouds hide say so with ``task = "removal"``. They have

    forward(image, sar=None) -> restored image (n, b, h, w), any size
        image        (n, b, h, w) float32 reflectance with clouds
        sar          (n, s, h, w) float32 backscatter brought to 0..1, where the network was made for radar

    outputs(image, sar=None) -> dict    the same under "image", with the results of earlier stages
    targets(image) -> dict              what each of these is compared with, from the cloud-free image
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import MissingDependencyError, ModelError

if TYPE_CHECKING:
    from torch import nn

_REGISTRY: dict[str, Callable[..., Any]] = {}
_Maker = TypeVar("_Maker", bound=Callable[..., Any])


def register(name: str) -> Callable[[_Maker], _Maker]:
    """Class decorator that enters a model into the registry under ``name``."""

    def enter(maker: _Maker) -> _Maker:
        if name in _REGISTRY and _REGISTRY[name].__module__ != maker.__module__:
            raise ModelError(
                f"The model name '{name}' is taken by {_REGISTRY[name].__module__}.",
                expected="Names in the registry are unique.",
                remedy=f"Choose another name in {maker.__module__}.",
            )
        _REGISTRY[name] = maker
        return maker

    return enter


def names() -> list[str]:
    """Names of all registered models, sorted.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    _import_all()
    return sorted(_REGISTRY)


def create(name: str, **options: Any) -> nn.Module:
    """A new network with random weights.

    Args:
        name: one of :func:`names`.
        **options: the model's own options, e.g. ``bands=13, classes=4``.

    Raises:
        MissingDependencyError: torch is not installed.
        ModelError: no model has that name.
    """
    _import_all()
    if name not in _REGISTRY:
        raise ModelError(
            f"There is no model called '{name}'.",
            expected=f"Models are {', '.join(sorted(_REGISTRY))}.",
            remedy="Choose one of these.",
        )
    return _REGISTRY[name](**options)


def _import_all() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError.for_extra("torch", "torch") from err
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
