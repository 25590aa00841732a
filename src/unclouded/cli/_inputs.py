"""Words of the command line that name scenes, and the options that say how to read them."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import InputError

READING = ("sensor", "bands", "scale", "offset", "nodata", "level")
"""Names of the options of :func:`reading_options`, as :func:`unclouded.open_scene` takes them."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def expand(words: Sequence[str]) -> list[str]:
    """Inputs that words stand for: ``-`` reads names from stdin, line by line; patterns that no shell expanded are.

    Raises:
        InputError: a pattern fits nothing, or stdin is empty.
    """
    out: list[str] = []
    for word in words:
        if word == "-":
            found = [line.strip() for line in sys.stdin if line.strip()]
        elif glob.has_magic(word) and "://" not in word and not Path(word).exists():
            found = sorted(glob.glob(word, recursive=True))
        else:
            found = [word]
        if not found:
            raise InputError(
                "No input was named on stdin." if word == "-" else f"Nothing fits the pattern '{word}'.",
                expected="There has to be at least one scene.",
                remedy="Correct the path or the pattern.",
            )
        out.extend(found)
    return out


def reading_options(function: Any = None, *, bands: bool = True) -> Any:
    """Add the options that say what an input is, for inputs that do not say it themselves; ``--bands`` if wanted."""

    def add(function: _Function) -> _Function:
        for decorate in reversed(_READING if bands else (_READING[0], *_READING[2:])):
            function = decorate(function)
        return function

    return add if function is None else add(function)


def _parse_bands(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[str, int] | list[str] | None:
    """``red=3,nir=4`` as a mapping, ``blue,green,red`` as the names of the first bands."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    names = [part.partition("=")[0].strip() for part in parts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise click.BadParameter(f"'{min(twice)}' is given twice.", ctx, param)
    if all(names) and not any("=" in part for part in parts):
        return names
    out: dict[str, int] = {}
    for name, part in zip(names, parts, strict=True):
        index = part.partition("=")[2].strip()
        if not name or not index.isdecimal() or int(index) == 0:
            raise click.BadParameter(f"'{part}' is not of the form name=number; bands are counted from 1.", ctx, param)
        out[name] = int(index)
    return out


_READING = (
    click.option("--sensor", help="Sensor of the input, see 'unclouded sensors list'. Default: detected."),
    click.option(
        "--bands",
        callback=_parse_bands,
        metavar="NAME=NUMBER,...",
        help="Bands of a plain raster, e.g. red=3,green=2,blue=1,nir=4.",
    ),
    click.option("--scale", type=float, help="Reflectance per count, e.g. 0.0001."),
    click.option("--offset", type=float, help="Reflectance added after scaling, e.g. -0.1."),
    click.option("--nodata", type=float, help="Stored value of missing pixels."),
    click.option(
        "--level",
        type=click.Choice(["toa", "boa", "counts"]),
        help="Top of atmosphere, surface, or uncalibrated.",
    ),
)
