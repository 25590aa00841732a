"""Removal of clouds: what may change and what may not, whatever the tiles, the dates and the radar."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pystac.validation import validate_dict
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rio_cogeo import cog_validate

import unclouded
from unclouded.errors import InputError, ModelError, OutputError, UncloudedError, UncloudedWarning
from unclouded.infer.feather import dilated
from unclouded.infer.runner import shipped
from unclouded.write.stac import EXTENSIONS

from .fakes_removal import GRID, READING, Ground, make_ground, write_image, write_model
from .test_write_stac import validator as validator_of_items

validator = validator_of_items
pytestmark = pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def run(ground: Ground, dates: int = 0, **options: Any) -> unclouded.Removal:
    given = {"mask": ground.masks[0], "history_masks": ground.masks[1 : 1 + dates], **READING, **options}
    return unclouded.remove(ground.paths[0], history=ground.paths[1 : 1 + dates], **given)


def may_change(mask: NDArray[np.uint8], dilation: int = 3, feather: int = 4) -> NDArray[np.bool_]:
    return dilated((mask > 0) & (mask < 255), dilation + feather)


def error(result: unclouded.Removal, ground: Ground, where: NDArray[np.bool_]) -> float:
    return float(np.abs(result.image.values - ground.clear)[:, where].mean())


@pytest.mark.parametrize("dates", [0, 2])
def test_what_is_clear_stays_bit_for_bit(ground: Ground, model: Path, tmp_path: Path, dates: int) -> None:
    result = run(ground, dates, model=str(model), output=tmp_path)
    with rasterio.open(result.outputs["restored"]) as file, rasterio.open(ground.paths[0]) as given:
        made, before = file.read(), given.read()
        assert (file.dtypes, file.nodata, file.crs, file.transform) == (
            given.dtypes, given.nodata, given.crs, given.transform,
        )  # fmt: skip
        assert (file.scales, file.offsets) == ((1e-4,) * 4, (-0.1,) * 4)
        assert file.descriptions == given.descriptions
    provenance = result.provenance.values
    same = (made == before).all(axis=0)
    assert same[~may_change(ground.masks[0])].all()
    assert same[np.isin(provenance, (0, 255))].all()
    assert (provenance[ground.masks[0] == 255] == 255).all()
    assert np.isin(provenance[np.isin(ground.masks[0], (1, 2, 3))], (1, 2)).all()
    assert sum(result.counts.values()) == provenance.size
    assert result.counts == {code: int((provenance == code).sum()) for code in (0, 1, 2, 255)}
    assert (result.uncertainty.values[provenance == 0] == 0).all()
    assert (np.isnan(result.uncertainty.values) == (provenance == 255)).all()


def test_files_and_item(ground: Ground, model: Path, tmp_path: Path) -> None:
    result = run(ground, 1, model=str(model), output=tmp_path)
    names = {"first_restored.tif", "first_restored_provenance.tif", "first_restored_uncertainty.tif"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "first_restored.json"}
    for product in ("restored", "restored_provenance", "restored_uncertainty"):
        assert cog_validate(str(result.outputs[product]), strict=True)[0]
    item = pystac.Item.from_file(str(result.outputs["item"]))
    assert item.id == "first_restored"
    links = {link.title: link.get_href() for link in item.get_links("derived_from")}
    assert set(links) == {"Input: first", "Other date: other0", "Model card: rebuild 1"}
    assert Path(links["Input: first"]) == ground.paths[0]
    assert item.properties["unclouded:counts"]["rebuilt"] == result.counts[1] > 0
    assert item.properties["unclouded:counts"]["other-date"] == result.counts[2] > 0
    assert item.properties["unclouded:dates"][0]["expected_error"] < 0.01
    assert item.properties["unclouded:model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    memory = run(ground, 1, model=str(model))
    assert (memory.stored.values == result.stored.values).all()
    assert memory.save(tmp_path / "again").properties["unclouded:counts"] == item.properties["unclouded:counts"]
    with rasterio.open(tmp_path / "again" / "first_restored.tif") as file:
        assert (file.read() == result.stored.values).all()


def test_the_item_is_valid(ground: Ground, model: Path, validator: JsonSchemaSTACValidator) -> None:
    result = run(ground, 2, model=str(model))
    assert EXTENSIONS["projection"] in validate_dict(result.item.to_dict(), validator=validator)


def test_the_written_item_is_valid(
    ground: Ground, model: Path, tmp_path: Path, validator: JsonSchemaSTACValidator
) -> None:
    item = run(ground, 2, model=str(model), output=tmp_path).item.to_dict()
    assert {EXTENSIONS["classification"], EXTENSIONS["raster"]} <= {*validate_dict(item, validator=validator)}


@pytest.mark.parametrize("dates", [0, 1, 2])
def test_tiles_do_not_show(ground: Ground, model: Path, dates: int) -> None:
    whole = run(ground, dates, model=str(model), tile=640, halo=32)
    for tile in (96, 128):
        tiled = run(ground, dates, model=str(model), tile=tile, halo=32)
        assert np.abs(tiled.stored.values.astype(int) - whole.stored.values.astype(int)).max() <= 1
        assert (tiled.provenance.values == whole.provenance.values).all()
        np.testing.assert_allclose(tiled.uncertainty.values, whole.uncertainty.values, atol=1.1e-4)


def test_another_date_is_brought_to_this_ones_light(ground: Ground) -> None:
    hidden = np.isin(ground.masks[0], (1, 2, 3))
    one, both = run(ground, 1, model="none"), run(ground, 2, model="none")
    shown = hidden & ~dilated(ground.masks[1] == 1, 12)
    assert (one.provenance.values[shown] == 2).all()
    assert error(one, ground, shown) < 0.006  # the noise of both dates
    assert both.counts[255] == (ground.masks[0] == 255).sum()
    assert error(both, ground, hidden) < 0.006
    told = both.uncertainty.values[hidden].mean()
    assert 0.5 * error(both, ground, hidden) < told < 2 * error(both, ground, hidden)


def test_what_no_date_shows_is_missing_without_a_network(ground: Ground) -> None:
    result = run(ground, 1, model="none")
    unseen = np.isin(ground.masks[0], (1, 2, 3)) & (ground.masks[1] == 1)
    assert unseen.any()
    assert (result.provenance.values[unseen] == 255).all()
    assert (result.stored.values[:, unseen] == 0).all()
    assert np.isnan(result.image.values[:, unseen]).all()
    assert any("no other date shows" in text for text in result.warnings)


def test_the_network_fills_what_no_date_shows(ground: Ground, model: Path) -> None:
    result = run(ground, 1, model=str(model))
    unseen = np.isin(ground.masks[0], (1, 2, 3)) & (ground.masks[1] == 1)
    assert (result.provenance.values[unseen] == 1).all()
    assert np.isfinite(result.image.values[:, unseen]).all()
    edge = unseen & dilated(result.provenance.values == 2, 9)  # the network continues what the date shows
    assert edge.any()
    assert error(result, ground, edge) < 0.5 * error(run(ground, 0, model=str(model)), ground, edge)
    unsure = result.uncertainty.values
    assert unsure[unseen].mean() > 2 * unsure[result.provenance.values == 2].mean()


def test_the_better_date_comes_first_and_the_nearer_of_equals() -> None:
    bands = ["blue", "green", "red", "nir"]
    rng = np.random.default_rng(3)
    clear = rng.uniform(0.05, 0.4, (4, 96, 96)).astype(np.float32)
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 30:60] = 1
    cloudy = np.where(mask == 1, np.float32(0.8), clear)
    poor = clear + rng.normal(0, 0.05, clear.shape).astype(np.float32)
    good = clear + rng.normal(0, 0.005, clear.shape).astype(np.float32)
    none = np.zeros((2, 96, 96), np.uint8)
    for history in ([poor, good], [good, poor]):
        found = unclouded.restore(cloudy, bands, history=history, mask=mask, history_masks=none, model="none")
        assert np.abs(found.image - clear)[:, mask == 1].mean() < 0.006
    twin = clear + rng.normal(0, 0.005, clear.shape).astype(np.float32)
    found = unclouded.restore(cloudy, bands, history=[good, twin], mask=mask, history_masks=none, model="none")
    first = unclouded.restore(cloudy, bands, history=[good], mask=mask, history_masks=none[:1], model="none")
    assert (found.image == first.image).all()


def series(side: int = 96) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Clear ground, a mask with a cloud, and haze that falls with the wavelength and bends no lines: (band, y, x)."""
    rng = np.random.default_rng(5)
    clear = rng.uniform(0.05, 0.3, (4, side, side)).astype(np.float32)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 1
    haze = np.float32([0.12, 0.09, 0.07, 0.04])[:, None, None] * dilated(mask == 1, 9)
    return clear, mask, haze


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -0.35])
def test_one_hazy_or_shaded_date_of_three_stays_out(place: int, sign: float) -> None:
    clear, mask, haze = series()
    history = [clear.copy() for _ in range(3)]
    history[place] += np.float32(sign) * haze
    cloudy = np.where(mask == 1, np.float32(0.8), clear)
    given = {"bands": ["blue", "green", "red", "nir"], "mask": mask, "model": "none"}
    found = unclouded.restore(cloudy, history=history, history_masks=np.zeros((3, *mask.shape), np.uint8), **given)
    hidden = mask == 1
    assert np.abs(found.image - clear)[:, hidden].max() < 1e-3
    assert (found.provenance[hidden] == 2).all()
    calm = [clear.copy() for _ in range(3)]
    sure = unclouded.restore(cloudy, history=calm, history_masks=np.zeros((3, *mask.shape), np.uint8), **given)
    assert found.uncertainty[hidden].min() > sure.uncertainty[hidden].max() + 0.005


