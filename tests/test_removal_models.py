"""DSen2-CR, its loss, and the fill-and-refine network of the default removal model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unclouded import models
from unclouded.errors import ModelError
from unclouded.losses import carl
from unclouded.models.dsen2cr import DSen2CR
from unclouded.models.fill_unet import FillUNet, fill


def test_published_network_has_the_parameters_that_its_structure_gives():
    net = DSen2CR()
    first, block, last = 15 * 256 * 9 + 256, 2 * (256 * 256 * 9 + 256), 256 * 13 * 9 + 13
    assert sum(p.numel() for p in net.parameters()) == first + 16 * block + last == 18_947_341


def test_without_learned_change_dsen2cr_returns_the_cloudy_image():
    net = DSen2CR(bands=3, features=8, blocks=2)
    torch.nn.init.zeros_(net.last.weight)
    image = torch.rand(1, 3, 20, 21)
    torch.testing.assert_close(net(image, torch.rand(1, 2, 20, 21)), image)


def test_residuals_of_dsen2cr_are_scaled():
    plain, scaled = (DSen2CR(bands=3, features=8, blocks=1, scale=scale) for scale in (1.0, 0.1))
    scaled.load_state_dict(plain.state_dict())
    x = torch.rand(1, 8, 6, 6)
    torch.testing.assert_close((scaled.blocks(x) - x) * 10, plain.blocks(x) - x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["dsen2cr", "fill-unet"])
def test_other_bands_than_those_of_the_network_are_refused(name):
    net = models.create(name, bands=3)
    with pytest.raises(ModelError, match=r"image has the shape \(1, 4, 32, 32\)"):
        net(torch.zeros(1, 4, 32, 32), torch.zeros(1, 2, 32, 32))
    with pytest.raises(ModelError, match=r"radar image has the shape \(1, 1, 32, 32\)"):
        net(torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))


def test_adaptive_loss_compares_clear_ground_with_the_input():
    rng = torch.Generator().manual_seed(1)
    prediction, target, cloudy = (torch.rand(2, 3, 8, 8, generator=rng) for _ in range(3))
    none, all_ = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    plain = (prediction - target).abs().mean()
    torch.testing.assert_close(carl(prediction, target, cloudy, all_), 2 * plain)
    torch.testing.assert_close(
        carl(prediction, target, cloudy, none, weight=0.0), (prediction - cloudy).abs().mean()
    )
    half = none.clone()
    half[..., :4] = 1
    expected = torch.cat([(prediction - target)[..., :4], (prediction - cloudy)[..., 4:]], -1).abs().mean() + plain
    torch.testing.assert_close(carl(prediction, target, cloudy, half), expected)


def test_fill_keeps_flat_ground_flat_and_follows_slopes():
    known = torch.ones(1, 1, 96, 96)
    known[..., 30:60, 30:60] = 0
    flat = fill(0.4 * known, known)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.4), atol=2e-3, rtol=0)
    slope = torch.linspace(0, 1, 96).expand(1, 1, 96, 96)
    found = fill(slope * known, known)[..., 30:60, 30:60]
    assert (found - slope[..., 30:60, 30:60]).abs().max() < 0.15
    assert bool((found[..., 25:].mean() - found[..., :5].mean()) > 0.1)


def test_what_is_marked_does_not_leak_into_the_fill():
    known = torch.ones(1, 1, 64, 64)
    known[..., 20:40, 20:40] = 0
    one, other = torch.rand(1, 2, 64, 64), torch.rand(1, 2, 64, 64)
    other = torch.where(known > 0, one, other)
    torch.testing.assert_close(fill(one * known, known), fill(other * known, known), rtol=0, atol=0)


def _net(**options) -> FillUNet:
    torch.manual_seed(0)
    return FillUNet(bands=3, widths=(8, 8, 16), **options).eval()


def _inputs(rows=64, cols=96):
    rng = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, rows, cols, generator=rng) * 0.4 + 0.05
    sar = torch.rand(1, 2, rows, cols, generator=rng) * 0.9 + 0.05
    hidden = torch.zeros(1, 2, rows, cols)
    hidden[..., 10:30, 20:50] = 1
    return image, sar, hidden


def test_what_thick_cloud_covers_has_no_say():
    image, sar, hidden = _inputs()
    cloudy = torch.where(hidden[:, :1] > 0, 0.9, image)
    with torch.no_grad():
        torch.testing.assert_close(_net()(image, sar, hidden), _net()(cloudy, sar, hidden), rtol=0, atol=1e-6)
        thin = hidden.clone()
        thin[:, 1] = 0
        assert (_net()(image, sar, thin) - _net()(cloudy, sar, thin)).abs().max() > 1e-2


def test_missing_radar_is_the_same_as_none():
    image, sar, hidden = _inputs()
    with torch.no_grad():
        net = _net()
        torch.testing.assert_close(net(image, None, hidden), net(image, torch.zeros_like(sar), hidden), rtol=0, atol=0)
        assert (net(image, sar, hidden) - net(image, None, hidden)).abs().max() > 1e-4


def test_a_missing_band_does_not_change_others_by_its_absence_in_the_fill():
    image, sar, hidden = _inputs()
    image[:, 1] = 0
    with torch.no_grad():
        out = _net().outputs(image, sar, hidden)
    assert torch.isfinite(out["image"]).all()
    assert torch.isfinite(out["log_scale"]).all()


def test_far_pixels_do_not_matter():
    net = _net(depth=1)
    image, sar, hidden = _inputs(64, 512)
    changed = image.clone()
    changed[..., 400:] = 0.9
    with torch.no_grad():
        one, other = net(image, sar, hidden), net(changed, sar, hidden)
    torch.testing.assert_close(one[..., :128], other[..., :128], rtol=0, atol=1e-5)
    assert (one[..., 400:] - other[..., 400:]).abs().max() > 0.1


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="means"):
        FillUNet(bands=3, mean=(0.1,), std=(0.1, 0.1, 0.1))
    with pytest.raises(ModelError, match="widths"):
        FillUNet(bands=3, widths=(8,) * 6)


def test_training_lowers_the_error_of_a_gap_below_that_of_the_fill():
    """A band that follows the radar image: what a gap hides can be learned."""
    torch.manual_seed(2)
    net = FillUNet(bands=2, widths=(8, 16), mean=(0.3, 0.3), std=(0.1, 0.1))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    rng = np.random.default_rng(0)
    errors = []
    for step in range(60):
        radar = torch.from_numpy(rng.uniform(0.1, 0.9, (4, 2, 4, 4)).repeat(8, 2).repeat(8, 3).astype(np.float32))
        truth = 0.1 + 0.4 * radar
        hidden = torch.zeros(4, 2, 32, 32)
        hidden[..., 8:24, 8:24] = 1
        out = net.outputs(truth, radar, hidden)
        error = (out["image"] - truth).abs()[..., 8:24, 8:24].mean()
        if step in (0, 59):
            errors.append(error.item())
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert errors[1] < 0.5 * errors[0]
    assert math.isfinite(errors[1])
