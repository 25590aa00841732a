"""Scores from counts: hand-computed values, identities, and NaN where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unclouded.errors import InputError
from unclouded.metrics import Confusion, confusion

CODES = st.sampled_from([0, 1, 2, 3, 255])
MASKS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=CODES)


def test_by_hand() -> None:
    truth = [0] * 50 + [1] * 30 + [3] * 20
    predicted = [0] * 45 + [1] * 5 + [1] * 24 + [2] * 6 + [3] * 10 + [0] * 10
    table = confusion(truth, predicted)
    assert table.overall_accuracy == pytest.approx(0.79)
    thick = table.scores()["thick-cloud"]
    assert (thick.precision, thick.recall, thick.pixels) == (pytest.approx(24 / 29), pytest.approx(0.8), 30)
    assert thick.iou == pytest.approx(24 / 35)
    assert thick.f1 == pytest.approx(48 / 59)
    assert thick.accuracy == pytest.approx((24 + 65) / 100)
    assert thick.balanced_accuracy == pytest.approx((0.8 + 65 / 70) / 2)
    thin = table.scores()["thin-cloud"]
    assert math.isnan(thin.recall)
    assert thin.precision == 0
    assert thin.iou == 0
    assert math.isnan(thin.balanced_accuracy)
    cloud = table.merged(["thick-cloud", "thin-cloud"])
    assert cloud.recall == 1
    assert cloud.precision == pytest.approx(30 / 35)
    assert cloud.accuracy == pytest.approx(0.95)
    assert table.balanced_accuracy == pytest.approx((0.9 + 0.8 + 0.5) / 3)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_scores_are_those_of_scikit_learn(data: st.DataObject) -> None:
    theirs = pytest.importorskip("sklearn.metrics")
    truth = data.draw(hnp.arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 3)))
    predicted = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 3)))
    table = confusion(truth, predicted)
    np.testing.assert_array_equal(table.counts, theirs.confusion_matrix(truth, predicted, labels=range(4)))
    assert table.overall_accuracy == pytest.approx(theirs.accuracy_score(truth, predicted))
    judged = [(scores, [code]) for code, scores in enumerate(table.scores().values())]
    judged.append((table.merged(["thick-cloud", "thin-cloud"]), [1, 2]))
    for scores, codes in judged:
        y, p = np.isin(truth, codes), np.isin(predicted, codes)
        assert scores.accuracy == pytest.approx(theirs.accuracy_score(y, p))
        assert scores.pixels == y.sum()
        undefined = {
            "precision": not p.any(),
            "recall": not y.any(),
            "f1": not (y | p).any(),
            "jaccard": not (y | p).any(),
        }
        for kind, ours in (
            ("precision", scores.precision), ("recall", scores.recall), ("f1", scores.f1), ("jaccard", scores.iou),
        ):  # fmt: skip
            if undefined[kind]:
                assert math.isnan(ours), kind
            else:
                assert ours == pytest.approx(getattr(theirs, f"{kind}_score")(y, p, zero_division=0)), kind
        if 0 < y.sum() < y.size:
            assert scores.balanced_accuracy == pytest.approx(theirs.balanced_accuracy_score(y, p))
        else:
            assert math.isnan(scores.balanced_accuracy)


def test_nothing_is_not_zero() -> None:
    table = confusion([255], [0])
    assert table.pixels == 0
    assert math.isnan(table.overall_accuracy)
    assert math.isnan(table.mean_iou)
    assert math.isnan(table.balanced_accuracy)
    assert math.isnan(table.scores()["clear"].accuracy)


def test_missing_predictions_are_counted() -> None:
    table = confusion([0, 1, 255, 255], [255, 1, 255, 0])
    assert (table.pixels, table.unpredicted) == (1, 1)


@settings(deadline=None)
@given(MASKS)
def test_labels_are_perfect_against_themselves(mask: np.ndarray) -> None:
    table = confusion(mask, mask)
    for code, scores in enumerate(table.scores().values()):
        if (mask == code).any():
            assert scores.iou == scores.f1 == scores.precision == scores.recall == 1
        else:
            assert math.isnan(scores.iou)


@settings(deadline=None)
@given(st.data())
def test_counts_add_up_over_parts(data: st.DataObject) -> None:
    truth = data.draw(MASKS)
    predicted = data.draw(hnp.arrays(np.uint8, truth.shape, elements=CODES))
    whole = confusion(truth, predicted)
    parts = sum(
        (confusion(a, b) for a, b in zip(truth, predicted, strict=True)),
        start=Confusion(whole.classes, np.zeros((4, 4), np.int64)),
    )
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.unpredicted == parts.unpredicted
    assert whole.pixels == int(((truth != 255) & (predicted != 255)).sum())
    for scores in whole.scores().values():
        if not math.isnan(scores.iou) and scores.iou > 0:
            assert scores.f1 == pytest.approx(2 * scores.iou / (1 + scores.iou))
            assert scores.f1 == pytest.approx(2 / (1 / scores.precision + 1 / scores.recall))


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([0, 1], [0]), ([0.0], [0.0]), ([4], [0]), ([0], [-1])],
)
def test_what_cannot_be_counted(truth: list, predicted: list) -> None:
    with pytest.raises(InputError) as caught:
        confusion(truth, predicted)
    assert caught.value.expected
    assert caught.value.remedy


def test_counts_of_other_classes_do_not_mix() -> None:
    with pytest.raises(InputError):
        _ = confusion([0], [0]) + confusion([0], [0], classes=("clear", "cloud"))
    with pytest.raises(InputError):
        confusion([0], [0]).merged(["fog"])
