"""What a run writes about itself: a table of epochs, TensorBoard, pictures."""

from __future__ import annotations

import csv
import io
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ..errors import MissingDependencyError
from ..scene import Band
from ..write.quicklook import stretch

log = logging.getLogger("unclouded")

TABLE = "log.csv"


class Journal:
    """Log of one run.

    Args:
        folder: of the run.
        step: the step that the run goes on from; what was logged after it is forgotten, for it will come again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self._forget(step)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as err:
            raise MissingDependencyError.for_extra("tensorboard", "train") from err
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, step: int, loss: float, rate: float) -> None:
        """One step of the optimiser, for TensorBoard."""
        self.board.add_scalar("step/loss", loss, step)
        self.board.add_scalar("step/rate", rate, step)

    def epoch(self, row: Mapping[str, float]) -> None:
        """One row of the table; ``step`` is one of its columns."""
        path = self.folder / TABLE
        rows = [*_rows(path), {key: _text(value) for key, value in row.items()}]
        # Scores may be undefined at first and appear later: columns are those of all rows.
        _write(path, rows)
        for key, value in row.items():
            self.board.add_scalar(f"epoch/{key}", value, int(row["step"]))
        self.board.flush()
        log.info("%s", ", ".join(f"{key} {_text(value)}" for key, value in row.items()))

    def picture(self, epoch: int, panels: NDArray[np.uint8]) -> None:
        """Pictures after an epoch, (3, y, x)."""
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "height": panels.shape[1], "width": panels.shape[2]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(folder / f"epoch-{epoch:04d}.png", "w", **profile) as file:
                file.write(panels)

    def close(self) -> None:
        """Bring everything to the disk."""
        self.board.close()

    def _forget(self, step: int) -> None:
        path = self.folder / TABLE
        rows = _rows(path)
        kept = [row for row in rows if int(row["step"]) <= step]
        if len(kept) < len(rows):
            _write(path, kept)


def panel(
    image: NDArray[np.float32], bands: Sequence[Band], beside: Sequence[NDArray[Any]], colours: Sequence[Any] = ()
) -> NDArray[np.uint8]:
    """A patch and what belongs beside it, (3, y, x) with white lines between.

    Args:
        image: (band, y, x), NaN where missing, any scale.
        bands: one per plane; red, green and blue are shown, or the first ones where these are not all there.
        beside: images of the same bands (band, y, x), or codes (y, x), each a place in ``colours``, 255 for nothing.
        colours: (red, green, blue) by code.
    """
    places = {band.common_name: row for row, band in enumerate(bands)}
    chosen = [places.get(name, min(place, len(bands) - 1)) for place, name in enumerate(("red", "green", "blue"))]
    table = np.zeros((256, 3), np.uint8)
    if len(colours):
        table[: len(colours)] = colours
    line = np.full((3, image.shape[1], 2), 255, np.uint8)
    parts = []
    for one in (image, *beside):
        shown = np.moveaxis(table[one], -1, 0) if one.ndim == 2 else stretch(one[chosen].astype(np.float32))
        parts += [line, shown]
    return np.concatenate(parts[1:], axis=2)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    made = path.with_name(f".{path.name}.partial")
    made.write_text(text.getvalue(), encoding="utf-8")
    os.replace(made, path)


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
