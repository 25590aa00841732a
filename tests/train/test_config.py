"""Configurations of training runs: unknown keys, ranges, protocols, changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unclouded.errors import InputError
from unclouded.train.config_file import make_config, protocols, read_config

BASE = {"model": {"name": "slots-unet"}, "data": [{"name": "simulated"}], "epochs": 1, "output": "runs/x"}


def write(path: Path, values: object) -> Path:
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", protocols())
def test_every_protocol_is_valid_and_survives_being_written_out(name: str, tmp_path: Path) -> None:
    config = read_config(name)
    assert config.title
    again = read_config(write(tmp_path / "again.yaml", config.dump()))
    assert again == config


@pytest.mark.parametrize(
    ("changes", "key", "near"),
    [
        ({"optimizer": {}}, "optimizer", "optimiser"),
        ({"optimiser": {"learning": 1}}, "optimiser.learning", ""),
        ({"data": [{"name": "simulated", "roots": "x"}]}, "data.0.roots", "root"),
        ({"schedule": {"kind": "phases", "phases": [{"epoch": 0, "rate": 1.0, "acumulate": 2}]}},
         "schedule.phases.0.acumulate", "accumulate"),
    ],
)  # fmt: skip
def test_unknown_keys_are_named_with_the_nearest_known_one(changes: dict, key: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown key '{key}'") as caught:
        make_config({**BASE, **changes})
    assert caught.value.expected.startswith("Keys there are")
    assert f"'{near}'" in caught.value.remedy if near else caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": None}, "give either 'epochs' or 'steps'"),
        ({"steps": 5}, "give either 'epochs' or 'steps'"),
        ({"batch": 0}, "batch"),
        ({"loss": {"kind": "l1-ssim"}}, "l1-ssim"),
        ({"schedule": {"kind": "phases"}}, "phases"),
        ({"schedule": {"kind": "phases", "phases": [{"epoch": 1, "rate": 1.0}]}}, "first phase begins at epoch 0"),
        ({"augment": [{"name": "turns"}]}, "no augmentation 'turns'"),
        ({"augment": [{"name": "noise", "sigm": 1}]}, "no setting 'sigm'"),
        ({"data": [{"name": "simulated", "weight": 1.0}, {"name": "simulated"}]}, "every set a weight, or none"),
        ({"patch": {"ground_m": [30, 10]}}, "smaller one first"),
        ({"classes": "nine"}, "classes"),
        ({"patch": {"cut": "centre", "ground_m": [10, 30]}}, "goes with cut: random"),
        ({"data": [{"name": "simulated", "train": False}]}, "no set is trained on"),
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match="is not a configuration") as caught:
        make_config({**BASE, **changes})
    assert message in str(caught.value)
    assert caught.value.remedy


def test_what_is_missing_is_named_with_the_option_that_gives_it() -> None:
    with pytest.raises(InputError, match="model: it is missing") as caught:
        make_config({key: value for key, value in BASE.items() if key != "model"})
    assert "--set model=" in caught.value.remedy


def test_a_file_extends_a_protocol_key_by_key(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", {"extends": "mscloudcam", "batch": 2, "optimiser": {"rate": "5e-5"}})
    config = read_config(path, ["roots.cloudsen12-plus=/data", "data.0.limit=3", "epochs=1"])
    assert config.batch == 2
    assert config.optimiser.kind == "adam"
    assert config.optimiser.rate == 5e-5
    assert config.loss.outputs == {"logits": 1.0, "aux1": 0.4, "aux2": 0.4}
    assert config.data[0].limit == 3
    assert config.root_of(config.data[0]) == Path("/data")


def test_extending_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"extends": "b.yaml"})
    write(tmp_path / "b.yaml", {"extends": "a.yaml"})
    with pytest.raises(InputError, match="extends itself"):
        read_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("change", ["epochs", "data.7.limit=1", "data.first=1", "batch.size=3", "=1", "epochs=[1"])
def test_changes_that_cannot_be_made_are_told(change: str) -> None:
    with pytest.raises(InputError, match="cannot be made") as caught:
        read_config("simulated", [change])
    assert "--set" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "a: [", "\x00"])
def test_files_that_are_no_configuration_are_told(content: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The configuration") as caught:
        read_config(write(tmp_path / "bad.yaml", content))
    assert caught.value.expected


def test_unknown_names_list_the_protocols() -> None:
    with pytest.raises(InputError, match="There is no configuration 'mscloudcan'") as caught:
        read_config("mscloudcan")
    assert "mscloudcam" in caught.value.expected


def test_a_root_that_nobody_gave_is_asked_for() -> None:
    config = read_config("mmcanet")
    with pytest.raises(InputError, match="does not say where the data set 'sen12mscr' is") as caught:
        config.root_of(config.data[0])
    assert "--data sen12mscr=FOLDER" in caught.value.remedy


def test_protocols_follow_the_papers() -> None:
    """Numbers of the papers and their published configurations."""
    mscloudcam, sensei = read_config("mscloudcam"), read_config("senseiv2")
    assert (mscloudcam.optimiser.rate, mscloudcam.batch, mscloudcam.epochs, mscloudcam.seed) == (1e-4, 8, 100, 42)
    assert mscloudcam.schedule.kind == "constant"
    assert not mscloudcam.augment
    assert [phase.accumulate for phase in sensei.schedule.phases] == [1, 1, 1, 1, 4, 8]
    assert sensei.images_per_epoch == 8 * 2500
    assert (sensei.optimiser.eps, sensei.optimiser.weight_decay, sensei.clip) == (1e-6, 1e-4, 1.0)
    cloudmamba, poster, mmcanet = (read_config(name) for name in ("cloudmamba", "percentile", "mmcanet"))
    assert (cloudmamba.schedule.kind, cloudmamba.epochs, cloudmamba.optimiser.rate) == ("cosine", 30, 1e-4)
    assert (poster.batch, poster.epochs, poster.optimiser.rate, poster.patch.size) == (16, 30, 1e-3, 256)
    assert mmcanet.batch * mmcanet.accumulate == 32
    assert (mmcanet.epochs, mmcanet.schedule.every, mmcanet.schedule.factor) == (50, 25, 0.1)


def test_the_documented_configuration_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/training.md").read_text(encoding="utf-8")
    config = read_config(write(tmp_path / "documented.yaml", page.split("```yaml\n")[1].split("```")[0]))
    assert config.accumulate == 4
    assert config.data[1].where == {"biome": ["urban", "water"]}
    for command in [line for line in page.splitlines() if line.startswith("unclouded train -c")]:
        assert command.split()[3] in protocols()
