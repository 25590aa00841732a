"""``unclouded reproduce``: a table of a paper, measured again beside the printed figures."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

from ._talk import Talk


@click.command()
@click.argument("name", metavar="PAPER/TABLE", required=False)
@click.option(
    "--data", "data", multiple=True, metavar="[NAME=]FOLDER",
    help="Folder with a folder for each data set, or the folder of one data set.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="The whole way at toy size, without data; the figures mean nothing.")
@click.option("--run", "trained", multiple=True, metavar="NAME=FOLDER", help="Take a finished run for a training.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of every training.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("reproduced"), show_default=True, metavar="FOLDER",
    help="Where runs and tables go; tables share runs.",
)  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="List the tables.")
@click.pass_context
def command(
    ctx: click.Context,
    name: str | None,
    data: tuple[str, ...],
    quick: bool,
    trained: tuple[str, ...],
    changes: tuple[str, ...],
    output: Path,
    listing: bool,
) -> None:
    """Measure a table of a paper again and show it beside the printed figures.

    Trains what the rows need, or goes on with what an earlier call has trained. The table is also written into the
    output folder, as Markdown and JSON.
    """
    talk = ctx.find_object(Talk) or Talk()
    if listing:
        _list(talk)
        return
    if name is None:
        raise click.UsageError("Name a table, or pass --list.", ctx)
    from rasterio.errors import NotGeoreferencedWarning

    from ..train.reproduce import Places, reproduce

    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # patches of data sets have no place on Earth
    plain = [Path(value).expanduser() for value in data if "=" not in value]
    if len(plain) > 1:
        raise click.BadParameter("Give one folder without a name.", ctx, param_hint="--data")
    places = Places(
        output, plain[0] if plain else None, _pairs(ctx, [v for v in data if "=" in v], "--data"),
        _pairs(ctx, trained, "--run"),
    )  # fmt: skip
    talk.change(verbose=1)
    found = reproduce(name, places, quick=quick, changes=changes, progress=talk.say)
    talk.emit(found.as_dict())
    talk.put(found.text())


def _pairs(ctx: click.Context, values: list[str] | tuple[str, ...], option: str) -> dict[str, Path]:
    out = {}
    for value in values:
        name, _, folder = value.partition("=")
        if not name or not folder:
            raise click.BadParameter(f"'{value}' is not of the form NAME=FOLDER.", ctx, param_hint=option)
        out[name] = Path(folder).expanduser()
    return out


def _list(talk: Talk) -> None:
    from ..experiments import names, read_experiment

    for name in names():
        table = read_experiment(name)
        talk.emit({"name": name, "title": table.title, "source": table.source, "runs": list(table.needed_runs())})
        talk.put(f"{name:30} {table.title}")
