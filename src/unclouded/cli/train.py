"""``unclouded train``: train a network as a configuration says, or go on with a run."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ._talk import Talk


@click.command()
@click.option(
    "-c",
    "--config",
    metavar="FILE|NAME",
    help="A YAML file, or the name of a paper's protocol, such as mscloudcam; --list shows them.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. optimiser.rate=0.001.")
@click.option("--data", "roots", multiple=True, metavar="NAME=FOLDER", help="Where a data set is.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder, if there is one.")
@click.option("--dry-run", is_flag=True, help="Check the configuration and show every key of it.")
@click.option("--list", "listed", is_flag=True, help="List the papers' protocols.")
@click.pass_context
def command(
    ctx: click.Context,
    config: str | None,
    changes: tuple[str, ...],
    roots: tuple[str, ...],
    output: Path | None,
    resume: bool,
    dry_run: bool,
    listed: bool,
) -> None:
    """Train a network on data sets or simulated scenes.

    A run that was killed goes on with --resume, and ends as if it had not been. For several GPUs, or machines:
    torchrun --nproc-per-node 4 -m unclouded train -c FILE
    """
    from ..train.config_file import read_config

    talk = ctx.find_object(Talk) or Talk()
    if listed:
        _list(talk)
        return
    if config is None:
        raise click.UsageError("Missing option '-c'. 'unclouded train --list' names the papers' protocols.", ctx)
    for root in roots:
        if not all(root.partition("=")):
            raise click.BadParameter(f"'{root}' is not of the form NAME=FOLDER.", ctx, param_hint="--data")
    given = [*changes, *(f"roots.{root}" for root in roots)]
    read = read_config(config, [*given, f"output={output}"] if output else given)
    if dry_run:
        talk.put(read.dump())
        talk.emit(read.model_dump(mode="json"))
        return
    from ..train.run import fit

    talk.change(verbose=1)
    with talk.progress(f"Training {read.model.name}") as progress:
        run = fit(read, resume=resume, progress=progress)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return
    last = run.log()[-1]
    talk.emit({"status": "done", "output": str(run.folder), **_finite(last)})
    talk.put(f"{run.folder}: " + ", ".join(f"{key} {value:g}" for key, value in last.items()))


def _list(talk: Talk) -> None:
    from ..train.config_file import protocols, read_config

    for name in protocols():
        title = read_config(name).title
        talk.emit({"name": name, "title": title})
        talk.put(f"{name:22} {title}")


def _finite(row: dict[str, float]) -> dict[str, float | None]:
    """NaN has no place in JSON: what is undefined is null."""
    return {key: value if value == value else None for key, value in row.items()}
