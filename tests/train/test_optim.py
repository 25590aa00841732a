"""Learning rates, parameter groups, frozen parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import models
from unclouded.errors import InputError
from unclouded.train.config import OptimiserPart, SchedulePart
from unclouded.train.muon import orthogonalised
from unclouded.train.optim import Schedule, freeze, make_optimiser


def shares(part: SchedulePart, total: int, per_epoch: int = 1, peak: float = 1.0) -> list[float]:
    schedule = Schedule(part, peak)
    return [schedule.share(step, total, step // per_epoch) for step in range(total)]


def test_cosine_rises_and_falls() -> None:
    found = shares(SchedulePart(kind="cosine", warm_up=4, floor=0.01), 104)
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1.0])
    assert found[4] == 1.0
    assert found[54] == pytest.approx(0.505, abs=1e-6), "half way"
    assert (np.diff(found[4:]) < 0).all()
    assert found[-1] == pytest.approx(0.01, abs=1e-3)


def test_steps_poly_and_constant() -> None:
    assert shares(SchedulePart(), 3) == [1.0, 1.0, 1.0]
    stepped = shares(SchedulePart(kind="step", every=25, factor=0.1), 100, per_epoch=2)
    assert stepped[49] == 1.0
    assert stepped[50] == pytest.approx(0.1)
    poly = shares(SchedulePart(kind="poly", power=2.0), 10)
    np.testing.assert_allclose(poly, (1 - np.arange(10) / 10) ** 2)


def test_phases_name_rates_and_accumulation() -> None:
    phases = [{"epoch": 0, "rate": 5e-6}, {"epoch": 2, "rate": 1e-4}, {"epoch": 3, "rate": 1e-5, "accumulate": 4}]
    schedule = Schedule(SchedulePart(kind="phases", phases=phases), 1e-4)
    assert [schedule.share(0, 10, epoch) * 1e-4 for epoch in range(4)] == pytest.approx([5e-6, 5e-6, 1e-4, 1e-5])
    assert [schedule.batches(epoch) for epoch in range(5)] == [1, 1, 1, 4, 4]


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    part = SchedulePart(kind="plateau", patience=2, factor=0.2, floor=0.05)
    schedule = Schedule(part, 1.0)
    found = []
    for loss in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0, 2.0, 2.0, 2.0, 2.0):
        schedule.judged("loss", loss)
        found.append(schedule.share(0, 1, 0))
    np.testing.assert_allclose(found, [1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.05, 0.05], atol=1e-12)


def test_groups_have_their_rate_and_decay() -> None:
    net = models.create("slots-unet", widths=[4, 4])
    part = OptimiserPart(
        rate=1e-3, weight_decay=0.1, decay_vectors=False,
        groups=[{"match": "presence.*", "rate_factor": 0.1, "weight_decay": 0.5}],
    )  # fmt: skip
    optimiser = make_optimiser(net, part)
    by_id = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(by_id) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = by_id[id(parameter)]
        assert group["lr"] == pytest.approx(1e-4 if name.startswith("presence") else 1e-3)
        decay = 0.0 if parameter.ndim < 2 else 0.5 if name.startswith("presence") else 0.1
        assert group["weight_decay"] == decay, name


def test_what_a_network_excludes_is_not_decayed() -> None:
    net = models.create("cloudmamba", bands=2, width=4, cap=8, levels=2, preset="tiny", mamba_from_level=1)
    optimiser = make_optimiser(net, OptimiserPart(weight_decay=0.01))
    excluded = net.no_weight_decay()
    assert excluded
    named = dict(net.named_parameters())
    for group in optimiser.param_groups:
        names = {name for name, parameter in named.items() if any(parameter is one for one in group["params"])}
        assert (group["weight_decay"] == 0.0) == (names <= excluded)


@pytest.mark.parametrize("found", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_kinds(found: type) -> None:
    kind = found.__name__.lower()
    optimiser = make_optimiser(torch.nn.Linear(2, 2), OptimiserPart(kind=kind, weight_decay=0.5, momentum=0.3))
    assert type(optimiser) is found
    if kind == "sgd":
        assert optimiser.param_groups[0]["momentum"] == 0.3


def test_muon_is_that_of_torch_where_torch_has_it() -> None:
    drawn = torch.Generator().manual_seed(3)
    ours = torch.nn.Parameter(torch.randn(12, 20, generator=drawn))
    theirs = torch.nn.Parameter(ours.detach().clone())
    started = ours.detach().clone()
    both = [
        make_optimiser(_Holding(ours), OptimiserPart(kind="muon", rate=0.01, weight_decay=0.1, momentum=0.95)),
        torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(4):
        ours.grad = torch.randn(12, 20, generator=drawn)
        theirs.grad = ours.grad.clone()
        for one in both:
            one.step()
    torch.testing.assert_close(ours, theirs)
    assert float((ours.detach() - started).abs().max()) > 0.01


def test_muon_takes_vectors_as_adamw_does_and_convolutions_as_matrices() -> None:
    drawn = torch.Generator().manual_seed(4)
    net = torch.nn.Conv2d(3, 5, 3)
    kernel = net.weight.detach().clone()
    bias = torch.nn.Parameter(net.bias.detach().clone())
    muon = make_optimiser(net, OptimiserPart(kind="muon", rate=0.01, weight_decay=0.1))
    adamw = torch.optim.AdamW([bias], lr=0.01, weight_decay=0.1)
    for step in range(3):
        net.weight.grad = torch.randn(net.weight.shape, generator=drawn)
        net.bias.grad = torch.randn(5, generator=drawn)
        bias.grad = net.bias.grad.clone()
        muon.step()
        adamw.step()
        if step == 0:
            moved = (net.weight.detach() - kernel * (1 - 0.01 * 0.1)).flatten(1) / (0.2 * 0.01 * 27**0.5)
            values = torch.linalg.svdvals(moved)
            assert values.min() > 0.6
            assert values.max() < 1.25
    torch.testing.assert_close(net.bias, bias)


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    power=st.integers(-12, 12),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=30)
def test_orthogonalising_forgets_the_scale_and_keeps_the_directions(shape, power, seed) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    found = orthogonalised(2.0**power * matrix)
    assert found.shape == matrix.shape
    assert torch.equal(found, orthogonalised(matrix))
    assert float((found * matrix).sum()) > 0


class _Holding(torch.nn.Module):
    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def test_freezing_by_pattern() -> None:
    net = models.create("slots-unet", widths=[4, 4])
    held = freeze(net, ["unet.stem.*", "presence.*"])
    assert held == sum(p.numel() for n, p in net.named_parameters() if n.startswith(("unet.stem.", "presence.")))
    assert sum(len(group["params"]) for group in make_optimiser(net, OptimiserPart()).param_groups) == sum(
        p.requires_grad for p in net.parameters()
    )
    with pytest.raises(InputError, match="fits the pattern 'encoder"):
        freeze(net, ["encoder.*"])
    with pytest.raises(InputError, match="frozen"):
        freeze(net, ["*"])
    with pytest.raises(InputError, match="fits the pattern 'head"):
        make_optimiser(models.create("slots-unet", widths=[4, 4]), OptimiserPart(groups=[{"match": "head"}]))
