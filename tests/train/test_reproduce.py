"""Experiments: every file is sound, covers its table, and the whole way runs at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from unclouded import models
from unclouded.data import sets
from unclouded.errors import InputError
from unclouded.experiments import Row, make_experiment, names, read_experiment
from unclouded.train.config import DataPart
from unclouded.train.config_file import protocols
from unclouded.train.corpus import open_sources
from unclouded.train.evaluate import open_test
from unclouded.train.evaluate_judge import JUDGED, QUESTIONS
from unclouded.train.evaluate_removal import METRICS, REGIONS
from unclouded.train.evaluate_tables import CLASS_KINDS
from unclouded.train.reproduce import COUNTS, Places, quick_config, reproduce, run_config
from unclouded.train.reproduce_quick import make_fake

NAMES = names()

ROWS = {
    "mscloudcam/table1": 11, "mscloudcam/table2": 2, "mscloudcam/table3": 11, "mscloudcam/table4": 11,
    "mscloudcam/table5": 4, "mscloudcam/table6": 10,
    "sensei/table1": 9, "sensei/experiment1": 14, "sensei/experiment2-losses": 5, "sensei/experiment2-cesbio": 12,
    "sensei/experiment3": 16, "sensei/experiment4": 6,
    "cloudmamba/gf1_whu": 9, "cloudmamba/levir_cs": 9, "cloudmamba/ablation-blocks": 5,
    "cloudmamba/ablation-dilations": 4, "cloudmamba/stages": 4,
    "percentile/intra": 3, "percentile/cross": 3,
    "mmcanet/spring": 7, "mmcanet/seasons": 18, "mmcanet/mpir": 20, "mmcanet/ablation": 4, "mmcanet/loss": 2,
    "mmcanet/cloud-cover": 12,
}  # fmt: skip
"""Rows of every table and ablation of the five papers, those that unclouded cannot measure included."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_every_table_of_the_papers_is_there() -> None:
    assert {name: len(read_experiment(name).rows) for name in NAMES} == ROWS


@pytest.mark.parametrize("name", NAMES)
def test_files_name_what_exists(name: str) -> None:
    table = read_experiment(name)
    for key, spec in table.runs.items():
        assert spec.extends in protocols()
        config = run_config(spec)
        assert config.model.name in models.names(), key
        for part in config.data:
            assert part.scheme in sets.get(part.name).schemes
            assert set(part.options) <= set(sets.options(part.name))
        assert config.task == table.task
        quick_config(config)
    for test in table.tests.values():
        kind = sets.get(test.data)
        assert kind.task == table.task
        assert test.scheme is None or test.scheme in kind.schemes
        assert set(test.options) <= set(sets.options(test.data))
    classes = {name for test in table.tests.values() for name in JUDGED[test.classes].names} | set(QUESTIONS)
    if table.task == "removal":
        known = {metric if region == "all" else f"{region} {metric}" for region in REGIONS for metric in METRICS}
    else:
        known = {f"{kind} {name}" for kind in CLASS_KINDS for name in (*classes,)}
        known |= {f"{question} {kind}" for question in QUESTIONS for kind in CLASS_KINDS}
        known |= {f"mean {kind}" for kind in CLASS_KINDS} | {"accuracy", "BA", *COUNTS, *JUDGED["four"].names}
        known |= {"parameters M", "multiply-adds G"}
    assert set(table.columns) <= known
    for row in table.rows:
        if row.mask is not None:
            test = table.test_of(row)
            assert test is not None
            assert row.mask in sets.get(test.data).masks
        if row.model is not None:
            assert row.model.name in models.names()


def test_no_split_leaves_a_training_or_test_without_images(tmp_path: Path) -> None:
    """At full size nothing stands in for an empty part. Made-up scenes are smaller than windows, and stay whole."""
    cutting = ("patch", "stride", "edge", "empty")

    def there(part: DataPart) -> DataPart:
        make_fake(part.name, tmp_path / part.name)
        options = {key: value for key, value in part.options.items() if key not in cutting}
        return part.model_copy(update={"root": tmp_path / part.name, "options": options})

    trained, tested = set(), set()
    for name in NAMES:
        table = read_experiment(name)
        for spec in table.needed_runs().values():
            config = run_config(spec)
            if str(config.data) not in trained:
                trained.add(str(config.data))
                sources = open_sources(config.model_copy(update={"data": tuple(map(there, config.data))}))
                for split in ("train", "choose"):
                    assert any(source.records[split] for source in sources), (name, spec.extends, split)
        for spec in table.tests.values():
            part = DataPart(name=spec.data, options=spec.options, scheme=spec.scheme, where=spec.where)
            if str((part, spec.part)) not in tested:
                tested.add(str((part, spec.part)))
                assert open_test(there(part), spec.part, task=table.task).records, (name, spec.data)


