"""``unclouded composite``: one clear image out of many dates of one place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..infer.composites import METHODS
from ..options import Options
from ._batch import batch_options, counted, run_batch
from ._inputs import expand, reading_options
from ._talk import Talk

_DEFAULT = Options()


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where results go."
)
@click.option("--name", default="composite", show_default=True, help="First part of the files' names.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["tile", "year", "month", "day"]),
    help="Make one for each tile, or for each period; both may be given.  [default: one of all]",
)
@click.option("--method", type=click.Choice(METHODS), default="median", show_default=True, help="How dates become one.")
@click.option(
    "--masks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Output of 'unclouded mask' for these scenes. Default: made in FOLDER/masks.",
)
@click.option("--bands", metavar="NAME,...", help="Bands wanted. Default: the optical ones that all scenes have.")
@click.option("--target", metavar="YYYY-MM-DD", help="Date that the method 'best' prefers.")
@click.option("--buffer", default=2, show_default=True, help="Pixels around clouds and shadows left out, too.")
@click.option("--model", default=_DEFAULT.model, show_default=True, help="Model that masks, or its folder or file.")
@click.option("--threads", default=_DEFAULT.threads, show_default=True, help="CPU threads; 0 means all cores.")
@reading_options(bands=False)
@batch_options
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    bands: str | None,
    model: str,
    threads: int,
    overwrite: bool,
    resume: bool,
    way: dict[str, Any],
    **settings: Any,
) -> None:
    """Make one clear image out of the SCENEs, or one for each tile and period.

    A SCENE is whatever 'unclouded mask' takes, - for names on stdin included. Those of one image have to be of one
    place and level, with the same pixels. FOLDER gets the image, the number of the date and of clear dates for each
    pixel, and a STAC item; the path of the item is written to stdout. Masks that have to be made stay in FOLDER/masks.
    """
    from ..batch import composite
    from ..batch_inputs import sources

    talk = ctx.find_object(Talk) or Talk()
    try:
        options = Options(model=model, threads=threads, overwrite=overwrite, resume=resume)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err
    chosen = None if bands is None else [name.strip() for name in bands.split(",")]
    many = bool(settings["by"])
    work = partial(composite, sources(expand(inputs)), output, options, bands=chosen, **way, **settings)
    ctx.exit(run_batch(talk, "composites", many, work, _told))


def _told(figures: Mapping[str, Any]) -> str:
    return f"{counted(figures['scenes'], 'scene')}, {figures['filled_percent']:.1f} % of the pixels filled"
