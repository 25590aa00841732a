"""``unclouded composite``: one clear image out of many dates of one place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..infer.composites import METHODS
from ..options import Options
from ._inputs import expand
from ._talk import Talk

_DEFAULT = Options()


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where results go."
)
@click.option("--name", default="composite", show_default=True, help="First part of the files' names.")
@click.option("--method", type=click.Choice(METHODS), default="median", show_default=True, help="How dates become one.")
@click.option(
    "--masks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Output of 'unclouded mask' for these scenes. Default: mask them now.",
)
@click.option("--bands", metavar="NAME,...", help="Bands wanted. Default: the optical ones that all scenes have.")
@click.option("--target", metavar="YYYY-MM-DD", help="Date that the method 'best' prefers.")
@click.option("--buffer", default=2, show_default=True, help="Pixels around clouds and shadows left out, too.")
@click.option("--model", default=_DEFAULT.model, show_default=True, help="Model that masks, or its folder or file.")
@click.option("--threads", default=_DEFAULT.threads, show_default=True, help="CPU threads; 0 means all cores.")
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    bands: str | None,
    model: str,
    threads: int,
    **settings: Any,
) -> None:
    """Make one clear image out of the SCENEs.

    They have to be of one place and level, with the same pixels. FOLDER gets the image, the number of the date and of
    clear dates for each pixel, and a STAC item; the path of the item is written to stdout.
    """
    from ..compositing import composite

    talk = ctx.find_object(Talk) or Talk()
    begin = time.monotonic()
    with talk.progress(settings["name"]) as progress:
        made = composite(
            expand(inputs),
            bands=None if bands is None else [name.strip() for name in bands.split(",")],
            output=output,
            options=Options(model=model, threads=threads),
            progress=progress,
            **settings,
        )
    seconds = time.monotonic() - begin
    talk.say(
        f"{settings['name']}: {len(made.scenes)} scenes, {made.filled_percent:.1f} % of the pixels filled,"
        f" {seconds:.1f} s"
    )
    talk.put(str(made.outputs["item"]))
    talk.emit(
        {
            "id": settings["name"],
            "scenes": list(made.scenes),
            "filled_percent": made.filled_percent,
            "outputs": {product: str(path) for product, path in made.outputs.items()},
            "seconds": round(seconds, 3),
        }
    )
