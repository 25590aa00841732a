"""``unclouded mask``: find clouds and shadows in scenes and write the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..options import Options
from ._batch import run_batch
from ._inputs import READING, expand, reading_options
from ._talk import Talk

_DEFAULT = Options()


def _parse_resources(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, float] | None:
    """``GPU=1,MEMORY=2e9`` as a mapping."""
    if value is None:
        return None
    out: dict[str, float] = {}
    for part in value.split(","):
        name, _, count = part.partition("=")
        try:
            out[name.strip()] = float(count)
        except ValueError as err:
            raise click.BadParameter(f"'{part}' is not of the form name=count.", ctx, param) from err
    return out


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
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--resume", is_flag=True, help="Keep output that is complete and was made by the same run.")
@click.option("--dry-run", is_flag=True, help="Only open the inputs and say what would be written.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first scene that fails.")
@click.option(
    "--jobs", default=1, show_default=True, metavar="N", help="Worker processes; they share the cores. 0: one per core."
)
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster whose workers mask the scenes.")
@click.option(
    "--dask-resources",
    callback=_parse_resources,
    metavar="NAME=COUNT,...",
    help="What a scene takes of a Dask worker's resources, e.g. GPU=1.",
)
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    dry_run: bool,
    fail_fast: bool,
    jobs: int,
    dask: str | None,
    dask_resources: dict[str, float] | None,
    **settings: Any,
) -> None:
    """Find clouds and their shadows in each INPUT.

    An INPUT is a product folder or archive, a GeoTIFF, a STAC item, item collection or catalogue (file or address), a
    pattern of such names, or - to read names from stdin. For each scene FOLDER gets a mask, its uncertainty and a STAC
    item; the path of the item is written to stdout. One run at a time works in FOLDER; another one ends with exit
    code 1.
    """
    talk = ctx.find_object(Talk) or Talk()
    reading = {name: settings.pop(name) for name in READING}
    try:
        options = Options(**settings)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err
    if jobs < 0 or (dask is not None and jobs != 1) or (dask_resources is not None and dask is None):
        raise click.UsageError("--jobs is not negative, stands without --dask, and --dask-resources with it.", ctx)
    code = run_batch(
        talk, expand(inputs), output, options,
        jobs=jobs, dask=dask, resources=dask_resources, dry_run=dry_run, fail_fast=fail_fast, **reading,
    )  # fmt: skip
    ctx.exit(code)
