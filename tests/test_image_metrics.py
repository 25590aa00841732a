"""Image measures: values that follow from the definitions, masks, and agreement with the training loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import image_metrics as im
from unclouded.errors import InputError

RNG = np.random.default_rng(4)
TRUTH = RNG.uniform(0.05, 0.6, (4, 24, 30))
NOISY = np.clip(TRUTH + RNG.normal(0, 0.05, TRUTH.shape), 0, 1)


@settings(max_examples=25, deadline=None)
@given(offset=st.floats(0.001, 0.3))
def test_a_constant_offset_gives_its_own_mae_mse_and_psnr(offset):
    x = TRUTH + offset
    assert im.mae(x, TRUTH) == pytest.approx(offset)
    assert im.mse(x, TRUTH) == pytest.approx(offset**2)
    assert im.psnr(x, TRUTH) == pytest.approx(-20 * np.log10(offset))


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(0.2, 5))
def test_a_gain_leaves_the_spectral_angle_alone(gain):
    assert im.spectral_angle(gain * NOISY, TRUTH) == pytest.approx(float(im.spectral_angle(NOISY, TRUTH)))


def test_ssim_is_symmetric_and_one_for_equal_images():
    np.testing.assert_allclose(im.ssim(NOISY, TRUTH), im.ssim(TRUTH, NOISY))
    np.testing.assert_allclose(im.ssim(TRUTH, TRUTH), 1.0, atol=1e-12)
    assert (im.ssim(NOISY, TRUTH) < 0.999).all()


def test_ssim_of_flat_images_is_the_luminance_term():
    x, y = np.full((1, 12, 12), 0.5), np.full((1, 12, 12), 0.25)
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert im.ssim(x, y)[0] == pytest.approx(expected)


def test_leading_axes_are_images_measured_alone():
    both = im.ssim(np.stack([NOISY, TRUTH]), np.stack([TRUTH, TRUTH]))
    np.testing.assert_allclose(both, [im.ssim(NOISY, TRUTH), im.ssim(TRUTH, TRUTH)])
    for measure in (im.mae, im.mse, im.psnr, im.spectral_angle):
        together = measure(np.stack([NOISY, NOISY[:, ::-1]]), np.stack([TRUTH, TRUTH]))
        np.testing.assert_allclose(together, [measure(NOISY, TRUTH), measure(NOISY[:, ::-1], TRUTH)])


@pytest.mark.parametrize("measure", [im.mae, im.mse, im.psnr, im.ssim, im.spectral_angle])
def test_pixels_left_out_have_no_influence(measure):
    valid = np.ones(TRUTH.shape[-2:], bool)
    valid[:9, 20:] = False
    spoilt, missing = NOISY.copy(), NOISY.copy()
    spoilt[:, ~valid] = 7.0
    missing[:, ~valid] = np.nan
    np.testing.assert_allclose(measure(spoilt, TRUTH, valid), measure(NOISY, TRUTH, valid))
    np.testing.assert_allclose(measure(missing, TRUTH), measure(NOISY, TRUTH, valid))
    assert not np.allclose(measure(spoilt, TRUTH), measure(NOISY, TRUTH))


def test_masked_ssim_is_that_of_the_part_that_is_left():
    valid = np.zeros(TRUTH.shape[-2:], bool)
    valid[3:20, 5:25] = True
    part = (slice(None), slice(3, 20), slice(5, 25))
    np.testing.assert_allclose(im.ssim(NOISY, TRUTH, valid), im.ssim(NOISY[part], TRUTH[part]))


@pytest.mark.parametrize("measure", [im.mae, im.psnr, im.ssim, im.spectral_angle])
def test_without_any_pixel_the_result_is_undefined(measure):
    assert np.isnan(measure(NOISY, TRUTH, np.zeros(TRUTH.shape[-2:], bool))).all()


def test_scores_clip_and_average_counts_equal_images():
    found = im.scores(TRUTH + 5, np.ones_like(TRUTH))
    assert found["mae"] == 0
    assert found["psnr"] == np.inf
    mean = im.average([found, im.scores(NOISY, TRUTH)])
    assert mean["psnr"] == pytest.approx((100 + float(im.psnr(NOISY, TRUTH))) / 2)
    assert (mean["images"], mean["equal"]) == (2, 1)


def test_the_training_loss_uses_the_same_ssim():
    torch = pytest.importorskip("torch")
    from unclouded.losses import ssim

    x, y = (torch.from_numpy(image[None]) for image in (NOISY, TRUTH))
    np.testing.assert_allclose(ssim(x, y)[0].numpy(), im.ssim(NOISY, TRUTH), rtol=1e-10)


def test_errors_name_shape_and_remedy():
    with pytest.raises(InputError, match="same shape"):
        im.mae(TRUTH, TRUTH[:3])
    with pytest.raises(InputError, match="mask is"):
        im.mae(TRUTH, TRUTH, np.ones((3, 3), bool))
    with pytest.raises(InputError, match="at least 11"):
        im.ssim(TRUTH[:, :10], TRUTH[:, :10])
