"""The page on adding a sensor and a reader, followed word by word."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unclouded import readers, sensors
from unclouded.errors import RadiometryError, UncloudedError
from unclouded.readers import open_scene

from .contract import test_readers as contract
from .fakes_command import records, run
from .fakes_docs import PAGES, blocks
from .fakes_products import make_tif

PAGE = PAGES["docs/add-a-sensor.md"]


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalogue of sensors with the page's example in it."""
    (block,) = [block for block in blocks("docs/add-a-sensor.md") if block.language == "toml"]
    folder = tmp_path / "sensors"
    folder.mkdir()
    for path in Path(sensors.__file__).parent.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "examplesat-sr.toml").write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(sensors, "_FOLDER", folder)
    sensors.load.cache_clear()
    yield
    sensors.load.cache_clear()


def counts() -> np.ndarray:
    data = np.random.default_rng(0).integers(200, 6000, (4, 32, 32)).astype(np.uint16)
    data[:, :4] = 0
    return data


@pytest.mark.usefixtures("catalogue")
def test_the_worked_example(tmp_path: Path) -> None:
    name = sensors.load("examplesat-sr").example[0]
    data = counts()
    scene = open_scene(make_tif(tmp_path / f"{name}.tif", data, pixel_m=5.0))
    assert (scene.sensor, scene.level, scene.id) == ("examplesat-sr", "boa", name)
    assert [band.common_name for band in scene.bands] == ["blue", "green", "red", "nir"]
    assert {record.source for record in scene.radiometry.values()} == {"sensor"}
    out = scene.read(scene.geobox)
    assert np.isnan(out[:, :4]).all()
    assert out[:, 4:] == pytest.approx(data[:, 4:] * 1e-4, abs=1e-6)


@pytest.fixture
def reader(tmp_path: Path, catalogue: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[readers.Reader]:
    """The page's reader, in a folder that belongs to the package."""
    (block,) = [block for block in blocks("docs/add-a-sensor.md") if block.language == "python"]
    folder = tmp_path / "more_readers"
    folder.mkdir()
    (folder / "examplesat.py").write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(folder)])
    monkeypatch.setattr(readers, "_REGISTRY", dict(readers._REGISTRY))
    importlib.invalidate_caches()
    (found,) = [one for one in readers.readers() if one.name == "examplesat"]
    yield found
    sys.modules.pop("unclouded.readers.examplesat")
    del readers.examplesat  # type: ignore[attr-defined]


def test_the_worked_reader(tmp_path: Path, reader: readers.Reader) -> None:
    product = tmp_path / sensors.load("examplesat-sr").example[0]
    product.mkdir()
    data = counts()
    for number, plane in enumerate(data, start=1):
        make_tif(product / f"B{number}.tif", plane[None], pixel_m=5.0)
    said = {f"B{number}": {"scale": number * 1e-4, "offset": -0.01} for number in (1, 2, 3, 4)}
    (product / "product.json").write_text(json.dumps({"datetime": "2024-06-01T10:10:31Z", **said}))
    assert reader.matches(product)
    scene = open_scene(product)
    assert (scene.id, scene.sensor, scene.datetime) == (product.name, "examplesat-sr", "2024-06-01T10:10:31Z")
    assert {record.source for record in scene.radiometry.values()} == {"product-json"}
    expected = data * np.arange(1, 5)[:, None, None] * 1e-4 - 0.01
    expected[:, :4] = np.nan
    assert scene.read(scene.geobox) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert open_scene(product, scale=1e-4, offset=0.0).radiometry["B2"].source == "user"
    done = run("info", product, "--json")
    assert records(done)[0]["bands"][1]["scale"] == 2e-4

    # What the contract asks of every reader.
    of_all = contract.TestReader()
    of_all.test_it_says_what_it_reads(reader)
    for source in (object(), None, 42, [], {}, {"type": "Collection"}, b"bytes"):
        of_all.test_it_does_not_claim_what_is_nothing(reader, source)
    (tmp_path / "odd").mkdir()
    of_all.test_it_does_not_break_on_odd_places(reader, tmp_path / "odd")

    (product / "product.json").write_text(json.dumps({**said, "B2": {}}))
    with pytest.raises(RadiometryError, match="no scale for band B2") as caught:
        open_scene(product)
    assert "--scale" in caught.value.remedy
    assert "--bands" in caught.value.remedy
    for bad in ('{"B1": {"scale": "much"}}', "[", '{"B1": {"scale": 1e9}}'):
        (product / "product.json").write_text(bad)
        with pytest.raises(UncloudedError):
            open_scene(product)


def test_every_entry_of_a_sensor_file_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for field in sensors.Sensor.model_fields:
        assert f"`{field}`" in page or f"`{field}." in page or f"\n{field} = " in page, field
    for field in sensors.SensorBand.model_fields:
        if field not in ("gsd_m", "irradiance"):
            assert f"`band.{field}`" in page, field
