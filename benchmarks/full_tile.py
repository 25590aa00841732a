"""Memory and time of masking a whole Sentinel-2 tile: 13 bands, 10980 x 10980 pixels, JPEG 2000.

    python benchmarks/full_tile.py --work FOLDER [--size 10980] [--tile 1024] [--threads 0] [--keep]

Makes a simulated L1C product in FOLDER (some 600 MB; removed at the end unless --keep is given, and used again if it is
there), masks it in a process of its own, and prints

* peak memory of that process, wall time, and processor seconds per megapixel of the output,
* the same for decoding alone: the same bands, rows and resolution levels as reflectance, and nothing else,
* a third run without reading ahead, which tells reading, network and all the rest (blending, calibration,
  resampling, compression) apart.

The product repeats a simulated pattern of clouds over fields, mirrored so that it has no seams, with slow changes of
brightness and with noise of the size of the instrument's, which JPEG 2000 has to carry.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded import Options

PATTERN = 1830
"""Side of the simulated pattern in pixels of 10 m."""

NOISE_COUNTS = 8.0
"""Standard deviation of the noise in counts."""

PEAK_MIB = 1536
"""The most memory that masking a tile may take."""

TIMES_DECODING = 2.0
"""The longest that masking a tile may take, in times of decoding its bands."""


def main() -> int:
    """Make, mask, decode, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the product and the result")
    parser.add_argument("--size", type=int, default=10980, help="side in pixels of 10 m, a multiple of 6")
    parser.add_argument("--tile", type=int, default=Options().tile)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave product and result where they are")
    parser.add_argument("--child", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(STEPS[arguments.child], arguments)))
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    if product(arguments.work, arguments.size) is None:
        print(f"making the product: {child('make', arguments)['wall_s']:.0f} s", flush=True)
    found = product(arguments.work, arguments.size)
    assert found is not None
    stored = sum(path.stat().st_size for path in found.rglob("*.jp2")) / 1e6
    megapixels = arguments.size**2 / 1e6
    print(f"{found.name}: {arguments.size} x {arguments.size}, {stored:.0f} MB of JPEG 2000")
    print(f"{'':8} {'peak MiB':>9} {'wall s':>8} {'CPU s':>8} {'CPU s/MP':>9}")
    runs = {}
    for name in ("mask", "decode", "parts"):
        runs[name] = run = child(name, arguments)
        each = run["cpu_s"] / megapixels
        print(f"{name:8} {run['peak_mib']:9.0f} {run['wall_s']:8.1f} {run['cpu_s']:8.1f} {each:9.3f}", flush=True)
    for part, seconds in runs["parts"]["told"].items():
        print(f"  {part}: {seconds / megapixels:.3f} CPU s/MP")
    print(f"result: {runs['mask']['told']}")
    if not arguments.keep:
        shutil.rmtree(arguments.work)
    small = runs["mask"]["peak_mib"] <= PEAK_MIB
    print(f"peak memory is {'within' if small else 'ABOVE'} {PEAK_MIB} MiB")
    wall, cpu = (runs["mask"][key] / runs["decode"][key] for key in ("wall_s", "cpu_s"))
    print(f"masking takes {wall:.2f} times the wall time and {cpu:.2f} times the CPU time of decoding", end="")
    print(f" (bar {TIMES_DECODING:g})")
    return 0 if small and wall <= TIMES_DECODING else 1


