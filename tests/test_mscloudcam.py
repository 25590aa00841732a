"""MSCloudCAM: its switches, its blocks, and batches that it cannot learn from."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from unclouded.errors import InputError, ModelError
from unclouded.losses import deep_supervision
from unclouded.models.mscloudcam import AUXILIARY_WEIGHTS, MSCloudCAM
from unclouded.nn.attention import ChannelGate, CombinedGate, CrossAttention
from unclouded.nn.context import ASPP, PSP, pool_to
from unclouded.nn.drop_path import DropPath
from unclouded.nn.swin import Swin

SMALL = {"bands": 4, "embed": 24, "depths": (1, 2, 1, 1), "heads": (1, 1, 2, 2)}


def network(**options):
    torch.manual_seed(0)
    return MSCloudCAM(**{**SMALL, **options}).eval()


@pytest.mark.parametrize(("deep", "shallow"), list(itertools.product(("aspp", "psp"), repeat=2)))
@pytest.mark.parametrize("fusion", ["cam", "bypass", "concat"])
@pytest.mark.parametrize("form", ["released", "printed"])
def test_every_ablation_runs(deep, shallow, fusion, form):
    net = network(deep=deep, shallow=shallow, fusion=fusion, form=form)
    with torch.no_grad():
        out = net.outputs(torch.rand(1, 4, 64, 96))
    assert {name: tuple(value.shape) for name, value in out.items()} == dict.fromkeys(out, (1, 4, 64, 96))


def test_bypass_is_concat_with_an_idle_block():
    idle, none = network(fusion="bypass"), network(fusion="concat")
    missing, strange = none.load_state_dict(idle.state_dict(), strict=False)
    assert not missing
    assert all(key.startswith("cam.") for key in strange)
    live = network(fusion="cam")
    live.load_state_dict(idle.state_dict())
    image = torch.rand(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(idle(image), none(image))
        assert (live(image) - idle(image)).abs().max() > 1e-5
    with torch.device("meta"):
        whole = MSCloudCAM(fusion="concat")
    assert sum(p.numel() for p in whole.parameters()) == 47_446_157 - 1_772_544


def test_loss_of_the_paper_reaches_both_auxiliary_heads():
    net = network().train()
    image, target = torch.rand(2, 4, 64, 64), torch.randint(0, 4, (2, 64, 64))
    target[:, :8] = 255
    out = net.outputs(image)
    loss = deep_supervision(lambda x, y: F.cross_entropy(x, y, ignore_index=255), out, target, AUXILIARY_WEIGHTS)
    parts = [F.cross_entropy(out[name], target, ignore_index=255) for name in ("logits", "aux1", "aux2")]
    torch.testing.assert_close(loss, parts[0] + 0.4 * parts[1] + 0.4 * parts[2])
    loss.backward()
    assert net.aux1.weight.grad.abs().sum() > 0
    assert net.aux2.weight.grad.abs().sum() > 0


def test_wrong_use_is_told():
    with pytest.raises(ModelError, match="cam, bypass, concat"):
        MSCloudCAM(fusion="sum")
    with pytest.raises(InputError, match="batch of one"):
        network().train()(torch.rand(1, 4, 64, 64))


@pytest.mark.parametrize("sides", [(6, 6), (7, 13), (17, 12)])
@pytest.mark.parametrize("grid", [1, 2, 3, 6])
def test_pooling_equals_adaptive_pooling(sides, grid):
    x = torch.rand(2, 3, *sides, dtype=torch.float64)
    torch.testing.assert_close(pool_to(x, grid), F.adaptive_avg_pool2d(x, grid))


@pytest.mark.parametrize("printed", [False, True])
def test_context_keeps_the_map_and_sees_far(printed):
    torch.manual_seed(0)
    for block in (ASPP(6, 8, printed=printed), PSP(6, 8, printed=printed)):
        block.eval()
        x = torch.rand(1, 6, 30, 40)
        moved = x.clone()
        moved[..., :1, :1] += 5.0
        with torch.no_grad():
            a, b = block(x), block(moved)
        assert a.shape == (1, 8, 30, 40)
        assert (a - b)[..., -1, -1].abs().max() > 1e-5  # the far corner


def test_cross_attention_over_equal_places_is_their_mean():
    torch.manual_seed(0)
    block = CrossAttention(8, 4, heads=2)
    torch.nn.init.zeros_(block.query.weight)
    torch.nn.init.zeros_(block.query.bias)
    x, context = torch.rand(1, 8, 3, 5), torch.rand(1, 4, 3, 5)
    expected = x + block.out(block.value(context).mean(dim=(2, 3), keepdim=True)).expand_as(x)
    torch.testing.assert_close(block(x, context), expected)


def test_gates_stay_between_nothing_and_doubling():
    z = torch.rand(2, 16, 9, 9)
    out = CombinedGate(16)(z)
    assert ((out >= z) & (out <= 2 * z)).all()
    assert [ChannelGate(c).conv.kernel_size[0] for c in (8, 64, 256, 512, 2048)] == [3, 3, 5, 5, 7]


def test_swin_pads_odd_grids_and_keeps_windows_apart():
    torch.manual_seed(0)
    net = Swin(2, width=8, depths=(1,), heads=(1,)).eval()
    image = torch.rand(1, 2, 61, 75)
    changed = image.clone()
    changed[..., :28, :28] = 0.0  # the first window of 7 x 7 patches
    with torch.no_grad():
        a, b = net(image)[0], net(changed)[0]
    assert a.shape == (1, 8, 16, 19)
    difference = (a - b).abs().amax(dim=1)[0]
    assert difference[:7, :7].min() > 0
    assert difference[7:].max() == 0
    assert difference[:, 7:].max() == 0


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(20_000, 2)
    out = DropPath(0.3)(x)
    assert set(out.unique().tolist()) <= {0.0, torch.tensor(1 / 0.7).item()}
    assert (out[:, 0] == out[:, 1]).all()
    assert abs(out.mean().item() - 1.0) < 0.02
