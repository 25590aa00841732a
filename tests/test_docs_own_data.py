"""The page on own data, followed word by word."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from unclouded.data.sets.user import MEANINGS, Description
from unclouded.data.tiff import write_tiff

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_worked_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my-clouds"
    folder.mkdir()
    (folder / "dataset.yaml").write_text(block("yaml"), encoding="utf-8")
    (folder / "splits.csv").write_text(block("csv"), encoding="utf-8")
    rng = np.random.default_rng(0)
    for name in ("lake_20240601", "lake_20240611", "town_20240601"):
        write_tiff(folder / "images" / f"{name}.tif", rng.integers(1, 9000, (4, 100, 80)).astype(np.uint16))
        write_tiff(folder / "labels" / f"{name}.tif", rng.integers(0, 4, (100, 80)).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), str(PAGE), "exec"), {})
    shares = eval(capsys.readouterr().out)
    assert set(shares) == {"land|water|snow", "thin|thick", "shadow"}
    assert sum(shares.values()) == pytest.approx(1)


def test_every_entry_and_every_meaning_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in [*Description.model_fields, *MEANINGS]:
        assert f"`{name}`" in page, name
