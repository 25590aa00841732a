"""Landsat metadata: MTL files as text (ODL), XML or JSON, of every age, as groups of keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from ..errors import InputError
from .files import Files, finite, local_name

Groups = dict[str, dict[str, str]]
"""Group name -> key -> value, both in capitals; values are text without quotes."""

_KEY = re.compile(r"[A-Za-z0-9_]+")
NAME = re.compile(r"(?:^|_)MTL\.(?:txt|xml|json)$", re.IGNORECASE)
"""Names of MTL files."""


def read_mtl(files: Files, name: str) -> Groups:
    """Read a metadata file.

    Args:
        files: the product's files.
        name: the MTL file among them.

    Raises:
        InputError: the file is damaged, or is no MTL file.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json":
        groups = _from_tree(files.json(name))
    elif suffix == ".xml":
        groups = _from_xml(files.xml(name))
    else:
        groups = parse_odl(files.text(name))
    if not any("SPACECRAFT_ID" in keys for keys in groups.values()):
        raise InputError(
            f"'{name}' in {files.root} does not name the spacecraft.",
            expected="A Landsat MTL file has the key SPACECRAFT_ID.",
            remedy="Download the product again; the file is damaged.",
        )
    return groups


def parse_odl(text: str) -> Groups:
    """Groups of the text form; anything after END, such as padding, is left out.

    >>> parse_odl('GROUP = A\\n  KEY = "value"\\nEND_GROUP = A\\nEND\\n')
    {'A': {'KEY': 'value'}}
    """
    groups: Groups = {}
    current: list[str] = []
    for line in text.replace("\x00", "").splitlines():
        if line.strip().upper() == "END":
            break
        left, equals, right = line.partition("=")
        key, value = left.strip().upper(), right.strip().strip('"')
        if not equals or not _KEY.fullmatch(key):
            continue
        if key == "GROUP":
            current.append(value.upper())
        elif key == "END_GROUP":
            if current:
                current.pop()
        elif current:
            groups.setdefault(current[-1], {})[key] = value
    return groups


def _from_xml(root: Element) -> Groups:
    return {
        local_name(group).upper(): {local_name(entry).upper(): (entry.text or "").strip() for entry in group}
        for group in root
    }


def _from_tree(tree: Any) -> Groups:
    while isinstance(tree, Mapping) and len(tree) == 1 and isinstance(next(iter(tree.values())), Mapping):
        tree = next(iter(tree.values()))
    if not isinstance(tree, Mapping):
        return {}
    return {
        str(name).upper(): {str(key).upper(): str(value) for key, value in group.items()}
        for name, group in tree.items()
        if isinstance(group, Mapping)
    }


def find(groups: Groups, key: str, *names: str) -> str | None:
    """Value of a key in the first group that has it; of ``names`` in that order, or of all."""
    for name in names or tuple(groups):
        value = groups.get(name, {}).get(key)
        if value not in (None, "", "NULL"):
            return value
    return None


def number(groups: Groups, key: str, *names: str) -> float | None:
    """A value as a number, or None where it is not there.

    Raises:
        InputError: it is there and is no finite number.
    """
    text = find(groups, key, *names)
    if text is None:
        return None
    try:
        return finite(text)
    except ValueError as err:
        raise InputError(
            f"The metadata says {key} = '{text}'.",
            expected="A finite number is expected.",
            remedy="Download the product again; the file is damaged.",
        ) from err
