"""``unclouded report``: one HTML page about the results in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from ._talk import Talk


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page.  [default: FOLDER/report.html]",
)
@click.pass_context
def command(ctx: click.Context, folder: Path, output: Path | None) -> None:
    """Write one HTML page about all results in FOLDER: pictures, classes, warnings, cloud cover over time.

    Everything is inside the page, which can be mailed or archived; it needs no network and runs no script. A page of
    that name is replaced. Its path is written to stdout.
    """
    from ..view.report import write_report

    talk = ctx.find_object(Talk) or Talk()
    page, found = write_report(folder, output)
    talk.say(f"{len(found)} result{'s' * (len(found) > 1)}, {sum(bool(one.warnings) for one in found)} with warnings.")
    talk.put(str(page))
    talk.emit({"report": str(page), "results": [one.id for one in found]})
