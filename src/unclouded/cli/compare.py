"""``unclouded compare``: how two masks of the same ground go together."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import click

from ._talk import Talk, table


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--decode-a", metavar="NAME", help="A is a mask of another maker: scl, qa_pixel, fmask, ...")
@click.option("--decode-b", metavar="NAME", help="B is a mask of another maker: scl, qa_pixel, fmask, ...")
@click.option("--resample", is_flag=True, help="Bring B to the grid of A by nearest neighbour where they differ.")
@click.pass_context
def command(
    ctx: click.Context, a: str, b: str, decode_a: str | None, decode_b: str | None, resample: bool
) -> None:
    """Compare the masks A and B pixel by pixel. A is the reference.

    Each is a mask raster, the output folder of one scene, or a STAC item. Shown are the pixels by class of A (rows)
    and class of B (columns), and how well B finds what A has.
    """
    from ..comparison import MERGED, Comparison, compare

    talk = ctx.find_object(Talk) or Talk()
    found: Comparison = compare(a, b, decode_a=decode_a, decode_b=decode_b, resample=resample)
    talk.emit(found.as_dict())
    counts = found.table
    talk.put(f"A: {found.a}\nB: {found.b}{' (on the grid of A)' if found.resampled else ''}\n")
    rows: list[list[Any]] = [
        [name, *map(int, row), int(row.sum())] for name, row in zip(counts.classes, counts.counts, strict=True)
    ]
    rows.append(["all", *map(int, counts.counts.sum(axis=0)), counts.pixels])
    talk.put(table(["A \\ B", *counts.classes, "all"], rows) + "\n")
    scores = counts.scores() | {name: counts.merged(members) for name, members in MERGED.items()}
    lines = [[name, *map(_share, astuple(one)[:5]), one.pixels] for name, one in scores.items()]
    talk.put(table(["class", "precision", "recall", "F1", "IoU", "balanced accuracy", "pixels of A"], lines) + "\n")
    talk.put(f"agreement: {_share(counts.overall_accuracy)} of {counts.pixels} pixels")
    talk.put(f"balanced accuracy: {_share(counts.balanced_accuracy)}")
    talk.put(f"mean IoU: {_share(counts.mean_iou)}")
    missing = found.missing
    talk.put(f"without data: {missing['a']} pixels in A only, {missing['b']} in B only, {missing['both']} in both")


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
