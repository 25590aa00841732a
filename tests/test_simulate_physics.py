"""The simulator against physics: geometry of shadows, limits of reflectance, spectra, conservation of light."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import sensors
from unclouded.errors import InputError
from unclouded.scene import Band
from unclouded.simulate import optics, radar, terrain
from unclouded.simulate.clouds import Layer, simulate_clouds
from unclouded.simulate.surface import LANDSCAPES, procedural_surface

S2 = sensors.bands_of("sentinel2-l1c")
NIR = (Band("B8A", "nir08", 847.5, 880.5, 20),)
ROW = {band.name: row for row, band in enumerate(S2)}


def one_cloud(size: int = 121, radius: float = 5, tau: float = 60.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.where(x**2 + y**2 <= radius**2, tau, 0.0).astype(np.float32)


def middle(mask: np.ndarray, size: int = 121) -> np.ndarray:
    """Centre (down, right) of the pixels of a mask, relative to the middle of the image."""
    return np.argwhere(mask).mean(axis=0) - size // 2


def sheet(value: float, layer: Layer, tau: float, bands: tuple[Band, ...] = S2, **options: float) -> np.ndarray:
    """Spectrum of an endless sheet of cloud over even ground."""
    surface = np.full((len(bands), 8, 8), value, np.float32)
    field = np.full((8, 8), tau, np.float32)
    sky = simulate_clouds(
        surface, bands, resolution_m=10, layers=[layer], tau=field, relief=0, soften_px=0, sun_zenith_deg=0, **options
    )
    return sky.image[:, 4, 4]


@pytest.mark.parametrize("sun", [0.0, 45.0, 118.0, 180.0, 213.0, 270.0, 333.0])
@pytest.mark.parametrize("zenith", [20.0, 50.0])
def test_a_shadow_lies_where_the_sun_says_within_a_pixel(sun: float, zenith: float) -> None:
    """Height times the tangent of the sun's zenith angle, away from the sun."""
    height, pixel = 900.0, 30.0
    sky = simulate_clouds(
        np.full((1, 121, 121), 0.3, np.float32), NIR, resolution_m=pixel, sun_zenith_deg=zenith, sun_azimuth_deg=sun,
        layers=[Layer("cumulus", 0.1, height, 60, 0)], tau=one_cloud(), soften_px=0,
    )  # fmt: skip
    reach = height * np.tan(np.radians(zenith)) / pixel
    expected = [reach * np.cos(np.radians(sun)), -reach * np.sin(np.radians(sun))]
    np.testing.assert_allclose(middle(sky.sunlight < 0.5), expected, atol=1.0)
    np.testing.assert_allclose(middle(sky.tau > 1), 0, atol=0.01)


@pytest.mark.parametrize(("view_azimuth", "down", "right"), [(90.0, 0, -1), (270.0, 0, 1), (0.0, 1, 0), (180.0, -1, 0)])
def test_a_slanted_view_moves_the_cloud_but_not_its_shadow(view_azimuth: float, down: int, right: int) -> None:
    """Seen from the east, a cloud appears west of the ground below it; its shadow stays where the sun casts it."""
    height, pixel, view = 2000.0, 20.0, 12.0

    sky = simulate_clouds(
        np.full((1, 121, 121), 0.3, np.float32), NIR, resolution_m=pixel, sun_zenith_deg=10, sun_azimuth_deg=180,
        layers=[Layer("cumulus", 0.1, height, 60, 0)], tau=one_cloud(), soften_px=0,
        view_zenith_deg=view, view_azimuth_deg=view_azimuth,
    )  # fmt: skip
    seen, shaded = middle(sky.tau > 1), middle(sky.sunlight < 0.5)
    moved = height * np.tan(np.radians(view)) / pixel
    cast = height * np.tan(np.radians(10)) / pixel
    # Shadow relative to cloud: the shadow's own way north, less the apparent displacement of the cloud.
    np.testing.assert_allclose(shaded - seen, [-cast - moved * down, -moved * right], atol=1.0)


