"""Scores of a mask against labels, from one table of counts. What is undefined is NaN, never 0.

Glossary
    k    classes        tp, fp, fn, tn    pixels of one class against all others
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .classes import CLASSES, NO_DATA
from .errors import InputError

_NAMES = tuple(one.name for one in CLASSES)


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class against all others.

    Attributes:
        precision: tp / (tp + fp); NaN where the class was never predicted.
        recall: tp / (tp + fn); NaN where the labels do not have the class.
        f1: 2 tp / (2 tp + fp + fn); NaN where neither has it.
        iou: tp / (tp + fp + fn); NaN where neither has it.
        accuracy: (tp + tn) / all; NaN without any pixel.
        balanced_accuracy: mean of the recalls of the class and of the rest; NaN where either is absent.
        pixels: pixels that the labels give the class.
    """

    precision: float
    recall: float
    f1: float
    iou: float
    accuracy: float
    balanced_accuracy: float
    pixels: int


@dataclass(frozen=True)
class Confusion:
    """How often each class was predicted for each class of the labels.

    Attributes:
        classes: names, in the order of rows and columns.
        counts: pixels, (truth, predicted) int64.
        unpredicted: labelled pixels without a prediction; they are in no score.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    unpredicted: int = 0

    def __add__(self, other: Self) -> Confusion:
        """Counts of two sets of pixels together.

        Raises:
            InputError: the classes differ.
        """
        if self.classes != other.classes:
            raise InputError(
                f"Counts of the classes {', '.join(self.classes)} and {', '.join(other.classes)} are added.",
                expected="Both need the same classes in the same order.",
                remedy="Count both with the same classes.",
            )
        return Confusion(self.classes, self.counts + other.counts, self.unpredicted + other.unpredicted)

    @property
    def pixels(self) -> int:
        """Pixels that were judged."""
        return int(self.counts.sum())

    @property
    def overall_accuracy(self) -> float:
        """Share of pixels whose class is right; NaN without pixels."""
        return _ratio(int(np.trace(self.counts)), self.pixels)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that labels or prediction have; NaN without any."""
        return _mean([one.iou for one in self.scores().values()])

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the recalls of the classes that the labels have; NaN without any."""
        return _mean([one.recall for one in self.scores().values()])

    def scores(self) -> dict[str, ClassScores]:
        """Scores of every class by name."""
        return {name: self._one([index]) for index, name in enumerate(self.classes)}

    def merged(self, names: Sequence[str]) -> ClassScores:
        """Scores of several classes taken as one, such as thick and thin cloud as cloud.

        Raises:
            InputError: a name is unknown.
        """
        unknown = [name for name in names if name not in self.classes]
        if unknown or not names:
            raise InputError(
                f"There is no class {', '.join(unknown) or 'named'}.",
                expected=f"Classes are {', '.join(self.classes)}.",
                remedy="Choose among these.",
            )
        return self._one([self.classes.index(name) for name in names])

    def _one(self, members: list[int]) -> ClassScores:
        inside = np.isin(np.arange(len(self.classes)), members)
        tp = int(self.counts[np.ix_(inside, inside)].sum())
        fn = int(self.counts[np.ix_(inside, ~inside)].sum())
        fp = int(self.counts[np.ix_(~inside, inside)].sum())
        tn = int(self.counts[np.ix_(~inside, ~inside)].sum())
        recall = _ratio(tp, tp + fn)
        return ClassScores(
            precision=_ratio(tp, tp + fp),
            recall=recall,
            f1=_ratio(2 * tp, 2 * tp + fp + fn),
            iou=_ratio(tp, tp + fp + fn),
            accuracy=_ratio(tp + tn, tp + tn + fp + fn),
            balanced_accuracy=0.5 * (recall + _ratio(tn, tn + fp)),
            pixels=tp + fn,
        )


def confusion(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: Sequence[str] = _NAMES,
    ignore: int = NO_DATA,
) -> Confusion:
    """Count how labels and prediction go together.

    Args:
        truth: class codes of the labels, any shape, integers 0 to k - 1 or ``ignore``.
        predicted: class codes of the prediction, the same shape.
        classes: names of the codes 0 to k - 1.
        ignore: code of pixels that are not to be judged. Labelled pixels without prediction are only counted.

    Raises:
        InputError: shapes differ, codes are not integers or are out of range.

    >>> table = confusion([0, 0, 1, 1, 255], [0, 1, 1, 1, 0], classes=("clear", "cloud"))
    >>> table.counts.tolist(), table.overall_accuracy, table.scores()["cloud"].recall
    ([[1, 1], [0, 2]], 0.75, 1.0)
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise InputError(
            f"Labels have shape {truth.shape}, the prediction {predicted.shape}.",
            expected="Both have to lie on the same grid.",
            remedy="Resample one of them first, classes by nearest neighbour.",
        )
    size = len(classes)
    for name, values in (("labels", truth), ("prediction", predicted)):
        whole = np.issubdtype(values.dtype, np.integer)
        if not whole or ((values != ignore) & ((values < 0) | (values >= size))).any():
            raise InputError(
                f"The {name} hold {'values that are no class' if whole else f'{values.dtype} values'}.",
                expected=f"Codes are integers from 0 to {size - 1}, or {ignore}.",
                remedy="Translate the codes first.",
            )
    labelled = truth != ignore
    judged = labelled & (predicted != ignore)
    pairs = truth[judged].astype(np.int64) * size + predicted[judged].astype(np.int64)
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.int64)
    return Confusion(tuple(classes), counts, int(labelled.sum() - judged.sum()))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
