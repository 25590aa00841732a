"""The files of a composite: reflectance, where each pixel comes from, and the STAC item.

| file | content | encoding |
| --- | --- | --- |
| ``<name>.tif`` | reflectance, one band per band of the scenes | int16, scale 0.0001, -32768 no data |
| ``<name>_dates.tif`` | number of the date, and how many dates are clear | uint16, 65535 no date |
| ``<name>.json`` | item with the dates, their names and links to the scenes | STAC 1.1 |
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pystac
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from .. import __version__
from ..infer.composites import NO_DATE, Composite
from ..scene import Band, Scene
from .atomic import cannot_write, partial_folder, replace_file
from .footprint import footprint
from .layers import BLOCK, CACHE_BYTES, quiet
from .stac import EXTENSIONS, _pixel_m, _projection, write_item

SCALE = 1e-4
NO_DATA = -32768

_RASTER_ERRORS = (RasterioError, CPLE_BaseError, OSError)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def paths_of(folder: Path, name: str) -> dict[str, Path]:
    """Paths of all files of a composite; ``item`` comes last.

    >>> [path.name for path in paths_of(Path("out"), "june").values()]
    ['june.tif', 'june_dates.tif', 'june.json']
    """
    ends = {"image": ".tif", "dates": "_dates.tif", "item": ".json"}
    return {product: Path(folder) / f"{name}{end}" for product, end in ends.items()}


class CompositeWriter:
    """Writes the rasters of a composite window by window; complete or not at all.

    Args:
        folder: output folder, made if it does not exist.
        name: first part of the file names.
        grid: grid of the output.
        bands: names of the bands.
    """

    def __init__(self, folder: Path, name: str, grid: GeoBox, bands: Sequence[str]) -> None:
        self.folder, self.name, self.grid = Path(folder), name, grid
        self._bands = list(bands)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._partial = stack.enter_context(partial_folder(self.folder, self.name))
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
            try:
                self._image = stack.enter_context(self._create("image", self._bands, "int16", NO_DATA))
                self._dates = stack.enter_context(self._create("dates", ["date", "count"], "uint16", NO_DATE))
            except _RASTER_ERRORS as err:
                raise cannot_write(self.folder, err) from err
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, err, trace)

    def write(self, row: int, col: int, part: Composite) -> None:
        """Write one window, given by its first row and column.

        Raises:
            OutputError: the disk is full.
        """
        window = Window(col, row, part.date.shape[1], part.date.shape[0])
        try:
            self._image.write(as_counts(part.image), window=window)
            self._dates.write(np.stack((part.date, part.count)), window=window)
        except _RASTER_ERRORS as err:
            raise cannot_write(self.folder, err) from err

    def finish(self) -> dict[str, Path]:
        """Make the final files; returns ``image`` and ``dates``.

        Raises:
            OutputError: a file cannot be written.
        """
        out = paths_of(self.folder, self.name)
        try:
            for product, file in (("image", self._image), ("dates", self._dates)):
                file.close()
                cog = self._partial / f"{product}.cog.tif"
                rasterio.shutil.copy(
                    file.name, cog, driver="COG", compress="DEFLATE", predictor="YES", blocksize=BLOCK,
                    bigtiff="IF_SAFER", overview_resampling="AVERAGE" if product == "image" else "NEAREST",
                )  # fmt: skip
                Path(file.name).unlink()
            out["item"].unlink(missing_ok=True)
        except _RASTER_ERRORS as err:
            raise cannot_write(self.folder, err) from err
        for product in ("image", "dates"):
            replace_file(self._partial / f"{product}.cog.tif", out[product])
        return {product: out[product] for product in ("image", "dates")}

    def _create(self, product: str, bands: Sequence[str], dtype: str, nodata: int) -> Any:
        place: dict[str, Any] = {} if self.grid.crs is None else {"crs": str(self.grid.crs)}
        with quiet():
            file = rasterio.open(
                self._partial / f"{product}.windows.tif", "w", driver="GTiff", dtype=dtype, count=len(bands),
                height=self.grid.shape.y, width=self.grid.shape.x, nodata=nodata, tiled=True, blockxsize=BLOCK,
                blockysize=BLOCK, interleave="band", compress="DEFLATE", zlevel=1, bigtiff="IF_SAFER",
                transform=self.grid.affine, **place,
            )  # fmt: skip
        file.descriptions = list(bands)
        if product == "image":
            file.scales, file.offsets = [SCALE] * len(bands), [0.0] * len(bands)
        return file


def as_counts(image: NDArray[np.float32]) -> NDArray[np.int16]:
    """Reflectance as counts of 0.0001.

    >>> as_counts(np.float32([0.1234, np.nan])).tolist()
    [1234, -32768]
    """
    counts = np.clip(np.rint(np.nan_to_num(image) / SCALE), NO_DATA + 1, 32767)
    return np.where(np.isfinite(image), counts, NO_DATA).astype(np.int16)


def write_composite_item(
    folder: Path,
    name: str,
    grid: GeoBox,
    bands: Sequence[Band],
    scenes: Sequence[Scene],
    properties: Mapping[str, Any],
) -> Path:
    """Write the item, which says that the composite is done."""
    now = dt.datetime.now(dt.UTC)
    times = sorted(pystac.utils.str_to_datetime(scene.datetime) for scene in scenes if scene.datetime)
    outline = footprint(grid)
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    item = pystac.Item(
        id=name,
        geometry=outline[0] if outline else None,
        bbox=outline[1] if outline else None,
        datetime=None,
        start_datetime=times[0] if times else _START,
        end_datetime=times[-1] if times else now,
        properties={
            "title": f"Composite of {len(scenes)} scenes",
            "created": moment,
            "updated": moment,
            **_projection(grid),
            "processing:software": {"unclouded": __version__},
            "processing:level": "L4",
            **properties,
            "unclouded:dates": [{"number": n, "id": one.id, "datetime": one.datetime} for n, one in enumerate(scenes)],
        },
        stac_extensions=[EXTENSIONS[key] for key in ("processing", "projection", "raster")],
    )
    pixel = {} if _pixel_m(grid) is None else {"raster:spatial_resolution": _pixel_m(grid)}
    paths = paths_of(folder, name)
    reflectance = [
        {"name": band.name, "data_type": "int16", "nodata": NO_DATA, "unit": "1", "raster:scale": SCALE,
         "raster:offset": 0.0, **pixel}
        for band in bands
    ]  # fmt: skip
    dates = [{"name": one, "data_type": "uint16", "nodata": NO_DATE, **pixel} for one in ("date", "count")]
    for product, title, roles, described in (
        ("image", "Reflectance", ["data", "reflectance"], reflectance),
        ("dates", "Number of the date that each pixel comes from, and of its clear dates", ["metadata"], dates),
    ):
        href = paths[product].resolve().as_posix()
        item.add_asset(product, pystac.Asset(href, title, None, _COG, roles, {"bands": described}))
    for scene in scenes:
        source = Path(scene.source).resolve().as_posix() if Path(scene.source).exists() else scene.source
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, source, title=f"Input: {scene.id}"))
    return write_item(item, paths["item"])
