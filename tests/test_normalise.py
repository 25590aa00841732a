"""Normalisation: streaming statistics against those of all values at once, and the modes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import InputError
from unclouded.normalise import MODES, BandHistogram, Normaliser

Q = [0, 1, 10, 33.3, 50, 90, 99, 100]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_percentiles_of_counts_are_exact_whatever_the_pieces(sizes, seed):
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(0, 200, (2, 3, size)) for size in sizes]
    histogram = BandHistogram(2, step=1, low=0, high=65535)
    for piece in pieces:
        histogram.update(piece)
    every = np.concatenate([piece.reshape(2, -1) for piece in pieces], axis=1)
    np.testing.assert_allclose(histogram.percentiles(Q), np.percentile(every, Q, axis=1).T)
    np.testing.assert_allclose(histogram.mean(), every.mean(axis=1))
    np.testing.assert_allclose(histogram.std(), every.std(axis=1), atol=1e-5)


def test_reflectance_is_rounded_to_the_step():
    values = np.random.default_rng(0).normal(0.2, 0.1, (3, 50, 60)).astype(np.float32)
    histogram = BandHistogram(3)
    histogram.update(values)
    expected = np.percentile(values.reshape(3, -1), Q, axis=1).T
    np.testing.assert_allclose(histogram.percentiles(Q), expected, atol=0.6e-4)


def test_missing_and_invalid_pixels_do_not_count():
    values = np.random.default_rng(0).random((2, 20, 20)).astype(np.float32)
    valid = np.random.default_rng(1).random((20, 20)) > 0.5
    clean, dirty = BandHistogram(2), BandHistogram(2)
    clean.update(values[:, valid][:, None])
    dirty.update(np.where(valid, values, np.nan))
    np.testing.assert_array_equal(clean.counts, dirty.counts)
    masked = BandHistogram(2)
    masked.update(np.where(valid, values, 0), valid)
    np.testing.assert_array_equal(clean.counts, masked.counts)


def test_merged_workers_equal_one():
    values = np.random.default_rng(0).random((1, 30, 30))
    one, other, whole = (BandHistogram(1) for _ in range(3))
    one.update(values[:, :10])
    other.update(values[:, 10:])
    whole.update(values)
    one.merge(other)
    np.testing.assert_array_equal(one.counts, whole.counts)
    np.testing.assert_allclose(one.std(), whole.std())
    with pytest.raises(InputError, match="different bins"):
        one.merge(BandHistogram(1, step=1e-3))


def test_values_beyond_the_range_count_as_its_ends():
    histogram = BandHistogram(1, step=1, low=0, high=10)
    histogram.update(np.array([[[-5, 3, 99]]]))
    np.testing.assert_array_equal(histogram.percentiles([0, 50, 100])[0], [0, 3, 10])


def test_modes_by_hand():
    image = np.array([[[0.0, 0.2, 0.4, 1.0]], [[0.5, 0.5, 0.5, 0.5]]], np.float32)
    assert np.array_equal(Normaliser("none").apply(image), image)
    np.testing.assert_allclose(Normaliser("divide-3000").apply(image)[0, 0], image[0, 0] / 0.3, rtol=1e-6)
    percentile = Normaliser("percentile", low=(0.1, 0.5), high=(0.5, 0.5)).apply(image)
    np.testing.assert_allclose(percentile[0, 0], [0, 0.25, 0.75, 1], atol=1e-6)
    assert (percentile[1] == 0).all()
    standard = Normaliser("standardise", mean=(0.4, 0.5), std=(0.2, 0.0)).apply(image)
    np.testing.assert_allclose(standard[0, 0], [-2, -1, 0, 3], atol=1e-5)
    assert (standard[1] == 0).all()


def test_the_printed_percentile_formula_is_a_constant():
    image = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    literal = Normaliser.of_scene("percentile-literal", image).apply(image)
    assert np.ptp(literal) == 0.0


@given(st.floats(0.3, 3.0), st.floats(-0.2, 0.2))
@settings(max_examples=20, deadline=None)
def test_only_scene_percentiles_remove_a_shift_of_the_scene(gain, offset):
    image = np.random.default_rng(0).random((2, 40, 40))
    shifted = gain * image + offset
    training = BandHistogram(2)
    training.update(image)
    fixed = Normaliser.of_training("percentile", training)
    own = [Normaliser.of_scene("percentile", each).apply(each) for each in (image, shifted)]
    np.testing.assert_allclose(own[0], own[1], atol=1e-5)
    if abs(gain - 1) > 0.1 or abs(offset) > 0.05:
        assert np.abs(fixed.apply(image) - fixed.apply(shifted)).max() > 0.02


@pytest.mark.parametrize("mode", MODES)
def test_missing_stays_missing_and_types_stay_small(mode):
    image = np.random.default_rng(0).random((2, 9, 9)).astype(np.float32)
    image[0, 2, 3] = np.nan
    out = Normaliser.of_scene(mode, image).apply(image)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(out), np.isnan(image))


def test_wrong_use_is_told():
    with pytest.raises(InputError, match="no normalisation 'minmax'"):
        Normaliser("minmax")
    with pytest.raises(InputError, match="without its statistics"):
        Normaliser("percentile", low=(0.1,))
    with pytest.raises(InputError, match="3 bands met statistics of 1"):
        Normaliser("standardise", mean=(0.0,), std=(1.0,)).apply(np.zeros((3, 2, 2)))
    histogram = BandHistogram(2)
    histogram.update(np.stack([np.zeros((2, 2)), np.full((2, 2), np.nan)]))
    with pytest.raises(InputError, match="Band 2 has no valid value"):
        histogram.percentiles(50)
    with pytest.raises(InputError, match="no valid value"):
        Normaliser.of_scene("percentile", np.full((1, 2, 2), np.nan))
