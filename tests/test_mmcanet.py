"""MMCANet and MPIR1 to 4: what each part of them does, beyond what the contract asks of every network."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unclouded import image_metrics, models
from unclouded.errors import ModelError
from unclouded.losses import l1_ssim
from unclouded.models.mmcanet import MMCANet, pad
from unclouded.nn.cross_attention import CrossAttention, joint_attention, joint_attention_by_maps
from unclouded.nn.kernel_basis import MFFBlock, kernel_basis_attention

NAMES = ["mmcanet", "mmcanet-l", "mpir1", "mpir2", "mpir3", "mpir4"]
SMALL = {"widths": (8, 16, 24), "blocks": (1, 1, 1), "decoder_blocks": 1}


def make(name, seed=0, **options):
    """A small network whose learned scales are large enough for every part of it to show."""
    torch.manual_seed(seed)
    if name == "mpir2":
        options = {"full_blocks": 1, **options}
    net = models.create(name, **{**SMALL, **options})
    with torch.no_grad():
        for key, value in net.named_parameters():
            if key.endswith("_scale"):
                value.add_(0.5 * torch.rand_like(value))
    return net


def pair(rows=40, cols=32, bands=3, n=1, seed=1):
    """Optical and radar image."""
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, bands, rows, cols, generator=rng), torch.rand(n, 2, rows, cols, generator=rng)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Inputs and outputs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("bands", "radar"), [(13, True), (3, False)])
def test_any_bands_with_and_without_radar(name, bands, radar):
    net = make(name, bands=bands, sar_bands=2 if radar else 0).eval()
    for rows, cols in ((16, 16), (21, 34)):
        image, sar = pair(rows, cols, bands, n=2)
        with torch.no_grad():
            restored = net(image, sar if radar else None)
        assert restored.shape == image.shape
        assert torch.isfinite(restored).all()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_targets_fit_together(name):
    net = make(name).eval()
    image, sar = pair(37, 30)
    with torch.no_grad():
        outputs, targets = net.outputs(image, sar), net.targets(image)
        assert torch.equal(outputs["image"], net(image, sar))
    assert list(outputs) == list(targets)
    assert {key: value.shape for key, value in outputs.items()} == {key: value.shape for key, value in targets.items()}
    sizes = {"mpir4": [(37, 30), (18, 15)]}.get(name, [(37, 30), (9, 7), (18, 15)] if "mpir" in name else [(37, 30)])
    assert [tuple(value.shape[-2:]) for value in outputs.values()] == sizes


@pytest.mark.parametrize("name", ["mmcanet", "mpir2"])
def test_an_image_does_not_depend_on_its_batch_nor_on_the_run(name):
    net = make(name).eval()
    image, sar = pair(n=3)
    with torch.no_grad():
        whole = net(image, sar)
        assert torch.equal(whole, net(image, sar))
        torch.testing.assert_close(net(image[1:2], sar[1:2]), whole[1:2], rtol=1e-4, atol=1e-5)


TINY = {"widths": (8, 12), "blocks": (1, 1), "low": 0}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mmcanet", TINY),
        pytest.param("mmcanet", {**TINY, "sar_bands": 0, "decoder": "high"}, marks=pytest.mark.slow),
        pytest.param("mmcanet", {"literal_attention": True, "attention_pool": 2}, marks=pytest.mark.slow),
        pytest.param("mmcanet-l", {}, marks=pytest.mark.slow),
        pytest.param("mpir1", TINY, marks=pytest.mark.slow),
        pytest.param("mpir2", TINY, marks=pytest.mark.slow),
        pytest.param("mpir3", TINY, marks=pytest.mark.slow),
        pytest.param("mpir4", TINY, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_onnx_computes_the_same_at_any_size(name, options, tmp_path):
    import onnxruntime

    net = make(name, **options).eval()
    inputs = pair(40, 52)[: 2 if net.sar_bands else 1]
    names = ["image", "sar"][: len(inputs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            net,
            inputs,
            str(tmp_path / "net.onnx"),
            input_names=names,
            output_names=["restored"],
            dynamic_axes={key: {0: "n", 2: "h", 3: "w"} for key in (*names, "restored")},
            opset_version=17,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for rows, cols in ((40, 52), (33, 22)):
        inputs = pair(rows, cols, n=2)[: len(names)]
        with torch.no_grad():
            expected = net(*inputs).numpy()
        (got,) = session.run(None, {key: value.numpy() for key, value in zip(names, inputs, strict=True)})
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


# Structure


@pytest.mark.parametrize("name", NAMES)
def test_without_a_correction_the_chain_returns_the_cloudy_image(name):
    """With the last convolutions at zero only the additions around the networks are left."""
    net = make(name).eval()
    with torch.no_grad():
        for key, value in net.named_parameters():
            if key.split(".")[-2] == "last" and "blocks" not in key:
                value.zero_()
        image, sar = pair(32, 32)
        restored = net(image, sar)
    if name in ("mpir3", "mpir4"):  # each stage adds to the one before, so the coarsest view of the image comes through
        expected = F.avg_pool2d(image, 4 if name == "mpir3" else 2)
        for _ in range(2 if name == "mpir3" else 1):
            expected = F.interpolate(expected, scale_factor=2.0, mode="bilinear", align_corners=False)
    else:
        expected = image
    torch.testing.assert_close(restored, expected)


def test_without_residual_nothing_is_added():
    net = make("mmcanet", residual=False).eval()
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(0.25)
        assert torch.equal(net(*pair()), torch.full((1, 3, 40, 32), 0.25))


@pytest.mark.parametrize("name", NAMES)
def test_radar_has_a_say(name):
    net = make(name).eval()
    image, sar = pair()
    with torch.no_grad():
        assert (net(image, sar) - net(image, 1 - sar)).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["mpir1", "mpir2", "mpir3", "mpir4"])
def test_coarse_stages_have_a_say_in_the_result(name):
    net = make(name).eval()
    image, sar = pair()
    with torch.no_grad():
        before = net(image, sar)
        net.networks[0].last.bias.add_(0.1)
        assert (net(image, sar) - before).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["mpir1", "mpir2"])
def test_features_are_carried_besides_the_result(name):
    """With its last convolution at zero a coarse stage can reach the next one through its features only."""
    net = make(name).eval()
    image, sar = pair()
    with torch.no_grad():
        net.networks[0].last.weight.zero_()
        before = net(image, sar)
        net.networks[0].fuse.bias.add_(0.5)
        assert (net(image, sar) - before).abs().max() > 1e-5


def test_mpir3_carries_no_features():
    net = make("mpir3").eval()
    image, sar = pair()
    with torch.no_grad():
        net.networks[0].last.weight.zero_()
        before = net(image, sar)
        net.networks[0].fuse.bias.add_(0.5)
        assert torch.equal(net(image, sar), before)


def test_any_size_is_the_padded_image_cropped():
    net = make("mmcanet").eval()
    image, sar = pair(21, 30)
    with torch.no_grad():
        whole = net(pad(image, 4), pad(sar, 4))
        assert whole.shape[-2:] == (24, 32)
        torch.testing.assert_close(net(image, sar), whole[..., :21, :30])


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "high"},
        {"cross_attention": False},
        {"aspp": False},
        {"literal_attention": True},
        {"scale_scores": True},
        {"attention_pool": 4},
        {"low": 0},
        {"optical_kernel": 5},
        {"channels_per_group": 4},
        {"rates": (1, 2)},
    ],
    ids=str,
)
def test_every_option_changes_the_network_and_keeps_its_promises(options):
    net, plain = make("mmcanet", **options), make("mmcanet").eval()
    image, sar = pair(22, 19)
    restored = net(image, sar)
    assert restored.shape == image.shape
    restored.square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in net.parameters())
    with torch.no_grad():
        assert not torch.allclose(restored, plain(image, sar), atol=1e-6)


def test_ablations_leave_out_what_they_name():
    sizes = {
        key: sum(value.numel() for value in make("mmcanet", **options).parameters())
        for key, options in {
            "full": {},
            "no aspp": {"aspp": False},
            "no attention": {"aspp": False, "cross_attention": False},
            "no radar": {"aspp": False, "sar_bands": 0},
        }.items()
    }
    assert sizes["full"] > sizes["no aspp"] > sizes["no attention"] > sizes["no radar"]
    assert not any("sar" in key or "attend" in key for key in make("mmcanet", sar_bands=0).state_dict())


# Kernel basis attention


@settings(max_examples=15, deadline=None)
@given(
    groups=st.integers(1, 4),
    group=st.sampled_from([1, 2, 4]),
    bases=st.integers(1, 6),
    side=st.sampled_from([1, 3, 5]),
    rows=st.integers(1, 7),
    cols=st.integers(1, 7),
)
def test_attention_is_the_weighted_sum_of_ordinary_convolutions(groups, group, bases, side, rows, cols):
    features = groups * group
    rng = torch.Generator().manual_seed(groups * 100 + rows * 10 + cols)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    x, a = draw(2, features, rows, cols), draw(2, bases, rows, cols)
    weight, bias = draw(bases, features, group, side, side), draw(bases, features)
    expected = sum(
        a[:, t : t + 1] * F.conv2d(x, weight[t], bias[t], padding=side // 2, groups=groups) for t in range(bases)
    )
    torch.testing.assert_close(kernel_basis_attention(x, a, weight, bias), expected, rtol=1e-10, atol=1e-10)


def test_forming_kernels_again_changes_no_gradient():
    torch.manual_seed(2)
    block = MFFBlock(16).double()
    x = torch.randn(1, 16, 9, 8, dtype=torch.float64)
    gradients = []
    for block.recompute in (False, True):
        block.zero_grad()
        block(x).square().sum().backward()
        gradients.append([value.grad.clone() for value in block.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_forming_kernels_again_keeps_less_than_half():
    def kept(recompute):
        sizes = {}

        def note(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        block = MFFBlock(32, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = block(torch.randn(1, 32, 32, 32, requires_grad=True))
        del result
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


def test_a_block_sees_its_neighbourhood_and_the_mean():
    """Through the channel attention a pixel reaches all others; without it two each way, by two 3 x 3 in a row."""
    torch.manual_seed(3)
    block = MFFBlock(8).double().eval()
    x = torch.randn(1, 8, 15, 15, dtype=torch.float64)
    changed = x.clone()
    changed[:, 0, 7, 7] += 1
    with torch.no_grad():
        assert (block(x) - block(changed))[..., 0, 0].abs().max() > 0
        block.channel_attention.weight.zero_()
        moved = (block(x) - block(changed)).abs().amax((0, 1))
    rows, cols = torch.nonzero(moved > 0, as_tuple=True)
    assert rows.min() == cols.min() == 7 - 2
    assert rows.max() == cols.max() == 7 + 2


# Cross-attention


@settings(max_examples=15, deadline=None)
@given(
    points=st.integers(1, 30),
    features=st.integers(1, 8),
    scale=st.floats(0.1, 2),
    literal=st.booleans(),
)
def test_fast_attention_equals_the_stored_maps(points, features, scale, literal):
    rng = torch.Generator().manual_seed(points * 10 + features)
    q, k = (
        tuple(torch.randn(2, points, features, generator=rng, dtype=torch.float64) for _ in range(2)) for _ in range(2)
    )
    v = torch.randn(2, points, 2 * features, generator=rng, dtype=torch.float64)
    fast = joint_attention(q, k, v, scale=scale, literal=literal)
    torch.testing.assert_close(
        fast, joint_attention_by_maps(q, k, v, scale=scale, literal=literal), rtol=1e-9, atol=1e-12
    )


def test_attention_in_parts_equals_attention_at_once(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    q, k = (tuple(torch.randn(1, 25, 4, generator=rng) for _ in range(2)) for _ in range(2))
    v = torch.randn(1, 25, 3, generator=rng)
    whole = joint_attention(q, k, v, literal=True)
    monkeypatch.setattr("unclouded.nn.cross_attention.QUERIES_AT_ONCE", 7)
    torch.testing.assert_close(joint_attention(q, k, v, literal=True), whole)


@pytest.mark.parametrize("literal", [False, True])
def test_both_forms_agree_within_the_module_and_its_gradients(literal):
    torch.manual_seed(4)
    fast = CrossAttention(6, literal=literal, pool=2).double()
    slow = CrossAttention(6, literal=literal, pool=2, by_maps=True).double()
    slow.load_state_dict(fast.state_dict())
    optical, sar = torch.randn(2, 2, 6, 8, 10, dtype=torch.float64)
    results = [net(optical, sar) for net in (fast, slow)]
    torch.testing.assert_close(*results)
    for net, result in zip((fast, slow), results, strict=True):
        result.square().sum().backward()
        assert all(value.grad.any() for value in net.parameters())
    for first, second in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_the_printed_product_nearly_vanishes():
    """With scores of no preference every row of the product sums to exactly 1/p."""
    nothing = (torch.zeros(1, 64, 4), torch.zeros(1, 64, 4))
    ones = torch.ones(1, 64, 1)
    assert joint_attention(nothing, nothing, ones).mean() == pytest.approx(1)
    assert joint_attention(nothing, nothing, ones, literal=True).mean() == pytest.approx(1 / 64)


# Size and cost


def multiply_adds(net, *inputs):
    """Multiply-adds of one image: convolutions, attention, and the per-pixel kernels (36 per feature and pixel)."""
    elementwise = 0

    def count(module, inputs, _output):
        nonlocal elementwise
        group, side = module.basis_weight.shape[2:4]
        elementwise += inputs[0].numel() * group * side * side

    for module in net.modules():
        if isinstance(module, MFFBlock):
            module.register_forward_hook(count)
        if isinstance(module, CrossAttention):
            module.by_maps = True  # the counter knows plain products of matrices on every device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops() // 2 + elementwise


def test_cost_of_a_block_follows_from_its_equations():
    c, rows, cols = 32, 8, 6
    block = MFFBlock(c).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(torch.randn(1, c, rows, cols))
    per_pixel = (
        2 * c * c + 2 * 9 * c  # local branch and the values: 1 x 1 and depthwise 3 x 3
        + 9 * c + 16 * 32 + c * 32  # coefficients: grouped 3 x 3, 1 x 1 after the gate, and the linear path
        + 32 * 36 * c + 32 * c  # kernels and biases from the coefficients
        + c * c + 2 * c * c + c * c  # fusion and feed-forward
    )  # fmt: skip
    assert counter.get_total_flops() // 2 == rows * cols * per_pixel + c * c


# Parameters, and multiply-adds for 64 x 64 pixels with 3 optical and 2 radar bands. The papers print neither.
SIZES = {
    "mmcanet": (15_985_091, 3_507_124_224),
    "mmcanet-l": (16_043_459, 3_532_290_048),
    "mpir1": (47_961_161, 4_552_517_632),
    "mpir2": (33_548_882, 7_258_015_264),
    "mpir3": (47_957_001, 4_542_031_872),
    "mpir4": (31_971_046, 4_337_037_312),
}


@pytest.mark.parametrize("name", NAMES)
def test_size_of_the_full_networks(name):
    with torch.device("meta"):  # counts need no values
        net = models.create(name)
    assert sum(value.numel() for value in net.parameters()) == SIZES[name][0]


@pytest.mark.parametrize(
    "name", [name if name == "mmcanet" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_cost_of_the_full_networks(name):
    with torch.device("meta"):
        net = models.create(name).eval()
        assert multiply_adds(net, torch.empty(1, 3, 64, 64), torch.empty(1, 2, 64, 64)) == SIZES[name][1]


# Errors


def test_errors_say_what_fits():
    net = make("mmcanet")
    image, sar = pair()
    with pytest.raises(ModelError, match=r"takes \(n, 3, h, w\)"):
        net(image[:, :2], sar)
    with pytest.raises(ModelError, match="no radar image"):
        net(image)
    with pytest.raises(ModelError, match=r"takes \(1, 2, 40, 32\)"):
        net(image, sar[..., :-1])
    with pytest.raises(ModelError, match="takes none"):
        make("mpir4", sar_bands=0)(image, sar)
    with pytest.raises(ModelError, match="multiple of 32"):
        MMCANet(widths=(32, 48), blocks=(1, 1), low=0)
    with pytest.raises(ModelError, match="low level"):
        make("mmcanet", low=2)
    with pytest.raises(ModelError, match="odd"):
        make("mmcanet", sar_kernel=4)
    with pytest.raises(ModelError, match="stages"):
        make("mpir3", stages=1)


# Learning


def scene(n, size, seed):
    """Smooth surfaces, their radar image, and the same surfaces under white clouds."""
    rng = torch.Generator().manual_seed(seed)
    field = torch.rand(n, 3, 6, 6, generator=rng)
    truth = 0.4 * F.interpolate(field, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    cover = F.interpolate(torch.rand(n, 1, 4, 4, generator=rng), size=(size, size), mode="bilinear")
    cover = ((cover - 0.4) * 4).clamp(0, 1)
    sar = torch.stack([truth.mean(1), truth[:, 0]], 1) * 2
    return truth * (1 - cover) + 0.9 * cover, sar, truth


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmcanet", "mpir2", "mpir4"])
def test_a_network_learns_four_patches_by_heart(name):
    torch.manual_seed(7)
    options = {"widths": (16, 32, 32), "blocks": (1, 1, 1), "decoder_blocks": 1, "recompute": False}
    net = models.create(name, **options, **({"full_blocks": 1} if name == "mpir2" else {}))
    cloudy, sar, truth = scene(4, 48, 3)
    targets = net.targets(truth)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 250)
    losses = []
    for _ in range(250):
        outputs = net.outputs(cloudy, sar)
        loss = torch.stack([l1_ssim(outputs[key], targets[key]) for key in outputs]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    with torch.no_grad():
        restored = net(cloudy, sar).numpy()
    before, after = (
        np.mean([image_metrics.psnr(x, y) for x, y in zip(images, truth.numpy(), strict=True)])
        for images in (cloudy.numpy(), restored)
    )
    assert losses[-1] < 0.1 * losses[0]
    assert after > before + 15
