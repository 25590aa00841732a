"""What has to hold for the SEnSeI-v2 encoder whatever its weights."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import InputError, ModelError
from unclouded.models.senseiv2 import FORMS, PRESETS, Recovery, SEnSeIv2
from unclouded.nn.band_sines import band_sines


def bands(n=2, b=5, d=79, side=12, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(n, b, side, side + 3, generator=rng, dtype=dtype)
    return image, torch.randn(n, b, d, generator=rng, dtype=dtype)


def net_of(preset="medium", seed=1, **options):
    torch.manual_seed(seed)
    return SEnSeIv2(preset=preset, **{"channels": None, "descriptor": 3 if preset == "v1" else 79, **options}).eval()


@pytest.mark.parametrize("preset", list(PRESETS))
@given(order=st.permutations(range(5)))
@settings(max_examples=5, deadline=None)
def test_order_of_bands_changes_nothing(preset, order):
    net = net_of(preset).double()
    image, descriptors = bands(d=3 if preset == "v1" else 79, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(image[:, order], descriptors[:, order]), net(image, descriptors))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_padding_and_company_change_nothing(preset):
    net = net_of(preset).double()
    image, descriptors = bands(n=3, d=3 if preset == "v1" else 79, dtype=torch.float64)
    descriptors[0, 3:] = 0.0
    with torch.no_grad():
        together = net(image, descriptors)
        alone = net(image[:1, :3], descriptors[:1, :3])
        image[0, 3:] = 1e3  # whatever stands in a padding band
        repeated = net(image, descriptors)
    torch.testing.assert_close(together[:1], alone)
    torch.testing.assert_close(together, repeated)


def test_released_form_does_depend_on_company():
    net = net_of(form="released").double()
    image, descriptors = bands(n=3, dtype=torch.float64)
    with torch.no_grad():
        assert (net(image, descriptors)[:1] - net(image[:1], descriptors[:1])).abs().max() > 1e-3


def test_the_embedding_is_the_mean_of_sines_over_real_bands():
    net = net_of().double()
    image, descriptors = bands(dtype=torch.float64)
    descriptors[1, 2] = 0.0
    with torch.no_grad():
        features, mask = net.describe(descriptors)
        got = net.embed(image, features, mask)
        for index, real in enumerate(mask):
            terms = [
                net.gain(features)[index, b, :, None, None]
                * torch.sin(
                    net.frequency(features)[index, b, :, None, None] * image[index, b]
                    + net.phase(features)[index, b, :, None, None]
                )
                for b in range(5)
                if real[b]
            ]
            torch.testing.assert_close(got[index], torch.stack(terms).mean(dim=0))


def test_an_image_of_nothing_but_padding_gives_numbers():
    net = net_of()
    image, descriptors = bands()
    descriptors[0] = 0.0
    out = net(image, descriptors)
    out.mean().backward()
    assert torch.isfinite(out).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("form", list(FORMS))
def test_gradients_reach_every_parameter(preset, form):
    net = net_of(preset, form=form).train()
    image, descriptors = bands(n=3, d=3 if preset == "v1" else 79)
    out = net(image, descriptors)
    (out * torch.linspace(-1, 1, out[0].numel()).reshape(out[0].shape)).sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    if form == "correction" and net.attention is not None:  # only its last attention layer acts
        last = len(net.attention.layers) - 1
        dead = [name for name in dead if not name.startswith("attention") or f"layers.{last}." in name]
    assert dead == []


def test_gradients_of_the_summed_sines():
    image, *rest = (
        torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True) for size in ((4, 5), (6,), (6,), (6,))
    )
    assert torch.autograd.gradcheck(band_sines, (image, *rest))


def test_summed_sines_in_many_chunks(monkeypatch):
    image, _ = bands(b=3)
    frequency, phase, gain = (torch.randn(2, 3, 4) for _ in range(3))
    gain[0, 1] = 0.0
    whole = band_sines(image, frequency, phase, gain)
    monkeypatch.setattr("unclouded.nn.band_sines._CHUNK", 4 * 7)
    torch.testing.assert_close(band_sines(image, frequency, phase, gain), whole)
    argument = frequency[..., None, None] * image[:, :, None] + phase[..., None, None]
    torch.testing.assert_close(whole, (gain[..., None, None] * argument.sin()).sum(dim=1))


def test_reduced_precision_stays_out_of_the_sine():
    net = net_of()
    image, descriptors = bands()
    with torch.no_grad():
        plain = net(image, descriptors)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(image, descriptors)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize("preset", ["medium", "small", "v1"])
def test_onnx_takes_any_number_of_bands_and_pixels(preset, tmp_path):
    net, d = net_of(preset), 3 if preset == "v1" else 79
    graph = io.BytesIO()
    axes = {"image": {0: "n", 1: "b", 2: "h", 3: "w"}, "descriptors": {0: "n", 1: "b"}, "out": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        net, bands(d=d), graph, input_names=["image", "descriptors"], output_names=["out"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])
    for n, b, side in ((1, 2, 8), (3, 13, 17)):
        image, descriptors = bands(n, b, d, side)
        descriptors[0, -1] = 0.0
        got = session.run(None, {"image": image.numpy(), "descriptors": descriptors.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(got, net(image, descriptors).numpy(), atol=1e-4)


def test_wrong_sizes_are_told():
    net = net_of()
    image, descriptors = bands()
    with pytest.raises(InputError, match="one descriptor for every band"):
        net(image, descriptors[:, :4])
    with pytest.raises(ModelError, match="no preset called 'huge'"):
        SEnSeIv2(preset="huge")
    with pytest.raises(ModelError, match="SEnSeI-v1 takes 3 entries"):
        SEnSeIv2(preset="v1", descriptor=79)


def test_recovery_learns_the_values_of_bands_and_ignores_padding():
    torch.manual_seed(0)
    image, descriptors = bands(n=2, b=3, side=40)
    embedding = image.repeat(1, 2, 1, 1)  # holds what is to be recovered
    module = Recovery(channels=6)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    first = module.loss(embedding, image, descriptors).item()
    for _ in range(150):
        optimiser.zero_grad()
        loss = module.loss(embedding, image, descriptors)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2 * first
    descriptors[:, 2] = 0.0
    kept = module.loss(embedding, image, descriptors)
    image[:, 2] = 100.0
    torch.testing.assert_close(module.loss(embedding, image, descriptors), kept)


def test_recovery_looks_at_every_tenth_pixel():
    _, descriptors = bands(side=41)
    assert Recovery(6)(torch.rand(2, 6, 41, 44), descriptors).shape == (2, 5, 5, 5)
    assert Recovery(6, stride=1)(torch.rand(2, 6, 41, 44), descriptors).shape == (2, 5, 41, 44)