def test_high_cloud_casts_its_shadow_on_low_cloud() -> None:
    low = Layer("stratus", 1.0, 1000, 30, 0)
    high = Layer("cumulus", 0.1, 3000, 60, 0)
    ground = np.full((1, 121, 121), 0.1, np.float32)
    common = {"resolution_m": 40.0, "sun_zenith_deg": 45.0, "sun_azimuth_deg": 180.0, "relief": 0.0, "seed": 5}
    bare = simulate_clouds(ground, NIR, layers=[low], **common).image[0]
    both = simulate_clouds(ground, NIR, layers=[high, low], tau=one_cloud(), **common).image[0]
    # Heights differ by 2000 m: the shadow lies 50 pixels north of the high cloud, and darkens the low one.
    assert both[60 - 50, 60] < 0.75 * bare[60 - 50, 60]


@given(ice=st.floats(0, 1), coarse=st.floats(0, 1), wavelength=st.floats(420, 2400), tau=st.floats(0, 200))
@settings(max_examples=60, deadline=None)
def test_clouds_make_no_light(ice: float, coarse: float, wavelength: float, tau: float) -> None:
    top = optics.limit(wavelength, ice, coarse)
    reflected, through = optics.two_stream(np.float32([tau, tau + 1]), top, 1.2)
    assert (reflected + through <= 1 + 1e-5).all()
    assert reflected[0] <= reflected[1] + 1e-6  # single precision
    assert reflected[1] <= top + 1e-6
    assert through[0] >= through[1] >= 0


def test_without_absorption_all_light_is_reflected_or_transmitted() -> None:
    """The classical result for conservative scattering: R = gamma tau / (1 + gamma tau)."""
    tau = np.float32([0.1, 1, 10, 100])
    reflected, through = optics.two_stream(tau, 0.999)
    gamma = np.sqrt(3) / 2 * (1 - 0.85)
    np.testing.assert_allclose(reflected, gamma * tau / (1 + gamma * tau), atol=5e-3)
    np.testing.assert_allclose(reflected + through, 1, atol=1.2e-2)


@pytest.mark.parametrize("ground", [0.02, 0.3, 0.9])
def test_light_goes_to_and_fro_between_ground_and_cloud(ground: float) -> None:
    """Adding of layers: R + T^2 rho / (1 - rho R)."""
    spectrum = sheet(ground, Layer("stratus", 1, 1000, 1, 0), 5.0, level="boa", adjacency=0)
    limit = optics.at(optics.WATER_LIMIT, 665.0)
    reflected, through = (float(one) for one in optics.two_stream(np.float32(5.0), limit))
    sky = optics.at(optics.SKYLIGHT, 665.0)
    lit = ground * (sky + (1 - sky) * through)
    expected = reflected + through * lit / (1 - lit * reflected)
    assert spectrum[ROW["B04"]] == pytest.approx(expected, abs=1e-3)


def test_the_thickest_cloud_has_the_limit_of_its_particles() -> None:
    for ice, table in ((0.0, optics.WATER_LIMIT), (1.0, optics.ICE_LIMIT)):
        spectrum = sheet(0.1, Layer("stratus", 1, 9000, 1, ice), 1e6, level="boa", adjacency=0)
        for name in ("B02", "B04", "B8A", "B11", "B12"):
            expected = optics.at(table, S2[ROW[name]].centre_nm)
            assert spectrum[ROW[name]] == pytest.approx(expected, abs=2e-3), name


def test_no_cloud_changes_nothing() -> None:
    surface = procedural_surface(S2, (64, 64), 10, 1)
    surface[:, :3] = np.nan
    sky = simulate_clouds(surface, S2, resolution_m=10, layers=[])
    np.testing.assert_array_equal(sky.image, surface)
    sky = simulate_clouds(surface, S2, resolution_m=10, layers=[Layer("stratus", 0.0, 1000, 10, 0)])
    np.testing.assert_allclose(sky.image, surface, atol=1e-6)


