"""Simulated spectra beside real ones that people labelled; docs/simulator.md has the figures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from unclouded import sensors
from unclouded.data import labels as lab
from unclouded.data import sets
from unclouded.simulate.scenes import draw_scene

NAMES = ["B2", "B3", "B4", "B5", "B6", "B7", "B9"]
CLASSES = {"thick": (lab.THICK, 1), "thin": (lab.THIN, 2), "shadow": (lab.SHADOW, 3)}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, np.ndarray]:
    """10th, 50th and 90th percentile of each class and band of the Landsat-8 Biome patches."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for sample in sets.open_set("l8biome", shared_data / "l8biome").samples():
        rows = [next(i for i, band in enumerate(sample.bands) if band.name == name) for name in NAMES]
        for name, (bits, _) in CLASSES.items():
            pixels = sample.image[rows][:, sample.sets == bits]
            if pixels.shape[1] >= 100:
                found[name].append(pixels[:, :: max(1, pixels.shape[1] // 3000)])
    return {name: np.percentile(np.concatenate(parts, axis=1), [10, 50, 90], axis=1) for name, parts in found.items()}


@pytest.fixture(scope="module")
def simulated() -> dict[str, np.ndarray]:
    """Medians of each class and band over random scenes of the same sensor."""
    sensor = sensors.load("landsat-oli-c2-l1")
    bands = [band.name for band in sensor.bands if band.kind in ("optical", "thermal")]
    rows = [bands.index(name) for name in NAMES]
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for number in range(40):
        sky = draw_scene(sensor, 96, 1, number).sky
        for name, (_, code) in CLASSES.items():
            found[name].append(sky.image[rows][:, (sky.classes == code) & ~sky.ambiguous])
    return {name: np.median(np.concatenate(parts, axis=1), axis=1) for name, parts in found.items()}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_simulated_medians_lie_in_the_range_of_real_clouds(
    real: dict[str, np.ndarray], simulated: dict[str, np.ndarray], name: str
) -> None:
    """From the 10th to the 90th percentile of what people called so, in every band but that of cirrus."""
    low, _, high = real[name][:, :6]
    assert (simulated[name][:6] >= low - 0.025).all(), simulated[name]
    assert (simulated[name][:6] <= high + 0.025).all(), simulated[name]


def test_the_colours_of_thick_cloud_are_those_of_real_cloud(
    real: dict[str, np.ndarray], simulated: dict[str, np.ndarray]
) -> None:
    """Ratios to the near infrared: ozone in the green, absorption by water and ice in the short-wave infrared."""
    for row, allowed in zip(range(6), (0.06, 0.06, 0.06, 0.0, 0.2, 0.2), strict=True):
        wanted = real["thick"][1, row] / real["thick"][1, 3]
        assert simulated["thick"][row] / simulated["thick"][3] == pytest.approx(wanted, abs=allowed), NAMES[row]
