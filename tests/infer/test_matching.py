"""Feathers, matching of dates, and stored numbers that are given back exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import unclouded
from unclouded.infer.feather import dilated, feathered
from unclouded.infer.matching import CELL, match
from unclouded.infer.planes import Encoding, Planes

from ..fakes_removal import GRID, write_image


def distances(mask: np.ndarray) -> np.ndarray:
    """Chessboard distance to the mask, the plain way."""
    marked = np.argwhere(mask)
    place = np.stack(np.indices(mask.shape), axis=-1)
    return np.abs(place[:, :, None] - marked).max(axis=-1).min(axis=-1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_a_feather_is_one_inside_and_zero_beyond_its_width(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((rng.integers(1, 40), rng.integers(1, 40)), bool)
    mask[rng.integers(mask.shape[0]), rng.integers(mask.shape[1])] = True
    mask |= rng.random(mask.shape) < 0.02
    soft, far = feathered(mask, width), distances(mask)
    assert (soft[mask] == 1).all()
    assert (soft[far > width] == 0).all()
    assert ((soft >= 0) & (soft <= 1)).all()
    assert (dilated(mask, width) == (far <= width)).all()
    first = rng.integers(mask.shape[0])
    low = max(first - width, 0)
    assert (feathered(mask[low:], width)[first - low :] == soft[first:]).all()


def test_matching_finds_the_line_among_changed_ground() -> None:
    rng = np.random.default_rng(1)
    source = rng.uniform(0.02, 0.4, (2, 300, 200)).astype(np.float32)
    gain, offset = np.array([0.7, 1.3])[:, None, None], np.array([0.03, -0.01])[:, None, None]
    target = (gain * source + offset + rng.normal(0, 0.001, source.shape)).astype(np.float32)
    target[:, :60] = 0.9  # a fifth of the ground changed
    found = match(target, source, np.ones((300, 200), bool))
    np.testing.assert_allclose(found.gain[:, -1], np.broadcast_to(gain[:, 0], found.gain[:, -1].shape), atol=0.01)
    made = found.apply(source[:, 200:], 200, (300, 200))
    assert np.abs(made - target[:, 200:]).mean() < 0.003
    told = found.change.errors(found.apply(source, 0, (300, 200)), 0, (300, 200))
    assert told[:60].mean() > 3 * told[200:].mean()


def test_light_that_changes_over_the_scene_is_followed_without_steps() -> None:
    rng = np.random.default_rng(2)
    size = 8 * CELL
    source = rng.uniform(0.05, 0.4, (1, 4 * CELL, size)).astype(np.float32)
    slope = np.linspace(0.8, 1.2, size, dtype=np.float32)
    found = match(source * slope, source, np.ones(source.shape[1:], bool))
    gain = found.apply(np.ones_like(source), 0, source.shape[1:]) - found.apply(0 * source, 0, source.shape[1:])
    assert np.abs(gain[0, :, CELL:-CELL] - slope[CELL:-CELL]).max() < 0.06
    assert np.abs(np.diff(gain[0], axis=1)).max() < 0.01


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 139), st.integers(1, 140))
def test_any_rows_equal_those_of_the_whole(first: int, count: int) -> None:
    rng = np.random.default_rng(3)
    source = rng.random((2, 140, 90)).astype(np.float32)
    found = match(source**1.1, source, rng.random((140, 90)) < 0.5)
    end = min(first + count, 140)
    whole = found.apply(source, 0, (140, 90))
    assert (found.apply(source[:, first:end], first, (140, 90)) == whole[:, first:end]).all()


def test_without_common_ground_a_date_is_taken_as_it_is() -> None:
    source = np.random.default_rng(4).random((1, 70, 70)).astype(np.float32)
    found = match(0.5 * source, source, np.zeros((70, 70), bool))
    assert (found.apply(source, 0, (70, 70)) == source).all()
    assert found.pixels == 0
    assert found.expected == pytest.approx(0.25, abs=0.02)  # mean absolute deviation of uniform numbers


@pytest.mark.parametrize(("scale", "offset"), [(1e-4, -0.1), (1e-4, 0.0), (2.75e-5, -0.2), (1 / 255, 0.0)])
def test_every_count_comes_back(scale: float, offset: float) -> None:
    counts = np.arange(65536, dtype=np.float32).reshape(1, 256, 256)
    encoding = Encoding(np.dtype("uint16"), (scale,), (offset,), 0)
    again = encoding.stored(encoding.reflectance(counts))
    assert (again[counts > 0] == counts[counts > 0]).all()
    assert again[0, 0, 0] == 1  # 0 would mean missing
    assert encoding.cast(np.float32([[[np.nan, 7]]])).tolist() == [[[0, 7]]]


def test_coarse_bands_are_repeated_not_interpolated(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    fine = rng.integers(1, 60000, (1, 40, 60)).astype(np.uint16)
    coarse = rng.integers(1, 60000, (1, 20, 30)).astype(np.uint16)
    paths = [
        write_image(tmp_path / "fine.tif", fine),
        write_image(tmp_path / "coarse.tif", coarse, grid=GRID * Affine.scale(2)),
    ]
    one, other = (unclouded.open_scene(path, scale=1e-4, offset=0, level="boa", bands=["red"]) for path in paths)
    sources = {"red": one.sources["red"], "nir": other.sources["red"]}
    both = unclouded.Scene(
        "two", "generic", "boa", (one.bands[0], unclouded.Band("nir", "nir", 780, 886, 20.0)), one.geobox,
        dict.fromkeys(sources, one.radiometry["red"]), sources, "memory",
    )  # fmt: skip
    planes = Planes(both, ("nir", "red"), GeoBox((40, 60), GRID, "EPSG:32633"))
    whole = planes.read(0, 40)
    assert (whole[0] == coarse[0].repeat(2, 0).repeat(2, 1)).all()
    assert (whole[1] == fine[0]).all()
    assert (planes.read(7, 18) == whole[:, 7:18]).all()
