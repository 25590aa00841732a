"""What every model of the registry has to do, masking and removal alike. A new model is tested by being registered.

Networks are built small where their options allow it; those of a kind that another one stands for are marked ``slow``.
"""

from __future__ import annotations

import functools
import itertools
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from odc.geo.geobox import GeoBox
from safetensors.torch import load, save

import unclouded
from unclouded import models
from unclouded.classes import SEVEN
from unclouded.descriptors import SLOTS
from unclouded.errors import ModelError
from unclouded.infer.runner import load_runner
from unclouded.models.card import BandInput, ModelCard
from unclouded.sensors import bands_of
from unclouded.train.export import export

from ..fakes_scene import UTM_GRID, make_scene

_SEGFORMER = {
    "depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16,
}  # fmt: skip
_MASK2FORMER = {
    "queries": 6, "hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_layers": 1,
    "decoder_layers": 3, "num_attention_heads": 2, "dim_feedforward": 32, "encoder_feedforward_dim": 32,
}  # fmt: skip
_DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
_SWIN = {"depths": [1] * 4, "num_heads": [1, 1, 2, 2], "embed_dim": 16}
_MMCANET = {"widths": (8, 16, 32), "blocks": (1, 1, 1), "low": 1, "decoder_blocks": 1}

SMALL = {
    "cloudmamba": {"bands": 13, "width": 8, "cap": 16, "levels": 3},
    "mscloudcam": {"embed": 24, "depths": [1] * 4, "heads": [1, 1, 2, 2]},
    "slots-unet": {"widths": (8, 8, 16), "depth": 1},
    "senseiv2-unet": {"widths": (8, 8, 16), "depth": 1},
    "upernet-swin-t": {"width": 32, "depths": [1] * 4, "heads": [1, 1, 2, 2], "embed": 16},
    "mask2former-swin-t": {"backbone": _SWIN, **_MASK2FORMER},
    "mask2former-dinov2": {"backbone": _DINO, **_MASK2FORMER},
    "sensei": {"segmenter_options": _SEGFORMER},
    **dict.fromkeys((f"segformer-{size}" for size in ("b0", "b1", "b2", "b3", "b3-narrow", "b4", "b5")), _SEGFORMER),
    **{
        f"sensei{front}-segformer-{size}": {"segmenter_options": _SEGFORMER}
        for front in ("v1", "v2")
        for size in ("b0", "b2")
    },
    "dsen2cr": {"bands": 3, "features": 8, "blocks": 2},
    "fill-pixels": {"bands": 3, "widths": (16, 8)},
    "fill-unet": {"bands": 3, "widths": (8, 8, 16)},
    "mmcanet": _MMCANET,
    "mmcanet-l": _MMCANET,
    **dict.fromkeys(("mpir1", "mpir3", "mpir4"), _MMCANET),
    "mpir2": {**_MMCANET, "full_blocks": 2},
}
"""Options that make a model small."""

REPEATS = {
    "smp", "unet-resnet101", "unetplusplus-mobilenetv2", "unetplusplus-resnet101", "deeplabv3plus-resnet34",
    "deeplabv3plus-resnet50", "deeplabv3plus-resnet101", "upernet-resnet50", "segformer-b1", "segformer-b2",
    "segformer-b3", "segformer-b3-narrow", "segformer-b4", "segformer-b5", "sensei", "senseiv2-segformer-b2",
    "senseiv2-deeplabv3plus", "senseiv2-deeplabv3plus-resnet50", "senseiv2-unet-mobilenetv2", "senseiv1-segformer-b2",
    "senseiv1-deeplabv3plus", "mmcanet-l",
}  # fmt: skip
"""Models that differ from another one in size or in one part only: left to the slow run."""

