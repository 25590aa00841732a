"""Simulated data sets: what is written can be read by the data sets, readers and commands that it is meant for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

from unclouded.data import labels as lab
from unclouded.data import sets
from unclouded.errors import InputError, OutputError
from unclouded.readers import open_scene
from unclouded.simulate import dataset
from unclouded.simulate.dataset import Order, background_scenes, simulate_dataset
from unclouded.simulate.files import UNSEEN
from unclouded.simulate.scenes import draw_scene

from .fakes_command import run


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    list(simulate_dataset(folder, Order(scenes=5, size=96, sar=True, dem=True, seed=3)))
    return folder


def test_the_data_set_reads_as_own_data(made: Path) -> None:
    found = sets.open_set("folder", made)
    assert len(found) == 5
    assert sorted(found.assign().values()) == ["choose", "test", "train", "train", "train"]
    seen = np.uint8(0)
    for record in found.records:
        sample = found.read(record)
        assert sample.image.shape == (13, 96, 96)
        assert (sample.level, sample.gsd_m) == ("toa", 10.0)
        truth = read(made / "truth" / f"{record.name}.tif")
        cloud = sample.sets & np.uint8(lab.CLOUD) > 0
        np.testing.assert_array_equal(cloud, truth[1] >= 0.25)
        seen |= np.bitwise_or.reduce(sample.sets, axis=None)
    assert seen == lab.CLEAR | lab.CLOUD | lab.SHADOW


def test_a_scene_can_be_drawn_again_from_its_item(made: Path) -> None:
    item = json.loads((made / "items/simulated-00002.json").read_text())
    told = item["properties"]["unclouded:simulation"]
    from unclouded import sensors

    again = draw_scene(sensors.load("sentinel2-l1c"), 96, told["seed"], told["number"], sar=True, dem=True)
    assert json.loads(json.dumps(again.parameters)) == told
    stored = read(made / "images/simulated-00002.tif")
    np.testing.assert_allclose(stored * 1e-4, again.sky.image, atol=1.01e-4)
    np.testing.assert_array_equal(read(made / "sar/simulated-00002.tif"), again.radar)
    np.testing.assert_array_equal(read(made / "dem/simulated-00002.tif")[0], again.heights)
    np.testing.assert_array_equal(read(made / "truth/simulated-00002.tif")[1], again.sky.tau)


def test_the_items_are_stac(made: Path) -> None:
    collection = pystac.Collection.from_file(str(made / "collection.json"))
    items = list(collection.get_items())
    assert len(items) == 5
    for item in items:
        assert item.bbox is not None
        assert {"image", "label", "truth", "sar", "dem"} == set(item.assets)
        for asset in item.get_assets().values():
            assert Path(str(asset.get_absolute_href())).is_file()


def test_radar_and_heights_lie_on_the_image(made: Path) -> None:
    scene = open_scene(made / "images/simulated-00000.tif", sensor="sentinel2-l1c")
    for folder in ("sar", "dem", "labels", "truth"):
        with rasterio.open(made / folder / "simulated-00000.tif") as file:
            assert file.transform == scene.geobox.affine
            assert file.crs.to_epsg() == 32633


def test_a_broken_run_goes_on_and_a_longer_one_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(scenes=3, size=48, sensor="generic-rgbn")
    whole = tmp_path / "whole"
    list(simulate_dataset(whole, order))

    real, calls = dataset.write_truth, []

    def broken(*given: object) -> dict[str, Path]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "write_truth", broken)
    pieces = tmp_path / "pieces"
    with pytest.raises(KeyboardInterrupt):
        list(simulate_dataset(pieces, order))
    assert [path.stem for path in (pieces / "items").iterdir()] == ["simulated-00000"]
    again = list(simulate_dataset(pieces, order))
    assert [one.kept for one in again] == [True, False, False]
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(pieces) for path in pieces.rglob("*") if path.is_file())
    for path in files:
        assert (whole / path).read_bytes() == (pieces / path).read_bytes(), path
    more = list(simulate_dataset(pieces, Order(scenes=4, size=48, sensor="generic-rgbn")))
    assert [one.kept for one in more] == [True, True, True, False]
    fewer = list(simulate_dataset(pieces, Order(scenes=2, size=48, sensor="generic-rgbn")))
    assert all(one.kept for one in fewer)
    assert len(sets.open_set("folder", pieces).assign()) == 4


def test_other_settings_are_refused_or_replace(tmp_path: Path) -> None:
    list(simulate_dataset(tmp_path, Order(scenes=3, size=48, sensor="generic-rgb")))
    other = Order(scenes=1, size=64, sensor="generic-rgb")
    with pytest.raises(OutputError, match="other settings"):
        list(simulate_dataset(tmp_path, other))
    list(simulate_dataset(tmp_path, other, overwrite=True))
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["simulated-00000.tif"]
    assert read(tmp_path / "images/simulated-00000.tif").shape == (3, 64, 64)


def test_pairs_read_as_sen12mscr(tmp_path: Path) -> None:
    list(simulate_dataset(tmp_path, Order(scenes=5, size=256, pairs=True)))
    found = sets.open_set("sen12mscr", tmp_path)
    assert sorted(found.assign().values()) == ["choose", "test", "train", "train", "train"]
    clouded = 0
    for record in found.records:
        pair = found.read_pair(record)
        assert pair.sar is not None
        assert pair.sar[0].mean() > pair.sar[1].mean()
        thick = read(tmp_path / "truth" / f"{record.name}.tif")[0] == 1
        if thick.any():
            assert np.abs(pair.cloudy - pair.clear).max(axis=0)[thick].mean() > 0.1
        clouded += int(thick.sum())
    assert clouded > 0


def test_products_open_like_real_ones(tmp_path: Path) -> None:
    made = list(simulate_dataset(tmp_path, Order(scenes=2, size=96, product="safe")))
    products = sorted(tmp_path.glob("*.SAFE"))
    assert len(products) == 2
    scene = open_scene(products[0])
    assert (scene.sensor, len(scene.bands)) == ("sentinel2-l1c", 13)
    truth = read(tmp_path / "truth" / f"{made[0].name}.tif")
    assert truth.shape[1:] == tuple(scene.geobox.shape)
    again = list(simulate_dataset(tmp_path, Order(scenes=2, size=96, product="safe")))
    assert all(one.kept for one in again)


@pytest.mark.parametrize(("sensor", "level"), [("landsat-oli-c2-l1", "toa"), ("generic-rgb8", "counts"),
                                               ("landsat-oli-c2-l2", "boa"), ("gaofen1-wfv", "counts")])  # fmt: skip
def test_counts_are_those_of_the_sensor(tmp_path: Path, sensor: str, level: str) -> None:
    list(simulate_dataset(tmp_path, Order(scenes=1, size=48, sensor=sensor)))
    found = sets.open_set("folder", tmp_path)
    sample = found.read(found.records[0])
    assert sample.level == level
    thermal = np.array([band.kind == "thermal" for band in sample.bands])
    assert 0 < np.nanmedian(sample.image[~thermal]) < 1.3
    if thermal.any():
        assert 200 < np.nanmin(sample.image[thermal]) < np.nanmax(sample.image[thermal]) < 340
    if sensor == "generic-rgb8":
        assert read(tmp_path / "images/simulated-00000.tif").max() <= 255


def test_real_ground_stays_where_no_cloud_is(tmp_path: Path) -> None:
    ground = tmp_path / "ground"
    list(simulate_dataset(ground, Order(scenes=2, size=96, sensor="generic-rgbn", seed=8)))
    opened = background_scenes(ground / "images", lambda path: open_scene(path, sensor="generic-rgbn"))
    assert len(opened) == 2
    order = Order(scenes=4, size=64, sensor="generic-rgbn", seed=9)
    made = list(simulate_dataset(tmp_path / "out", order, backgrounds=opened))
    rows = (tmp_path / "out/splits.csv").read_text().splitlines()[1:]
    assert len({row.split(",")[2] for row in rows}) == 2
    for number, one in enumerate(made):
        scene = open_scene(tmp_path / "out/images" / f"{one.name}.tif", sensor="generic-rgbn")
        truth = read(tmp_path / "out/truth" / f"{one.name}.tif")
        below = opened[number % 2].read(scene.geobox)
        untouched = (truth[1] == 0) & (truth[2] > 0.999)
        if untouched.any():
            # The air carries a little light over from clouds nearby.
            assert np.median(np.abs(scene.read(scene.geobox) - below)[:, untouched]) < 0.03


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"sensor": "no-such"}, "no-such"),
        ({"size": 8}, "8 pixels"),
        ({"scenes": 0}, "0 scenes"),
        ({"pairs": True, "size": 512}, "Pairs"),
        ({"product": "safe", "size": 100}, "SAFE"),
        ({"product": "safe", "sensor": "generic-rgb", "size": 96}, "SAFE"),
    ],
)
def test_wishes_that_cannot_be_met(wishes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Order(**wishes)
    assert caught.value.expected
    assert caught.value.remedy


def test_grounds_that_do_not_fit(tmp_path: Path) -> None:
    list(simulate_dataset(tmp_path, Order(scenes=1, size=64, sensor="generic-rgb")))
    scene = open_scene(tmp_path / "images/simulated-00000.tif", sensor="generic-rgb")
    for order, message in (
        (Order(scenes=1, size=64), "from the sensor generic-rgb"),
        (Order(scenes=1, size=96, sensor="generic-rgb"), "64 x 64"),
        (Order(scenes=1, size=64, sensor="generic-rgb", dem=True), "Heights"),
    ):
        with pytest.raises(InputError, match=message):
            list(simulate_dataset(tmp_path / "other", order, backgrounds=[scene]))
    with pytest.raises(InputError, match="no optical bands"):
        list(simulate_dataset(tmp_path / "radar", Order(scenes=1, sensor="sentinel1-grd")))


def test_unseen_shadow_has_a_label_of_its_own() -> None:
    from unclouded import sensors
    from unclouded.simulate.files import label_codes

    for number in range(30):
        drawn = draw_scene(sensors.load("generic-rgbn"), 64, 5, number)
        codes = label_codes(drawn)
        np.testing.assert_array_equal(codes == UNSEEN, drawn.sky.ambiguous)
        if drawn.sky.ambiguous.any():
            return
    raise AssertionError("no scene of thirty has shadow on dark water")


def test_the_command(tmp_path: Path) -> None:
    words = ["simulate", str(tmp_path / "out"), "--sensor", "generic-rgb", "--scenes", "2", "--size", "64"]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "simulated-00001" in done.stdout
    assert run(*words, "--json").stdout.count('"status": "kept"') == 2
    assert run(*words[:-1], "96").returncode == 1
    assert run(*words[:3], "no-such").returncode == 3
    assert run(*words, "--scale", "1").returncode == 2


def test_the_command_over_real_ground(tmp_path: Path, shared_data: Path) -> None:
    ground = shared_data / "sen12mscr/clear"
    words = ["simulate", tmp_path / "out", "--sensor", "sentinel2-l1c", "--background", ground, "--scenes", "3",
             "--size", "128", "--sar", "--scale", "0.0001", "--offset", "0"]  # fmt: skip
    done = run(*words)
    assert done.returncode == 0, done.stderr
    found = sets.open_set("folder", tmp_path / "out")
    assert {found.read(record).scene for record in found.records} <= {path.stem for path in ground.iterdir()}
    assert len(list((tmp_path / "out/sar").iterdir())) == 3


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/simulator.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    found: dict = {}
    exec(compile(code, "docs/simulator.md", "exec"), found)
    assert found["sky"].image.shape == (11, 256, 256)
    options = {word for line in page.splitlines() if line.startswith("unclouded simulate") for word in line.split()}
    shown = run("simulate", "--help").stdout
    for option in sorted(word for word in options if word.startswith("--")):
        assert option in shown, option
