"""Runs that are killed at random moments and resumed: nothing half-written, nothing lost, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from unclouded.batch import run

from .fakes_batch import contents, write_scenes

SCENES = 20
MASK = ("mask", "--polygons", "fgb")
REMOVE = ("remove", "--model", "none", "--dilation", "1")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_scenes(tmp_path_factory.mktemp("in"), SCENES)


@pytest.fixture(scope="module")
def undisturbed(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("reference")
    assert run(scenes, out, level="toa", polygons="fgb").done == SCENES
    return contents(out)


def start(scenes: list[Path], out: Path, jobs: int, command: tuple[str, ...] = MASK) -> subprocess.Popen[bytes]:
    """A run in a process group of its own."""
    name, *options = command
    words = [name, *map(str, scenes), "-o", str(out), "--level", "toa", "--resume", "--jobs", str(jobs), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "unclouded", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def finished(out: Path) -> int:
    return len(list(out.glob("*.json")))


def kill_at_random(process: subprocess.Popen[bytes], out: Path, chance: random.Random, victim: str) -> bool:
    """Kill a run (``parent``), all of its processes (``group``), or one ``worker`` of it, at a random moment of its
    remaining work; False if it ended before."""
    if finished(out) == SCENES:
        return False
    goal = chance.randrange(finished(out), SCENES)
    # Moments within the work on one scene, and now and then while the program starts.
    pause = chance.uniform(0, 0.2) if chance.random() < 0.85 else 0.0
    begin, early = time.monotonic(), chance.uniform(0, 4) if chance.random() < 0.15 else 600.0
    while process.poll() is None and finished(out) <= goal and time.monotonic() - begin < early:
        time.sleep(0.002)
    time.sleep(pause)
    if process.poll() is not None:
        return False
    with suppress(ProcessLookupError):
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            found = children(process.pid) if victim == "worker" else []
            os.kill(chance.choice(found) if found else process.pid, signal.SIGKILL)
    return True


def children(pid: int) -> list[int]:
    """Worker processes of a run; not the helper of multiprocessing that tracks shared memory."""
    out = []
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                out.append(int(child))
    return out


def disturbed(
    scenes: list[Path], out: Path, kills: int, jobs: int, seed: int, command: tuple[str, ...] = MASK
) -> int:
    """Kill a batch some times, resume it each time, and let the last run end; the number of kills."""
    chance = random.Random(seed)
    done = 0
    for _ in range(kills):
        if finished(out) == SCENES:
            break
        process = start(scenes, out, jobs, command)
        try:
            done += kill_at_random(process, out, chance, chance.choice(("group", "group", "parent")))
        finally:
            process.kill()
            process.wait()
    finish(scenes, out, jobs, command)
    return done


def finish(scenes: list[Path], out: Path, jobs: int, command: tuple[str, ...] = MASK) -> None:
    """Resume until all is done."""
    deadline = time.monotonic() + 300
    while start(scenes, out, jobs, command).wait() == 1:  # a worker of the killed run may need a moment to notice
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check(out: Path, undisturbed: dict[str, Any]) -> None:
    found = contents(out)
    assert found.keys() == undisturbed.keys()
    assert found == undisturbed


def test_a_batch_killed_three_times(scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert disturbed(scenes, tmp_path, 3, jobs=1, seed=1) >= 1
    check(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_batch_killed_two_hundred_times(
    scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path, part: int
) -> None:
    """Fifty kills in each part, of batches with one process and with two in turns."""
    kills = number = 0
    while kills < 50:
        out = tmp_path / f"out{number}"
        kills += disturbed(scenes, out, 5, jobs=1 + number % 2, seed=1000 * part + number)
        check(out, undisturbed)
        number += 1


@pytest.mark.slow
def test_workers_killed_at_random(scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(20):
        out = tmp_path / f"out{number}"
        process = start(scenes, out, 2)
        for _ in range(2):
            kill_at_random(process, out, chance, "worker")
        if process.wait() != 0:  # both hit the same scene, which has failed then, or the run before it had workers
            finish(scenes, out, 2)
        check(out, undisturbed)


@pytest.mark.slow
def test_a_removal_batch_killed_thirty_times(scenes: list[Path], tmp_path: Path) -> None:
    command = (*REMOVE, "--history", *map(str, scenes[:2]))
    assert start(scenes, tmp_path / "reference", 1, command).wait() == 0
    for number in range(6):
        out = tmp_path / f"out{number}"
        assert disturbed(scenes, out, 5, jobs=1 + number % 2, seed=number, command=command) >= 1
        check(out, contents(tmp_path / "reference"))
        check(out / "masks", contents(tmp_path / "reference" / "masks"))