def test_of_two_dates_the_one_without_haze_is_taken() -> None:
    clear, mask, haze = series()
    cloudy = np.where(mask == 1, np.float32(0.8), clear)
    given = {"bands": ["blue", "green", "red", "nir"], "mask": mask, "model": "none"}
    for history in ([clear + haze, clear], [clear, clear + haze]):
        found = unclouded.restore(cloudy, history=history, history_masks=np.zeros((2, *mask.shape), np.uint8), **given)
        assert np.abs(found.image - clear)[:, mask == 1].max() < 1e-3


def test_equal_dates_change_nothing() -> None:
    clear, mask, _ = series()
    cloudy = np.where(mask == 1, np.float32(0.8), clear)
    none = np.zeros((3, *mask.shape), np.uint8)
    given = {"bands": ["blue", "green", "red", "nir"], "mask": mask, "model": "none"}
    one = unclouded.restore(cloudy, history=[clear], history_masks=none[:1], **given)
    three = unclouded.restore(cloudy, history=[clear] * 3, history_masks=none, **given)
    assert (one.image == three.image).all()
    assert (one.provenance == three.provenance).all()


def test_what_has_no_contrast_does_not_come_first_where_nothing_can_be_compared() -> None:
    clear, _, _ = series()
    mask = np.ones(clear.shape[1:], np.uint8)
    flat = np.broadcast_to(clear.mean(axis=(1, 2), keepdims=True), clear.shape).copy()
    found = unclouded.restore(
        np.full_like(clear, 0.8), ["blue", "green", "red", "nir"], history=[clear, flat + 0.05 * (clear - flat)],
        mask=mask, model="none", history_masks=np.zeros((2, *mask.shape), np.uint8),
    )  # fmt: skip
    assert np.abs(found.image - clear).mean() < 1e-3


