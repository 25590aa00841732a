"""Results for the eye: a plot, and what a notebook shows. Codes are thinned out for it, never interpolated."""

from __future__ import annotations

import base64
import html
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .classes import CLASSES, NO_DATA, NO_DATA_CLASS
from .errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from .result import Result

LONGEST = 1000
"""Pixels of the longer side of what is drawn; of larger results every second, third, ... pixel is shown."""

_THUMBNAIL = 320


def plot(result: Result, what: str = "classes", ax: Any = None) -> Any:
    """Draw classes or uncertainty of a result with matplotlib.

    Args:
        result: the result.
        what: ``classes`` or ``uncertainty``.
        ax: matplotlib axes; None makes new ones.

    Returns:
        The axes.

    Raises:
        InputError: ``what`` is something else.
        MissingDependencyError: matplotlib is not installed.
    """
    if what not in ("classes", "uncertainty"):
        raise InputError(
            f"A plot of '{what}' was asked for.",
            expected="A result can draw its classes and its uncertainty.",
            remedy="Pass 'classes' or 'uncertainty'.",
        )
    try:
        from matplotlib import pyplot
        from matplotlib.patches import Patch
    except ImportError as err:
        raise MissingDependencyError.for_extra("matplotlib", "plot") from err
    array = result.classes if what == "classes" else result.uncertainty
    values = thinned(array.values, LONGEST)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7, 7 * values.shape[0] / values.shape[1] + 0.8), layout="constrained")
    rows, cols = array.shape
    affine = result.geobox.affine
    left, top = affine * (0, 0)
    right, bottom = affine * (cols, rows)
    # With a turned grid the corners say little: pixels are shown instead.
    turned = abs(affine.b) > 1e-9 * abs(affine.a) or abs(affine.d) > 1e-9 * abs(affine.e)
    extent = (0, cols, rows, 0) if turned else (left, right, bottom, top)
    if what == "classes":
        ax.imshow(paint(values), extent=extent, interpolation="nearest")
        shares = class_shares(result.counts)
        handles = [
            Patch(facecolor=hexadecimal(one.color), edgecolor="0.4", label=f"{one.title} {shares[one.value]}")
            for one in (*CLASSES, NO_DATA_CLASS)
        ]
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3, frameon=False)
    else:
        picture = ax.imshow(values, extent=extent, interpolation="nearest", vmin=0, vmax=1, cmap="magma")
        ax.figure.colorbar(picture, ax=ax, label="uncertainty (0 sure, 1 no idea)", shrink=0.8)
    ax.set_title(result.id)
    unit = "pixel" if turned or result.geobox.crs is None else result.geobox.crs.units[0]
    ax.set_xlabel(f"x [{unit}]")
    ax.set_ylabel(f"y [{unit}]")
    return ax


def result_html(result: Result) -> str:
    """What a notebook shows of a result: a small picture, the share of each class, and the warnings."""
    told = [(one.title, hexadecimal(one.color), share) for one, share in _rows(result.counts)]
    rows = "".join(
        f'<tr><td><span style="display:inline-block;width:1em;height:1em;border:1px solid #888;'
        f'background:{colour}"></span></td><td style="text-align:left">{html.escape(title)}</td><td>{share}</td></tr>'
        for title, colour, share in told
    )
    notes = "".join(f"<li>{html.escape(one)}</li>" for one in result.warnings)
    size = f"{result.geobox.shape.x} x {result.geobox.shape.y} pixels"
    place = html.escape(str(result.outputs["item"].parent)) if result.outputs else "in memory"
    picture = data_uri(png(paint(thinned(result.classes.values, _THUMBNAIL))), "image/png")
    return (
        f'<div class="unclouded-result"><b>{html.escape(result.id)}</b><br>{size}, '
        f"{html.escape(result.model.name)} {html.escape(result.model.version)}, {place}"
        f'<div style="display:flex;gap:1em;align-items:flex-start">'
        f'<img alt="mask" style="max-width:{_THUMBNAIL}px;border:1px solid #888" src="{picture}">'
        f"<table>{rows}</table></div>{f'<ul>{notes}</ul>' if notes else ''}</div>"
    )


def class_shares(counts: Mapping[int, int]) -> dict[int, str]:
    """Share of each class among the pixels with data, that of no data among all, as text.

    >>> class_shares({0: 3, 1: 1, 255: 4})
    {0: '75.0 %', 1: '25.0 %', 2: '0.0 %', 3: '0.0 %', 255: '50.0 %'}
    """
    return {one.value: share for one, share in _rows(counts)}


def paint(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class codes as colours, (y, x, 4) uint8; no data is transparent."""
    table = np.zeros((256, 4), np.uint8)
    for one in CLASSES:
        table[one.value] = (*one.color, 255)
    return table[codes]


def thinned(values: NDArray[Any], longest: int) -> NDArray[Any]:
    """Every second, third, ... row and column, so that neither side is longer than ``longest``.

    >>> thinned(np.zeros((100, 250)), 100).shape
    (34, 84)
    """
    step = max(1, -(-max(values.shape) // longest))
    return values[::step, ::step]


def png(image: NDArray[np.uint8]) -> bytes:
    """An image (y, x, channel) as a PNG file."""
    return _encoded(image, "PNG")


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """An image (y, x, 3) as a JPEG file."""
    return _encoded(image, "JPEG", quality=85)


def data_uri(content: bytes, kind: str) -> str:
    """Content as an address that holds it.

    >>> data_uri(b"abc", "text/plain")
    'data:text/plain;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour as the web writes it.

    >>> hexadecimal((255, 0, 16))
    '#FF0010'
    """
    return "#{:02X}{:02X}{:02X}".format(*colour)


def _rows(counts: Mapping[int, int]) -> list[tuple[Any, str]]:
    valid = sum(counts.get(one.value, 0) for one in CLASSES)
    out = []
    for one in (*CLASSES, NO_DATA_CLASS):
        whole = valid + counts.get(NO_DATA, 0) if one.value == NO_DATA else valid
        out.append((one, f"{100 * counts.get(one.value, 0) / whole:.1f} %" if whole else "-"))
    return out


def _encoded(image: NDArray[np.uint8], driver: str, **options: Any) -> bytes:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    height, width, channels = image.shape
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver=driver, dtype="uint8", count=channels, height=height, width=width, **options
        ) as file:
            file.write(np.moveaxis(image, -1, 0))
        content: bytes = memory.read()
    return content
