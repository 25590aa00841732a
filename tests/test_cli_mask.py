"""``unclouded mask`` from the outside: outputs, streams, exit codes, and runs that are cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from rio_cogeo import cog_validate

from .fakes_command import Done, records, run_process
from .fakes_command import run as run_here


def run(*words: object) -> Done[str]:
    return run_here("mask", *words)


def write_image(path: Path, size: int = 160, dtype: str = "float32") -> Path:
    rng = np.random.default_rng(3)
    values = rng.uniform(0.03, 0.1, (4, size, size))
    values[:, size // 4 : size // 2, size // 4 : size // 2] = 0.7
    if dtype == "uint16":
        values = values * 10_000
    profile = {"driver": "GTiff", "count": 4, "height": size, "width": size, "crs": "EPSG:32633", "tiled": True}
    with rasterio.open(path, "w", dtype=dtype, transform=Affine(20, 0, 4e5, 0, -20, 5.8e6), **profile) as file:
        file.write(values.astype(dtype))
        file.descriptions = ("blue", "green", "red", "nir")
    return path


LEVEL = ("--level", "toa")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("in") / "picture.tif")


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("in") / "counts.tif", dtype="uint16")


def test_one_scene_with_everything(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    done = run_process("mask", picture, "-o", out, *LEVEL, "--prob", "--quicklook", "--json")
    assert done.returncode == 0, done.stderr
    record, last = records(done)
    assert list(record)[:1] == ["id"]
    assert {"id", "status", "outputs", "cloud_percent", "seconds", "warnings"} <= set(record)
    assert (record["id"], record["status"]) == ("picture", "done")
    assert set(record["outputs"]) == {"mask", "uncertainty", "prob", "quicklook", "item"}
    assert {path.name for path in out.iterdir()} == {Path(path).name for path in record["outputs"].values()}
    assert last["summary"]["scenes"] == last["summary"]["done"] == 1
    for product in ("mask", "uncertainty", "prob"):
        assert cog_validate(record["outputs"][product], strict=True)[0]
    item = pystac.Item.from_file(record["outputs"]["item"])
    assert item.properties["eo:cloud_cover"] == pytest.approx(record["cloud_percent"], abs=1e-3)
    assert item.properties["unclouded:radiometry"]["red"]["source"]


def test_stdout_is_the_item_and_stderr_is_talk(picture: Path, tmp_path: Path) -> None:
    done = run(picture, "-o", tmp_path, *LEVEL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "picture.json")
    assert "% cloud" in done.stderr
    quiet = run(picture, "-o", tmp_path, *LEVEL, "--overwrite", "-q")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_existing_output(picture: Path, tmp_path: Path) -> None:
    assert run(picture, "-o", tmp_path, *LEVEL).returncode == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    refused = run(picture, "-o", tmp_path, *LEVEL)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    kept = run(picture, "-o", tmp_path, *LEVEL, "--resume", "--json")
    assert kept.returncode == 0, kept.stderr
    assert records(kept)[0]["status"] == "kept"
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    other = run(picture, "-o", tmp_path, *LEVEL, "--resume", "--json", "--resolution", "40")
    assert records(other)[0]["status"] == "done"
    again = run(picture, "-o", tmp_path, *LEVEL, "--overwrite")
    assert again.returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


def test_dry_run_writes_nothing(picture: Path, tmp_path: Path) -> None:
    done = run(picture, "-o", tmp_path / "out", *LEVEL, "--dry-run", "--prob", "--json")
    assert done.returncode == 0, done.stderr
    record = records(done)[0]
    assert record["status"] == "planned"
    assert set(record["outputs"]) == {"mask", "uncertainty", "prob", "item"}
    assert not (tmp_path / "out").exists()


def test_input_error_is_3(tmp_path: Path) -> None:
    done = run(tmp_path / "absent.tif", "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "Expected:" in done.stderr
    assert not (tmp_path / "out").exists()


def test_radiometry_error_is_4_and_options_settle_it(counts: Path, tmp_path: Path) -> None:
    done = run(counts, "-o", tmp_path, *LEVEL)
    assert done.returncode == 4, done.stderr
    assert not list(tmp_path.iterdir())
    told = run(counts, "-o", tmp_path, *LEVEL, "--scale", "0.0001", "--offset", "0", "--json")
    assert told.returncode == 0, told.stderr
    item = pystac.Item.from_file(records(told)[0]["outputs"]["item"])
    assert item.properties["unclouded:radiometry"]["blue"] == {
        "scale": 1e-4,
        "offset": 0.0,
        "nodata": None,
        "source": "user",
        "calibrated": True,
    }


def test_model_error_is_5(picture: Path, tmp_path: Path) -> None:
    done = run(picture, "-o", tmp_path / "out", *LEVEL, "--model", tmp_path / "absent.onnx")
    assert done.returncode == 5
    assert "To do:" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_1(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    done = run_process("mask", picture, "-o", tmp_path / "out", *LEVEL)
    assert done.returncode == 1
    assert all(part in done.stderr for part in ("Error", "\n  Expected:", "\n  To do:"))
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_1(picture: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        done = run(picture, "-o", tmp_path, *LEVEL)
    finally:
        tmp_path.chmod(0o700)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_a_batch_goes_on_after_a_failure(picture: Path, counts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_process("mask", tmp_path / "absent.tif", counts, picture, "-o", out, *LEVEL, "--json")
    assert done.returncode == 1
    *scenes, last = records(done)
    assert [one["status"] for one in scenes] == ["failed", "failed", "done"]
    assert last["summary"]["failed"] == 2
    assert (out / "picture.json").exists()
    fast = run(tmp_path / "absent.tif", picture, "-o", tmp_path / "fast", *LEVEL, "--fail-fast", "--json")
    assert fast.returncode == 1
    assert records(fast)[-1]["summary"]["not-tried"] == 1
    assert not (tmp_path / "fast").exists()


def test_two_scenes_of_one_name_do_not_replace_each_other(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same = write_image(tmp_path / "other" / "picture.tif", 96)
    done = run(picture, same, "-o", tmp_path / "out", *LEVEL, "--overwrite", "--json")
    assert done.returncode == 1
    assert [one["status"] for one in records(done)[:-1]] == ["done", "failed"]
    with rasterio.open(tmp_path / "out" / "picture_mask.tif") as file:
        assert file.width == 160


def test_what_others_wrote_is_not_replaced(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.json").write_text('{"type": "Feature", "id": "mine"}')
    done = run(picture, "-o", tmp_path, *LEVEL, "--overwrite")
    assert done.returncode == 1
    assert json.loads((tmp_path / "picture.json").read_text())["id"] == "mine"


def cut_off(words: list[str], out: Path, signal_number: int) -> tuple[int, str]:
    """Start a run, stop it as soon as its hidden folder is there, and tell its exit code and stderr."""
    command = [sys.executable, "-m", "unclouded", "mask", *words, "-o", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background lets them, and what they start, ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(".*.partial-*/*.tif")):
        assert process.poll() is None, "the run ended before it could be cut off"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal_number)
    _, talk = process.communicate(timeout=120)
    return process.returncode, talk


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that masking takes most of a second."""
    return write_image(tmp_path_factory.mktemp("in") / "large.tif", 800)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["interrupt", "terminate"]
)
def test_a_stopped_run_leaves_nothing(large: Path, tmp_path: Path, number: int, code: int) -> None:
    out = tmp_path / "out"
    ended, talk = cut_off([str(large), *LEVEL], out, number)
    assert ended == code
    assert "Traceback" not in talk
    assert not out.exists() or not list(out.iterdir())


def test_a_killed_run_leaves_nothing_under_a_final_name_and_resumes(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended, _ = cut_off([str(large), *LEVEL], out, signal.SIGKILL)
    assert ended == -signal.SIGKILL
    assert all(path.name.startswith(".") for path in out.iterdir())
    done = run(large, "-o", out, *LEVEL, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert records(done)[0]["status"] == "done"
    assert {path.name for path in out.iterdir()} == {"large.json", "large_mask.tif", "large_uncertainty.tif"}
    again = run(large, "-o", out, *LEVEL, "--resume", "--json")
    assert records(again)[0]["status"] == "kept"


def test_a_kill_while_replacing_leaves_the_old_output_whole(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(large, "-o", out, *LEVEL).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    cut_off([str(large), *LEVEL, "--overwrite", "--resolution", "40"], out, signal.SIGKILL)
    assert {path.name: path.read_bytes() for path in out.glob("large*")} == before
