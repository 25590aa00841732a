"""MSCloudCAM against the released code, stage by stage."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unclouded.models.mscloudcam import MSCloudCAM, convert


def compare(reference, dtype, **bounds):
    """Both wirings share every weight, so that one backbone pass serves both."""
    net = MSCloudCAM()
    state = convert({k: torch.from_numpy(v) for k, v in reference.weights("Swin_CrossAttn_4W").items()})
    missing, strange = net.load_state_dict(state, strict=False)
    assert not strange
    assert all("num_batches" in key for key in missing)
    net.to(dtype).eval()
    image = torch.from_numpy(reference.input("image")).to(dtype)
    with torch.no_grad():
        features = net.swin(image)
        for index, feature in enumerate(features):
            reference.check(f"f{index + 1}", feature, **bounds)
        deep, shallow = net.deep(features[3]), net.shallow(features[2])
        reference.check("aspp", deep, **bounds)
        reference.check("psp", shallow, **bounds)
        both = torch.cat([F.interpolate(deep, shallow.shape[2:], mode="bilinear"), shallow], dim=1)
        reference.check("cat", both, **bounds)
        attended = net.cam(both, shallow)
        reference.check("cam", attended, **bounds)
        net.swin.forward = lambda _: features
        for fusion, prefix in (("cam", "attended"), ("bypass", "bypass")):
            net.fusion = fusion
            z = net.bottleneck(attended if fusion == "cam" else both)
            reference.check(f"{prefix}:bottleneck", z, **bounds)
            reference.check(f"{prefix}:eca", z * net.refine.channel(z), **bounds)
            x = net.refine(z)
            reference.check(f"{prefix}:refined", x, **bounds)
            for index, stage in enumerate(net.decoder):
                x = stage(x)
                reference.check(f"{prefix}:dec{index + 1}", x, **bounds)
            maps = net.outputs(image)
            for name, stored in (("logits", "out"), ("aux1", "aux1"), ("aux2", "aux2")):
                reference.check(f"{prefix}:{stored}", maps[name], **bounds)
            torch.testing.assert_close(net(image), maps["logits"])


def test_every_stage_at_256_pixels(vectors):
    compare(vectors("mscloudcam_c13_256"), torch.float32, rel_l2=1e-5, largest=2e-5)


@pytest.mark.slow
def test_every_stage_at_256_pixels_in_double_precision(vectors):
    compare(vectors("mscloudcam_c13_256"), torch.float64, rel_l2=1e-10, largest=1e-10)


@pytest.mark.slow
def test_every_stage_at_512_pixels(vectors):
    compare(vectors("mscloudcam_c13_512"), torch.float32, rel_l2=1e-5, largest=2e-5)


@pytest.mark.parametrize(("bands", "parameters"), [(13, 47_446_157), (11, 47_443_085)])
def test_parameter_count(bands, parameters):
    with torch.device("meta"):
        net = MSCloudCAM(bands)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_cross_attention_costs_what_the_published_complexity_leaves_out():
    """Q 0.60, K and V 0.30 each, two attention products 1.61, output 0.60 G multiply-adds at 512 pixels."""
    cost = {}
    for fusion in ("cam", "bypass"):
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            MSCloudCAM(fusion=fusion).eval()(torch.empty(1, 13, 512, 512))
        cost[fusion] = counter.get_total_flops() / 2e9
    assert cost["cam"] - cost["bypass"] == pytest.approx(3.42, abs=0.005)
    # Convolutions, products and attention; the published 38.96 counts normalisation too, but not fused attention.
    assert cost["bypass"] == pytest.approx(37.985, abs=1e-3)
