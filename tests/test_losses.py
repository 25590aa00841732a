"""Losses: identities that hold for any prediction, and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unclouded import losses
from unclouded.errors import InputError

seeds = st.integers(0, 1000)
CLASSES = 7


def prediction(seed, n=2, k=CLASSES, side=6):
    return 3.0 * torch.randn(n, k, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(seed, n=2, k=CLASSES, side=6):
    return torch.randint(0, k, (n, side, side), generator=torch.Generator().manual_seed(seed))


def random_sets(seed, n=2, k=CLASSES, side=6):
    return torch.randint(0, 1 << k, (n, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_one_possible_class_is_ordinary_cross_entropy_and_mse(seed):
    logits, target = prediction(seed), labels(seed)
    bits = (1 << target).to(torch.uint8)
    torch.testing.assert_close(losses.set_cross_entropy(logits, bits), F.cross_entropy(logits, target))
    onehot = F.one_hot(target, CLASSES).permute(0, 3, 1, 2).double()
    torch.testing.assert_close(losses.set_mse(logits, onehot), F.mse_loss(logits.softmax(1), onehot))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_all_classes_possible_costs_nothing(seed):
    everything = torch.full((2, 6, 6), (1 << CLASSES) - 1)
    for loss in (losses.set_cross_entropy, losses.set_mse):
        assert abs(loss(prediction(seed), everything).item()) < 1e-12


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_probability_may_move_within_the_possible_set(seed):
    target = torch.full((1, 1, 1), 0b0010011)
    p = torch.rand(CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    p = p / p.sum()
    moved = p.clone()
    moved[0], moved[1], moved[4] = p[4], p[0] * 0.3, p[1] + p[0] * 0.7
    for loss in (losses.set_cross_entropy, losses.set_mse):
        a, b = (loss(q.log().reshape(1, -1, 1, 1), target) for q in (p, moved))
        torch.testing.assert_close(a, b)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_bits_and_multi_hot_are_the_same_target(seed):
    bits = random_sets(seed)
    hot = losses.as_sets(bits, CLASSES)
    places = 2 ** torch.arange(CLASSES)
    assert torch.equal((hot * places[:, None, None]).sum(1), bits.long())
    logits = prediction(seed)
    torch.testing.assert_close(losses.set_cross_entropy(logits, bits), losses.set_cross_entropy(logits, hot))


@pytest.mark.parametrize("loss", [losses.set_cross_entropy, losses.set_mse])
def test_empty_sets_are_ignored_with_clean_gradients(loss):
    logits, bits = prediction(3).requires_grad_(), random_sets(3)
    bits[:, :3] = 0
    value = loss(logits, bits)
    value.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, :, :3] == 0).all()
    torch.testing.assert_close(value, loss(logits[:, :, 3:], bits[:, 3:]))
    assert loss(logits, torch.zeros_like(bits)).item() == 0.0


def test_weights_weigh():
    logits, bits = prediction(4), random_sets(4)
    weight = torch.zeros(2, 6, 6)
    weight[0, 2, 3], weight[1, 1, 1] = 1.0, 3.0
    each = losses.set_cross_entropy(logits, bits, reduction="none")
    expected = (each[0, 2, 3] + 3.0 * each[1, 1, 1]) / 4.0
    torch.testing.assert_close(losses.set_cross_entropy(logits, bits, weight=weight), expected)


def test_base_two_and_epsilon():
    logits, bits = prediction(5), random_sets(5)
    natural = losses.set_cross_entropy(logits, bits)
    torch.testing.assert_close(losses.set_cross_entropy(logits, bits, base=2.0), natural / math.log(2.0))
    assert losses.set_cross_entropy(logits, bits, eps=2.0**-23) < natural


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_coarse_loss_is_cross_entropy_between_groups(seed):
    groups = ((0, 1, 2), (3, 4))
    logits, target = prediction(seed), labels(seed)
    p = logits.softmax(1)
    coarse = torch.stack([p[:, :3].sum(1), p[:, 3:5].sum(1), p[:, 5], p[:, 6]], dim=1)
    group = torch.tensor([0, 0, 0, 1, 1, 2, 3])[target]
    expected = F.nll_loss(coarse.log(), group)
    got = losses.coarse_set_cross_entropy(logits, (1 << target), groups)
    torch.testing.assert_close(got, expected)


def test_wrong_targets_are_told():
    with pytest.raises(InputError, match="bit mask 200"):
        losses.as_sets(torch.full((1, 2, 2), 200), 7)
    with pytest.raises(InputError, match="multi-hot"):
        losses.as_sets(torch.zeros(1, 3, 2, 2), 7)


def test_dice_of_a_perfect_and_a_wrong_map():
    target = labels(1, k=3)
    sure = 50.0 * F.one_hot(target, 3).permute(0, 3, 1, 2).double()
    assert losses.dice(sure, target).item() == pytest.approx(0.0, abs=1e-9)
    wrong = 50.0 * F.one_hot((target + 1) % 3, 3).permute(0, 3, 1, 2).double()
    assert losses.dice(wrong, target).item() == pytest.approx(1.0, abs=1e-9)


def test_dice_counts_by_hand_and_absent_classes_stay_in_the_mean():
    logits = torch.log(torch.tensor([[0.7, 0.2], [0.2, 0.5], [0.1, 0.3]], dtype=torch.float64)).reshape(1, 3, 1, 2)
    target = torch.tensor([[[0, 1]]])
    expected = ((1 - 2 * 0.7 / 1.9) + (1 - 2 * 0.5 / 1.7) + 0.0) / 3
    assert losses.dice(logits, target).item() == pytest.approx(expected, rel=1e-9)
    ignored = losses.dice(logits, torch.tensor([[[0, 255]]]))
    assert ignored.item() == pytest.approx((1 - 2 * 0.7 / 1.7) / 3, rel=1e-9)


def test_binary_dice_by_hand():
    p = torch.tensor([[[0.8, 0.4]], [[0.1, 0.9]]], dtype=torch.float64)
    y = torch.tensor([[[1, 0]], [[0, 0]]])
    expected = 0.5 * ((1 - 2.6 / 3.2) + (1 - 1 / 2.0))
    assert losses.binary_dice(p, y).item() == pytest.approx(expected, rel=1e-9)
    valid = torch.tensor([[[True, False]], [[True, False]]])
    expected = 0.5 * ((1 - 2.6 / 2.8) + (1 - 1 / 1.1))
    assert losses.binary_dice(p, y, valid=valid).item() == pytest.approx(expected, rel=1e-9)


def test_bce_dice_leaves_invalid_pixels_out():
    logits = prediction(2, k=1)[:, 0].requires_grad_()
    y = labels(2, k=2)
    valid = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.4
    loss = losses.bce_dice(logits, y, valid=valid)
    loss.backward()
    assert (logits.grad[~valid] == 0).all()
    assert (logits.grad[valid] != 0).all()
    bce = F.binary_cross_entropy_with_logits(logits[valid], y[valid].double())
    dice = losses.binary_dice(logits.sigmoid(), y, valid=valid)
    torch.testing.assert_close(loss, bce + dice)


def test_deep_supervision_weighs_and_resizes():
    target = labels(1)
    outputs = {"logits": prediction(1), "aux": prediction(2, side=3)}
    resized = F.interpolate(outputs["aux"], (6, 6), mode="bilinear", align_corners=False)
    got = losses.deep_supervision(F.cross_entropy, outputs, target, {"logits": 1.0, "aux": 0.4})
    expected = F.cross_entropy(outputs["logits"], target) + 0.4 * F.cross_entropy(resized, target)
    torch.testing.assert_close(got.double(), expected)
    got = losses.deep_supervision(F.cross_entropy, outputs, target, {"aux": 2.0}, resize="target")
    torch.testing.assert_close(got.double(), 2.0 * F.cross_entropy(outputs["aux"], target[:, 1::2, 1::2]))
    with pytest.raises(InputError, match="needs 'aux2'"):
        losses.deep_supervision(F.cross_entropy, outputs, target, {"aux2": 1.0})


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_ssim_is_one_for_equal_images_symmetric_and_below_one_otherwise(seed):
    rng = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(1, 3, 16, 17, generator=rng, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(losses.ssim(x, x), torch.ones(1, 3, dtype=torch.float64))
    torch.testing.assert_close(losses.ssim(x, y), losses.ssim(y, x))
    assert (losses.ssim(x, y) < 0.9).all()


def test_ssim_needs_room_for_its_window():
    small = torch.rand(1, 1, 8, 20)
    with pytest.raises(InputError, match="11 x 11"):
        losses.ssim(small, small)
    assert losses.ssim(small, small, padding="reflect").item() == pytest.approx(1.0)


def test_l1_ssim_adds_up():
    rng = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 3, 16, 16, generator=rng) for _ in range(2))
    expected = (x - y).abs().mean() + 1.0 - losses.ssim(x, y).mean()
    torch.testing.assert_close(losses.l1_ssim(x, y), expected)
    np.testing.assert_allclose(losses.l1_ssim(x, y, ssim_weight=0.0), (x - y).abs().mean())


def test_group_and_member_make_the_class() -> None:
    """The chain rule: -log p(class) = -log p(group) - log p(class | group)."""
    groups = ((0, 1, 2), (3, 4), (5, 6))
    logits = torch.randn(2, 7, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    label = torch.randint(0, 7, (2, 5, 6), generator=torch.Generator().manual_seed(3))
    group = torch.tensor([0, 0, 0, 1, 1, 2, 2])[label]
    probability = F.one_hot(group, 3).movedim(3, 1).double()
    found = losses.group_cross_entropy(logits, probability, groups)
    found = found + losses.member_cross_entropy(logits, 1 << label, probability, groups)
    torch.testing.assert_close(found, F.cross_entropy(logits, label, reduction="none"))


def test_members_of_groups_that_are_impossible_cost_nothing() -> None:
    logits = torch.randn(1, 7, 2, 2, requires_grad=True)
    even = torch.ones(1, 2, 2, 2)
    none = losses.member_cross_entropy(logits, torch.zeros(1, 2, 2, dtype=torch.long), even, ((0, 1), (3, 4)))
    assert (none == 0).all()
    none.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_certain_groups_cost_what_coarse_sets_cost() -> None:
    groups = ((0, 1, 2), (3, 4), (5,))
    logits = torch.randn(2, 7, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    label = torch.randint(0, 3, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    probability = F.one_hot(label, 3).movedim(3, 1).double()
    sets = torch.zeros(2, 7, 5, 6, dtype=torch.bool)
    for number, group in enumerate(groups):
        sets[:, group[0]] |= label == number  # one member stands for its group
    expected = losses.coarse_set_cross_entropy(logits, sets, groups)
    found = losses.group_cross_entropy(logits, probability, groups)
    assert found.shape == label.shape
    torch.testing.assert_close(found.mean(), expected)
    assert (losses.group_cross_entropy(logits, 0 * probability, groups) == 0).all()
