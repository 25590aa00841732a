"""Batches: processes, resume, failures, locks, and the inputs that stand for many scenes."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from unclouded.batch import run
from unclouded.batch_inputs import sources
from unclouded.errors import InputError, ModelError, OutputError
from unclouded.write.lock import LOCK, FolderLock

from .fakes_batch import contents, write_scene, write_scenes
from .fakes_command import records
from .fakes_command import run as run_here
from .fakes_server import serve

TOA = {"level": "toa"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_scenes(tmp_path_factory.mktemp("in"), 4)


@pytest.fixture(scope="module")
def undisturbed(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("reference") / "out"
    assert run(scenes, out, **TOA).tally == {"done": 4}
    return contents(out)


def test_processes_give_what_one_process_gives(
    scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    shares: list[float] = []
    told: list[str] = []
    summary = run(
        str(scenes[0].parent / "*.tif"), tmp_path, jobs=2, on_outcome=lambda one: told.append(one.source),
        progress=shares.append, **TOA,
    )  # fmt: skip
    assert (summary.done, summary.failures, summary.exit_code) == (4, (), 0)
    assert [one.id for one in summary.outcomes] == [path.stem for path in scenes]
    assert sorted(told) == [str(path) for path in scenes]
    assert max(shares) == shares[-1] == 1.0
    assert contents(tmp_path) == undisturbed


def test_resume_keeps_what_is_done_and_makes_what_is_not(
    scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    assert run(scenes[:2], tmp_path, **TOA).done == 2
    refused = run(scenes, tmp_path, **TOA)
    assert refused.tally == {"failed": 2, "done": 2}
    assert {one.stage for one in refused.failures} == {"write"}
    (tmp_path / "scene01_mask.tif").unlink()
    again = run(scenes, tmp_path, resume=True, **TOA)
    assert [one.status for one in again.outcomes] == ["kept", "done", "kept", "kept"]
    assert contents(tmp_path) == undisturbed
    other = run(scenes[:1], tmp_path, resume=True, resolution_m=40, **TOA)
    assert other.done == 1, "other options make another result"


def test_a_corrupt_scene_does_not_end_the_others(scenes: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(scenes[0].read_bytes()[:3000])
    done = run_here(
        "mask", scenes[0], bad, tmp_path / "absent.tif", scenes[1], "-o", tmp_path / "out", "--level", "toa", "--json"
    )  # fmt: skip
    assert done.returncode == 1
    *lines, last = records(done)
    assert [one["status"] for one in lines] == ["done", "failed", "failed", "done"]
    assert last["summary"]["failures"][1] == {
        "input": str(tmp_path / "absent.tif"),
        "id": None,
        "stage": "open",
        "error": f"{tmp_path / 'absent.tif'} does not exist.",
    }
    assert "bad" in done.stderr
    assert "2 done, 2 failed" in done.stderr
    assert all(not name.startswith(("bad", ".")) for name in contents(tmp_path / "out"))


def test_one_name_twice_in_two_processes(scenes: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same = write_scene(tmp_path / "other" / scenes[0].name, 9)
    summary = run([scenes[0], same], tmp_path / "out", jobs=2, **TOA)
    assert summary.tally == {"done": 1, "failed": 1}
    assert "has the same name 'scene00'" in summary.failures[0].error.found
    assert set(contents(tmp_path / "out")) == {"scene00.json", "scene00_mask.tif", "scene00_uncertainty.tif"}


def test_a_missing_model_is_told_once_before_anything(scenes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        run(scenes, tmp_path / "out", model="absent", **TOA)
    assert not (tmp_path / "out").exists()


def test_the_list_of_inputs_may_come_on_stdin(scenes: list[Path], tmp_path: Path) -> None:
    listed = "\n".join(map(str, scenes[:2]))
    done = run_here("mask", "-", "-o", tmp_path, "--level", "toa", "--dry-run", "--json", stdin=listed)
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in records(done)[:-1]] == ["planned", "planned"]
    assert not list(tmp_path.iterdir())


# Faults of workers


class _Killer:
    """A source that ends the process which receives it, as running out of memory does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def test_a_scene_that_kills_its_worker_fails_and_the_others_do_not(scenes: list[Path], tmp_path: Path) -> None:
    summary = run([scenes[0], _Killer(), scenes[1]], tmp_path, jobs=2, **TOA)
    assert [one.status for one in summary.outcomes] == ["done", "failed", "done"]
    failure = summary.failures[0]
    assert failure.stage == "worker"
    assert "Two worker processes ended" in failure.error.found
    assert "exit code 7" in failure.error.found
    assert len(contents(tmp_path)) == 6