def test_strips_do_not_show_where_dates_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    clear, mask, haze = series(160)
    rng = np.random.default_rng(6)
    history = [clear + rng.normal(0, 0.02, clear.shape).astype(np.float32) for _ in range(3)]
    history[0][:, 60:100] += haze[:, 60:100]
    masks = np.zeros((3, *mask.shape), np.uint8)
    masks[1, 70:90, 50:120] = 1
    masks[2, 100:110] = 1
    cloudy = np.where(mask == 1, np.float32(0.8), clear)

    def found() -> Any:
        return unclouded.restore(
            cloudy, ["blue", "green", "red", "nir"], history=history, mask=mask, history_masks=masks, model="none"
        )

    whole = found()
    for rows in (64, 17):
        monkeypatch.setattr("unclouded.infer.remove._STRIP", rows)
        strips = found()
        assert (strips.image == whole.image).all()
        assert (strips.provenance == whole.provenance).all()
        np.testing.assert_allclose(strips.uncertainty, whole.uncertainty, atol=1e-6)


def test_classes_to_rebuild_and_their_reach(ground: Ground, model: Path) -> None:
    result = run(ground, model=str(model), rebuild=("thick-cloud",), dilation=0, feather=0)
    assert ((result.provenance.values == 1) == (ground.masks[0] == 1)).all()