NEEDS = {
    "transformers": ("segformer", "mask2former", "upernet-swin"),
    "segmentation_models_pytorch": ("smp", "unet-", "unetplusplus", "deeplabv3plus", "upernet-resnet"),
}
ASLEEP = "pixel_level_module.decoder.level_embed"
"""Has no gradient at the start: what transformers puts behind it begins with weights of zero."""

SIDES = (64, 64)

FIXED_BANDS = 13
BANDS = 5


def parameters(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in REPEATS else name for name in names]


NAMES = parameters(models.names())


def _runs(name):
    if name in ("slots-unet", "senseiv2-unet"):
        return True
    tail = name.split("-", 1)[1] if name.startswith("sensei") and "-" in name else name
    tail = "segformer" if tail == "sensei" else tail
    return all(find_spec(module) for module, heads in NEEDS.items() if tail.startswith(heads))


def fresh(name, seed=0, **options):
    """A network to train or to change."""
    if not _runs(name):
        pytest.skip("needs the extra 'baselines'")
    torch.manual_seed(seed)
    return models.create(name, **{**SMALL.get(name, {}), **options})


@functools.cache
def build(name):
    """A network in eval mode that tests share."""
    return fresh(name).eval()


def removes(net):
    return getattr(net, "task", "mask") == "removal"


def inputs(net, n=2, sides=SIDES, seed=3):
    """Image and what goes with it: descriptors, radar or nothing."""
    rng = torch.Generator().manual_seed(seed)
    if removes(net):
        image, radar = (torch.rand(n, bands, *sides, generator=rng) for bands in (net.bands, net.sar_bands))
        return (image, radar) if net.sar_bands else (image,)
    front = getattr(net, "front_end", "fixed")
    bands = FIXED_BANDS if front == "fixed" else BANDS
    image = torch.rand(n, bands, *sides, generator=rng)
    if front == "slots":
        weights = torch.zeros(n, bands, len(SLOTS))
        weights[:, range(bands), [2 * index % len(SLOTS) for index in range(bands)]] = 1.0
        return image, weights
    if front == "fixed":
        return (image,)
    return image, torch.randn(n, bands, 3 if front == "senseiv1" else net.front.used, generator=rng)


@pytest.mark.parametrize("name", NAMES)
def test_result_has_the_size_of_the_image_whatever_it_is(name):
    net = build(name)
    with torch.no_grad():
        for n, sides in ((1, (64, 64)), (2, (45, 70))):
            given = inputs(net, n, sides)
            out = net(*given)
            classes = out.shape[1]
            assert out.shape == (n, classes, *sides)
            assert classes == (3 if removes(net) else classes)
            assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hold_the_result_and_repeat_it(name):
    net = build(name)
    given = inputs(net)
    with torch.no_grad():
        out = net(*given)
        torch.testing.assert_close(net(*given), out, rtol=0, atol=0)
        if hasattr(net, "outputs"):
            named = net.outputs(*given)
            key = "logits" if "logits" in named else "image"
            torch.testing.assert_close(named[key], out)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_judged_alone(name):
    net = build(name)
    given = inputs(net)
    with torch.no_grad():
        together = net(*given)
        alone = net(*(part[1:] for part in given))
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=2e-4 * float(together.abs().max()))


