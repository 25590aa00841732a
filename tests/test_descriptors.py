"""Descriptors: slots by wavelength, SEnSeI-v2 vectors, scene percentiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclouded.descriptors import (
    PERCENTILES,
    SLOTS,
    encode_wavelength,
    scene_percentiles,
    sensei_descriptor,
    sensei_descriptors,
    sensei_v1_descriptors,
    slot_index,
    slot_weights,
)
from unclouded.errors import InputError
from unclouded.scene import Band

RED = Band("B04", "red", 645.5, 684.5, 10)
NIR = Band("B08", "nir", 763.5, 904.5, 10)
NIR_NARROW = Band("B8A", "nir08", 847.5, 880.5, 20)
THERMAL = Band("B10", "lwir11", 10600, 11190, 100, "thermal")
PAN = Band("B8", "pan", 496.5, 896.5, 15)


def test_slots_are_ordered_and_do_not_overlap() -> None:
    for left, right in itertools.pairwise(SLOTS):
        assert left.max_nm <= right.min_nm
    for slot in SLOTS:
        assert slot.min_nm <= slot.centre_nm < slot.max_nm


def test_bands_find_their_slot_by_wavelength_not_by_name() -> None:
    for name, span, slot in (
        ("TM B1", (450, 520), "blue"),
        ("OLI B1", (435, 451), "coastal"),
        ("TM B5", (1550, 1750), "swir16"),
        ("MSI B8A", (847.5, 880.5), "nir"),
        ("MSI B10", (1337, 1413), "cirrus"),
    ):
        index = slot_index(Band(name, None, *span, 30))
        assert index is not None
        assert SLOTS[index].name == slot
    assert slot_index(THERMAL) is None
    assert slot_index(PAN) is None


def test_two_bands_of_one_slot_are_averaged() -> None:
    weights = slot_weights([RED, NIR, NIR_NARROW])
    assert weights.shape == (3, len(SLOTS))
    np.testing.assert_allclose(weights.sum(axis=0)[weights.any(axis=0)], 1.0)
    assert weights[1].max() == weights[2].max() == 0.5


@given(st.permutations([RED, NIR, NIR_NARROW, THERMAL]))
def test_order_of_bands_only_permutes_rows(bands: list[Band]) -> None:
    reference = [RED, NIR, NIR_NARROW, THERMAL]
    base = {band.name: row for band, row in zip(reference, slot_weights(reference), strict=True)}
    for band, row in zip(bands, slot_weights(bands), strict=True):
        np.testing.assert_array_equal(row, base[band.name])


def test_fewer_than_two_slots_are_refused() -> None:
    with pytest.raises(InputError, match="Two or more optical bands"):
        slot_weights([NIR, NIR_NARROW])


def test_wavelengths_in_nanometres_follow_the_printed_frequencies() -> None:
    values = encode_wavelength(645.5, "nm")
    assert values[0] == pytest.approx(np.sin(645.5), abs=1e-6)
    assert values[1] == pytest.approx(np.cos(645.5 * 10000 ** (-2 / 32)), abs=1e-5)
    assert values[16] == pytest.approx(np.sin(645.5e-4), abs=1e-6)


def test_corrected_ladder_tells_neighbouring_bands_apart_and_the_literal_one_does_not() -> None:
    far = np.abs(encode_wavelength(690, "log") - encode_wavelength(705, "log")).max()
    literal = np.abs(encode_wavelength(690, "log-literal") - encode_wavelength(705, "log-literal")).max()
    assert far > 0.5
    assert literal < 0.05


@pytest.mark.parametrize("wavelength", [300.0, 0.0, -5.0, float("nan")])
def test_wavelengths_have_to_be_above_300(wavelength: float) -> None:
    with pytest.raises(InputError, match="300"):
        encode_wavelength(wavelength)


def test_kinds_are_marked() -> None:
    marks = {band.name: sensei_descriptor(band)[64:68].tolist() for band in (RED, THERMAL)}
    assert marks == {"B04": [1, 0, 0, 0], "B10": [1, 0, 0, 1]}
    vv, vh, angle, dem = (
        sensei_descriptor(Band(name, name, None, None, 10, kind))
        for name, kind in (("vv", "sar"), ("vh", "sar"), ("angle", "sar"), ("dem", "dem"))
    )
    assert vv[:32].all()
    assert not vv[32:64].any()
    assert not vh[:32].any()
    assert vh[32:64].all()
    assert angle[:64].all()
    assert dem.nonzero()[0].tolist() == [66]
    assert not sensei_descriptor(None).any()


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="sonar"):
        sensei_descriptor(Band("x", None, None, None, 10, "sonar"))
    with pytest.raises(InputError, match="hh"):
        sensei_descriptor(Band("hh", None, None, None, 10, "sar"))


def test_percentiles_follow_the_descriptor() -> None:
    statistics = np.arange(10, dtype=np.float32).reshape(2, 5)
    rows = sensei_descriptors([RED, NIR], statistics)
    assert rows.shape == (2, 79)
    np.testing.assert_array_equal(rows[:, 74:], statistics)
    assert sensei_descriptors([RED, NIR], None).shape == (2, 74)


def test_percentiles_leave_missing_pixels_out() -> None:
    image = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 1, 101)
    image = np.concatenate([image, np.full((1, 1, 101), np.nan, np.float32)])
    image = np.concatenate([image, np.full((2, 1, 50), np.nan, np.float32)], axis=2)
    out = scene_percentiles(image)
    np.testing.assert_allclose(out[0], np.array(PERCENTILES) / 100, atol=1e-6)
    assert (out[1] == 0).all()


def test_sensei_v1_descriptors_are_logarithms_of_edges_and_centre():
    nir = Band("B08", "nir", 763.5, 904.5, 10.0)
    got = sensei_v1_descriptors([nir, None])
    np.testing.assert_allclose(got[0], np.log([463.5, 534.0, 604.5]) - 2.0, rtol=1e-6)
    assert (got[1] == 0).all()
    with pytest.raises(InputError, match="290 nm"):
        sensei_v1_descriptors([Band("UV", None, 290.0, 350.0, 10.0)])
