"""``unclouded simulate``: data sets of simulated scenes with exact truth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from ._talk import Talk, table


@click.command()
@click.argument("output", type=click.Path(path_type=Path, file_okay=False), metavar="OUT")
@click.option("--sensor", help="Sensor to imitate.  [default: the background's, or sentinel2-l1c]")
@click.option("--scenes", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--size", type=click.IntRange(32), help="Side in pixels.  [default: 512; 256 for pairs, 1098 for SAFE]")
@click.option("--seed", default=1, show_default=True, help="The same number gives the same scenes.")
@click.option(
    "--background",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Clear product or raster, or a folder of them, as the ground. Left out: the ground is made up.",
)
@click.option("--scale", type=float, help="Reflectance per count of a background that does not say it, e.g. 0.0001.")
@click.option("--offset", type=float, help="Reflectance added after scaling the background, e.g. -0.1.")
@click.option("--nodata", type=float, help="Stored value of missing pixels of the background.")
@click.option("--pairs", is_flag=True, help="Cloudy and clear images with radar, laid out like SEN12MS-CR.")
@click.option("--sar", is_flag=True, help="Also radar: VV and VH in decibel.")
@click.option("--dem", is_flag=True, help="Also heights in metres, which fit the light on the slopes.")
@click.option(
    "--product",
    type=click.Choice(["geotiff", "safe"]),
    default="geotiff",
    show_default=True,
    help="Images with labels, or whole Sentinel-2 products.",
)
@click.option("--overwrite", is_flag=True, help="Replace scenes that were made with other settings.")
@click.pass_context
def command(
    ctx: click.Context,
    output: Path,
    sensor: str | None,
    scenes: int,
    size: int | None,
    background: Path | None,
    scale: float | None,
    offset: float | None,
    nodata: float | None,
    overwrite: bool,
    **wishes: Any,
) -> None:
    """Write simulated scenes into the folder OUT: clouds, shadows, and what is true of every pixel.

    Scenes that are complete are kept, so that an interrupted run goes on, and --scenes may grow.
    """
    from ..readers import open_scene
    from ..simulate.dataset import PAIR_SIDE, Order, background_scenes, simulate_dataset

    talk = ctx.find_object(Talk) or Talk()
    grounds = []
    if background is not None:
        opener = partial(open_scene, sensor=sensor, scale=scale, offset=offset, nodata=nodata)
        grounds = background_scenes(background, opener)
    elif any(value is not None for value in (scale, offset, nodata)):
        raise click.UsageError("--scale, --offset and --nodata say how to read a --background.", ctx)
    side = PAIR_SIDE if wishes["pairs"] else 1098 if wishes["product"] == "safe" else 512
    order = Order(
        sensor=sensor or (grounds[0].sensor if grounds else "sentinel2-l1c"),
        scenes=scenes,
        size=side if size is None else size,
        **wishes,
    )
    rows = []
    with talk.progress("Simulating") as progress:
        for made in simulate_dataset(output, order, backgrounds=grounds, overwrite=overwrite):
            talk.emit({"id": made.name, "status": "kept" if made.kept else "made", "item": str(made.item),
                       "class_percent": made.percent})  # fmt: skip
            rows.append([made.name, "kept" if made.kept else "made", *(round(one, 1) for one in made.percent.values())])
            progress(len(rows) / scenes)
    talk.put(table(["scene", "", *made.percent], rows))
    talk.put(f"\n{len(rows)} scenes in {output}: percent of pixels of each class")
