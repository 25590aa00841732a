"""``unclouded info``: what was recognised in an input, and where each figure comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._batch import run_each
from ._inputs import expand, reading_options
from ._talk import Talk, table


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@reading_options
@click.option("--resolution", "resolution_m", type=float, help="Pixel size in metres of an image without position.")
@click.pass_context
def command(ctx: click.Context, inputs: tuple[str, ...], **reading: Any) -> None:
    """Show what is recognised in each INPUT: sensor, bands, level, scale, offset and where they come from.

    The share of saturated pixels is that of five small windows; of remote images it is not looked for. A product
    whose images are missing is described by its metadata.
    """
    from ..readers import describe
    from ..saturation import sampled_percent

    talk = ctx.find_object(Talk) or Talk()

    def work(source: str) -> dict[str, Any]:
        told, scene = describe(source, **reading)
        if scene is not None:
            for band in told["bands"]:
                name = band["name"]
                band["saturated_percent"] = sampled_percent(scene.sources[name], scene.radiometry[name])
        _put(talk, told)
        return {"status": "done", **told}

    ctx.exit(run_each(talk, expand(inputs), work))


def _put(talk: Talk, told: dict[str, Any]) -> None:
    """Print a description for people: single values first, then lists of records as tables."""
    for key, value in told.items():
        if value in (None, [], {}, ()):
            continue
        title = key.replace("_", " ")
        if isinstance(value, list) and isinstance(value[0], dict):
            header = list(dict.fromkeys(name for row in value for name in row))
            # Whole paths would push the figures out of sight; --json has them.
            rows = [
                [_text(row.get(name)) if name != "file" else Path(str(row.get(name))).name for name in header]
                for row in value
            ]
            talk.put(f"{title}:\n" + _indented(table(header, rows)))
        elif isinstance(value, dict):
            rows = [[f"{name}:", _text(one)] for name, one in value.items()]
            talk.put(f"{title}:\n" + _indented("\n".join(f"{name} {one}" for name, one in rows)))
        elif isinstance(value, list) and key == "warnings":
            talk.put("\n".join(f"warning: {one}" for one in value))
        else:
            talk.put(f"{title}: {_text(value)}")
    talk.put("")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
