"""Thresholds that keep a bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import unclouded
from unclouded import Options
from unclouded.classes import SEVEN
from unclouded.errors import InputError, ModelError
from unclouded.infer.calibrate import decide
from unclouded.infer.guarantee import THRESHOLDS, control, guarantee_for, losses
from unclouded.models.card import Guarantee, Loss, ModelCard


def card(*guarantees: Guarantee) -> ModelCard:
    return ModelCard(
        name="x", title="x", version="1", architecture="slots-unet", front_end="slots", classes=SEVEN, licence="none",
        parameters=1, guarantees=guarantees,
    )  # fmt: skip


def kept(bound: float, threshold: float, loss: Loss = "missed-cloud") -> Guarantee:
    return Guarantee(loss=loss, bound=bound, threshold=threshold, scenes=50, price=0.1, data="x")


def test_the_risk_of_new_scenes_stays_below_the_bound_on_average() -> None:
    """The theorem itself: thresholds from 60 scenes, judged on others of the same kind, many times."""
    rng = np.random.default_rng(1)

    def scene() -> np.ndarray:
        hardness = rng.beta(2, 6)
        probability = rng.beta(6 * (1 - hardness) + 0.5, 6 * hardness + 0.5, 400)
        row = losses(probability, np.ones(400, bool), np.zeros(400, bool), "missed-cloud")
        assert row is not None
        return row

    for bound in (0.05, 0.1):
        risks = []
        for _ in range(60):
            threshold = control([scene() for _ in range(60)], bound, "missed-cloud")
            assert threshold is not None
            place = int(np.searchsorted(THRESHOLDS, threshold))
            risks.append(np.mean([scene()[place] for _ in range(20)]))
        assert np.mean(risks) < bound * 1.1
        assert np.mean(risks) > bound * 0.3  # not bought by calling everything cloud


def test_lost_clear_ground_is_bounded_from_the_other_side() -> None:
    probability = np.linspace(0, 1, 1000)
    row = losses(probability, np.zeros(1000, bool), np.ones(1000, bool), "lost-clear")
    assert row is not None
    assert control([row] * 99, 0.11, "lost-clear") == pytest.approx(0.9, abs=0.011)
    assert losses(probability, np.zeros(1000, bool), np.ones(1000, bool), "missed-cloud") is None


def test_a_wish_takes_the_largest_bound_that_keeps_it() -> None:
    cards = card(kept(0.05, 0.1), kept(0.1, 0.2), kept(0.1, 0.7, "lost-clear"))
    assert guarantee_for(cards, None, None) is None
    assert guarantee_for(cards, 0.07, None) == cards.guarantees[0]
    assert guarantee_for(cards, 0.3, None) == cards.guarantees[1]
    assert guarantee_for(cards, None, 0.1) == cards.guarantees[2]


def test_without_evidence_it_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no evidence for missed cloud of at most 0\.01") as caught:
        guarantee_for(card(kept(0.05, 0.1)), 0.01, None)
    assert "0.05" in str(caught.value)
    with pytest.raises(ModelError, match="none"):
        guarantee_for(card(), None, 0.5)


@pytest.mark.parametrize(
    "wrong", [{"max_missed_cloud": 0.0}, {"max_lost_clear": 1.0}, {"max_missed_cloud": 0.1, "max_lost_clear": 0.1}]
)
def test_wishes_have_to_make_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Options(**wrong)


def test_the_threshold_decides() -> None:
    share = np.array([[0.8], [0.05], [0.05], [0.1]], np.float32)
    assert decide(share).tolist() == [0]
    assert decide(share, 0.1).tolist() == [1]
    assert decide(share * 7, 0.11).tolist() == [0]
    assert decide(np.array([[0.1], [0.1], [0.35], [0.45]], np.float32), 0.5).tolist() == [3]


def test_a_scene_is_masked_by_its_threshold_and_says_so(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model(guarantees=(kept(0.05, 0.25),))
    image = np.random.default_rng(0).uniform(0, 0.6, (4, 64, 80)).astype(np.float32)
    path = tmp_path / "scene.tif"
    layout = {"count": 4, "height": 64, "width": 80, "dtype": "float32", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="GTiff", transform=from_origin(3e5, 5e6, 20, 20), **layout) as file:
        file.write(image)
        file.descriptions = ("blue", "green", "red", "nir")
    result = unclouded.mask(path, model=str(model), max_missed_cloud=0.06, output=tmp_path / "out")
    said = json.loads(result.outputs["item"].read_text())["properties"]
    assert said["unclouded:guarantee"]["bound"] == 0.05
    assert said["unclouded:options"]["max_missed_cloud"] == 0.06
    plain = unclouded.mask(path, model=str(model))
    cloud = plain.probability.values[1:3].sum(axis=0) >= 0.25
    np.testing.assert_array_equal(np.isin(result.classes.values, (1, 2)), cloud)
    assert cloud.mean() > np.isin(plain.classes.values, (1, 2)).mean()
    with pytest.raises(ModelError, match="evidence"):
        unclouded.mask(path, model=str(model), max_missed_cloud=0.01)
