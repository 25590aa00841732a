"""``unclouded calibrate``: fit the temperature of a trained network."""

from __future__ import annotations

from pathlib import Path

import click

from ._talk import Talk, table


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--last", is_flag=True, help="Take the weights of the last epoch instead of the best.")
@click.pass_context
def command(ctx: click.Context, run: Path, last: bool) -> None:
    """Fit one temperature per radiometric level on the images that chose the weights of RUN, a training run's folder.

    The result is kept in the folder; 'unclouded export' writes it into the card.
    """
    from ..train.finish import calibrate
    from ..train.run import load_run

    talk = ctx.find_object(Talk) or Talk()
    found = calibrate(load_run(run), "last" if last else "best")
    rows: list[list[object]] = []
    for level, one in found.items():
        error = one.expected_calibration_error
        talk.emit({"level": level, **one.model_dump(mode="json")})
        rows.append([level, round(one.temperature, 4), None if error is None else round(error, 4), one.fitted_on])
    talk.put(table(["level", "temperature", "calibration error", "fitted on"], rows))
