"""Comparing masks: known tables, other grids, other makers' codes, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unclouded
from unclouded import comparison
from unclouded.comparison import compare
from unclouded.errors import InputError

from .fakes_command import records, run
from .fakes_products import ULX, ULY, make_tif

ONE = np.uint8([[0, 0, 1, 1, 2, 3, 255, 255, 0]])
TWO = np.uint8([[0, 1, 1, 2, 2, 0, 0, 255, 255]])
TABLE = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]]


def mask(path: Path, codes: np.ndarray, **profile: Any) -> Path:
    return make_tif(path, np.asarray(codes)[None], **{"nodata": 255, **profile})


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return mask(tmp_path / "one_mask.tif", ONE), mask(tmp_path / "two_mask.tif", TWO)


def refused(*sources: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        compare(*sources, **options)
    assert caught.value.expected
    assert caught.value.remedy
    return str(caught.value)


def test_a_known_table(pair: tuple[Path, Path]) -> None:
    found = compare(*pair)
    assert found.table.counts.tolist() == TABLE
    assert found.missing == {"a": 1, "b": 1, "both": 1}
    assert found.table.overall_accuracy == pytest.approx(3 / 6)
    thick = found.table.scores()["thick-cloud"]
    assert (thick.precision, thick.recall, thick.f1, thick.iou) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 1 / 3))
    # Recalls: clear 1/2, thick 1/2, thin 1, shadow 0.
    assert found.table.balanced_accuracy == pytest.approx(0.5)
    cloud = found.table.merged(comparison.MERGED["cloud"])
    assert (cloud.precision, cloud.recall, cloud.pixels) == pytest.approx((3 / 4, 1.0, 3))
    assert not found.resampled


def test_a_mask_agrees_with_itself(pair: tuple[Path, Path]) -> None:
    told = compare(pair[0], pair[0]).as_dict()
    assert (told["agreement"], told["balanced_accuracy"], told["mean_iou"]) == (1, 1, 1)
    assert told["missing"] == {"a": 0, "b": 0, "both": 2}


def test_the_functions_are_public() -> None:
    assert unclouded.compare is compare
    assert unclouded.decode("scl", [[8]]).tolist() == [[1]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9))
def test_windows_leave_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, cols: int, seed: int
) -> None:
    monkeypatch.setattr(comparison, "_SIDE", 32)
    one, two = np.random.default_rng(seed).choice([0, 1, 2, 3, 255], (2, rows, cols)).astype(np.uint8)
    found = compare(mask(tmp_path / "a.tif", one), mask(tmp_path / "b.tif", two))
    expected = [[int(((one == i) & (two == j)).sum()) for j in range(4)] for i in range(4)]
    assert found.table.counts.tolist() == expected
    assert found.table.pixels + sum(found.missing.values()) == rows * cols


def test_memory_is_bounded_by_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = comparison.confusion

    def spy(one: np.ndarray, two: np.ndarray) -> Any:
        sizes.append(one.size)
        return original(one, two)

    monkeypatch.setattr(comparison, "confusion", spy)
    codes = np.zeros((2500, 1500), np.uint8)
    assert compare(mask(tmp_path / "a.tif", codes), mask(tmp_path / "b.tif", codes)).table.pixels == codes.size
    assert max(sizes) <= 1024 * 1024


# grids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["size", "origin", "pixel", "crs"])
def test_other_grids_are_refused_unless_resampling_is_asked_for(tmp_path: Path, change: str) -> None:
    codes = np.random.default_rng(0).choice([0, 1, 2, 3], (20, 30)).astype(np.uint8)
    first = mask(tmp_path / "a.tif", codes)
    options: dict[str, Any] = {
        "size": {},
        "origin": {"transform": Affine(10, 0, ULX + 50, 0, -10, ULY)},
        "pixel": {"pixel_m": 20.0},
        "crs": {"crs": "EPSG:32634"},
    }[change]
    second = mask(tmp_path / "b.tif", codes[:19] if change == "size" else codes, **options)
    text = refused(first, second)
    assert "20 x 30 pixels" in text
    assert "--resample" in text
    if change == "crs":
        return
    found = compare(first, second, resample=True)
    assert found.resampled
    moved = np.full((20, 30), 255, np.uint8)
    with rasterio.open(second) as dataset:
        for row, col in np.ndindex(20, 30):
            x, y = ~dataset.transform * (ULX + 10 * (col + 0.5), ULY - 10 * (row + 0.5))
            if 0 <= x < dataset.width and 0 <= y < dataset.height:
                moved[row, col] = dataset.read(1)[int(y), int(x)] if change == "size" else codes[int(y), int(x)]
    expected = [[int(((codes == i) & (moved == j)).sum()) for j in range(4)] for i in range(4)]
    assert found.table.counts.tolist() == expected
    assert found.missing["b"] == int((moved == 255).sum())


def test_another_reference_system(tmp_path: Path) -> None:
    # A cloud disc, stored in two zones: seen from one grid the discs agree but for the edge.
    from rasterio.warp import reproject, transform

    y, x = np.mgrid[0:200, 0:200]
    disc = (np.hypot(x - 100, y - 100) < 60).astype(np.uint8)
    first = mask(tmp_path / "a.tif", disc)
    (left,), (top,) = transform("EPSG:32633", "EPSG:32634", [ULX], [ULY])
    affine = Affine(10, 0, left - 500, 0, -10, top + 500)
    turned = np.full((300, 300), 255, np.uint8)
    reproject(
        disc, turned, src_transform=Affine(10, 0, ULX, 0, -10, ULY), src_crs="EPSG:32633", dst_transform=affine,
        dst_crs="EPSG:32634", dst_nodata=255, init_dest_nodata=True,
    )  # fmt: skip
    second = mask(tmp_path / "b.tif", turned, crs="EPSG:32634", transform=affine)
    found = compare(first, second, resample=True)
    assert found.table.overall_accuracy > 0.98
    assert found.table.scores()["thick-cloud"].iou > 0.95


def test_where_a_raster_ends_there_is_no_class(tmp_path: Path) -> None:
    """Fmask codes: 0 is land, so that what lies beyond the raster must not read as 0."""
    first = mask(tmp_path / "a.tif", np.zeros((4, 8), np.uint8))
    second = mask(tmp_path / "b.tif", np.zeros((4, 4), np.uint8), nodata=None)
    found = compare(first, second, decode_b="fmask", resample=True)
    assert found.missing == {"a": 0, "b": 16, "both": 0}
    assert found.table.pixels == 16


def test_masks_without_position(tmp_path: Path) -> None:
    first, second = mask(tmp_path / "a.tif", ONE, crs=None), mask(tmp_path / "b.tif", TWO, crs=None)
    assert compare(first, second).table.counts.tolist() == TABLE
    third = mask(tmp_path / "c.tif", TWO[:, :5], crs=None)
    assert "no reference system" in refused(first, third, resample=True)


# other makers' masks ------------------------------------------------------------------------------------------------


def test_masks_of_other_makers(tmp_path: Path) -> None:
    ours = mask(tmp_path / "ours.tif", np.uint8([[0, 1, 2, 3, 0, 255]]))
    scl = mask(tmp_path / "scl.tif", np.uint8([[4, 9, 10, 3, 0, 5]]), nodata=None)
    found = compare(ours, scl, decode_b="scl")
    assert np.array_equal(found.table.counts, np.diag([1, 1, 1, 1]))
    assert found.missing == {"a": 1, "b": 1, "both": 0}
    qa = mask(tmp_path / "qa.tif", np.uint16([[21824, 22280, 54596, 23888, 1, 21824]]), nodata=1)
    assert compare(qa, scl, decode_a="qa_pixel", decode_b="scl").table.counts.tolist() == np.diag([2, 1, 1, 1]).tolist()
    assert compare(qa, ours, decode_a="qa_pixel").table.counts.diagonal().tolist() == [1, 1, 1, 1]
    udm = np.zeros((8, 1, 6), np.uint8)
    for band, col in ((0, 0), (5, 1), (3, 2), (2, 3), (0, 5)):
        udm[band, 0, col] = 1
    assert compare(ours, make_tif(tmp_path / "udm2.tif", udm), decode_b="udm2").table.counts.tolist() == np.diag(
        [1, 1, 1, 1]
    ).tolist()


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (np.uint8([[0, 4, 9]]), {}, "the value 4"),
        (np.float32([[0, 1, 0.5]]), {}, "0.5"),
        (np.float32([[0, 1, 1]]), {}, "float32"),
        (np.uint8([[0, 4, 99]]), {"decode_b": "scl"}, "code 99"),
        (np.uint8([[0, 4, 9]]), {"decode_b": "nosuch"}, "Decoders are"),
        (np.zeros((4, 1, 3), np.uint8), {}, "has 4 bands"),
    ],
)
def test_what_is_no_mask(tmp_path: Path, codes: np.ndarray, options: dict[str, str], message: str) -> None:
    first = mask(tmp_path / "a.tif", np.uint8([[0, 1, 2]]))
    data = codes if codes.ndim == 3 else codes[None]
    second = make_tif(tmp_path / "b.tif", data)
    text = refused(first, second, **options)
    assert message in text
    assert "b.tif" in text or "nosuch" in text


# where masks are found ----------------------------------------------------------------------------------------------


def item(path: Path, assets: dict[str, str]) -> Path:
    listed = {key: {"href": href} for key, href in assets.items()}
    path.write_text(json.dumps({"type": "Feature", "id": "scene", "properties": {}, "assets": listed}))
    return path


def test_folders_and_items(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert "2 masks: one_mask.tif, two_mask.tif" in refused(tmp_path, pair[1])
    (tmp_path / "empty").mkdir()
    assert "0 masks" in refused(tmp_path / "empty", pair[1])
    for name, path in zip(("first", "second"), pair, strict=True):
        (tmp_path / name).mkdir()
        path.rename(tmp_path / name / path.name)
    second = item(tmp_path / "second" / "two.json", {"mask": "./two_mask.tif", "SCL": "scl/scl.tif"})
    assert compare(tmp_path / "first", second).table.counts.tolist() == TABLE
    (tmp_path / "second" / "scl").mkdir()
    mask(tmp_path / "second" / "scl" / "scl.tif", np.full(ONE.shape, 9, np.uint8))
    assert compare(tmp_path / "first", second, decode_b="scl").table.counts[:, 1].tolist() == [3, 2, 1, 1]
    assert "no asset 'qa_pixel'" in refused(tmp_path / "first", second, decode_b="qa_pixel")
    assert "does not exist" in refused(tmp_path / "absent.tif", second)
    (tmp_path / "damaged.tif").write_bytes(b"II*\x00")
    assert "cannot be read" in refused(tmp_path / "damaged.tif", second)


def test_what_mask_writes_is_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.03, 0.4, (4, 96, 96)).astype(np.float32)
    source = make_tif(tmp_path / "image.tif", image, descriptions=("blue", "green", "red", "nir"), pixel_m=20.0)
    outputs = unclouded.mask(source, output=tmp_path / "out").outputs
    for form in (tmp_path / "out", outputs["item"], outputs["mask"]):
        assert compare(form, outputs["mask"]).table.overall_accuracy == 1
    assert "bands" in refused(outputs["mask"], make_tif(tmp_path / "p.tif", np.zeros((4, 96, 96), np.uint8)))


# command line -------------------------------------------------------------------------------------------------------


def test_command_as_table_and_as_json(pair: tuple[Path, Path]) -> None:
    done = run("compare", *pair)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "clear 1 1 0 0 2" in lines
    assert "agreement: 0.5000 of 6 pixels" in lines
    assert "1 pixels in A only, 1 in B only, 1 in both" in done.stdout
    (told,) = records(run("compare", *pair, "--json"))
    assert told["counts"] == TABLE
    assert told["scores"]["cloud-shadow"]["precision"] is None
    assert told["merged"]["cloud"]["iou"] == pytest.approx(0.75)
    assert told["missing"] == {"a": 1, "b": 1, "both": 1}


def test_command_exit_codes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = mask(tmp_path / "other.tif", ONE, pixel_m=20.0)
    done = run("compare", pair[0], other)
    assert done.returncode == 3
    assert "\n  Expected: " in done.stderr
    assert "--resample" in done.stderr
    assert done.stdout == ""
    assert run("compare", pair[0], other, "--resample").returncode == 0
    assert run("compare", pair[0]).returncode == 2


def test_real_masks(shared_data: Path) -> None:
    folder = next((shared_data / "safe_s2_l2a_60m").glob("*.SAFE"))
    scl, fine = next(folder.rglob("*_SCL_60m.jp2")), next(folder.rglob("*_SCL_20m.jp2"))
    same = compare(scl, scl, decode_a="scl", decode_b="scl")
    assert same.table.overall_accuracy == 1
    assert "pixels" in refused(scl, fine, decode_a="scl", decode_b="scl")
    found = compare(scl, fine, decode_a="scl", decode_b="scl", resample=True)
    assert found.table.overall_accuracy > 0.95
    probability = next(folder.rglob("MSK_CLDPRB_60m.jp2"))
    cloud = compare(scl, probability, decode_a="scl", decode_b="cldprb").table.merged(["thick-cloud", "thin-cloud"])
    assert cloud.precision > 0.9
