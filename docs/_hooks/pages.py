"""Pages that are made from the package when the site is built: commands, Python names, sensors, data sets, cards.

mkdocs calls :func:`on_files` and :func:`on_page_markdown`. Every page is a function in :data:`PAGES`, which gives its
Markdown. The README, the changelog and the rules for contributions become pages too.
"""

from __future__ import annotations

import html
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import unclouded
from unclouded import sensors
from unclouded.cli import commands
from unclouded.data import sets
from unclouded.data.labels import class_names
from unclouded.models.card import ModelCard

ROOT = Path(__file__).resolve().parents[2]

sys.path.insert(0, str(Path(__file__).parent))
import notebooks  # noqa: E402  beside this file, which mkdocs loads without its folder

PARTS = (
    "sensors", "descriptors", "radiometry", "normalise", "losses", "metrics", "image_metrics", "data.labels",
    "data.sample", "data.sets", "data.sets.base", "models", "models.card", "models.complexity",
    "models.mscloudcam", "models.senseiv2", "models.cloudmamba", "models.unet", "models.mmcanet", "models.mpir",
    "simulate.clouds", "simulate.surface", "infer.calibrate", "infer.guarantee", "train.config", "train.run",
)  # fmt: skip
"""Modules for those who build on the package."""


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; text in its cells cannot break it."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    titles = list(head)
    return "\n".join([line(titles), line("---" for _ in titles), *(line(row) for row in rows), ""])


def text(value: object) -> str:
    """Text of the package as it is, without any of Markdown's marks."""
    out = html.escape(str(value), quote=False)
    for mark in ("\\", "*", "_", "`", "[", "]"):
        out = out.replace(mark, f"\\{mark}")
    return out


# The command line -------------------------------------------------------------------------------------------------


