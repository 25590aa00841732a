"""Comparison networks: parameter counts and outputs of the libraries, through this project's call."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unclouded import models

_NEEDED = ("transformers", "segmentation_models_pytorch", "torchvision")
pytestmark = pytest.mark.skipif(not all(map(find_spec, _NEEDED)), reason="needs the extra 'baselines'")

COUNTS = [
    ("unet-mobilenetv2", "smp.Unet/mobilenet_v2", {}),
    ("unet-mobilenetv2", "smp.Unet/mobilenet_v2 (3 bands)", {"bands": 3}),
    ("unet-resnet101", "smp.Unet/resnet101", {}),
    ("deeplabv3plus-mobilenetv2", "smp.DeepLabV3Plus/mobilenet_v2", {}),
    ("deeplabv3plus-resnet34", "smp.DeepLabV3Plus/resnet34", {}),
    ("deeplabv3plus-resnet50", "smp.DeepLabV3Plus/resnet50", {}),
    ("deeplabv3plus-resnet101", "smp.DeepLabV3Plus/resnet101", {}),
    ("unetplusplus-mobilenetv2", "smp.UnetPlusPlus/mobilenet_v2", {}),
    ("unetplusplus-resnet101", "smp.UnetPlusPlus/resnet101", {}),
    ("upernet-resnet50", "smp.UPerNet/resnet50", {}),
    ("segformer-b0", "SegFormer/B0", {}),
    ("segformer-b2", "SegFormer/B2", {}),
    ("segformer-b5", "SegFormer/B5", {}),
    ("segformer-b3", "SegFormer/B3 (3 bands)", {"bands": 3}),
    ("segformer-b3-narrow", "SegFormer/B3, decoder width 512 (3 bands)", {"bands": 3}),
    ("upernet-swin-t", "UPerNet/Swin-T with auxiliary head", {}),
    ("mask2former-swin-t", "Mask2Former/Swin-T (4 labels)", {}),
    ("mask2former-swin-t", "Mask2Former/Swin-T (3 bands, 150 labels)", {"bands": 3, "classes": 150}),
]


@pytest.mark.parametrize(("name", "row", "options"), COUNTS)
def test_parameter_count(shared_reference, name, row, options):
    known = json.loads((shared_reference / "complexity.json").read_text())["models"][row]
    with torch.device("meta"):
        net = models.create(name, **options)
    assert sum(p.numel() for p in net.parameters()) == known["parameters"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("unet-mobilenetv2", "smp.Unet/mobilenet_v2"),
        ("deeplabv3plus-resnet34", "smp.DeepLabV3Plus/resnet34"),
        ("segformer-b0", "SegFormer/B0"),
        ("segformer-b2", "SegFormer/B2"),
    ],
)
def test_multiply_adds_at_512_pixels(shared_reference, name, row):
    known = json.loads((shared_reference / "complexity.json").read_text())["models"][row]
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        models.create(name).eval()(torch.empty(1, 13, 512, 512))
    assert counter.get_total_flops() / 2e9 == pytest.approx(known["torch_gmac"], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "row"),
    [("unet-mobilenetv2", "unet_mobilenet_v2"), ("deeplabv3plus-resnet34", "deeplabv3plus_resnet34")],
)
@pytest.mark.parametrize(
    ("dtype", "bounds"), [(torch.float64, {}), (torch.float32, {"rel_l2": 1e-5, "largest": 2e-5})], ids=str
)
def test_outputs_of_the_library(vectors, name, row, dtype, bounds):
    reference = vectors("smp_networks")
    net = models.create(name)
    state = {f"net.{key}": torch.from_numpy(value) for key, value in reference.weights(row).items()}
    missing, strange = net.load_state_dict(state, strict=False)
    assert not strange
    assert [key for key in missing if "num_batches" not in key and key not in ("low", "gain")] == []
    net.to(dtype).eval()
    image = torch.from_numpy(reference.input(row)).to(dtype)
    with torch.no_grad():
        for index, feature in enumerate(net.net.encoder(image)[1:], start=1):
            reference.check(f"{row}:feature{index}", feature, **bounds)
        reference.check(f"{row}:out", net(image), **bounds)
