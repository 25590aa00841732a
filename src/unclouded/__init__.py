"""unclouded finds clouds and their shadows in optical satellite scenes from any sensor, with calibrated uncertainty.

>>> import unclouded
>>> unclouded.Options(tile=512).tile
512
>>> unclouded.decode("scl", [[0, 4, 9, 10, 3]])
array([[255,   0,   1,   2,   3]], dtype=uint8)
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import Prediction, mask, predict
    from .classes import CLASSES, NO_DATA, OutputClass
    from .comparison import Comparison, compare
    from .compositing import Composited, composite
    from .decoders import decode
    from .errors import (
        InputError,
        MissingDependencyError,
        ModelError,
        OutputError,
        RadiometryError,
        RadiometryWarning,
        UncloudedError,
        UncloudedWarning,
    )
    from .options import Options
    from .readers import open_scene
    from .removal import Removal, Restored, remove, restore
    from .remove_options import RemoveOptions
    from .result import Result
    from .scene import Band, Radiometry, Scene

_HOME = {
    **dict.fromkeys(("Prediction", "mask", "predict"), "api"),
    **dict.fromkeys(("CLASSES", "NO_DATA", "OutputClass"), "classes"),
    **dict.fromkeys(("Comparison", "compare"), "comparison"),
    **dict.fromkeys(("Composited", "composite"), "compositing"),
    "decode": "decoders",
    **dict.fromkeys(
        (
            "InputError",
            "MissingDependencyError",
            "ModelError",
            "OutputError",
            "RadiometryError",
            "RadiometryWarning",
            "UncloudedError",
            "UncloudedWarning",
        ),
        "errors",
    ),
    "Options": "options",
    "open_scene": "readers",
    **dict.fromkeys(("Removal", "Restored", "remove", "restore"), "removal"),
    "RemoveOptions": "remove_options",
    "Result": "result",
    **dict.fromkeys(("Band", "Radiometry", "Scene"), "scene"),
}
"""Public names and the modules that define them; a module is imported when its first name is asked for."""

__all__ = [
    "CLASSES",
    "NO_DATA",
    "Band",
    "Comparison",
    "Composited",
    "InputError",
    "MissingDependencyError",
    "ModelError",
    "Options",
    "OutputClass",
    "OutputError",
    "Prediction",
    "Radiometry",
    "RadiometryError",
    "RadiometryWarning",
    "Removal",
    "RemoveOptions",
    "Restored",
    "Result",
    "Scene",
    "UncloudedError",
    "UncloudedWarning",
    "__version__",
    "compare",
    "composite",
    "decode",
    "mask",
    "open_scene",
    "predict",
    "remove",
    "restore",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
