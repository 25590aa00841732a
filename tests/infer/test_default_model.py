"""The shipped model on a simulated scene: its mask depends on the scene, not on how the scene is cut."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded.infer.arrays import array_scene
from unclouded.infer.plan import make_plan
from unclouded.infer.predict import model_rows
from unclouded.infer.runner import load_runner
from unclouded.options import Options
from unclouded.result import InMemory
from unclouded.scene import Scene
from unclouded.sensors import bands_of
from unclouded.simulate.clouds import simulate_clouds
from unclouded.simulate.surface import procedural_surface

BANDS = bands_of("sentinel2-l1c")


@pytest.fixture(scope="module")
def scene() -> Scene:
    surface = procedural_surface(BANDS, (500, 620), 20.0, 11, landscape="farmland")
    cloudy = simulate_clouds(surface, BANDS, resolution_m=20.0, seed=4, cover=0.4).image
    return array_scene(cloudy, BANDS, sensor="sentinel2-l1c", level="toa", resolution_m=20.0, nodata=None)


def masked(scene: Scene, tile: int) -> InMemory:
    runner = load_runner("default", threads=1)
    plan = make_plan(scene, runner.card)
    return InMemory(plan, model_rows(plan, runner, tile=tile, halo=Options().halo))


def test_tiles_of_256_and_1024_agree(scene: Scene) -> None:
    small, large = masked(scene, 256), masked(scene, 1024)
    agreement = float((small.classes() == large.classes()).mean())
    assert agreement >= 0.999
    assert np.abs(small.probability() - large.probability()).mean() < 1e-3


def test_the_simulated_scene_is_not_all_one_class(scene: Scene) -> None:
    counts = np.bincount(masked(scene, 1024).classes().ravel(), minlength=4)
    assert counts[:4].sum() == 500 * 620
    assert counts[0] > 0.1 * 500 * 620
    assert counts[1] + counts[2] > 0.05 * 500 * 620
