"""SEnSeI-v2 + SegFormer + recovery module against the released code, with weights under their published names."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from unclouded import models
from unclouded.descriptors import PERCENTILES, sensei_descriptor
from unclouded.models.senseiv2_released import convert
from unclouded.scene import Band

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra 'baselines'")

SENTINEL2 = [
    (425, 461), (446, 542), (537.5, 582.5), (645.5, 684.5), (694, 714), (731, 749), (767, 795), (763.5, 904.5),
    (847.5, 880.5), (930.5, 957.5), (1337, 1413), (1541, 1683), (2074, 2314),
]  # fmt: skip


@pytest.mark.parametrize("size", ["B0", pytest.param("B2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_output_equals_the_reference(vectors, size, dtype):
    reference = vectors("senseiv2_segformer")
    name = f"FullModel_{size}"
    net = models.create(f"senseiv2-segformer-{size.lower()}", form="released", recovery="released")
    state = convert({key: torch.from_numpy(value) for key, value in reference.weights(name).items()})
    missing, strange = net.load_state_dict(state, strict=False)
    assert not strange
    assert all("num_batches" in key for key in missing)
    assert sum(p.numel() for p in net.parameters()) == reference.meta["models"][name]["parameters"]
    net.to(dtype).eval()
    image = reference.input(size)
    descriptors = torch.from_numpy(_descriptors(size, image))[None].to(dtype)
    image = torch.from_numpy(image).to(dtype)
    with torch.no_grad():
        embedding, features = net.front.encode(image, descriptors)
        quarter = net.segmenter.net(pixel_values=embedding).logits
        p = net(image, descriptors).softmax(dim=1)
        recovered = net.recovery(embedding, features)
    bounds = {} if dtype == torch.float64 else {"rel_l2": 1e-5, "largest": 2e-5}
    reference.check(f"{size}:embedding", embedding, **bounds)
    reference.check(f"{size}:logits_quarter", quarter, **bounds)
    reference.check(f"{size}:probabilities", p, **bounds)
    reference.check(f"{size}:recovered", recovered, **bounds)


def _descriptors(size, image):
    edges = SENTINEL2 if size == "B2" else [SENTINEL2[row] for row in (3, 2, 1, 7)]  # red, green, blue, near infrared
    rows = np.stack([sensei_descriptor(Band("b", None, low, high, 10.0), "nm") for low, high in edges])
    percentiles = np.percentile(image[0].astype(np.float64), PERCENTILES, axis=(1, 2)).T
    return np.concatenate([rows, percentiles], axis=1)  # in double precision, as the reference's
