"""``unclouded datasets``: the public data sets that can be read, and what a copy of one holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ._talk import Talk, table

if TYPE_CHECKING:
    from ..data.sample import Sample
    from ..data.sets import DataSet


@click.group()
def command() -> None:
    """List the data sets that can be read, or show one."""


@command.command("list")
@click.pass_context
def _list(ctx: click.Context) -> None:
    """List the data sets that can be read."""
    from ..data import sets

    talk = ctx.find_object(Talk) or Talk()
    known = [sets.get(name) for name in sets.names()]
    for kind in known:
        talk.emit({"name": kind.name, "title": kind.title, "task": kind.task, "licence": kind.licence,
                   "sensors": list(kind.sensors), "splits": list(kind.schemes), "homepage": kind.homepage})  # fmt: skip
    talk.put(table(["name", "task", "title", "licence"], [[k.name, k.task, k.title, k.licence] for k in known]))


@command.command("show")
@click.argument("name")
@click.argument("root", required=False, type=click.Path(file_okay=False))
@click.option("--shares", is_flag=True, help="Also read all labels below ROOT and count the classes.")
@click.option("--set", "chosen", multiple=True, metavar="OPTION=VALUE", help="Option of the data set; may be repeated.")
@click.pass_context
def _show(ctx: click.Context, name: str, root: str | None, shares: bool, chosen: Sequence[str]) -> None:
    """Show the data set NAME: licence, labels, options and how to get it; with ROOT also what that folder holds."""
    from ..data import sets
    from ..data.labels import class_names

    talk = ctx.find_object(Talk) or Talk()
    if root is None and (shares or chosen):
        raise click.UsageError("--shares and --set need the folder ROOT.")
    kind = sets.get(name)
    told: dict[str, Any] = {
        "name": name,
        "title": kind.title,
        "task": kind.task,
        "licence": kind.licence,
        "citation": kind.citation,
        "homepage": kind.homepage,
        "obtain": kind.obtain,
        "layout": kind.expected_layout(),
        "sensors": list(kind.sensors),
        "labels": {str(code): class_names(mask) or "ignored" for code, mask in sorted(kind.labels.items())},
        "options": sets.options(name),
    }
    if root is not None:
        dataset = sets.open_set(name, root, **_options(chosen))
        counted = dataset.describe()
        told |= {key: value for key, value in counted.items() if key not in told and key != "split"}
        told["splits"] = _splits(dataset)
        if shares:
            told["shares"] = sets.shares(_read(dataset, talk))
    else:
        told["splits"] = list(kind.schemes)
    talk.emit(told)
    for key, value in told.items():
        if isinstance(value, dict):
            talk.put(f"{key}:" if value else f"{key}: none")
            for one, what in value.items():
                talk.put(f"  {one}: {_text(what)}")
        elif value:
            talk.put(f"{key}: {', '.join(value) if isinstance(value, list) else value}")


def _options(chosen: Sequence[str]) -> dict[str, Any]:
    """Options given as OPTION=VALUE; values are read as in YAML: numbers, true, null, lists in brackets."""
    import yaml

    out = {}
    for text in chosen:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"'{text}' is not OPTION=VALUE.", param_hint="--set")
        try:
            out[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as err:
            raise click.BadParameter(f"'{value}' cannot be read as a value.", param_hint="--set") from err
    return out


def _splits(dataset: DataSet) -> dict[str, dict[str, int] | str]:
    """Number of images in each part, by split; or why a split cannot be had here."""
    from ..errors import InputError

    out: dict[str, dict[str, int] | str] = {}
    for scheme in dataset.schemes:
        try:
            counts = Counter(part or "unused" for part in dataset.assign(scheme).values())
            out[scheme] = {part: counts[part] for part in ("train", "choose", "test", "unused") if counts[part]}
        except InputError as err:
            out[scheme] = f"not available: {err.found}"
    return out


def _read(dataset: DataSet, talk: Talk) -> Iterator[Sample]:
    with talk.progress(f"Reading labels of {dataset.title}") as advance:
        for number, record in enumerate(dataset.records, 1):
            yield dataset.read(record)
            advance(number / len(dataset))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {part}" for part, count in value.items())
    return f"{100 * value:.2f} %" if isinstance(value, float) else str(value)
