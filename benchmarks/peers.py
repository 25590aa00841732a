"""Speed of the default model beside its peers: the same array, the same process, taking turns.

    python benchmarks/peers.py [--size 2048] [--rounds 5] [--sizes 1000 1024 2048 2049] [--without NAME] [--json FILE]

Each contestant gets a simulated Sentinel-2 L1C array of 13 bands at 10 m and gives back a class raster. Processor
seconds count all threads; they are what a busy machine disturbs least. Ratios are medians over rounds of the ratio
within one round. Contestants:

    unclouded           unclouded.predict on the 10 m array (its network runs on the 20 m grid)
    ukis-csmask         6-band L1C model on the 10 m array, as its documentation shows it, session included
    ukis-csmask 20 m    the same on the array averaged to 20 m
    s2cloudless         10 bands of the array, cloud mask with its defaults at 10 m

    pip install --no-deps ukis-csmask==1.0.0 s2cloudless==1.7.3
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unclouded
from unclouded import sensors
from unclouded.simulate.clouds import simulate_clouds
from unclouded.simulate.surface import procedural_surface

SENSOR = "sentinel2-l1c"
BARS = {"ukis-csmask": 0.10, "ukis-csmask 20 m": 0.25, "s2cloudless": 0.03}
"""Largest ratios of processor time, unclouded over peer, that the project sets itself."""
WITHIN = 0.25
"""How far the cost per megapixel may differ between sizes."""

Array = NDArray[np.float32]
Contestant = Callable[[Array], NDArray[Any]]


def scene(size: int) -> Array:
    """Simulated reflectance, (13, size, size) float32: a cloudy pattern, repeated."""
    bands = sensors.load(SENSOR).bands
    side = min(size, 512)
    rng = np.random.default_rng(1)
    surface = procedural_surface(bands, (side, side), 10.0, rng, level="toa")
    cloudy = simulate_clouds(surface, bands, resolution_m=10.0, seed=rng, cover=0.4).image
    repeat = -(-size // side)
    return np.ascontiguousarray(np.tile(cloudy, (1, repeat, repeat))[:, :size, :size])


def contestants() -> dict[str, Contestant]:
    """Everything that is installed."""
    names = [band.name for band in sensors.load(SENSOR).bands]
    rows = {name: row for row, name in enumerate(names)}
    six = [rows[name] for name in ("B02", "B03", "B04", "B08", "B11", "B12")]
    order = ["blue", "green", "red", "nir", "swir16", "swir22"]

    def ours(image: Array) -> NDArray[Any]:
        return unclouded.predict(image, names, sensor=SENSOR, resolution_m=10.0).classes

    found: dict[str, Contestant] = {"unclouded": ours}
    try:
        from ukis_csmask.mask import CSmask

        def ukis(image: Array) -> NDArray[Any]:
            stacked = np.ascontiguousarray(np.moveaxis(image[six], 0, -1))
            return CSmask(stacked, band_order=order, product_level="l1c", nodata_value=-9999).csm

        def ukis_coarse(image: Array) -> NDArray[Any]:
            side = image.shape[1] // 2
            return ukis(image[:, : 2 * side, : 2 * side].reshape(13, side, 2, side, 2).mean(axis=(2, 4)))

        found |= {"ukis-csmask": ukis, "ukis-csmask 20 m": ukis_coarse}
    except ImportError:
        print("ukis-csmask is not installed: left out")
    try:
        from s2cloudless import S2PixelCloudDetector

        detector = S2PixelCloudDetector(all_bands=True)

        def s2cloudless(image: Array) -> NDArray[Any]:
            return detector.get_cloud_masks(np.ascontiguousarray(np.moveaxis(image, 0, -1))[np.newaxis])

        found["s2cloudless"] = s2cloudless
    except ImportError:
        print("s2cloudless is not installed: left out")
    return found


def cost(run: Contestant, image: Array) -> tuple[float, float]:
    """Processor seconds and wall seconds per megapixel of the 10 m array."""
    megapixels = image.shape[1] * image.shape[2] / 1e6
    wall, cpu = time.perf_counter(), time.process_time()
    run(image)
    return (time.process_time() - cpu) / megapixels, (time.perf_counter() - wall) / megapixels


def order_of(turn: int, names: list[str]) -> list[str]:
    """The order of a round: everyone is first in turn."""
    start = turn % len(names)
    return names[start:] + names[:start]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 1024, 2048, 2049])
    parser.add_argument("--without", nargs="*", default=[], help="contestants to leave out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    image = scene(arguments.size)
    runs = {name: run for name, run in contestants().items() if name not in arguments.without}
    runs["unclouded"](image[:, :512, :512])  # loads the model
    table: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        for name in order_of(number, list(runs)):
            table[name].append(cost(runs[name], image))
    report: dict[str, Any] = {"size": arguments.size, "rounds": arguments.rounds, "cores": os.cpu_count()}
    print(f"{arguments.size} x {arguments.size} x 13 bands, {arguments.rounds} rounds, {os.cpu_count()} cores\n")
    print("| | CPU-s/MP median (range) | wall s/MP | ratio of CPU, unclouded over it | bar |\n|---|---|---|---|---|")
    for name, rows in table.items():
        cpu = [row[0] for row in rows]
        ratio = median(one[0] / other[0] for one, other in zip(table["unclouded"], rows, strict=True))
        wall = median(row[1] for row in rows)
        bar = f"{BARS[name]:.2f}" if name in BARS else ""
        print(f"| {name} | {median(cpu):.3f} ({min(cpu):.3f}-{max(cpu):.3f}) | {wall:.3f} | {ratio:.3f} | {bar} |")
        report[name] = {"cpu_s_per_mp": cpu, "wall_s_per_mp": wall, "ratio": ratio}
    if arguments.sizes:
        largest = scene(max(arguments.sizes))
        rounds: dict[int, list[float]] = {size: [] for size in arguments.sizes}
        for _ in range(arguments.rounds):
            for size in arguments.sizes:
                rounds[size].append(cost(runs["unclouded"], np.ascontiguousarray(largest[:, :size, :size]))[0])
        medians = {size: median(rows) for size, rows in rounds.items()}
        spread = max(medians.values()) / min(medians.values()) - 1
        print("\nunclouded by size: " + ", ".join(f"{size}: {value:.3f}" for size, value in medians.items()), end="")
        print(f" CPU-s/MP; largest over smallest {spread:+.0%} (bar {WITHIN:.0%})")
        report["sizes"] = medians
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
