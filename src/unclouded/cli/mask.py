"""``unclouded mask``: find clouds and shadows in scenes and write the result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, OutputError
from ..options import Options
from ._batch import run_each
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
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--resume", is_flag=True, help="Keep output that is complete and was made by the same run.")
@click.option("--dry-run", is_flag=True, help="Only open the inputs and say what would be written.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first scene that fails.")
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    dry_run: bool,
    fail_fast: bool,
    **settings: Any,
) -> None:
    """Find clouds and their shadows in each INPUT.

    An INPUT is a product folder or archive, a GeoTIFF, a pattern of such names, or - to read names from stdin. For
    each scene FOLDER gets a mask, its uncertainty and a STAC item; the path of the item is written to stdout.
    """
    from ..readers import open_scene
    from ..write.resume import output_paths

    talk = ctx.find_object(Talk) or Talk()
    reading = {name: settings.pop(name) for name in READING}
    try:
        options = Options(**settings)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err
    taken: dict[str, str] = {}

    def work(source: str) -> dict[str, Any]:
        start = time.monotonic()
        scene = open_scene(source, resolution_m=options.resolution_m, **reading)
        if scene.id in taken:
            raise OutputError(
                f"'{source}' has the same name '{scene.id}' as '{taken[scene.id]}'.",
                expected="Output files are called after the scene, so names have to differ within one folder.",
                remedy="Write the two to different folders.",
            )
        taken[scene.id] = source
        if dry_run:
            paths = output_paths(output, scene.id, options)
            for path in paths.values():
                talk.put(str(path))
            return _record(scene.id, source, "planned", paths, None, start, scene.warnings)
        from .. import mask

        item = output_paths(output, scene.id, options)["item"]
        before = _written(item)
        with talk.progress(scene.id) as progress:
            result = mask(scene, options, output=output, progress=progress)
        for warning in result.warnings:
            talk.say(f"warning: {scene.id}: {warning}")
        status = "kept" if before is not None and _written(item) == before else "done"
        cover = "no valid pixel" if result.cloud_percent is None else f"{result.cloud_percent:.1f} % cloud"
        talk.say(f"{scene.id}: {status}, {cover}, {time.monotonic() - start:.1f} s")
        talk.put(str(result.outputs["item"]))
        return _record(scene.id, source, status, result.outputs, result.cloud_percent, start, result.warnings)

    ctx.exit(run_each(talk, expand(inputs), work, fail_fast=fail_fast))


def _written(item: Path) -> tuple[int, int] | None:
    """What changes when an item is written anew, None while there is none."""
    try:
        stat = item.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _record(
    scene_id: str,
    source: str,
    status: str,
    outputs: dict[str, Path],
    cloud_percent: float | None,
    start: float,
    warnings: Any,
) -> dict[str, Any]:
    return {
        "id": scene_id,
        "input": source,
        "status": status,
        "outputs": {product: str(path) for product, path in outputs.items()},
        "cloud_percent": cloud_percent,
        "seconds": round(time.monotonic() - start, 3),
        "warnings": list(warnings),
    }
