"""The results in a folder, as their STAC items tell them. Items are read as if a stranger had written them.

An item may name files anywhere, hold any text, or be no item at all. Only files that lie inside the folder, after
following symbolic links, are ever handed on; numbers and lists are checked; text stays text.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote, urlsplit

from ..display import hexadecimal
from ..errors import InputError
from ..write.quicklook import TINTS

LARGEST = 8 * 2**20  # bytes of an item; those that unclouded writes have some ten thousand
_TIFF = ("image/tiff", "image/vnd.stac.geotiff")
_TITLES = {
    "mask": "Clouds and shadows",
    "uncertainty": "Uncertainty",
    "prob": "Probability",
    "restored": "Restored",
    "restored_provenance": "Where pixels come from",
    "restored_uncertainty": "Expected error",
}


@dataclass(frozen=True)
class Swatch:
    """One class of a layer: its code, title, colour as ``#RRGGBB`` ("" to leave it out), and pixels if counted."""

    value: int
    title: str
    colour: str
    count: int | None = None


@dataclass(frozen=True)
class LayerFile:
    """One raster of a result.

    Attributes:
        name: key of its asset.
        title: what to call it.
        path: the file, inside the folder.
        classes: for rasters of codes.
        bands: names of its bands.
        scale, offset: what stored numbers are worth, by band.
        nodata: stored number of missing pixels.
    """

    name: str
    title: str
    path: Path
    classes: tuple[Swatch, ...] = ()
    bands: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    nodata: float | None = None


@dataclass(frozen=True)
class Found:
    """One result.

    Attributes:
        key: names it in addresses; made from the place of its item in the folder.
        id, title: of the item.
        item: its file.
        datetime: time of acquisition as the item has it, or None.
        bbox: west, south, east, north in degrees; None without a position.
        cloud_percent: share of cloud; None where it is not known.
        facts: sensor, level, model and the like, as pairs of title and text.
        warnings: of the run.
        layers: rasters by name.
        picture: its quicklook, if there is one.
        source: what the result was made from, where that lies inside the folder, or one of the images' folders.
    """

    key: str
    id: str
    title: str
    item: Path
    datetime: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    cloud_percent: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    layers: Mapping[str, LayerFile] = field(default_factory=dict)
    picture: Path | None = None
    source: Path | None = None


def tinted(layer: LayerFile) -> LayerFile:
    """A mask to be seen over its scene or beside its quicklook: in the colours of that, and without clear pixels.

    White, the colour of thick cloud in the file, would not show on clouds. Other layers stay as they are.

    >>> mask = LayerFile("mask", "M", Path("m.tif"), (Swatch(0, "Clear", "#78AA6E"), Swatch(1, "Thick", "#FFFFFF")))
    >>> [one.colour for one in tinted(mask).classes]
    ['', '#E69F00']
    """
    if layer.name != "mask":
        return layer
    colours = {0: "", **{value: hexadecimal(tint) for value, tint in TINTS.items()}}
    classes = tuple(replace(one, colour=colours.get(one.value, one.colour)) for one in layer.classes)
    return replace(layer, classes=classes)


def scan(folder: str | Path, images: Sequence[Path] = ()) -> list[Found]:
    """Results in a folder and the folders in it, by time and name.

    Args:
        folder: where ``unclouded mask``, ``remove`` or ``composite`` wrote to.
        images: folders, beside that one, where sources of results may lie.

    Returns:
        One for every item that unclouded wrote. Other files are passed over, and so are hidden folders and links to
        places outside.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder.",
            expected="It is the folder that results were written to.",
            remedy="Pass the folder that was given to -o.",
        )
    root = root.resolve()
    roots = (root, *(Path(one).resolve() for one in images))
    found = [made for path in _items(root) if (made := _read(path, roots)) is not None]
    return sorted(found, key=lambda one: (one.datetime or "", one.id, one.key))


def inside(path: Path, root: Path) -> Path | None:
    """The path without links, if it lies in ``root`` and exists; otherwise None.

    >>> inside(Path("/etc/hostname"), Path("/usr")) is None
    True
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # loops of links, and names that hold zeros
        return None
    return real if real.is_relative_to(root) else None


def _items(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root, followlinks=False):
        # A product has thousands of files and none of ours.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".SAFE"))
        for name in sorted(files):
            path = Path(place) / name
            if name.endswith(".json") and not name.startswith(".") and inside(path, root) is not None:
                yield path


