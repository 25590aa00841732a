"""Memory and time of removing the clouds of a whole Sentinel-2 tile: 13 bands, 10980 x 10980 pixels, JPEG 2000.

    python benchmarks/full_tile_removal.py --work FOLDER [--size 10980] [--threads 0] [--history] [--keep]

Makes the simulated L1C product of full_tile.py in FOLDER, or uses the one that is there, masks it, and removes its
clouds with that mask, each in a process of its own. With --history what another date shows clear is taken from there:
the same product under a mask that is shifted by half a cloud field, read and matched like any other. Prints peak
memory, wall time, and processor seconds per megapixel of each, and the throughput of removal against masking.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import full_tile
import numpy as np

PEAK_MIB = 4096
"""The most memory that removal on a tile may take."""

SHIFT = 915
"""Pixels by which the mask of the other date is shifted: a quarter of the simulated pattern."""


def main() -> int:
    """Make, mask, remove, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the product and the results")
    parser.add_argument("--size", type=int, default=10980, help="side in pixels of 10 m, a multiple of 6")
    parser.add_argument("--tile", type=int, default=1024, help="of masking")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--history", action="store_true", help="also with another date")
    parser.add_argument("--keep", action="store_true", help="leave product and results where they are")
    parser.add_argument("--child", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(full_tile.measured(STEPS[arguments.child], arguments)))
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    if full_tile.product(arguments.work, arguments.size) is None:
        print(f"making the product: {child('make', arguments)['wall_s']:.0f} s", flush=True)
    megapixels = arguments.size**2 / 1e6
    print(f"{'':20} {'peak MiB':>9} {'wall s':>8} {'CPU s':>8} {'CPU s/MP':>9} {'MP/s':>7}")
    runs = {}
    for name in ("mask", "remove", *(["remove with a date"] if arguments.history else [])):
        runs[name] = run = child(name, arguments)
        print(
            f"{name:20} {run['peak_mib']:9.0f} {run['wall_s']:8.1f} {run['cpu_s']:8.1f}"
            f" {run['cpu_s'] / megapixels:9.3f} {megapixels / run['wall_s']:7.2f}   {run['told']}",
            flush=True,
        )
    for name, run in runs.items():
        if name != "mask":
            print(f"{name}: {run['cpu_s'] / runs['mask']['cpu_s']:.1f} times the processor time of masking")
    if not arguments.keep:
        shutil.rmtree(arguments.work)
    peak = max(run["peak_mib"] for run in runs.values())
    print(f"peak memory is {'within' if peak <= PEAK_MIB else 'ABOVE'} {PEAK_MIB} MiB")
    return 0 if peak <= PEAK_MIB else 1


def child(step: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one step in a process of its own, so that its memory and time are its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", step, "--work", str(arguments.work)]
    command += ["--size", str(arguments.size), "--tile", str(arguments.tile), "--threads", str(arguments.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def remove(arguments: argparse.Namespace, history: bool = False) -> str:
    """Remove the clouds of the product to files, as a user does who has masked it before."""
    import rasterio

    import unclouded

    found = full_tile.product(arguments.work, arguments.size)
    assert found is not None
    mask = next((arguments.work / "out").glob("*_mask.tif"))
    others: dict[str, Any] = {}
    if history:
        shifted = mask.with_name("shifted.tif")
        with rasterio.open(mask) as file, rasterio.open(shifted, "w", **file.profile) as out:
            out.write(np.roll(file.read(1), SHIFT, axis=1), 1)
        others = {"history": [found], "history_masks": [shifted]}
    result = unclouded.remove(
        found, mask=mask, output=arguments.work / ("dated" if history else "removed"), threads=arguments.threads,
        overwrite=True, **others,
    )  # fmt: skip
    return repr(result)


STEPS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "make": full_tile.make,
    "mask": full_tile.mask,
    "remove": remove,
    "remove with a date": lambda arguments: remove(arguments, history=True),
}

if __name__ == "__main__":
    sys.exit(main())
