"""SS2D and its scan order against VMamba."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from unclouded.nn.ss2d import SS2D, PixelNorm, along  # noqa: E402

LAST = ("v0_c16_8x8", "v0_c24_6x10", "v0_c32_7x5_r1", "v05_noz_c16_6x9")
TOLERANCE = {torch.float64: (1e-11, 1e-11), torch.float32: (1e-5, 2e-5)}


def load(vectors, case, dtype, prefix=""):
    row = vectors.meta["models"][case]["arguments"]
    gate = row.get("forward_type") != "v05_noz"
    state, expand = row.get("d_state", row.get("ssm_d_state")), row["ssm_ratio"]
    block = SS2D(row.get("d_model", row.get("hidden_dim")), expand, state, gate=gate)
    weights = {key: torch.from_numpy(value) for key, value in vectors.weights(case).items()}
    inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    block.load_state_dict(inside)
    return block.to(dtype).eval(), weights


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", [*LAST, "v05_c16_6x9_first"])
def test_block_and_what_is_inside(vectors, case, dtype):
    file = vectors("vmamba_ss2d")
    block, _ = load(file, case, dtype)
    seen = {}
    block.conv2d.register_forward_hook(lambda module, given, out: seen.update(conv=out))
    block.out_norm.register_forward_hook(lambda module, given, out: seen.update(merged=given[0], normed=out))
    image = torch.from_numpy(file.input(case)).to(dtype)
    if case in LAST:
        image = image.permute(0, 3, 1, 2)
    with torch.no_grad():
        out = block(image)
    file.check(f"{case}:conv", seen["conv"], *TOLERANCE[dtype])
    for name, value in (("merged", seen["merged"]), ("normed", seen["normed"]), ("out", out)):
        shape = file.meta["tensors"][f"{case}:{name}"]["shape"]
        if case in LAST:
            value = value.permute(0, 2, 3, 1)
        file.check(f"{case}:{name}", value.reshape(shape), *TOLERANCE[dtype])
    assert sum(p.numel() for p in block.parameters()) == file.meta["models"][case]["parameters"]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_residual_block(vectors, dtype):
    file = vectors("vmamba_ss2d")
    block, weights = load(file, "VSSBlock", dtype, "op.")
    norm = PixelNorm(16)
    norm.load_state_dict({"weight": weights["norm.weight"], "bias": weights["norm.bias"]})
    x = torch.from_numpy(file.input("VSSBlock")).to(dtype).permute(0, 3, 1, 2)
    with torch.no_grad():
        out = x + block(norm.to(dtype)(x))
    file.check("VSSBlock:out", out.permute(0, 2, 3, 1), *TOLERANCE[dtype])


def test_scan_order(vectors):
    order = vectors("vmamba_ss2d").arrays["scan_order_3x4"]
    pixels = torch.arange(12).view(1, 1, 3, 4)
    assert np.array_equal(np.stack([along(pixels, k)[0, 0].numpy() for k in range(4)]), order)
