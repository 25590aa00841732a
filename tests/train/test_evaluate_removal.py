"""Judging what was rebuilt: all, cloudy and clear pixels, by cloud cover and season."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from unclouded.data import sets
from unclouded.data.sets.base import Pair
from unclouded.image_metrics import restoration, spectral_angle, ssim, ssim_map
from unclouded.train.config import DataPart
from unclouded.train.evaluate import Test, open_test
from unclouded.train.evaluate_removal import RemovalRun, Restored, Untouched, evaluate_removal
from unclouded.train.evaluate_report import report_text
from unclouded.train.run import fit


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Test:
    folder = tmp_path_factory.mktemp("sen12mscr")
    sets.get("sen12mscr").make_fake(folder)
    return open_test(DataPart(name="sen12mscr", root=folder), "all", task="removal")


def half(pair: Pair) -> np.ndarray:
    """A detector that sees cloud in the left half."""
    classes = np.zeros(pair.cloudy.shape[1:], np.uint8)
    classes[:, : classes.shape[1] // 2] = 1
    return classes


class Fixed:
    """Leaves an error of 0.1 under cloud and of 0.01 elsewhere."""

    name = "fixed"

    def restores(self, pair: Pair, record: object, cloud: np.ndarray) -> list[Restored]:
        clear = np.clip(np.nan_to_num(pair.clear[:3]), 0, 0.5)
        return [Restored(clear, clear + np.where(cloud == 1, 0.1, 0.01).astype(np.float32), clear, cloud)]


def test_regions_are_judged_apart(pairs: Test) -> None:
    found = evaluate_removal([Fixed()], pairs, detector=half)[0]
    figures = found.figures()
    assert figures["cloudy PSNR"].value == pytest.approx(20, abs=1e-3)
    assert figures["clear PSNR"].value == pytest.approx(40, abs=1e-2)
    assert figures["cloudy MAE"].value == pytest.approx(0.1, abs=1e-5)
    assert figures["MAE"].value == pytest.approx(0.055, abs=1e-5)
    assert {image.cover for image in found.images} == {0.5}
    assert set(found.groups("cover")) == {"40-60 %"}
    assert set(found.groups("season")) == {"fall", "spring", "summer", "winter"}
    assert "cloudy PSNR" in report_text([found], by=["season"])


def test_images_without_cloud_do_not_count_for_cloudy_pixels(pairs: Test) -> None:
    first = pairs.records[0].name

    def detector(pair: Pair) -> np.ndarray:
        return half(pair) if pair.name == first else np.zeros(pair.cloudy.shape[1:], np.uint8)

    found = evaluate_removal([Fixed()], pairs, detector=detector)[0]
    assert found.figures()["cloudy PSNR"].value == pytest.approx(20, abs=1e-3)
    others = found.named(record.name for record in pairs.records[1:])
    assert math.isnan(found.figures(others)["cloudy PSNR"].value)


def test_runs_are_judged_on_the_patches_of_their_training(tiny, pairs: Test, tmp_path: Path) -> None:
    run = fit(
        tiny(
            task="removal", model={"name": "mmcanet", "options": {"widths": [8, 16], "blocks": [1, 1], "low": 0}},
            bands=["B04", "B03", "B02"], loss={"kind": "l1-ssim"}, batch=1, steps=1, epochs=None, images_per_epoch=1,
            data=[{"name": "sen12mscr", "root": str(pairs.data.root)}], patch={"size": 32, "judge": "centre"},
            select="PSNR",
        )
    )  # fmt: skip
    chosen = open_test(DataPart(name="sen12mscr", root=pairs.data.root), "choose", task="removal")
    ours, untouched = evaluate_removal([RemovalRun(run, "last"), Untouched(run)], chosen, detector=half)
    logged = run.log()[-1]
    for metric in ("PSNR", "SSIM", "MAE", "SAM"):
        assert ours.figures()[metric].value == pytest.approx(logged[metric], rel=1e-4)
    assert untouched.figures()["MAE"].value > 0
    assert (tmp_path / "run").exists()


def test_restoration_of_a_region() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 40, 40))
    found = np.where(np.arange(40) < 20, truth, truth + 0.1)
    left, right = np.broadcast_to(np.arange(40) < 20, (40, 40)), np.broadcast_to(np.arange(40) >= 20, (40, 40))
    assert restoration(found, truth, left)["PSNR"] == 100
    assert restoration(found, truth, left)["MAE"] == 0
    assert restoration(found, truth, right)["RMSE"] == pytest.approx(0.1)
    assert restoration(found, truth, right)["SAM"] == pytest.approx(spectral_angle(found[:, :, 20:], truth[:, :, 20:]))
    places = ssim_map(found, truth)
    assert restoration(found, truth, right)["SSIM"] == pytest.approx(places[:, :, 15:].mean())
    assert ssim(found, truth, where=left) > ssim(found, truth, where=right)
    nothing = restoration(found, truth, np.zeros((40, 40), bool))
    assert all(math.isnan(value) for value in nothing.values())
    missing = found.copy()
    missing[:, 0] = np.nan
    assert restoration(missing, truth, left)["MAE"] == 0


