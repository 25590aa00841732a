"""``unclouded demo``: a simulated product with known truth, masked and scored."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..options import Options
from ._talk import Talk, table

if TYPE_CHECKING:
    from ..metrics import ClassScores, Confusion


@click.command()
@click.option(
    "-o",
    "--output",
    default="demo-out",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where product, truth and results go.",
)
@click.option("--size", type=int, help="Side of the scene in pixels of 10 m, a multiple of 6.  [default: 1098]")
@click.option("--seed", type=int, help="Another number gives another scene.")
@click.option("--model", default="default", show_default=True, help="Name of a model, or its folder or file.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demonstration.")
@click.pass_context
def command(
    ctx: click.Context, output: Path, size: int | None, seed: int | None, model: str, overwrite: bool
) -> None:
    """Mask a simulated Sentinel-2 scene and compare the result with the truth.

    Writes a product as from Sentinel-2, the true classes, the mask and a picture of it. Needs no data and no network.
    """
    from ..demo import SEED, SIZE, run_demo

    talk = ctx.find_object(Talk) or Talk()
    start = time.monotonic()
    talk.say("Simulating a scene ...")
    options = Options(model=model, overwrite=overwrite, quicklook=True)
    try:
        with talk.progress("Masking") as progress:
            made = run_demo(
                output,
                size=SIZE if size is None else size,
                seed=SEED if seed is None else seed,
                options=options,
                progress=progress,
            )
    except InputError as err:
        if "--size" in err.remedy:
            raise click.UsageError(str(err), ctx) from err
        raise
    for warning in made.result.warnings:
        talk.say(f"warning: {warning}")
    scores = _scores(made.table)
    outputs = {"product": made.product, "truth": made.truth, **made.result.outputs}
    talk.emit(
        {
            "id": made.result.id,
            "status": "done",
            "outputs": {name: str(path) for name, path in outputs.items()},
            "cloud_percent": made.result.cloud_percent,
            "seconds": round(time.monotonic() - start, 3),
            "warnings": list(made.result.warnings),
            "scores": {name: _known(dataclasses.asdict(one)) for name, one in scores.items()},
            "overall_accuracy": _known({"": made.table.overall_accuracy})[""],
        }
    )
    header = ["class", "IoU", "precision", "recall", "F1", "pixels"]
    rows = [
        [name, *(_percent(value) for value in (one.iou, one.precision, one.recall, one.f1)), one.pixels]
        for name, one in scores.items()
    ]
    talk.put(f"Mask against truth, in percent of pixels of {made.result.id}:\n")
    talk.put(table(header, rows))
    talk.put(f"\nright: {_percent(made.table.overall_accuracy)} % of {made.table.pixels} pixels\n")
    talk.put(table(["file", "path"], [[name, path] for name, path in outputs.items()]))
    talk.put(
        "\nThe scene is simulated: these figures say that everything works, not how well real clouds are found."
    )


def _scores(counts: Confusion) -> dict[str, ClassScores]:
    return {**counts.scores(), "cloud (thick or thin)": counts.merged(["thick-cloud", "thin-cloud"])}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """NaN has no place in JSON: what is undefined is null."""
    return {
        key: None if isinstance(one, float) and math.isnan(one) else round(one, 6) if isinstance(one, float) else one
        for key, one in values.items()
    }


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
