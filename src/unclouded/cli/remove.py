"""``unclouded remove``: give back a scene without its clouds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..classes import CLASSES
from ..errors import InputError
from ..remove_options import RemoveOptions
from ._batch import batch_options, counted, percent, run_batch
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
@click.argument("inputs", nargs=-1, required=True, metavar="SCENE...")
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
@click.option("--history", multiple=True, metavar="SCENE...", help="Other dates, of all scenes; same sensor and level.")
@click.option("--mask", metavar="FILE", help="Mask of the scene, as 'unclouded mask' writes it. Default: made.")
@click.option("--history-masks", multiple=True, metavar="FILE...", help="Masks of the other dates, in their order.")
@click.option(
    "--masks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Masks of all scenes and dates, as 'unclouded mask' writes them, in place of the two before.",
)
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
@click.option("--quicklook", is_flag=True, help="Also write a picture: before, after, where it comes from.")
@batch_options
@click.pass_context
def command(
    ctx: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    sar: str | None,
    sar_unit: Any,
    history: tuple[str, ...],
    mask: str | None,
    history_masks: tuple[str, ...],
    masks: Path | None,
    way: dict[str, Any],
    **settings: Any,
) -> None:
    """Give back each SCENE without its clouds and shadows.

    The scenes stand first: paths, patterns, STAC items, collections or catalogues, or - to read names from stdin. What
    other dates show clear is taken from them; what none shows is rebuilt by the model, from radar where there is any.
    No scene is its own other date, so that --history may name all scenes of a series. FOLDER gets for each scene the
    image, where each pixel comes from, how large its error is expected to be, and a STAC item, whose path is written to
    stdout. Masks of several scenes are made first, and stay in FOLDER/masks.
    """
    from ..batch import remove
    from ..batch_inputs import sources

    talk = ctx.find_object(Talk) or Talk()
    reading = {name: settings.pop(name) for name in READING}
    try:
        options = RemoveOptions(**settings)
    except InputError as err:
        raise click.UsageError(str(err), ctx) from err
    found = sources(expand(inputs))
    if len(found) > 1 and (mask or history_masks):
        raise click.UsageError("Masks of several scenes are given as a folder: --masks.", ctx)
    work = partial(
        remove, found, output, options, history=expand(history) if history else (), sar=sar, sar_unit=sar_unit,
        mask=mask, history_masks=history_masks, masks=masks, **way, **reading,
    )  # fmt: skip
    code = run_batch(
        talk, counted(found, "scene"), len(found) > 1, work,
        lambda figures: percent(figures["replaced_percent"], "replaced"),
    )  # fmt: skip
    ctx.exit(code)