def test_memory_that_is_refused_is_told_as_such(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **settings: Any) -> None:
        raise MemoryError("Unable to allocate 9.00 GiB")

    monkeypatch.setattr("unclouded.api.mask", refuse)
    error = run(scenes[:1], tmp_path, **TOA).failures[0].error
    assert "9.00 GiB" in error.found
    assert "--tile" in error.remedy


def test_a_killed_worker_is_replaced(scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_all(outcome: Any) -> None:
        if not killed:
            killed.extend(child.pid for child in multiprocessing.active_children() if child.name == "unclouded-worker")
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    summary = run(scenes, tmp_path, jobs=2, on_outcome=kill_all, **TOA)
    assert killed
    assert summary.tally == {"done": 4}
    assert contents(tmp_path) == undisturbed


def test_workers_end_with_their_killed_parent(scenes: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unclouded", "mask", *map(str, scenes), "-o", str(tmp_path), "--level", "toa"]
    process = subprocess.Popen([*command, "--jobs", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (workers := _children(process.pid)) or not list(tmp_path.glob("scene*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.01)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


# Faults of files


def test_a_full_disk(scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unclouded", "mask", *map(str, scenes), "-o", str(tmp_path), "--level", "toa"]
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert done.returncode == 1, done.stderr
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["error"]["stage"] for one in lines] == ["write"] * 4
    assert last["summary"]["failed"] == 4
    assert not list(tmp_path.iterdir())
    assert run(scenes, tmp_path, resume=True, **TOA).done == 4
    assert contents(tmp_path) == undisturbed


def on_a_disk(folder: Path, how: str, scenes: list[Path], copy: Path) -> subprocess.CompletedProcess[str]:
    """Mask scenes into ``out`` on a small disk in a folder, which only this process sees, and copy what it holds."""
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a process mount disks of its own (unshare)")
    folder.mkdir()
    mask = [sys.executable, "-m", "unclouded", "mask", *scenes, "-o", folder / "out", "--level", "toa", "--json"]
    script = f"""
        mount -t tmpfs -o size=1200k none "{folder}"
        {how}
        "$@"
        code=$?
        cp -a "{folder}" "{copy}"
        exit $code
    """
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *map(str, mask)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_disk_that_fills_up(scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    given = [*scenes[:2], write_scene(tmp_path / "large.tif", 1, 900), *scenes[2:]]
    done = on_a_disk(tmp_path / "disk", ":", given, tmp_path / "copy")
    assert done.returncode == 1, done.stderr
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["done", "done", "failed", "done", "done"]
    assert (last["summary"]["done"], last["summary"]["failed"]) == (4, 1)
    failure = lines[2]["error"]
    assert failure["stage"] == "write"
    assert re.search(r"/out cannot be written: .*[^.] \([01]\.\d MB are free there\)\.$", failure["found"])
    assert contents(tmp_path / "copy" / "out") == undisturbed
    assert run(given, tmp_path / "copy" / "out", resume=True, **TOA).tally == {"kept": 4, "done": 1}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("head -c 10M /dev/zero > {}/filler", "No space left on device"),
        ("mount -o remount,ro {}", "Read-only file system"),
    ],
)
def test_a_disk_that_takes_nothing(scenes: list[Path], tmp_path: Path, how: str, reason: str) -> None:
    disk = tmp_path / "disk"
    done = on_a_disk(disk, how.format(disk), scenes, tmp_path / "copy")
    assert done.returncode == 1
    assert f"{disk / 'out'} cannot be written: {reason}." in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "copy").exists()
    assert not (tmp_path / "copy" / "out").exists()


@pytest.mark.parametrize("vanish", [lambda path: os.truncate(path, 200_000), lambda path: path.unlink(missing_ok=True)])
def test_a_source_that_vanishes_in_mid_read(
    scenes: list[Path], tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    long = write_scene(tmp_path / "long.tif", 1, 900)

    def cut(share: float) -> None:
        if share < 0.5:
            vanish(long)

    summary = run([long, scenes[0]], tmp_path / "out", tile=128, halo=32, progress=cut, **TOA)
    assert [(one.status, one.stage) for one in summary.outcomes] == [("failed", "mask"), ("done", "")]
    assert "long.tif" in summary.failures[0].error.found
    assert summary.failures[0].error.__cause__ is None, "what travels back is no object of another library"
    assert "RasterioIOError" in summary.failures[0].trace
    assert all(name.startswith("scene00") for name in contents(tmp_path / "out"))


def test_an_output_folder_that_vanishes_makes_the_summary_say_so(scenes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[str] = []

    def remove(outcome: Any) -> None:
        seen.append(outcome.status)
        if len(seen) == 2:
            shutil.rmtree(out)

    summary = run(scenes, out, on_outcome=remove, **TOA)
    assert seen == ["done"] * 4
    assert [(one.status, one.stage) for one in summary.outcomes] == [("failed", "check")] * 2 + [("done", "")] * 2
    assert run(scenes, out, resume=True, **TOA).tally == {"done": 2, "kept": 2}


def test_a_folder_that_cannot_be_made(scenes: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        run(scenes, tmp_path / "file" / "out", **TOA)


# The lock


def test_a_second_run_in_the_folder_says_so(scenes: list[Path], tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        done = run_here("mask", scenes[0], "-o", tmp_path, "--level", "toa")
        assert done.returncode == 1
        assert f"Another run is writing to {tmp_path}: process {os.getpid()} on" in done.stderr
    assert not list(tmp_path.iterdir())
    assert run_here("mask", scenes[0], "-o", tmp_path, "--level", "toa").returncode == 0


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "before"}))
    (tmp_path / ".scene.partial-abc").mkdir()
    (tmp_path / ".scene.partial-abd").mkdir()
    (tmp_path / ".scene.partial-abd" / "mask.strips.tif").write_bytes(b"x")
    with FolderLock(tmp_path):
        assert not list(tmp_path.glob(".*partial*"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("silent_s", "busy"), [(5, True), (3600, False)])
def test_a_run_on_another_machine_counts_as_dead_when_it_is_silent(tmp_path: Path, silent_s: int, busy: bool) -> None:
    lock = tmp_path / LOCK
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "x"}))
    os.utime(lock, (time.time() - silent_s,) * 2)
    if busy:
        with pytest.raises(OutputError, match="process 1 on elsewhere"), FolderLock(tmp_path):
            pass
        assert lock.exists()
    else:
        with FolderLock(tmp_path):
            assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_where_files_cannot_be_locked_the_process_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unclouded.write.lock._lock", lambda handle: None)
    with FolderLock(tmp_path), pytest.raises(OutputError, match="Another run"), FolderLock(tmp_path):
        pass
    (tmp_path / LOCK).write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "before"}))
    with FolderLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


