"""``unclouded remove``: give back a scene without its clouds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..classes import CLASSES
from ..errors import InputError
from ..remove_options import RemoveOptions
from ._batch import run_each
from ._inputs import READING, expand, reading_options
from ._talk import Talk

_DEFAULT = RemoveOptions()
_SEVERAL = ("--history", "--history-masks")


class _Command(click.Command):
    """Command some of whose options take all words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its words, as click wants it."""
        out: list[str] = []
        option = bare = ""
        for word in args:
            if word.startswith("-") and word != "-":
                if bare:
                    break
                option = bare = word if word in _SEVERAL else ""
                out += [] if option else [word]
            else:
                bare = ""
                out += [option, word] if option else [word]
        if bare:
            raise click.UsageError(f"Option '{bare}' requires an argument.", ctx)
        return super().parse_args(ctx, out)


@click.command(cls=_Command)
@click.argument("scene", metavar="SCENE")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where results go."
)
@click.option("--sar", metavar="IMAGE", help="Sentinel-1 image, VV and VH, of about the same time.")
@click.option(
    "--sar-unit",
    type=click.Choice(["decibel", "power"]),
    default="decibel",
    show_default=True,
    help="What its backscatter is stored as.",
)
@click.option("--history", multiple=True, metavar="SCENE...", help="Other dates of the same sensor and level.")
@click.option("--mask", metavar="FILE", help="Mask of the scene, as 'unclouded mask' writes it. Default: made.")
@click.option("--history-masks", multiple=True, metavar="FILE...", help="Masks of the other dates, in their order.")
@reading_options
@click.option(
    "--model", default=_DEFAULT.model, show_default=True, help="Removal model, its folder or file, or 'none'."
)
@click.option("--mask-model", default=_DEFAULT.mask_model, show_default=True, help="Model that finds the clouds.")
@click.option(
    "--rebuild",
    multiple=True,
    type=click.Choice([one.name for one in CLASSES[1:]]),
    default=_DEFAULT.rebuild,
    help="Class of the mask that is rebuilt; once for each. Default: all.",
)
@click.option("--dilation", default=_DEFAULT.dilation, show_default=True, help="Pixels by which these are widened.")
@click.option("--feather", default=_DEFAULT.feather, show_default=True, help="Pixels over which the result fades in.")
@click.option("--tile", default=_DEFAULT.tile, show_default=True, help="Side of the network's window in pixels.")
@click.option("--halo", default=_DEFAULT.halo, show_default=True, help="Margin of that window that is not used.")
@click.option("--threads", default=_DEFAULT.threads, show_default=True, help="CPU threads; 0 means all cores.")
@click.option("--overwrite", is_flag=True, help="Replace existing output.")
@click.option("--resume", is_flag=True, help="Keep output that is complete and was made by the same run.")
@click.option("--dry-run", is_flag=True, help="Only open the inputs and say what would be written.")
@click.pass_context
def command(
    ctx: click.Context,
    scene: str,
    output: Path,
    sar: str | None,
    sar_unit: Any,
    history: tuple[str, ...],
    mask: str | None,
    history_masks: tuple[str, ...],
    dry_run: bool,
    **settings: Any,
) -> None:
    """Give back SCENE without its clouds and shadows.

    SCENE stands first. What other dates show clear is taken from them; what none shows is rebuilt by the model, from
    radar where there is any. FOLDER gets the image, where each pixel comes from, how large its error is expected to
    be, and a STAC item, whose path is written to stdout.
    """
    talk = ctx.find_object(Talk) or Talk()
    reading = {name: settings.pop(name) for name in READING}
    try:
        options = RemoveOptions(**settings)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err

    def work(source: str) -> dict[str, Any]:
        from ..readers import open_scene
        from ..removal import removal_paths, remove

        start = time.monotonic()
        opened = open_scene(source, **reading)
        dates = [open_scene(one, **reading) for one in (expand(history) if history else [])]
        paths = removal_paths(output, opened.id)
        if dry_run:
            for path in paths.values():
                talk.put(str(path))
            return _record(opened.id, source, "planned", paths, None, None, start, opened.warnings)
        before = paths["item"].stat().st_mtime_ns if paths["item"].exists() else None
        with talk.progress(opened.id) as progress:
            result = remove(
                opened,
                options,
                sar=sar,
                sar_unit=sar_unit,
                history=dates,
                mask=mask,
                history_masks=history_masks or None,
                output=output,
                progress=progress,
            )
        for warning in result.warnings:
            talk.say(f"warning: {opened.id}: {warning}")
        status = "kept" if before is not None and result.outputs["item"].stat().st_mtime_ns == before else "done"
        share = "no valid pixel" if result.rebuilt_percent is None else f"{result.rebuilt_percent:.1f} % rebuilt"
        talk.say(f"{opened.id}: {status}, {share}, {time.monotonic() - start:.1f} s")
        talk.put(str(result.outputs["item"]))
        return _record(
            opened.id, source, status, result.outputs, result.rebuilt_percent, result.counts, start, result.warnings
        )

    ctx.exit(run_each(talk, [scene], work))


def _record(
    scene_id: str,
    source: str,
    status: str,
    outputs: dict[str, Path],
    rebuilt: float | None,
    counts: dict[int, int] | None,
    start: float,
    warnings: Any,
) -> dict[str, Any]:
    return {
        "id": scene_id,
        "input": source,
        "status": status,
        "outputs": {product: str(path) for product, path in outputs.items()},
        "rebuilt_percent": rebuilt,
        "pixels": counts,
        "seconds": round(time.monotonic() - start, 3),
        "warnings": list(warnings),
    }
