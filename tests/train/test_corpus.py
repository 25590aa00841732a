"""Which image comes when, and the statistics of a training set."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unclouded.data import labels as lab
from unclouded.data.simulated import SimulatedSet
from unclouded.errors import InputError
from unclouded.scene import Band
from unclouded.train.corpus import (
    Normalisers,
    Order,
    choose_bands,
    fingerprint,
    fit_normalisers,
    in_units,
    open_sources,
)

BANDS = (
    Band("B02", "blue", 446, 542, 10.0),
    Band("B04", "red", 645, 685, 10.0),
    Band("B11", "swir16", 1541, 1683, 20.0),
)


def scenes(images: int, **more: object) -> dict:
    return {"name": "simulated", "options": {"images": images, "choose": 2, "size": 16, **more}}


def test_without_weights_every_image_comes_once_an_epoch(tiny) -> None:
    config = tiny(data=[scenes(5), scenes(7, seed=2)])
    order = Order(open_sources(config), config)
    orders = []
    for epoch in range(3):
        drawn = [order.item(epoch, place) for place in range(order.length)]
        assert Counter((item.source, item.record.name) for item in drawn) == Counter(
            (source, f"train-{number:06d}") for source, count in ((0, 5), (1, 7)) for number in range(count)
        )
        orders.append([(item.source, item.record.name) for item in drawn])
    assert orders[0] != orders[1] != orders[2]


def test_tiles_of_an_image_come_once_each(tiny) -> None:
    config = tiny(data=[scenes(3)], patch={"size": 16, "cut": "tiles", "tiles": 3})
    order = Order(open_sources(config), config)
    assert order.length == 27
    drawn = [order.item(0, place) for place in range(27)]
    assert len({(item.record.name, item.tile) for item in drawn}) == 27


def test_sampling_weights_are_observed_and_images_take_turns(tiny) -> None:
    config = tiny(
        data=[{**scenes(4), "weight": 3.0}, {**scenes(40, seed=2), "weight": 1.0}], images_per_epoch=4000
    )
    order = Order(open_sources(config), config)
    drawn = [order.item(0, place) for place in range(order.length)]
    share = sum(item.source == 0 for item in drawn) / len(drawn)
    assert share == pytest.approx(0.75, abs=0.025), "three in four, within four standard deviations of a draw"
    counts = Counter(item.record.name for item in drawn if item.source == 0)
    assert max(counts.values()) - min(counts.values()) <= 1
    counts = Counter(item.record.name for item in drawn if item.source == 1)
    assert len(counts) == 40


def test_the_order_follows_from_the_seed_alone(tiny) -> None:
    def names(config) -> list[str]:
        order = pickle.loads(pickle.dumps(Order(open_sources(config), config)))  # as worker processes get it
        return [order.item(3, place).record.name for place in range(order.length)]

    assert names(tiny()) == names(tiny())
    assert names(tiny()) != names(tiny(seed=7))


def test_filters_limits_and_parts_set_aside(tiny, tmp_path: Path) -> None:
    config = tiny(data=[{**scenes(10, choose=0), "choose_share": 0.3}])
    (source,) = open_sources(config)
    assert [len(source.records[split]) for split in ("train", "choose")] == [7, 3]
    assert not {r.scene for r in source.records["train"]} & {r.scene for r in source.records["choose"]}
    (source,) = open_sources(tiny(data=[{**scenes(10), "limit": 3}]))
    assert [record.name for record in source.records["train"]] == ["train-000000", "train-000004", "train-000009"]
    with pytest.raises(InputError, match="has no tag 'biome'"):
        open_sources(tiny(data=[{**scenes(3), "where": {"biome": "urban"}}]))


def test_tags_filter_by_value_list_and_range(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SimulatedSet.find

    def tagged(self):
        for number, record in enumerate(original(self)):
            tags = {"latitude": -60.0 + 20 * number, "month": float(number % 3)}
            yield replace(record, tags=tags)

    monkeypatch.setattr(SimulatedSet, "find", tagged)
    for where, kept in (
        ({"month": 1}, {1, 4, 7}),
        ({"month": [0, 2]}, {0, 2, 3, 5, 6}),
        ({"latitude": {"min": 0}}, {3, 4, 5, 6, 7}),
        ({"latitude": {"abs": True, "min": 23.5, "max": 66.5}}, {0, 1, 5, 6}),
    ):
        (source,) = open_sources(tiny(data=[{**scenes(8), "where": where}]))
        assert {record.index for record in source.records["train"]} == kept


def test_a_set_of_another_task_is_refused(tiny, tmp_path: Path) -> None:
    from unclouded.data import sets

    sets.get("sen12mscr").make_fake(tmp_path / "fake")
    with pytest.raises(InputError, match="is for the task 'removal'"):
        open_sources(tiny(data=[{"name": "sen12mscr", "root": str(tmp_path / "fake")}]))


def test_unknown_options_of_simulated_scenes_are_told(tiny) -> None:
    with pytest.raises(InputError, match="no such option"):
        open_sources(tiny(data=[scenes(3, sides=4)]))


def test_statistics_of_the_training_set_are_those_of_all_its_pixels(tiny) -> None:
    config = tiny(data=[scenes(6)], normalise={"mode": "percentile"}, bands=["blue", "nir08", "swir16"])
    sources = open_sources(config)
    found = fit_normalisers(sources, config)
    pixels = []
    for record in sources[0].records["train"]:
        sample = sources[0].data.read(record)
        image, _ = choose_bands(sample.image, sample.bands, ["blue", "nir08", "swir16"], "x")
        pixels.append(image.reshape(3, -1))
    expected = np.percentile(np.concatenate(pixels, axis=1), (1, 99), axis=1)
    assert found.common is not None
    np.testing.assert_allclose([found.common.low, found.common.high], expected, atol=1.5e-4)  # bins of 1e-4
    assert Normalisers.from_dict(found.as_dict()) == found


def test_statistics_of_scenes_are_their_own(tiny) -> None:
    config = tiny(data=[scenes(3)], normalise={"mode": "standardise", "scope": "scene"}, bands=["B04"])
    sources = open_sources(config)
    found = fit_normalisers(sources, config)
    assert found.scenes is not None
    assert len(found.scenes) == 5, "scenes of every part: they are scaled by themselves"
    sample = sources[0].data.read(sources[0].records["choose"][0])
    scaled = found.of("simulated", sample.scene).apply(sample.image[3:4])
    assert abs(float(scaled.mean())) < 1e-3
    assert float(scaled.std()) == pytest.approx(1.0, abs=1e-3)
    assert Normalisers.from_dict(found.as_dict()) == found


def test_bands_are_chosen_by_either_name_and_refused_by_neither() -> None:
    image = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    chosen, bands = choose_bands(image, BANDS, ["swir16", "B02"], "it")
    assert chosen[:, 0, 0].tolist() == [2.0, 0.0]
    assert [band.name for band in bands] == ["B11", "B02"]
    with pytest.raises(InputError, match="it has no band 'nir'"):
        choose_bands(image, BANDS, ["nir"], "it")


def test_units_that_are_no_reflectance() -> None:
    bands = (BANDS[0], Band("B10", "lwir11", 10600, 11190, 100.0, "thermal"), Band("vv", "vv", None, None, 10.0, "sar"),
             Band("angle", "angle", None, None, 10.0, "sar"), Band("dem", None, None, None, 30.0, "dem"))  # fmt: skip
    image = np.array([0.3, 255.0, -12.5, 36.0, 500.0], np.float32)[:, None, None]
    np.testing.assert_allclose(in_units(image, bands, "toa")[:, 0, 0], [0.3, 0.5, 0.5, 0.4, 0.05], rtol=1e-6)
    assert in_units(image, bands, "counts") is image


def test_other_images_have_another_fingerprint(tiny) -> None:
    one, other = (fingerprint(open_sources(tiny(data=[scenes(count)]))) for count in (3, 4))
    assert one != other
    assert one == fingerprint(open_sources(tiny(data=[scenes(3)])))


def test_simulated_scenes_are_the_same_again_and_hold_every_class() -> None:
    first, again = (SimulatedSet(images=6, choose=1, size=64, seed=3) for _ in range(2))
    sets = set()
    for record in first.records:
        one, other = first.read(record), again.read(record)
        np.testing.assert_array_equal(one.image, other.image)
        sets |= set(np.unique(one.sets).tolist())
    assert sets == set(lab.FOUR.tolist())
    pair = first.read_pair(first.records[1])
    np.testing.assert_array_equal(pair.cloudy, first.read(first.records[1]).image)
    assert first.describe()["split"] == {"choose": 1, "train": 6}
    with pytest.raises(InputError, match="no landscape 'moon'"):
        SimulatedSet(landscapes=["moon"])
