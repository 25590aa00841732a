"""The picture of a removal: before, after, where it comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

import unclouded
from unclouded.write.quicklook import PANEL
from unclouded.write.quicklook_removal import draw
from unclouded.write.stac_removal import COLOURS

from .fakes_removal import READING, make_ground, write_model

pytestmark = pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")


def test_the_picture_lies_beside_the_result(tmp_path: Path) -> None:
    ground, model = make_ground(tmp_path / "in"), write_model(tmp_path / "model")
    given = {"mask": ground.masks[0], "model": str(model), **READING}
    result = unclouded.remove(ground.paths[0], output=tmp_path / "out", quicklook=True, **given)
    item = pystac.Item.from_file(str(result.outputs["item"]))
    assert item.assets["quicklook"].media_type == "image/png"
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(result.outputs["quicklook"]) as file:
        picture = file.read()
    assert picture.shape[0] == 3
    again = unclouded.remove(ground.paths[0], output=tmp_path / "out", quicklook=True, resume=True, **given)
    assert set(again.outputs) == set(result.outputs)
    # A run without it leaves no picture of another result behind.
    plain = unclouded.remove(ground.paths[0], output=tmp_path / "out", overwrite=True, **given)
    assert "quicklook" not in plain.outputs
    assert not result.outputs["quicklook"].exists()


def test_clouds_are_gone_in_the_second_panel_and_marked_in_the_third() -> None:
    rng = np.random.default_rng(1)
    after = rng.uniform(0.05, 0.2, (3, PANEL, PANEL)).astype(np.float32)
    before, codes = after.copy(), np.zeros((PANEL, PANEL), np.uint8)
    before[:, :200, :200], codes[:200, :200] = 0.9, 1
    codes[300:, 300:], after[:, 300:, 300:] = 255, np.nan
    picture = draw(before, after, codes, title="scene", colours="natural colours", counts={0: 3, 1: 1, 2: 0, 255: 1})
    top = int(np.argmax((picture[:, :, 8 + 100] == 255).all(axis=0)))  # the cloud is white in the first panel
    first, second, third = (picture[:, top : top + PANEL, 8 + k * (PANEL + 8) :][:, :, :PANEL] for k in range(3))
    assert (first[:, :200, :200] == 255).all()
    assert second[:, :200, :200].mean() < 200
    same = np.s_[:, 210:290, 210:290]
    np.testing.assert_array_equal(first[same], second[same])
    tint = third[:, :200, :200].mean(axis=(1, 2))
    assert np.argmax(tint) == np.argmax(COLOURS[1])
