"""Losses over sets of classes against the released SEnSeI-v2, value by value and with gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unclouded import losses

CASES = ["a", "b", "onehot", "allones"]
EPS = 2.0**-23
"""Added by the reference inside the logarithm, and to the number of possible classes of the MSE's target."""

WITHIN = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.fixture(scope="module")
def reference(vectors):
    return vectors("ambiguous_losses")


def inputs(reference, case, dtype=torch.float64):
    p = torch.from_numpy(reference.arrays[f"{case}:probabilities"]).to(dtype)
    return p.log().requires_grad_(), torch.from_numpy(reference.arrays[f"{case}:targets"])


def close(reference, name, got, case):
    if case == "allones":  # nothing but rounding: 0 by definition
        np.testing.assert_allclose(got.detach(), reference.arrays[name], atol=1e-6)
    else:
        reference.check(name, got, rel_l2=WITHIN[got.dtype], largest=2 * WITHIN[got.dtype])


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_cross_entropy(reference, case, dtype):
    logits, target = inputs(reference, case, dtype)
    options = {"base": 2.0, "eps": EPS}
    each = losses.set_cross_entropy(logits, target, reduction="none", **options)
    close(reference, f"{case}:cross_entropy_log2_per_pixel", each, case)
    close(reference, f"{case}:cross_entropy_log2", losses.set_cross_entropy(logits, target, **options), case)


@pytest.mark.parametrize("case", CASES)
def test_natural_logarithm_differs_by_a_factor(reference, case):
    logits, target = inputs(reference, case)
    got = losses.set_cross_entropy(logits, target, reduction="none").detach() / math.log(2.0)
    stored = reference.arrays[f"{case}:cross_entropy_log2_per_pixel"]
    likely = stored < 12  # below, the reference's epsilon shows
    np.testing.assert_allclose(got[likely], stored[likely], atol=1e-3)


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_mse(reference, case, dtype):
    logits, target = inputs(reference, case, dtype)
    close(reference, f"{case}:mse_per_pixel", losses.set_mse(logits, target, eps=EPS, reduction="none"), case)
    close(reference, f"{case}:mse", losses.set_mse(logits, target, eps=EPS), case)
    exact = losses.set_mse(logits, target).item()
    np.testing.assert_allclose(exact, reference.arrays[f"{case}:mse"], atol=1e-6)


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["cross_entropy_log2", "mse"])
def test_gradients(reference, case, name, dtype):
    logits, target = inputs(reference, case, dtype)
    if name == "mse":
        loss = losses.set_mse(logits, target, eps=EPS)
    else:
        loss = losses.set_cross_entropy(logits, target, base=2.0, eps=EPS)
    loss.backward()
    p = reference.arrays[f"{case}:probabilities"]
    to_p = reference.arrays[f"{case}:{name}_gradient"]
    # The reference's gradient is that to free probabilities; the softmax turns it into one to the logits.
    expected = p * (to_p - (to_p * p).sum(axis=1, keepdims=True))
    if case == "allones":  # nothing but rounding: 0 by definition
        np.testing.assert_allclose(logits.grad, expected, atol=1e-6)
    else:
        error = np.linalg.norm(logits.grad.double().numpy() - expected)
        assert error <= WITHIN[dtype] * np.linalg.norm(expected)


def test_pixels_without_a_possible_class_are_ignored_where_the_reference_fails(reference):
    facts = reference.meta["pixels_without_possible_class"]
    assert facts["mse_is_nan"]
    logits = torch.randn(1, 7, 2, 2, dtype=torch.float64)
    target = torch.zeros(1, 7, 2, 2, dtype=torch.bool)
    assert losses.set_mse(logits, target).item() == 0.0
    assert losses.set_cross_entropy(logits, target).item() == 0.0
