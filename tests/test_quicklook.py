"""The picture of a scene and its mask: right bands, right places, right colours, complete or absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from unclouded.classes import NO_DATA
from unclouded.errors import InputError, OutputError
from unclouded.scene import Band
from unclouded.write.lettering import _GLYPHS, lettering
from unclouded.write.product import ProductWriter
from unclouded.write.quicklook import (
    PANEL,
    TINTS,
    colour_bands,
    colour_title,
    draw,
    mask_on,
    overview_grid,
    stretch,
    write_quicklook,
)

from .fakes_scene import BANDS, make_scene


def write_mask(folder: Path, geobox: GeoBox, classes: np.ndarray) -> Path:
    percent = np.where(classes == NO_DATA, NO_DATA, 10).astype(np.uint8)
    with ProductWriter(folder, "scene", geobox, probability=False, tags={}) as writer:
        writer.write_rows(0, classes, percent)
        return writer.finish()["mask"]


def test_picture_of_a_scene(tmp_path: Path) -> None:
    scene = make_scene()
    classes = np.zeros(scene.geobox.shape, np.uint8)
    classes[:20, :20] = NO_DATA
    classes[60:, 80:] = 1
    mask = write_mask(tmp_path, scene.geobox, classes)
    target = write_quicklook(scene, mask, tmp_path / "scene_quicklook.png", {0: 10, 1: 5, 255: 1})
    assert not list(tmp_path.glob(".*"))
    with rasterio.open(target) as file:
        assert file.driver == "PNG"
        picture = file.read()
    assert picture.shape[0] == 3
    assert 900 <= picture.shape[2] <= 1200


@pytest.mark.parametrize("shape", [(120, 160), (2000, 1700), (60, 40_000), (40_000, 60), (1, 1)])
def test_overviews_fit_panels_and_lie_on_the_scene(shape: tuple[int, int]) -> None:
    geobox = GeoBox(shape, Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    grid = overview_grid(geobox)
    step = grid.affine.a / 10
    assert step == round(step)
    assert grid.shape.x <= 1.5 * PANEL
    assert grid.shape.y <= 3 * PANEL
    assert grid.affine.c == geobox.affine.c
    assert grid.shape.x * step >= shape[1]
    assert grid.shape.y * step >= shape[0]


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 900), cols=st.integers(1, 900))
def test_any_size_can_be_drawn(rows: int, cols: int) -> None:
    grid = overview_grid(GeoBox((rows, cols), Affine.identity(), None))
    image = np.full((3, *grid.shape), np.nan, np.float32)
    classes = np.full(grid.shape, NO_DATA, np.uint8)
    picture = draw(image, classes, title="x" * 300, colours="c", counts={NO_DATA: 5})
    assert picture.dtype == np.uint8
    assert 800 <= picture.shape[2] <= 1600


def test_classes_are_tinted_where_they_are() -> None:
    image = np.full((3, 504, 504), 0.2, np.float32)
    image[:, 0, 0] = 0.9
    classes = np.zeros((504, 504), np.uint8)
    for code, x in ((1, 100), (2, 250), (3, 400)):
        classes[200:300, x : x + 50] = code
    picture = draw(image, classes, title="t", colours="c", counts={0: 1})
    right = picture[:, 47 : 47 + 504, 520 : 520 + 504]
    left = picture[:, 47 : 47 + 504, 8 : 8 + 504]
    assert (left == left[:, 10:11, 10:11])[:, 1:, 1:].all()
    for code, x in ((1, 125), (2, 275), (3, 425)):
        inside, clear = right[:, 250, x].astype(int), right[:, 100, x].astype(int)
        expected = 0.55 * clear + 0.45 * np.array(TINTS[code])
        assert np.abs(inside - expected).max() <= 1.5
    outline = right[:, 200, 110].astype(int)
    assert np.abs(outline - np.array(TINTS[1])).max() < 15


def test_missing_pixels_are_hatched_not_black() -> None:
    image = np.full((3, 504, 504), 0.2, np.float32)
    image[:, :, 252:] = np.nan
    classes = np.where(np.isnan(image[0]), NO_DATA, 0).astype(np.uint8)
    picture = draw(image, classes, title="t", colours="c", counts={0: 1, 255: 1})
    hatched = picture[:, 100:200, 300:400].reshape(3, -1)
    assert len(np.unique(hatched, axis=1).T) == 2
    assert hatched.min() > 50


def test_stretch_keeps_clouds_white_and_lifts_land() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.05, 0.12, (3, 100, 100)).astype(np.float32)
    image[:, :10] = 0.8
    image[:, -10:, -10:] = np.nan
    out = stretch(image)
    assert out[:, :10].min() == 255
    assert out[:, -10:, -10:].max() == 0
    assert 20 < np.median(out[:, 20:80]) < 120


def test_stretch_of_nothing_and_of_one_value() -> None:
    assert stretch(np.full((3, 4, 4), np.nan, np.float32)).max() == 0
    assert stretch(np.full((3, 4, 4), 0.3, np.float32)).shape == (3, 4, 4)


def test_bands_for_the_eye() -> None:
    assert [band.name for band in colour_bands(BANDS)] == ["B04", "B03", "B02"]
    assert colour_title(colour_bands(BANDS)) == "natural colours"
    infrared = (
        Band("nir", "nir", 780, 886, 10),
        Band("s1", "swir16", 1560, 1660, 20),
        Band("s2", "swir22", 2100, 2280, 20),
        Band("vv", "vv", None, None, 10, "sar"),
    )
    chosen = colour_bands(infrared)
    assert len({band.name for band in chosen}) == 3
    assert colour_title(chosen) != "natural colours"
    with pytest.raises(InputError, match="no optical band"):
        colour_bands(infrared[3:])


@pytest.mark.parametrize("resolution", [5, 10, 20, 30])
def test_the_mask_may_have_another_resolution(tmp_path: Path, resolution: float) -> None:
    scene = GeoBox((1200, 1200), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    size = round(12_000 / resolution)
    classes = np.zeros((size, size), np.uint8)
    classes[: size // 2, : size // 2] = 1
    classes[size // 2 :, size // 2 :] = 3
    grid = GeoBox((size, size), Affine(resolution, 0, 0, 0, -resolution, 0), "EPSG:32633")
    found = mask_on(write_mask(tmp_path, grid, classes), overview_grid(scene))
    assert found.shape == (600, 600)
    # A row or column of rounding aside.
    assert (found[:299, :299] == 1).all()
    assert (found[301:, 301:] == 3).all()
    assert (found[:299, 301:] == 0).all()


def test_beyond_the_mask_there_is_no_data(tmp_path: Path) -> None:
    geobox = GeoBox((1001, 1001), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    mask = write_mask(tmp_path, geobox, np.ones((1001, 1001), np.uint8))
    grid = GeoBox((520, 520), Affine(20, 0, 0, 0, -20, 0), "EPSG:32633")
    found = mask_on(mask, grid)
    assert (found[:500, :500] == 1).all()
    assert (found[502:] == NO_DATA).all()


def test_a_scene_without_position(tmp_path: Path) -> None:
    geobox = GeoBox((120, 160), Affine.identity(), None)
    scene = make_scene(geobox)
    mask = write_mask(tmp_path, geobox, np.zeros((120, 160), np.uint8))
    assert write_quicklook(scene, mask, tmp_path / "q.png", {0: 1}).exists()


def test_errors(tmp_path: Path) -> None:
    scene = make_scene()
    with pytest.raises(InputError, match=r"absent\.tif"):
        write_quicklook(scene, tmp_path / "absent.tif", tmp_path / "q.png", {})
    mask = write_mask(tmp_path, scene.geobox, np.zeros(scene.geobox.shape, np.uint8))
    (tmp_path / "q.png" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"q\.png"):
        write_quicklook(scene, mask, tmp_path / "q.png", {})
    dark = replace(scene, bands=(Band("vv", "vv", None, None, 10, "sar"),))
    with pytest.raises(InputError, match="no optical band"):
        write_quicklook(dark, mask, tmp_path / "other.png", {})


def test_letters_differ_and_fill_their_box() -> None:
    images = {letter: glyph.tobytes() for letter, glyph in _GLYPHS.items()}
    assert len(set(images.values())) == len(images)
    assert {glyph.shape for glyph in _GLYPHS.values()} == {(7, 5)}
    assert lettering("ab", 2).shape == (14, 24)
    assert lettering("").shape == (7, 0)
    assert (lettering("é") == lettering("?")).all()