def test_thin_ice_cloud_is_white_in_the_visible_and_falls_in_the_infrared() -> None:
    added = sheet(0.05, Layer("cirrus", 1, 10000, 1, 1.0), 2.0, adjacency=0) - 0.05
    visible = [added[ROW[name]] for name in ("B02", "B04", "B8A")]
    assert max(visible) - min(visible) < 0.15 * max(visible)
    assert added[ROW["B11"]] < 0.9 * min(visible)
    assert added[ROW["B12"]] < added[ROW["B11"]]
    assert added[ROW["B10"]] > 0.03


def test_the_cirrus_band_sees_only_what_is_high() -> None:
    """Real scenes show 0.00 to 0.02 over low cloud, and 0.1 to 0.2 over thick cloud of high fronts."""
    shown = {
        height: sheet(0.0015, Layer("stratus", 1, height, 1, 1.0), 30.0)[ROW["B10"]]
        for height in (1000.0, 3000.0, 6000.0, 8000.0, 10000.0)
    }
    assert sorted(shown.values()) == list(shown.values())
    assert shown[1000.0] < 0.005
    assert shown[3000.0] < 0.02
    assert 0.08 < shown[8000.0] < 0.25


def test_ozone_darkens_green_and_red_over_cloud() -> None:
    """Landsat over cloud without holes: 0.888, 0.859, 0.894, 0.932 in blue, green, red and near infrared."""
    spectrum = sheet(0.1, Layer("stratus", 1, 5000, 1, 0), 100.0, adjacency=0)
    blue, green, red, infrared = (spectrum[ROW[name]] for name in ("B02", "B03", "B04", "B8A"))
    assert green < red < infrared
    assert green / infrared == pytest.approx(0.859 / 0.932, abs=0.03)
    assert red / infrared == pytest.approx(0.894 / 0.932, abs=0.03)
    assert blue > green


def test_water_vapour_hides_low_cloud_in_the_vapour_band() -> None:
    """Sentinel-2 shows 0.2 to 0.6 of the neighbouring band over low cloud, as the vapour of the scene is."""
    surface = np.full((len(S2), 8, 8), 0.2, np.float32)
    surface[ROW["B09"]] = 0.2 * np.exp(-0.9)
    field = np.full((8, 8), 50, np.float32)
    ratio = {}
    for height in (500.0, 8000.0):
        sky = simulate_clouds(
            surface, S2, resolution_m=10, layers=[Layer("stratus", 1, height, 1, 0)], tau=field, adjacency=0
        )
        ratio[height] = sky.image[ROW["B09"], 4, 4] / sky.image[ROW["B8A"], 4, 4]
    assert 0.4 < ratio[500.0] < 0.6
    assert ratio[8000.0] > 0.95


def test_shadow_on_dark_water_cannot_be_seen() -> None:
    surface = np.full((1, 121, 121), 0.3, np.float32)
    surface[:, :, 60:] = 0.006
    sky = simulate_clouds(
        surface, NIR, resolution_m=20, layers=[Layer("cumulus", 0.3, 1500, 40, 0)], seed=2, sun_zenith_deg=45
    )
    shadow = sky.classes == 3
    assert shadow[:, :60].any()
    assert shadow[:, 60:].any()
    assert not sky.ambiguous[:, :60].any()
    assert (sky.ambiguous[:, 60:] == shadow[:, 60:]).all()


def test_shadow_leaves_the_light_of_the_air() -> None:
    """At the top of the atmosphere shadow is blue: what the air scatters stays, and the sky still lights the ground."""
    surface = np.full((len(S2), 121, 121), 0.2, np.float32)
    layer = Layer("cumulus", 0.1, 1500, 60, 0)
    sky = simulate_clouds(surface, S2, resolution_m=20, layers=[layer], tau=one_cloud(radius=14), adjacency=0)
    shade = sky.image[:, sky.sunlight < 0.25].mean(axis=1)
    assert shade[ROW["B02"]] > shade[ROW["B04"]] > shade[ROW["B8A"]] > shade[ROW["B12"]]
    assert shade[ROW["B02"]] > 0.06
    assert shade[ROW["B8A"]] < 0.08


