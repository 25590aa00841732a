"""``unclouded style``: style files for QGIS beside the rasters of results."""

from __future__ import annotations

from pathlib import Path

import click

from ._talk import Talk


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.pass_context
def command(ctx: click.Context, folder: Path) -> None:
    """Write a QGIS style file (.qml) beside every raster of classes in FOLDER.

    Masks show in their colours without one; with it the legend in QGIS has the names of the classes, too. The paths
    are written to stdout.
    """
    from ..view.qgis import write_styles

    talk = ctx.find_object(Talk) or Talk()
    made = write_styles(folder)
    for path in made:
        talk.put(str(path))
    talk.say(f"{len(made)} style files.")
    talk.emit({"styles": [str(path) for path in made]})
