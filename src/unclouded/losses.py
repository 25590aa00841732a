"""Training losses: over sets of possible classes, Dice, and for reconstruction.

Shapes
    n  batch    k  classes    h, w  rows, columns

A target for k classes is the set of classes that a pixel may belong to: either one bit per class in an integer map
(n, h, w), as :mod:`unclouded.data.labels` makes them, or multi-hot (n, k, h, w). A pixel whose set is empty is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError


def as_sets(target: Tensor, classes: int) -> Tensor:
    """A target as booleans (n, k, h, w).

    Args:
        target: bit masks (n, h, w), or multi-hot (n, k, h, w).
        classes: number of classes k.

    Raises:
        InputError: the target has neither form, or names classes that do not exist.

    >>> as_sets(torch.tensor([[[5]]]), 3).flatten().tolist()
    [True, False, True]
    """
    if target.ndim == 3 and not target.is_floating_point() and target.dtype != torch.bool:
        if int(target.max()) >> classes:
            raise InputError(
                f"A target holds the bit mask {int(target.max())}.",
                expected=f"With {classes} classes masks are below {1 << classes}.",
                remedy="Use a network with as many classes as the labels have.",
            )
        places = torch.arange(classes, device=target.device, dtype=target.dtype)
        return (target[:, None] >> places[:, None, None]) & 1 == 1
    if target.ndim == 4 and target.shape[1] == classes:
        return target != 0
    raise InputError(
        f"A target of shape {tuple(target.shape)} and type {target.dtype} came with {classes} classes.",
        expected="Targets are bit masks (n, h, w) of an integer type, or multi-hot (n, k, h, w).",
        remedy="Convert labels with unclouded.data.labels.to_sets.",
    )


def set_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    eps: float = 0.0,
    base: float = math.e,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of a set: -log of the probability that the class is one of those possible.

    One possible class gives the ordinary cross-entropy, all classes give 0.

    Args:
        logits: (n, k, h, w).
        target: sets of possible classes, see the head of this module.
        weight: (n, h, w) of every pixel; None weighs all alike.
        eps: added to the probability inside the logarithm; 0 takes the logarithm in the log domain, without rounding.
        base: of the logarithm. The released SEnSeI-v2 has base 2 and eps 2**-23.
        reduction: ``mean`` over the pixels with a possible class (0 where there is none), or ``none`` for the map
            (n, h, w) with 0 at ignored pixels.

    Source:
        SEnSeI-v2, section on ambiguous labels.

    >>> even = torch.zeros(1, 4, 1, 1)
    >>> round(set_cross_entropy(even, torch.tensor([[[0b0011]]]), base=2).item(), 6)
    1.0
    """
    possible = as_sets(target, logits.shape[1])
    log_p = F.log_softmax(logits, dim=1)
    if eps:
        loss = -torch.log((log_p.exp() * possible).sum(dim=1) + eps)
    else:
        known = possible.any(dim=1)
        # An empty set would give infinity, whose gradient is not a number even at weight 0.
        inside = log_p.masked_fill(~(possible | ~known[:, None]), -math.inf)
        loss = -torch.logsumexp(inside, dim=1)
    return _reduce(loss / math.log(base), possible.any(dim=1), weight, reduction)


