"""Figures of masks from tables of counts, by class and by question, with bootstrap intervals over scenes. No torch.

Glossary
    k    classes        s    scenes        d    draws of the bootstrap
    table    pixels by truth (rows) and prediction (columns)

What is undefined is NaN and takes part in no mean. Names of figures are those of the training log where both have them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Tables = Mapping[str, NDArray[np.int64]]
"""Counts by name: ``classes`` (k, k), and a (2, 2) for each question, both with any leading axes."""

CLASS_KINDS = ("IoU", "F1", "precision", "recall", "BA", "accuracy")
"""Figures of one class against all others. ``accuracy`` is (tp + tn) / all, ``BA`` the mean of both recalls."""

DRAWS, FEWEST_SCENES = 1000, 4


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval, NaN where there are too few scenes for one."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def text(self, scale: float = 1.0, digits: int = 3) -> str:
        """For a table.

        >>> Figure(0.5, 0.4, 0.625).text(100, 1)
        '50.0 (40.0-62.5)'
        """
        if math.isnan(self.value):
            return "-"
        shown = f"{scale * self.value:.{digits}f}"
        if math.isnan(self.low):
            return shown
        return f"{shown} ({scale * self.low:.{digits}f}-{scale * self.high:.{digits}f})"


def figures_of(tables: Tables, names: Sequence[str], *, absent_is_zero: bool = False) -> dict[str, Values]:
    """Every figure that follows from counts.

    Args:
        tables: ``classes`` (..., k, k), and (..., 2, 2) for each question such as ``cloud``.
        names: of the k classes.
        absent_is_zero: IoU and F1 of a class that neither labels nor prediction have are 0 and take part in the means,
            as in MSCloudCAM's code.

    Returns:
        (...) by name: ``IoU thin``, ``cloud recall``, ``mean IoU``, ``accuracy`` (share of right pixels), ``BA`` (mean
        recall) and so on.

    >>> found = figures_of({"classes": np.array([[3, 1], [0, 4]])}, ("clear", "cloud"))
    >>> float(found["accuracy"]), float(found["IoU cloud"]), float(found["recall clear"])
    (0.875, 0.8, 0.75)
    """
    out: dict[str, Values] = {}
    table = np.asarray(tables["classes"], np.float64)
    each = [_one(table, index) for index in range(len(names))]
    for kind in CLASS_KINDS:
        for name, one in zip(names, each, strict=True):
            value = one[kind]
            if absent_is_zero and kind in ("IoU", "F1"):
                value = np.nan_to_num(value)
            out[f"{kind} {name}"] = value
        out[f"mean {kind}"] = _mean([out[f"{kind} {name}"] for name in names])
    out["BA"] = out["mean recall"]
    out["accuracy"] = _ratio(np.trace(table, axis1=-2, axis2=-1), table.sum(axis=(-2, -1)))
    for question, counts in tables.items():
        if question != "classes":
            one = _one(np.asarray(counts, np.float64), 1)
            out |= {f"{question} {kind}": one[kind] for kind in CLASS_KINDS}
    return out


def bootstrap(
    stacks: Tables, figures: Callable[[Tables], Mapping[str, Values]], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Figure]:
    """Figures of all scenes together, with the interval that drawing scenes with replacement gives.

    Args:
        stacks: counts or sums by scene, (s, ...).
        figures: from counts with any leading axes to figures with the same.
        draws: number of draws d.
        seed: of the draws.
    """
    whole = figures({name: stack.sum(axis=0) for name, stack in stacks.items()})
    scenes = len(next(iter(stacks.values())))
    if scenes < FEWEST_SCENES:
        return {name: Figure(float(value)) for name, value in whole.items()}
    times = np.random.default_rng(seed).multinomial(scenes, np.full(scenes, 1.0 / scenes), size=draws)  # (d, s)
    drawn = figures({name: np.tensordot(times, stack, axes=1) for name, stack in stacks.items()})
    out = {}
    for name, value in whole.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a figure may be undefined in every draw
            low, high = np.nanpercentile(drawn[name], (2.5, 97.5))
        known = not math.isnan(float(value))
        out[name] = Figure(float(value), *((float(low), float(high)) if known else ()))
    return out


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, ending with a line break.

    >>> print(markdown(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [list(header), ["---"] * len(header), *rows]
    out = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    out[1] = "|" + "---|" * len(header)
    return "\n".join(out) + "\n"


def _one(table: Values, index: int) -> dict[str, Values]:
    tp = table[..., index, index]
    fn = table[..., index, :].sum(axis=-1) - tp
    fp = table[..., :, index].sum(axis=-1) - tp
    tn = table.sum(axis=(-2, -1)) - tp - fn - fp
    recall = _ratio(tp, tp + fn)
    return {
        "IoU": _ratio(tp, tp + fp + fn),
        "F1": _ratio(2 * tp, 2 * tp + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "BA": 0.5 * (recall + _ratio(tn, tn + fp)),
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
    }


def _ratio(part: Values, whole: Values) -> Values:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: Sequence[Values]) -> Values:
    stack = np.stack([np.asarray(value) for value in values])
    known = np.isfinite(stack)
    return _ratio(np.where(known, stack, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))
