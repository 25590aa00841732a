"""The rasters of one scene, written strip by strip and turned into cloud-optimised GeoTIFFs at the end.

| file | content | encoding |
| --- | --- | --- |
| ``<id>_mask.tif`` | class of each pixel, see :mod:`unclouded.classes` | code, palette, 255 no data |
| ``<id>_uncertainty.tif`` | entropy of the class probabilities / log(4) | percent, scale 0.01, 255 no data |
| ``<id>_prob.tif`` | probability, one band per class | percent, scale 0.01, 255 no data |

Overviews of the mask take the commonest class, those of percentages the mean. Codes are never interpolated.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

from ..classes import CLASSES, NO_DATA, NO_DATA_CLASS
from ..errors import OutputError
from .atomic import cannot_write, partial_folder, replace_file

BLOCK = 512
"""Side of the blocks of the files in pixels. Strips are gathered to this height, so that no block is written twice."""

SCALE = 0.01
"""What a stored percent is worth."""

CACHE_BYTES = 64 * 2**20
"""Memory that GDAL may use for blocks while a file is made."""

_PERCENT = {"predictor": "YES", "level": "4", "overview_resampling": "AVERAGE"}
_ENCODING = {
    "mask": {"predictor": "NO", "level": "6", "overview_resampling": "MODE"},
    # On noisy percentages level 6 takes 3.5 times the processor time of level 4 and saves 3 % of the bytes.
    "uncertainty": _PERCENT,
    "prob": _PERCENT,
}

_RASTER_ERRORS = (RasterioError, CPLE_BaseError, OSError)


class ProductWriter:
    """Writes the rasters of one scene. Use it in a with-block and call :meth:`finish` at its end.

    Nothing appears under a final name before :meth:`finish`; leaving the block without it, as an exception does,
    removes everything that was written.

    Args:
        folder: output folder, made if it does not exist.
        scene_id: name of the scene, the first part of the file names.
        geobox: grid of the output; without CRS the files carry no position.
        probability: whether ``<id>_prob.tif`` is wanted.
        tags: TIFF metadata of every file: sensor, model, software and the like.

    Attributes:
        counts: pixels of each class code so far, no data (255) included.

    >>> import tempfile
    >>> from affine import Affine
    >>> grid = GeoBox((4, 6), Affine(10, 0, 3e5, 0, -10, 5e6), "EPSG:32633")
    >>> with tempfile.TemporaryDirectory() as name, ProductWriter(
    ...     Path(name), "scene", grid, probability=False, tags={}
    ... ) as writer:
    ...     writer.write_rows(0, np.ones((4, 6), np.uint8), np.full((4, 6), 20, np.uint8))
    ...     (sorted(writer.finish()), writer.counts[1])
    (['mask', 'uncertainty'], 24)
    """

    def __init__(
        self, folder: Path, scene_id: str, geobox: GeoBox, *, probability: bool, tags: dict[str, str]
    ) -> None:
        self.folder = Path(folder)
        self.scene_id = scene_id
        self.geobox = geobox
        self.tags = dict(tags)
        self.counts: dict[int, int] = {**{one.value: 0 for one in CLASSES}, NO_DATA: 0}
        self._planes = {"mask": 1, "uncertainty": 1, **({"prob": len(CLASSES)} if probability else {})}
        self._next_row = 0  # first row that has not been given yet
        self._written = 0  # rows that have left the buffer
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._sums = {product: [0] * planes for product, planes in self._planes.items()}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._partial = stack.enter_context(partial_folder(self.folder, self.scene_id))
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
            try:
                for product, planes in self._planes.items():
                    self._files[product] = stack.enter_context(self._create(product, planes))
            except _RASTER_ERRORS as err:
                raise cannot_write(self.folder, err) from err
            self._stack = stack.pop_all()
        rows, cols = min(BLOCK, self.geobox.shape.y), self.geobox.shape.x
        self._buffers = {
            product: np.empty((planes, rows, cols), np.uint8) for product, planes in self._planes.items()
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._buffers = {}
        self._stack.__exit__(kind, err, trace)

    def write_rows(
        self,
        row: int,
        classes: NDArray[np.uint8],
        uncertainty: NDArray[np.uint8],
        probability: NDArray[np.uint8] | None = None,
    ) -> None:
        """Add the next rows of the scene.

        Args:
            row: first row of the strip; strips come in order and without gaps.
            classes: class codes, (y, x), 255 where there is no data.
            uncertainty: percent, (y, x), 255 where there is no data.
            probability: percent, (class, y, x); needed if and only if probabilities were asked for.

        Raises:
            OutputError: rows are out of order, arrays do not fit, or the disk is full.
        """
        given = {"mask": classes[np.newaxis], "uncertainty": uncertainty[np.newaxis]}
        if probability is not None:
            given["prob"] = probability
        self._check(row, given)
        found = np.bincount(classes.ravel(), minlength=256)
        for code in self.counts:
            self.counts[code] += int(found[code])
        height = classes.shape[0]
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

    def finish(self) -> dict[str, Path]:
        """Make the final files and give them their names.

        Output of an earlier run of the same scene is replaced: its item and its optional files are removed first, so
        that no moment shows an item beside files that it does not describe.

        Returns:
            Paths by product: ``mask``, ``uncertainty`` and, if asked for, ``prob``.

        Raises:
            OutputError: rows are missing, or a file cannot be written.
        """
        if self._next_row != self.geobox.shape.y:
            raise OutputError(
                f"{self._next_row} of {self.geobox.shape.y} rows were written for '{self.scene_id}'.",
                expected="All rows have to be there before the files are finished.",
                remedy="Write the missing rows first.",
            )
        made: dict[str, Path] = {}
        try:
            self._flush()
            for product, file in self._files.items():
                file.close()
                made[product] = self._to_cog(product, Path(file.name))
                self._verify(product, made[product])
        except _RASTER_ERRORS as err:
            raise cannot_write(self.folder, err) from err
        for stale in (".json", "_quicklook.png", "_polygons.fgb", "_polygons.parquet", "_prob.tif"):
            try:
                (self.folder / f"{self.scene_id}{stale}").unlink(missing_ok=True)
            except OSError as err:
                raise cannot_write(self.folder / f"{self.scene_id}{stale}", err) from err
        out = {product: self.folder / f"{self.scene_id}_{product}.tif" for product in made}
        for product, path in made.items():
            replace_file(path, out[product])
        return out

    def _check(self, row: int, given: dict[str, NDArray[np.uint8]]) -> None:
        """Refuse strips that would give wrong files."""
        height, width = given["mask"].shape[1:]
        problem = ""
        if not self._buffers:
            problem = "the writer is not open, use it in a with-block"
        elif row != self._next_row:
            problem = f"row {row} was given where row {self._next_row} is next"
        elif given.keys() != self._planes.keys():
            problem = f"products {', '.join(given)} were given where {', '.join(self._planes)} are wanted"
        elif width != self.geobox.shape.x or row + height > self.geobox.shape.y:
            problem = f"{height} x {width} pixels from row {row} do not fit into {tuple(self.geobox.shape)}"
        else:
            for product, values in given.items():
                if values.dtype != np.uint8 or values.shape != (self._planes[product], height, width):
                    problem = f"{product} is {values.dtype} of shape {values.shape}"
        if not problem:
            problem = self._check_values(given)
        if problem:
            raise OutputError(
                f"Rows of '{self.scene_id}' cannot be written: {problem}.",
                expected="Strips are uint8, full width, in order; classes are 0 to 3 or 255, percent 0 to 100 or 255.",
                remedy="Correct the calling code.",
            )

    def _check_values(self, given: dict[str, NDArray[np.uint8]]) -> str:
        empty = given["mask"][0] == NO_DATA
        for product, values in given.items():
            highest = len(CLASSES) - 1 if product == "mask" else 100
            for plane in values:
                valid = plane <= highest
                wrong = (valid == empty) | ((plane > highest) & (plane != NO_DATA))
                if wrong.any():
                    row, col = np.argwhere(wrong)[0]
                    return f"{product} holds {plane[row, col]} where the class is {given['mask'][0, row, col]}"
        return ""

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

    def _create(self, product: str, planes: int) -> Any:
        place: dict[str, Any] = {}
        if self.geobox.crs is not None:
            place["crs"] = str(self.geobox.crs)
        if not self.geobox.affine.is_identity:
            place["transform"] = self.geobox.affine
        with _quiet():
            file = rasterio.open(
                self._partial / f"{product}.strips.tif",
                "w",
                driver="GTiff",
                dtype="uint8",
                count=planes,
                height=self.geobox.shape.y,
                width=self.geobox.shape.x,
                nodata=NO_DATA,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                interleave="band",
                compress="DEFLATE",
                zlevel=1,
                bigtiff="IF_SAFER",
                **({"photometric": "palette"} if product == "mask" else {}),
                **place,
            )
        # Band metadata has to be there before the copy: editing a finished COG would spoil its layout.
        file.update_tags(**self.tags)
        if product == "mask":
            file.write_colormap(1, {one.value: (*one.color, 255) for one in (*CLASSES, NO_DATA_CLASS)})
            file.update_tags(1, **{f"CLASS_{one.value}": one.name for one in (*CLASSES, NO_DATA_CLASS)})
            file.set_band_description(1, "class")
        else:
            names = ["uncertainty"] if product == "uncertainty" else [one.name for one in CLASSES]
            file.descriptions = names
            file.scales = [SCALE] * planes
            file.offsets = [0.0] * planes
        return file

    def _to_cog(self, product: str, strips: Path) -> Path:
        target = self._partial / f"{product}.cog.tif"
        rasterio.shutil.copy(
            strips,
            target,
            driver="COG",
            compress="DEFLATE",
            blocksize=BLOCK,
            bigtiff="IF_SAFER",
            num_threads="ALL_CPUS",
            **_ENCODING[product],
        )
        strips.unlink()
        return target

    def _verify(self, product: str, path: Path) -> None:
        """Read a file back: GDAL does not report when the disk fills up while it closes a file."""
        sums = [0] * self._planes[product]
        with _quiet(), rasterio.open(path) as file:
            for row in range(0, file.height, BLOCK):
                window = Window(0, row, file.width, min(BLOCK, file.height - row))
                for plane in range(file.count):
                    sums[plane] = zlib.crc32(file.read(plane + 1, window=window), sums[plane])
        if sums != self._sums[product]:
            raise OSError("what was read back differs from what was written, is the disk full?")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a file without position has no position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
