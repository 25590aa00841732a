"""Speed of the simulator: clouds over a given surface, the surface itself, and the small crops that training draws.

    python benchmarks/simulator.py [--size 1024] [--rounds 7]

Thirteen bands of Sentinel-2 at 10 m; each call draws its layers, fields, penumbra, blur, light of the neighbours, all
bands, classes and light. Every round goes through all lines, so that neighbours on a shared machine disturb them alike;
CPU seconds are less disturbed than wall time. For comparison, the published simulator satellite-cloud-generator took
2.6 to 3 CPU seconds per megapixel without blur and 50 with it, on two cores of such a machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from unclouded.sensors import bands_of
from unclouded.simulate.clouds import simulate_clouds
from unclouded.simulate.surface import procedural_surface

CROP = 128
CROPS = 40


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    side, bands = arguments.size, bands_of("sentinel2-l1c")
    ground = procedural_surface(bands, (side, side), 10.0, 1)
    crop = procedural_surface(bands, (CROP, CROP), 20.0, 1)

    def clouds(seed: int, threads: int) -> None:
        simulate_clouds(ground, bands, resolution_m=10.0, seed=seed, threads=threads)

    def crops(seed: int) -> None:
        for number in range(CROPS):
            simulate_clouds(crop, bands, resolution_m=20.0, seed=CROPS * seed + number)

    def grounds(seed: int) -> None:
        for number in range(CROPS):
            procedural_surface(bands, (CROP, CROP), 20.0, CROPS * seed + number)

    whole, small = side**2 / 1e6, CROPS * CROP**2 / 1e6
    lines: dict[str, tuple[float, Callable[[int], None]]] = {
        f"clouds, {side} px, one thread": (whole, lambda seed: clouds(seed, 1)),
        f"clouds, {side} px, two threads": (whole, lambda seed: clouds(seed, 2)),
        f"surface, {side} px": (whole, lambda seed: _surface(bands, side, seed)),
        f"clouds, {CROPS} crops of {CROP} px": (small, crops),
        f"surface, {CROPS} crops of {CROP} px": (small, grounds),
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for turn in range(arguments.rounds):
        for name, (_, call) in lines.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call(turn)
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(f"{len(bands)} bands, {arguments.rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':32} {'MP/s median':>12} {'MP/s best':>10} {'CPU-s/MP median':>16} {'best':>6}")
    for name, (megapixels, _) in lines.items():
        walls, cpus = zip(*seen[name], strict=True)
        median, best = statistics.median(walls), min(walls)
        cost = [one / megapixels for one in cpus]
        print(
            f"{name:32} {megapixels / median:12.2f} {megapixels / best:10.2f}"
            f" {statistics.median(cost):16.3f} {min(cost):6.3f}"
        )


def _surface(bands: tuple, side: int, seed: int) -> None:
    procedural_surface(bands, (side, side), 10.0, seed)


if __name__ == "__main__":
    main()