def test_masks_in_every_form(ground: Ground, model: Path, tmp_path: Path) -> None:
    expected = run(ground, model=str(model)).stored.values
    path = write_image(tmp_path / "mask.tif", ground.masks[0][None], names=["class"])
    assert (run(ground, model=str(model), mask=path).stored.values == expected).all()
    assert (run(ground, model=str(model), mask=ground.masks[0].astype(np.int64)).stored.values == expected).all()
    coarse = write_image(
        tmp_path / "coarse.tif", ground.masks[0][::2, ::2][None], names=["class"], grid=GRID * Affine.scale(2)
    )
    found = unclouded.mask(ground.paths[0], resolution_m=20, **READING)
    assert found.classes.shape == (75, 95)
    assert run(ground, model=str(model), mask=found).provenance.shape == (150, 190)
    beside = write_image(
        tmp_path / "beside.tif", ground.masks[0][None], names=["class"], grid=GRID * Affine.translation(999, 0)
    )
    failing(lambda: run(ground, model=str(model), mask=beside), InputError, "lies beside")
    again = run(ground, model=str(model), mask=coarse)
    assert (again.provenance.values[ground.masks[0] == 1] == 1).mean() > 0.95


def test_a_mask_is_made_where_none_is_given(ground: Ground, model: Path) -> None:
    found = unclouded.mask(ground.paths[0], **READING).classes.values
    made, given = run(ground, model=str(model), mask=None), run(ground, model=str(model), mask=found)
    assert (made.stored.values == given.stored.values).all()


def write_radar(path: Path, grid: Affine, size: tuple[int, int], crs: str | None = "EPSG:32633") -> Path:
    """VV rises from the scene's west to east by 0.005 dB per metre; VH is flat."""
    x = ((grid * (np.arange(size[1]) + 0.5, 0))[0] - GRID.c) % 1e4
    decibel = np.stack([np.broadcast_to(-20 + 0.005 * x, size), np.full(size, -16.0)]).astype(np.float32)
    return write_image(path, decibel, grid=grid, names=["VV", "VH"], crs=crs)


def test_radar_on_another_grid_lands_where_it_belongs(ground: Ground, tmp_path: Path) -> None:
    plain, radar = write_model(tmp_path / "plain"), write_model(tmp_path / "radar", sar=0.1)
    path = write_radar(tmp_path / "s1.tif", Affine(17, 0, GRID.c - 205, 0, -17, GRID.f + 93), (120, 150))
    without, with_radar = run(ground, model=str(plain)), run(ground, model=str(radar), sar=path)
    inside = np.isin(ground.masks[0], (1, 2, 3))
    difference = (with_radar.image.values - without.image.values)[:, inside]
    x = 10 * (np.argwhere(inside)[:, 1] + 0.5)
    expected = 0.1 * np.clip((-20 + 0.005 * x + 25) / 25, 0, 1)
    np.testing.assert_allclose(difference, np.broadcast_to(expected, difference.shape), atol=3e-4)
    assert run(ground, model=str(radar)).counts[1] == with_radar.counts[1]  # it also runs without


