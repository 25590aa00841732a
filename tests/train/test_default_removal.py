"""The default removal model: what it learns from, that a killed run ends the same, and what is exported."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unclouded import models
from unclouded.infer.onnx_runner import OnnxRunner
from unclouded.scene import Band
from unclouded.train import default_removal as dr
from unclouded.train import removal_grounds as rg
from unclouded.train import removal_pairs as rp
from unclouded.train.removal_pixels import gather, train_pixels
from unclouded.train.removal_skies import Sky, laid, lifted

SIDE = 32


def ground(name, *, split="train", pair=False, radar=True, size=96, bands=13):
    """Fields under a slope, whose brightness the radar image shows."""
    rng = np.random.default_rng(sum(map(ord, name)))
    fields = rng.uniform(0.05, 0.4, (13, size // 16, size // 16)).repeat(16, 1).repeat(16, 2).astype(np.float32)
    fields[bands:] = np.nan
    classes = cloudy = None
    if pair:
        classes = np.zeros((size, size), np.uint8)
        classes[: size // 2] = 1
        classes[size // 2 : size // 2 + 10] = 3
        cloudy = np.where(classes == 1, 0.8, fields).astype(np.float16)
    sar = np.stack((-20 + 30 * fields[2], -27 + 30 * fields[2])) if radar else None
    return rg.Ground(name, "sen12mscr", name, split, fields.astype(np.float16), "toa", 10.0, sar, cloudy, classes)


def grounds():
    return [
        ground("a", pair=True),
        ground("b", bands=7, radar=False),
        ground("c"),
        ground("kept", split="choose", pair=True),
        ground("unseen", split="test", pair=True),
    ]


def test_bands_of_other_sensors_take_the_places_of_their_names():
    ranges = {"nir08": (851, 879), "red": (636.5, 673.5), "lwir11": (10600, 11190)}
    oli = [Band(name, name, *span, 30.0) for name, span in ranges.items()]
    image = np.stack([np.full((2, 2), value, np.float32) for value in (0.3, 0.1, 290.0)])
    placed = rg.placed(image, oli)
    filled = [band.name for band, plane in zip(rg.BANDS, placed, strict=True) if np.isfinite(plane).all()]
    assert filled == ["B04", "B8A"]
    assert placed[3, 0, 0] == np.float16(0.1)


def test_radar_follows_the_ranges_of_the_method_and_zero_means_missing():
    decibel = np.float32([[[-25, -12.5, 0, 5, np.nan]], [[-32.5, -16.25, 0, 5, np.nan]]])
    scaled = rp.scaled_radar(decibel)
    np.testing.assert_allclose(scaled[:, 0], [[0.001, 0.5, 1, 1, 0]] * 2, atol=1e-6)


def test_marks_cover_the_mask_and_a_margin():
    classes = np.zeros((1, 12), np.uint8)
    classes[0, 3], classes[0, 8], classes[0, 11] = 1, 3, 255
    image, radar, marks = rp.as_inputs(np.full((13, 1, 12), 0.2), classes, None, reach=2)
    assert marks[0, 0].astype(int).tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    assert marks[1, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0.5, 0, 0, 0]
    assert not radar.any()
    assert image.dtype == np.float32


def test_crops_come_from_training_places_alone_and_are_the_same_again():
    crops = rp.Crops(grounds(), SIDE, seed=4)
    assert {one.name for one in crops.clear} == {"a", "b", "c"}
    assert len(crops.skies) == 1  # of "a"
    one, same, other = crops.batch(3, 4), rp.Crops(grounds(), SIDE, seed=4).batch(3, 4), crops.batch(4, 4)
    for key in ("image", "sar", "hidden", "target"):
        torch.testing.assert_close(getattr(one, key), getattr(same, key), rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one.image, other.image)


def test_every_kind_of_crop_is_what_its_name_says(monkeypatch):
    monkeypatch.setattr(rp, "_DOUBTED", 0.0)
    for kind in rp.MIXTURE:
        monkeypatch.setattr(rp, "MIXTURE", {kind: 1.0})
        crops = rp.Crops(grounds(), SIDE, seed=1)
        for number in range(12):
            image, radar, marks, target = crops.crop(np.random.default_rng(number))
            assert image.shape == target.shape == (13, SIDE, SIDE)
            assert np.isfinite(image).all()
            assert 0 <= radar.min() <= radar.max() <= 1
            assert (marks[0] >= marks[1]).all()  # what is fully hidden has to be rebuilt
            known = np.isfinite(target) & (image != 0) & (marks[0] == 0)
            if kind == "gap":  # nothing but the marks differs from the truth
                np.testing.assert_allclose(image[np.isfinite(target)], target[np.isfinite(target)], atol=1e-6)
            elif kind == "pair" and known.any():
                np.testing.assert_allclose(image[known], target[known], atol=1e-3)
            elif kind == "carried" and (marks[1] == 1).any():
                assert image[:, marks[1] == 1].max() > 0.4  # the cloud of "a"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(dr, "SIDE", SIDE)
    monkeypatch.setattr(dr, "BATCH", 2)
    monkeypatch.setattr(dr, "EVERY", 2)
    monkeypatch.setitem(dr.OPTIONS, "fill-unet", {"widths": (8, 8)})
    monkeypatch.setitem(dr.OPTIONS, "fill-pixels", {"widths": (8, 8)})
    monkeypatch.setitem(dr.OPTIONS, "dsen2cr", {"features": 8, "blocks": 1})


@pytest.mark.parametrize("architecture", ["fill-unet", "dsen2cr"])
def test_a_killed_run_ends_as_if_it_had_not_been(architecture, small, tmp_path, monkeypatch):
    places = grounds()
    whole = dr.train(places, tmp_path / "whole", architecture, 4, 1, 1e-3)
    draw = rp.Crops.batch

    def dies(self, place, size):
        if place == 3:
            raise KeyboardInterrupt
        return draw(self, place, size)

    monkeypatch.setattr(rp.Crops, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        dr.train(places, tmp_path / "killed", architecture, 4, 1, 1e-3)
    monkeypatch.setattr(rp.Crops, "batch", draw)
    again = dr.train(places, tmp_path / "killed", architecture, 4, 1, 1e-3)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_export_is_told_its_inputs_and_how_sure_it_is(small, tmp_path):
    places = grounds()
    crops = rp.Crops(places, SIDE, seed=1)
    train_pixels(
        places, tmp_path / "fill-pixels-1", dr.OPTIONS["fill-pixels"], crops=crops, count=3, steps=2, rate=1e-3
    )
    net, steps = dr.network(tmp_path, dr.ARCHITECTURE, 1)
    assert steps == 2
    card = dr.export(net, dr.card_of(places, net, steps), tmp_path / "out")
    assert card.marks
    assert card.partial_inputs
    assert [one.name for one in card.bands] == [band.name for band in rg.BANDS]
    kept = places[3]
    image, radar, marks = rp.as_inputs(kept.cloudy, kept.classes, kept.sar)
    runner = OnnxRunner(card, tmp_path / "out/removal.onnx", 1)
    restored, log_scale = runner.restore(image[None], radar[None], marks[None])
    by_torch, expected, hidden = dr.restore_ground(net, kept)
    np.testing.assert_allclose(np.where(hidden, restored[0], image), by_torch, atol=1e-4)
    # The factor brings the mean expected error of the places kept for it to the mean error.
    error = np.abs(by_torch - kept.clear.astype(np.float32)).mean(axis=0)[hidden].mean()
    assert card.expected_error.factor * expected[hidden].mean() == pytest.approx(error, rel=1e-4)
    assert np.exp(log_scale[0, 0])[hidden].mean() == pytest.approx(expected[hidden].mean(), rel=1e-3)


def test_the_scale_is_right_where_it_equals_the_mean_error():
    target = torch.full((1, 13, 8, 8), 0.2)
    batch = rp.Batch(target + 0.5, torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8), target)
    losses = [
        dr.loss_of({"image": target + 0.03, "log_scale": torch.full((1, 1, 8, 8), math.log(scale))}, batch).item()
        for scale in (0.02, 0.03, 0.045)
    ]
    assert losses[1] < min(losses[0], losses[2])
    exact = dr.loss_of({"image": target}, batch).item()
    assert exact == pytest.approx(0, abs=1e-5)


def test_unknown_ground_teaches_nothing():
    target = torch.full((1, 13, 8, 8), 0.2)
    target[:, 5] = float("nan")
    target[..., :4] = float("nan")
    image = torch.full((1, 13, 8, 8), 0.7)
    image[:, 5] = 0
    batch = rp.Batch(image, torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8), target)
    restored = torch.full((1, 13, 8, 8), 0.25, requires_grad=True)
    for loss in (dr.loss_of({"image": restored}, batch), dr.carl_of(restored, batch)):
        (slope,) = torch.autograd.grad(loss, restored, retain_graph=True)
        assert bool((slope[:, 5] == 0).all())
        assert bool((slope[..., :4] == 0).all())
        assert bool((slope[:, 0, :, 4:] != 0).all())


def test_a_sky_over_its_own_ground_is_the_cloudy_image() -> None:
    place = ground("a", pair=True)
    sky = lifted(place.clear, place.cloudy, place.classes, rg.BANDS)
    again = laid(sky, place.clear.astype(np.float32))
    np.testing.assert_allclose(again, np.maximum(place.cloudy, 1e-4), atol=2e-3)


def test_a_veil_hides_other_ground_as_much() -> None:
    """Cloud that hides half of the contrast of one ground does so with another one, and brightens it as much."""
    rng = np.random.default_rng(1)
    one, other = (rng.uniform(0.05, 0.2, (13, 40, 40)).astype(np.float32) for _ in range(2))
    cloudy = 0.5 * one + 0.45
    sky = lifted(one, cloudy, np.full((40, 40), 2, np.uint8), rg.BANDS)
    seen = laid(sky, other)
    visible = [index for index, band in enumerate(rg.BANDS) if band.name in ("B02", "B03", "B04")]
    difference = seen[visible] - (0.5 * other + 0.45)[visible]
    assert np.abs(difference.mean(axis=(1, 2))).max() < 0.05
    slope = np.polyfit(other[visible].ravel(), seen[visible].ravel(), 1)[0]
    assert 0.4 < slope < 0.6
    cirrus = [band.name for band in rg.BANDS].index("B10")
    np.testing.assert_allclose(seen[cirrus], cloudy[cirrus], atol=1e-3)  # no ground is seen there


def test_a_thicker_sky_hides_more_and_none_hides_nothing() -> None:
    place = ground("a", pair=True)
    sky = lifted(place.clear, place.cloudy, np.full((96, 96), 2, np.uint8), rg.BANDS)
    clear = place.clear.astype(np.float32)
    cloud = np.asarray(place.classes) == 1
    bright = [laid(Sky(sky.through, sky.path, sky.classes), clear, much)[3, cloud].mean() for much in (0.0, 0.5, 1.0)]
    assert bright[0] < bright[1] < bright[2]
    np.testing.assert_allclose(laid(sky, clear, 0.0), np.maximum(clear, 1e-4), atol=2e-3)


def test_surfaces_are_raised_to_the_top_of_the_atmosphere() -> None:
    """Bands that follow linearly from the others are found again; blue gains most from the air."""
    rng = np.random.default_rng(2)
    fields = rng.uniform(0.05, 0.4, (13, 12, 12)).repeat(8, 1).repeat(8, 2)
    fields[5] = 0.5 * fields[3] + 0.4 * fields[7]  # a red-edge band between red and infrared
    whole = rg.Ground("whole", "dsen2", "p", "train", fields.astype(np.float16), "toa", 10.0)
    part = fields.copy()
    part[[4, 5, 6, 8, 9, 10]] = np.nan
    surface = rg.Ground("part", "landsat_sr", "q", "train", part.astype(np.float16), "boa", 30.0)
    (raised,) = rg.raised([whole, surface])
    assert (raised.level, raised.name) == ("toa", "part_toa")
    made = raised.clear.astype(np.float32)
    assert np.isfinite(made).all()
    gain = (made - part)[[1, 2, 3, 7]].mean(axis=(1, 2))
    assert 0.03 < gain[0] < 0.12
    assert gain.argmax() == 0
    assert abs(gain[3]) < 0.01
    np.testing.assert_allclose(made[5], 0.5 * made[3] + 0.4 * made[7], atol=0.02)
    assert rg.raised([surface]) == []  # nothing to learn the other bands from


def test_places_with_many_images_do_not_rule() -> None:
    many = [ground(f"m{n}") for n in range(6)]
    places = [rg.Ground(**{**vars(one), "place": "same"}) for one in many]
    crops = rp.Crops([*places, ground("alone")], SIDE, seed=1)
    assert crops.weight[:-1].sum() == pytest.approx(crops.weight[-1])


def test_single_pixels_are_those_of_the_whole_image():
    """What is learned from kept pixels is what the network makes of whole crops."""
    net = models.create("fill-pixels", widths=(8, 8)).eval()
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.1)
    crops = rp.Crops(grounds(), SIDE, seed=2)
    pixels = gather(net, crops, 1)
    batch = crops.batch(0, 1)
    whole = net(batch.image, batch.sar, batch.hidden)[0]
    alone = net.compose(net.unet.decide(pixels.features, net.presence(pixels.present)), pixels.given())["image"]
    flat = whole.flatten(1).T
    distance = torch.cdist(alone[:20, :, 0, 0].double(), flat.double()).min(dim=1).values
    assert float(distance.detach().max()) < 1e-4


def test_an_untrained_network_of_pixels_gives_the_fill():
    net = models.create("fill-pixels", bands=3, widths=(8, 8)).eval()
    image = torch.rand(1, 3, 64, 64) * 0.2 + 0.05
    hidden = torch.zeros(1, 2, 64, 64)
    hidden[:, :, 20:40, 20:40] = 1
    given = net.given(image, None, hidden)
    with torch.no_grad():
        made = net(image, None, hidden)
    filled = (given.filled * net.std + net.mean)[..., 25:35, 25:35]
    torch.testing.assert_close(made[..., 25:35, 25:35], filled, atol=5e-3, rtol=0)