# What inputs stand for


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_a_catalogue_stands_for_its_items(tmp_path: Path) -> None:
    links = [{"rel": "child", "href": "./c/collection.json"}, {"rel": "item", "href": "a.json"}]
    _write(tmp_path / "catalog.json", {"type": "Catalog", "id": "x", "stac_version": "1.0.0", "links": links})
    circle = [{"rel": "item", "href": "../b/b.json"}, {"rel": "child", "href": "../catalog.json"}]
    _write(tmp_path / "c" / "collection.json", {"type": "Collection", "id": "c", "links": circle})
    expected = [str(tmp_path / "a.json"), str(tmp_path / "b" / "b.json")]
    found = sources(tmp_path)
    assert sorted(set(found)) == expected
    assert sources([tmp_path / "c"])[0] == expected[1]


def test_an_item_collection_stands_for_its_items(tmp_path: Path) -> None:
    features = [{"type": "Feature", "id": "a"}, {"type": "Feature", "id": "b", "links": []}]
    path = _write(tmp_path / "items.json", {"type": "FeatureCollection", "features": features})
    found = sources([path])
    assert [one["id"] for one in found] == ["a", "b"]
    assert found[0]["links"] == [{"rel": "self", "href": str(path)}]
    with pytest.raises(InputError, match="no scene"):
        sources(_write(tmp_path / "none.json", {"type": "FeatureCollection", "features": []}))


def test_pages_of_an_api_are_followed(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        following = {"rel": "next", "href": "page2.json"}
        first = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a"}], "links": [following]}
        _write(tmp_path / "items.json", first)
        last = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "b"}], "links": [following]}
        _write(tmp_path / "page2.json", last)
        found = sources(f"{server.address}/items.json")
        assert [one["id"] for one in found] == ["a", "b"]
        assert found[1]["links"][0]["href"] == f"{server.address}/page2.json"
        posting = {"rel": "next", "href": "page2.json", "method": "POST"}
        _write(tmp_path / "items.json", {**first, "links": [posting]})
        with pytest.raises(InputError, match="POST"):
            sources(f"{server.address}/items.json")


def test_what_is_no_collection_stays_as_it_is(tmp_path: Path) -> None:
    item = _write(tmp_path / "item.json", {"type": "Feature", "id": "a"})
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    mtl = _write(tmp_path / "scene_MTL.json", {"LANDSAT_METADATA_FILE": {}})
    given = [str(item), str(broken), str(mtl), "s3://bucket/a.tif", "https://host/a/items/b", "/vsizip/a.zip/b.tif"]
    assert sources(given) == given
    with pytest.raises(InputError, match="Nothing fits"):
        sources(str(tmp_path / "*.SAFE"))
