"""The demonstration: a real-looking product, a truth that fits it, and scores that can be counted again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from unclouded.demo import Demo, _on_grid, run_demo
from unclouded.errors import InputError, OutputError
from unclouded.metrics import confusion
from unclouded.options import Options
from unclouded.readers import open_scene

from .fakes_command import records, run, run_process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), size=384, options=Options(quicklook=True, tile=256, halo=32))


def test_the_product_reads_like_a_real_one(made: Demo) -> None:
    scene = open_scene(made.product)
    assert scene.sensor == "sentinel2-l1c"
    assert len(scene.bands) == 13
    assert {one.source for one in scene.radiometry.values()} == {"product-xml"}
    assert {one.offset for one in scene.radiometry.values()} == {-0.1}
    image = scene.read(scene.grid(60), ["B02", "B10"])
    assert np.nanmin(image) > -0.1
    assert 0.5 < np.nanmax(image[0]) < 1.5


def test_truth_lies_on_the_product(made: Demo) -> None:
    scene = open_scene(made.product)
    with rasterio.open(made.truth) as file:
        truth = file.read(1)
        assert file.transform == scene.geobox.affine
        assert file.nodata == 255
    assert truth.shape == tuple(scene.geobox.shape)
    assert set(np.unique(truth)) == {0, 1, 2, 3, 255}
    blue = scene.read(scene.geobox, ["B02"])[0]
    # Every pixel that the truth lacks is missing in the product, and clouds are brighter than the ground.
    assert np.isnan(blue[truth == 255]).all()
    assert np.nanmedian(blue[truth == 1]) > 2 * np.nanmedian(blue[truth == 0])
    assert np.nanmedian(blue[truth == 3]) < np.nanmedian(blue[truth == 0])


def test_nothing_missing_is_called_clear(made: Demo) -> None:
    with rasterio.open(made.truth) as file:
        truth = file.read(1)
    assert (made.result.classes.values[truth == 255] == 255).all()


def test_scores_are_those_of_the_files(made: Demo) -> None:
    with rasterio.open(made.truth) as file, rasterio.open(made.result.outputs["mask"]) as mask:
        again = confusion(file.read(1), mask.read(1))
    np.testing.assert_array_equal(again.counts, made.table.counts)
    assert made.result.outputs["quicklook"].exists()


def test_the_same_number_gives_the_same_scene(made: Demo, tmp_path: Path) -> None:
    again = run_demo(tmp_path / "same", size=384, options=Options(tile=256, halo=32))
    other = run_demo(tmp_path / "other", size=384, seed=5, options=Options(tile=256, halo=32))
    np.testing.assert_array_equal(again.table.counts, made.table.counts)
    assert (other.table.counts != made.table.counts).any()


def test_an_earlier_demonstration_is_kept_unless_told(made: Demo) -> None:
    folder = made.product.parent
    with pytest.raises(OutputError, match="exists already"):
        run_demo(folder, size=192)
    assert run_demo(folder, size=192, options=Options(overwrite=True, resolution_m=20)).table.pixels == 96 * 96 - int(
        (_truth_at_20m(folder) == 255).sum()
    )


def _truth_at_20m(folder: Path) -> np.ndarray:
    (path,) = folder.glob("*_truth.tif")
    (mask,) = folder.glob("*_mask.tif")
    with rasterio.open(path) as file, rasterio.open(mask) as found:
        codes = found.read(1)
        return np.where(codes == 255, codes, _on_grid(file.read(1), codes.shape))


@pytest.mark.parametrize("size", [100, 186, 2202])
def test_sizes_that_do_not_fit(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError, match=f"{size} pixels") as caught:
        run_demo(tmp_path / "new", size=size)
    assert "--size" in caught.value.remedy
    assert not (tmp_path / "new").exists()


def test_command(tmp_path: Path) -> None:
    words = ["demo", "-o", tmp_path / "d", "--size", 192]
    done = run_process(*words, "--json")
    assert done.returncode == 0, done.stderr
    (record,) = records(done)
    assert record["status"] == "done"
    assert {"clear", "thick-cloud", "thin-cloud", "cloud-shadow"} < set(record["scores"])
    assert all(Path(path).exists() for path in record["outputs"].values())
    assert {"product", "truth", "mask", "quicklook", "item"} <= set(record["outputs"])
    text = run(*words, "--overwrite")
    assert text.returncode == 0, text.stderr
    assert "IoU" in text.stdout
    again = run(*words)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert run(*words, "--size", 100).returncode == 2
