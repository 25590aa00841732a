"""A picture to judge a mask by: the scene in natural colours, beside it what was found, under both a legend."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ..classes import CLASSES, NO_DATA, NO_DATA_CLASS
from ..errors import InputError
from ..scene import Band, Scene
from .atomic import cannot_write, partial_folder, replace_file
from .lettering import HEIGHT, lettering

PANEL = 504
"""Width that a panel comes close to, in pixels; two of them and the margins make about 1024."""

TINTS: dict[int, tuple[int, int, int]] = {1: (230, 159, 0), 2: (86, 180, 233), 3: (204, 121, 167)}
"""Colours of thick cloud, thin cloud and shadow over the scene; chosen to be told apart by colour-blind people too.

Source: Okabe and Ito, Color Universal Design (2008).
"""

_COLOURS = (("red", 660.0), ("green", 560.0), ("blue", 490.0))
MARGIN = 8
_GROUND = 0.27  # brightness that the ground is brought to, as far as that is possible without greying the clouds
_HIGHEST = 3 * PANEL  # panels of long strips are not made taller
_NARROWEST = 400  # panels of narrow scenes are padded to this, so that the legend finds room
INK, PAPER, FAINT = (235, 235, 235), (24, 26, 30), (150, 155, 165)
_HATCH = ((88, 90, 96), (64, 66, 72))


def write_quicklook(scene: Scene, mask: Path, target: Path, counts: Mapping[int, int]) -> Path:
    """Draw a scene and its mask into a PNG file, complete or not at all.

    Args:
        scene: the scene; only its overview is read.
        mask: the finished mask of that scene.
        target: the PNG file.
        counts: pixels of each class code, for the figures in the legend.

    Returns:
        ``target``.

    Raises:
        InputError: scene or mask cannot be read.
        OutputError: the picture cannot be written.
    """
    grid = overview_grid(scene.geobox)
    bands = colour_bands(scene.bands)
    image = scene.read(grid, [band.name for band in bands])
    picture = draw(image, mask_on(mask, grid), title=scene.id, colours=colour_title(bands), counts=counts)
    save_png(picture, target, scene.id)
    return target


def save_png(picture: NDArray[np.uint8], target: Path, name: str) -> None:
    """Write a picture (3, y, x), complete or not at all.

    Args:
        picture: red, green and blue.
        target: the PNG file.
        name: of the scene, for the folder that holds the file while it is written.

    Raises:
        OutputError: it cannot be written.
    """
    _, rows, cols = picture.shape
    with partial_folder(target.parent, name) as partial:
        made = partial / target.name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(
                    made, "w", driver="PNG", dtype="uint8", count=3, height=rows, width=cols
                ) as file:
                    file.write(picture)
        except (RasterioError, OSError) as err:
            raise cannot_write(target, err) from err
        replace_file(made, target)


def overview_grid(geobox: GeoBox) -> GeoBox:
    """The grid with pixels enlarged by a whole factor, so that it has about the size of a panel."""
    rows, cols = geobox.shape
    step = max(round(cols / PANEL), -(-rows // _HIGHEST))
    if step <= 1:
        return geobox
    shape = (-(-rows // step), -(-cols // step))
    return GeoBox(shape, geobox.affine * geobox.affine.scale(step), geobox.crs)


def colour_bands(bands: Sequence[Band]) -> tuple[Band, Band, Band]:
    """Bands to show as red, green and blue: those of that common name, or the nearest in wavelength.

    Raises:
        InputError: no band is optical.

    >>> one, two = Band("B8A", "nir", 848, 881, 20), Band("B03", "green", 543, 578, 10)
    >>> [band.name for band in colour_bands([one, two])]
    ['B03', 'B03', 'B03']
    """
    optical = [band for band in bands if band.kind == "optical" and band.min_nm is not None]
    if not optical:
        raise InputError(
            "The scene has no optical band to draw.",
            expected="A picture needs at least one.",
            remedy="Leave --quicklook out.",
        )
    chosen: list[Band] = []
    for name, wavelength in _COLOURS:
        named = [band for band in optical if band.common_name == name]
        # A band serves twice only where there are too few: grey rather than colours that are not there.
        unused = [band for band in optical if band not in chosen] if len(optical) > 2 else optical
        chosen.append(min(named or unused, key=lambda band: (abs(band.centre_nm - wavelength), band.name)))
    return chosen[0], chosen[1], chosen[2]


def colour_title(bands: Sequence[Band]) -> str:
    """What the colours are.

    >>> colour_title([Band("B8A", "nir", 848, 881, 20)] * 3)
    'B8A, B8A, B8A as red, green, blue'
    """
    if [band.common_name for band in bands] == [name for name, _ in _COLOURS]:
        return "natural colours"
    return f"{', '.join(band.name for band in bands)} as red, green, blue"


def stretch(image: NDArray[np.float32], like: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """Reflectance as colours for the eye, (3, y, x) uint8; 0 where missing.

    Each band begins at its darkest percent, which takes away the haze of the air; all end at the same brightness, so
    that clouds stay white. Dark tones are lifted, the more the darker the ground is beside the clouds.

    Args:
        image: reflectance, (3, y, x), NaN where missing.
        like: the image that decides the brightness, where this one is a part of it.
    """
    valid = np.isfinite(image).all(axis=0)
    whole = image if like is None else like
    seen = whole[:, np.isfinite(whole).all(axis=0)]
    out = np.zeros(image.shape, np.uint8)
    if not valid.any() or not seen.size:
        return out
    low = np.percentile(seen, 1, axis=1)
    high = np.percentile(seen, 99.5, axis=1).max()

    def share(pixels: NDArray[np.float32]) -> NDArray[np.floating]:
        return np.clip((pixels - low[:, None]) / np.maximum(high - low, 1e-6)[:, None], 0, 1)

    # Unless it is overcast, the pixel that three in ten are darker than is ground.
    ground = float(np.clip(np.percentile(share(seen).mean(axis=0), 30), 1e-3, 0.999))
    exponent = np.clip(np.log(_GROUND) / np.log(ground), 0.4, 1.0)
    out[:, valid] = np.round(255 * share(image[:, valid]) ** exponent)
    return out


def mask_on(mask: Path, grid: GeoBox) -> NDArray[np.uint8]:
    """Class codes of a mask at the pixel centres of a coarser grid of the same scene; 255 outside.

    Raises:
        InputError: the mask cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(mask) as file:
                factor = max(1, int(abs(grid.resolution.x / file.transform.a) + 1e-6))
                shape = (-(-file.height // factor), -(-file.width // factor))
                codes = file.read(1, out_shape=shape, resampling=Resampling.mode)
                to_codes = ~(file.transform * file.transform.scale(file.width / shape[1], file.height / shape[0]))
    except (RasterioError, OSError) as err:
        raise InputError(
            f"The mask {mask} cannot be read: {err}.",
            expected="The picture is drawn from the finished mask.",
            remedy="Make the mask again.",
        ) from err
    step = to_codes * grid.affine
    rows = np.floor(step.e * (np.arange(grid.shape.y) + 0.5) + step.f).astype(int)
    cols = np.floor(step.a * (np.arange(grid.shape.x) + 0.5) + step.c).astype(int)
    inside = ((rows >= 0) & (rows < shape[0]))[:, None] & ((cols >= 0) & (cols < shape[1]))
    picked = codes[np.clip(rows, 0, shape[0] - 1)[:, None], np.clip(cols, 0, shape[1] - 1)]
    return np.where(inside, picked, NO_DATA).astype(np.uint8)


def draw(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    *,
    title: str,
    colours: str,
    counts: Mapping[int, int],
) -> NDArray[np.uint8]:
    """The whole picture.

    Args:
        image: reflectance to show as red, green and blue, (3, y, x), NaN where missing.
        classes: class codes on the same grid, (y, x).
        title: name of the scene.
        colours: what the colours are.
        counts: pixels of each class code, for the legend.

    Returns:
        (3, y, x) uint8.
    """
    zoom = max(1, min(round(PANEL / classes.shape[1]), _HIGHEST // classes.shape[0]))
    shown = stretch(image).repeat(zoom, axis=1).repeat(zoom, axis=2)
    missing = ~np.isfinite(image).all(axis=0).repeat(zoom, axis=0).repeat(zoom, axis=1)
    codes = classes.repeat(zoom, axis=0).repeat(zoom, axis=1)
    left = hatched(shown, missing)
    # The overview can miss pixels at the edge of the data that the mask has: black would look like shadow.
    base = np.where(missing, np.uint8(90), shown)
    right = hatched(_overlay(base, codes), codes == NO_DATA)
    height, width = codes.shape
    top, line = 40 + HEIGHT, 14 + 2 * HEIGHT
    legend = _legend(counts)
    panel_width = max(width, _NARROWEST)
    whole_width = 2 * panel_width + 3 * MARGIN
    canvas = np.empty((3, top + height + MARGIN + line * len(legend) + MARGIN, whole_width), np.uint8)
    canvas[:] = column(PAPER)[:, :, None]
    put_text(canvas, title, MARGIN, MARGIN, INK, 2)
    second = 2 * MARGIN + panel_width
    put_text(canvas, colours, 32, MARGIN, FAINT)
    put_text(canvas, "what was found", 32, second, FAINT)
    for x, panel in ((MARGIN, left), (second, right)):
        canvas[:, top : top + height, x : x + width] = panel
    for number, entries in enumerate(legend):
        y = top + height + MARGIN + line * number
        for place, (code, text) in enumerate(entries):
            x = MARGIN + place * ((whole_width - MARGIN) // 3)
            canvas[:, y : y + 14, x : x + 22] = _swatch(code)
            put_text(canvas, text, y, x + 30, INK, 2)
    return canvas


def _overlay(shown: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The scene in grey with tinted classes and their outlines."""
    grey = np.tensordot(np.array([0.30, 0.59, 0.11], np.float32), shown.astype(np.float32), 1)
    out = np.broadcast_to(0.85 * grey, shown.shape).copy()
    edge = np.zeros(codes.shape, bool)
    edge[:, 1:] |= codes[:, 1:] != codes[:, :-1]
    edge[1:] |= codes[1:] != codes[:-1]
    for code, tint in TINTS.items():
        inside = codes == code
        for weight, where in ((0.45, inside & ~edge), (0.95, inside & edge)):
            out[:, where] = (1 - weight) * out[:, where] + weight * column(tint).astype(np.float32)
    return out.round().astype(np.uint8)


def hatched(panel: NDArray[np.uint8], missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A panel (3, y, x) with stripes where something is missing, (y, x)."""
    out = panel.copy()
    rows, cols = np.nonzero(missing)
    stripe = (rows + cols) % 8 < 2
    out[:, missing] = np.where(stripe, column(_HATCH[0]), column(_HATCH[1]))
    return out


def _legend(counts: Mapping[int, int]) -> list[list[tuple[int, str]]]:
    """Lines of three entries: clear, thick, thin; shadow, no data."""
    valid = sum(counts.get(one.value, 0) for one in CLASSES)
    entries = []
    for one in (*CLASSES, NO_DATA_CLASS):
        whole = valid + counts.get(NO_DATA, 0) if one.value == NO_DATA else valid
        share = f"{100 * counts.get(one.value, 0) / whole:.1f} %" if whole else "-"
        entries.append((one.value, f"{one.title} {share}"))
    return [entries[:3], entries[3:]]


def _swatch(code: int) -> NDArray[np.uint8]:
    grey = np.full((3, 14, 22), 110, np.uint8)
    codes = np.zeros((14, 22), np.uint8)
    if code == NO_DATA:
        return hatched(grey, np.ones((14, 22), bool))
    codes[1:-1, 1:-1] = code
    return _overlay(grey, codes)


def put_text(
    canvas: NDArray[np.uint8], text: str, y: int, x: int, colour: tuple[int, int, int], scale: int = 1
) -> None:
    """Letter a text onto a picture (3, y, x), cut where the picture ends."""
    room = (canvas.shape[2] - x) // (6 * scale)
    ink = lettering(text if len(text) <= room else text[: room - 3] + "...", scale)
    part = canvas[:, y : y + ink.shape[0], x : x + ink.shape[1]]
    part[:, ink] = column(colour)


def column(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A colour as (3, 1), to go with rows of pixels."""
    return np.array(colour, np.uint8)[:, np.newaxis]
