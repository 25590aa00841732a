"""Calibration: folding equals adding probabilities, and a fit finds the temperature that made the labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.classes import FOUR_FROM_SEVEN
from unclouded.errors import InputError
from unclouded.infer.calibrate import decide, doubt, expected_calibration_error, fit_temperature, fold, probabilities
from unclouded.models.card import Calibration


def softmax64(logits: np.ndarray) -> np.ndarray:
    power = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    return power / power.sum(axis=0)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.1, 10),
    st.lists(st.floats(-4, 4), min_size=7, max_size=7),
    st.sampled_from([0.1, 3.0, 60.0]),
)
def test_folding_adds_the_probabilities_of_the_members(
    seed: int, temperature: float, bias: list[float], spread: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, (7, 4, 5)).astype(np.float32)
    seven = softmax64(logits / temperature + np.array(bias)[:, None, None])
    four = np.stack([seven[list(members)].sum(axis=0) for members in FOUR_FROM_SEVEN])
    with np.errstate(invalid="ignore"):
        expected = four / four.sum(axis=0)
    got = probabilities(fold(logits.copy(), Calibration(temperature=temperature, bias=tuple(bias))))
    # Where float64 itself loses all four classes beside 'no data' there is nothing to compare with.
    known = np.broadcast_to(four.sum(axis=0) > 1e-200, got.shape)
    np.testing.assert_allclose(got[known], expected[known], atol=2e-5)
    np.testing.assert_allclose(got.sum(axis=0), 1.0, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(-5, 5), st.sampled_from([0.1, 3.0, 60.0]))
def test_thick_is_favoured_over_thin_and_over_nothing_else(seed: int, by: float, spread: float) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, (7, 4, 5)).astype(np.float32)
    before = fold(logits.copy(), Calibration()).astype(np.float64)
    after = fold(logits.copy(), Calibration(thick=by)).astype(np.float64)
    np.testing.assert_array_equal(after[[0, 3]], before[[0, 3]])
    np.testing.assert_allclose(np.logaddexp(after[1], after[2]), np.logaddexp(before[1], before[2]), atol=2e-4)
    odds = before[1] - before[2]
    known = np.abs(odds) < 50  # beyond, one of the two is nothing
    np.testing.assert_allclose((after[1] - after[2])[known], odds[known] + by, atol=2e-4)


def test_a_network_without_thin_cloud_has_nothing_to_favour() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 2, 3)).astype(np.float32)
    plain, favoured = (fold(logits.copy(), Calibration(thick=by), ("clear", "cloud")) for by in (0.0, 2.0))
    np.testing.assert_array_equal(plain, favoured)


@pytest.mark.parametrize("classes", [("clear", "thin", "thick", "shadow"), ("shadow", "clear", "thick", "thin")])
def test_four_classes_come_out_in_the_order_of_the_mask(classes: tuple[str, ...]) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 2, 3)).astype(np.float32)
    known = dict(zip(classes, softmax64(logits), strict=True))
    got = probabilities(fold(logits.copy(), Calibration(), classes))
    np.testing.assert_allclose(got, [known[name] for name in ("clear", "thick", "thin", "shadow")], atol=1e-6)


@pytest.mark.parametrize("classes", [("clear", "cloud"), ("cloud",)])
def test_a_network_of_cloud_alone_finds_neither_thin_cloud_nor_shadow(classes: tuple[str, ...]) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (len(classes), 2, 3)).astype(np.float32)
    odds = logits[-1] - (logits[0] if len(classes) == 2 else 0)
    got = probabilities(fold(logits.copy(), Calibration(), classes))
    np.testing.assert_allclose(got[1], 1 / (1 + np.exp(-odds)), atol=1e-6)
    assert not got[2:].any()


def test_no_data_takes_no_share() -> None:
    logits = np.zeros((7, 1, 1), np.float32)
    logits[6] = 50.0
    four = probabilities(fold(logits, Calibration()))[:, 0, 0]
    np.testing.assert_allclose(four, [1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-5)


@given(
    st.lists(st.floats(1e-3, 1.0), min_size=4, max_size=4),
    st.one_of(st.none(), st.floats(0.05, 0.95)),
)
@settings(max_examples=80, deadline=None)
def test_doubt_is_that_of_the_runner_up(shares: list[float], cloud_from: float | None) -> None:
    clear, thick, thin, shadow = probability = np.array(shares) / sum(shares)
    code = int(decide(probability, cloud_from))
    cloud = thick + thin
    if cloud_from is not None:
        cloud *= (1 - cloud_from) / cloud_from
    rest = max(clear, shadow) if cloud_from is None else clear + shadow
    pairs = [(cloud, rest) if code in (1, 2) else (rest, cloud)]
    if code in (0, 3):
        pairs.append((max(clear, shadow), min(clear, shadow)))
    expected = max(2 * second / (first + second) for first, second in pairs)
    assert float(doubt(probability, cloud_from)) == pytest.approx(min(expected, 1.0), abs=1e-9)


@pytest.mark.parametrize("cloud_from", [None, 0.2, 0.6])
def test_doubt_is_greatest_where_the_class_changes(cloud_from: float | None) -> None:
    cloud = np.linspace(0.001, 0.999, 999)
    probability = np.stack([1 - cloud, cloud, 0 * cloud, 0 * cloud])
    codes, found = decide(probability, cloud_from), doubt(probability, cloud_from)
    change = int(np.flatnonzero(np.diff(codes.astype(int)))[0])
    assert abs(int(found.argmax()) - change) <= 1
    assert (np.diff(found[: change + 1]) > 0).all()
    assert (np.diff(found[change + 1 :]) < 0).all()


def test_nothing_possible_but_one_class_leaves_no_doubt() -> None:
    assert doubt(np.eye(4)).tolist() == [0.0] * 4


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_fit_finds_the_temperature_that_made_the_labels(true_temperature: float) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2.5, (7, 20000))
    share = softmax64(logits / true_temperature).cumsum(axis=0)
    classes = (rng.random(logits.shape[1]) > share).sum(axis=0)
    sets = np.arange(7)[:, None] == classes
    fitted = fit_temperature(logits, sets)
    assert fitted.temperature == pytest.approx(true_temperature, rel=0.05)
    assert fitted.expected_calibration_error is not None
    assert fitted.expected_calibration_error < 0.03


def test_fit_takes_sets_of_possible_classes() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 2.5, (7, 20000))
    share = softmax64(logits / 2.0).cumsum(axis=0)
    classes = (rng.random(logits.shape[1]) > share).sum(axis=0)
    cloud = np.isin(classes, (3, 4))
    sets = np.where(np.isin(np.arange(7), (3, 4))[:, None], cloud, ~cloud)  # cloud or not cloud, no more is known
    blank = np.zeros((7, 500), bool)
    fitted = fit_temperature(
        np.concatenate([logits, rng.normal(0, 9, (7, 1000))], axis=1),
        np.concatenate([sets, blank, ~blank], axis=1),
        fitted_on="made up",
    )
    assert fitted.temperature == pytest.approx(2.0, rel=0.06)
    assert fitted.fitted_on == "made up"


@pytest.mark.parametrize(
    ("logits", "sets"),
    [
        (np.zeros((7, 3)), np.zeros((7, 3), bool)),
        (np.zeros((7, 3)), np.ones((7, 3), bool)),
        (np.zeros((7, 3)), np.ones((7, 4), bool)),
        (np.zeros((4, 3)), np.ones((4, 3), bool)),
    ],
    ids=["no-label", "all-possible", "lengths", "classes"],
)
def test_fit_refuses_what_says_nothing(logits: np.ndarray, sets: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        fit_temperature(logits, sets)
    assert all((caught.value.found, caught.value.expected, caught.value.remedy))


def test_calibration_error_by_hand() -> None:
    # Two bins: ten pixels with 0.9, eight of them right; ten with 0.6, three of them right.
    sure = np.array([0.9] * 10 + [0.6] * 10)
    probability = np.stack([sure, 1 - sure])
    truth = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 7)
    assert expected_calibration_error(probability, truth) == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    sets = truth == np.arange(2)[:, None]
    assert expected_calibration_error(probability, sets) == pytest.approx(0.2)


def test_calibration_error_leaves_out_what_cannot_be_judged() -> None:
    probability = np.array([[1.0, 1.0, np.nan, 1.0], [0.0, 0.0, np.nan, 0.0]])
    assert expected_calibration_error(probability, np.array([0, 255, 0, 1])) == pytest.approx(0.5)
    assert expected_calibration_error(probability, np.full(4, 255)) is None
    with pytest.raises(InputError):
        expected_calibration_error(probability, np.zeros(3, int))