def dead_parameters(net):
    """Names of the learned parameters that no output's gradient reaches; gradients that are no numbers fail."""
    learned = {key: p for key, p in net.train().named_parameters() if p.requires_grad}
    dead = list(learned)
    for seed in range(3):  # stochastic depth may leave a branch out once
        given = inputs(net, n=3, seed=seed)
        results = net.outputs(*given) if hasattr(net, "outputs") else {"image": net(*given)}
        torch.manual_seed(seed)
        values = [value for value in results.values() if torch.is_tensor(value) and value.requires_grad]
        sum((value * torch.randn_like(value)).sum() for value in values).backward()
        dead = [key for key, p in learned.items() if p.grad is None or not bool((p.grad != 0).any())]
        dead = [key for key in dead if not key.endswith(ASLEEP)]
        if not dead:
            break
    assert all(bool(torch.isfinite(p.grad).all()) for p in learned.values() if p.grad is not None)
    return dead


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    assert dead_parameters(fresh(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_saving(name):
    net = build(name)
    given = inputs(net)
    stored = save({key: value.contiguous().clone() for key, value in net.state_dict().items()})
    other = fresh(name, seed=1).eval()
    with torch.no_grad():
        expected = net(*given)
        before = other(*given)
        assert not torch.equal(before, expected)
        other.load_state_dict(load(stored))
        torch.testing.assert_close(other(*given), expected, rtol=0, atol=0)


SENSOR_INDEPENDENT = [
    entry for entry in NAMES if (entry if isinstance(entry, str) else entry.values[0]).startswith(("sensei", "slots"))
]


@pytest.mark.parametrize("name", SENSOR_INDEPENDENT)
def test_bands_may_come_in_any_order_number_and_company(name):
    net = build(name)
    image, descriptors = inputs(net)
    order = [3, 0, 4, 1, 2]
    with torch.no_grad():
        out = net(image, descriptors)
        near = {"rtol": 1e-3, "atol": 1e-4 * float(out.abs().max()) + 1e-5}
        torch.testing.assert_close(net(image[:, order], descriptors[:, order]), out, **near)
        padded = torch.cat([image, torch.full_like(image[:, :3], 0.7)], dim=1)
        zeros = torch.cat([descriptors, torch.zeros_like(descriptors[:, :3])], dim=1)
        torch.testing.assert_close(net(padded, zeros), out, **near)
        assert net(image[:, :2], descriptors[:, :2]).shape == out.shape


FOUR = ("clear", "thick", "thin", "shadow")
QUICK = {"mscloudcam", "segformer-b0", "slots-unet"}
"""Models whose export is tested by default."""


def card_of(name, net, **options):
    """A card that describes a network of this file."""
    front_end = getattr(net, "front_end", "fixed")
    settings = {
        "name": name, "title": name, "version": "1", "architecture": name,
        "options": {**SMALL.get(name, {}), **options}, "front_end": front_end,
        "percentiles": front_end != "senseiv2" or net.front.used == 79, "licence": "none", "parameters": 1,
        "grid_m": 10.0, "stride": getattr(net, "stride", 32),
    }  # fmt: skip
    if removes(net):
        radar = ({"name": "vv", "low_db": -25, "high_db": 0}, {"name": "vh", "low_db": -32.5, "high_db": 0})
        bands = BAND_INPUTS[3:0:-1] if net.bands == 3 else BAND_INPUTS
        settings |= {"task": "removal", "front_end": "bands", "bands": bands, "sar": radar[: net.sar_bands]}
        return ModelCard(**settings)
    with torch.no_grad():
        logits = net(*inputs(net, n=1))
    classes = {1: ("cloud",), 4: FOUR, 7: SEVEN}[logits.shape[1]]
    # Without training some have logits of thousands, whose last digits would decide everything.
    settings["calibration"] = {"default": {"temperature": max(1.0, float(logits.abs().max()))}}
    if settings["front_end"] == "fixed":
        settings |= {"front_end": "bands", "bands": BAND_INPUTS, "scaling": {"mode": "divide-3000"}}
    if not getattr(net, "any_size", True):
        settings["tile"] = 5 * settings["stride"]
    return ModelCard(**settings | {"classes": classes})


BAND_INPUTS = tuple(
    BandInput(name=band.name, common_name=band.common_name, min_nm=band.min_nm, max_nm=band.max_nm)
    for band in bands_of("sentinel2-l1c")
)


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in models.names()]
)
def test_exported_networks_equal_torch_and_mask_a_scene(name, tmp_path):
    net = build(name)
    card = card_of(name, net)
    folder = tmp_path / "model"
    export(net, card, folder)  # compares ONNX and torch, at several sizes where the network exports at any
    again = ModelCard.load(folder / f"{name}.json")
    assert set(again.sha256) == {"onnx", "safetensors"}
    assert again.parameters == sum(p.numel() for p in net.parameters())
    if removes(net):
        image, radar = (part.numpy() for part in inputs(net, n=1, sides=(64, 96), seed=9))
        results = [load_runner(folder / f"{name}.{kind}", 1).run(image, radar) for kind in ("onnx", "safetensors")]
    else:
        scene = make_scene(GeoBox((70, 130), UTM_GRID.affine, UTM_GRID.crs), bands=bands_of("sentinel2-l1c"))
        results = [
            unclouded.mask(scene, model=folder / f"{name}.{kind}", tile=128, halo=32, threads=1).probability.values
            for kind in ("onnx", "safetensors")
        ]
        assert np.isnan(results[0][:, :20, :20]).all()
        assert np.isfinite(results[0][:, 20:]).all()
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-4)


