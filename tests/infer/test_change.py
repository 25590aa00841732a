"""What is expected of ground that is taken from another date: who changed much is told to, in true size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unclouded
from unclouded.infer import remove_plan
from unclouded.infer.change import CELL, Change
from unclouded.infer.matching import match


def fields(rng: np.random.Generator, size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forest that stays and fields that are harvested or not, on two dates, (3, y, x)."""
    crop = rng.random((size // 16, size // 16)).repeat(16, 0).repeat(16, 1) < 0.5
    before = np.where(crop, 0.25, 0.08) + rng.normal(0, 0.004, (3, size, size))
    harvest = rng.normal(0, 0.05, (size // 16, size // 16)).repeat(16, 0).repeat(16, 1) * crop
    after = before + harvest + rng.normal(0, 0.004, (3, size, size))
    return before.astype(np.float32), after.astype(np.float32), crop


@pytest.mark.parametrize("seed", range(3))
def test_what_changes_often_is_told_apart_in_true_size(seed: int) -> None:
    before, after, crop = fields(np.random.default_rng(seed))
    hidden = np.zeros(crop.shape, bool)
    hidden[32:96, 32:96] = True
    found = match(after, before, ~hidden)
    made = found.apply(before, 0, crop.shape)
    told = found.change.errors(made, 0, crop.shape)[hidden]
    error = np.abs(made - after).mean(axis=0)[hidden]
    assert told[crop[hidden]].mean() > 3 * told[~crop[hidden]].mean()
    assert 0.5 < told.mean() / error.mean() < 2
    surest = told <= np.quantile(told, 0.3)
    assert error[surest].mean() < 0.5 * error.mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_mean_is_that_of_the_residuals_and_any_rows_equal_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 70)), int(rng.integers(1, 70))
    image = rng.random((int(rng.integers(1, 5)), *shape)).astype(np.float32)
    residual = (rng.random(shape) * 0.1).astype(np.float32)
    common = rng.random(shape) < 0.7
    common[0, 0] = True
    change = Change.of(image, residual, common)
    told = change.errors(image, 0, shape)
    assert told.shape == shape
    assert residual[common].min() * 0.99 <= told.min()
    assert told.max() <= residual[common].max() * 1.01
    first = int(rng.integers(shape[0]))
    assert (change.errors(image[:, first:], first, shape) == told[first:]).all()
    assert change.scaled(2.0).errors(image, 0, shape) == pytest.approx(2 * told)


def test_missing_pixels_do_no_harm() -> None:
    image = np.full((2, 3 * CELL, CELL), np.nan, np.float32)
    image[:, :5] = 0.1
    residual = np.abs(image).mean(axis=0)
    change = Change.of(image, residual, np.isfinite(residual))
    assert np.isfinite(change.errors(image, 0, image.shape[1:])).all()


def test_of_dates_that_cannot_be_compared_bright_ground_is_the_least_certain() -> None:
    image = np.random.default_rng(3).uniform(0.02, 0.3, (3, 80, 70)).astype(np.float32)
    image[:, 40:, 30:] += 0.1  # haze
    found = match(np.full_like(image, 0.8), image, np.zeros((80, 70), bool))
    told = found.change.errors(image, 0, (80, 70))
    assert told[40:, 30:].mean() > 1.2 * told[:40].mean()
    assert told.mean() == pytest.approx(found.expected, rel=0.1)
    assert (found.change.errors(image[:, 11:], 11, (80, 70)) == told[11:]).all()
    flat = match(image, np.zeros_like(image), np.zeros((80, 70), bool)).change
    assert np.ptp(flat.errors(np.zeros_like(image), 0, (80, 70))) == 0


def test_errors_of_large_scenes_are_those_of_single_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of single pixels is nearly gone on an overview of 4 x 4 pixels, but not in the result."""
    rng = np.random.default_rng(7)
    ground = rng.uniform(0.1, 0.4, (32, 32)).repeat(8, 0).repeat(8, 1)
    one, other = (np.float32(ground + rng.normal(0, 0.02, ground.shape))[None] for _ in range(2))
    mask = np.zeros(ground.shape, np.uint8)
    mask[100:150, 100:150] = 1
    cloudy = np.where(mask > 0, np.float32(0.8), one)
    given_ = {"history": other[None], "mask": mask, "history_masks": np.zeros((1, 256, 256), np.uint8)}
    monkeypatch.setattr(remove_plan, "_OVERVIEW", 64)
    found = unclouded.restore(cloudy, [(845, 885)], model="none", **given_)
    hidden = mask > 0
    error = np.abs(found.image - one)[0][hidden].mean()
    assert 0.7 < found.uncertainty[hidden].mean() / error < 1.4
