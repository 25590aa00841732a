"""``unclouded models complexity``: what networks cost, as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ._talk import Talk, table

if TYPE_CHECKING:
    from ..models.complexity import Cost
    from ..models.step_memory import TrainingStep

Row = dict[str, object]


@click.command("complexity")
@click.argument("names", nargs=-1)
@click.option("--side", type=click.IntRange(min=1), help="Rows and columns of the image.  [default: 512; removal 128]")
@click.option("--time", "time_it", is_flag=True, help="Run every network on this machine too (minutes).")
@click.option("--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Images at once for --time.")
@click.option("--memory", is_flag=True, help="Instead, the memory of one training step, and of its part for 24 GB.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.pass_context
def complexity(
    ctx: click.Context,
    names: tuple[str, ...],
    side: int | None,
    time_it: bool,
    batch: int,
    memory: bool,
    markdown: bool,
) -> None:
    """Count what networks cost: parameters and multiply-adds of one image, beside the published figures.

    NAMES are networks of the registry, with --memory training steps; all of them if none is given. One multiply-add
    is a multiplication with its addition, which papers also print as GFLOPs; selective scans are counted.
    """
    talk = ctx.find_object(Talk) or Talk()
    notes: list[str] = []
    found = list(_memory(names, talk) if memory else _costs(names, side, time_it, batch, talk, notes))
    header = list(found[0])
    talk.put((_markdown if markdown else table)(header, [list(row.values()) for row in found]))
    if notes:
        talk.put("\n" + "\n".join(f"- {note}" for note in notes))


def _costs(
    names: Sequence[str], side: int | None, time_it: bool, batch: int, talk: Talk, notes: list[str]
) -> Iterator[Row]:
    from ..models.complexity import all_costs

    for cost in all_costs(names, side=side, time_it=time_it, batch=batch):
        talk.emit(asdict(cost))
        if cost.published and cost.published.note:
            notes.append(f"{cost.published.printed} ({cost.published.source}): {cost.published.note}")
        if cost.speed:
            told = f"timed with {cost.speed.threads} threads on {cost.speed.machine}, throughput in batches of {batch}"
            notes += [told] * (told not in notes)
            if cost.published and cost.published.hardware:
                notes.append(f"{cost.published.printed}: published times are those of {cost.published.hardware}")
        yield _row(cost, time_it)


def _row(cost: Cost, time_it: bool) -> Row:
    """One network as a row of the table."""
    paper, speed = cost.published, cost.speed
    row: Row = {
        "network": cost.model,
        "bands": cost.bands,
        "side": cost.side,
        "M parameters": round(cost.parameters / 1e6, 3),
        "G multiply-adds": round(cost.multiply_adds / 1e9, 3),
    }
    if time_it:
        row["ms an image"] = round(1e3 * speed.latency) if speed else ""
        row["processor ms"] = round(1e3 * speed.processor) if speed else ""
        row["images a second"] = round(speed.images_per_second, 2) if speed else ""
    row["published M"] = _in_units(paper.parameters if paper else None, 1e6)
    row["published G"] = _in_units(paper.multiply_adds if paper else None, 1e9)
    if time_it:
        row["published ms"] = _in_units(paper.latency_ms if paper else None)
        row["published images a second"] = _in_units(paper.images_per_second if paper else None)
    row["published as"] = paper.printed if paper else ""
    return row


def _in_units(value: float | None, unit: float = 1.0) -> str:
    return "" if value is None else f"{value / unit:g}"


def _memory(names: Sequence[str], talk: Talk) -> Iterator[Row]:
    from ..models.step_memory import chosen_steps

    for step in chosen_steps(names):
        record, row = _step(step)
        talk.emit(record)
        yield row


def _step(step: TrainingStep) -> tuple[dict[str, Any], Row]:
    """One training step as a JSON object and as a row of the table."""
    whole = step.memory(step.paper_batch)
    part = whole if step.accumulate == 1 else step.memory()
    record = {**asdict(step), "accumulate": step.accumulate, "paper": asdict(whole), "default": asdict(part)}
    row: Row = {
        "step": step.name,
        "side": step.side,
        "paper's batch": step.paper_batch,
        "weights and moments, GB": round((part.parameters + part.state) / 1e9, 2),
        "GB at the paper's batch": round(whole.peak / 1e9, 2),
        "default": f"{step.accumulate} x {step.batch}",
        "GB at the default": round(part.peak / 1e9, 2),
    }
    return record, row


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a Markdown table; numbers are set to the right.

    >>> print(_markdown(["name", "size"], [["one", 1]]))
    | name | size |
    | --- | ---: |
    | one | 1 |
    """
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    lines = [list(header), ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
