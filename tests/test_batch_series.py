"""Removal and composites of many scenes: masks once for all, each scene from the others, an image for each period."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from unclouded import batch, remove
from unclouded.errors import InputError, OutputError
from unclouded.simulate.safe import write_safe
from unclouded.write.lock import FolderLock

from .fakes_batch import contents
from .fakes_clouds import cloud
from .fakes_command import Done, records
from .fakes_command import run as run_here
from .fakes_products import CRS, ULX, ULY, make_counts
from .fakes_removal import READING, write_image

pytestmark = pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
WORDS = ("--scale", "0.0001", "--offset", "-0.1", "--nodata", "0", "--level", "boa")


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three dates of one place, each with a cloud elsewhere that the default model sees."""
    folder, size = tmp_path_factory.mktemp("dates"), (96, 128)
    ground = np.random.default_rng(0).uniform(0.05, 0.09, (4, *size)).astype(np.float32)
    boxes = {"first": ((4, 56), (4, 64)), "other0": ((40, 92), (4, 64)), "other1": ((4, 56), (64, 124))}
    return tuple(
        write_image(
            folder / f"{name}.tif",
            np.rint((ground + cloud(size, *box, seed) + 0.1) * 1e4).astype(np.uint16),
            grid=Affine(20, 0, 4e5, 0, -20, 5.8e6),
            nodata=0,
        )
        for seed, (name, box) in enumerate(boxes.items())
    )


def series(dates: tuple[Path, ...], out: Path, *words: object) -> Done[str]:
    """Every date from the others."""
    return run_here("remove", *dates, "--history", *dates, "-o", out, "--json", *WORDS, *words)


def pixels(folder: Path, name: str) -> Any:
    with rasterio.open(folder / f"{name}_restored.tif") as file:
        return file.read()


def test_every_scene_of_a_series_from_the_others(dates: tuple[Path, ...], tmp_path: Path) -> None:
    done = series(dates, tmp_path / "out", "--model", "none")
    assert done.returncode == 0, done.stderr
    *lines, last = records(done)
    assert [(one["id"], one["status"]) for one in lines] == [(name, "done") for name in ("first", "other0", "other1")]
    assert last["summary"]["done"] == 3
    assert {path.name for path in (tmp_path / "out" / "masks").glob("*.json")} == {
        "first.json", "other0.json", "other1.json",
    }  # fmt: skip
    for line in lines:
        item = json.loads(Path(line["outputs"]["item"]).read_text())
        others = {one["id"] for one in item["properties"]["unclouded:dates"]}
        assert others == {"first", "other0", "other1"} - {line["id"]}
        assert line["replaced_percent"] > 0
        assert sum(line["pixels"].values()) == 96 * 128
    masks = [tmp_path / "out" / "masks" / f"{path.stem}_mask.tif" for path in dates]
    remove(
        dates[0], history=dates[1:], mask=masks[0], history_masks=masks[1:], model="none",
        output=tmp_path / "single", **READING,
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(tmp_path / "single", "first"), pixels(tmp_path / "out", "first"))
    # another time, by two processes
    again = series(dates, tmp_path / "out", "--model", "none", "--resume")
    assert [one["status"] for one in records(again)[:-1]] == ["kept"] * 3
    both = batch.remove(dates, tmp_path / "two", history=dates, model="none", jobs=2, **READING)
    assert both.tally == {"done": 3}
    kept = [{**contents(tmp_path / name), "masks": None} for name in ("out", "two")]
    assert kept[0] == kept[1]
    assert contents(tmp_path / "out" / "masks") == contents(tmp_path / "two" / "masks")