def test_printed_figures_are_those_of_the_papers() -> None:
    """Figures that follow from one another do, to the last printed digit."""
    row = next(row for row in read_experiment("mscloudcam/table3").rows if row.name == "MSCloudCAM")
    assert row.paper["mean IoU"] == 73.12
    each = [row.paper[f"IoU {name}"] for name in JUDGED["four"].names]
    assert sum(each) / 4 == pytest.approx(row.paper["mean IoU"], abs=0.01)
    for name in ("mscloudcam/table1", "mscloudcam/table3", "mscloudcam/table4"):
        for row in read_experiment(name).rows:
            for one in JUDGED["four"].names:
                if f"F1 {one}" in row.paper and not row.note.startswith("printed F1"):
                    f1, iou = (row.paper[f"{kind} {one}"] / 100 for kind in ("F1", "IoU"))
                    assert iou == pytest.approx(f1 / (2 - f1), abs=3e-4), (name, row.name)
    for row in read_experiment("cloudmamba/gf1_whu").rows:
        assert all(80 < value < 100 for value in row.paper.values())


def test_rows_say_one_thing() -> None:
    with pytest.raises(ValueError, match="exactly one of"):
        Row(name="a", run="x", mask="y")
    good = {"title": "t", "source": "s", "columns": ["accuracy"], "tests": {"t": {"data": "l8biome"}}}
    row = {"name": "a", "absent": "no"}
    make_experiment({**good, "rows": [row]}, {}, "x/y")
    for rows, said in (
        ([row, row], "two rows"),
        ([{**row, "paper": {"IoU": 1}}], "no column"),
        ([{"name": "a", "run": "z"}], "names the run"),
        ([{"name": "a", "mask": "z", "test": "u"}], "names the test"),
        ([{**row, "papers": {}}], "papers"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            make_experiment({**good, "rows": rows}, {}, "x/y")
        assert caught.value.remedy


def test_unknown_names_and_missing_data_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no experiment 'mscloudcam/table9'") as caught:
        read_experiment("mscloudcam/table9")
    assert "mscloudcam/table" in caught.value.remedy
    with pytest.raises(InputError, match="cloudsen12-plus") as caught:
        reproduce("mscloudcam/table5", Places(tmp_path))
    assert "--quick" in caught.value.remedy


def test_folders_of_data_are_found(tmp_path: Path) -> None:
    (tmp_path / "gf1-whu").mkdir()
    places = Places(tmp_path / "out", tmp_path, {"l8biome": tmp_path / "x"})
    assert places.of("gf1_whu") == tmp_path / "gf1-whu"
    assert places.of("l8biome") == tmp_path / "x"
    assert places.of("levir_cs", alone=True) == tmp_path
    with pytest.raises(InputError):
        places.of("levir_cs")


def test_a_table_is_reproduced_at_toy_size(tmp_path: Path) -> None:
    """CloudMamba's stages: two trainings, four rows, a hard subset; a second call trains nothing again."""
    said: list[str] = []
    found = reproduce("cloudmamba/stages", Places(tmp_path), quick=True, progress=said.append)
    assert [line.row.name for line in found.lines] == [row.name for row in read_experiment("cloudmamba/stages").rows]
    for line in found.lines:
        assert 0 <= line.measured["accuracy"].value <= 1
    text = (tmp_path / "quick/cloudmamba-stages.md").read_text()
    assert "89.27" in text
    assert "mean nothing" in text
    stored = json.loads((tmp_path / "quick/cloudmamba-stages.json").read_text())
    assert stored["rows"][1]["paper"]["mean IoU"] == 89.27
    assert stored["rows"][1]["measured"]["accuracy"][0] == pytest.approx(
        100 * found.lines[1].measured["accuracy"].value, abs=1e-4
    )
    checkpoints = sorted(tmp_path.rglob("last.pt"))
    assert len(checkpoints) == 2
    times = [path.stat().st_mtime_ns for path in checkpoints]
    again = reproduce("cloudmamba/stages", Places(tmp_path), quick=True)
    assert [path.stat().st_mtime_ns for path in checkpoints] == times
    assert again.text() == found.text()


def test_removal_is_reproduced_at_toy_size(tmp_path: Path) -> None:
    found = reproduce("mmcanet/loss", Places(tmp_path), quick=True)
    for line in found.lines:
        assert 0 < line.measured["PSNR"].value < 100
        assert -1 <= line.measured["SSIM"].value <= 1
        assert line.measured["MAE"].value > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_reproduced_at_toy_size(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = reproduce(name, Places(tmp_path_factory.mktemp("quick")), quick=True)
    for line in found.lines:
        if line.row.absent is None and line.row.cover is None:
            assert line.measured, line.row.name