def child(step: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one step in a process of its own, so that its memory and time are its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", step, "--work", str(arguments.work)]
    command += ["--size", str(arguments.size), "--tile", str(arguments.tile), "--threads", str(arguments.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(step: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """What a step tells, with the peak memory and the time of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    told = step(arguments)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "told": told,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": kib / 1024,
    }


def product(work: Path, size: int) -> Path | None:
    """The product of an earlier run, None if there is none."""
    return next((work / str(size)).glob("*.SAFE"), None)


def make(arguments: argparse.Namespace) -> None:
    """Write the product."""
    from unclouded.resample import block_mean
    from unclouded.sensors import bands_of
    from unclouded.simulate.clouds import simulate_clouds
    from unclouded.simulate.safe import write_safe
    from unclouded.simulate.surface import procedural_surface

    bands = bands_of("sentinel2-l1c")
    ground = procedural_surface(bands, (PATTERN, PATTERN), 10.0, 7, landscape="farmland")
    cloudy = simulate_clouds(ground, bands, resolution_m=10.0, seed=8, cover=0.35).image
    del ground
    patterns = {}
    for band, plane in zip(bands, cloudy, strict=True):
        coarse = block_mean(plane, round(band.gsd_m / 10))
        whole = np.concatenate([coarse, coarse[::-1]])
        patterns[band.name] = np.concatenate([whole, whole[:, ::-1]], axis=1)

    def rows_of(name: str, size: int, seed: int) -> Callable[[int, int], NDArray[np.uint16]]:
        pattern = patterns[name]
        across = 1.0 + 0.1 * np.sin(np.linspace(0, 5, size, dtype=np.float32))

        def rows(first: int, last: int) -> NDArray[np.uint16]:
            rng = np.random.default_rng([seed, first])
            index = np.arange(first, last)
            values = pattern[index % pattern.shape[0]][:, np.arange(size) % pattern.shape[1]]
            values *= across * (1.0 + 0.1 * np.cos(4.0 * index / size)[:, None]).astype(np.float32)
            values *= np.float32(10000.0)
            values += rng.normal(1000.5, NOISE_COUNTS, values.shape).astype(np.float32)
            return np.clip(values, 1, 65534).astype(np.uint16)

        return rows

    counts = {
        band.name: rows_of(band.name, round(arguments.size * 10 / band.gsd_m), seed) for seed, band in enumerate(bands)
    }
    write_safe(
        _made(arguments.work / str(arguments.size)),
        counts,
        crs="EPSG:32633",
        ulx=399960,
        uly=5800020,
        datetime="2024-06-01T10:10:00Z",
        size_m=arguments.size * 10,
    )


def mask(arguments: argparse.Namespace) -> str:
    """Mask the product to files, as a user does."""
    import unclouded

    result = unclouded.mask(
        _product(arguments),
        output=arguments.work / "out",
        tile=arguments.tile,
        threads=arguments.threads,
        overwrite=True,
    )
    return repr(result)


def decode(arguments: argparse.Namespace) -> None:
    """Read what the network would be given, strip by strip, and nothing else."""
    import unclouded
    from unclouded.infer.plan import make_plan
    from unclouded.infer.predict import READ_ROWS
    from unclouded.infer.runner import load_runner

    plan = make_plan(unclouded.open_scene(_product(arguments)), load_runner("default").card)
    names = [band.name for band in plan.bands]
    for first in range(0, plan.model_grid.shape.y, READ_ROWS):
        end = min(first + READ_ROWS, plan.model_grid.shape.y)
        plan.scene.read(plan.model_grid[first:end, :], names)


def parts(arguments: argparse.Namespace) -> dict[str, float]:
    """Mask without reading ahead, and tell where the processor's time goes."""
    import unclouded
    from unclouded.infer.plan import make_plan
    from unclouded.infer.predict import model_rows
    from unclouded.infer.runner import load_runner
    from unclouded.result import PercentStrip, Run, finish_plan
    from unclouded.saturation import Tally
    from unclouded.scene import Scene

    spent = {"reading": 0.0, "network": 0.0}

    class TimedScene(Scene):
        def read(self, *given: Any, **named: Any) -> NDArray[np.float32]:
            begin = time.process_time()
            try:
                return super().read(*given, **named)
            finally:
                spent["reading"] += time.process_time() - begin

    class TimedRunner:
        def __init__(self) -> None:
            self._inner = load_runner("default", arguments.threads)
            self.card, self.sha256 = self._inner.card, self._inner.sha256
            self.keeping = self._inner.keeping

        def run(self, image: NDArray[np.float32], descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
            begin = time.process_time()
            try:
                return self._inner.run(image, descriptors)
            finally:
                spent["network"] += time.process_time() - begin

    opened = unclouded.open_scene(_product(arguments))
    scene = TimedScene(**{field.name: getattr(opened, field.name) for field in fields(Scene)})
    runner = TimedRunner()
    options = unclouded.Options(tile=arguments.tile, threads=arguments.threads)
    plan = make_plan(scene, runner.card)
    begin = time.process_time()
    rows = model_rows(plan, runner, tile=options.tile, halo=options.halo, prefetch=False)
    strips = list(map(PercentStrip.of, finish_plan(plan, rows, False)))
    total = time.process_time() - begin
    begin = time.process_time()
    card_path = Path(unclouded.__file__).parent / "weights" / "default.json"
    Run(plan, options, runner.sha256, card_path, Tally(scene.radiometry)).write(arguments.work / "parts", iter(strips))
    return {**spent, "other": total - sum(spent.values()), "writing": time.process_time() - begin}


def _product(arguments: argparse.Namespace) -> Path:
    found = product(arguments.work, arguments.size)
    assert found is not None
    return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


STEPS: dict[str, Callable[[argparse.Namespace], Any]] = {"make": make, "mask": mask, "decode": decode, "parts": parts}

if __name__ == "__main__":
    sys.exit(main())
