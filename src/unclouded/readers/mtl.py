"""Landsat metadata as groups of keys: MTL files as text (ODL), XML or JSON, of every age; and the XML of surface
reflectance that was made on order (ESPA).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from ..errors import InputError
from .files import Files, find_all, find_text, finite, local_name

Groups = dict[str, dict[str, str]]
"""Group name -> key -> value, both in capitals; values are text without quotes."""

_KEY = re.compile(r"[A-Za-z0-9_]+")
NAME = re.compile(r"(?:^|_)MTL\.(?:txt|xml|json)$", re.IGNORECASE)
"""Names of MTL files."""

ESPA = re.compile(r"^L[COTEM]\d\w*(?<!_MTL)\.xml$", re.IGNORECASE)
"""Names of the metadata of ordered surface reflectance."""


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


def read_espa(files: Files, name: str) -> Groups:
    """Read the metadata of surface reflectance that was made on order from Collection 1 or before.

    Args:
        files: the product's files.
        name: the XML file among them.

    Returns:
        The same groups and keys as Level 2 of Collection 2; empty where the file is something else.

    Raises:
        InputError: the file is damaged.

    Source:
        USGS, ESPA internal metadata format, versions 1.2 and 2.0.
    """
    root = files.xml(name)
    if local_name(root) != "espa_metadata":
        return {}
    scene = {
        "SPACECRAFT_ID": find_text(root, "satellite"),
        "SENSOR_ID": find_text(root, "instrument"),
        "DATE_ACQUIRED": find_text(root, "acquisition_date"),
        "SCENE_CENTER_TIME": find_text(root, "scene_center_time"),
        # Before Collection 1 products were called as scenes are.
        "LANDSAT_PRODUCT_ID": find_text(root, "product_id") or PurePosixPath(name).stem,
    }
    for sun in find_all(root, "solar_angles"):
        zenith = sun.get("zenith")
        scene["SUN_AZIMUTH"] = sun.get("azimuth")
        scene["SUN_ELEVATION"] = None if zenith is None else str(90.0 - _number(zenith, "solar zenith angle"))
    for wrs in find_all(root, "wrs"):
        scene["WRS_PATH"], scene["WRS_ROW"] = wrs.get("path"), wrs.get("row")
    images: dict[str, str] = {}
    factors: dict[str, str] = {}
    for band in find_all(root, "band"):
        found = re.fullmatch(r"sr_band(\d+)", band.get("name", ""))
        if found is None:
            continue
        images[f"FILE_NAME_BAND_{found[1]}"] = find_text(band, "file_name") or ""
        scale = band.get("scale_factor")
        if scale is not None:
            factors[f"REFLECTANCE_MULT_BAND_{found[1]}"] = scale
            factors[f"REFLECTANCE_ADD_BAND_{found[1]}"] = band.get("add_offset", "0")
    return {
        "IMAGE_ATTRIBUTES": {key: value for key, value in scene.items() if value is not None},
        "PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": str(scene["LANDSAT_PRODUCT_ID"]), **images},
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": factors,
    }


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
    return None if text is None else _number(text, key)


def _number(text: str, what: str) -> float:
    try:
        return finite(text)
    except ValueError as err:
        raise InputError(
            f"The metadata says {what} = '{text}'.",
            expected="A finite number is expected.",
            remedy="Download the product again; the file is damaged.",
        ) from err
