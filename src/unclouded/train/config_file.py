"""The configuration of a training run, read from one YAML file and checked before anything else is done.

A file may say ``extends: NAME``, one of the papers' protocols (:func:`protocols`) or another file beside it; its own
keys then replace those of the protocol.

    extends: mscloudcam
    roots: {cloudsen12: /data/cloudsen12}
    output: runs/mscloudcam
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import InputError, first_fault
from .config import Part, RunConfig

_PROTOCOLS = Path(__file__).parent / "protocols"


def protocols() -> list[str]:
    """Names of the papers' protocols that come with unclouded, sorted.

    >>> "mscloudcam" in protocols()
    True
    """
    return sorted(path.stem for path in _PROTOCOLS.glob("*.yaml"))


def read_config(source: str | os.PathLike[str], changes: Sequence[str] = ()) -> RunConfig:
    """Read and check a configuration.

    Args:
        source: a YAML file, or the name of a protocol.
        changes: ``key=value`` with dots between nested keys, e.g. ``optimiser.rate=1e-3`` or ``data.0.limit=10``;
            values are YAML.

    Raises:
        InputError: the file cannot be read, or holds unknown keys or values out of range.
    """
    path = _find(source, Path.cwd())
    values = _merged(path)
    for change in changes:
        _apply(values, change)
    return make_config(values, str(path))


def make_config(values: Mapping[str, Any], source: str = "the configuration") -> RunConfig:
    """Check a configuration that is given as plain values.

    Raises:
        InputError: it holds unknown keys or values out of range.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        count = f" ({err.error_count()} mistakes in all)" if err.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            known = _keys_beside(first["loc"])
            near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
            raise InputError(
                f"{source} holds the unknown key '{key}'{count}.",
                expected=f"Keys there are {', '.join(known)}.",
                remedy=f"Did you mean '{near[0]}'?" if near else "Correct the key or remove it.",
            ) from err
        missing = first["type"] == "missing"
        fault = f"{key}: it is missing" if missing else first_fault(err)
        raise InputError(
            f"{source} is not a configuration of a training run: {fault}{count}.",
            expected="Keys and values as in the class unclouded.train.config.RunConfig.",
            remedy=f"Add '{key}' to the file, or pass --set {key}=VALUE." if missing else "Correct this key.",
        ) from err


def _find(source: str | os.PathLike[str], beside: Path) -> Path:
    text = os.fspath(source)
    for path in (Path(text).expanduser(), beside / text, _PROTOCOLS / f"{text}.yaml"):
        if path.is_file():
            return path
    raise InputError(
        f"There is no configuration '{text}'.",
        expected=f"It is a YAML file, or one of {', '.join(protocols())}.",
        remedy="Correct the path, or name one of these.",
    )


def _merged(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's values over those that it extends."""
    if path.resolve() in above:
        raise InputError(
            f"The configuration {path} extends itself.",
            expected="'extends' names another file or a protocol.",
            remedy="Remove one of the 'extends' keys.",
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise InputError(
            f"The configuration {path} cannot be read: {' '.join(str(err).split())}.",
            expected="It is a YAML file with keys and values.",
            remedy="Correct the file.",
        ) from err
    if not isinstance(values, dict):
        raise InputError(
            f"The configuration {path} holds {'nothing' if values is None else f'a {type(values).__name__}'}.",
            expected="It holds keys and values, such as 'extends: mscloudcam'.",
            remedy="Correct the file.",
        )
    base = values.pop("extends", None)
    if base is None:
        return values
    return _over(_merged(_find(str(base), path.parent), (*above, path.resolve())), values)


def _over(below: Any, above: Any) -> Any:
    """Mappings merge key by key; anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
    return above


def _apply(values: dict[str, Any], change: str) -> None:
    key, sign, text = change.partition("=")
    place: Any = values
    parts = key.strip().split(".")
    try:
        if not sign or not all(parts):
            raise KeyError(change)
        for part in parts[:-1]:
            if isinstance(place, list):
                place = place[int(part)]
            else:
                if place.get(part) is None:
                    place[part] = {}
                place = place[part]
        value = yaml.safe_load(text)
        if isinstance(place, list):
            place[int(parts[-1])] = value
        else:
            place[parts[-1]] = value
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, yaml.YAMLError) as err:
        raise InputError(
            f"The change '{change}' cannot be made.",
            expected="Changes are key=value with dots between nested keys, places in lists being numbers from 0.",
            remedy="For example: --set optimiser.rate=0.001 --set data.0.limit=10",
        ) from err


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the part that an unknown key was found in."""
    kind: Any = RunConfig
    for part in place[:-1]:
        if isinstance(part, int):
            continue
        kind = _part_of(kind.model_fields[part].annotation)
    return list(kind.model_fields)


def _part_of(annotation: Any) -> Any:
    """The part inside of ``Part``, ``Part | None`` or ``tuple[Part, ...]``."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, Part) else None
    return next((found for one in getattr(annotation, "__args__", ()) if (found := _part_of(one)) is not None), None)