def failing(call: Any, kind: type[UncloudedError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call()
    assert caught.value.expected
    assert caught.value.remedy


def test_errors_say_what_to_do(ground: Ground, model: Path, tmp_path: Path) -> None:
    failing(lambda: run(ground, model="none"), ModelError, "neither a removal model nor another date")
    failing(lambda: run(ground, model="default"), ModelError, "finds clouds")
    failing(lambda: run(ground, model=str(model), feathers=3), InputError, "no option called 'feathers'")
    failing(lambda: run(ground, model=str(model), rebuild=("snow",)), InputError, "snow")
    failing(lambda: run(ground, model=str(model), mask=ground.masks[0][1:]), InputError, "shape")
    failing(lambda: run(ground, model=str(model), mask=ground.masks[0] + 5), InputError, "no classes")
    failing(lambda: run(ground, 2, model="none", history_masks=ground.masks[1:2]), InputError, "1 masks")
    strict = write_model(tmp_path / "strict", sar=0.1, partial_inputs=False)
    failing(lambda: run(ground, model=str(strict)), ModelError, "needs a radar image")
    radar = write_model(tmp_path / "radar", sar=0.1)
    far = write_radar(tmp_path / "far.tif", Affine(10, 0, GRID.c + 90_000, 0, -10, GRID.f), (50, 50))
    failing(lambda: run(ground, model=str(radar), sar=far), InputError, "no data where the scene")
    unplaced = write_radar(tmp_path / "unplaced.tif", Affine.identity(), (50, 50), crs=None)
    failing(lambda: run(ground, model=str(radar), sar=unplaced), InputError, "no reference system")


def test_other_dates_have_to_fit(ground: Ground, tmp_path: Path) -> None:
    scene = unclouded.open_scene(ground.paths[0], **READING)
    other = unclouded.open_scene(ground.paths[1], **READING)

    def with_date(date: unclouded.Scene) -> None:
        unclouded.remove(scene, history=[date], mask=ground.masks[0], history_masks=[ground.masks[1]], model="none")

    failing(lambda: with_date(replace(other, level="toa")), InputError, r"generic \(toa\)")
    failing(lambda: with_date(replace(other, sensor="sentinel2-l2a")), InputError, "sentinel2-l2a")
    fewer = unclouded.open_scene(ground.paths[1], bands={"blue": 1}, **READING)
    failing(lambda: with_date(fewer), InputError, "has no green, red, nir")
    counts = np.ones((4, 150, 190), np.uint16)
    for name, grid, crs in (("far", GRID * Affine.translation(900, 0), "EPSG:32633"), ("zone", GRID, "EPSG:32632")):
        path = write_image(tmp_path / f"{name}.tif", counts, grid=grid, crs=crs)
        moved = replace(unclouded.open_scene(path, **READING), id="moved")
        failing(lambda date=moved: with_date(date), InputError, "another grid")


def test_a_shifted_date_is_laid_where_it_belongs(ground: Ground, tmp_path: Path) -> None:
    with rasterio.open(ground.paths[2]) as file:
        counts = file.read()
    shifted = write_image(tmp_path / "shifted.tif", counts[:, 5:, 8:], grid=GRID * Affine.translation(8, 5), nodata=0)
    result = unclouded.remove(
        ground.paths[0], history=[shifted], mask=ground.masks[0], history_masks=[ground.masks[2][5:, 8:]],
        model="none", **READING,
    )  # fmt: skip
    assert error(result, ground, np.isin(ground.masks[0], (1, 2, 3))) < 0.006


@pytest.mark.skipif("removal" in shipped(), reason="a removal model is installed")
def test_without_the_default_model_dates_do(ground: Ground) -> None:
    failing(lambda: run(ground), ModelError, "No removal model is installed")
    with pytest.warns(UncloudedWarning, match="No removal model is installed"):
        assert run(ground, 2).counts[2] > 0


def test_existing_output(ground: Ground, model: Path, tmp_path: Path) -> None:
    first = run(ground, 1, model=str(model), output=tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    failing(lambda: run(ground, 1, model=str(model), output=tmp_path), OutputError, "exists")
    kept = run(ground, 1, model=str(model), output=tmp_path, resume=True, threads=1)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert kept.counts == first.counts
    assert (kept.image.values == first.image.values)[:, kept.provenance.values != 255].all()
    for change in ({"dates": 2}, {"feather": 0}):
        other = run(ground, **{"dates": 1, **change}, model=str(model), output=tmp_path, resume=True)
        assert other.outputs["item"].stat().st_mtime_ns != before["first_restored.json"]


def test_arrays_take_the_same_way_as_files(ground: Ground, model: Path, tmp_path: Path) -> None:
    images = []
    for path in ground.paths[:2]:
        with rasterio.open(path) as file:
            counts = file.read()
        image = counts.astype(np.float32) * np.float32(1e-4) - np.float32(0.1)
        image[counts == 0] = np.nan
        images.append(image)
    found = unclouded.restore(
        images[0], ["blue", "green", "red", "nir"], history=[images[1]], mask=ground.masks[0],
        history_masks=[ground.masks[1]], model=str(model),
    )  # fmt: skip
    filed = run(ground, 1, model=str(model))
    assert (found.provenance == filed.provenance.values).all()
    known = found.provenance != 255
    np.testing.assert_allclose(found.image[:, known], filed.image.values[:, known], atol=6e-5)
    untouched = found.provenance == 0
    assert (found.image[:, untouched] == images[0][:, untouched]).all()
    np.testing.assert_allclose(found.uncertainty, filed.uncertainty.values, atol=6e-5)
    double = unclouded.restore(
        images[0].astype(np.float64) + 1e-12, ["blue", "green", "red", "nir"], mask=ground.masks[0], model=str(model)
    )
    assert double.image.dtype == np.float64
    assert (double.image[:, untouched] == images[0].astype(np.float64)[:, untouched] + 1e-12).all()


def test_a_network_without_an_error_of_its_own_is_run_mirrored(ground: Ground, tmp_path: Path) -> None:
    silent = write_model(tmp_path / "silent", error=False)
    told = write_model(tmp_path / "told")
    result = run(ground, model=str(silent))
    # The network is symmetric: image and mirror image give the same.
    assert np.nanmax(result.uncertainty.values) <= 1e-4
    assert np.abs(result.stored.values.astype(int) - run(ground, model=str(told)).stored.values).max() <= 1
    assert any("not calibrated" in text for text in result.warnings)


def test_fewer_bands_than_the_network_has(ground: Ground, model: Path, tmp_path: Path) -> None:
    whole = run(ground, model=str(model))
    two = run(ground, model=str(model), bands={"nir": 4, "green": 2})
    assert two.bands == ("nir", "green")
    assert (two.stored.values == whole.stored.values[[3, 1]]).all()
    strict = write_model(tmp_path / "strict", partial_inputs=False)
    failing(lambda: run(ground, model=str(strict), bands={"nir": 4, "green": 2}), ModelError, "no band for the model")


def test_nothing_to_remove(ground: Ground, model: Path, tmp_path: Path) -> None:
    clear = np.zeros_like(ground.masks[0])
    result = run(ground, 1, model=str(model), mask=clear, output=tmp_path)
    assert result.replaced_percent == 0
    assert (result.stored.values == ground.counts).all()


def test_decimal_numbers_keep_their_bits(model: Path, tmp_path: Path, ground: Ground) -> None:
    image = np.random.default_rng(9).uniform(0.02, 0.5, ground.clear.shape).astype(np.float32)
    image[:, :3] = np.nan
    path = write_image(tmp_path / "decimal.tif", image)
    result = unclouded.remove(path, mask=ground.masks[0], model=str(model), level="boa", output=tmp_path / "out")
    with rasterio.open(result.outputs["restored"]) as file:
        made = file.read()
    same = (made.view(np.uint32) == image.view(np.uint32)) | (np.isnan(made) & np.isnan(image))
    assert same.all(axis=0)[~may_change(ground.masks[0])].all()
    assert (result.provenance.values[:3] == 255).all()
