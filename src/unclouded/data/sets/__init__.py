"""Public data sets, one per file, under one registry.

A data set file holds one class derived from :class:`DataSet` and registered with ``@register``; nothing else has to
be edited: the contract tests and ``unclouded datasets`` find it by themselves. No torch here.

    names()                     every registered data set
    get("l8biome")              its class
    open_set("l8biome", root)   the data set at a folder, checked
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any, TypeVar

from ...errors import InputError
from .base import DataSet, Pair, Record, Window, shares, split_by_scene

__all__ = [
    "DataSet", "Pair", "Record", "Window", "get", "names", "open_set", "options", "register", "shares",
    "split_by_scene",
]  # fmt: skip

_REGISTRY: dict[str, type[DataSet]] = {}
_Kind = TypeVar("_Kind", bound=type[DataSet])


def register(kind: _Kind) -> _Kind:
    """Class decorator that enters a data set into the registry under its ``name``."""
    if kind.name in _REGISTRY and _REGISTRY[kind.name].__module__ != kind.__module__:
        raise InputError(
            f"The data set name '{kind.name}' is taken by {_REGISTRY[kind.name].__module__}.",
            expected="Names in the registry are unique.",
            remedy=f"Choose another name in {kind.__module__}.",
        )
    _REGISTRY[kind.name] = kind
    return kind


def names() -> list[str]:
    """Names of all data sets, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY)


def get(name: str) -> type[DataSet]:
    """The class of a data set; ``-`` and ``_`` are the same in names.

    Raises:
        InputError: there is no data set of that name.
    """
    known = names()
    for registered in known:
        if registered.replace("_", "-") == name.replace("_", "-"):
            return _REGISTRY[registered]
    raise InputError(
        f"There is no data set called '{name}'.",
        expected=f"Data sets are {', '.join(known)}.",
        remedy="Choose one of these: unclouded datasets list",
    )


def options(name: str) -> dict[str, Any]:
    """The options of a data set, with the value that each has unless another is given.

    Raises:
        InputError: there is no data set of that name.
    """
    out: dict[str, Any] = {}
    for kind in get(name).__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(kind).parameters.values())
        passes_on = any(one.kind is one.VAR_KEYWORD for one in parameters)
        out |= {one.name: one.default for one in parameters if one.name != "root" and one.kind is not one.VAR_KEYWORD}
        if not passes_on:
            break
    return out


def open_set(name: str, root: str | Path, **chosen: Any) -> DataSet:
    """The data set ``name`` found at the folder ``root``.

    Args:
        name: one of :func:`names`.
        root: folder that holds the data set.
        chosen: options of the data set, see :func:`options`.

    Raises:
        InputError: unknown name or option, or the folder does not hold the data set.
    """
    known = options(name)
    for option in chosen:
        if option not in known:
            raise InputError(
                f"The data set '{name}' has no option '{option}'.",
                expected=f"Its options are {', '.join(known)}." if known else "It has no options.",
                remedy="Leave it out, or choose one of these.",
            )
    return get(name)(Path(root), **chosen)
