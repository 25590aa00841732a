"""Which dates are trusted, and that strips do not show."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.infer.agreement import LIMIT, MARGIN, agreement


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_one_date_always_has_the_full_weight(seed: int, dates: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0, 0.3, (dates, 12, 15)).astype(np.float32)
    shown = rng.random((dates, 12, 15)) < 0.7
    found = np.stack(agreement(list(levels), list(shown)))
    assert (found[~shown] == 0).all()
    assert (found.max(axis=0)[shown.any(axis=0)] == 1).all()
    alone = shown.sum(axis=0) == 1
    assert (found.sum(axis=0)[alone] == 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2), st.floats(2.5 * LIMIT, 1.0), st.sampled_from([-1, 1]))
def test_one_of_three_that_stands_apart_has_none(place: int, apart: float, sign: int) -> None:
    levels = np.full((3, 20, 20), 0.1, np.float32)
    levels[place] += np.float32(sign * apart)
    found = np.stack(agreement(list(levels), [np.ones((20, 20), bool)] * 3))
    assert (found[place] == 0).all()
    assert (np.delete(found, place, axis=0) == 1).all()


def test_rows_with_their_margin_equal_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    levels = (0.1 + rng.normal(0, 0.02, (3, 1, 30)) + rng.normal(0, 0.05, (3, 90, 30))).astype(np.float32)
    shown = rng.random((3, 90, 30)) < 0.8
    levels[0, :, 20:] = np.nan
    shown[0, :, 20:] = False
    whole = agreement(list(levels), list(shown))
    part = slice(40 - MARGIN, 45 + MARGIN)
    for one, other in zip(agreement(list(levels[:, part]), list(shown[:, part])), whole, strict=True):
        assert (one[MARGIN : MARGIN + 5] == other[40:45]).all()
