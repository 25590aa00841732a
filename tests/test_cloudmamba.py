"""CloudMamba: structure, uncertainty and fusion, loss, ablations, export."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from unclouded import models  # noqa: E402
from unclouded.errors import InputError, ModelError  # noqa: E402
from unclouded.models import cloudmamba as cm  # noqa: E402


def build(**options):
    torch.manual_seed(0)
    return models.create("cloudmamba", **({"preset": "tiny"} | options))


def image(n=1, bands=4, h=64, w=64, seed=1):
    return torch.rand(n, bands, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", cm.PRESETS)
def test_every_preset_is_built_and_runs(preset):
    net = build(preset=preset, bands=3).eval()
    with torch.no_grad():
        assert net(image(bands=3, h=32, w=32)).shape == (1, 1, 32, 32)


def test_widths_double_up_to_the_cap():
    with torch.device("meta"):
        net = models.create("cloudmamba")
    assert [down.in_channels for down in net.down] == [32, 64, 128, 256, 256]
    assert [down.out_channels for down in net.down] == [64, 128, 256, 256, 256]
    # Two C features go into a scan, and its inner width is twice that.
    assert [block.mamba.scan.ss2d.conv2d.in_channels for block in net.encoder] == [128, 256, 512, 1024, 1024]


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (45, 70), (1, 33)])
def test_results_have_the_size_of_the_image(classes, size):
    net = build(classes=classes).eval()
    h, w = size
    with torch.no_grad():
        out = net.outputs(image(2, h=h, w=w))
        assert torch.equal(net(image(2, h=h, w=w)), out["logits"])
    for name in ("logits", "coarse", "refined"):
        assert out[name].shape == (2, classes, h, w)
    assert out["uncertainty"].shape == (2, 1, h, w)
    for level in range(2, 6):
        cell = 2 ** (level - 1)
        assert out[f"level{level}"].shape == (2, classes, -(-h // cell), -(-w // cell))


@pytest.mark.parametrize("options", [{"mamba": name} for name in cm.MAMBAS] + [{"stages": 1}, {"classes": 3}])
def test_the_loss_reaches_every_parameter(options):
    net = build(mamba_from_level=1, **options)
    target = (image(2, 1)[:, 0] > 0.5).long()
    cm.cloudmamba_loss(net.outputs(image(2)), target).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_ablations_have_the_parts_they_name():
    scans = {}
    for mode in cm.MAMBAS:
        net = build(mamba=mode, mamba_from_level=1, width=8)
        scans[mode] = [module.out_proj.out_features for module in net.modules() if isinstance(module, cm.SS2D)]
    assert scans == {
        "ds": [16, 32, 64, 128, 128],
        "ds-sep": [8, 8, 16, 16, 32, 32, 64, 64, 64, 64],
        "single": [8, 16, 32, 64, 64],
        "none": [],
    }
    assert [block.mamba is None for block in build(mamba_from_level=3).encoder] == [True, True, False, False, False]
    dilated = build(dilations=(2, 4, 8)).encoder[2].mamba.dilated
    assert [conv.dilation for conv in dilated] == [(2, 2), (4, 4), (8, 8)]
    assert not hasattr(build(stages=1), "refiner")


def test_a_dilated_branch_of_zeros_leaves_the_input():
    block = cm.DSMamba(4, "ds", (1, 2, 4), 1.0, 4)
    torch.nn.init.zeros_(block.project.weight)
    torch.nn.init.zeros_(block.project.bias)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_uncertainty_is_the_printed_form_and_agrees_between_one_map_and_two_classes():
    logit = torch.linspace(-8, 8, 101).view(1, 1, 1, -1)
    p = torch.sigmoid(logit)
    expected = 1 - 2 * (p - 0.5).abs()
    assert torch.allclose(cm.uncertainty(logit), expected, atol=1e-6)
    assert torch.allclose(cm.uncertainty(torch.cat([torch.zeros_like(logit), logit], 1)), expected, atol=1e-6)
    assert torch.allclose(cm.uncertainty(torch.zeros(1, 5, 2, 2)), torch.ones(1, 1, 2, 2))


def test_the_coarse_map_is_kept_exactly_where_it_is_below_a_fifth_or_above_four_fifths():
    net = build().eval()
    torch.nn.init.normal_(net.heads[0].weight, std=3.0)
    with torch.no_grad():
        out = net.outputs(image(2))
    p = torch.sigmoid(out["coarse"].double())
    kept = (p < 0.2) | (p > 0.8)
    decided = ((p - 0.2).abs() > 1e-6) & ((p - 0.8).abs() > 1e-6)
    assert 0 < (kept & decided).float().mean() < 1
    assert torch.equal(out["logits"][kept & decided], out["coarse"][kept & decided])
    assert torch.equal(out["logits"][~kept & decided], out["refined"][~kept & decided])
    # As masks: Y = M Y_c + (1 - M) Y_r
    fused = torch.where(kept, out["coarse"] > 0, out["refined"] > 0)
    assert torch.equal((out["logits"] > 0)[decided], fused[decided])


def test_the_refiner_is_blind_where_the_coarse_map_is_sure():
    net = build().eval()
    torch.nn.init.zeros_(net.heads[0].weight)
    with torch.no_grad():
        net.heads[0].bias.fill_(200.0)  # certain everywhere: U is 0, and the refiner sees no image
        sure = [net.outputs(image(seed=seed))["refined"] for seed in (1, 2)]
        net.heads[0].bias.fill_(0.0)
        unsure = [net.outputs(image(seed=seed))["refined"] for seed in (1, 2)]
    assert torch.equal(*sure)
    assert not torch.allclose(*unsure)


@pytest.mark.parametrize("through", [False, True])
def test_the_refiner_reaches_the_coarse_head_only_when_asked(through):
    net = build(uncertainty_gradient=through)
    net.outputs(image())["refined"].sum().backward()
    grad = net.heads[0].weight.grad
    assert (grad is not None and bool(grad.abs().sum() > 0)) is through


def test_the_loss_is_a_sum_over_final_map_and_levels():
    net = build().eval()
    target = (image(2, 1)[:, 0] > 0.5).long()
    with torch.no_grad():
        out = net.outputs(image(2))
        weights = cm.loss_weights(out)
        total = torch.zeros(())
        for name, weight in weights.items():
            logits = out[name][:, 0]
            step = 64 // logits.shape[-1]
            wanted = target[:, step // 2 :: step, step // 2 :: step].float()
            p = torch.sigmoid(logits)
            both, either = (p * wanted).sum((1, 2)), (p + wanted).sum((1, 2))
            dice = 1 - (2 * both + 1) / (either + 1)
            total += weight * (F.binary_cross_entropy_with_logits(logits, wanted) + dice.mean())
        assert weights == {
            "refined": 1.0, "coarse": 1.0, "level2": 0.5, "level3": 0.25, "level4": 0.125, "level5": 0.0625,
        }  # fmt: skip
        assert torch.allclose(cm.cloudmamba_loss(out, target), total, rtol=1e-5)
    one = build(stages=1).eval()
    with torch.no_grad():
        assert list(cm.loss_weights(one.outputs(image()))) == ["logits", "level2", "level3", "level4", "level5"]


@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_change_nothing(classes):
    net = build(classes=classes).eval()
    target = (image(2, 1)[:, 0] > 0.5).long()
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[:, :, 32:] = False
    other = torch.where(valid, target, torch.full_like(target, 255))
    with torch.no_grad():
        out = net.outputs(image(2))
        assert torch.equal(cm.cloudmamba_loss(out, target, valid), cm.cloudmamba_loss(out, other, valid))
        assert not torch.equal(cm.cloudmamba_loss(out, target, valid), cm.cloudmamba_loss(out, target))


def test_two_classes_cost_what_one_map_costs_in_cross_entropy():
    logit = torch.randn(2, 1, 8, 8)
    target = (torch.rand(2, 8, 8) > 0.5).long()
    valid = torch.ones_like(target, dtype=torch.bool)
    pair = torch.cat([torch.zeros_like(logit), logit], 1)
    dice = [
        cm.binary_dice(p[:, 0], target == index, valid=valid)
        for index, p in enumerate((torch.sigmoid(-logit), torch.sigmoid(logit)))
    ]
    entropy = F.binary_cross_entropy_with_logits(logit[:, 0], target.float())
    expected = entropy + (dice[0] + dice[1]) / 2
    assert torch.allclose(cm._segmentation_loss(pair, target, valid), expected, rtol=1e-5)


def test_evaluation_repeats_itself_and_judges_each_image_alone():
    net = build(preset="small").eval()
    with torch.no_grad():
        both = net(image(2))
        assert torch.equal(both, net(image(2)))
        assert torch.allclose(both[1:], net(image(2)[1:]), rtol=1e-4, atol=1e-5)


def test_rates_are_not_decayed():
    net = build()
    names = net.no_weight_decay()
    assert len(names) == 2 * sum(isinstance(module, cm.SS2D) for module in net.modules())
    assert names <= {name for name, _ in net.named_parameters()}


def test_what_does_not_exist_is_an_error():
    for wrong in ({"preset": "huge"}, {"mamba": "twice"}, {"stages": 3}):
        with pytest.raises(ModelError, match="values of this option"):
            build(**wrong)
    with pytest.raises(InputError, match="has 3 bands"):
        build()(image(bands=3))


def parameters(**options):
    with torch.device("meta"):
        net = models.create("cloudmamba", **options)
    return sum(p.numel() for p in net.parameters())


def counted(width, cap, expand, state, mamba_from_level):
    """Parameters for 4 bands and one map, from the description of the parts."""

    def conv(i, o, side):
        return i * o * side * side + o

    def res(i, o):
        return conv(i, o, 3) + 2 * o + (0 if i == o else conv(i, o, 1))

    def scan(c):
        d, r = int(expand * c), math.ceil(c / 16)
        outside = 2 * d * c + d * c + 10 * d + 2 * d  # in, out, depthwise convolution, normalisation
        return outside + 4 * d * ((r + 2 * state) + r + 1 + state + 1)  # per direction: B, C, dt, its bias, A, D

    def hpb(level, c):
        two_scales = 3 * conv(c, c, 3) + conv(3 * c, c, 1) + 4 * c + scan(2 * c) + conv(2 * c, c, 1)
        return 2 * res(c, c) + (two_scales if level >= mamba_from_level else 0)

    c = [min(cap, width * 2**level) for level in range(6)]
    steps = range(1, 6)
    decoder = sum(conv(c[j], c[j - 1], 2) + res(2 * c[j - 1], c[j - 1]) for j in steps)
    decoder += sum(res(c[j - 1], c[j - 1]) for j in steps)
    encoder = conv(4, c[0], 3) + sum(hpb(j, c[j - 1]) + conv(c[j - 1], c[j], 3) for j in steps)
    heads = sum(conv(c[j - 1], 1, 1) for j in steps) + conv(c[0], 1, 1)
    return encoder + 2 * decoder + heads + conv(sum(c[:-1]), c[-1], 1)


@pytest.mark.parametrize("preset", cm.PRESETS)
def test_parameters_are_those_of_the_parts(preset):
    assert parameters(preset=preset) == counted(**cm.PRESETS[preset])


def test_a_larger_ablation_has_more_parameters():
    assert parameters(stages=1) < parameters(stages=2)
    assert parameters(mamba="none") < parameters(mamba="single") < parameters(mamba="ds-sep") < parameters(mamba="ds")


@pytest.mark.slow
def test_onnx_agrees_at_other_sizes_than_the_one_exported(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("torch._higher_order_ops.scan")
    net = build(mamba_from_level=1, levels=2).eval()
    path = tmp_path / "cloudmamba.onnx"
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        net, (image(2, h=64, w=96),), path, dynamo=True, dynamic_shapes=(dynamic,),
        input_names=["image"], output_names=["logits"], verbose=False,
    )  # fmt: skip
    session = ort.InferenceSession(path)
    for n, h, w in ((2, 64, 96), (1, 45, 70), (3, 96, 33)):
        given = image(n, h=h, w=w)
        with torch.no_grad():
            expected = net(given)
        (got,) = session.run(None, {"image": given.numpy()})
        assert torch.allclose(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_four_small_patches_are_learned_by_heart():
    net = build(preset="small", width=8)
    rng = torch.Generator().manual_seed(3)
    blobs = F.interpolate(torch.randn(4, 1, 5, 5, generator=rng), (32, 32), mode="bicubic")
    target = (blobs[:, 0] > 0.2).long()
    patches = 0.1 * torch.rand(4, 4, 32, 32, generator=rng) + 0.3 * blobs.clamp(-1, 1)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.0)
    for _ in range(120):
        loss = cm.cloudmamba_loss(net.outputs(patches), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = net.eval()(patches)[:, 0] > 0
    agreement = (found == target.bool()).float().mean()
    overlap = (found & target.bool()).sum() / (found | target.bool()).sum()
    assert agreement > 0.98
    assert overlap > 0.95