def test_a_corrupt_date_of_a_series_does_not_end_the_others(dates: tuple[Path, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(dates[0].read_bytes()[:3000])
    inputs = [*dates[:2], bad, dates[2]]
    out = tmp_path / "out"
    summary = batch.remove(inputs, out, history=inputs, model="none", **READING)
    assert [one.status for one in summary.outcomes] == ["done", "done", "failed", "done"]
    assert [one.number for one in summary.outcomes] == [0, 1, 2, 3]
    assert summary.exit_code == 1
    assert "bad" in summary.failures[0].error.found
    before = contents(out)
    bad.write_bytes(dates[0].read_bytes())  # whole now: the others are made again, with it
    again = batch.remove(inputs, out, history=inputs, model="none", resume=True, **READING)
    assert again.tally == {"done": 4}
    item = json.loads((out / "first_restored.json").read_text())
    assert {one["id"] for one in item["properties"]["unclouded:dates"]} == {"other0", "other1", "bad"}
    assert before["first_restored.json"] != contents(out)["first_restored.json"]


def test_an_other_date_that_is_no_input_has_to_be_readable(dates: tuple[Path, ...], tmp_path: Path) -> None:
    words = ("--history", tmp_path / "absent.tif", "--model", "none", "-o", tmp_path / "out", *WORDS)
    done = run_here("remove", *dates[:2], *words)
    assert done.returncode == 3
    assert "absent.tif does not exist" in done.stderr


def test_masks_of_several_scenes_lie_in_a_folder(dates: tuple[Path, ...], tmp_path: Path) -> None:
    batch.run(dates, tmp_path / "masks", **READING)
    done = series(dates, tmp_path / "out", "--model", "none", "--masks", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out" / "masks").exists()
    mask = tmp_path / "masks" / "first_mask.tif"
    assert series(dates, tmp_path / "out", "--model", "none", "--mask", mask).returncode == 2
    with pytest.raises(InputError, match="Single masks"):
        batch.remove(dates, tmp_path / "out", mask=mask, **READING)


# Composites


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiles, three dates in two months."""
    folder = tmp_path_factory.mktemp("archive")
    for tile, x in (("T33UVT", ULX), ("T33UWT", ULX + 1200)):
        for number, day in enumerate(("06-01", "06-11", "07-01")):
            counts = make_counts(1200, seed=number, low=1200, high=2200)
            write_safe(folder, counts, crs=CRS, ulx=x, uly=ULY, datetime=f"2024-{day}T10:10:31Z", tile=tile)
    return folder


def test_one_image_for_each_tile_and_month(archive: Path, tmp_path: Path) -> None:
    words = ("composite", archive / "*.SAFE", "-o", tmp_path / "out", "--bands", "red,nir", "--by", "tile", "--json")
    done = run_here(*words, "--by", "month", "--name", "c")
    assert done.returncode == 0, done.stderr
    *lines, last = records(done)
    names = [f"c_{tile}_{month}" for tile in ("T33UVT", "T33UWT") for month in ("2024-06", "2024-07")]
    assert sorted(one["id"] for one in lines) == names
    assert {one["id"]: len(one["scenes"]) for one in lines} == dict(zip(names, (2, 1, 2, 1), strict=True))
    assert last["summary"] == {"scenes": 4, "done": 4, "seconds": last["summary"]["seconds"], "failures": []}
    for line in lines:
        with rasterio.open(line["outputs"]["image"]) as file:
            assert (file.shape, file.descriptions) == ((120, 120), ("B04", "B08"))
    again = run_here(*words, "--by", "month", "--name", "c", "--resume")
    assert {one["status"] for one in records(again)[:-1]} == {"kept"}
    other = run_here(*words, "--by", "month", "--name", "c", "--resume", "--method", "medoid")
    assert {one["status"] for one in records(other)[:-1]} == {"done"}
    assert run_here(*words, "--by", "month", "--name", "c").returncode == 1, "existing files are kept"


def test_a_scene_that_cannot_be_read_fails_its_composite(archive: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*")
    listed = "\n".join(map(str, [*sorted(archive.glob("*_T33UVT_*")), bad]))
    done = run_here("composite", "-", "-o", tmp_path / "out", "--json", stdin=listed)
    assert done.returncode != 0
    (line, last) = records(done)
    assert (line["id"], line["status"], line["error"]["stage"]) == ("composite", "failed", "open")
    assert "bad.tif" in line["error"]["found"]
    assert last["summary"]["failed"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks"}
    by = run_here("composite", "-", "-o", tmp_path / "out", "--json", "--by", "month", "--resume", stdin=listed)
    assert by.returncode == 1
    *lines, last = records(by)
    assert sorted((one["id"] or "", one["status"]) for one in lines) == [
        ("", "failed"), ("composite_2024-06", "done"), ("composite_2024-07", "done"),
    ]  # fmt: skip
    assert last["summary"]["failures"][0]["input"] == str(bad)


def test_what_composites_cannot_be_made_by(archive: Path, tmp_path: Path) -> None:
    for by in (("month", "year"), ("week",)):
        with pytest.raises(InputError, match="Composites by"):
            batch.composite(str(archive / "*"), tmp_path, by=by)
    summary = batch.composite(str(archive / "*"), tmp_path, by=("year",), dry_run=True)
    assert [Path(path).name for path in summary.outcomes[0].outputs.values()] == [
        "composite_2024.tif", "composite_2024_dates.tif", "composite_2024.json",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_folder_is_locked_while_masks_are_made_too(dates: tuple[Path, ...], archive: Path, tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        for call in (batch.remove, batch.composite):
            with pytest.raises(OutputError, match="Another run"):
                call(dates, tmp_path, **READING)
    assert not list(tmp_path.iterdir())
