"""Rasters of any kind, written strip by strip and turned into cloud-optimised GeoTIFFs at the end."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ..errors import OutputError
from .atomic import cannot_write, partial_folder, replace_file

BLOCK = 512
"""Side of the blocks of the files in pixels. Strips are gathered to this height, so that no block is written twice."""

CACHE_BYTES = 64 * 2**20
"""Memory that GDAL may use for blocks while a file is made."""

_RASTER_ERRORS = (RasterioError, CPLE_BaseError, OSError)


@dataclass(frozen=True)
class Layer:
    """One file.

    Attributes:
        dtype: of the stored numbers.
        bands: names, one for each band.
        nodata: stored value of missing pixels, or None.
        scale, offset: one for each band, where stored numbers stand for others; empty for none.
        codes: name and colour of each value, for files of codes.
        overview: how coarser levels are made, ``AVERAGE``, ``MODE`` or ``NEAREST``.
    """

    dtype: str
    bands: tuple[str, ...]
    nodata: float | None = None
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    codes: Mapping[int, tuple[str, tuple[int, int, int]]] = field(default_factory=dict)
    overview: str = "AVERAGE"


class LayerWriter:
    """Writes several rasters of one grid. Use it in a with-block and call :meth:`finish` at its end.

    Nothing appears under a final name before :meth:`finish`; leaving the block without it, as an exception does,
    removes everything that was written.

    Args:
        folder: output folder, made if it does not exist.
        name: of the scene; the first part of the file names.
        geobox: grid of the output; without CRS the files carry no position.
        layers: by product; the file is called ``<name>_<product>.tif``.
        tags: TIFF metadata of every file.

    >>> import tempfile
    >>> grid = GeoBox((4, 6), rasterio.Affine(10, 0, 3e5, 0, -10, 5e6), "EPSG:32633")
    >>> with tempfile.TemporaryDirectory() as name, LayerWriter(
    ...     Path(name), "scene", grid, {"days": Layer("uint16", ("days",))}, {}
    ... ) as writer:
    ...     writer.write_rows(0, {"days": np.ones((1, 4, 6), np.uint16)})
    ...     writer.finish()["days"].name
    'scene_days.tif'
    """

    def __init__(
        self, folder: Path, name: str, geobox: GeoBox, layers: Mapping[str, Layer], tags: Mapping[str, str]
    ) -> None:
        self.folder, self.name, self.geobox = Path(folder), name, geobox
        self.layers, self.tags = dict(layers), dict(tags)
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self._buffers: dict[str, NDArray[Any]] = {}
        self._sums = {product: [0] * len(layer.bands) for product, layer in layers.items()}
        self._next_row = 0  # first row that has not been given yet
        self._written = 0  # rows that have left the buffer

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._partial = stack.enter_context(partial_folder(self.folder, self.name))
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
            try:
                for product, layer in self.layers.items():
                    self._files[product] = stack.enter_context(self._create(product, layer))
            except _RASTER_ERRORS as err:
                raise cannot_write(self.folder, err) from err
            self._stack = stack.pop_all()
        rows, cols = min(BLOCK, self.geobox.shape.y), self.geobox.shape.x
        self._buffers = {
            product: np.empty((len(layer.bands), rows, cols), layer.dtype) for product, layer in self.layers.items()
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._buffers = {}
        self._stack.__exit__(kind, err, trace)

    def write_rows(self, row: int, given: Mapping[str, NDArray[Any]]) -> None:
        """Add the next rows.

        Args:
            row: first row of the strip; strips come in order and without gaps.
            given: for every product (band, y, x) in its type.

        Raises:
            OutputError: rows are out of order, arrays do not fit, or the disk is full.
        """
        self.check(row, given)
        height = next(iter(given.values())).shape[1]
        done = 0
        while done < height:
            start = self._next_row - self._written
            take = min(height - done, BLOCK - start)
            for product, values in given.items():
                self._buffers[product][:, start : start + take] = values[:, done : done + take]
            done += take
            self._next_row += take
            if start + take == BLOCK:
                self._flush()

    def finish(self, stale: tuple[str, ...] = ()) -> dict[str, Path]:
        """Make the final files and give them their names.

        Args:
            stale: endings of files of an earlier run, its item above all, that are removed first.

        Returns:
            Paths by product.

        Raises:
            OutputError: rows are missing, or a file cannot be written.
        """
        if self._next_row != self.geobox.shape.y:
            raise OutputError(
                f"{self._next_row} of {self.geobox.shape.y} rows were written for '{self.name}'.",
                expected="All rows have to be there before the files are finished.",
                remedy="Write the missing rows first.",
            )
        made: dict[str, Path] = {}
        self._flush()
        try:
            for product, file in self._files.items():
                file.close()
                made[product] = self._to_cog(product, Path(file.name))
                self._verify(product, made[product])
        except _RASTER_ERRORS as err:
            raise cannot_write(self.folder, err) from err
        for end in stale:
            old = self.folder / f"{self.name}{end}"
            try:
                old.unlink(missing_ok=True)
            except OSError as err:
                raise cannot_write(old, err) from err
        out = {product: self.folder / f"{self.name}_{product}.tif" for product in made}
        for product, path in made.items():
            replace_file(path, out[product])
        return out

    def check(self, row: int, given: Mapping[str, NDArray[Any]]) -> None:
        """Refuse strips that would give wrong files; arguments and error as those of :meth:`write_rows`."""
        height, width = next(iter(given.values())).shape[-2:] if given else (0, 0)
        problem = ""
        if not self._buffers:
            problem = "the writer is not open, use it in a with-block"
        elif row != self._next_row:
            problem = f"row {row} was given where row {self._next_row} is next"
        elif given.keys() != self.layers.keys():
            problem = f"products {', '.join(given)} were given where {', '.join(self.layers)} are wanted"
        elif width != self.geobox.shape.x or row + height > self.geobox.shape.y:
            problem = f"{height} x {width} pixels from row {row} do not fit into {tuple(self.geobox.shape)}"
        else:
            for product, values in given.items():
                shape = (len(self.layers[product].bands), height, width)
                if values.dtype != np.dtype(self.layers[product].dtype) or values.shape != shape:
                    problem = f"{product} is {values.dtype} of shape {values.shape}"
        if problem:
            raise wrong_rows(self.name, problem)

    def _flush(self) -> None:
        """Write the buffered rows."""
        rows = self._next_row - self._written
        if not rows:
            return
        window = Window(0, self._written, self.geobox.shape.x, rows)
        try:
            for product, file in self._files.items():
                values = self._buffers[product][:, :rows]
                file.write(values, window=window)
                sums = self._sums[product]
                sums[:] = [zlib.crc32(plane, total) for plane, total in zip(values, sums, strict=True)]
        except _RASTER_ERRORS as err:
            raise cannot_write(self.folder, err) from err
        self._written = self._next_row

    def _create(self, product: str, layer: Layer) -> Any:
        place: dict[str, Any] = {}
        if self.geobox.crs is not None:
            place["crs"] = str(self.geobox.crs)
        if not self.geobox.affine.is_identity:
            place["transform"] = self.geobox.affine
        with quiet():
            file = rasterio.open(
                self._partial / f"{product}.strips.tif",
                "w",
                driver="GTiff",
                dtype=layer.dtype,
                count=len(layer.bands),
                height=self.geobox.shape.y,
                width=self.geobox.shape.x,
                nodata=layer.nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                interleave="band",
                # Bytes are not worth the time of packing them for a moment.
                **({} if layer.dtype == "uint8" else {"compress": "DEFLATE", "zlevel": 1}),
                bigtiff="IF_SAFER",
                **({"photometric": "palette"} if layer.codes else {}),
                **place,
            )
        # Band metadata has to be there before the copy: editing a finished COG would spoil its layout.
        file.update_tags(**self.tags)
        file.descriptions = layer.bands
        if layer.codes:
            file.write_colormap(1, {code: (*colour, 255) for code, (_, colour) in layer.codes.items()})
            file.update_tags(1, **{f"CLASS_{code}": name for code, (name, _) in layer.codes.items()})
        if layer.scale:
            file.scales, file.offsets = layer.scale, layer.offset
        return file

    def _to_cog(self, product: str, strips: Path) -> Path:
        layer, target = self.layers[product], self._partial / f"{product}.cog.tif"
        rasterio.shutil.copy(
            strips,
            target,
            driver="COG",
            compress="DEFLATE",
            # Level 6 takes 3.5 times the processor time on noisy numbers and saves 3 % of the bytes; on codes it takes
            # 1.5 times the time and saves 16 % of very few.
            level="4",
            predictor="NO" if layer.codes else "YES",
            overview_resampling=layer.overview,
            blocksize=BLOCK,
            bigtiff="IF_SAFER",
            num_threads="ALL_CPUS",
        )
        strips.unlink()
        return target

    def _verify(self, product: str, path: Path) -> None:
        """Read a file back: GDAL does not report when the disk fills up while it closes a file."""
        sums = [0] * len(self.layers[product].bands)
        with quiet(), rasterio.open(path) as file:
            for row in range(0, file.height, BLOCK):
                window = Window(0, row, file.width, min(BLOCK, file.height - row))
                for plane in range(file.count):
                    sums[plane] = zlib.crc32(file.read(plane + 1, window=window), sums[plane])
        if sums != self._sums[product]:
            raise OSError("what was read back differs from what was written, is the disk full?")


def wrong_rows(name: str, problem: str) -> OutputError:
    """The error for strips that would give wrong files."""
    return OutputError(
        f"Rows of '{name}' cannot be written: {problem}.",
        expected="Strips have all products, the full width and the files' types and values, in order.",
        remedy="Correct the calling code.",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warning that a file without position has no position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