def walk(command: click.Command, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all commands below it."""
    yield command, ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from walk(inner, click.Context(inner, info_name=name, parent=ctx))


def commands_page() -> str:
    """Usage, help, and options of every command."""
    common = {param.name for param in commands.params}
    out = ["# Command line", "These options may stand before or after every command:", ""]
    root = click.Context(commands, info_name="unclouded")
    out.append(_options(param for param in commands.get_params(root)))
    out += [
        "Results go to stdout, everything else to stderr.",
        "",
        table(
            ["exit code", "meaning"],
            [
                (0, "success"),
                (1, "a scene failed, or the output cannot be written"),
                (2, "wrong usage"),
                (3, "unreadable or unsupported input"),
                (4, "scale, offset, bands or level that cannot be known"),
                (5, "a model or an optional part is missing"),
                (130, "interrupted"),
                (143, "terminated"),
            ],
        ),
    ]
    for command, ctx in walk(commands, root):
        if command is commands:
            continue
        pieces = " ".join(command.collect_usage_pieces(ctx))
        level = "#" * (ctx.command_path.count(" ") + 1)
        out += [f"{level} {ctx.command_path}", "", "```text", f"{ctx.command_path} {pieces}", "```", ""]
        out += [text(_flowing(command.help or "")), ""]
        own = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
        if own := [param for param in own if param.name not in common and "--help" not in param.opts]:
            out.append(_options(own))
    return "\n".join(out)


def _flowing(help_text: str) -> str:
    """Help as paragraphs: click's mark for text that is not to be wrapped is left out."""
    return inspect.cleandoc(help_text).replace("\b\n", "")


def _options(params: Iterable[click.Parameter]) -> str:
    rows = []
    for param in params:
        if not isinstance(param, click.Option):
            continue
        names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
        context = click.Context(click.Command("none"))
        value = "" if param.is_flag or param.count else param.make_metavar(context)
        notes = [text(param.help or "")]
        if param.required:
            notes.append("Required.")
        if param.multiple:
            notes.append("May be repeated.")
        if isinstance(param.show_default, bool) and param.show_default and param.default is not None:
            default = param.get_default(context)
            notes.append(f"Default: {text(default)}.")
        rows.append((names, f"`{value}`" if value else "", " ".join(notes)))
    return table(["option", "value", "meaning"], rows)


# Python -----------------------------------------------------------------------------------------------------------


def python_page() -> str:
    """Every public name of the package."""
    out = ["# Python, to use it", "Everything here is imported from `unclouded` itself.", ""]
    homes = unclouded._HOME
    functions = [name for name in homes if name[0].islower()]
    classes = [name for name in homes if name[0].isupper() and not name.endswith(("Error", "Warning"))]
    errors = [name for name in homes if name.endswith(("Error", "Warning"))]
    for title, names in (("Functions", functions), ("Types and constants", classes), ("Errors and warnings", errors)):
        out += [f"## {title}", ""]
        for name in names:
            out += [f"::: unclouded.{homes[name]}.{name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(out)


def parts_page() -> str:
    """The modules for those who build on the package."""
    out = ["# Python, to build on it", "Names here may change between minor versions; the changelog says so.", ""]
    for name in PARTS:
        module = f"unclouded.{name}"
        out += [f"::: {module}", "    options:", "      show_root_full_path: true", "      members_order: source", ""]
    return "\n".join(out)


# Registries -------------------------------------------------------------------------------------------------------


def sensors_page() -> str:
    """Every sensor with its bands."""
    out = [
        "# Sensors",
        "Band limits are the half-power limits in nanometres. "
        "[How to add a sensor](../add-a-sensor.md), which is one file.",
        "",
    ]
    loaded = [sensors.load(name) for name in sensors.names()]
    out.append(table(["name", "level", "bands", "title"],
                     [(f"[{s.name}](#{s.name})", s.level, len(s.bands), text(s.title)) for s in loaded]))  # fmt: skip
    for sensor in loaded:
        how = {
            "fixed": f"fixed: reflectance = count * {sensor.scale:g} + {sensor.offset:g}"
            if sensor.radiometry == "fixed" and sensor.scale is not None
            else "fixed for every band",
            "product": "read from each product",
            "user": "said by the file's tags or by the user",
            "uncalibrated": "none: results are marked as uncalibrated",
        }[sensor.radiometry]
        out += [f"## {sensor.name} {{ #{sensor.name} }}", "", f"{text(sensor.title)}. Scale and offset: {how}.", ""]
        if sensor.pattern:
            out += ["Recognised by " + ", ".join(f"`{pattern}`" for pattern in sensor.pattern) + ".", ""]
        rows = [
            (b.name, b.common_name or "", b.kind, "" if b.min_nm is None else f"{b.min_nm:g} to {b.max_nm:g}",
             "" if b.gsd_m is None else f"{b.gsd_m:g}")
            for b in sensor.bands
        ]  # fmt: skip
        out.append(table(["band", "common name", "kind", "nm", "pixel, m"], rows))
    return "\n".join(out)


def datasets_page() -> str:
    """Every data set that can be read."""
    out = [
        "# Data sets",
        "None of them is part of the package. `unclouded datasets show NAME` says the same; "
        "`unclouded datasets show NAME FOLDER` reads what you have.",
        "",
    ]
    for name in sets.names():
        kind = sets.get(name)
        options = {key: value for key, value in sets.options(name).items() if value is not inspect.Parameter.empty}
        facts = {
            "task": kind.task,
            "licence": kind.licence,
            "cite": kind.citation,
            "home": kind.homepage,
            "how to get it": kind.obtain,
            "files": kind.expected_layout(),
            "sensors": kind.sensors,
            "labels": {code: class_names(bits) or "ignored" for code, bits in sorted(kind.labels.items())},
            "splits": kind.schemes,
            "options": options,
        }
        rows = [(key, _plain(value)) for key, value in facts.items() if value not in ("", (), {})]
        out += [f"## {name}", "", f"{text(kind.title)}.", "", table(["", ""], rows)]
    return "\n".join(out)


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(one)}" for key, one in value.items() if one not in (None, "", [], (), {}))
    return text(f"{value:.4g}" if isinstance(value, float) else value)


_PARTS_OF_CARDS = ("limits", "training", "calibration", "guarantees", "figures")
"""Entries of a card that have a section of their own."""


def cards_page() -> str:
    """The cards of the models that come with the package."""
    out = ["# Model cards", "A card travels with every model's weights; these come with the package.", ""]
    for path in sorted((ROOT / "src" / "unclouded" / "weights").glob("*.json")):
        card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
        out += [f"## {card.name}", "", f"{text(card.title)}, version {text(card.version)}.", ""]
        facts: list[tuple[str, str]] = []
        for key, value in card.model_dump(mode="json").items():
            if key in ("name", "title", "version", *_PARTS_OF_CARDS) or value in (None, "", [], {}):
                continue
            facts.append((key, _plain(value)))
        out += [table(["entry", "value"], facts), "### Limits", "", *(f"- {text(limit)}" for limit in card.limits), ""]
        out += ["### What it learned from", "", _records(card.training)]
        if card.calibration:
            levels = [{"level": level} | one.model_dump(mode="json") for level, one in card.calibration.items()]
            out += ["### Calibration", "", _rows(levels)]
        if card.guarantees:
            out += ["### Thresholds with a bound", "", _records(card.guarantees)]
        if card.figures:
            out += ["### What was measured", "", _records(card.figures)]
    return "\n".join(out)


def _records(entries: Iterable[Any]) -> str:
    return _rows([one.model_dump(mode="json") for one in entries])


def _rows(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "Nothing stated.\n"
    return table(rows[0], [[_plain("" if value is None else value) for value in row.values()] for row in rows])


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/python.md": python_page,
    "reference/parts.md": parts_page,
    "reference/sensors.md": sensors_page,
    "reference/datasets.md": datasets_page,
    "reference/cards.md": cards_page,
    "tutorials/mask.md": lambda: notebooks.page(notebooks.scripts()["mask"]),
    "tutorials/remove.md": lambda: notebooks.page(notebooks.scripts()["remove"]),
    "tutorials/composite.md": lambda: notebooks.page(notebooks.scripts()["composite"]),
    "tutorials/train.md": lambda: notebooks.page(notebooks.scripts()["train"]),
    "readme.md": lambda: (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    "changelog.md": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    "contributing.md": lambda: (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder."""
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the README, which lies beside the folder of the pages, to its page."""
    return markdown.replace("](../README.md", "](readme.md")
