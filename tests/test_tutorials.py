"""The tutorials: every code cell runs, and the notebooks are what their scripts say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "_hooks" / "notebooks.py")
assert spec is not None
assert spec.loader is not None
notebooks = importlib.util.module_from_spec(spec)
sys.modules["notebooks"] = notebooks
spec.loader.exec_module(notebooks)

SLOW = {"train": "torch"}
"""Tutorials of more than some seconds, and what they need."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in notebooks.scripts()]
)
def test_the_tutorial_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    if name in SLOW:
        pytest.importorskip(SLOW[name])
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(notebooks.cells(notebooks.scripts()[name])):
        if cell.kind == "code":
            exec(compile(cell.text, f"{name}.ipynb, cell {number}", "exec"), names)
    if "pyplot" in sys.modules.get("matplotlib", matplotlib).__dict__:
        matplotlib.pyplot.close("all")


def test_every_task_has_one() -> None:
    assert set(notebooks.scripts()) == {"mask", "remove", "composite", "train"}


@pytest.mark.parametrize("name", notebooks.scripts())
def test_the_notebook_is_up_to_date(name: str) -> None:
    script = notebooks.scripts()[name]
    written = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert written == notebooks.notebook(script), "run: python docs/_hooks/notebooks.py"
    told = json.loads(written)
    assert (told["nbformat"], told["nbformat_minor"]) == (4, 5)
    assert told["cells"][0]["cell_type"] == "markdown"
    assert len({cell["id"] for cell in told["cells"]}) == len(told["cells"])
    assert notebooks.page(script).startswith("# ")
