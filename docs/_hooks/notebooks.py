"""Tutorials: scripts in cells (``# %%``) become notebooks for Jupyter and pages of the site.

    python docs/_hooks/notebooks.py      writes a notebook beside every script
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"

_BREAK = re.compile(r"^# %%(?: \[(markdown)\])?\n", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One cell: ``code``, or ``markdown`` without its comment signs."""

    kind: str
    text: str


def scripts() -> dict[str, Path]:
    """The scripts by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def cells(script: Path) -> list[Cell]:
    """The cells of a script, in order."""
    _, *parts = _BREAK.split(script.read_text(encoding="utf-8"))
    out = []
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip("\n")
        out.append(Cell("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE)) if kind else Cell("code", text))
    return out


def notebook(script: Path) -> str:
    """The script as a notebook, without results (nbformat 4.5)."""
    made = []
    for number, cell in enumerate(cells(script)):
        entry = {"cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}, "source": cell.text.splitlines(True)}
        made.append(entry | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": made, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}, "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def page(script: Path) -> str:
    """The script as a page, with a link to its notebook below the title."""
    title, *rest = cells(script)
    head, _, text = title.text.partition("\n")
    parts = [head, f"*As a notebook: [{script.stem}.ipynb]({script.stem}.ipynb).*", text.strip()]
    parts += [f"```python\n{cell.text}\n```" if cell.kind == "code" else cell.text for cell in rest]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for script in scripts().values():
        script.with_suffix(".ipynb").write_text(notebook(script), encoding="utf-8")