def test_higher_clouds_have_softer_shadows() -> None:
    """The sun's disc is half a degree wide: 10 km up its half shadow is some hundred metres wide."""
    edges = []
    for height in (500.0, 10000.0):
        sky = simulate_clouds(
            np.full((1, 241, 241), 0.3, np.float32), NIR, resolution_m=10, sun_zenith_deg=0.0, soften_px=0,
            layers=[Layer("cumulus", 0.1, height, 60, 0)], tau=one_cloud(241, 40),
        )  # fmt: skip
        edges.append(int(((sky.sunlight > 0.25) & (sky.sunlight < 0.9)).sum()))
    assert edges[0] == 0
    assert edges[1] > 500


def test_light_from_clouds_is_carried_over_and_none_is_made() -> None:
    surface = np.full((len(S2), 128, 128), 0.05, np.float32)
    layer = Layer("cumulus", 0.1, 500, 40, 0)
    field = np.zeros((128, 128), np.float32)
    field[40:90, 40:90] = 40
    options = {"resolution_m": 30.0, "layers": [layer], "tau": field, "relief": 0.0, "sun_zenith_deg": 0.0}
    without, with_ = (simulate_clouds(surface, S2, adjacency=share, **options).image for share in (0.0, 1.0))
    change = with_ - without
    near, far = change[:, 64, 94], change[:, 64, 126]
    assert near[ROW["B02"]] > 0.01
    assert near[ROW["B02"]] > near[ROW["B04"]] > near[ROW["B11"]]
    assert (near > far - 1e-6).all()
    assert change[ROW["B02"], 64, 64] < 0
    np.testing.assert_allclose(change.mean(axis=(1, 2)), 0, atol=1.5e-3)


def test_bands_see_high_clouds_at_different_places() -> None:
    moved = {}
    for height in (1000.0, 8000.0):
        sky = simulate_clouds(
            np.full((len(S2), 121, 121), 0.05, np.float32), S2, resolution_m=10, parallax_ratio=0.01,
            layers=[Layer("cumulus", 0.1, height, 60, 0)], tau=one_cloud(), sun_zenith_deg=0,
        )  # fmt: skip
        first, last = (np.argwhere(sky.image[row] > 0.2).mean(axis=0) for row in (0, 12))
        moved[height] = last - first
    np.testing.assert_allclose(moved[1000.0], [1, 0], atol=0.2)
    np.testing.assert_allclose(moved[8000.0], [8, 0], atol=0.2)


def test_cloud_tops_are_cold() -> None:
    band = Band("B10", "lwir11", 10600, 11190, 100, "thermal")
    surface = np.full((1, 16, 16), 295.0, np.float32)
    for height, expected in ((2000.0, 282.0), (10000.0, 230.0)):
        sky = simulate_clouds(
            surface, [band], resolution_m=100, layers=[Layer("stratus", 1, height, 1, 0)],
            tau=np.full((16, 16), 80, np.float32),
        )  # fmt: skip
        assert sky.image[0, 8, 8] == pytest.approx(expected, abs=0.5)


def test_threads_and_strips_change_nothing() -> None:
    surface = procedural_surface(S2, (600, 300), 10, 3)
    one, four = (simulate_clouds(surface, S2, resolution_m=10, seed=9, threads=count) for count in (1, 4))
    np.testing.assert_array_equal(one.image, four.image)
    np.testing.assert_array_equal(one.classes, four.classes)


