"""``unclouded mask``: find clouds and shadows in scenes and write the result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..options import Options
from ._batch import batch_options, counted, percent, run_batch
from ._inputs import READING, expand, reading_options
from ._talk import Talk

_DEFAULT = Options()


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where results go."
)
@reading_options
@click.option("--resolution", "resolution_m", type=float, help="Pixel size of the result in metres.")
@click.option("--model", default=_DEFAULT.model, show_default=True, help="Name of a model, or its folder or file.")
@click.option("--tile", default=_DEFAULT.tile, show_default=True, help="Side of the network's window in pixels.")
@click.option("--halo", default=_DEFAULT.halo, show_default=True, help="Margin of that window that is not used.")
@click.option("--threads", default=_DEFAULT.threads, show_default=True, help="CPU threads; 0 means all cores.")
@click.option(
    "--max-missed-cloud", type=float, metavar="SHARE", help="Bound on the share of cloud that is missed, e.g. 0.05."
)
@click.option(
    "--max-lost-clear", type=float, metavar="SHARE", help="Bound on the share of clear ground that is called cloud."
)
@click.option("--prob", "probability", is_flag=True, help="Also write the probability of each class.")
@click.option("--quicklook", is_flag=True, help="Also write a picture of scene and mask.")
@click.option(
    "--polygons", type=click.Choice(["fgb", "parquet"]), help="Also write outlines, as FlatGeobuf or GeoParquet."
)
@batch_options
@click.pass_context
def command(
    ctx: click.Context, inputs: tuple[str, ...], output: Path, way: dict[str, Any], **settings: Any
) -> None:
    """Find clouds and their shadows in each INPUT.

    An INPUT is a product folder or archive, a GeoTIFF, a STAC item, item collection or catalogue (file or address), a
    pattern of such names, or - to read names from stdin. For each scene FOLDER gets a mask, its uncertainty and a STAC
    item; the path of the item is written to stdout. One run at a time works in FOLDER; another one ends with exit
    code 1.
    """
    from ..batch import run
    from ..batch_inputs import sources

    talk = ctx.find_object(Talk) or Talk()
    reading = {name: settings.pop(name) for name in READING}
    try:
        options = Options(**settings)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err
    found = sources(expand(inputs))
    code = run_batch(
        talk, counted(found, "scene"), len(found) > 1, partial(run, found, output, options, **way, **reading),
        lambda figures: percent(figures["cloud_percent"], "cloud"),
    )  # fmt: skip
    ctx.exit(code)
