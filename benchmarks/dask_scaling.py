"""How much faster two Dask workers mask a batch than one: same scenes, same run, one thread for each worker.

    python benchmarks/dask_scaling.py --scenes 8 --side 2048 --rounds 5

Rounds with one worker and with two take turns, so that other load on the machine hits both alike. Two workers can only
be faster by the clock where two cores are free. Beside the wall time stands the processor time of the busiest worker:
where every worker has a core of its own that is the wall time, less what client and scheduler add.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from distributed import Client, LocalCluster

from unclouded.batch import run


def write_scene(path: Path, side: int, seed: int) -> None:
    """A plain raster of four bands at 20 m."""
    rng = np.random.default_rng(seed)
    profile: dict[str, Any] = {"driver": "GTiff", "count": 4, "height": side, "width": side, "tiled": True}
    place = {"crs": "EPSG:32633", "transform": Affine(20, 0, 4e5, 0, -20, 5.8e6)}
    with rasterio.open(path, "w", dtype="uint16", **profile, **place) as file:
        file.write(rng.integers(300, 9000, (4, side, side), np.uint16))
        file.descriptions = ("blue", "green", "red", "nir")


def processor_seconds() -> float:
    """Processor time of this process so far."""
    times = os.times()
    return times.user + times.system


def measure(client: Client, scenes: list[Path], out: Path) -> tuple[float, float]:
    """Wall time of a batch, and the processor time of its busiest worker, in seconds."""
    before = client.run(processor_seconds)
    begin = time.perf_counter()
    summary = run(scenes, out, client=client, level="toa", scale=1e-4, offset=0.0, overwrite=True)
    wall = time.perf_counter() - begin
    if summary.failures:
        raise SystemExit(f"{summary.failures[0].source}: {summary.failures[0].error}")
    return wall, max(seconds - before[worker] for worker, seconds in client.run(processor_seconds).items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--side", type=int, default=2048, help="pixels of 20 m along a side")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = [folder / f"scene{number}.tif" for number in range(args.scenes)]
        for number, path in enumerate(scenes):
            write_scene(path, args.side, number)
        clusters = {
            workers: LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            for workers in (1, 2)
        }
        clients = {workers: Client(cluster, set_as_default=False) for workers, cluster in clusters.items()}
        found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for workers, client in clients.items():
            measure(client, scenes[: 2 * workers], folder / f"warm{workers}")  # loads the model in every process
        for number in range(args.rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                wall, busy = measure(clients[workers], scenes, folder / f"out{workers}")
                found[workers].append((wall, busy))
                print(f"round {number + 1}, {workers} worker(s): {wall:.1f} s, busiest {busy:.1f} s", flush=True)
        for client in clients.values():
            client.close()
        for cluster in clusters.values():
            cluster.close()
    walls = {workers: min(wall for wall, _ in rows) for workers, rows in found.items()}
    busiest = {workers: statistics.median(seconds for _, seconds in rows) for workers, rows in found.items()}
    pairs = [one[0] / two[0] for one, two in zip(found[1], found[2], strict=True)]
    print(f"best wall times: {walls[1]:.1f} s and {walls[2]:.1f} s, {walls[1] / walls[2]:.2f} times as fast")
    print(f"wall times round by round: {', '.join(f'{ratio:.2f}' for ratio in pairs)} times as fast")
    print(
        f"processor time of the busiest worker: {busiest[1]:.1f} s and {busiest[2]:.1f} s,"
        f" {busiest[1] / busiest[2]:.2f} times"
    )
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
