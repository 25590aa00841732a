"""Style files for QGIS: names and colours of the classes, which QGIS takes by itself from a file beside the raster."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

from ..write.atomic import write_text
from .folder import LayerFile, scan


def write_styles(folder: str | Path) -> list[Path]:
    """Write ``<name>.qml`` beside every raster of classes in a folder of results; existing ones are replaced.

    Args:
        folder: where results are.

    Returns:
        The style files.

    Raises:
        InputError: there is no such folder.
        OutputError: a file cannot be written.
    """
    out = []
    for found in scan(folder):
        for layer in found.layers.values():
            if layer.classes:
                target = layer.path.with_suffix(".qml")
                write_text(target, qml(layer), target.name)
                out.append(target)
    return out


def qml(layer: LayerFile) -> str:
    """The style of one raster of classes; missing pixels are left out, and so are transparent.

    >>> from unclouded.view.folder import Swatch
    >>> layer = LayerFile("mask", "Mask", Path("m.tif"), (Swatch(1, "Thick & high", "#FFFFFF"),))
    >>> [line.strip() for line in qml(layer).splitlines() if "paletteEntry" in line]
    ['<paletteEntry value="1" color="#FFFFFF" label="Thick &amp; high" alpha="255"/>']
    """
    entries = "\n".join(
        f'        <paletteEntry value="{one.value}" color="{one.colour}"'
        f' label={quoteattr(_plain(one.title))} alpha="255"/>'
        for one in layer.classes
        if one.value != layer.nodata
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis styleCategories="AllStyleCategories">\n  <pipe>\n'
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">\n      <colorPalette>\n'
        f"{entries}\n      </colorPalette>\n    </rasterrenderer>\n  </pipe>\n</qgis>\n"
    )


def _plain(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(char if char.isprintable() else " " for char in text)
