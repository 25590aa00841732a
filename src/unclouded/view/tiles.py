"""Tiles and pixel values of the layers of results, for maps in web mercator and for images without position.

Where a scene has a reference system, tiles are those of the usual scheme (256 pixels, EPSG:3857). Where it has none,
tile (z, x, y) is the square of ``256 * 2 ** (PIXEL_ZOOM - z)`` pixels in column x and row y. Files are opened as
GeoTIFFs only, without the files beside them, so that no file can lead to another.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Scene
from ..write.quicklook import colour_bands, overview_grid, stretch
from .folder import LARGEST, Found, LayerFile, inside, named_file

TILE = 256
PIXEL_ZOOM = 8
"""Zoom level at which a pixel of a scene without position is a pixel of its tile."""

RAMP = np.array([(12, 8, 38), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float32)
"""Colours from low to high, dark to bright, of layers that hold amounts."""

_OVERVIEW = 512
_LONGEST_READ = 1024
_GEOTIFF = (".tif", ".tiff")
_CLOUD = ("thick-cloud", "thin-cloud")
_NATURAL = ["red", "green", "blue"]


@dataclass(frozen=True)
class Place:
    """Where a raster lies: size in pixels, and west, south, east, north in degrees or None."""

    width: int
    height: int
    bounds: tuple[float, float, float, float] | None


def kind(layer: LayerFile) -> str:
    """How a layer is shown: ``classes``, ``colour`` or ``amount``.

    >>> kind(LayerFile("x", "X", Path("x.tif"), bands=("blue", "green", "red")))
    'colour'
    """
    if layer.classes:
        return "classes"
    return "colour" if len(layer.bands) > 1 and not set(_CLOUD) <= set(layer.bands) else "amount"


def place(path: Path) -> Place:
    """Size and position of a file.

    Raises:
        InputError: it is no GeoTIFF that can be read.
    """
    from rasterio.warp import transform_bounds

    with opened(path) as file:
        if file.crs is None:
            return Place(file.width, file.height, None)
        return Place(file.width, file.height, transform_bounds(file.crs, "EPSG:4326", *file.bounds))


def layer_tile(layer: LayerFile, z: int, x: int, y: int) -> bytes | None:
    """A tile of a layer as PNG, or None where the layer has nothing.

    Raises:
        InputError: the file cannot be read.
    """
    with opened(layer.path) as file:
        values = _window(file, layer, z, x, y)
    if values is None:
        return None
    if kind(layer) == "classes":
        table = np.zeros((256, 4), np.uint8)
        for one in layer.classes:
            if 0 <= one.value <= 255 and one.value != layer.nodata and one.colour:
                table[one.value] = (*bytes.fromhex(one.colour[1:]), 255)
        codes = np.where(np.isfinite(values[0]) & (values[0] >= 0) & (values[0] < 256), values[0], 255)
        return _png(table[codes.astype(np.uint8)])
    if kind(layer) == "colour":
        return _png(_coloured(values, _overview_of(layer, layer.path.stat().st_mtime_ns)))
    low, high = amounts(layer)
    return _png(_ramped((values[0] - low) / (high - low)))


def amounts(layer: LayerFile) -> tuple[float, float]:
    """The amounts that the ends of the colour ramp stand for: shares go from 0 to 1, others to what 99 % are below."""
    if layer.scale and layer.scale[0] == 0.01:
        return 0.0, 1.0
    seen = _overview_of(layer, layer.path.stat().st_mtime_ns)
    seen = seen[np.isfinite(seen)]
    high = float(np.percentile(seen, 99)) if seen.size else 1.0
    return 0.0, high if high > 0 else 1.0


def layer_values(layer: LayerFile, x: float, y: float) -> list[dict[str, Any]] | None:
    """What a layer holds at a place: for each band its name and its value, or the class; None outside.

    Args:
        layer: the layer.
        x, y: degrees east and north; column and row for scenes without position.

    Raises:
        InputError: the file cannot be read.
    """
    from rasterio.warp import transform
    from rasterio.windows import Window

    with opened(layer.path) as file:
        col, row = x, y
        if file.crs is not None:
            (east,), (north,) = transform("EPSG:4326", file.crs, [x], [y])
            col, row = ~file.transform * (east, north)
        if not (0 <= col < file.width and 0 <= row < file.height):
            return None
        stored = file.read(window=Window(int(col), int(row), 1, 1))[:, 0, 0]
    titles = {one.value: one.title for one in layer.classes}
    out: list[dict[str, Any]] = []
    for number, one in enumerate(stored.tolist()):
        name = layer.bands[number] if number < len(layer.bands) else f"band {number + 1}"
        if layer.classes:
            out.append({"name": name, "text": titles.get(one, str(one))})
        elif one == layer.nodata or not np.isfinite(one):
            out.append({"name": name, "text": "no data"})
        else:
            scale = layer.scale[number] if number < len(layer.scale) else 1.0
            offset = layer.offset[number] if number < len(layer.offset) else 0.0
            out.append({"name": name, "text": f"{one * scale + offset:.4g}"})
    return out


class SceneImage:
    """The scene that a result was made from, in natural colours as far as its bands allow.

    Args:
        found: the result; its source lies in one of the folders that may be shown.
        roots: these folders.

    Raises:
        InputError: the source is of another kind than these pictures are made from, or names files elsewhere.
    """

    def __init__(self, found: Found, roots: tuple[Path, ...]) -> None:
        self.scene = _open_source(found, roots)
        self._bands = [band.name for band in colour_bands(self.scene.bands)]
        restored = found.layers.get("restored")
        natural = [band.common_name for band in colour_bands(self.scene.bands)] == _NATURAL
        if restored is not None and natural and set(_NATURAL) <= set(restored.bands):
            # As bright as what was made of it, so that the two can be compared.
            self._like = _overview_of(restored, restored.path.stat().st_mtime_ns)
        else:
            self._like = self.scene.read(overview_grid(self.scene.geobox), self._bands)

    def tile(self, z: int, x: int, y: int) -> bytes | None:
        """A tile as PNG, or None where the scene has nothing."""
        values = self._mercator(z, x, y) if self.scene.geobox.crs is not None else self._pixels(z, x, y)
        return None if values is None else _png(_coloured(values, self._like))

    def values(self, x: float, y: float) -> list[dict[str, Any]] | None:
        """Reflectance of the bands that are shown, as :func:`layer_values`."""
        from rasterio.warp import transform

        grid = self.scene.geobox
        col, row = x, y
        if grid.crs is not None:
            (east,), (north,) = transform("EPSG:4326", grid.crs.to_wkt(), [x], [y])
            col, row = ~grid.affine * (east, north)
        if not (0 <= col < grid.shape.x and 0 <= row < grid.shape.y):
            return None
        found = self.scene.read(grid[int(row) : int(row) + 1, int(col) : int(col) + 1], self._bands)[:, 0, 0]
        return [
            {"name": name, "text": f"{one:.4f}" if np.isfinite(one) else "no data"}
            for name, one in zip(self._bands, found.tolist(), strict=True)
        ]

    def _read(self, left: float, top: float, right: float, bottom: float, step: float) -> tuple[Any, Any] | None:
        """Pixels from column and row to column and row, every ``step`` of them made one, and their grid."""
        from odc.geo.geobox import GeoBox

        grid = self.scene.geobox
        factor = max(1, int(step), -(-int(max(right - left, bottom - top)) // _LONGEST_READ))
        first = max(0, int(left) // factor - 1), max(0, int(top) // factor - 1)
        last = min(-(-grid.shape.x // factor), int(right) // factor + 2), min(
            -(-grid.shape.y // factor), int(bottom) // factor + 2
        )
        if first[0] >= last[0] or first[1] >= last[1]:
            return None
        affine = grid.affine * grid.affine.scale(factor) * grid.affine.translation(*first)
        part = GeoBox((last[1] - first[1], last[0] - first[0]), affine, grid.crs)
        return self.scene.read(part, self._bands), part

    def _mercator(self, z: int, x: int, y: int) -> NDArray[np.float32] | None:
        from rasterio.warp import Resampling, reproject, transform_bounds

        grid = self.scene.geobox
        assert grid.crs is not None
        bounds = _mercator_bounds(z, x, y)
        west, south, east, north = transform_bounds("EPSG:3857", grid.crs.to_wkt(), *bounds, densify_pts=21)
        corners = [~grid.affine * (one, other) for one in (west, east) for other in (south, north)]
        left, right = min(one for one, _ in corners), max(one for one, _ in corners)
        top, bottom = min(one for _, one in corners), max(one for _, one in corners)
        made = self._read(left, top, right, bottom, (right - left) / TILE)
        if made is None:
            return None
        values, part = made
        out = np.full((len(self._bands), TILE, TILE), np.nan, np.float32)
        size = (bounds[2] - bounds[0]) / TILE
        reproject(
            values,
            out,
            src_transform=part.affine,
            src_crs=grid.crs.to_wkt(),
            src_nodata=np.nan,
            dst_transform=grid.affine.translation(bounds[0], bounds[3]) * grid.affine.scale(size, -size),
            dst_crs="EPSG:3857",
            dst_nodata=np.nan,
            resampling=Resampling.nearest,
        )
        return out if np.isfinite(out).any() else None

    def _pixels(self, z: int, x: int, y: int) -> NDArray[np.float32] | None:
        side = TILE * 2.0 ** (PIXEL_ZOOM - z)
        step = side / TILE
        made = self._read(x * side, y * side, (x + 1) * side, (y + 1) * side, step)
        if made is None:
            return None
        values, part = made
        origin = ~self.scene.geobox.affine * part.affine
        at = (np.arange(TILE) + 0.5) * step
        cols = np.floor((x * side + at - origin.c) / origin.a).astype(int)
        rows = np.floor((y * side + at - origin.f) / origin.e).astype(int)
        seen = ((rows >= 0) & (rows < values.shape[1]))[:, None] & ((cols >= 0) & (cols < values.shape[2]))
        picked = values[:, rows.clip(0, values.shape[1] - 1)[:, None], cols.clip(0, values.shape[2] - 1)]
        return np.where(seen, picked, np.float32(np.nan))


def _open_source(found: Found, roots: tuple[Path, ...]) -> Scene:
    from ..readers import open_scene

    path = found.source
    allowed = [root for root in roots if path is not None and inside(path, root) is not None]
    if path is None or not allowed or not may_show(path):
        raise InputError(
            f"The image of '{found.id}' cannot be shown.",
            expected="Images are SAFE folders, GeoTIFFs, and STAC items of such, in the folders that may be shown.",
            remedy="Pass the folder of the scenes with --images.",
        )
    if path.suffix.lower() == ".json":
        scene = open_scene(_own_assets(path, roots))
    else:
        if path.is_file():
            with opened(path):  # as a GeoTIFF, whatever else GDAL might take it for
                pass
        scene = open_scene(path)
    for source in scene.sources.values():
        file = getattr(source, "path", None)
        if file is not None and not any(inside(Path(file), root) for root in roots):
            raise InputError(
                f"The image of '{found.id}' names files elsewhere.",
                expected="All of its files lie in the folders that may be shown.",
                remedy="Pass their folder with --images too.",
            )
    return scene


def may_show(path: Path) -> bool:
    """Whether a source is of a kind that pictures are made from.

    >>> may_show(Path("a.SAFE")), may_show(Path("a.zip"))
    (True, False)
    """
    return path.suffix == ".SAFE" or path.suffix.lower() in (*_GEOTIFF, ".json")


def _own_assets(path: Path, roots: tuple[Path, ...]) -> dict[str, Any]:
    """A STAC item with those of its assets that are GeoTIFFs in the folders, and no way to anything else."""
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= LARGEST else {}
        assets = {name: dict(asset) for name, asset in item["assets"].items()}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as err:
        raise InputError(
            f"{path.name} is no STAC item.", expected="A scene in a JSON file is a STAC item.", remedy="Look at it."
        ) from err
    kept = {}
    for name, asset in assets.items():
        file = next((one for root in roots if (one := named_file(asset.get("href"), path, root)) is not None), None)
        if file is not None and file.suffix.lower() in _GEOTIFF:
            with opened(file):
                kept[name] = {**asset, "href": str(file)}
    return {**item, "assets": kept, "links": [{"rel": "self", "href": str(path)}]}


def _window(file: Any, layer: LayerFile, z: int, x: int, y: int) -> NDArray[np.float32] | None:
    """Amounts of a tile: (band, y, x), NaN where missing; one band of summed probabilities for those of classes."""
    indexes, weights = _shown(file.count, layer)
    if file.crs is not None:
        from rio_tiler.errors import TileOutsideBounds
        from rio_tiler.io import Reader

        try:
            made = Reader(None, dataset=file).tile(x, y, z, tilesize=TILE, indexes=indexes, reproject_method="nearest")
        except TileOutsideBounds:
            return None
        stored, missing = np.asarray(made.array.data), np.broadcast_to(made.array.mask, made.array.shape)
    else:
        from rasterio.windows import Window

        side = TILE * 2 ** (PIXEL_ZOOM - z) if z <= PIXEL_ZOOM else 0
        left, top = x * side, y * side
        if not side or not (0 <= left < file.width and 0 <= top < file.height):
            return None
        width, height = min(side, file.width - left), min(side, file.height - top)
        size = max(1, round(height / side * TILE)), max(1, round(width / side * TILE))
        part = file.read(indexes, window=Window(left, top, width, height), out_shape=(len(indexes), *size))
        stored = np.zeros((len(indexes), TILE, TILE), part.dtype)
        missing = np.ones(stored.shape, bool)
        stored[:, : size[0], : size[1]], missing[:, : size[0], : size[1]] = part, False
    return _amounts(stored, missing, layer, indexes, weights)


def _shown(count: int, layer: LayerFile) -> tuple[list[int], bool]:
    """Numbers of the bands to read, and whether they are to be added up."""
    names = list(layer.bands[:count])
    if kind(layer) == "colour":
        common = [names.index(name) + 1 for name in _NATURAL if name in names]
        return (common if len(common) == 3 else [min(number, count) for number in (1, 2, 3)]), False
    if set(_CLOUD) <= set(names):
        return [names.index(name) + 1 for name in _CLOUD], True
    return [1], False


def _amounts(
    stored: NDArray[Any], missing: NDArray[np.bool_], layer: LayerFile, indexes: list[int], added: bool
) -> NDArray[np.float32]:
    out = np.empty(stored.shape, np.float32)
    for number, index in enumerate(indexes):
        scale = layer.scale[index - 1] if index <= len(layer.scale) else 1.0
        offset = layer.offset[index - 1] if index <= len(layer.offset) else 0.0
        out[number] = stored[number] * scale + offset
    gone = missing if layer.nodata is None else missing | (stored == layer.nodata)
    out[gone] = np.nan
    return out.sum(axis=0, keepdims=True) if added else out


@lru_cache(maxsize=64)
def _overview_of(layer: LayerFile, changed: int) -> NDArray[np.float32]:
    """A small picture of a whole layer; ``changed`` makes a new one where the file is a new one."""
    with opened(layer.path) as file:
        indexes, added = _shown(file.count, layer)
        step = max(1.0, max(file.width, file.height) / _OVERVIEW)
        shape = (len(indexes), max(1, round(file.height / step)), max(1, round(file.width / step)))
        stored = file.read(indexes, out_shape=shape)
    return _amounts(stored, np.zeros(shape, bool), layer, indexes, added)


@contextmanager
def opened(path: Path, driver: str = "GTiff") -> Iterator[Any]:
    """A raster, read as this one format and without the files beside it.

    Raises:
        InputError: it cannot be read, or has become a link since the folder was read.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    if path.resolve() != path:  # it was without links when the folder was read
        raise InputError(
            f"{path.name} has become a link to another place.",
            expected="Only files in the folder are shown.",
            remedy="Load the page again.",
        )
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=2**27),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as file:
                yield file
    except (RasterioError, OSError) as err:
        raise InputError(
            f"{path.name} cannot be read: {err}.",
            expected="It is a GeoTIFF that unclouded wrote.",
            remedy="Make the result again.",
        ) from err


def _mercator_bounds(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """West, south, east, north of a tile in metres.

    Source: OGC Two Dimensional Tile Matrix Set 2.0, WebMercatorQuad.
    """
    half = 20037508.342789244
    side = 2 * half / 2**z
    return -half + x * side, half - (y + 1) * side, -half + (x + 1) * side, half - y * side


def _coloured(values: NDArray[np.float32], like: NDArray[np.float32]) -> NDArray[np.uint8]:
    seen = np.isfinite(values).all(axis=0, keepdims=True)
    return np.concatenate([stretch(values, like), np.where(seen, np.uint8(255), np.uint8(0))]).transpose(1, 2, 0)


def _ramped(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    seen = np.isfinite(share)
    at = np.where(seen, share, 0).clip(0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    colours = [np.interp(at, stops, RAMP[:, number]).round() for number in range(3)]
    return np.stack([*colours, 255.0 * seen], axis=-1).astype(np.uint8)


def _png(image: NDArray[np.uint8]) -> bytes:
    from ..display import png

    return png(np.ascontiguousarray(image))