def set_mse(
    logits: Tensor, target: Tensor, *, weight: Tensor | None = None, eps: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Mean squared error of a set: possible classes share their probability evenly before they are compared.

    One possible class gives the mean squared error between one-hot target and probabilities, all classes give 0.

    Args:
        logits: (n, k, h, w).
        target: sets of possible classes, see the head of this module.
        weight: (n, h, w) of every pixel; None weighs all alike.
        eps: added to the number of possible classes where the target is shared among them. The released SEnSeI-v2 has
            2**-23.
        reduction: as in :func:`set_cross_entropy`.

    Source:
        SEnSeI-v2, section on ambiguous labels. The released code gives NaN where no class is possible; here such
        pixels are ignored.
    """
    possible = as_sets(target, logits.shape[1])
    p = logits.softmax(dim=1)
    y = possible.to(p.dtype)
    count = y.sum(dim=1, keepdim=True).clamp(min=1.0)
    shared = (1.0 - y) * p + y * (y * p).sum(dim=1, keepdim=True) / count
    loss = ((y / (count + eps) - shared) ** 2).mean(dim=1)
    return _reduce(loss, possible.any(dim=1), weight, reduction)


def coarsen(target: Tensor, groups: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Sets that ask the coarse question only: where one class of a group is possible, all of its group are.

    Cross-entropy over these sets is the cross-entropy between groups, the probability of a group being the sum of its
    members'.

    Args:
        target: sets of possible classes.
        groups: disjoint groups of class indices; classes in none of them stay by themselves.
        classes: number of classes k.

    Returns:
        Multi-hot booleans, (n, k, h, w).
    """
    out = as_sets(target, classes).clone()
    for group in groups:
        members = list(group)
        out[:, members] = out[:, members].any(dim=1, keepdim=True)
    return out


def coarse_set_cross_entropy(
    logits: Tensor, target: Tensor, groups: Sequence[Sequence[int]], *, weight: Tensor | None = None
) -> Tensor:
    """:func:`set_cross_entropy` between groups of classes, see :func:`coarsen`."""
    return set_cross_entropy(logits, coarsen(target, groups, logits.shape[1]), weight=weight)


def group_cross_entropy(logits: Tensor, probability: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Cross-entropy between given probabilities of groups of classes and those of the network, pixel by pixel.

    Args:
        logits: (n, k, h, w).
        probability: of the groups, (n, g, h, w); where all are 0 the loss is 0.
        groups: g disjoint groups of class indices; classes in none of them take their share of the probability.

    Returns:
        (n, h, w).

    >>> even, sure = torch.zeros(1, 4, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    >>> round(group_cross_entropy(even, sure, [(0, 1, 2), (3,)]).item(), 4)  # -ln(1/4)
    1.3863
    """
    log_p = F.log_softmax(logits, dim=1)
    of_groups = torch.stack([log_p[:, list(group)].logsumexp(dim=1) for group in groups], dim=1)
    return -(probability * of_groups).sum(dim=1)


def member_cross_entropy(
    logits: Tensor, target: Tensor, probability: Tensor, groups: Sequence[Sequence[int]]
) -> Tensor:
    """Set cross-entropy inside groups of classes: which member it is, given the group.

    Together with :func:`group_cross_entropy` this is the cross-entropy of classes that are known as far as their
    group by one source and inside the group by another. It does not move probability between groups.

    Args:
        logits: (n, k, h, w).
        target: sets of possible classes. A group none of whose members is possible costs nothing.
        probability: of the groups, (n, g, h, w): how much the question inside each counts.
        groups: g disjoint groups of class indices.

    Returns:
        (n, h, w).

    >>> even, third = torch.zeros(1, 4, 1, 1), torch.tensor([[[0b0100]]])
    >>> sure = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    >>> round(member_cross_entropy(even, third, sure, [(0, 1), (2, 3)]).item(), 4)  # -ln(1/2)
    0.6931
    """
    possible = as_sets(target, logits.shape[1])
    total = torch.zeros_like(logits[:, 0])
    for row, group in enumerate(groups):
        members, inside = logits[:, list(group)], possible[:, list(group)]
        asked = inside.any(dim=1)
        # An empty set would give infinity, whose gradient is not a number even at weight 0.
        chosen = members.masked_fill(~(inside | ~asked[:, None]), -math.inf).logsumexp(dim=1)
        total = total + probability[:, row] * (members.logsumexp(dim=1) - chosen)
    return total


def _reduce(loss: Tensor, known: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    loss = torch.where(known, loss, torch.zeros_like(loss))
    share = known.to(loss.dtype) if weight is None else known * weight.to(loss.dtype)
    if reduction == "none":
        return loss if weight is None else loss * weight
    if reduction != "mean":
        raise InputError(
            f"A loss was asked for the reduction '{reduction}'.",
            expected="Reductions are 'mean' and 'none'.",
            remedy="Choose one of these.",
        )
    total = share.sum()
    return (loss * share).sum() / torch.where(total > 0, total, torch.ones_like(total))


def dice(
    logits: Tensor, target: Tensor, *, eps: float = 1e-7, smooth: float = 0.0, valid: Tensor | None = None
) -> Tensor:
    """Multi-class Dice loss: mean over classes of 1 - Dice, each over all pixels of the batch.

    Classes that are absent from the batch contribute 0 but stay in the mean.

    Args:
        logits: (n, k, h, w).
        target: class indices (n, h, w), or one-hot (n, k, h, w).
        eps: lower bound of the denominator.
        smooth: added to numerator and denominator.
        valid: (n, h, w) bool; other pixels are left out.

    Source:
        The multi-class Dice loss of segmentation-models-pytorch, which the percentile-normalisation poster uses.
    """
    p = logits.softmax(dim=1)
    if target.ndim == 3:
        inside = (target >= 0) & (target < logits.shape[1])
        valid = inside if valid is None else valid & inside
        target = F.one_hot(torch.where(inside, target, torch.zeros_like(target)).long(), logits.shape[1])
        target = target.permute(0, 3, 1, 2)
    y = target.to(p.dtype)
    if valid is not None:
        p, y = p * valid[:, None], y * valid[:, None]
    both = (p * y).sum(dim=(0, 2, 3))
    either = (p + y).sum(dim=(0, 2, 3))
    score = (2.0 * both + smooth) / (either + smooth).clamp(min=eps)
    present = y.sum(dim=(0, 2, 3)) > 0
    return ((1.0 - score) * present).mean()


def binary_dice(probability: Tensor, target: Tensor, *, eps: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """Dice loss of one class, per image over its valid pixels, then the mean over the batch.

    Args:
        probability: (n, 1, h, w) or (n, h, w), in [0, 1].
        target: the same shape, 0 or 1.
        eps: added to numerator and denominator.
        valid: the same shape, bool.

    Source:
        CloudMamba, eq. (24).
    """
    y = target.to(probability.dtype)
    if valid is not None:
        probability, y = probability * valid, y * valid
    both = (probability * y).flatten(1).sum(dim=1)
    either = (probability + y).flatten(1).sum(dim=1)
    return (1.0 - (2.0 * both + eps) / (either + eps)).mean()


def bce_dice(
    logits: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    bce_weight: float = 1.0,
    dice_weight: float = 1.0,
    eps: float = 1.0,
) -> Tensor:
    """Binary cross-entropy plus Dice on the logits of one class.

    Args:
        logits: (n, 1, h, w) or (n, h, w).
        target: the same shape, 0 or 1.
        valid: the same shape, bool; other pixels are left out of both terms.
        bce_weight, dice_weight: of the two terms.
        eps: of the Dice term.

    Source:
        CloudMamba, section on the loss; the Dice term is eq. (24).
    """
    y = target.to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    if valid is None:
        bce = each.mean()
    else:
        bce = (each * valid).sum() / valid.sum().clamp(min=1)
    return bce_weight * bce + dice_weight * binary_dice(logits.sigmoid(), target, eps=eps, valid=valid)


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: Mapping[str, Tensor],
    target: Tensor,
    weights: Mapping[str, float],
    *,
    resize: str = "logits",
) -> Tensor:
    """Weighted sum of one loss over several outputs of a network.

    Args:
        loss: takes (logits, target).
        outputs: what a network's ``outputs`` returned.
        target: at full size, (n, h, w) or (n, k, h, w).
        weights: weight of every output that takes part, e.g. ``{"logits": 1, "aux1": 0.4}``.
        resize: where sizes differ, bring the ``logits`` to the target's size (bilinear), or the ``target`` to the
            logits' size (nearest neighbour).

    Raises:
        InputError: the network did not return one of the outputs.
    """
    total = target.new_zeros((), dtype=torch.float32)
    for name, weight in weights.items():
        if name not in outputs:
            raise InputError(
                f"The network returned {', '.join(outputs)}.",
                expected=f"The loss needs '{name}' too.",
                remedy="Correct the names in the loss's weights.",
            )
        logits, wanted = outputs[name], target
        if logits.shape[-2:] != target.shape[-2:]:
            if resize == "logits":
                logits = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
            else:
                wanted = shrink(target, logits.shape[-2:])
        total = total + weight * loss(logits, wanted)
    return total


def shrink(target: Tensor, size: Sequence[int]) -> Tensor:
    """A label map at another size by nearest neighbour, whatever its type; (..., h, w) to (..., *size).

    >>> shrink(torch.arange(16).reshape(1, 4, 4), (2, 2)).tolist()
    [[[5, 7], [13, 15]]]
    """
    rows, cols = (
        ((torch.arange(new, device=target.device) + 0.5) * old / new).long()
        for new, old in zip(size, target.shape[-2:], strict=True)
    )
    return target[..., rows[:, None], cols]


def ssim(
    x: Tensor,
    y: Tensor,
    *,
    window: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
    padding: str = "valid",
) -> Tensor:
    """Structural similarity of every image and channel, (n, c).

    Args:
        x, y: (n, c, h, w).
        window: side of the Gaussian window in pixels, odd.
        sigma: of the Gaussian, in pixels.
        data_range: largest minus smallest possible value.
        padding: ``valid`` uses windows that lie inside the image, ``zero`` and ``reflect`` extend it by half a window.

    Source:
        Wang et al., IEEE Transactions on Image Processing, 2004, with its constants 0.01 and 0.03; biased moments.
    """
    if min(x.shape[-2:]) < window and padding == "valid":
        raise InputError(
            f"SSIM was asked for an image of {x.shape[-2]} x {x.shape[-1]} pixels.",
            expected=f"It is at least {window} x {window} pixels large.",
            remedy="Compare larger images, or pass padding='reflect'.",
        )
    kernel = gaussian(window, sigma).to(x)
    maps = torch.cat([x, y, x * x, y * y, x * y])  # 5n, c, h, w
    stacked = maps.flatten(0, 1)[:, None]
    half = window // 2
    if padding == "reflect":
        stacked = F.pad(stacked, (half,) * 4, mode="reflect")
    margin = half if padding == "zero" else 0
    stacked = F.conv2d(stacked, kernel[None, None, :, None], padding=(margin, 0))
    stacked = F.conv2d(stacked, kernel[None, None, None, :], padding=(0, margin))
    mx, my, mxx, myy, mxy = stacked.reshape(5, *x.shape[:2], *stacked.shape[-2:])
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2.0 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2.0 * (mxy - mx * my) + c2) / (mxx - mx * mx + myy - my * my + c2)
    return (luminance * structure).mean(dim=(2, 3))


def gaussian(window: int, sigma: float) -> Tensor:
    """A centred Gaussian of sum 1, (window,) float64."""
    place = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    values = torch.exp(-(place**2) / (2.0 * sigma**2))
    return values / values.sum()


def l1_ssim(prediction: Tensor, target: Tensor, *, ssim_weight: float = 1.0, data_range: float = 1.0) -> Tensor:
    """Mean absolute error plus 1 - SSIM.

    Args:
        prediction, target: (n, c, h, w).
        ssim_weight: of the second term; 0 leaves the mean absolute error.
        data_range: of the values.

    Source:
        MMCANet, eqs. (13) and (14).
    """
    loss = F.l1_loss(prediction, target)
    if ssim_weight:
        loss = loss + ssim_weight * (1.0 - ssim(prediction, target, data_range=data_range).mean())
    return loss


def carl(prediction: Tensor, target: Tensor, cloudy: Tensor, cloud: Tensor, *, weight: float = 1.0) -> Tensor:
    """Cloud-adaptive regularised loss: near the clear image under cloud, near the input elsewhere, and both on average.

    mean(m |p - t| + (1 - m) |p - i|) + weight * mean(|p - t|)

    Args:
        prediction, target, cloudy: p, t and i, (n, c, h, w).
        cloud: m, (n, 1, h, w), 1 where cloud or shadow hides the ground, else 0.
        weight: of the second term, the ordinary mean absolute error.

    Source:
        Meraner et al., ISPRS Journal of Photogrammetry and Remote Sensing 166, 2020: L_CARL, with its lambda of 1.

    >>> p, t, i = (torch.full((1, 1, 1, 2), value) for value in (0.5, 0.25, 0.0))
    >>> carl(p, t, i, torch.tensor([[[[1.0, 0.0]]]])).item()
    0.625
    """
    to_target = (prediction - target).abs()
    adaptive = cloud * to_target + (1.0 - cloud) * (prediction - cloudy).abs()
    return adaptive.mean() + weight * to_target.mean()
