"""The simulator: geometry, spectra, truth, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import InputError
from unclouded.scene import Band
from unclouded.simulate.clouds import (
    SHADOW_BELOW,
    THICK_FROM_TAU,
    THIN_FROM_TAU,
    Layer,
    random_layers,
    simulate_clouds,
)
from unclouded.simulate.noise import blur, power_law_field
from unclouded.simulate.surface import LANDSCAPES, procedural_surface

BANDS = (
    Band("B02", "blue", 446, 542, 10),
    Band("B04", "red", 645.5, 684.5, 10),
    Band("B8A", "nir08", 847.5, 880.5, 20),
    Band("B10", "cirrus", 1337, 1413, 60),
    Band("B11", "swir16", 1541, 1683, 20),
    Band("B12", "swir22", 2074, 2314, 20),
)


def flat(value: float = 0.1, size: int = 96) -> np.ndarray:
    surface = np.full((len(BANDS), size, size), value, np.float32)
    surface[3] = 0.0015
    return surface


def disc(size: int, radius: float, tau: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.where(x**2 + y**2 <= radius**2, tau, 0.0).astype(np.float32)


@pytest.mark.parametrize(
    ("azimuth", "down", "right"),
    [(180.0, -1, 0), (0.0, 1, 0), (90.0, 0, -1), (270.0, 0, 1), (135.0, -(0.5**0.5), -(0.5**0.5))],
)
def test_the_shadow_of_one_cloud_lies_away_from_the_sun(azimuth: float, down: float, right: float) -> None:
    """Sun in the south (180 degrees): the shadow falls north, which is up in the image."""
    zenith, height, resolution = 40.0, 400.0, 20.0
    layer = Layer("cumulus", 0.1, height, 40.0, 0.0)
    sky = simulate_clouds(
        flat(), BANDS, resolution_m=resolution, sun_zenith_deg=zenith, sun_azimuth_deg=azimuth, layers=[layer],
        tau=disc(96, 6, 40.0),
    )  # fmt: skip
    rows, cols = np.nonzero(sky.classes == 3)
    distance = height * np.tan(np.radians(zenith)) / resolution
    # The cloud hides the near side of its shadow, so the centre of what is left lies a little farther out.
    direction = np.array([rows.mean() - 48, cols.mean() - 48])
    assert np.linalg.norm(direction) == pytest.approx(distance, abs=2.5)
    np.testing.assert_allclose(direction / np.linalg.norm(direction), [down, right], atol=0.08)


def test_thick_cloud_has_the_spectrum_of_cloud() -> None:
    """Bright and white in the visible, absorbing in the short-wave infrared, ice more than water."""
    images = {}
    for name, ice in (("water", 0.0), ("ice", 1.0)):
        layer = Layer("stratus", 1.0, 9000.0, 60.0, ice)
        sky = simulate_clouds(flat(), BANDS, resolution_m=20, layers=[layer], tau=np.full((96, 96), 60, np.float32))
        images[name] = sky.image[:, 48, 48]
        assert (sky.classes == 1).all()
    for spectrum in images.values():
        assert 0.7 < spectrum[0] < 1.0
        assert abs(spectrum[0] - spectrum[1]) < 0.05
        assert spectrum[5] < spectrum[4] < spectrum[1]
    assert images["ice"][4] < images["water"][4] - 0.1


def test_only_high_cloud_shows_in_the_cirrus_band() -> None:
    found = {}
    for height in (1000.0, 10000.0):
        layer = Layer("stratus", 1.0, height, 10.0, 1.0)
        sky = simulate_clouds(flat(), BANDS, resolution_m=20, layers=[layer], tau=np.full((96, 96), 10, np.float32))
        found[height] = float(sky.image[3].mean())
    assert found[1000.0] < 0.01
    assert found[10000.0] > 0.1


def test_cloud_brightens_dark_ground_and_thickness_never_darkens_it_further() -> None:
    values = []
    for tau in (0.0, 0.5, 2.0, 8.0, 30.0):
        layer = Layer("stratus", 1.0, 1000.0, 1.0, 0.0)
        sky = simulate_clouds(
            flat(0.03),
            BANDS,
            resolution_m=20,
            sun_zenith_deg=0,
            layers=[layer],
            tau=np.full((96, 96), tau, np.float32),
        )
        values.append(float(sky.image[0, 48, 48]))
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.03, abs=1e-6)


def test_shadow_is_dark_and_bluish() -> None:
    layer = Layer("cumulus", 0.1, 800.0, 40.0, 0.0)
    sky = simulate_clouds(flat(0.3), BANDS, resolution_m=20, layers=[layer], tau=disc(96, 8, 40.0))
    share = sky.image[:, sky.classes == 3].mean(axis=1) / 0.3
    assert share[2] < 0.6
    assert share[0] > share[1] > share[2] > share[5]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), zenith=st.floats(0, 80), azimuth=st.floats(0, 360))
def test_truth_follows_thickness_and_light(seed: int, zenith: float, azimuth: float) -> None:
    sky = simulate_clouds(flat(), BANDS, resolution_m=30, sun_zenith_deg=zenith, sun_azimuth_deg=azimuth, seed=seed)
    assert np.isfinite(sky.image).all()
    assert (sky.image > -1e-6).all()
    assert (sky.image < 1.6).all()
    np.testing.assert_array_equal(sky.classes == 1, sky.tau >= THICK_FROM_TAU)
    np.testing.assert_array_equal(sky.classes == 2, (sky.tau >= THIN_FROM_TAU) & (sky.tau < THICK_FROM_TAU))
    np.testing.assert_array_equal(sky.classes == 3, (sky.sunlight < SHADOW_BELOW) & (sky.tau < THIN_FROM_TAU))


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    one, same, other = (simulate_clouds(flat(), BANDS, resolution_m=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.image, same.image)
    assert not np.array_equal(one.tau, other.tau)


def test_radar_and_missing_pixels_pass_through() -> None:
    bands = (*BANDS, Band("vv", "vv", None, None, 10, "sar"))
    surface = np.concatenate([flat(), np.full((1, 96, 96), -12.0, np.float32)])
    surface[0, :4] = np.nan
    sky = simulate_clouds(surface, bands, resolution_m=20, layers=[Layer("stratus", 1, 1000, 20, 0)])
    assert (sky.image[6] == -12.0).all()
    assert np.isnan(sky.image[0, :4]).all()
    assert np.isfinite(sky.image[1]).all()


def test_parallax_moves_later_bands() -> None:
    layer = Layer("cumulus", 0.1, 100.0, 40.0, 0.0)
    still, moved = (
        simulate_clouds(flat(), BANDS, resolution_m=20, layers=[layer], tau=disc(96, 8, 40), parallax_px=pixels)
        for pixels in (0.0, 3.0)
    )
    np.testing.assert_array_equal(still.image[0], moved.image[0])
    cloud = np.nonzero(moved.image[5] > 0.4)[1].mean() - np.nonzero(still.image[5] > 0.4)[1].mean()
    assert cloud == pytest.approx(3.0, abs=0.3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="one plane per band"):
        simulate_clouds(flat()[:2], BANDS, resolution_m=20)
    with pytest.raises(InputError, match="zenith"):
        simulate_clouds(flat(), BANDS, resolution_m=20, sun_zenith_deg=89)


def test_covers_follow_what_is_asked_for() -> None:
    covers = []
    for cover in (0.1, 0.5, 0.9):
        layer = Layer("stratus", cover, 500.0, 60.0, 0.0)
        sky = simulate_clouds(flat(size=256), BANDS, resolution_m=20, layers=[layer], seed=2, soften_px=0)
        covers.append(float((sky.tau > 0).mean()))
    assert covers[0] < covers[1] < covers[2]
    assert covers[1] == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize("landscape", sorted(LANDSCAPES))
def test_surfaces_are_plausible(landscape: str) -> None:
    surface = procedural_surface(BANDS, (80, 64), 20.0, 7, landscape=landscape)
    assert surface.shape == (len(BANDS), 80, 64)
    assert surface.dtype == np.float32
    assert (surface > 0).all()
    assert (surface < 1.5).all()
    assert surface[3].max() < 0.01, "water vapour hides the ground in the cirrus band"
    assert surface[1].std() > 0.005


def test_random_layers_are_plausible() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        for layer in random_layers(rng):
            assert 0 <= layer.cover <= 1
            assert 100 < layer.height_m < 13000
            assert layer.tau > 0


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(8, 70), cols=st.integers(8, 70), exponent=st.floats(2, 4))
def test_fields_are_standardised(rows: int, cols: int, exponent: float) -> None:
    field = power_law_field((rows, cols), np.random.default_rng(1), exponent=exponent)
    assert field.shape == (rows, cols)
    assert field.mean() == pytest.approx(0, abs=1e-3)
    assert field.std() == pytest.approx(1, abs=1e-3)


def test_blur_keeps_the_mean_and_lowers_the_contrast() -> None:
    field = power_law_field((64, 64), np.random.default_rng(1), exponent=2.5)
    soft = blur(field, 2.0)
    assert soft.mean() == pytest.approx(field.mean(), abs=1e-5)
    assert soft.std() < 0.95 * field.std()


def test_the_top_of_deep_convection_is_as_dark_as_snow_in_the_infrared() -> None:
    layer = Layer("cumulus", 1.0, 10000.0, 80.0, 1.0, 1.0)
    sky = simulate_clouds(flat(), BANDS, resolution_m=20, layers=[layer], tau=np.full((96, 96), 80, np.float32))
    visible, infrared = sky.image[1].mean(), sky.image[4].mean()
    assert visible > 0.8
    assert 0.1 < infrared < 0.3
    assert (visible - infrared) / (visible + infrared) > 0.4, "a snow index would call it snow"


def test_the_side_of_a_cloud_that_faces_the_sun_is_brighter() -> None:
    y, x = np.mgrid[:96, :96].astype(np.float32) - 48
    hill = 40 * np.exp(-(x**2 + y**2) / 300)
    layer = Layer("cumulus", 0.5, 0.0, 40.0, 0.0)
    sky = simulate_clouds(flat(), BANDS, resolution_m=20, sun_azimuth_deg=180, layers=[layer], tau=hill, relief=0.5)
    south, north = sky.image[0, 58, 48], sky.image[0, 38, 48]
    assert south > north + 0.03
