"""What a batch works on: paths and patterns, and the items of STAC collections and catalogues."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from .errors import InputError

_INDEXES = ("catalog.json", "collection.json")
_LISTS = ("FeatureCollection", "Catalog", "Collection")


def sources(inputs: Any) -> list[Any]:
    """The scenes that inputs stand for, in order.

    Args:
        inputs: one input or several: paths, patterns such as ``in/*.SAFE``, addresses, anything else that
            :func:`unclouded.open_scene` takes; a STAC item collection, catalogue or collection as file, folder with
            ``catalog.json`` or ``collection.json``, address (also of an API's ``/search`` or ``/items``), document or
            object of pystac.

    Returns:
        Paths, addresses, STAC items and opened objects, each for one scene.

    Raises:
        InputError: a pattern fits nothing, a catalogue cannot be read, or there is no scene at all.

    >>> found = sources({"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a"}]})
    >>> [item["id"] for item in found]
    ['a']
    """
    single = isinstance(inputs, (str, os.PathLike, Mapping)) or not isinstance(inputs, Iterable)
    single = single or hasattr(inputs, "dims")  # xarray objects are iterable
    out: list[Any] = []
    for one in [inputs] if single else inputs:
        out.extend(_expanded(one))
    if not out:
        raise InputError(
            "The inputs hold no scene.",
            expected="There has to be at least one scene.",
            remedy="Check the list, the collection or the catalogue.",
        )
    return out


def title(source: Any) -> str:
    """What a source is called in messages and records.

    >>> title({"type": "Feature", "id": "a"}), title(Path("in") / "b.tif")
    ('a', 'in/b.tif')
    """
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, Mapping):
        return _link(source, "self") or str(source.get("id") or "STAC item")
    return str(getattr(source, "id", None) or getattr(source, "name", None) or type(source).__name__)


def _expanded(one: Any) -> Iterator[Any]:
    if isinstance(one, (str, os.PathLike)):
        text = os.fspath(one)
        if text.startswith(("http://", "https://")):
            yield from _address(text)
        else:
            yield from _path(text)
    elif isinstance(one, Mapping):
        yield from _document(one, _link(one, "self") or str(Path.cwd() / "collection.json"), set())
    elif hasattr(one, "get_items"):
        yield from one.get_items(recursive=True)  # a catalogue of pystac
    elif type(one).__name__ == "ItemCollection":
        yield from one
    else:
        yield one


def _path(text: str) -> Iterator[Any]:
    path = Path(text).expanduser()
    if "://" in text or text.startswith("/vsi"):
        yield text
    elif path.is_dir() and (index := next((path / name for name in _INDEXES if (path / name).is_file()), None)):
        yield from _document(_read(str(index)), str(index.absolute()), set())
    elif path.is_file() and path.suffix.lower() in (".json", ".geojson"):
        document = _tried(str(path))
        if _kind(document) in _LISTS:
            yield from _document(document, str(path.absolute()), set())
        else:
            yield text
    elif glob.has_magic(text) and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))
        if not found:
            raise InputError(
                f"Nothing fits the pattern '{text}'.",
                expected="There has to be at least one scene.",
                remedy="Correct the path or the pattern.",
            )
        for name in found:
            yield from _path(name)
    else:
        yield text


def _address(address: str) -> Iterator[Any]:
    parts = urlsplit(address).path.rstrip("/").lower().split("/")
    listing = parts[-1] in ("items", "search", *_INDEXES) or parts[-2:-1] == ["collections"]
    if not listing and (parts[-2:-1] == ["items"] or not parts[-1].endswith((".json", ".geojson"))):
        yield address
        return
    document = _read(address) if listing else _tried(address)
    if _kind(document) in _LISTS:
        yield from _document(document, address, {address})
    else:
        yield address


def _document(document: Any, base: str, seen: set[str]) -> Iterator[Any]:
    """The items of a document; ``seen`` holds the places that were visited, so that circles end."""
    kind = _kind(document)
    if kind == "Feature":
        yield document
        return
    if kind not in _LISTS:
        raise InputError(
            f"{base} is of the type '{kind}'.",
            expected="STAC items, item collections, catalogues and collections are read.",
            remedy="Pass the scene's own file, or the address of its item.",
        )
    links = [link for link in document.get("links") or () if isinstance(link, Mapping) and link.get("href")]
    if kind == "FeatureCollection":
        for feature in document.get("features") or ():
            yield _with_place(feature, base)
        follow = [link for link in links if link.get("rel") == "next"]
    else:
        for link in links:
            if link.get("rel") == "item":
                yield _resolved(base, str(link["href"]))
        listed = [link for link in links if link.get("rel") == "items"]
        follow = listed[:1] or [link for link in links if link.get("rel") == "child"]
    for link in follow:
        if str(link.get("method", "GET")).upper() != "GET":
            raise InputError(
                f"The next page of {base} has to be asked for with {link['method']}.",
                expected="Pages that follow are reached by their address.",
                remedy="Search with pystac-client, and pass the items that it finds.",
            )
        place = _resolved(base, str(link["href"]))
        if place not in seen:
            seen.add(place)
            yield from _document(_read(place), place, seen)


def _with_place(feature: Any, base: str) -> Any:
    """An item of a collection, which says where its relative addresses begin."""
    if not isinstance(feature, Mapping) or (_link(feature, "self") or "").startswith(("http://", "https://")):
        return feature
    links = [link for link in feature.get("links") or () if isinstance(link, Mapping) and link.get("rel") != "self"]
    return {**feature, "links": [*links, {"rel": "self", "href": base}]}


def _resolved(base: str, href: str) -> str:
    if base.startswith(("http://", "https://")):
        place = urljoin(base, href)
        if not place.startswith(("http://", "https://")):
            raise InputError(
                f"{base} links to {place}.",
                expected="A catalogue on the network links to addresses on the network.",
                remedy="Pass the items themselves if you trust them.",
            )
        return place
    if href.startswith(("http://", "https://")):
        return href
    return os.path.normpath(os.path.join(os.path.dirname(base), href.removeprefix("file://")))


def _read(place: str) -> Any:
    if place.startswith(("http://", "https://")):
        from .readers.stac import _fetch

        return _fetch(place)
    try:
        return json.loads(Path(place).read_bytes())
    except (OSError, ValueError, RecursionError) as err:
        raise InputError(
            f"{place} cannot be read: {getattr(err, 'strerror', None) or err}.",
            expected="A STAC document as JSON.",
            remedy="Check the path, or write the document again.",
        ) from err


def _tried(place: str) -> Any:
    """A document that may hold many scenes; None if it cannot be read, which is told when it is opened as a scene."""
    try:
        return _read(place)
    except InputError:
        return None


def _kind(document: Any) -> str | None:
    if not isinstance(document, Mapping):
        return None
    found = document.get("type")
    if found is None and "stac_version" in document and "links" in document:  # catalogues before STAC 1.0
        return "Catalog"
    return None if found is None else str(found)


def _link(document: Mapping[str, Any], rel: str) -> str | None:
    for link in document.get("links") or ():
        if isinstance(link, Mapping) and link.get("rel") == rel and link.get("href"):
            return str(link["href"])
    return None
