"""Image metrics: known values, missing pixels, and what must hold for any image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import image_metrics as im
from unclouded.errors import InputError
from unclouded.infer.calibrate import expected_calibration_error

seeds = st.integers(0, 500)


def pair(seed, bands=3, side=20):
    rng = np.random.default_rng(seed)
    return rng.random((bands, side, side + 2)), rng.random((bands, side, side + 2))


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_missing_pixels_count_nowhere(seed):
    x, y = pair(seed)
    valid = np.random.default_rng(seed + 1).random(x.shape[1:]) > 0.3
    noisy = np.where(valid, x, 1e6)
    holed = np.where(valid, x, np.nan)
    for metric in (im.mae, im.mse, im.psnr, im.spectral_angle):
        expected = metric(x[:, valid][:, None], y[:, valid][:, None])
        assert metric(noisy, y, valid) == pytest.approx(expected)
        assert metric(holed, y) == pytest.approx(expected)


def test_ssim_leaves_windows_over_missing_pixels_out():
    x, y = pair(0, side=30)
    holed = x.copy()
    holed[:, 15, 15] = np.nan
    whole, left = im.ssim_map(x, y), im.ssim_map(holed, y)
    known = np.isfinite(left)
    assert (~known).sum() == 3 * 11 * 11
    np.testing.assert_array_equal(whole[known], left[known])
    valid = np.ones(x.shape[1:], bool)
    valid[15, 15] = False
    assert im.ssim(x, y, valid) == pytest.approx(whole[known].mean())
    assert math.isnan(im.ssim(x[:, :11, :11], y[:, :11, :11], np.zeros((11, 11), bool)))


@given(seeds, st.floats(0.2, 5.0))
@settings(max_examples=15, deadline=None)
def test_angles_ignore_brightness_and_errors_do_not(seed, gain):
    x, y = pair(seed)
    assert im.spectral_angle(gain * x, y) == pytest.approx(im.spectral_angle(x, y))
    assert im.spectral_angle(x, gain * x) == pytest.approx(0.0, abs=1e-5)
    assert im.mae(x, x + gain) == pytest.approx(gain)
    assert im.mse(x, x + gain) == pytest.approx(gain**2)


def test_equal_images():
    x, _ = pair(1)
    assert im.psnr(x, x) == math.inf
    assert im.psnr(x, x, cap=im.PSNR_CAP) == 100.0
    assert im.ssim(x, x) == pytest.approx(1.0)
    assert math.isnan(im.spectral_angle(0 * x, x))


def test_wrong_images_are_told():
    x, y = pair(1)
    with pytest.raises(InputError, match="Select the same bands"):
        im.mae(x, y[:2])
    with pytest.raises(InputError, match="common valid pixel"):
        im.mae(x, np.full_like(y, np.nan))
    with pytest.raises(InputError, match="11 x 11"):
        im.ssim(x[:, :8], y[:, :8])


def test_reliability_by_hand():
    p = np.array([[0.85, 0.85, 0.85, 0.6, 0.5, 0.55], [0.15, 0.15, 0.15, 0.4, 0.5, 0.45]])[:, None]
    truth = np.array([[0, 0, 1, 0, 255, 1]])
    result = im.reliability(p, truth, bins=2)
    assert result.count.tolist() == [0, 5]
    assert result.error == pytest.approx(abs((0.85 * 3 + 0.6 + 0.55) / 5 - 3 / 5))
    fine = im.reliability(p, truth, bins=10)
    assert fine.count[[8, 6, 5]].tolist() == [3, 1, 1]
    assert fine.error == pytest.approx((3 * abs(0.85 - 2 / 3) + abs(0.6 - 1) + abs(0.55 - 0)) / 5)
    assert fine.worst == pytest.approx(0.55)
    assert expected_calibration_error(p, truth, bins=10) == pytest.approx(fine.error)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_labels_drawn_from_the_probabilities_are_calibrated(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6, 0.6, 0.6], size=(150, 200)).transpose(2, 0, 1)
    truth = (rng.random(p.shape[1:]) > np.cumsum(p, axis=0)).sum(axis=0)
    assert im.reliability(p, truth).error < 0.012
    sharper = p**2 / (p**2).sum(axis=0)
    assert im.reliability(sharper, truth).error > 0.03
    assert im.brier_score(sharper, truth) > im.brier_score(p, truth)
    assert im.negative_log_likelihood(sharper, truth) > im.negative_log_likelihood(p, truth)


def test_likelihood_is_that_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    p = rng.dirichlet([0.5, 0.5, 0.5], size=(20, 30)).transpose(2, 0, 1)
    truth = rng.integers(0, 3, (20, 30))
    expected = theirs.log_loss(truth.ravel(), p.reshape(3, -1).T, labels=[0, 1, 2])
    assert im.negative_log_likelihood(p, truth) == pytest.approx(expected, rel=1e-6)


def test_scores_of_probabilities_by_hand():
    p = np.array([[[0.7, 0.2]], [[0.3, 0.8]]])
    truth = np.array([[0, 0]])
    assert im.brier_score(p, truth) == pytest.approx((0.18 + 1.28) / 2)
    assert im.negative_log_likelihood(p, truth) == pytest.approx(-(math.log(0.7) + math.log(0.2)) / 2)
    with pytest.raises(InputError, match="code 5"):
        im.brier_score(p, np.array([[0, 5]]))
    with pytest.raises(InputError, match="No pixel is left"):
        im.reliability(p, np.full((1, 2), 255))


def square(shift=0, side=40):
    mask = np.zeros((side, side), bool)
    mask[10:30, 10 + shift : 30 + shift] = True
    return mask


@pytest.mark.parametrize(("shift", "tolerance", "sides"), [(0, 0, 1.0), (1, 1, 1.0), (3, 2.9, None), (2, 2, 1.0)])
def test_shifted_outlines(shift, tolerance, sides):
    score = im.boundary_f1(square(shift), square(), tolerance=tolerance)
    if sides is not None:
        assert score.f1 == sides
    else:  # upper and lower edges overlap still, left and right ones do not
        assert 0.4 < score.f1 < 0.8


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_outlines_swap_and_grow_with_tolerance(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((24, 24)) > 0.7 for _ in range(2))
    one, other = im.boundary_f1(a, b, tolerance=1), im.boundary_f1(b, a, tolerance=1)
    assert (one.precision, one.recall, one.f1) == (other.recall, other.precision, other.f1)
    assert im.boundary_f1(a, b, tolerance=2).f1 >= one.f1
    assert im.boundary_f1(a, a, tolerance=0).f1 == 1.0


def test_outlines_at_edges_and_beside_missing_pixels_do_not_count():
    full = np.ones((10, 10), bool)
    assert im.boundary_f1(full, full).f1 == 1.0
    valid = full.copy()
    valid[:, 5:] = False
    half = full & valid
    empty = im.boundary_f1(half, full, valid=valid)
    assert empty.f1 == 1.0
    assert math.isnan(empty.precision)
    missed = im.boundary_f1(np.zeros((40, 40), bool), square())
    assert math.isnan(missed.precision)
    assert (missed.recall, missed.f1) == (0.0, 0.0)
