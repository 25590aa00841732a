"""Thresholds with a bound on what is missed: conformal risk control over labelled scenes. Numpy only.

For a scene with cloud, the share of its cloud pixels that are not called cloud falls as the threshold on the
probability of cloud falls. The lowest threshold that the data ask for is

    t(a) = max { t : (n / (n + 1)) mean_i loss_i(t) + 1 / (n + 1) <= a }        (1)

over n scenes that the model has not seen. If a new scene is exchangeable with these, the expected share that is missed
in it is at most a. The bound is on the mean over scenes, not on each one, and it says nothing of other kinds of scenes.
n scenes cannot support a bound below 1 / (n + 1).

Source: Angelopoulos et al., Conformal Risk Control, ICLR 2024, equation 4 and theorem 1 (losses between 0 and 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..models.card import Guarantee, Loss, ModelCard

THRESHOLDS = np.round(np.arange(0.005, 1.0, 0.005), 3)
"""Thresholds on the probability of cloud that are tried."""


def losses(
    probability: NDArray[np.floating], cloud: NDArray[np.bool_], clear: NDArray[np.bool_], loss: Loss
) -> NDArray[np.float64] | None:
    """Loss of one scene at every threshold, (t,) in 0..1; None where the scene cannot judge it.

    Args:
        probability: of cloud, thin and thick together, any shape.
        cloud, clear: where the labels say cloud, and where they say that there is none; same shape.
        loss: ``missed-cloud``, the share of cloud below the threshold; ``lost-clear``, the share of the rest at or
            above it.
    """
    judged = cloud if loss == "missed-cloud" else clear
    values = np.sort(probability[judged & np.isfinite(probability)].astype(np.float64))
    if values.size == 0:
        return None
    below = np.searchsorted(values, THRESHOLDS, side="left") / values.size
    return below if loss == "missed-cloud" else 1.0 - below


def control(rows: Sequence[NDArray[np.float64]], bound: float, loss: Loss) -> float | None:
    """The threshold of equation (1), or None where so few scenes cannot support the bound.

    Args:
        rows: what :func:`losses` gave for each scene.
        bound: largest expected loss, in 0..1.
        loss: which loss it is. The threshold for lost clear is the lowest that holds, that for missed cloud the
            highest.

    >>> half = np.where(THRESHOLDS > 0.5, 1.0, 0.0)
    >>> control([half] * 40, 0.05, "missed-cloud"), control([half] * 5, 0.05, "missed-cloud")
    (0.5, None)
    """
    count = len(rows)
    if not count:
        return None
    risk = (np.sum(rows, axis=0) + 1.0) / (count + 1)
    holds = np.flatnonzero(risk <= bound)
    if not holds.size:
        return None
    return float(THRESHOLDS[holds[-1] if loss == "missed-cloud" else holds[0]])


def guarantee_for(
    card: ModelCard, max_missed_cloud: float | None, max_lost_clear: float | None
) -> Guarantee | None:
    """The guarantee that a wish stands for: the card's largest bound that keeps it. None without a wish.

    Raises:
        ModelError: the model's card has no evidence for the bound.
    """
    loss: Loss = "missed-cloud" if max_missed_cloud is not None else "lost-clear"
    wish = max_missed_cloud if max_missed_cloud is not None else max_lost_clear
    if wish is None:
        return None
    there = sorted((one for one in card.guarantees if one.loss == loss), key=lambda one: one.bound)
    usable = [one for one in there if one.bound <= wish]
    if not usable:
        known = ", ".join(f"{one.bound:g}" for one in there) or "none"
        raise ModelError(
            f"The model '{card.name}' has no evidence for {loss.replace('-', ' ')} of at most {wish:g}.",
            expected=f"Bounds that its card supports: {known}.",
            remedy="Ask for one of these, or calibrate the model on more labelled scenes: unclouded calibrate --help"
            if there
            else "Calibrate the model on labelled scenes: unclouded calibrate --help",
        )
    return usable[-1]
