"""Baselines of removal: all keep what is seen, and each does what it says."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.errors import InputError
from unclouded.infer.baselines import BASELINES, harmonic, matched_date, nearest_date, temporal_median


def case(dates: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:48, :60].astype(np.float32)
    clear = 0.2 + 0.1 * np.stack([np.sin(x / 11), np.cos(y / 9)]) + rng.normal(0, 0.001, (2, 48, 60))
    hidden = (y - 20) ** 2 + (x - 30) ** 2 < 12**2
    image = np.where(hidden, 0.8, clear).astype(np.float32)
    image[:, :2, :2] = np.nan
    history = np.stack([clear * 0.8 + 0.05 + 0.01 * d for d in range(3)]).astype(np.float32)[:dates]
    history_clear = np.ones((3, 48, 60), bool)[:dates]
    history_clear[:1, 15:25, 25:35] = False
    return image, hidden, history, history_clear, clear


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("dates", [0, 3])
def test_what_is_seen_stays(name: str, dates: int) -> None:
    if name == "biharmonic":
        pytest.importorskip("skimage")
    image, hidden, history, history_clear, _ = case(dates)
    before = image.copy()
    out = BASELINES[name](image, hidden, history, history_clear)
    np.testing.assert_array_equal(out[:, ~hidden], image[:, ~hidden])
    np.testing.assert_array_equal(image, before)
    fills = name in ("harmonic", "biharmonic") or (dates and name != "unchanged")
    assert (out[:, hidden] != image[:, hidden]).all() == bool(fills)


def test_inpainting_follows_the_surroundings() -> None:
    image, hidden, *history, clear = case(0)
    assert np.abs(harmonic(image, hidden, *history) - clear)[:, hidden].mean() < 0.02
    pytest.importorskip("skimage")
    assert np.abs(BASELINES["biharmonic"](image, hidden, *history) - clear)[:, hidden].mean() < 0.02


def test_harmonic_filling_solves_the_equation() -> None:
    image, hidden, *history, _ = case(0)
    out = harmonic(image, hidden, *history)[:, 1:-1, 1:-1]
    whole = harmonic(image, hidden, *history)
    mean = 0.25 * (whole[:, :-2, 1:-1] + whole[:, 2:, 1:-1] + whole[:, 1:-1, :-2] + whole[:, 1:-1, 2:])
    assert np.abs(mean - out)[:, hidden[1:-1, 1:-1]].max() < 5e-4


def test_dates_are_taken_in_order() -> None:
    image, hidden, history, history_clear, clear = case()
    out = nearest_date(image, hidden, history, history_clear)
    second = hidden & ~history_clear[0]
    assert second.any()
    assert (out[:, second] == history[1][:, second]).all()
    assert (out[:, hidden & ~second] == history[0][:, hidden & ~second]).all()
    middle = temporal_median(image, hidden, history, history_clear)
    assert (middle[:, hidden & ~second] == history[1][:, hidden & ~second]).all()
    matched = matched_date(image, hidden, history, history_clear)
    assert np.abs(matched - clear)[:, hidden].mean() < 0.1 * np.abs(out - clear)[:, hidden].mean()


def test_shapes_have_to_agree() -> None:
    image, hidden, history, history_clear, _ = case()
    with pytest.raises(InputError, match="hidden"):
        harmonic(image, hidden[1:], history, history_clear)
