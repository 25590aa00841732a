"""Counts to reflectance: numbers from the agencies' documents, and what must not happen on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import radiometry as rad
from unclouded.errors import InputError, RadiometryError, RadiometryWarning
from unclouded.readers import open_scene


def test_landsat_collection_2_level_2_check_value() -> None:
    # USGS, "How do I use a scale factor with Landsat Level-2 science products": 18639 -> 0.313
    out = rad.to_reflectance(np.uint16([18639, 0]), 2.75e-5, -0.2, nodata=0)
    assert out[0] == pytest.approx(0.3125725, abs=1e-6)
    assert np.isnan(out[1])


def test_landsat_surface_temperature() -> None:
    assert rad.to_reflectance(np.uint16([44177]), 0.00341802, 149.0)[0] == pytest.approx(299.998, abs=1e-3)


def test_sentinel2_with_and_without_offset() -> None:
    dn = np.uint16([0, 1, 1000, 2000, 11000, 65535])
    scale, offset = rad.from_quantification(-1000, 10000)
    out = rad.to_reflectance(dn, scale, offset, nodata=0)
    assert np.isnan(out[0])
    # Below zero stays below zero (no unsigned underflow), above one stays above one, saturation stays a value.
    assert out[1:] == pytest.approx([-0.0999, 0.0, 0.1, 1.0, 6.4535], abs=1e-6)
    scale, offset = rad.from_quantification(0, 10000)
    assert rad.to_reflectance(dn, scale, offset, nodata=0)[1:] == pytest.approx([1e-4, 0.1, 0.2, 1.1, 6.5535], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    st.floats(1e-5, 1e-2),
    st.floats(-0.5, 0.5),
    st.integers(0, 255),
)
def test_conversion_is_linear_and_masks_first(dtype: str, scale: float, offset: float, nodata: int) -> None:
    dn = np.arange(256).astype(dtype).reshape(16, 16)
    before = dn.copy()
    out = rad.to_reflectance(dn, scale, offset, nodata=nodata)
    assert out.dtype == np.float32
    assert out.shape == dn.shape
    assert np.array_equal(np.isnan(out), dn == nodata)
    expected = np.arange(256, dtype=np.float64).reshape(16, 16) * scale + offset
    assert out[dn != nodata] == pytest.approx(expected[dn != nodata], abs=1e-5)
    assert np.array_equal(dn, before)


@pytest.mark.parametrize("nodata", [None, float("nan"), -9999.0, 0.5, 70000.0])
def test_nodata_that_the_type_cannot_hold_marks_nothing(nodata: float | None) -> None:
    assert not np.isnan(rad.to_reflectance(np.uint16([0, 1, 65535]), 1e-4, 0.0, nodata=nodata)).any()


def test_nan_and_infinities_are_always_missing() -> None:
    out = rad.to_reflectance(np.float32([np.nan, np.inf, -np.inf, 0.5, -9999]), 1.0, 0.0, nodata=-9999)
    assert np.isnan(out).tolist() == [True, True, True, False, True]


def test_sun_term() -> None:
    # OLI factors of the MTL at 30 degrees: twice the values of an overhead sun.
    scale, offset = rad.with_sun(2e-5, -0.1, 30.0)
    assert rad.to_reflectance(np.uint16([10000]), scale, offset)[0] == pytest.approx((2e-5 * 10000 - 0.1) / 0.5)
    with pytest.raises(RadiometryError, match="sun above the horizon"):
        rad.with_sun(2e-5, -0.1, -3.0)


def test_radiance_to_reflectance_of_tm() -> None:
    # Chander et al. 2009: TM band 1, ESUN 1983 (2003 on: 1958); worked by hand for L = 50, d = 1, elevation 90 degrees.
    scale, offset = rad.from_radiance(1.0, 0.0, 1983.0, 1.0, 90.0)
    assert 50 * scale + offset == pytest.approx(np.pi * 50 / 1983.0)


def test_brightness_temperature() -> None:
    # Landsat 8 band 10, DN 30856: 305.6 K.
    radiance = np.float32([3.342e-4 * 30856 + 0.1, 0.0, -1.0])
    out = rad.brightness_temperature(radiance, 774.8853, 1321.0789)
    assert out[0] == pytest.approx(305.6, abs=0.05)
    assert np.isnan(out[1:]).all()


@pytest.mark.parametrize(
    ("scale", "offset"), [(0, 0), (-1e-4, 0), (float("nan"), 0), (1e-4, -1000), (1e-4, float("inf"))]
)
def test_factors_that_cannot_be_meant(scale: float, offset: float) -> None:
    with pytest.raises(RadiometryError) as caught:
        rad.to_reflectance(np.uint16([1]), scale, offset)
    assert caught.value.expected
    assert caught.value.remedy
    assert caught.value.exit_code == 4


def test_quantification_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="quantification"):
        rad.from_quantification(0, 0)


def test_unknown_scale_names_the_options_that_settle_it() -> None:
    text = str(rad.unknown_scale("image.tif", "uint16"))
    assert "--scale" in text
    assert "--offset" in text
    assert "--sensor" in text


def test_a_wrong_offset_is_noticed_in_a_real_scene(shared_data: Path) -> None:
    product = next((shared_data / "safe_s2_l2a_60m").glob("*.SAFE"))
    assert open_scene(product).warnings == ()
    with pytest.warns(RadiometryWarning, match="forgotten"):
        scene = open_scene(product, scale=1e-4, offset=0.0)
    assert "forgotten" in scene.warnings[0]
    with pytest.warns(RadiometryWarning, match="applied twice"):
        open_scene(product, scale=1e-4, offset=-0.2)


@pytest.mark.slow
def test_the_stated_rates_of_the_check(shared_data: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "radiometry_check.py"
    found = tmp_path / "found.json"
    subprocess.run([sys.executable, script, "--data", shared_data, "--json", found], check=True, capture_output=True)
    figures = json.loads(found.read_text())["figures"]
    assert figures["256 pixels and more"] == {"images": 127, "as it is": 0, "forgotten": 108, "twice": 121}
    assert figures["smaller"] == {"images": 102, "as it is": 0, "forgotten": 93, "twice": 102}


def test_suspicion_needs_more_than_dark_blue_or_bright_sand() -> None:
    rng = np.random.default_rng(0)
    land = {name: rng.gamma(2.0, 0.05, 4000).astype(np.float32) for name in ("blue", "red", "nir", "swir22")}
    assert rad.suspicion(land) is None
    assert "forgotten" in str(rad.suspicion({name: values + 0.1 for name, values in land.items()}))
    assert "twice" in str(rad.suspicion({name: values - 0.1 for name, values in land.items()}))
    assert rad.suspicion({name: values + 0.4 for name, values in land.items()}) is None
    assert rad.suspicion({"blue": land["blue"] + 0.1}) is None
    cases = (("blue", 0.04, False), ("blue", 0.06, True), ("red", 0.01, False), ("red", 0.03, True))
    for name, share, noticed in cases:
        some = land[name].copy()
        some[: int(share * some.size)] = -0.05
        assert (rad.suspicion({**land, name: some}) is not None) == noticed, (name, share)
    assert rad.suspicion({}) is None
