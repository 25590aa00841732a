"""The page on adding a sensor, followed word by word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unclouded import sensors
from unclouded.readers import open_scene

from .fakes_docs import PAGES, blocks
from .fakes_products import make_tif

PAGE = PAGES["docs/add-a-sensor.md"]


def test_the_worked_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks("docs/add-a-sensor.md") if block.language == "toml"]
    # The catalogue with the example in it.
    folder = tmp_path / "sensors"
    folder.mkdir()
    for path in Path(sensors.__file__).parent.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "examplesat-sr.toml").write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(sensors, "_FOLDER", folder)
    sensors.load.cache_clear()
    try:
        name = sensors.load("examplesat-sr").example[0]
        data = np.random.default_rng(0).integers(200, 6000, (4, 32, 32)).astype(np.uint16)
        data[:, :4] = 0
        scene = open_scene(make_tif(tmp_path / f"{name}.tif", data, pixel_m=5.0))
    finally:
        sensors.load.cache_clear()
    assert (scene.sensor, scene.level, scene.id) == ("examplesat-sr", "boa", name)
    assert [band.common_name for band in scene.bands] == ["blue", "green", "red", "nir"]
    assert {record.source for record in scene.radiometry.values()} == {"sensor"}
    out = scene.read(scene.geobox)
    assert np.isnan(out[:, :4]).all()
    assert out[:, 4:] == pytest.approx(data[:, 4:] * 1e-4, abs=1e-6)


def test_every_entry_of_a_sensor_file_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for field in sensors.Sensor.model_fields:
        assert f"`{field}`" in page or f"`{field}." in page or f"\n{field} = " in page, field
    for field in sensors.SensorBand.model_fields:
        if field not in ("gsd_m", "irradiance"):
            assert f"`band.{field}`" in page, field
