"""``unclouded remove`` from the outside: outputs, streams and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio

from .fakes_command import Done, records
from .fakes_command import run as run_here
from .fakes_removal import Ground, make_ground, write_image, write_model

READING = ("--scale", "0.0001", "--offset", "-0.1", "--nodata", "0", "--level", "boa")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def masks(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("masks")
    return [
        write_image(folder / f"{number}.tif", mask[None], names=["class"]) for number, mask in enumerate(ground.masks)
    ]


def run(*words: object) -> Done[str]:
    return run_here("remove", *words, *READING)


def test_dates_and_model(ground: Ground, masks: list[Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    words = (
        ground.paths[0], "--history", *ground.paths[1:], "--mask", masks[0], "--history-masks", *masks[1:],
        "--model", model, "-o", tmp_path / "out",
    )  # fmt: skip
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    record, last = records(done)
    assert (record["id"], record["status"]) == ("first", "done")
    assert set(record["outputs"]) == {"restored", "restored_provenance", "restored_uncertainty", "item"}
    assert sum(record["pixels"].values()) == 150 * 190
    assert 10 < record["replaced_percent"] < 40
    assert last["summary"]["done"] == 1
    item = json.loads(Path(record["outputs"]["item"]).read_text())
    assert {one["id"] for one in item["properties"]["unclouded:dates"]} == {"other0", "other1"}
    again = run(*words)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    kept = run(*words, "--resume", "--json")
    assert records(kept)[0]["status"] == "kept"
    plain = run(*words, "--overwrite", "--dilation", 0)
    assert plain.stdout.strip() == str(tmp_path / "out" / "first_restored.json")
    assert "% replaced" in plain.stderr


def test_dry_run(ground: Ground, tmp_path: Path) -> None:
    done = run(ground.paths[0], "--history", ground.paths[1], "-o", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.splitlines()][-1] == "first_restored.json"
    assert not (tmp_path / "out").exists()


def test_exit_codes(ground: Ground, masks: list[Path], tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    alone = run(ground.paths[0], *out, "--model", "none")
    assert alone.returncode == 5
    assert "\n  To do:" in alone.stderr
    absent = run(ground.paths[0], "--history", tmp_path / "absent.tif", *out)
    assert absent.returncode == 3
    other = write_image(tmp_path / "zone.tif", ground.counts, crs="EPSG:32632")
    zone = run(ground.paths[0], "--history", other, "--mask", masks[0], *out, "--model", "none")
    assert zone.returncode == 3
    unknown = run_here("remove", ground.paths[0], *out, "--history", ground.paths[1], "--level", "boa")
    assert unknown.returncode == 4
    assert run(ground.paths[0], *out, "--tile", "100").returncode == 2
    assert run(ground.paths[0], *out, "--history").returncode == 2
    assert not (tmp_path / "out").exists()


def test_the_whole_output_is_replaced_or_kept(ground: Ground, masks: list[Path], tmp_path: Path) -> None:
    words = (ground.paths[0], "--mask", masks[0], "--history", ground.paths[2], "--history-masks", masks[2])
    assert run(*words, "--model", "none", "-o", tmp_path).returncode == 0
    (tmp_path / "first_mask.tif").write_bytes(b"of another command")
    assert run(*words, "--model", "none", "-o", tmp_path, "--overwrite").returncode == 0
    assert (tmp_path / "first_mask.tif").exists()
    with rasterio.open(tmp_path / "first_restored.tif") as file:
        assert file.tags()["MODEL"] == "none"
