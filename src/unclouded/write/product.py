"""The rasters of one masked scene, written strip by strip, see :mod:`unclouded.write.layers`.

| file | content | encoding |
| --- | --- | --- |
| ``<id>_mask.tif`` | class of each pixel, see :mod:`unclouded.classes` | code, palette, 255 no data |
| ``<id>_uncertainty.tif`` | how near the class was to another | percent, scale 0.01, 255 no data |
| ``<id>_prob.tif`` | probability, one band per class | percent, scale 0.01, 255 no data |

Overviews of the mask take the commonest class, those of percentages the mean. Codes are never interpolated.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import CLASSES, NO_DATA, NO_DATA_CLASS
from .layers import Layer, LayerWriter, wrong_rows

SCALE = 0.01
"""What a stored percent is worth."""

_STALE = (".json", "_quicklook.png", "_polygons.fgb", "_polygons.parquet", "_prob.tif")
"""Ends of the names of files that an earlier run may have made, and this one may not."""


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
        codes = {one.value: (one.name, one.color) for one in (*CLASSES, NO_DATA_CLASS)}
        layers = {
            "mask": Layer("uint8", ("class",), NO_DATA, codes=codes, overview="MODE"),
            "uncertainty": Layer("uint8", ("uncertainty",), NO_DATA, (SCALE,), (0.0,)),
        }
        if probability:
            names = tuple(one.name for one in CLASSES)
            layers["prob"] = Layer("uint8", names, NO_DATA, (SCALE,) * len(names), (0.0,) * len(names))
        self.counts: dict[int, int] = {**{one.value: 0 for one in CLASSES}, NO_DATA: 0}
        self._writer = LayerWriter(folder, scene_id, geobox, layers, tags)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, err, trace)

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
        self._writer.check(row, given)
        problem = _wrong_values(given)
        if problem:
            raise wrong_rows(self._writer.name, problem)
        for code in self.counts:
            self.counts[code] += int(np.count_nonzero(classes == code))
        self._writer.write_rows(row, given)

    def finish(self) -> dict[str, Path]:
        """Make the final files and give them their names.

        Output of an earlier run of the same scene is replaced: its item and its optional files are removed first, so
        that no moment shows an item beside files that it does not describe.

        Returns:
            Paths by product: ``mask``, ``uncertainty`` and, if asked for, ``prob``.

        Raises:
            OutputError: rows are missing, or a file cannot be written.
        """
        return self._writer.finish(_STALE)


def _wrong_values(given: dict[str, NDArray[np.uint8]]) -> str:
    """What is wrong with codes and percentages, empty if nothing is."""
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
