"""Kernel basis attention, its block and a small network of such blocks against the reference, value by value."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unclouded.nn.kernel_basis import MFFBlock, kernel_basis_attention

# Reference's name: ours. Layer scales and bases have a different shape, see `translate`.
NAMES = {
    "w": "basis_weight",
    "b": "basis_bias",
    "ga1": "basis_scale",
    "attgamma": "select_scale",
    "beta": "fuse_scale",
    "gamma": "feed_scale",
    "norm1": "norm",
    "norm2": "feed_norm",
    "sca.1": "channel_attention",
    "conv11.0": "local_in",
    "conv11.1": "local",
    "conv1": "basis_in",
    "conv21": "basis_local",
    "conv2.0": "select.0",
    "conv2.2": "select.2",
    "conv211": "select_linear",
    "conv3": "fuse",
    "conv4": "feed.0",
    "conv5": "feed.2",
}


def translate(weights, block):
    """The reference's state dict of a block under our names and shapes."""
    shapes = {key: value.shape for key, value in block.state_dict().items()}
    ours = {}
    for key, value in weights.items():
        stem, _, leaf = key.rpartition(".")
        name = f"{NAMES[stem]}.{leaf}" if stem else NAMES[leaf]
        ours[name] = torch.from_numpy(value).reshape(shapes[name])
    return ours


WITHIN = {torch.float64: {}, torch.float32: {"rel_l2": 1e-5, "largest": 2e-5}}


def load(block, weights, dtype=torch.float64):
    block.load_state_dict(translate(weights, block))
    return block.to(dtype).eval()


@pytest.fixture(scope="module")
def reference(vectors):
    return vectors("kbnet")


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", ["k1", "k2", "k5"])
def test_attention_and_its_gradients(reference, case, recompute, dtype):
    facts = reference.meta["kba_arguments"][case]
    x, a, w, b = (
        torch.from_numpy(reference.input(f"{case}:{name}")).to(dtype).requires_grad_()
        for name in ("x", "att", "w", "b")
    )
    group, side = facts["channels"] // facts["groups"], facts["kernel"]
    weight = w[0].reshape(facts["nset"], facts["channels"], group, side, side)
    y = kernel_basis_attention(x, a, weight, b[0], recompute=recompute)
    reference.check(f"kba:{case}:y", y, **WITHIN[dtype])
    (y.flatten() * torch.arange(y.numel(), dtype=torch.float64).cos()).sum().backward()
    for name, value in (("x", x), ("att", a), ("w", w), ("b", b)):
        reference.check(f"kba:{case}:gradient_{name}", value.grad, **WITHIN[dtype])


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("case", ["c16_light_12x10", "c16_12x10", "c32_light_8x8", "c64_light_6x5"])
def test_block(reference, case, dtype):
    facts = reference.meta["models"][f"block:{case}"]
    light = facts["arguments"]["lightweight"]
    block = MFFBlock(facts["arguments"]["c"], kernel=3 if light else 5, channels_per_group=1 if light else 4)
    assert sum(p.numel() for p in block.parameters()) == facts["parameters"]
    load(block, reference.weights(f"block:{case}"), dtype)
    x = torch.from_numpy(reference.input(f"block:{case}")).to(dtype)
    normal = block.norm(x)
    reference.check(f"block:{case}:norm1", normal, **WITHIN[dtype])
    reference.check(f"block:{case}:attention_coefficients", block.coefficients(normal), **WITHIN[dtype])
    reference.check(f"block:{case}:out", block(x), **WITHIN[dtype])


class SmallKBNet(nn.Module):
    """The published network at width 16 with two levels, put together from our block."""

    def __init__(self, weights, dtype):
        super().__init__()
        self.plain = {
            key: torch.from_numpy(value).to(dtype)
            for key, value in weights.items()
            if key.split(".")[0] in ("intro", "ending", "ups", "downs")
        }
        self.blocks = nn.ModuleDict()
        for name, width in (
            ("encoders.0.0", 16),
            ("encoders.1.0", 32),
            ("encoders.1.1", 32),
            ("middle_blks.0", 64),
            ("decoders.0.0", 32),
            ("decoders.1.0", 16),
        ):
            own = {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}
            self.blocks[name.replace(".", "_")] = load(MFFBlock(width), own, dtype)

    def conv(self, name, x, **options):
        return F.conv2d(x, self.plain[f"{name}.weight"], self.plain.get(f"{name}.bias"), **options)

    def forward(self, image):
        rows, cols = image.shape[-2:]
        image = F.pad(image, (0, -cols % 4, 0, -rows % 4))
        fine = self.blocks["encoders_0_0"](self.conv("intro", image, padding=1))
        coarse = self.conv("downs.0", fine, stride=2)
        coarse = self.blocks["encoders_1_1"](self.blocks["encoders_1_0"](coarse))
        x = self.blocks["middle_blks_0"](self.conv("downs.1", coarse, stride=2))
        x = self.blocks["decoders_0_0"](F.pixel_shuffle(self.conv("ups.0.0", x), 2) + coarse)
        x = self.blocks["decoders_1_0"](F.pixel_shuffle(self.conv("ups.1.0", x), 2) + fine)
        return (self.conv("ending", x, padding=1) + image)[..., :rows, :cols]


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
def test_network_of_blocks(reference, dtype):
    net = SmallKBNet(reference.weights("net:w16_30x21"), dtype)
    image = torch.from_numpy(reference.input("net:w16_30x21")).to(dtype)
    reference.check("net:w16_30x21:out", net(image), **WITHIN[dtype])


@pytest.mark.parametrize("light", [True, False])
def test_parameters_of_the_published_network(reference, light):
    """KBNet-s: width 64, blocks 2/2/4/8, middle 12, decoder 2/2/2/2 (140.2 and 142.0 million parameters)."""
    options = {"kernel": 3 if light else 5, "channels_per_group": 1 if light else 4}

    def size(module):
        return sum(p.numel() for p in module.parameters())

    widths = [64, 128, 256, 512]
    with torch.device("meta"):
        blocks = {width: size(MFFBlock(width, **options)) for width in (*widths, 1024)}
        total = sum(size(nn.Conv2d(a, b, 3)) for a, b in ((3, 64), (64, 3)))
        total += sum(size(nn.Conv2d(width, 2 * width, 2)) + 8 * width * width for width in widths)
    total += sum((count + 2) * blocks[width] for count, width in zip((2, 2, 4, 8), widths, strict=True))
    total += 12 * blocks[1024]
    name = "KBNet_s_default_lightweight" if light else "KBNet_s_default"
    assert total == reference.meta["models"][name]["parameters"]
