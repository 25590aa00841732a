"""Label sets: codes to sets of possible classes."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.classes import CLASSES, FOUR_FROM_SEVEN, SEVEN
from unclouded.data import labels as lab
from unclouded.errors import InputError


def test_sets_are_disjoint_and_cover_the_seven_classes() -> None:
    parts = (lab.CLEAR, lab.THIN, lab.THICK, lab.SHADOW, lab.MISSING)
    assert sum(parts) == 2 ** len(SEVEN) - 1
    assert lab.THIN | lab.THICK == lab.CLOUD
    assert lab.CLEAR | lab.SHADOW == lab.NOT_CLOUD


def test_output_classes_and_sets_agree() -> None:
    for output, members in zip(CLASSES, FOUR_FROM_SEVEN, strict=True):
        assert lab.FOUR[output.value] == lab.bits(*(SEVEN[index] for index in members))


def test_codes_become_sets() -> None:
    codes = np.uint8([[0, 64], [128, 255]])
    table = {0: lab.IGNORED, 64: lab.SHADOW, 128: lab.CLEAR, 255: lab.THICK}
    assert lab.to_sets(codes, table).tolist() == [[0, lab.SHADOW], [lab.CLEAR, lab.THICK]]


def test_unknown_codes_are_refused_by_value() -> None:
    with pytest.raises(InputError, match=r"\[7\]"):
        lab.to_sets(np.uint8([[1, 7]]), {1: lab.THIN})
