"""``unclouded polygons``: outlines of clouds and shadows for the masks in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..classes import CLASSES
from ..errors import InputError
from ._batch import run_each
from ._talk import Talk


@click.command()
@click.argument("masks", nargs=-1, required=True, metavar="MASK...")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: beside the mask.")
@click.option(
    "--format", "ending", type=click.Choice(["fgb", "parquet"]), default="fgb", show_default=True,
    help="FlatGeobuf or GeoParquet.",
)  # fmt: skip
@click.option(
    "--class", "classes", multiple=True, type=click.Choice([one.name for one in CLASSES]),
    help="Class to outline; may be given several times.  [default: clouds and shadows]",
)  # fmt: skip
@click.option("--min-pixels", default=1, show_default=True, help="Patches of fewer pixels join the one beside them.")
@click.pass_context
def command(
    ctx: click.Context,
    masks: tuple[str, ...],
    output: Path | None,
    ending: str,
    classes: tuple[str, ...],
    min_pixels: int,
) -> None:
    """Outline the clouds and shadows of each MASK, a mask file or a folder of results.

    Writes <id>_polygons.fgb (FlatGeobuf) or .parquet (GeoParquet), which GIS programs open; a file of that name is
    replaced. Its path is written to stdout.
    """
    from ..polygons import write_polygons

    talk = ctx.find_object(Talk) or Talk()

    def work(source: str) -> dict[str, Any]:
        mask = Path(source)
        name = mask.name.removesuffix(".tif").removesuffix("_mask")
        target = (mask.parent if output is None else output) / f"{name}_polygons.{ending}"
        count = write_polygons(mask, target, classes=classes or None, min_pixels=min_pixels)
        talk.say(f"{name}: {count} polygons")
        talk.put(str(target))
        return {"status": "done", "id": name, "outputs": {"polygons": str(target)}, "polygons": count}

    ctx.exit(run_each(talk, [path for one in masks for path in _masks(one)], work))


def _masks(place: str) -> list[str]:
    if not Path(place).is_dir():
        return [place]
    found = sorted(str(path) for path in Path(place).rglob("*_mask.tif") if not path.name.startswith("."))
    if not found:
        raise InputError(
            f"There is no mask in {place}.",
            expected="Masks are files that end in _mask.tif.",
            remedy="Pass the folder that was given to unclouded mask -o.",
        )
    return found
