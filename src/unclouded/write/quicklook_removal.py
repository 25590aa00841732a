"""A picture to judge a removal by: the scene, the same without clouds, and where each pixel comes from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

from ..raster_files import read_errors
from .lettering import HEIGHT
from .quicklook import (
    FAINT,
    INK,
    MARGIN,
    PANEL,
    PAPER,
    colour_bands,
    colour_title,
    column,
    hatched,
    overview_grid,
    put_text,
    save_png,
    stretch,
)
from .stac_removal import COLOURS, PROVENANCE

if TYPE_CHECKING:
    from ..infer.remove_plan import RemovalPlan

_SHORT = {0: "observed", 1: "rebuilt", 2: "other date", 255: "no data"}


def write_removal_quicklook(
    plan: RemovalPlan, outputs: Mapping[str, Path], target: Path, counts: Mapping[int, int]
) -> Path:
    """Draw a finished removal into a PNG file, complete or not at all.

    Args:
        plan: what was done.
        outputs: the files ``restored`` and ``restored_provenance``; only their overviews are read.
        target: the PNG file.
        counts: pixels of each code of provenance.

    Returns:
        ``target``.

    Raises:
        InputError: a file cannot be read.
        OutputError: the picture cannot be written.
    """
    bands = colour_bands([band for band in plan.scene.bands if band.name in plan.names])
    names = [band.name for band in bands]
    grid = overview_grid(plan.grid)
    shape = (int(grid.shape.y), int(grid.shape.x))
    before = plan.scene.read(grid, names)
    places = [plan.names.index(name) for name in names]
    after = _overview(outputs["restored"], [place + 1 for place in places], shape, Resampling.average)
    encoding = plan.encoding
    scale, offset = (np.array(one, np.float32)[places, None, None] for one in (encoding.scale, encoding.offset))
    codes = _overview(outputs["restored_provenance"], [1], shape, Resampling.mode)[0]
    picture = draw(
        before, after * scale + offset, np.where(np.isfinite(codes), codes, 255).astype(np.uint8),
        title=plan.scene.id, colours=colour_title(bands), counts=counts,
    )  # fmt: skip
    save_png(picture, target, plan.scene.id)
    return target


def draw(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    codes: NDArray[np.uint8],
    *,
    title: str,
    colours: str,
    counts: Mapping[int, int],
) -> NDArray[np.uint8]:
    """The whole picture.

    Args:
        before, after: reflectance to show as red, green and blue, (3, y, x), NaN where missing.
        codes: provenance on the same grid, (y, x).
        title: name of the scene.
        colours: what the colours are.
        counts: pixels of each code, for the legend.

    Returns:
        (3, y, x) uint8.
    """
    zoom = max(1, round(PANEL / codes.shape[1]))
    before, after = (one.repeat(zoom, axis=1).repeat(zoom, axis=2) for one in (before, after))
    codes = codes.repeat(zoom, axis=0).repeat(zoom, axis=1)
    # One stretch for both, that of the result: clouds may be too bright, the ground looks the same in both.
    shown, clean = (hatched(stretch(one, after), np.isnan(one.sum(axis=0))) for one in (before, after))
    grey = np.tensordot(np.array([0.30, 0.59, 0.11], np.float32), stretch(after).astype(np.float32), 1)
    sources = np.broadcast_to(grey, shown.shape).astype(np.uint8)
    for code in (1, 2):
        inside = codes == code
        sources[:, inside] = 0.5 * sources[:, inside] + 0.5 * column(COLOURS[code])
    sources = hatched(sources, codes == 255)
    height, width = codes.shape
    top = 40 + HEIGHT
    canvas = np.empty((3, top + height + 3 * MARGIN + 2 * HEIGHT, 3 * width + 4 * MARGIN), np.uint8)
    canvas[:] = column(PAPER)[:, :, None]
    put_text(canvas, title, MARGIN, MARGIN, INK, 2)
    for place, (panel, text) in enumerate(
        ((shown, f"before, {colours}"), (clean, "after"), (sources, "where it comes from"))
    ):
        x = MARGIN + place * (width + MARGIN)
        put_text(canvas[:, :, : x + width], text, 32, x, FAINT)
        canvas[:, top : top + height, x : x + width] = panel
    valid = sum(counts.get(code, 0) for code in (0, 1, 2))
    for place, code in enumerate(PROVENANCE):
        whole = valid + counts.get(255, 0) if code == 255 else valid
        share = f"{100 * counts.get(code, 0) / whole:.1f} %" if whole else "-"
        x, y = MARGIN + place * (canvas.shape[2] // 4), top + height + MARGIN
        swatch = np.broadcast_to(column(COLOURS[code])[:, :, None], (3, 14, 22))
        canvas[:, y : y + 14, x : x + 22] = hatched(swatch, np.full((14, 22), code == 255))
        put_text(canvas[:, :, : x + canvas.shape[2] // 4], f"{_SHORT[code]} {share}", y, x + 30, INK, 1)
    return canvas


def _overview(path: Path, bands: list[int], shape: tuple[int, int], how: Resampling) -> NDArray[np.float32]:
    """Bands of a finished file with fewer pixels, (band, y, x) float32, NaN where missing."""
    with warnings.catch_warnings(), read_errors(str(path)):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            read = file.read(bands, out_shape=(len(bands), *shape), resampling=how, masked=True)
    out: NDArray[np.float32] = read.astype(np.float32).filled(np.nan)
    return out
