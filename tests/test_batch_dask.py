"""Batches and lazy masks on a Dask cluster of two worker processes on this machine."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unclouded
from unclouded import batch
from unclouded.batch import run
from unclouded.batch_task import Task
from unclouded.batch_treatments import Masking
from unclouded.errors import InputError

from .fakes_batch import contents, write_scenes
from .fakes_command import records
from .fakes_command import run as run_here
from .fakes_removal import READING, make_ground
from .test_lazy import image, same

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

SCENES = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", resources={"GPU": 1}
    ) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster, set_as_default=False) as made:
        yield made


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_scenes(tmp_path_factory.mktemp("in"), SCENES)


@pytest.fixture(scope="module")
def undisturbed(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("reference")
    assert run(scenes, out, level="toa").done == SCENES
    return contents(out)


def loaded() -> tuple[int, int]:
    from unclouded.infer.runner import _load

    return os.getpid(), _load.cache_info().misses


def test_a_cluster_gives_what_one_process_gives(
    client: Any, scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    summary = run(scenes, tmp_path, client=client, level="toa")
    assert summary.tally == {"done": SCENES}
    assert contents(tmp_path) == undisturbed
    # Each worker process has loaded the model once, whatever number of scenes it did.
    assert {misses for _, misses in client.run(loaded).values()} <= {0, 1}
    assert run(scenes, tmp_path, client=client, level="toa", resume=True).tally == {"kept": SCENES}


def test_a_task_carries_no_weights() -> None:
    assert len(pickle.dumps(Task(0, "scene.tif", "out", Masking()))) < 1000


def test_a_killed_worker_loses_nothing(
    client: Any, scenes: list[Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(outcome: Any) -> None:
        if not killed:
            killed.append(next(iter(client.run(loaded).values()))[0])
            os.kill(killed[0], signal.SIGKILL)

    summary = run(scenes, tmp_path, client=client, level="toa", on_outcome=kill)
    assert killed
    assert summary.tally == {"done": SCENES}
    assert contents(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_two_hundred_workers_killed_at_random(tmp_path: Path, part: int) -> None:
    """Fifty in each part; each worker that is killed is replaced by a new one, as cluster managers do."""
    scenes = write_scenes(tmp_path / "in", 20)
    assert run(scenes, tmp_path / "reference", level="toa").done == 20
    undisturbed = contents(tmp_path / "reference")
    chance = random.Random(part)
    kills = number = 0
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        command += ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path / "scratch")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        workers = [subprocess.Popen(command, **quiet) for _ in range(2)]

        def kill_some(out: Path, ended: threading.Event) -> None:
            nonlocal kills
            for _ in range(5):
                # Once something was done since the last kill, at a random moment of the next scenes.
                before = len(list(out.glob("*.json")))
                while len(list(out.glob("*.json"))) <= before:
                    if ended.wait(0.01):
                        return
                if ended.wait(chance.uniform(0, 0.2)):
                    return
                place = chance.randrange(2)
                workers[place].kill()
                workers[place].wait()
                workers[place] = subprocess.Popen(command, **quiet)
                kills += 1

        try:
            while kills < 50:
                out, ended = tmp_path / f"out{number}", threading.Event()
                killer = threading.Thread(target=kill_some, args=(out, ended))
                killer.start()
                summary = run(scenes, out, client=client, level="toa")
                ended.set()
                killer.join()
                # Dask gives up on a scene that took several workers with it; the next run does it.
                assert [one for one in summary.failures if one.stage != "worker"] == []
                again = run(scenes, out, client=client, level="toa", resume=True)
                assert again.tally.get("done", 0) == len(summary.failures)
                assert again.done + again.kept == 20
                assert contents(out) == undisturbed
                number += 1
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def test_failures_and_resources(client: Any, scenes: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*")
    summary = run([scenes[0], bad], tmp_path / "out", client=client, resources={"GPU": 1}, level="toa")
    assert [one.status for one in summary.outcomes] == ["done", "failed"]
    assert summary.failures[0].stage == "open"


def test_the_command_line_takes_an_address(cluster: Any, scenes: list[Path], tmp_path: Path) -> None:
    done = run_here(
        "mask", *scenes[:2], "-o", tmp_path, "--level", "toa", "--dask", cluster.scheduler_address, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in records(done)[:-1]] == ["done", "done"]


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_removal_and_composites_on_the_cluster(client: Any, tmp_path: Path) -> None:
    ground = make_ground(tmp_path / "in", (96, 128))
    here: dict[str, Any] = {"history": ground.paths, "model": "none", **READING}
    assert batch.remove(ground.paths, tmp_path / "out", client=client, **here).tally == {"done": 3}
    assert batch.remove(ground.paths, tmp_path / "out", resume=True, **here).tally == {"kept": 3}
    made = batch.composite(ground.paths, tmp_path / "composite", client=client, **READING)
    assert made.tally == {"done": 1}
    alone = batch.composite(ground.paths, tmp_path / "alone", **READING)
    assert made.outcomes[0].figures["filled_percent"] == alone.outcomes[0].figures["filled_percent"] > 0


def test_waiting_for_workers_is_told(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unclouded.batch_workers._NO_WORKERS_S", 0.1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        distributed.Client(empty, set_as_default=False) as waiting,
    ):

        def join(deadline: float = 30.0) -> None:
            while "no workers" not in caplog.text and (deadline := deadline - 0.05) > 0:
                time.sleep(0.05)
            empty.scale(1)

        joining = threading.Thread(target=join)
        joining.start()
        assert run(scenes[:1], tmp_path, client=waiting, level="toa").tally == {"done": 1}
        joining.join()
    assert "The Dask cluster has no workers" in caplog.text


def test_no_scheduler_there(scenes: list[Path], tmp_path: Path) -> None:
    quick = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with quick, pytest.raises(InputError, match="no Dask scheduler"):
        run(scenes, tmp_path / "out", client="tcp://127.0.0.1:9", level="toa")
    assert not (tmp_path / "out").exists()


def test_a_lazy_mask_on_the_cluster(client: Any) -> None:
    array = image(200, 230)
    settings: dict[str, Any] = {"level": "toa", "tile": 128, "halo": 32}
    lazy = unclouded.mask(array.chunk({"y": 90, "x": 90}), **settings, probability=True)
    found = client.compute(lazy).result()
    same(found, unclouded.mask(array, threads=1, **settings))
    assert np.isfinite(found.uncertainty.values).any()