SWITCHES = [
    *(
        ("mscloudcam", {"deep": deep, "shallow": shallow, "fusion": fusion, "form": form})
        for deep, shallow in itertools.product(("aspp", "psp"), repeat=2)
        for fusion in ("cam", "bypass", "concat")
        for form in ("released", "printed")
    ),
    *(
        ("cloudmamba", options)
        for options in (
            {"mamba": "ds-sep"}, {"mamba": "single"}, {"mamba": "none"}, {"stages": 1}, {"classes": 4}, {"expand": 1.0},
            {"dilations": (2, 2, 2)}, {"mamba_from_level": 2}, {"uncertainty_gradient": True},
        )
    ),
    *(
        ("sensei", {"segmenter": "segformer-b0", **options})
        for options in (
            {"front": "small"}, {"front": "big"}, {"front": "v1"}, {"front": "v1-original"}, {"recovery": "none"},
            {"recovery": "released"}, {"form": "released", "recovery": "released"}, {"form": "correction"},
        )
    ),
    *(
        ("mmcanet", options)
        for options in (
            {"decoder": "high"}, {"cross_attention": False}, {"aspp": False}, {"literal_attention": True},
            {"scale_scores": True}, {"attention_pool": 2}, {"sar_bands": 0}, {"channels_per_group": 4},
            {"residual": False}, {"bands": 13},
        )
    ),
    *((name, {"sar_bands": 0}) for name in ("mpir1", "mpir2", "mpir3", "mpir4")),
]  # fmt: skip
"""Options of the papers' ablations, of other readings, and of released weights."""

UNUSED = {"correction": "front.attention.layers.0."}
"""The author's correction keeps the last attention layer's result only, see :class:`models.senseiv2.Form`."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SWITCHES, ids=str)
def test_every_switch_keeps_the_contract(name, options, tmp_path):
    net = fresh(name, **options)
    unused = UNUSED.get(options.get("form"), "none")
    assert [key for key in dead_parameters(net) if not key.startswith(unused)] == []
    net = fresh(name, **options).eval()
    given = inputs(net)
    with torch.no_grad():
        assert net(*inputs(net, 2, (45, 70))).shape[-2:] == (45, 70)
        out = net(*given)
        torch.testing.assert_close(net(*given), out, rtol=0, atol=0)
        alone = net(*(part[1:] for part in given))
        apart = bool((out[1:] - alone).abs().max() <= 2e-4 * out.abs().max())
    assert apart != (options.get("form") == "released" and name == "sensei")  # released: images attend to each other
    export(net, card_of(name, net, **options), tmp_path)  # compares ONNX and torch at several sizes


def test_unknown_names_are_told():
    with pytest.raises(ModelError, match="no model called 'resnet'"):
        models.create("resnet")
    with pytest.raises(ModelError, match="does not take a fixed number of bands"):
        models.create("sensei", segmenter="senseiv2-unet")
