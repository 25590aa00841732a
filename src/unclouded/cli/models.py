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
        if value in _NOTHING:
            continue
        rows = value if isinstance(value, list) else []
        if isinstance(value, dict) and all(isinstance(one, dict) for one in value.values()):
            rows = [{"for": name, **one} for name, one in value.items()]
        if rows and isinstance(rows[0], dict):
            header = [part for part in rows[0] if any(row[part] not in _NOTHING for row in rows)]
            talk.put(f"\n{key}:\n" + table(header, [[_text(row[part]) for part in header] for row in rows]))
        elif key == "limits":
            talk.put(f"\n{key}:\n" + "\n".join(f"- {one}" for one in value))
        elif isinstance(value, dict):
            kept = {name: one for name, one in value.items() if one not in _NOTHING}
            talk.put(f"{key}:\n" + "\n".join(f"  {name}: {_text(one)}" for name, one in kept.items()))
        else:
            talk.put(f"{key}: {_text(value)}")


_NOTHING: tuple[Any, ...] = (None, "", [], {})


def _text(value: Any) -> str:
    """A value for people: four digits are enough, and lists need no brackets."""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
