"""One HTML page about the results in a folder, with all pictures inside: for people without a server.

The page runs no script and asks for nothing: its policy (Content-Security-Policy) forbids both, whatever an item says.
"""

from __future__ import annotations

import datetime as dt
import html
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..display import data_uri, jpeg, paint, png
from ..errors import InputError
from ..write.atomic import write_text
from .folder import Found, LayerFile, scan, tinted
from .tiles import opened

_LOG = logging.getLogger("unclouded")
_WIDEST = 1024
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --line: #8885; --accent: #2a78b8; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; overflow-wrap: anywhere }
section { border-top: 1px solid var(--line); margin-top: 2rem }
img { max-width: 100%; height: auto; border: 1px solid var(--line); image-rendering: auto }
table { border-collapse: collapse; margin: .5rem 0 }
th { white-space: nowrap }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere }
figure { margin: 1rem 0 }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.w { border-left: .3rem solid #d08000; padding-left: .8rem; overflow-wrap: anywhere }
svg rect { stroke: #8888; stroke-width: .5 } svg text { font-size: 11px; fill: currentColor }
circle { fill: var(--accent) } polyline { fill: none; stroke: var(--accent); stroke-width: 1.5 }
.axis { stroke: #8888; stroke-width: 1 }
"""


def write_report(folder: str | Path, target: Path | None = None) -> tuple[Path, list[Found]]:
    """Write the page.

    Args:
        folder: where results are.
        target: the page; None means ``report.html`` in the folder. It is replaced if it was there.

    Returns:
        The page's path, and what it shows.

    Raises:
        InputError: there is no such folder, or no result in it.
        OutputError: the page cannot be written.
    """
    found = scan(folder)
    if not found:
        raise InputError(
            f"There is no result in {folder}.",
            expected="Results are the STAC items that unclouded writes, with the files beside them.",
            remedy="Pass the folder that was given to -o, or run unclouded mask first.",
        )
    target = Path(folder).expanduser() / "report.html" if target is None else target.expanduser()
    write_text(target, render(found), target.name)
    return target, found


def render(found: Sequence[Found]) -> str:
    """The page as text.

    >>> "default-src 'none'" in render([Found("k", "<b>", "<b>", Path("x.json"))])
    True
    >>> "<b>" in render([Found("k", "<b>", "<b>", Path("x.json"))])
    False
    """
    warned = sum(bool(one.warnings) for one in found)
    told = f"{len(found)} result{'s' * (len(found) > 1)}, {warned} with warnings. Made by unclouded {__version__}."
    listed = "".join(
        f'<tr><td><a href="#{one.key}">{_text(one.id)}</a></td><td>{_text(_taken(one.datetime) or "-")}</td>'
        f'<td class="n">{_cover(one)}</td><td class="n">{len(one.warnings) or ""}</td></tr>'
        for one in found
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Clouds and shadows: {len(found)} results</title><style>{_STYLE}</style></head><body>"
        f"<h1>Clouds and shadows</h1><p>{told}</p>{chart(found)}"
        '<table><tr><th>result</th><th>taken</th><th class="n">cloud</th><th class="n">warnings</th></tr>'
        f"{listed}</table>"
        f"{''.join(map(_section, found))}</body></html>\n"
    )


def chart(found: Sequence[Found]) -> str:
    """Cloud cover over time as a drawing (SVG); empty where fewer than two results have both.

    >>> chart([])
    ''
    """
    points = [
        (moment, one.cloud_percent, one.id)
        for one in found
        if one.cloud_percent is not None and (moment := _moment(one.datetime)) is not None
    ]
    if len({moment for moment, _, _ in points}) < 2:
        return ""
    first, last = (pick(moment for moment, _, _ in points) for pick in (min, max))
    width, height, left, top = 900, 160, 40, 10

    def place(moment: float, cover: float) -> tuple[float, float]:
        return left + (width - left - 20) * (moment - first) / (last - first), top + height * (1 - cover / 100)

    spots = [(*place(moment, cover), cover, name) for moment, cover, name in sorted(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in spots)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{_text(name)}: {cover:.1f} %</title></circle>'
        for x, y, cover, name in spots
    )
    grid = "".join(
        f'<line class="axis" x1="{left}" x2="{width - 10}" y1="{place(first, cover)[1]}" '
        f'y2="{place(first, cover)[1]}"/><text x="0" y="{place(first, cover)[1] + 4}">{cover} %</text>'
        for cover in (0, 50, 100)
    )
    ends = [str(np.datetime64(int(moment), "s"))[:10] for moment in (first, last)]
    return (
        f'<figure><svg viewBox="0 0 {width} {height + 40}" role="img" aria-label="cloud cover over time">{grid}'
        f'<polyline points="{line}"/>{dots}<text x="{left}" y="{height + 30}">{ends[0]}</text>'
        f'<text x="{width - 10}" y="{height + 30}" text-anchor="end">{ends[1]}</text></svg>'
        "<figcaption>Cloud cover over time</figcaption></figure>"
    )


def _section(one: Found) -> str:
    facts = "".join(f"<tr><th>{_text(title)}</th><td>{_text(text)}</td></tr>" for title, text in one.facts)
    taken = f"<tr><th>taken</th><td>{_text(_taken(one.datetime) or 'not known')}</td></tr>"
    notes = "".join(f"<p>{_text(note)}</p>" for note in one.warnings)
    # Beside a quicklook the table has its colours.
    layers = map(tinted, one.layers.values()) if one.picture is not None else one.layers.values()
    tables = "".join(map(_classes, layers))
    return (
        f'<section id="{one.key}"><h2>{_text(one.title)}</h2>{f"<div class=w>{notes}</div>" if notes else ""}'
        f"{_picture(one)}{tables}<table>{taken}{facts}</table></section>"
    )


def _classes(layer: LayerFile) -> str:
    if not layer.classes or all(one.count is None for one in layer.classes):
        return ""
    seen = sum(one.count or 0 for one in layer.classes if one.value != layer.nodata)
    rows = ""
    for one in layer.classes:
        count = one.count or 0
        share = f"{100 * count / seen:.1f} %" if seen and one.value != layer.nodata else ""
        fill = one.colour or "none"
        swatch = f'<svg width="16" height="16"><rect width="16" height="16" fill="{fill}"/></svg>'
        rows += (
            f'<tr><td>{swatch}</td><td>{_text(one.title)}</td><td class="n">{count}</td><td class="n">{share}</td></tr>'
        )
    head = f"<tr><th></th><th>{_text(layer.title)}</th><th>pixels</th><th>of those with data</th></tr>"
    return f"<table>{head}{rows}</table>"


def _picture(one: Found) -> str:
    """The quicklook, made smaller; without one the mask itself."""
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError

    mask = one.layers.get("mask")
    path = one.picture or (None if mask is None else mask.path)
    if path is None:
        return ""
    try:
        with opened(path, "PNG" if one.picture else "GTiff") as file:
            step = max(1.0, file.width / _WIDEST, file.height / (3 * _WIDEST))
            shape = (max(1, round(file.height / step)), max(1, round(file.width / step)))
            if one.picture is None:
                codes: NDArray[np.uint8] = file.read(1, out_shape=shape)
                source = data_uri(png(paint(codes.astype(np.uint8, copy=False))), "image/png")
            else:
                colours = file.read([1, 2, 3], out_shape=(3, *shape), resampling=Resampling.average)
                source = data_uri(jpeg(np.moveaxis(colours.astype(np.uint8, copy=False), 0, -1)), "image/jpeg")
    except (InputError, RasterioError, OSError, IndexError) as err:
        _LOG.warning("%s cannot be read: %s", path, err)
        return f"<p class=w>{_text(path.name)} cannot be read.</p>"
    return f'<p><img alt="picture of {_text(one.id)}" src="{source}"></p>'


def _cover(one: Found) -> str:
    return "-" if one.cloud_percent is None else f"{one.cloud_percent:.1f} %"


def _taken(text: str | None) -> str | None:
    """A time for people, if it is one.

    >>> _taken("2024-06-01T10:00:31.5Z"), _taken("in June")
    ('2024-06-01 10:00 UTC', 'in June')
    """
    moment = _moment(text)
    return text if moment is None else dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _moment(text: str | None) -> float | None:
    try:
        moment = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _text(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))
