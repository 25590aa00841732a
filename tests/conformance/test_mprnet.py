"""Channel-attention blocks and the original-resolution network against the reference, value by value.

The reference's supervised attention (``sam:`` in the vectors) has no part in MMCANet's paper, and none here.
"""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unclouded.nn.orsnet import ChannelAttentionBlock, Lift, OriginalResolutionBlock, ORSNet

WIDTHS = (40, 60, 80)
WITHIN = {torch.float64: {}, torch.float32: {"rel_l2": 1e-5, "largest": 2e-5}}
SLOPE = ".body.1.weight"  # the reference repeats the shared slope in every block


def cab_name(key):
    """Our name of an entry of a channel-attention block."""
    return {
        "body.0.weight": "first.weight",
        "body.2.weight": "second.weight",
        "CA.conv_du.0.weight": "squeeze.weight",
        "CA.conv_du.2.weight": "excite.weight",
    }[key]


def orb_name(key):
    """Our name of an entry of an original-resolution block: its last body entry is the convolution."""
    index, rest = re.fullmatch(r"body\.(\d+)\.(.*)", key).groups()
    return "last.weight" if rest == "weight" else f"blocks.{index}.{cab_name(rest)}"


def orsnet_name(key):
    """Our name of an entry of ORSNet: up_* are the doublings of the second and third lift, conv_* their projections."""
    if match := re.fullmatch(r"orb(\d)\.(.*)", key):
        return f"blocks.{int(match[1]) - 1}.{orb_name(match[2])}"
    if match := re.fullmatch(r"conv_(enc|dec)(\d)\.weight", key):
        return f"from_{side(match[1])}.{int(match[2]) - 1}.project.weight"
    match = re.fullmatch(r"up_(enc|dec)(\d)\.(?:(\d)\.)?up\.1\.weight", key)
    return f"from_{side(match[1])}.{match[2]}.steps.{match[3] or 0}.weight"


def side(short):
    return {"enc": "encoder", "dec": "decoder"}[short]


def split(weights, rename):
    """Weights under our names, and the slope."""
    slopes = [value for key, value in weights.items() if f".{key}".endswith(SLOPE)]
    own = {rename(key): torch.from_numpy(value) for key, value in weights.items() if not f".{key}".endswith(SLOPE)}
    return own, torch.from_numpy(slopes[0])


@pytest.fixture(scope="module")
def reference(vectors):
    return vectors("mprnet")


def given(reference, name, dtype):
    return torch.from_numpy(reference.input(name)).to(dtype)


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize(
    ("name", "block", "rename"),
    [("cab", ChannelAttentionBlock(16), cab_name), ("orb", OriginalResolutionBlock(16), orb_name)],
    ids=["cab", "orb"],
)
def test_block(reference, name, block, rename, dtype):
    own, slope = split(reference.weights(name), rename)
    block.load_state_dict(own)
    assert size(block) + 1 == reference.meta["models"][name]["parameters"]
    out = block.to(dtype)(given(reference, name, dtype), slope.to(dtype))
    reference.check(f"{name}:out", out, **WITHIN[dtype])


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
def test_orsnet(reference, dtype):
    paths = [WIDTHS[: level + 1][::-1] for level in range(3)]
    net = ORSNet(56, paths, paths)
    assert size(net) == reference.meta["models"]["orsnet"]["parameters"]
    own, slope = split(reference.weights("orsnet"), orsnet_name)
    net.load_state_dict({**own, "slope": slope})
    net.to(dtype)
    after = []
    for block in net.blocks:  # the reference's intermediates are the results of the blocks alone
        block.register_forward_hook(lambda _module, _inputs, output: after.append(output))
    encoder = [given(reference, f"orsnet:enc{level}", dtype) for level in (1, 2, 3)]
    decoder = [given(reference, f"orsnet:dec{level}", dtype) for level in (1, 2, 3)]
    out = net(given(reference, "orsnet:x", dtype), encoder, decoder)
    for number, value in enumerate(after, 1):
        reference.check(f"orsnet:orb{number}", value, **WITHIN[dtype])
    reference.check("orsnet:out", out, **WITHIN[dtype])


class UNetOfBlocks(nn.Module):
    """The reference's encoder and decoder, put together from our blocks to check them at several widths."""

    def __init__(self, encoder, decoder, dtype):
        super().__init__()
        self.dtype = dtype
        self.blocks = nn.ModuleDict()
        self.slope = None
        self.scale = {}
        for weights in (encoder, decoder):
            for key in weights:
                if match := re.fullmatch(r"((?:encoder|decoder)_level\d\.\d|skip_attn\d)\..*", key):
                    self.add(match[1], weights)
                elif match := re.fullmatch(r"(down\d\d|up\d\d)\..*", key):
                    self.scale[match[1]] = torch.from_numpy(weights[key]).to(dtype)

    def add(self, name, weights):
        own = {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}
        own, slope = split(own, cab_name)
        self.slope = slope.to(self.dtype)
        block = ChannelAttentionBlock(own["first.weight"].shape[0])
        block.load_state_dict(own)
        self.blocks[name.replace(".", "_")] = block.to(self.dtype)

    def level(self, name, x):
        for index in (0, 1):
            x = self.blocks[f"{name}_{index}"](x, self.slope)
        return x

    def resize(self, name, x, factor):
        return F.conv2d(F.interpolate(x, scale_factor=factor, mode="bilinear"), self.scale[name])

    def encode(self, x):
        first = self.level("encoder_level1", x)
        second = self.level("encoder_level2", self.resize("down12", first, 0.5))
        return first, second, self.level("encoder_level3", self.resize("down23", second, 0.5))

    def decode(self, first, second, third):
        third = self.level("decoder_level3", third)
        joined = self.resize("up32", third, 2) + self.blocks["skip_attn2"](second, self.slope)
        second = self.level("decoder_level2", joined)
        joined = self.resize("up21", second, 2) + self.blocks["skip_attn1"](first, self.slope)
        return self.level("decoder_level1", joined), second, third


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
def test_blocks_in_an_encoder_and_a_decoder(reference, dtype):
    net = UNetOfBlocks(reference.weights("encoder"), reference.weights("decoder"), dtype)
    for number, value in enumerate(net.encode(given(reference, "encoder:x", dtype)), 1):
        reference.check(f"encoder:level{number}", value, **WITHIN[dtype])
    # The decoder was run on these.
    encoded = [given(reference, f"orsnet:enc{level}", dtype) for level in (1, 2, 3)]
    for number, value in enumerate(net.decode(*encoded), 1):
        reference.check(f"decoder:level{number}", value, **WITHIN[dtype])


def test_lift_is_doubling_then_convolution():
    """The order of the two is swapped for speed; the result is that of the printed order."""
    torch.manual_seed(0)
    lift = Lift((6, 5, 4), 3).double()
    x = torch.randn(1, 6, 5, 4, dtype=torch.float64)
    y = x
    for step in lift.steps:
        y = step(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False))
    torch.testing.assert_close(lift(x), lift.project(y), rtol=1e-12, atol=1e-12)
