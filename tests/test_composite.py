"""Composites: the numbers against plain references, pieces against the whole, files, real dates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

import unclouded
from unclouded.composite_stack import clear_of
from unclouded.compositing import composite
from unclouded.errors import InputError, OutputError
from unclouded.infer.composites import NO_DATE, best_scores, compose, distance_to, geometric_median, reach

from .fakes_batch import write_scenes
from .fakes_command import run
from .fakes_scene import BANDS, UTM_GRID, make_scene

FEW = settings(max_examples=25, deadline=None)


@st.composite
def stacks(draw, least=1):
    """A stack (d, b, y, x) with missing values, and its clear pixels."""
    shape = (draw(st.integers(least, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    values = st.integers(0, 64).map(lambda n: n / 64) | st.just(np.nan)
    stack = draw(arrays(np.float32, shape, elements=values))
    return stack, draw(arrays(bool, (shape[0], *shape[2:])))


def usable(stack, clear):
    return clear & np.isfinite(stack).all(axis=1)


def every_pixel(stack, clear):
    """Row, column, numbers of the usable dates, their spectra in float64."""
    dates = usable(stack, clear)
    for row, col in np.ndindex(stack.shape[2:]):
        which = np.flatnonzero(dates[:, row, col])
        yield row, col, which, stack[which, :, row, col].astype(np.float64)


@FEW
@given(stacks())
def test_median_is_that_of_numpy(given):
    stack, clear = given
    found = compose(stack, clear, "median")
    for row, col, which, spectra in every_pixel(stack, clear):
        if which.size:
            np.testing.assert_allclose(found.image[:, row, col], np.median(spectra, axis=0), atol=1e-6)
            away = np.linalg.norm(spectra - found.image[:, row, col], axis=1)
            assert away[which.tolist().index(found.date[row, col])] == pytest.approx(away.min(), abs=1e-6)
        else:
            assert np.isnan(found.image[:, row, col]).all()
            assert found.date[row, col] == NO_DATE
        assert found.count[row, col] == which.size


@FEW
@given(stacks())
def test_medoid_is_the_observed_spectrum_nearest_to_all_others(given):
    stack, clear = given
    found = compose(stack, clear, "medoid")
    for row, col, which, spectra in every_pixel(stack, clear):
        if which.size:
            date = found.date[row, col]
            np.testing.assert_array_equal(found.image[:, row, col], stack[date, :, row, col])
            sums = np.linalg.norm(spectra[:, None] - spectra[None], axis=2).sum(axis=1)
            assert sums[which.tolist().index(date)] == pytest.approx(sums.min(), abs=1e-5)


@FEW
@given(stacks(least=2))
def test_no_point_nearby_beats_the_geometric_median(given):
    stack, clear = given
    found = compose(stack, clear, "geomedian")
    rng = np.random.default_rng(0)
    for row, col, which, spectra in every_pixel(stack, clear):
        if which.size:
            point = found.image[:, row, col].astype(np.float64)
            cost = np.linalg.norm(spectra - point, axis=1).sum()
            others = [point + step for step in rng.normal(0, 0.02, (20, point.size))] + list(spectra)
            assert all(np.linalg.norm(spectra - other, axis=1).sum() > cost - 2e-4 for other in others)


def test_geometric_median_of_a_triangle_is_its_fermat_point():
    corners = np.float32([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])[:, :, None]
    found = geometric_median(corners, np.ones((3, 1), bool))
    np.testing.assert_allclose(found[:, 0], [0.5, np.sqrt(0.75) / 3], atol=1e-5)
    # With an angle of more than 120 degrees the corner itself is nearest to all.
    flat = np.float32([[0, 0], [1, 0.1], [2, 0]])[:, :, None]
    np.testing.assert_allclose(geometric_median(flat, np.ones((3, 1), bool))[:, 0], [1, 0.1], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_geometric_median_is_where_single_coordinates_cannot_be_bettered(seed):
    """A reference of another kind: every coordinate in turn is searched by halving, in float64, pixel by pixel."""
    rng = np.random.default_rng(seed)
    stack = rng.uniform(0, 0.6, (int(rng.integers(3, 8)), 3, 2, 3)).astype(np.float32)
    clear = rng.random((len(stack), 2, 3)) < 0.8
    found = compose(stack, clear, "geomedian")
    for row, col, which, spectra in every_pixel(stack, clear):
        if which.size < 3:  # of two points every one between them is as good
            continue
        point = spectra.mean(axis=0)
        for _ in range(60):
            for band in range(len(point)):
                low, high = spectra[:, band].min(), spectra[:, band].max()
                for _ in range(40):  # the slope of the sum of distances rises along a line
                    point[band] = 0.5 * (low + high)
                    away = np.maximum(np.linalg.norm(spectra - point, axis=1), 1e-15)
                    rising = ((point[band] - spectra[:, band]) / away).sum() > 0
                    low, high = (low, point[band]) if rising else (point[band], high)
        cost, ours = (np.linalg.norm(spectra - one, axis=1).sum() for one in (point, found.image[:, row, col]))
        assert ours <= cost + 1e-6
        if not np.isclose(spectra, point, atol=1e-4).all(axis=1).any():  # near a date the minimum is a kink
            np.testing.assert_allclose(found.image[:, row, col], point, atol=3e-5)


def test_geometric_median_agrees_with_hdstats(monkeypatch):
    signal = pytest.importorskip("scipy.signal")
    for gone in ("cwt", "ricker"):  # newer scipy has them no more; hdstats imports them for another purpose
        monkeypatch.setattr(signal, gone, None, raising=False)
    try:
        from hdstats import nangeomedian_pcm
    except ImportError as err:
        pytest.skip(f"hdstats cannot be imported: {err}")
    stack = np.random.default_rng(1).uniform(0, 0.6, (7, 4, 8, 9)).astype(np.float32)
    ours = compose(stack, np.ones((7, 8, 9), bool), "geomedian").image
    pixels = np.ascontiguousarray(stack.transpose(2, 3, 1, 0))
    theirs = nangeomedian_pcm(pixels, eps=1e-8, maxiters=10000, num_threads=1)
    np.testing.assert_allclose(ours.transpose(1, 2, 0), theirs, atol=3e-5)


@FEW
@given(stacks(), st.integers(0, 99))
def test_best_takes_the_date_of_the_highest_score(given, seed):
    stack, clear = given
    scores = np.random.default_rng(seed).integers(0, 3, clear.shape).astype(np.float32)
    found = compose(stack, clear, "best", scores=scores)
    for row, col, which, _ in every_pixel(stack, clear):
        if which.size:
            expected = which[scores[which, row, col].argmax()]  # of equal scores the first
            assert found.date[row, col] == expected
            np.testing.assert_array_equal(found.image[:, row, col], stack[expected, :, row, col])


@pytest.mark.parametrize("method", ["median", "medoid", "geomedian", "best"])
def test_pieces_are_the_whole_to_the_last_bit(method):
    rng = np.random.default_rng(5)
    stack = rng.uniform(0, 0.6, (6, 4, 24, 31)).astype(np.float32)
    stack[rng.random(stack.shape) < 0.1] = np.nan
    clear, scores = rng.random((6, 24, 31)) < 0.7, rng.random((6, 24, 31)).astype(np.float32)
    whole = compose(stack, clear, method, scores=scores)
    for row, col, height, width in ((0, 0, 24, 1), (3, 7, 1, 24), (10, 0, 9, 31), (23, 30, 1, 1)):
        cut = (..., slice(row, row + height), slice(col, col + width))
        part = compose(stack[cut], clear[cut], method, scores=scores[cut])
        np.testing.assert_array_equal(part.image, whole.image[cut])
        np.testing.assert_array_equal(part.date, whole.date[cut])


@FEW
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 6))
def test_distances_are_those_of_a_search_over_all_pixels(mask, most):
    found = distance_to(mask, most)
    there = np.argwhere(mask)
    for row, col in np.ndindex(mask.shape):
        nearest = np.hypot(*(there - (row, col)).T).min() if len(there) else np.inf
        assert found[row, col] == pytest.approx(min(nearest, most), abs=1e-5)


def test_scores_follow_the_paper():
    hidden = np.zeros((1, 1, 200), bool)
    hidden[0, 0, 0] = True
    scores = best_scores(np.zeros((1, 1, 200), np.float32), hidden, pixel_m=30.0)[0, 0] - 1
    np.testing.assert_allclose(scores[25], 0.5, atol=1e-6)  # half way to 50 pixels
    np.testing.assert_allclose(scores[10], 1 / (1 + np.exp(3.0)), atol=1e-6)
    assert scores[50] == scores[199]
    assert reach(30.0) == 50
    late = best_scores(np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), bool), days=[0.0, 30.0])
    assert float(late[0, 0, 0] - late[1, 0, 0]) == pytest.approx(1 - np.exp(-0.5), abs=1e-6)


@pytest.mark.parametrize("method", ["median", "medoid", "geomedian", "best"])
def test_cubes_are_lazy_and_the_same_under_any_chunking(method):
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(3)
    values = rng.uniform(0, 0.6, (4, 3, 40, 50)).astype(np.float32)
    classes = rng.choice([0, 0, 0, 1, 2, 3, 255], (4, 40, 50)).astype(np.uint8)
    times = np.array(["2023-06-01", "2023-06-11", "2023-06-21", "2023-07-01"], "datetime64[ns]")
    coords = {"time": times, "y": np.arange(40) * -100.0, "x": np.arange(50) * 100.0}
    cube = xarray.DataArray(values, coords, ("time", "band", "y", "x"))
    masks = xarray.DataArray(classes, coords, ("time", "y", "x"))
    target = "2023-06-20" if method == "best" else None
    whole = composite(cube, masks=masks, method=method, target=target, buffer=1)
    for chunks in ((2, 1, 7, 50), (1, 3, 40, 11)):
        lazy = composite(
            cube.copy(data=da.from_array(values, chunks)),
            masks=masks.copy(data=da.from_array(classes, (chunks[0], 13, chunks[3]))),
            method=method,
            target=target,
            buffer=1,
        )
        assert lazy.image.chunks is not None
        for ours, theirs in ((lazy.image, whole.image), (lazy.date, whole.date), (lazy.count, whole.count)):
            np.testing.assert_array_equal(ours.values, theirs.values)


def test_masks_of_a_cube_have_its_pixels():
    coords = {"time": np.array(["2023-06-01"], "datetime64[ns]"), "y": np.arange(4) * -100.0, "x": np.arange(5) * 100.0}
    cube = xarray.DataArray(np.full((1, 2, 4, 5), 0.1, np.float32), coords, ("time", "band", "y", "x"))
    masks = xarray.DataArray(np.zeros((1, 4, 5), np.uint8), coords, ("time", "y", "x"))
    near = masks.assign_coords(y=masks.y + 1e-9)  # as from an affine transform
    assert (composite(cube, masks=near).count == 1).all()
    for wrong in (masks.assign_coords(x=masks.x + 50), masks[:, :3], masks.assign_coords(time=masks.time + 1)):
        with pytest.raises(InputError, match="not those of the cube"):
            composite(cube, masks=wrong)


def _dates(tmp_path: Path):
    """Three scenes that are brighter by the date; the second is one pixel further right."""
    moved = UTM_GRID.translate_pix(1, 0)
    scenes = []
    for number, grid in enumerate((UTM_GRID, moved, UTM_GRID)):
        scene = make_scene(
            grid,
            function=lambda x, y, level=0.1 + 0.1 * number: np.full(x.shape, level),
            datetime=f"2024-06-{10 + number}T10:00:00Z",
        )
        scenes.append(scene.__class__(**{**scene.__dict__, "id": f"date{number}"}))
    masks = [np.zeros(UTM_GRID.shape, np.uint8) for _ in scenes]
    masks[0][:, :60] = 1
    masks[2][:50] = 2
    masks[2][100:, 100:] = 255
    return scenes, masks


def test_scenes_are_put_on_one_grid_and_what_is_hidden_is_left_out(tmp_path):
    scenes, masks = _dates(tmp_path)
    found = unclouded.composite(scenes, masks=masks, method="median", buffer=0)
    rows, cols = UTM_GRID.shape
    assert found.image.shape == (len(BANDS), rows, cols + 1)
    assert found.scenes == ("date0", "date1", "date2")
    np.testing.assert_allclose(found.image[0, 80, 80], 0.2, atol=1e-6)  # all three
    np.testing.assert_allclose(found.image[0, 10, 80], 0.15, atol=1e-6)  # without the third
    np.testing.assert_allclose(found.image[0, 10, 10], 0.2, atol=1e-6)  # the second alone
    assert found.date[10, 10] == 1
    assert np.isnan(found.image[0, 10, 0])  # the second begins one pixel further
    assert found.date[10, 0] == NO_DATE
    assert found.count[10, 0] == 0
    assert found.count[110, 110] == 2  # no data in the third
    buffered = unclouded.composite(scenes, masks=masks, buffer=3)
    assert (found.count.values - buffered.count.values)[80, 58:64].tolist() == [0, 0, 1, 1, 1, 0]


def test_files_hold_what_memory_would_hold(tmp_path):
    scenes, masks = _dates(tmp_path)
    kept = unclouded.composite(scenes, masks=masks, method="best", target="2024-06-12", output=tmp_path, name="june")
    held = unclouded.composite(scenes, masks=masks, method="best", target="2024-06-12")
    with rasterio.open(kept.outputs["image"]) as file:
        assert file.profile["dtype"] == "int16"
        assert file.descriptions == tuple(band.name for band in BANDS)
        image = np.where(file.read() == file.nodata, np.nan, file.read() * file.scales[0])
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    np.testing.assert_allclose(image, held.image.values, atol=5.1e-5)
    with rasterio.open(kept.outputs["dates"]) as file:
        np.testing.assert_array_equal(file.read(1), held.date.values)
        np.testing.assert_array_equal(file.read(2), held.count.values)
    item = json.loads(kept.outputs["item"].read_text())
    assert [one["id"] for one in item["properties"]["unclouded:dates"]] == ["date0", "date1", "date2"]
    assert item["properties"]["start_datetime"] == "2024-06-10T10:00:00Z"
    assert sum(link["rel"] == "derived_from" for link in item["links"]) == 3
    assert {asset["href"] for asset in item["assets"].values()} == {"./june.tif", "./june_dates.tif"}
    with pytest.raises(OutputError, match="exists"):
        unclouded.composite(scenes, masks=masks, output=tmp_path, name="june")
    unclouded.composite(scenes, masks=masks, output=tmp_path, name="june", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["june.json", "june.tif", "june_dates.tif"]


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_resume_keeps_what_the_same_scenes_masks_and_settings_made(tmp_path):
    paths = write_scenes(tmp_path / "in", 2)
    for path in paths:
        unclouded.mask(path, output=tmp_path / "masks", level="toa")
    scenes = [unclouded.open_scene(path, level="toa") for path in paths]
    out = {"output": tmp_path / "out", "resume": True}
    first = unclouded.composite(scenes, **out)
    made = first.outputs["item"].stat().st_mtime_ns
    again = unclouded.composite(scenes, masks=tmp_path / "masks", **out)  # the masks that it would make itself
    assert again.outputs["item"].stat().st_mtime_ns == made
    assert again.filled_percent == pytest.approx(first.filled_percent, abs=1e-4)
    assert again.scenes == first.scenes
    (tmp_path / "masks" / "scene00.json").unlink()  # masks of whoever made them
    for change in ({"buffer": 5}, {"method": "medoid"}, {"bands": ["red"]}, {"masks": tmp_path / "masks"}):
        unclouded.composite(scenes, **out, **change)
        new = (tmp_path / "out" / "composite.json").stat().st_mtime_ns
        assert new != made
        made = new


def test_windows_do_not_show(tmp_path, monkeypatch):
    scenes, masks = _dates(tmp_path)
    whole = unclouded.composite(scenes, masks=masks, method="best")
    monkeypatch.setattr("unclouded.composite_stack._SIDE", 37)
    pieces = unclouded.composite(scenes, masks=masks, method="best")
    np.testing.assert_array_equal(pieces.image.values, whole.image.values)
    np.testing.assert_array_equal(pieces.date.values, whole.date.values)


def test_what_does_not_fit_together_is_refused(tmp_path):
    scenes, masks = _dates(tmp_path)
    plain = make_scene()
    elsewhere = make_scene(GeoBox((120, 160), Affine(20, 0, 399_960, 0, -20, 5_800_020), "EPSG:32633"))
    other = elsewhere.__class__(**{**elsewhere.__dict__, "id": "coarse"})
    surface = plain.__class__(**{**plain.__dict__, "id": "surface", "level": "boa"})
    for wrong, message in (
        (([],), "No scene"),
        (([plain, plain],), "Two scenes are called"),
        (([plain, other],), "grids"),
        (([scenes[0], surface],), "levels"),
    ):
        with pytest.raises(InputError, match=message):
            unclouded.composite(*wrong, masks=masks[:2])
    for settings_, message in (
        ({"method": "mean"}, "method"),
        ({"bands": ["B99"]}, "B99"),
        ({"target": "June", "method": "best"}, "June"),
        ({"buffer": -1}, "buffer"),
        ({"masks": masks[:2]}, "masks"),
        ({"masks": tmp_path}, "mask"),
    ):
        with pytest.raises(InputError, match=message):
            unclouded.composite(scenes, **{"masks": masks, **settings_})


def test_clear_ground_keeps_its_distance_from_cloud_not_from_missing_pixels():
    classes = np.zeros((1, 1, 9), np.uint8)
    classes[0, 0, 2], classes[0, 0, 7] = 3, 255
    clear, hidden = clear_of(classes, 1)
    assert clear[0, 0].astype(int).tolist() == [1, 0, 0, 0, 1, 1, 1, 0, 1]
    assert hidden.sum() == 1


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_real_dates_leave_less_than_one_percent_of_cloud(shared_data, tmp_path):
    items = sorted((shared_data / "stac/mapchete_s2_l2a/sentinel-2-l2a").glob("*/S2*.json"))
    done = run("composite", *items, "-o", tmp_path, "--method", "medoid", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    with rasterio.open(record["outputs"]["image"]) as file:
        image = np.where(file.read() == file.nodata, np.nan, file.read() * np.float32(1e-4)).astype(np.float32)
        names = list(file.descriptions)
    seen = unclouded.predict(image, names, sensor="sentinel2-l2a", resolution_m=120.0).classes
    observed = seen != 255
    assert observed.mean() > 0.9
    assert np.isin(seen[observed], (1, 2)).mean() < 0.01
