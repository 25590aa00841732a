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