def _read(path: Path, roots: Sequence[Path]) -> Found | None:
    root = roots[0]
    try:
        if path.stat().st_size > LARGEST:
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    told = _mapping(told)
    properties, assets = _mapping(told.get("properties")), _mapping(told.get("assets"))
    if told.get("type") != "Feature" or not any(str(name).startswith("unclouded:") for name in properties):
        return None
    relative = path.relative_to(root).as_posix()
    layers = {}
    for name, asset in assets.items():
        file = named_file(_mapping(asset).get("href"), path, root)
        if file is not None and str(_mapping(asset).get("type", "")).split(";")[0].strip() in _TIFF:
            layers[name] = _layer(name, _mapping(asset), file)
    quicklook = named_file(_mapping(assets.get("quicklook")).get("href"), path, root)
    identity = _text(told.get("id")) or path.stem
    cover = properties.get("eo:cloud_cover")
    return Found(
        key=hashlib.sha256(relative.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        id=identity,
        title=_text(properties.get("title")) or identity,
        item=path,
        datetime=_text(properties.get("datetime")) or None,
        bbox=_bbox(told.get("bbox")),
        cloud_percent=float(cover) if _is_number(cover) and 0 <= cover <= 100 else None,
        facts=_facts(properties),
        warnings=tuple(_text(one) for one in _listed(properties.get("unclouded:warnings"))),
        layers=layers,
        picture=quicklook if quicklook is not None and quicklook.suffix.lower() == ".png" else None,
        source=_source(told, path, roots),
    )


def _layer(name: str, asset: Mapping[str, Any], path: Path) -> LayerFile:
    classes = []
    for one in map(_mapping, _listed(asset.get("classification:classes"))):
        value, hint, count = one.get("value"), str(one.get("color_hint", "")), one.get("count")
        if isinstance(value, int) and not isinstance(value, bool):
            known = len(hint) == 6 and all(char in "0123456789abcdefABCDEF" for char in hint)
            word = _text(one.get("name")).replace("-", " ")
            title = _text(one.get("title")) or word[:1].upper() + word[1:] or str(value)
            colour = f"#{hint.upper()}" if known else "#888888"
            classes.append(Swatch(value, title, colour, count if isinstance(count, int) and count >= 0 else None))
    bands = [_mapping(one) for one in _listed(asset.get("bands"))]

    def numbers(key: str, default: float) -> tuple[float, ...]:
        return tuple(float(one[key]) if _is_number(one.get(key)) else default for one in bands)

    nodata = [one.get("nodata") for one in bands]
    return LayerFile(
        name=name,
        title=_TITLES.get(name) or _text(asset.get("title")) or name,
        path=path,
        classes=tuple(classes),
        bands=tuple(_text(one.get("description")) or _text(one.get("name")) for one in bands),
        scale=numbers("raster:scale", 1.0),
        offset=numbers("raster:offset", 0.0),
        nodata=float(nodata[0]) if nodata and _is_number(nodata[0]) else None,
    )


def named_file(href: Any, item: Path, root: Path) -> Path | None:
    """A file that an item names, if it is a file in the folder; addresses and paths to elsewhere are None."""
    if not isinstance(href, str) or not href or "\0" in href:
        return None
    real = inside(item.parent / href, root)
    return real if real is not None and real.is_file() else None


def _source(told: Mapping[str, Any], item: Path, roots: Sequence[Path]) -> Path | None:
    """What a result was made from, if it lies in one of the folders; addresses are not opened."""
    for link in map(_mapping, _listed(told.get("links"))):
        href = link.get("href")
        if link.get("rel") == "derived_from" and str(link.get("title", "")).startswith("Input"):
            if not isinstance(href, str) or "\0" in href:
                return None
            parts = urlsplit(href)
            if parts.scheme not in ("", "file"):
                return None
            place = item.parent / (unquote(parts.path) if parts.scheme else href)
            return next((real for root in roots if (real := inside(place, root)) is not None), None)
    return None


def _facts(properties: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    model = _mapping(properties.get("unclouded:model"))
    facts = {
        "sensor": _text(properties.get("unclouded:sensor")),
        "level": _text(properties.get("unclouded:level")),
        "bands": ", ".join(_text(one) for one in _listed(properties.get("unclouded:bands"))),
        "model": " ".join(_text(model.get(name)) for name in ("name", "version")).strip(),
        "pixel": f"{properties['gsd']:g} m" if _is_number(properties.get("gsd")) else "",
        "made": _text(properties.get("created")),
    }
    return tuple((title, text) for title, text in facts.items() if text)


def _bbox(value: Any) -> tuple[float, float, float, float] | None:
    corners = _listed(value)
    if len(corners) != 4 or not all(_is_number(one) for one in corners):
        return None
    west, south, east, north = (float(one) for one in corners)
    valid = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90
    return (west, south, east, north) if valid else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value[:1000] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:2000] if isinstance(value, str) else ""
