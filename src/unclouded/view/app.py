"""The viewer's server: a map of the results in a folder, for the browser on this machine and nobody else.

* It answers only to this machine's own names, so that no web page can reach it through a name of its own that points
  here (DNS rebinding).
* No part of an address becomes a path: results go by keys, layers by names, and both are looked up.
* The page may load nothing from elsewhere (Content-Security-Policy) and shows text of items as text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import rio_tiler.io  # noqa: F401  before the first tiles, which come in several threads at once
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..errors import UncloudedError
from . import tiles
from .folder import Found, LayerFile, scan, tinted

NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Host names that are answered to."""

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
"""Headers of every answer."""

_KINDS = {
    "index.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "leaflet.css": "text/css; charset=utf-8",
    "leaflet.js": "text/javascript; charset=utf-8",
}
_DEEPEST = 24

_Message = MutableMapping[str, Any]
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


def make_app(folder: str | Path, images: Sequence[str | Path] = ()) -> Callable[..., Awaitable[None]]:
    """The viewer as an ASGI application.

    Args:
        folder: where results are.
        images: folders of the scenes that they were made from; scenes elsewhere are not shown.

    Raises:
        InputError: there is no such folder.
    """
    scan(folder)  # a wrong folder is told before anything is served
    viewer = _Viewer(Path(folder), tuple(Path(one).expanduser().resolve() for one in images))
    routes = [
        Route("/", viewer.page),
        Route("/static/{name}", viewer.static),
        Route("/api/results", viewer.results),
        Route("/tiles/{key}/{layer}/{z:int}/{x:int}/{y:int}.png", viewer.tile),
        Route("/values/{key}", viewer.values),
    ]
    return _Guard(Starlette(routes=routes, exception_handlers={UncloudedError: _told}))


class _Guard:
    """Refuses foreign host names, and puts the headers on every answer."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]

        async def guarded(message: _Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        if len(hosts) != 1 or not _is_own(hosts[0]):
            answer = PlainTextResponse("This viewer answers to its own machine only.", 421)
            await answer(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


class _Viewer:
    def __init__(self, folder: Path, images: tuple[Path, ...]) -> None:
        self._folder = folder
        self._roots = (folder.expanduser().resolve(), *images)
        self._results: dict[str, Found] = {}
        self._image = lru_cache(maxsize=4)(self._open_image)

    def page(self, request: Request) -> Response:
        return _static("index.html")

    def static(self, request: Request) -> Response:
        return _static(request.path_params["name"])

    def results(self, request: Request) -> Response:
        """All results; the folder is read anew, so that loading the page again shows new ones."""
        self._image.cache_clear()
        self._results = {one.key: one for one in scan(self._folder, self._roots[1:])}
        return JSONResponse([self._told(one) for one in self._results.values()])

    def tile(self, request: Request) -> Response:
        found = self._found(request)
        z, x, y = (request.path_params[name] for name in "zxy")
        if z > _DEEPEST or x >= 2**z or y >= 2**z:
            raise HTTPException(404)
        name = request.path_params["layer"]
        if name == "image":
            content = self._image(found.key).tile(z, x, y)
        elif name in found.layers:
            content = tiles.layer_tile(_shown(found, found.layers[name]), z, x, y)
        else:
            raise HTTPException(404)
        return Response(status_code=204) if content is None else Response(content, media_type="image/png")

    def values(self, request: Request) -> Response:
        """What all layers hold at a place."""
        found = self._found(request)
        try:
            x, y = (float(request.query_params[name]) for name in "xy")
        except (KeyError, ValueError) as err:
            raise HTTPException(400) from err
        if not (-1e9 < x < 1e9 and -1e9 < y < 1e9):
            raise HTTPException(400)
        out = [
            {"layer": layer.title, "values": told}
            for layer in found.layers.values()
            if (told := tiles.layer_values(layer, x, y)) is not None
        ]
        if found.source is not None and (told := self._image(found.key).values(x, y)) is not None:
            out.append({"layer": "Image", "values": told})
        return JSONResponse(out)

    def _found(self, request: Request) -> Found:
        if not self._results:
            self._results = {one.key: one for one in scan(self._folder, self._roots[1:])}
        found = self._results.get(request.path_params["key"])
        if found is None:
            raise HTTPException(404)
        return found

    def _open_image(self, key: str) -> tiles.SceneImage:
        return tiles.SceneImage(self._results[key], self._roots)

    def _told(self, found: Found) -> dict[str, Any]:
        layers, where, notes = [], None, list(found.warnings)
        for layer in found.layers.values():
            try:
                where = where or tiles.place(layer.path)
                layers.append(_layer(_shown(found, layer)))
            except UncloudedError as err:
                notes.append(str(err))
        if _has_image(found) and layers:
            layers.insert(0, {"name": "image", "title": "Image", "kind": "colour"})
        return {
            "key": found.key,
            "id": found.id,
            "datetime": found.datetime,
            "cloud_percent": found.cloud_percent,
            "facts": found.facts,
            "warnings": notes,
            "layers": layers,
            "bounds": None if where is None else where.bounds,
            "size": None if where is None else (where.width, where.height),
        }


def _has_image(found: Found) -> bool:
    return found.source is not None and tiles.may_show(found.source)


def _shown(found: Found, layer: LayerFile) -> LayerFile:
    """A layer in the colours that it has on the map."""
    return tinted(layer) if _has_image(found) else layer


def _layer(layer: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"name": layer.name, "title": layer.title, "kind": tiles.kind(layer)}
    if layer.classes:
        shown = [one for one in layer.classes if one.value != layer.nodata and one.colour]
        out["legend"] = [{"colour": one.colour, "title": one.title} for one in shown]
    elif out["kind"] == "amount":
        out["range"] = tiles.amounts(layer)
        out["ramp"] = ["#{:02x}{:02x}{:02x}".format(*map(int, colour)) for colour in tiles.RAMP]
    return out


def _static(name: str) -> Response:
    if name not in _KINDS:
        raise HTTPException(404)
    return Response((resources.files(__package__) / "static" / name).read_bytes(), media_type=_KINDS[name])


def _told(request: Request, err: Exception) -> Response:
    return JSONResponse({"found": str(err)}, 422)


def _is_own(host: str) -> bool:
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
    return name.lower() in NAMES and (port == "" or port.isdigit())
