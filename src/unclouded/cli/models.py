"""``unclouded models``: the models that come with unclouded, what any model's card says, models from elsewhere."""

from __future__ import annotations

from typing import Any

import click

from ._costs import complexity
from ._import import import_
from ._talk import Talk, table


@click.group()
def command() -> None:
    """List the models that come with unclouded, show a model's card, or import published weights."""


command.add_command(complexity)
command.add_command(import_)


@command.command("list")
@click.pass_context
def _list(ctx: click.Context) -> None:
    """List the models that come with unclouded."""
    from ..infer.runner import find_model, shipped
    from ..models.card import ModelCard

    talk = ctx.find_object(Talk) or Talk()
    rows: list[list[object]] = []
    for name in shipped():
        files = find_model(name)
        card = ModelCard.load(files.card)
        size = round(files.weights.stat().st_size / 1e6, 1)
        rows.append([name, card.version, card.parameters, size, card.licence, card.title])
        talk.emit(
            {
                "name": name,
                "version": card.version,
                "title": card.title,
                "parameters": card.parameters,
                "licence": card.licence,
                "weights": str(files.weights),
                "megabytes": size,
            }
        )
    talk.put(table(["name", "version", "parameters", "MB", "licence", "title"], rows))


@command.command("show")
@click.argument("name")
@click.pass_context
def _show(ctx: click.Context, name: str) -> None:
    """Show the card of the model NAME: a shipped model, or a model's folder or file."""
    from ..infer.runner import find_model
    from ..models.card import ModelCard

    talk = ctx.find_object(Talk) or Talk()
    files = find_model(name)
    told: dict[str, Any] = ModelCard.load(files.card).model_dump(mode="json")
    talk.emit(told)
    talk.put(f"weights: {files.weights}")
    for key, value in told.items():
        if value in (None, [], {}, ()):
            continue
        if isinstance(value, list) and isinstance(value[0], dict):
            header = list(value[0])
            talk.put(f"\n{key}:\n" + table(header, [[row[part] for part in header] for row in value]))
        elif isinstance(value, list) and key == "limits":
            talk.put(f"\n{key}:\n" + "\n".join(f"- {one}" for one in value))
        elif isinstance(value, dict):
            talk.put(f"{key}:\n" + "\n".join(f"  {name}: {one}" for name, one in value.items()))
        else:
            talk.put(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
