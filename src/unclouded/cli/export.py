"""``unclouded export``: a trained network as files that ``unclouded mask`` runs."""

from __future__ import annotations

from pathlib import Path

import click

from ._talk import Talk


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where it goes.")
@click.option("--name", help="Name of the model and its files. Default: that of the run's folder.")
@click.option("--version", default="0.1.0", show_default=True, help="Version of the model.")
@click.option("--licence", default="", help="Licence of the weights.")
@click.option("--last", is_flag=True, help="Take the weights of the last epoch instead of the best.")
@click.pass_context
def command(
    ctx: click.Context, run: Path, output: Path, name: str | None, version: str, licence: str, last: bool
) -> None:
    """Write the network of RUN, a training run's folder, as safetensors and ONNX with its card.

    Both are checked against torch. 'unclouded mask --model FOLDER' runs it.
    """
    from ..train.finish import calibration_of, export_run
    from ..train.run import load_run

    talk = ctx.find_object(Talk) or Talk()
    loaded = load_run(run)
    if loaded.config.task == "mask" and not calibration_of(loaded):
        talk.say(f"warning: {run} was never calibrated; 'unclouded calibrate {run}' makes its probabilities mean more.")
    card = export_run(
        loaded, output, name=name, which="last" if last else "best", version=version, licence=licence
    )
    talk.emit({"name": card.name, "output": str(output), "parameters": card.parameters, "sha256": card.sha256})
    talk.put(f"{output}: {card.name}, {card.parameters} parameters")
