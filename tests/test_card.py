"""Model cards: what is written is read again, and nonsense is refused with the place named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import unclouded.models.card as card_module
from unclouded.classes import SEVEN
from unclouded.errors import ModelError
from unclouded.models.card import Calibration, ModelCard


def make(**changes: object) -> ModelCard:
    base = {
        "name": "x", "title": "X", "version": "1", "architecture": "slots-unet", "front_end": "slots",
        "classes": SEVEN, "licence": "Apache-2.0", "parameters": 1,
    }  # fmt: skip
    return ModelCard.model_validate(base | changes)


def test_cards_survive_the_file(tmp_path: Path) -> None:
    card = make(calibration={"toa": Calibration(temperature=1.3)}, leave_out=("lwir11",))
    card.save(tmp_path / "x.json")
    assert ModelCard.load(tmp_path / "x.json") == card


def test_missing_broken_and_strange_cards_are_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        ModelCard.load(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not valid"):
        ModelCard.load(path)
    path.write_text(json.dumps(json.loads(make().model_dump_json()) | {"colour": 1}), encoding="utf-8")
    with pytest.raises(ModelError, match="colour"):
        ModelCard.load(path)


def test_calibration_falls_back_by_level() -> None:
    card = make(calibration={"toa": Calibration(temperature=2), "default": Calibration(temperature=3)})
    assert card.calibration_for("toa").temperature == 2
    assert card.calibration_for("boa").temperature == 3
    assert make().calibration_for("toa").temperature == 1
    with pytest.raises(ValueError, match="temperature"):
        Calibration(temperature=0)


BANDS = ({"name": "B02", "min_nm": 446, "max_nm": 542}, {"name": "B03", "min_nm": 537, "max_nm": 582})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"front_end": "bands"}, "bands belong to the front end"),
        ({"bands": BANDS}, "bands belong to the front end"),
        ({"front_end": "bands", "bands": (BANDS[0], BANDS[0])}, "not all different"),
        ({"front_end": "bands", "bands": ({"name": "x", "min_nm": 500, "max_nm": 400},)}, "runs from 500 to 400"),
        ({"scaling": {"mode": "divide-3000"}}, "a scaling belongs to"),
        ({"front_end": "bands", "bands": BANDS, "scaling": {"mode": "percentile"}}, "without its statistics"),
        (
            {"front_end": "bands", "bands": BANDS, "scaling": {"mode": "percentile", "low": (0,), "high": (1,)}},
            "statistics of 1 bands, and the network has 2",
        ),
        (
            {
                "front_end": "bands",
                "bands": BANDS,
                "scaling": {"mode": "standardise", "scope": "scene", "mean": (1, 1)},
            },
            "taken from each scene",
        ),
        ({"task": "removal"}, "removal takes"),
        ({"task": "removal", "front_end": "bands", "bands": BANDS}, "removal takes"),
        ({"sar": ({"name": "vv", "low_db": -25, "high_db": 0},)}, "radar inputs belong to"),
        ({"classes": ("clear", "forest")}, "forest are unknown"),
        ({"classes": ("clear", "shadow")}, "do not tell cloud from clear"),
        ({"classes": ()}, "do not tell cloud from clear"),
        ({"calibration": {"toa": {"bias": (1.0, 2.0)}}}, "2 biases for 7 classes"),
        ({"stride": 0}, "greater than 0"),
        ({"tile": 100}, "no multiple of the stride 32"),
    ],
)
def test_cards_that_contradict_themselves_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make(**changes)


def test_cards_of_every_kind() -> None:
    four = ("clear", "thick", "thin", "shadow")
    assert make(front_end="bands", bands=BANDS, classes=four, scaling={"mode": "divide-3000"}).scaling.mode
    assert make(classes=("cloud",)).classes == ("cloud",)
    radar = ({"name": "vv", "low_db": -25, "high_db": 0}, {"name": "vh", "low_db": -32.5, "high_db": 0})
    assert make(task="removal", front_end="bands", bands=BANDS, sar=radar, classes=()).sar[1].low_db == -32.5


def test_the_shipped_card_says_what_it_has_to() -> None:
    folder = Path(card_module.__file__).parents[1] / "weights"
    card = ModelCard.load(folder / "default.json")
    assert card.classes == SEVEN
    assert card.licence
    assert card.training, "what it was trained on"
    assert card.figures, "what it was measured to do"
    assert card.limits, "where it fails"
    assert {"onnx", "safetensors"} <= set(card.sha256)
    size = sum((folder / f"default.{suffix}").stat().st_size for suffix in card.sha256)
    assert size <= 40 * 1024**2
