"""Fitting temperatures to label sets."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.classes import SEVEN
from unclouded.data.sample import Sample
from unclouded.scene import Band
from unclouded.train.calibration import FEWEST_IMAGES, fit_calibration

BANDS = (Band("r", "red", 640, 680, 20), Band("n", "nir", 840, 880, 20))


def drawn(temperature: float, seed: int, level: str) -> tuple[Sample, np.ndarray]:
    """An image whose labels really follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (len(SEVEN), 60, 60)).astype(np.float32)
    logits[SEVEN.index("no-data")] = -50
    power = np.exp(logits / temperature)
    share = np.cumsum(power / power.sum(axis=0), axis=0)
    truth = (rng.random((60, 60)) > share).sum(axis=0).clip(0, 5)
    sets = (1 << truth).astype(np.uint8)
    return Sample(f"{seed}", "x", "x", "choose", np.zeros((2, 60, 60), np.float32), sets, BANDS, 20.0, level), logits


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    pairs = [drawn(temperature, seed, "toa") for seed in range(FEWEST_IMAGES)]
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert found["toa"].temperature == pytest.approx(temperature, rel=0.08)


def test_biases_move_the_classes_that_they_name() -> None:
    pairs = [drawn(1.0, seed, "toa") for seed in range(FEWEST_IMAGES)]
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs], cloud_bias=0.8, snow_bias=-3)[
        "toa"
    ]
    moved = {SEVEN[row] for row, bias in enumerate(found.bias) if bias}
    assert moved == {"thin", "thick", "snow"}
    assert found.bias[SEVEN.index("snow")] * found.temperature == pytest.approx(-3)
    assert found.bias[SEVEN.index("thin")] * found.temperature == pytest.approx(0.8)


def test_levels_with_few_images_take_the_common_one() -> None:
    pairs = [drawn(1.0, seed, "toa") for seed in range(FEWEST_IMAGES)] + [drawn(1.0, 99, "boa")]
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert set(found) == {"toa", "default"}
