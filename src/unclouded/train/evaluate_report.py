"""An evaluation as JSON and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..write.atomic import write_text
from .evaluate import Evaluation, MaskEvaluation
from .evaluate_removal import METRICS, RemovalEvaluation
from .evaluate_tables import Figure, markdown

OVERALL = ("mean IoU", "mean F1", "accuracy", "BA", "cloud IoU", "cloud F1", "cloud BA", "invalid F1", "invalid BA")
BY_CLASS = ("IoU", "F1", "precision", "recall", "BA", "accuracy")
BY_QUESTION = ("precision", "recall", "F1", "IoU", "BA", "accuracy")


def write_report(
    evaluations: Sequence[Evaluation[Any]], folder: Path, *, by: Sequence[str] = (), hard: float | None = None
) -> str:
    """Write ``evaluation.json`` (all figures, and the counts of every image) and ``evaluation.md``.

    Args:
        evaluations: of one test.
        folder: where they go; made if it does not exist.
        by: groups to tell apart, see :meth:`Evaluation.groups`.
        hard: also judge this share of the images, those that the first evaluation is least sure of.

    Returns:
        The text in Markdown.
    """
    text = report_text(evaluations, by=by, hard=hard)
    folder.mkdir(parents=True, exist_ok=True)
    values = [as_dict(one, by) for one in evaluations]
    write_text(folder / "evaluation.json", json.dumps(values, indent=1) + "\n", "evaluation")
    write_text(folder / "evaluation.md", text, "evaluation")
    return text


def report_text(
    evaluations: Sequence[Evaluation[Any]], *, by: Sequence[str] = (), hard: float | None = None
) -> str:
    """The figures of one test in Markdown: overall, by class, by question, by group, and of the hard subset."""
    first = evaluations[0]
    scenes = len({image.scene for image in first.images})
    counted = f"{len(first.images)} images of {scenes} scenes; in brackets 95 % intervals over scenes.\n"
    parts = [f"# {first.test}\n", counted]
    if isinstance(first, RemovalEvaluation):
        names = [f"{region}{metric}" for region in ("", "cloudy ", "clear ") for metric in METRICS if metric != "RMSE"]
        parts.append(figures_table({one.name: one.figures() for one in evaluations}, names))
        overall: Sequence[str] = METRICS
    else:
        overall = OVERALL
        masks = [one for one in evaluations if isinstance(one, MaskEvaluation)]
        figures = {one.name: one.figures() for one in masks}
        parts.append(figures_table(figures, overall))
        for mask in masks:
            if len(mask.tells) == len(mask.classes):
                rows = {name: {k: figures[mask.name][f"{k} {name}"] for k in BY_CLASS} for name in mask.classes}
                parts += [f"## {mask.name}, by class\n", figures_table(rows, BY_CLASS, "class")]
            asked = sorted(mask.images[0].questions)
            rows = {name: {k: figures[mask.name][f"{name} {k}"] for k in BY_QUESTION} for name in asked}
            parts += [f"## {mask.name}, classes taken as one\n", figures_table(rows, BY_QUESTION, "class")]
    for tag in by:
        for one in evaluations:
            groups = one.groups(tag)
            rows = {f"{key} ({len(images)})": one.figures(images) for key, images in groups.items()}
            parts += [f"## {one.name}, by {tag}\n", figures_table(rows, overall, f"{tag} (images)")]
    if hard is not None:
        if not isinstance(first, MaskEvaluation):
            raise InputError(
                "Networks that rebuild images give no uncertainty.",
                expected="The hard subset is that of masks.",
                remedy="Leave it out.",
            )
        chosen = first.hardest(hard)
        rows = {one.name: one.figures(one.named(chosen)) for one in evaluations}
        title = f"## The {len(chosen)} images that {first.name} is least sure of\n"
        parts += [title, figures_table(rows, overall)]
    return "\n".join(parts)


def figures_table(
    rows: Mapping[str, Mapping[str, Figure]], names: Sequence[str], corner: str = "", *, scale: float = 1.0,
    digits: int = 3,
) -> str:  # fmt: skip
    """Figures as a table in Markdown; columns that no row has are left out."""
    shown = [name for name in names if any(name in row and not math.isnan(row[name].value) for row in rows.values())]
    cells = [
        [name, *(row[one].text(scale, digits) if one in row else "-" for one in shown)] for name, row in rows.items()
    ]
    return markdown([corner, *shown], cells)


def as_dict(evaluation: Evaluation[Any], by: Sequence[str] = ()) -> dict[str, Any]:
    """All that an evaluation holds as plain values; what is undefined is None."""
    out: dict[str, Any] = {
        "name": evaluation.name,
        "test": evaluation.test,
        "seconds": round(evaluation.seconds, 3),
        "figures": _plain(evaluation.figures()),
        "groups": {
            tag: {key: _plain(evaluation.figures(images)) for key, images in evaluation.groups(tag).items()}
            for tag in by
        },
    }
    if isinstance(evaluation, MaskEvaluation):
        found = evaluation.reliability()
        out["classes"] = list(evaluation.classes)
        out["counts"] = evaluation.table().tolist()
        out["calibration error"] = _number(float(found["error"]))
        out["images"] = [
            {
                "name": image.name, "scene": image.scene, "tags": dict(image.tags), "cover": _number(image.cover),
                "uncertainty": _number(image.uncertainty), "unpredicted": image.unpredicted,
                "counts": image.classes.tolist(),
                "questions": {name: counts.tolist() for name, counts in image.questions.items()},
            }
            for image in evaluation.images
        ]  # fmt: skip
    elif isinstance(evaluation, RemovalEvaluation):
        out["images"] = [
            {
                "name": image.name, "scene": image.scene, "tags": dict(image.tags), "cover": _number(image.cover),
                "scores": {r: {m: _number(value) for m, value in row.items()} for r, row in image.scores.items()},
            }
            for image in evaluation.images
        ]  # fmt: skip
    return out


def _plain(figures: Mapping[str, Figure]) -> dict[str, list[float | None]]:
    """Value, lower and upper end of the interval by name."""
    return {name: [_number(one.value), _number(one.low), _number(one.high)] for name, one in figures.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
