"""``rio unclouded``: the whole command line as a plug-in of rasterio's.

    rio unclouded mask scene.tif -o out
"""

from __future__ import annotations

import click


@click.command(
    "unclouded",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    add_help_option=False,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Find clouds and their shadows in satellite scenes."""
    from .cli import main

    main(words)
