"""SS2D: directions, symmetry, gradients, cost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from unclouded.nn.ss2d import SS2D, STEP_RANGE, along, back, undecayed  # noqa: E402


@settings(max_examples=30, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 9), direction=st.integers(0, 3))
def test_back_undoes_along(h, w, direction):
    x = torch.rand(2, 3, h, w)
    assert torch.equal(back(along(x, direction), direction, (h, w)), x)


def test_the_directions_are_rows_columns_and_both_reversed():
    x = torch.tensor([[[[0, 1, 2], [3, 4, 5]]]])
    orders = [along(x, k)[0, 0].tolist() for k in range(4)]
    assert orders == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]


def test_turning_the_image_and_swapping_directions_turns_the_output():
    torch.manual_seed(0)
    block = SS2D(6, state=4).double()
    turned = SS2D(6, state=4).double()
    turned.load_state_dict(block.state_dict())
    swap = [1, 0, 3, 2]  # rows become columns
    with torch.no_grad():
        for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias"):
            getattr(turned, name).copy_(getattr(block, name)[swap])
        for name in ("A_logs", "Ds"):
            value = getattr(block, name)
            getattr(turned, name).copy_(value.unflatten(0, (4, -1))[swap].flatten(0, 1))
        turned.conv2d.weight.copy_(block.conv2d.weight.mT)
        x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
        assert torch.allclose(turned(x.mT), block(x).mT, rtol=1e-10, atol=1e-12)


def test_every_pixel_sees_every_other():
    torch.manual_seed(0)
    block = SS2D(4, state=4).double()
    x = torch.randn(1, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    for y, at in ((0, 0), (5, 4), (2, 3)):
        (seen,) = torch.autograd.grad(block(x)[0, :, y, at].sum(), x)
        assert (seen.abs().sum(1) > 0).all()


def test_gradients_reach_every_parameter():
    block = SS2D(8)
    block(torch.randn(1, 8, 5, 6)).square().sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_directions_give_the_same_one_by_one_and_together():
    block = SS2D(5, state=3).double()
    x = torch.randn(2, 10, 4, 6, dtype=torch.float64)
    assert torch.allclose(block._scan(x), block._scan_directions(x, [0, 1, 2, 3]), rtol=1e-11, atol=1e-11)


def test_start_values_follow_mamba():
    torch.manual_seed(0)
    block = SS2D(64)
    step = torch.nn.functional.softplus(block.dt_projs_bias)
    assert STEP_RANGE[0] * 0.999 <= step.min() < 2 * STEP_RANGE[0]
    assert STEP_RANGE[1] / 2 < step.max() <= STEP_RANGE[1] * 1.001
    assert torch.allclose(block.A_logs.exp(), torch.arange(1.0, 17.0).expand(512, 16))
    assert (block.Ds == 1).all()
    assert undecayed(torch.nn.Sequential(block)) == {"0.A_logs", "0.Ds"}


def test_mixed_precision_keeps_the_recurrence_in_single_precision():
    torch.manual_seed(0)
    block = SS2D(8).eval()
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        exact = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = block(x)
    assert torch.isfinite(mixed).all()
    assert (mixed.float() - exact).norm() / exact.norm() < 0.02


@pytest.mark.slow
def test_the_cost_of_a_pixel_does_not_depend_on_the_size_of_the_image():
    block = SS2D(16).eval()
    given = {side: torch.randn((256 // side) ** 2, 16, side, side) for side in (64, 256)}
    times = {side: [] for side in given}
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads waiting for each other would be part of the time on a busy machine
    try:
        with torch.inference_mode():
            for turn in range(8):
                for side, x in given.items():  # in turns, so that a busy machine slows both
                    start = time.process_time()
                    block(x)
                    if turn:
                        times[side].append(time.process_time() - start)
    finally:
        torch.set_num_threads(before)
    assert min(times[256]) == pytest.approx(min(times[64]), rel=0.15)
