"""``unclouded sensors``: the catalogue of sensors."""

from __future__ import annotations

from typing import Any

import click

from ._talk import Talk, table


@click.group()
def command() -> None:
    """List the known sensors, or show one."""


@command.command("list")
@click.pass_context
def _list(ctx: click.Context) -> None:
    """List the known sensors."""
    from .. import sensors

    talk = ctx.find_object(Talk) or Talk()
    known = [sensors.load(name) for name in sensors.names()]
    for one in known:
        talk.emit({"name": one.name, "title": one.title, "level": one.level, "bands": [b.name for b in one.bands]})
    rows = [[one.name, one.level, len(one.bands), one.title] for one in known]
    talk.put(table(["name", "level", "bands", "title"], rows))


@command.command("show")
@click.argument("name")
@click.pass_context
def _show(ctx: click.Context, name: str) -> None:
    """Show the bands and the radiometry of the sensor NAME."""
    from .. import sensors

    talk = ctx.find_object(Talk) or Talk()
    found = sensors.load(name)
    told: dict[str, Any] = found.model_dump(mode="json", exclude={"band"})
    bands = [band.model_dump(mode="json") for band in found.band]
    talk.emit({**told, "bands": bands})
    for key, value in told.items():
        if value is not None:
            talk.put(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    header = [key for key in bands[0] if any(band[key] is not None for band in bands)]
    talk.put("bands:\n" + table(header, [[band[key] for key in header] for band in bands]))
