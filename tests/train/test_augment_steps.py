"""Steps of augmentation: what each may change, and what it must not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import sensors
from unclouded.data import labels as lab
from unclouded.data.augment_steps import GEOMETRIC, STEPS, Patch, augmented, check_step, resampled
from unclouded.errors import InputError
from unclouded.scene import Band

S2 = sensors.bands_of("sentinel2-l1c")
RADAR = Band("vv", "vv", None, None, 10.0, "sar")
CHANGES_BANDS = ("sample-bands", "usual-bands")
REMOVES = ("swath-edge", "no-data-edges", "stripes")


def patch(seed: int, side: int = 24) -> Patch:
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.02, 0.7, (len(S2) + 1, side, side)).astype(np.float32)
    image[-1] = -12.0
    image[:, :3, 5] = np.nan
    sets = rng.choice(lab.FOUR, (side, side)).astype(np.uint8)
    sets[:3, 5] = lab.MISSING
    return Patch(image, sets, (*S2, RADAR))


@pytest.mark.parametrize("name", sorted(STEPS))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_step_is_pure_and_keeps_image_labels_and_bands_together(name: str, seed: int) -> None:
    before, untouched = patch(seed), patch(seed)
    first, again = (STEPS[name](before, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(before.image, untouched.image)
    np.testing.assert_array_equal(before.sets, untouched.sets)
    assert first.image.dtype == np.float32
    assert first.sets.dtype == np.uint8
    assert first.image.shape == (len(first.bands), *first.sets.shape)
    lost = np.isnan(first.image).any(axis=0)
    assert (first.sets[lost] == lab.MISSING).all(), "what is missing is labelled so"
    if name not in GEOMETRIC:
        kept = first.sets == before.sets
        assert kept.all() or name in REMOVES
        assert (np.isnan(before.image[0]) <= lost).all(), "nothing missing is invented"
    if name not in CHANGES_BANDS:
        assert first.bands == before.bands
        radar = first.image[-1]
        assert (np.isnan(radar) | np.isclose(radar, -12.0)).all(), "radar is no reflectance"


@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_steps_move_labels_with_pixels(name: str) -> None:
    before = patch(3)
    image = before.image.copy()
    image[0] = before.sets
    for seed in range(12):
        after = STEPS[name](Patch(image, before.sets, before.bands), np.random.default_rng(seed))
        np.testing.assert_array_equal(after.image[0], after.sets)
        assert sorted(after.sets.ravel()) == sorted(before.sets.ravel())


@pytest.mark.parametrize("name", CHANGES_BANDS)
def test_bands_that_are_kept_keep_their_planes(name: str) -> None:
    image = np.arange(len(S2), dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    before = Patch(image, np.full((4, 4), lab.CLEAR, np.uint8), S2)
    counts = set()
    for seed in range(150):
        after = STEPS[name](before, np.random.default_rng(seed))
        assert [S2[int(plane[0, 0])] for plane in after.image] == list(after.bands)
        counts.add(len(after.bands))
    if name == "sample-bands":
        assert counts == set(range(3, 14)), "3 to 13 bands, both included"


def test_quantised_values_are_multiples() -> None:
    after = STEPS["quantise"](patch(1), np.random.default_rng(0), step=0.04)
    steps = after.image[:-1] / 0.04
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_eight_bit_pictures_have_256_steps() -> None:
    after = STEPS["eight-bit"](patch(1), np.random.default_rng(0))
    values = after.image[:-1][np.isfinite(after.image[:-1])]
    assert 0.0 <= values.min() <= values.max() <= 1.0
    np.testing.assert_allclose(values * 255, np.round(values * 255), atol=1e-3)


def test_haze_falls_with_wavelength() -> None:
    before = patch(1)
    after = STEPS["haze"](before, np.random.default_rng(0), sigma=0.05, exponent=4.0)
    change = np.nanmean(after.image - before.image, axis=(1, 2))[:-1]
    centres = np.array([band.centre_nm for band in S2])
    np.testing.assert_allclose(change / change[1], (centres[1] / centres) ** 4, rtol=0.02, atol=1e-4)


def test_saturated_pixels_share_one_level() -> None:
    after = STEPS["saturate"](patch(1), np.random.default_rng(0), low=0.4, high=0.5)
    level = np.nanmax(after.image[:-1])
    assert 0.4 <= level <= 0.5
    assert (after.image[:-1] == level).sum() > 100


def test_misregistration_moves_a_band_and_no_missing_pixel() -> None:
    ramp = np.tile(np.arange(20, dtype=np.float32), (20, 1)) / 100
    image = np.stack([ramp, ramp])
    image[:, 4, 4] = np.nan
    before = Patch(image, np.full((20, 20), lab.CLEAR, np.uint8), S2[:2])
    after = STEPS["misregister"](before, np.random.default_rng(1), pixels=1.0, share=1.0)
    inside = np.s_[8:12, 8:12]
    shift = (after.image[0] - image[0])[inside]
    np.testing.assert_allclose(shift, shift[0, 0], atol=1e-6)
    assert 0 < abs(shift[0, 0]) <= 0.0101
    np.testing.assert_array_equal(np.isnan(after.image), np.isnan(image))


def test_lost_lines_are_missing_in_all_bands() -> None:
    found = 0
    for seed in range(20):
        after = STEPS["stripes"](patch(seed), np.random.default_rng(seed), missing=1.0)
        lost = np.isnan(after.image)
        assert (lost == lost[0]).all()
        found += int(lost[0].sum() > 24)
    assert found > 15


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(3, 60), cols=st.integers(3, 60), size=st.integers(1, 50))
def test_resampling_keeps_a_plane_a_plane(rows: int, cols: int, size: int) -> None:
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    image = np.stack([np.full_like(y, 0.3), y / rows])
    out, sets = resampled(image, np.full((rows, cols), 7, np.uint8), size)
    assert out.shape == (2, size, size)
    np.testing.assert_allclose(out[0], 0.3, rtol=1e-5)
    centre = (np.arange(size) + 0.5) / size - 0.5 / rows
    inside = slice(size // 4, max(size - size // 4, size // 4 + 1))
    if size <= rows and size >= 8:
        np.testing.assert_allclose(out[1, inside, 0], centre[inside], atol=0.03)
    assert (sets == 7).all()
    del x


def test_resampling_spreads_nothing_missing() -> None:
    image = np.full((1, 30, 30), 0.2, np.float32)
    image[0, :, 10:20] = np.nan
    out, _ = resampled(image, np.zeros((30, 30), np.uint8), 15)
    assert np.isnan(out[0, :, 5:10]).all()
    np.testing.assert_allclose(out[0, :, [0, 4, 10, 14]], 0.2, rtol=1e-5)


def test_probabilities_are_kept_and_steps_composed() -> None:
    before = patch(1)
    rng = np.random.default_rng(0)
    steps = [("gain", 0.25, {"sigma": 0.5})]
    changed = sum(
        not np.array_equal(augmented(before, steps, rng).image, before.image, equal_nan=True) for _ in range(400)
    )
    assert 70 <= changed <= 130
    assert augmented(before, [("turn", 0.0, {})], rng) is before


def test_unknown_steps_and_settings_are_told() -> None:
    with pytest.raises(InputError, match="no augmentation 'blur'"):
        check_step("blur", {})
    with pytest.raises(InputError, match="no setting 'strength'") as caught:
        check_step("haze", {"strength": 1})
    assert "sigma, exponent" in caught.value.expected
