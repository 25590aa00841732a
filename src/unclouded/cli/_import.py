"""``unclouded models import``: a model made of a checkpoint that others published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._talk import Talk

if TYPE_CHECKING:
    from ..models.importing import Imported


@click.command("import")
@click.argument("kind", type=click.Choice(["mscloudcam", "sensei-v2", "unet-mobv2"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where the model goes."
)
@click.option("--name", help="Name of the model.  [default: that of the configuration, or KIND]")
@click.option("--licence", help="Licence of the weights, where it is not known or another.")
@click.option(
    "--sensor", default="sentinel2-l1c", show_default=True, help="Sensor whose bands a network of fixed bands takes."
)
@click.option("--bands", metavar="NAME,...", help="These bands, in the network's order.  [default: all of the sensor]")
@click.option("--config", type=click.Path(path_type=Path), help="The config.yaml of a sensei-v2 model.")
@click.option("--onnx", is_flag=True, help="Also write an ONNX file, which runs without torch.")
@click.option("--overwrite", is_flag=True, help="Replace a model of this name.")
@click.pass_context
def import_(ctx: click.Context, kind: str, file: Path, output: Path, bands: str | None, **settings: Any) -> None:
    """Make a model of a published checkpoint FILE, for 'unclouded mask --model'.

    FILE is .pt, .pth, .ckpt or .safetensors; nothing in it is executed. The path of the model's card is written to
    stdout, what had no place in the network to stderr.
    """
    from ..models.importing import import_checkpoint

    talk = ctx.find_object(Talk) or Talk()
    names = None if bands is None else [name.strip() for name in bands.split(",")]
    made = import_checkpoint(kind, file, output, bands=names, **settings)
    _tell(made, talk)


def _tell(made: Imported, talk: Talk) -> None:
    card = made.card
    for key in made.unexpected:
        talk.say(f"not mapped: {key}")
    if made.left_out:
        talk.say(f"left out, of training only: {len(made.left_out)} entries such as {made.left_out[0]}")
    talk.say(f"{card.name}: {card.architecture}, {card.parameters} parameters, {', '.join(card.classes)}")
    if card.bands:
        talk.say(f"bands: {', '.join(band.name for band in card.bands)}; scaling of reflectance: {card.scaling.mode}")
    talk.say(f"licence: {card.licence}")
    talk.put(str(made.path))
    talk.emit(
        {
            "card": str(made.path),
            "name": card.name,
            "architecture": card.architecture,
            "licence": card.licence,
            "files": {suffix: str(made.path.with_suffix(f".{suffix}")) for suffix in card.sha256},
            "unexpected": list(made.unexpected),
            "left_out": list(made.left_out),
        }
    )
