"""Plans: which bands are used, on which grid, and what is warned about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.classes import SEVEN
from unclouded.errors import InputError, ModelError, RadiometryWarning
from unclouded.infer.plan import Plan, coarser, fixed_bands, make_plan, used_bands
from unclouded.models.card import BandInput, ModelCard, Scaling
from unclouded.scene import Band, Radiometry, Scene
from unclouded.sensors import bands_of


def card(**changes: Any) -> ModelCard:
    return ModelCard(**{
        "name": "m", "title": "M", "version": "1", "architecture": "a", "front_end": "slots", "classes": SEVEN,
        "licence": "none", "parameters": 0, **changes,
    })  # fmt: skip


class Recorder:
    """Counts reads, and gives numbers that rise from left to right."""

    def __init__(self) -> None:
        self.grids: list[GeoBox] = []

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> np.ndarray:
        self.grids.append(geobox)
        return np.broadcast_to(np.linspace(0, 1, geobox.shape.x, dtype=np.float32), geobox.shape).copy()


def scene(bands: tuple[Band, ...], pixel_m: float = 10.0, shape: tuple[int, int] = (1000, 2000)) -> Scene:
    grid = GeoBox(shape, Affine(pixel_m, 0, 3e5, 0, -pixel_m, 5e6), "EPSG:32633")
    radiometry = {band.name: Radiometry(1e-4, 0.0, 0, "user") for band in bands}
    return Scene(
        "s", "sentinel2-l1c", "toa", bands, grid, radiometry, {band.name: Recorder() for band in bands}, "s"
    )


SENTINEL2 = bands_of("sentinel2-l1c")


def test_only_bands_that_the_model_takes_are_read() -> None:
    oli = bands_of("landsat-oli-c2-l1")
    names = [band.name for band in used_bands(oli, card())]
    assert "B8" not in names  # panchromatic
    assert "B10" not in names  # thermal
    assert names == [band.name for band in used_bands(oli[::-1], card())]
    without = used_bands(SENTINEL2, card(leave_out=("cirrus", "B01")))
    assert {"B01", "B10"}.isdisjoint(band.name for band in without)
    assert [band.name for band in used_bands(oli, card(front_end="senseiv2"))] == names


@pytest.mark.parametrize("front_end", ["slots", "senseiv2"])
def test_too_few_bands(front_end: str) -> None:
    sar = Band("vv", "vv", None, None, 10.0, "sar")
    with pytest.raises(InputError) as caught:
        used_bands([sar], card(front_end=front_end))
    assert caught.value.remedy
    with pytest.raises(InputError):
        used_bands([], card(front_end=front_end))


@pytest.mark.parametrize(
    ("pixel_m", "grid_m", "factor"), [(10, 20, 2), (20, 20, 1), (30, 20, 1), (3, 20, 7), (60, 20, 1), (12, 20, 2)]
)
def test_the_model_grid_is_a_whole_multiple_of_the_scene(pixel_m: float, grid_m: float, factor: int) -> None:
    bands = tuple(replace(band, gsd_m=pixel_m) for band in SENTINEL2)
    plan = make_plan(scene(bands, pixel_m), card(grid_m=grid_m))
    assert plan.model_grid == coarser(plan.scene.geobox, factor)
    assert plan.zoom == factor
    assert plan.output_grid == plan.scene.geobox


def test_a_finer_band_that_is_not_used_does_not_refine_the_model_grid() -> None:
    oli = bands_of("landsat-oli-c2-l1")
    plan = make_plan(scene(oli, 15.0), card())
    assert plan.model_grid.resolution.x == 30
    assert plan.zoom == 2


@pytest.mark.parametrize(("wanted", "zoom"), [(5.0, 4.0), (10.0, 2.0), (20.0, 1.0), (60.0, 1 / 3), (15.0, 4 / 3)])
def test_output_resolution(wanted: float, zoom: float) -> None:
    plan = make_plan(scene(SENTINEL2), card(), wanted)
    assert plan.zoom == pytest.approx(zoom)
    assert plan.output_grid.resolution.x == pytest.approx(wanted)
    assert plan.model_grid.resolution.x == 20


def test_percentiles_are_read_once_from_an_overview_and_only_when_wanted() -> None:
    for percentiles in (False, True):
        made = scene(SENTINEL2, shape=(3000, 9000))
        plan = make_plan(made, card(front_end="senseiv2", percentiles=percentiles))
        descriptors = plan.descriptors()
        grids = [grid for source in made.sources.values() for grid in source.grids]  # type: ignore[attr-defined]
        if not percentiles:
            assert descriptors.shape == (13, 74)
            assert grids == []
        else:
            assert descriptors.shape == (13, 79)
            assert len(grids) == 13
            assert max(grids[0].shape) <= 512
            np.testing.assert_allclose(descriptors[0, 74:], [0.01, 0.1, 0.5, 0.9, 0.99], atol=2e-3)


FIVE = tuple(
    BandInput(name=band.name, common_name=band.common_name, min_nm=band.min_nm, max_nm=band.max_nm)
    for band in (SENTINEL2[row] for row in (12, 3, 8, 7, 1))
)
"""Inputs in an order of their own: B12, B04, B8A, B08, B02."""


def fixed(**changes: Any) -> ModelCard:
    return card(front_end="bands", bands=FIVE, classes=("clear", "thick", "thin", "shadow"), **changes)


@given(st.permutations(range(13)))
def test_fixed_bands_come_in_the_order_of_the_network(order: list[int]) -> None:
    chosen = used_bands([SENTINEL2[row] for row in order], fixed())
    assert [band.name for band in chosen] == ["B12", "B04", "B8A", "B08", "B02"]


def test_fixed_bands_of_other_sensors_are_found_by_name_and_wavelength() -> None:
    oli = bands_of("landsat-oli-c2-l1")
    wanted = [one for one in FIVE if one.name != "B8A"]
    names = [band.name for band in fixed_bands(oli, wanted)]
    assert names == ["B7", "B4", "B5", "B2"]  # near infrared by its wavelength, not the panchromatic band
    plain = [replace(band, common_name=None) for band in SENTINEL2]
    assert [band.name for band in fixed_bands(plain, FIVE)] == ["B12", "B04", "B8A", "B08", "B02"]


def test_no_band_serves_twice_and_what_is_missing_is_named() -> None:
    oli = bands_of("landsat-oli-c2-l1")
    with pytest.raises(ModelError) as caught:
        make_plan(scene(oli, 30.0), fixed())
    assert "B08 (763.5-904.5 nm)" in caught.value.found
    assert "B8A" not in caught.value.found
    assert caught.value.exit_code == 5
    assert "B12, B04, B8A, B08, B02" in caught.value.expected


def test_a_network_of_fixed_bands_gets_no_descriptors_but_a_scaling() -> None:
    plan = make_plan(scene(SENTINEL2), fixed())
    assert plan.descriptors() is None
    assert plan.normaliser() is None
    plan = make_plan(scene(SENTINEL2), fixed(scaling=Scaling(mode="divide-3000")))
    np.testing.assert_allclose(plan.normaliser().apply(np.full((5, 1, 1), 0.6, np.float32)), 2.0, rtol=1e-6)
    made = scene(SENTINEL2, shape=(3000, 9000))
    plan = make_plan(made, fixed(scaling=Scaling(mode="percentile", scope="scene")))
    normaliser = plan.normaliser()
    np.testing.assert_allclose(normaliser.low, 0.01, atol=2e-3)
    np.testing.assert_allclose(normaliser.high, 0.99, atol=2e-3)
    read = {name for name, source in made.sources.items() if source.grids}  # type: ignore[attr-defined]
    assert read == {"B12", "B04", "B8A", "B08", "B02"}


def test_old_descriptors_of_sensei() -> None:
    plan = make_plan(scene(SENTINEL2), card(front_end="senseiv1"))
    descriptors = plan.descriptors()
    assert descriptors.shape == (13, 3)
    assert (np.diff(descriptors[:, 0]) >= 0).all()  # by wavelength


def test_models_that_do_not_mask_are_refused() -> None:
    removal = card(front_end="bands", task="removal", bands=FIVE, classes=())
    with pytest.raises(ModelError, match="rebuilds what clouds hide"):
        make_plan(scene(SENTINEL2), removal)


def test_classes_that_a_network_does_not_know_are_told() -> None:
    assert "does not know" not in warned(make_plan(scene(SENTINEL2), fixed()))
    binary = warned(make_plan(scene(SENTINEL2), card(classes=("clear", "cloud"))))
    assert "does not know thin cloud and cloud shadow" in binary
    assert "All cloud counts as thick" in binary
    assert "does not know thin cloud and cloud shadow" in warned(make_plan(scene(SENTINEL2), card(classes=("cloud",))))


def test_other_sensors_than_the_networks_are_told() -> None:
    assert make_plan(scene(SENTINEL2), fixed(sensors=("sentinel2-l1c",))).warnings == ()
    text = warned(make_plan(scene(SENTINEL2), fixed(sensors=("sentinel2-l2a",))))
    assert "made for sentinel2-l2a, and this is a scene of sentinel2-l1c" in text


def warned(plan: Plan) -> str:
    return " ".join(str(warning) for warning in plan.warnings)


def test_warnings() -> None:
    assert make_plan(scene(SENTINEL2), card()).warnings == ()
    assert "63 x 500 pixels" in warned(make_plan(scene(SENTINEL2, shape=(126, 1000)), card()))
    coarse = tuple(replace(band, gsd_m=250.0) for band in SENTINEL2)
    assert "250 m are coarser than the 60 m" in warned(make_plan(scene(coarse, 250.0), card()))
    plain = scene(SENTINEL2)
    plain.radiometry["B04"] = Radiometry(1 / 255, 0.0, None, "dtype-8bit", calibrated=False)
    (warning,) = make_plan(plain, card()).warnings
    assert isinstance(warning, RadiometryWarning)
    assert "B04" in str(warning)
    told = replace(plain, warnings=("The numbers are not calibrated.",))
    assert make_plan(told, card()).warnings == ()
