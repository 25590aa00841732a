"""What users call: mask and predict, in memory and to files, and that both tell the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import unclouded
from unclouded.errors import InputError, ModelError, OutputError, RadiometryError, UncloudedWarning
from unclouded.infer.calibrate import decide

NAMES = ("blue", "green", "red", "nir")
SHAPE = (150, 170)


def surface(shape: tuple[int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((4, shape[0] // 5 + 1, shape[1] // 5 + 1), dtype=np.float32)
    image = np.ascontiguousarray(coarse.repeat(5, 1).repeat(5, 2)[:, : shape[0], : shape[1]])
    image[:, :20, :30] = np.nan
    return image


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    return write_tif(tmp_path / "field.tif", surface())


def write_tif(path: Path, image: np.ndarray, pixel_m: float = 10.0, **profile: Any) -> Path:
    settings: dict[str, Any] = {
        "driver": "GTiff", "dtype": image.dtype.name, "count": len(image), "height": image.shape[1],
        "width": image.shape[2], "crs": "EPSG:32633", "transform": from_origin(3e5, 5e6, pixel_m, pixel_m),
        "nodata": np.nan,
    }  # fmt: skip
    with rasterio.open(path, "w", **{**settings, **profile}) as file:
        file.write(image)
        file.descriptions = NAMES[: len(image)]
    return path


def test_mask_in_memory(tif: Path, tiny: Path) -> None:
    import xarray

    result = unclouded.mask(tif, model=str(tiny), tile=128, halo=32)
    assert result.id == "field"
    shares = (result.uncertainty, np.float32), (result.probability, np.float32)
    for array, dtype in ((result.classes, np.uint8), *shares):
        assert isinstance(array, xarray.DataArray)
        assert array.dtype == dtype
        assert array.shape[-2:] == SHAPE
    assert result.probability.dims == ("class", "y", "x")
    assert result.probability["class"].values.tolist() == ["clear", "thick-cloud", "thin-cloud", "cloud-shadow"]
    gone = np.zeros(SHAPE, bool)
    gone[:20, :30] = True
    classes = result.classes.values
    np.testing.assert_array_equal(classes == 255, gone)
    np.testing.assert_array_equal(np.isnan(result.uncertainty.values), gone)
    np.testing.assert_array_equal(decide(result.probability.values[:, ~gone]), classes[~gone])
    assert sum(result.counts.values()) == classes.size
    assert {code: int((classes == code).sum()) for code in result.counts} == result.counts
    cloud = 100 * np.isin(classes, (1, 2)).sum() / (~gone).sum()
    assert result.cloud_percent == pytest.approx(cloud)
    assert result.outputs == {}
    assert result.model.name == "tiny"
    assert result.seconds > 0
    assert result.warnings == ()
    assert "in memory" in repr(result)
    # Pixel centres and reference system where other libraries look for them.
    assert float(result.classes.x[0]) == 3e5 + 5
    assert float(result.classes.y[-1]) == 5e6 - 10 * SHAPE[0] + 5
    assert "32633" in result.classes.spatial_ref.attrs["crs_wkt"]
    assert result.item.properties["unclouded:model"]["name"] == "tiny"


def test_files_and_memory_agree(tif: Path, tiny: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": str(tiny), "tile": 128, "halo": 32, "probability": True, "quicklook": True}
    memory = unclouded.mask(tif, **settings)
    told: list[float] = []
    streamed = unclouded.mask(tif, output=tmp_path / "streamed", progress=told.append, **settings)
    item = memory.save(tmp_path / "saved")
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert streamed.counts == memory.counts
    assert list(streamed.outputs) == ["mask", "uncertainty", "prob", "quicklook", "item"]
    assert memory.outputs.keys() == streamed.outputs.keys()
    for product in ("mask", "uncertainty", "prob"):
        with rasterio.open(streamed.outputs[product]) as one, rasterio.open(memory.outputs[product]) as two:
            np.testing.assert_array_equal(one.read(), two.read())
    assert item.id == "field"
    written = json.loads(memory.outputs["item"].read_text())
    assert written["properties"]["unclouded:fingerprint"] == streamed.item.properties["unclouded:fingerprint"]
    # Lazily from the files: classes exactly, shares to whole percent.
    np.testing.assert_array_equal(streamed.classes.values, memory.classes.values)
    np.testing.assert_allclose(streamed.uncertainty.values, memory.uncertainty.values, atol=0.00501)
    np.testing.assert_allclose(streamed.probability.values, memory.probability.values, atol=0.00501)
    # A result in files can be saved elsewhere too.
    streamed.save(tmp_path / "copy", probability=False, quicklook=False)
    with rasterio.open(tmp_path / "copy" / "field_mask.tif") as copy:
        np.testing.assert_array_equal(copy.read(1), memory.classes.values)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "field.json", "field_mask.tif", "field_uncertainty.tif",
    ]  # fmt: skip


def test_probabilities_that_were_not_written(tif: Path, tiny: Path, tmp_path: Path) -> None:
    result = unclouded.mask(tif, model=str(tiny), output=tmp_path / "out")
    with pytest.raises(InputError, match="--prob"):
        _ = result.probability
    with pytest.raises(InputError, match="--prob"):
        result.save(tmp_path / "again", probability=True)
    assert not (tmp_path / "again").exists()
    with pytest.raises(InputError, match="tile"):
        result.save(tmp_path / "again", tile=512)


def test_existing_output(tif: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = unclouded.mask(tif, model=str(tiny), output=out)
    stamp = first.outputs["mask"].stat().st_mtime_ns
    with pytest.raises(OutputError, match="overwrite"):
        unclouded.mask(tif, model=str(tiny), output=out)
    kept = unclouded.mask(tif, model=str(tiny), output=out, resume=True)
    assert kept.outputs["mask"].stat().st_mtime_ns == stamp
    assert kept.counts == first.counts
    np.testing.assert_array_equal(kept.classes.values, first.classes.values)
    changed = unclouded.mask(tif, model=str(tiny), output=out, resume=True, resolution_m=20)
    assert changed.outputs["mask"].stat().st_mtime_ns != stamp
    assert changed.classes.shape == (75, 85)
    unclouded.mask(tif, model=str(tiny), output=out, overwrite=True)


def test_a_failing_run_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    tif = write_tif(tmp_path / "broken.tif", surface((600, 300)), compress="DEFLATE")
    content = tif.read_bytes()
    tif.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError):
        unclouded.mask(tif, model=str(tiny), output=tmp_path / "out", tile=128, halo=32)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("resolution_m", [3.0, 10.0, 20.0, 30.0])
def test_predict_says_what_mask_says(tiny: Path, tmp_path: Path, resolution_m: float) -> None:
    image = surface((460, 470) if resolution_m < 5 else SHAPE)
    tif = write_tif(tmp_path / "field.tif", image, resolution_m)
    result = unclouded.mask(tif, model=str(tiny), tile=128, halo=64 - 32, level="toa")
    found = unclouded.predict(image, NAMES, resolution_m=resolution_m, model=tiny, level="toa")
    np.testing.assert_allclose(found.probability, result.probability.values, atol=2e-5)
    np.testing.assert_allclose(found.uncertainty, result.uncertainty.values, atol=2e-5)
    assert (found.classes == result.classes.values).mean() > 0.9999
    assert found.classes.dtype == np.uint8


def test_predict_takes_bands_in_any_order_and_by_wavelength(tiny: Path) -> None:
    image = surface()
    ranges = {"blue": (450, 520), "green": (540, 580), "red": (630, 690), "nir": (780, 900)}
    one = unclouded.predict(image, NAMES, model=tiny)
    two = unclouded.predict(image[::-1], [ranges[name] for name in NAMES[::-1]], model=tiny)
    np.testing.assert_allclose(one.probability, two.probability, atol=1e-6)
    sentinel = unclouded.predict(image, ["B2", "B03", "red", "B8A"], sensor="sentinel2-l1c", model=tiny)
    np.testing.assert_allclose(one.probability, sentinel.probability, atol=1e-6)


def test_predict_marks_missing_pixels(tiny: Path) -> None:
    image = surface()
    image[2, 100, 100] = -1.0
    found = unclouded.predict(image, NAMES, nodata=-1.0, resolution_m=20, model=tiny)
    gone = ~np.isfinite(image).all(axis=0)
    gone[100, 100] = True
    np.testing.assert_array_equal(found.classes == 255, gone)
    np.testing.assert_array_equal(np.isnan(found.uncertainty), gone)
    np.testing.assert_array_equal(np.isnan(found.probability).all(axis=0), gone)


def test_predict_refuses(tiny: Path) -> None:
    image = surface()
    with pytest.raises(RadiometryError, match="uint16"):
        unclouded.predict(np.nan_to_num(image * 1e4).astype(np.uint16), NAMES, model=tiny)
    with pytest.raises(InputError, match="given twice"):
        unclouded.predict(image, ["blue", "green", "blue", "nir"], model=tiny)
    with pytest.raises(InputError, match="violett"):
        unclouded.predict(image, ["violett", "green", "red", "nir"], model=tiny)
    for resolution_m in (0.0, -10.0, float("nan")):
        with pytest.raises(InputError, match="resolution"):
            unclouded.predict(image, NAMES, resolution_m=resolution_m, model=tiny)
    with pytest.raises(ModelError, match="no model"):
        unclouded.predict(image, NAMES, model="no-such-model")


def test_doubts_are_told_and_recorded(tiny: Path, tmp_path: Path) -> None:
    small = write_tif(tmp_path / "small.tif", surface((90, 90)))
    with pytest.warns(UncloudedWarning, match="45 x 45 pixels"):
        result = unclouded.mask(small, model=str(tiny))
    assert "45 x 45 pixels" in result.warnings[0]
    assert result.item.properties["unclouded:warnings"] == list(result.warnings)
    coarse = write_tif(tmp_path / "coarse.tif", surface(), 100.0)
    with pytest.warns(UncloudedWarning, match="coarser than the 60 m"):
        unclouded.mask(coarse, model=str(tiny))
    with pytest.warns(UncloudedWarning, match="coarser"):
        unclouded.predict(surface(), NAMES, resolution_m=100, model=tiny)


def test_uncalibrated_pictures_are_masked_with_a_warning(tiny: Path, tmp_path: Path) -> None:
    picture = (np.nan_to_num(surface()[:3]) * 255).astype(np.uint8)
    tif = write_tif(tmp_path / "picture.tif", picture, nodata=None)
    with pytest.warns(unclouded.RadiometryWarning):
        result = unclouded.mask(tif, model=str(tiny))
    assert any("calibrated" in warning for warning in result.warnings)


def test_scenes_and_options(tif: Path, tiny: Path) -> None:
    scene = unclouded.open_scene(tif)
    options = unclouded.Options(model=str(tiny), tile=256)
    result = unclouded.mask(scene, options, halo=32)
    np.testing.assert_array_equal(result.classes.values, unclouded.mask(tif, model=str(tiny), halo=32).classes.values)
    with pytest.raises(InputError, match="open_scene"):
        unclouded.mask(scene, scale=1e-4)
    with pytest.raises(InputError, match="'tiles'"):
        unclouded.mask(tif, tiles=512)
    with pytest.raises(InputError, match="multiple of 32"):
        unclouded.mask(tif, tile=500)
    with pytest.raises(InputError, match="does not exist"):
        unclouded.mask(tif.with_name("nowhere.tif"))


def test_a_grid_without_reference_system(tiny: Path, tmp_path: Path) -> None:
    tif = write_tif(tmp_path / "plain.tif", surface(), crs=None, transform=rasterio.Affine.identity())
    result = unclouded.mask(unclouded.open_scene(tif, resolution_m=10.0), model=str(tiny))
    assert result.classes.shape == SHAPE
    assert "crs_wkt" not in result.classes.spatial_ref.attrs
    expected = unclouded.predict(surface(), NAMES, model=tiny)
    np.testing.assert_allclose(result.probability.values, expected.probability, atol=2e-5)


def test_a_sentinel2_product(tiny: Path, tmp_path: Path, make_model: Callable[..., Path]) -> None:
    """A whole product: thirteen bands of three pixel sizes in JPEG 2000, with offsets and a corner without data."""
    from unclouded.sensors import load
    from unclouded.simulate.safe import write_safe

    rng = np.random.default_rng(3)
    sensor = load("sentinel2-l1c")
    ground = rng.random((61, 61), dtype=np.float32)
    counts = {}
    for index, band in enumerate(sensor.bands):
        size = round(3660 / band.gsd_m)
        fine = ground.repeat(6, 0).repeat(6, 1)[:: round(band.gsd_m / 10), :: round(band.gsd_m / 10)][:size, :size]
        dn = (fine * 4000 + 1200 + 50 * index).astype(np.uint16)
        dn[: round(600 / band.gsd_m), : round(900 / band.gsd_m)] = 0
        counts[band.name] = dn
    safe = write_safe(
        tmp_path, counts, crs="EPSG:32633", ulx=3e5, uly=5e6, datetime="2024-05-01T10:00:00Z", offset=-1000
    )
    result = unclouded.mask(safe, model=str(tiny), tile=128, halo=32)
    assert result.classes.shape == (366, 366)
    assert result.warnings == ()
    gone = result.classes.values == 255
    assert gone[:60, :90].all()
    assert not gone[100:].any()
    assert not gone[:, 130:].any()
    other = unclouded.mask(safe, model=str(tiny), tile=1024, halo=32)
    np.testing.assert_allclose(result.probability.values, other.probability.values, atol=1e-5)
    fewer = unclouded.mask(safe, model=str(tiny), bands=["B04", "B03", "B02"])
    assert fewer.item.properties["unclouded:bands"] == ["B02", "B03", "B04"]
