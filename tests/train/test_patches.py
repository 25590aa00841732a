"""Patches and batches: every pixel once, the same for the same seed, nothing invented at edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded import sensors
from unclouded.data import labels as lab
from unclouded.data.sample import Sample
from unclouded.data.sets.base import Pair
from unclouded.data.simulated import SimulatedSet
from unclouded.descriptors import slot_weights
from unclouded.errors import InputError
from unclouded.train.corpus import fit_normalisers, open_sources
from unclouded.train.patches import Patches, stacked, windows
from unclouded.train.targets import SCHEMES

S2 = sensors.bands_of("sentinel2-l1c")


def patches(config, front_end: str = "slots", descriptor: int = 0) -> Patches:
    sources = open_sources(config)
    return Patches(config, sources, fit_normalisers(sources, config), front_end, descriptor)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 50), cols=st.integers(1, 50), size=st.integers(1, 40))
def test_covering_windows_judge_every_pixel_once(rows: int, cols: int, size: int) -> None:
    image = np.arange(rows * cols, dtype=np.float32).reshape(1, rows, cols)
    seen = []
    for window, sets in windows(image, np.ones((rows, cols), np.uint8), size, "cover", 1):
        assert window.shape == (1, size, size)
        assert np.isfinite(window[0, sets == 1]).all()
        seen.extend(window[0, sets == 1].tolist())
    assert sorted(seen) == list(range(rows * cols))


def test_tiles_run_from_edge_to_edge() -> None:
    """Nine patches of 512 in a scene of 1320 x 1200, as CloudMamba cuts Levir_CS; four of 256 in 509 x 509."""
    y, x = np.mgrid[:1320, :1200].astype(np.float32)
    found = [window for window, _ in windows(np.stack([y, x]), np.ones((1320, 1200), np.uint8), 512, "tiles", 3)]
    assert [tuple(window[:, 0, 0].astype(int)) for window in found[::4]] == [(0, 0), (404, 344), (808, 688)]
    quarters = list(windows(np.zeros((1, 509, 509), np.float32), np.ones((509, 509), np.uint8), 256, "tiles", 2))
    assert len(quarters) == 4
    assert all((sets == 1).all() for _, sets in quarters)


def test_batches_depend_on_seed_epoch_and_place_alone(tiny) -> None:
    config = tiny(augment=[{"name": "turn"}, {"name": "usual-bands"}, {"name": "noise"}])
    first, again = patches(config).draw(1, 1), patches(config).draw(1, 1)
    for one, other in zip(first.parts(), again.parts(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.image, patches(config).draw(2, 1).image)
    assert not torch.equal(first.image, patches(tiny(seed=9, augment=[{"name": "turn"}])).draw(1, 1).image)


def test_a_large_batch_is_several_small_ones(tiny) -> None:
    """So that two processes, or two accumulated batches, see what one large batch would hold."""
    whole = patches(tiny(batch=4)).draw(0, 1)
    halves = patches(tiny(batch=2))
    together = stacked([halves.draw(0, 2), halves.draw(0, 3)])
    for one, other in zip(whole.parts(), together.parts(), strict=True):
        assert torch.equal(one, other)


def test_images_smaller_than_a_patch_end_in_nothing(tiny) -> None:
    batch = patches(tiny(patch={"size": 48, "cut": "corner"})).draw(0, 0)
    assert batch.image.shape[-2:] == (48, 48)
    outside = torch.ones(48, 48, dtype=torch.bool)
    outside[:32, :32] = False
    assert (batch.image[..., outside] == 0).all()
    assert (batch.target[:, outside] == 0).all(), "no label, not even 'no data'"
    assert (batch.index[:, outside] == 255).all()


def test_what_is_missing_is_zero_and_no_data(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SimulatedSet.read

    def holed(self, record) -> Sample:
        sample = original(self, record)
        sample.image[4, 5:9] = np.nan
        return sample

    monkeypatch.setattr(SimulatedSet, "read", holed)
    batch = patches(tiny(patch={"size": 32, "cut": "corner"})).draw(0, 0)
    assert (batch.image[:, :, 5:9] == 0).all()
    assert (batch.target[:, 5:9] == lab.MISSING).all()
    four = patches(tiny(patch={"size": 32, "cut": "corner"}, classes="four")).draw(0, 0)
    assert (four.target[:, 5:9] == 0).all(), "four classes have no 'no data': ignored"


def test_another_pixel_size_is_another_field_of_view(tiny) -> None:
    config = tiny(
        data=[{"name": "simulated", "options": {"images": 4, "choose": 1, "size": 96}}],
        patch={"size": 32, "ground_m": [60, 60]},
    )
    drawn = patches(config)
    batch = drawn.draw(0, 0)
    names = [drawn.order.item(0, place).record.name for place in range(4)]
    for name, image in zip(names, batch.image, strict=True):
        source = drawn.sources[0]
        record = next(record for record in source.records["train"] if record.name == name)
        whole = source.data.read(record).image  # 96 pixels of 20 m are 32 of 60 m
        means = whole[0].reshape(32, 3, 32, 3).mean(axis=(1, 3))
        assert np.abs(image[0].numpy() - means).mean() < 0.03
        assert np.corrcoef(image[0].numpy().ravel(), means.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("front", "length"), [("senseiv2", 79), ("senseiv2", 74), ("senseiv1", 3)])
def test_descriptors_travel_with_bands_and_padding_has_none(tiny, front: str, length: int) -> None:
    config = tiny(batch=8, augment=[{"name": "sample-bands", "least": 2, "most": 13}])
    batch = patches(config, front, length).draw(0, 0)
    assert batch.beside.shape[1:] == (batch.image.shape[1], length)
    padding = batch.beside.abs().sum(dim=2) == 0
    assert padding.any()
    assert (batch.image.abs().sum(dim=(2, 3))[padding] == 0).all()
    assert (batch.image.abs().sum(dim=(2, 3))[~padding] > 0).all()


def test_slots_get_weights_of_their_bands(tiny) -> None:
    batch = patches(tiny()).draw(0, 0)
    kept = [band for band in S2 if slot_weights([band, *S2])[0].any()]
    np.testing.assert_array_equal(batch.beside[0].numpy(), slot_weights(kept))


def test_fixed_bands_are_scaled_by_the_training_set(tiny) -> None:
    config = tiny(bands=["red", "green"], normalise={"mode": "percentile"}, model={"name": "smp"})
    found = patches(config, "fixed")
    batch = found.draw(0, 0)
    assert batch.beside is None
    assert batch.image.shape[1] == 2
    assert 0.0 <= float(batch.image.min()) < 0.05
    assert 0.9 < float(batch.image.max()) <= 1.0


def test_all_images_for_model_choice_are_judged(tiny) -> None:
    found = patches(tiny(batch=2, data=[{"name": "simulated", "options": {"images": 2, "choose": 3, "size": 40}}]))
    batches = [batch for index in range(found.judge_count()) for batch in found.judge(index)]
    assert {tuple(batch.image.shape[-2:]) for batch in batches} == {(32, 32)}
    assert sum(int((batch.target != 0).sum()) for batch in batches) == 3 * 40 * 40


class Pairs(SimulatedSet):
    """Pairs with radar, and a missing pixel."""

    task = "removal"

    def read_pair(self, record) -> Pair:
        pair = super().read_pair(record)
        pair.cloudy[:, 3, 4] = np.nan
        sar = np.stack([np.full((self.size, self.size), -10.0), np.full((self.size, self.size), -40.0)])
        return Pair(**{**vars(pair), "sar": sar.astype(np.float32)})


def removal(tiny, monkeypatch: pytest.MonkeyPatch, **changes):
    monkeypatch.setattr("unclouded.train.corpus.SimulatedSet", Pairs)
    return tiny(
        task="removal", model={"name": "mmcanet"}, bands=["B04", "B03", "B02"], loss={"kind": "l1-ssim"}, **changes
    )


def test_pairs_are_cut_and_turned_together(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = removal(tiny, monkeypatch, patch={"size": 16}, augment=[{"name": "turn"}])
    batch = patches(config, "fixed").draw(0, 0)
    assert batch.image.shape == batch.target.shape == (4, 3, 16, 16)
    assert batch.beside.shape == (4, 2, 16, 16)
    torch.testing.assert_close(batch.beside[:, 0], torch.full((4, 16, 16), 0.6))  # -10 dB within -25 to 0
    assert (batch.beside[:, 1] == 0).all()  # below -32.5 dB
    assert torch.isfinite(batch.image).all()
    assert 0 <= float(batch.image.min()) <= float(batch.image.max()) <= 1
    pairs = [torch.stack([a.flatten(), b.flatten()]) for a, b in zip(batch.image, batch.target, strict=True)]
    assert max(torch.corrcoef(pair)[0, 1] for pair in pairs) > 0.3, "cloudy and clear show the same place"


def test_pairs_without_what_the_network_needs_are_refused(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = removal(tiny, monkeypatch, patch={"size": 64})
    with pytest.raises(InputError, match="32 x 32 pixels"):
        patches(config, "fixed").draw(0, 0)
    monkeypatch.setattr("unclouded.train.corpus.SimulatedSet", SimulatedSet)
    config = tiny(task="removal", model={"name": "mmcanet"}, bands=["B04"], loss={"kind": "l1-ssim"})
    with pytest.raises(InputError, match="has no radar"):
        patches(config, "fixed").draw(0, 0)


@pytest.mark.parametrize(
    ("classes", "sets", "bits", "index"),
    [
        ("seven", lab.CLEAR, 0b111, 255),
        ("seven", lab.MISSING, 0b1000000, 6),
        ("four", lab.CLEAR, 0b0001, 0),
        ("four", lab.CLOUD, 0b0110, 255),
        ("four", lab.THICK, 0b0010, 1),
        ("four", lab.THIN, 0b0100, 2),
        ("four", lab.NOT_CLOUD, 0b1001, 255),
        ("four", lab.MISSING, 0, 255),
        ("three", lab.CLOUD, 0b100, 2),
        ("three", lab.SHADOW, 0b010, 1),
        ("cloud", lab.NOT_CLOUD, 0b01, 0),
        ("cloud", lab.CLOUD, 0b10, 1),
        ("cloud", lab.SHADOW, 0b01, 0),
        ("cloud", lab.SHADOW | lab.THIN, 0b11, 255),
        ("cloud", lab.IGNORED, 0, 255),
    ],
)
def test_labels_in_terms_of_every_scheme(classes: str, sets: int, bits: int, index: int) -> None:
    given = np.array([[sets]], np.uint8)
    assert SCHEMES[classes].bits(given).item() == bits
    assert SCHEMES[classes].index(given).item() == index