@pytest.mark.parametrize("name", sensors.names())
def test_any_sensor_of_the_catalogue(name: str) -> None:
    """Every sensor's bands can be simulated; radar and heights pass through the clouds."""
    bands = sensors.bands_of(name)
    surface = procedural_surface(bands, (48, 40), 20, 5) if any(band.kind == "optical" for band in bands) else None
    if surface is None:
        if any(band.kind == "sar" for band in bands):
            with pytest.raises(InputError, match="No band lies near"):
                procedural_surface(bands, (48, 40), 20, 5)
        return
    sky = simulate_clouds(surface, bands, resolution_m=20, layers=[Layer("stratus", 0.7, 2000, 30, 0)], seed=1)
    assert np.isfinite(sky.image).all()
    for row, band in enumerate(bands):
        if band.kind == "optical" and not 1340 < band.centre_nm < 1420:
            assert sky.image[row][sky.classes == 1].mean() > surface[row].mean(), band.name
        elif band.kind in ("sar", "dem"):
            np.testing.assert_array_equal(sky.image[row], surface[row])


def test_slopes_facing_the_sun_are_brighter_and_valleys_lie_in_shade() -> None:
    y = np.arange(200, dtype=np.float32)[:, None]
    ridge = np.broadcast_to(300 - 3 * np.abs(y - 100), (200, 50)).astype(np.float32)
    light = terrain.illumination(ridge, 10.0, 60.0, 180.0)
    # 30 % of slope and the sun 30 degrees high in the south, that is towards larger rows.
    slope = np.arctan(0.3)
    facing = np.cos(np.radians(60) - slope) / np.cos(np.radians(60))
    assert light[150, 25] == pytest.approx(facing, rel=1e-3)
    assert light[50, 25] == pytest.approx(np.cos(np.radians(60) + slope) / np.cos(np.radians(60)), rel=1e-3)
    steep = np.broadcast_to(np.where(np.abs(y - 100) < 5, 400.0, 0.0), (200, 50)).astype(np.float32)
    shade = terrain.illumination(steep, 10.0, 60.0, 180.0) == 0
    length = 400 * np.tan(np.radians(60)) / 10
    assert shade[int(95 - length + 8) : 90, 25].all()
    assert not shade[: int(95 - length - 3), 25].any()
    assert not shade[110:, 25].any()


@pytest.mark.parametrize("landscape", sorted(LANDSCAPES))
def test_radar_and_heights_fit_the_ground(landscape: str) -> None:
    extra = (Band("vv", "vv", None, None, 10, "sar"), Band("vh", "vh", None, None, 10, "sar"),
             Band("elevation", None, None, None, 10, "dem"))  # fmt: skip
    surface = procedural_surface((*S2, *extra), (128, 128), 20, 4, landscape=landscape)
    vv, vh, heights = surface[-3:]
    assert -30 < vv.mean() < 0
    assert (vv.mean() - vh.mean()) == pytest.approx(7, abs=3)
    assert heights.min() == 0
    assert (heights.max() > 50) == (landscape == "mountains") or heights.max() < 200


def test_speckle_has_the_statistics_of_its_looks() -> None:
    """The mean of gamma speckle is 1 and its variance 1 / L."""
    surface = np.full((3, 400, 400), 0.12, np.float32)
    bands = sensors.bands_of("generic-rgbn", ["green", "red", "nir"])
    rng = np.random.default_rng(0)
    one = radar.backscatter(surface, bands, rng, resolution_m=10, looks=4.0)["vv"]
    local = 10 ** (one / 10)
    pairs = local[:, 1:] / local[:, :-1]
    # The ratio of two gamma variables of L looks is F distributed with mean L / (L - 1).
    assert pairs.mean() == pytest.approx(4 / 3, rel=0.05)
    water = surface.copy()
    water[2] = 0.01
    assert radar.backscatter(water, bands, rng, resolution_m=10)["vv"].mean() < one.mean() - 3


def test_what_does_not_fit_is_refused() -> None:
    surface = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(InputError, match="view"):
        simulate_clouds(surface, NIR, resolution_m=10, view_zenith_deg=70)
    with pytest.raises(InputError, match="optical thickness"):
        simulate_clouds(surface, NIR, resolution_m=10, tau=np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match="moon"):
        procedural_surface(NIR, (8, 8), 10, 1, landscape="moon")
