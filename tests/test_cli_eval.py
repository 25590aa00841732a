"""``unclouded eval`` and ``unclouded reproduce`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unclouded import experiments
from unclouded.data import sets

from .fakes_command import records, run

pytest.importorskip("torch")

SIMULATED = ("simulated", "--option", "images=1", "--option", "choose=1", "--option", "test=2", "--option", "size=48")


def test_a_packaged_model_is_judged(tmp_path: Path) -> None:
    done = run("eval", *SIMULATED, "--model", "default", "--by", "cover", "--pictures", 1, "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert "| default |" in done.stdout
    assert "by cover" in done.stdout
    stored = json.loads((tmp_path / "report/evaluation.json").read_text())
    assert len(stored[0]["images"]) == 2
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names >= {"evaluation.md", "confusion-default.png", "reliability.png", "panels-001.png"}
    (told,) = records(run("eval", *SIMULATED, "--model", "default", "--json"))
    assert told["images"] == 2
    assert 0 <= told["accuracy"] <= 1


def test_masks_that_a_data_set_holds_are_judged(tmp_path: Path) -> None:
    sets.get("cloudsen12").make_fake(tmp_path)
    given = ("eval", f"cloudsen12={tmp_path}", "--mask", "s2cloudless", "--mask", "fmask", "--part", "all", "--json")
    told = records(run(*given))
    assert [one["name"] for one in told] == ["s2cloudless", "fmask"]
    for one in told:
        assert 0 <= one["cloud IoU"] <= 1
        assert "mean IoU" not in one  # neither tells thin from thick


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("eval", "simulated"), 2, "something to judge"),
        (("eval", *SIMULATED, "--model", "default", "--pictures", 1), 2, "--output"),
        (("eval", "l8biome", "--model", "default"), 3, "l8biome=FOLDER"),
        (("eval", *SIMULATED, "--mask", "fmask"), 3, "no masks of other programs"),
        (("eval", *SIMULATED, "--option", "x", "--model", "default"), 2, "KEY=VALUE"),
        (("reproduce",), 2, "--list"),
        (("reproduce", "mscloudcam/table"), 3, "Did you mean"),
        (("reproduce", "mscloudcam/table5", "--data", "a", "--data", "b"), 2, "one folder"),
        (("reproduce", "mscloudcam/table5", "--run", "x"), 2, "NAME=FOLDER"),
    ],
)
def test_mistakes_are_told(words: tuple[object, ...], code: int, said: str) -> None:
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr


def test_reproduce_lists_every_table() -> None:
    told = records(run("reproduce", "--list", "--json"))
    assert [one["name"] for one in told] == experiments.names()


def test_reproduce_prints_paper_and_measured(tmp_path: Path) -> None:
    done = run("reproduce", "mscloudcam/table2", "--quick", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| CloudSEN12 high | 10000 | 3 |" in done.stdout
    assert "54.75" in done.stdout
    assert (tmp_path / "quick/mscloudcam-table2.json").exists()
