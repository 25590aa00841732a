"""Fitting temperatures to label sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unclouded.classes import SEVEN
from unclouded.data import labels as lab
from unclouded.data.sample import Sample
from unclouded.infer.calibrate import decide, fold, probabilities
from unclouded.scene import Band
from unclouded.train import calibration
from unclouded.train.calibration import certain, fit_calibration, fit_guarantees

BANDS = (Band("r", "red", 640, 680, 20), Band("n", "nir", 840, 880, 20))


@pytest.fixture(autouse=True)
def _no_more_pixels_than_the_images_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "PIXELS", 3600)


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
    pairs = [drawn(temperature, seed, "toa") for seed in range(8)]
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs])["toa"]
    assert found.temperature == pytest.approx(temperature, rel=0.2)
    assert found.expected_calibration_error is not None
    assert found.expected_calibration_error < 0.06


def lowered(by: float, seeds: range, level: str) -> list[tuple[Sample, np.ndarray]]:
    """Images whose cloud logits are too low by so much."""
    pairs = [drawn(1.0, seed, level) for seed in seeds]
    for _, logits in pairs:
        logits[[SEVEN.index("thin"), SEVEN.index("thick")]] -= by
    return pairs


def bias_of(pairs: list[tuple[Sample, np.ndarray]], level: str, name: str) -> float:
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs])[level]
    return found.bias[SEVEN.index(name)] * found.temperature


def test_a_bias_that_lowered_cloud_is_found() -> None:
    right, low = drawn_many(range(6)), lowered(1.5, range(6), "toa")
    assert bias_of(right, "toa", "thin") == pytest.approx(0.0, abs=0.1)
    assert bias_of(low, "toa", "thin") == pytest.approx(1.5, abs=0.2)
    assert bias_of(low, "toa", "thin") == bias_of(low, "toa", "thick")
    assert bias_of(low, "toa", "land") == 0


def test_cloud_begins_where_the_intersection_over_union_is_highest() -> None:
    """Adding a pixel of probability p raises a share s of hits in their union where p > s (1 - p): p > s / (1 + s)."""
    pairs = drawn_many(range(6))
    found = fit_calibration([pair[0] for pair in pairs], [pair[1] for pair in pairs])["toa"]
    hit = wrong = missed = 0
    for sample, logits in pairs:
        four = probabilities(fold(logits.copy(), found))
        codes = decide(four, found.cloud_from)
        truth, called = np.isin(sample.sets, (lab.THIN, lab.THICK)), np.isin(codes, (1, 2))
        hit, wrong, missed = (
            total + int(count.sum())
            for total, count in zip(
                (hit, wrong, missed), (truth & called, ~truth & called, truth & ~called), strict=True
            )
        )
    share = hit / (hit + wrong + missed)
    assert found.cloud_from == pytest.approx(share / (1 + share), abs=0.05)


@pytest.mark.parametrize("by", [-1.5, 0.0, 1.5])
def test_where_thin_cloud_ends_is_found(by: float) -> None:
    """Labels that begin to say thick elsewhere than the network move what favours thick, on every level."""
    rng = np.random.default_rng(0)
    samples, logits = [], []
    for seed, level in enumerate(("toa", "toa", "boa")):
        values = rng.normal(0, 2, (len(SEVEN), 60, 60)).astype(np.float32)
        odds = values[SEVEN.index("thick")] - values[SEVEN.index("thin")]
        sets = np.where(odds + by > 0, lab.THICK, lab.THIN).astype(np.uint8)
        sets[:20] = lab.CLOUD if seed else lab.CLEAR  # these say nothing of it
        samples.append(Sample(f"{seed}", "x", "x", "x", np.zeros((2, 60, 60), np.float32), sets, BANDS, 20.0, level))
        logits.append(values)
    found = fit_calibration(samples, logits)
    for level in ("default", "toa", "boa"):
        assert found[level].thick * found[level].temperature == pytest.approx(by, abs=0.3 * found[level].temperature)
        codes = decide(probabilities(fold(logits[2].copy(), found[level])), cloud_from=0.01)
        kinds = np.isin(codes, (1, 2)) & np.isin(samples[2].sets, (lab.THIN, lab.THICK))
        agreed = (codes == 1)[kinds] == (samples[2].sets == lab.THICK)[kinds]
        assert agreed.mean() > 0.93


def test_without_any_cloud_there_is_no_threshold() -> None:
    pairs = drawn_many(range(3))
    clear = [replace(sample, sets=np.full_like(sample.sets, lab.CLEAR)) for sample, _ in pairs]
    found = fit_calibration(clear, [pair[1] for pair in pairs])["toa"]
    assert found.cloud_from is None
    assert found.thick == 0


def drawn_many(seeds: range) -> list[tuple[Sample, np.ndarray]]:
    return [drawn(1.0, seed, "toa") for seed in seeds]


def test_a_level_with_few_images_stays_near_the_common_calibration() -> None:
    common = bias_of(drawn_many(range(12)), "default", "thin")
    found = [
        bias_of(drawn_many(range(12)) + lowered(2.0, range(100, 100 + count), "boa"), "boa", "thin")
        for count in (1, 6)
    ]
    assert common < found[0] < found[1] < common + 2.2


def test_guarantees_hold_on_the_scenes_that_made_them_and_refuse_without_evidence() -> None:
    rng = np.random.default_rng(0)
    samples, probability = [], []
    for seed in range(40):
        sample, _ = drawn(1.0, seed, "toa")
        truth = np.isin(sample.sets, (lab.THIN, lab.THICK))
        samples.append(sample)
        probability.append(np.clip(truth * 0.6 + rng.uniform(0, 0.4, truth.shape), 0, 1).astype(np.float32))
    found = fit_guarantees(samples, probability)
    bounds = {one.bound for one in found if one.loss == "missed-cloud"}
    assert bounds == {0.05, 0.1, 0.2}  # 40 scenes cannot support 1 / 41 and less
    for one in found:
        shares = []
        for sample, values in zip(samples, probability, strict=True):
            cloud, clear = certain(sample)
            called = values >= one.threshold
            wrong = cloud & ~called if one.loss == "missed-cloud" else clear & called
            shares.append(wrong.sum() / (cloud if one.loss == "missed-cloud" else clear).sum())
        assert np.mean(shares) <= one.bound
    # Cloud is never below 0.6 here: a looser bound gives a higher threshold.
    missed = sorted((one.bound, one.threshold) for one in found if one.loss == "missed-cloud")
    assert missed == sorted(missed, key=lambda pair: pair[1])
