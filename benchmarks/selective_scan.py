"""Speed and memory of the selective scan, every method beside the loop over the steps, in one run.

    python benchmarks/selective_scan.py [--steps 16384] [--channels 64] [--state 16] [--repeat 5] [--no-loop]

Prints seconds of one forward and backward pass (wall clock, best of the repeats; processor time beside it, which a
busy machine disturbs less), with one thread and with all, and how many times faster than the loop that is. The second
table shows how time and peak memory of the chunked form grow with the length, each length in its own process. The
third has SS2D's time per pixel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unclouded.nn.selective_scan import Method, selective_scan
from unclouded.nn.ss2d import SS2D

LENGTHS = (65536, 131072, 262144)
"""Long enough for the scan's memory to exceed what importing torch takes for a moment."""

SIDES = (64, 128, 256)


def main() -> None:
    """Parse the command line and print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-loop", action="store_true", help="leave the loop over the steps out")
    parser.add_argument("--peak", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak, options.channels, options.state)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    methods(options)
    growth(options)
    pixels(options.repeat)


def draw(steps: int, channels: int, state: int) -> list[Tensor]:
    """u, dt, A, B, C of one sequence, all asking for gradients."""
    torch.manual_seed(0)
    rate = -torch.rand(channels, state) * 15 - 1
    u, dt, B, C = (torch.randn(1, rows, steps) for rows in (channels, channels, state, state))
    return [value.requires_grad_() for value in (u, dt - 2, rate, B, C)]


def both_ways(values: list[Tensor], method: Method) -> Callable[[], None]:
    """A forward and backward pass as a call."""

    def run() -> None:
        torch.autograd.grad(selective_scan(*values, method=method).sum(), values)

    return run


def clock(run: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Least wall-clock and least processor seconds of a call, after one that does not count."""
    run()
    walls, processors = [], []
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


def methods(options: argparse.Namespace) -> None:
    """The chunked form against the loop."""
    print(f"\n{options.steps} steps, {options.channels} channels, state {options.state}: forward and backward")
    values = draw(options.steps, options.channels, options.state)
    most = torch.get_num_threads()
    found = {}
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        found[threads] = clock(both_ways(values, "chunked"), options.repeat)
        print("  chunked, {} threads  {:8.3f} s   processor {:8.3f} s".format(threads, *found[threads]))
    torch.set_num_threads(most)
    if not options.no_loop:
        loop = clock(both_ways(values, "steps"), max(1, options.repeat // 3))
        print("  loop                {:8.3f} s   processor {:8.3f} s".format(*loop))
        for threads, (wall, processor) in found.items():
            print(f"  ratio,   {threads} threads  {loop[0] / wall:8.1f}     processor {loop[1] / processor:8.1f}")


def growth(options: argparse.Namespace) -> None:
    """Time and peak memory over lengths."""
    print("\nsteps      seconds   peak MiB   of all states")
    for steps in LENGTHS:
        command = [sys.executable, __file__, "--peak", str(steps)]
        command += ["--channels", str(options.channels), "--state", str(options.state)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, mebibytes = map(float, run.stdout.split())
        states = steps * options.channels * options.state * 4 / 2**20
        print(f"{steps:8d}   {seconds:7.3f}   {mebibytes:8.1f}   {mebibytes / states:13.2f}")


def peak(steps: int, channels: int, state: int) -> None:
    """One length in this process: prints seconds and the growth of the peak memory in MiB."""
    values = draw(steps, channels, state)
    both_ways([value[..., :64] if value.ndim == 3 else value for value in values], "chunked")()
    before = high_water()
    start = time.perf_counter()
    both_ways(values, "chunked")()
    seconds = time.perf_counter() - start
    print(seconds, (high_water() - before) / 1024)


def high_water() -> int:
    """Peak resident memory of this process in KiB (Linux); unlike ru_maxrss it does not begin at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def pixels(repeat: int) -> None:
    """SS2D over square images, forward."""
    print("\nSS2D, 16 features, forward\nside   nanoseconds per pixel   processor")
    block = SS2D(16).eval()
    for side in SIDES:
        images = (SIDES[-1] // side) ** 2
        given = torch.randn(images, 16, side, side)
        with torch.inference_mode():
            wall, processor = clock(lambda given=given: block(given), repeat)
        count = images * side * side
        print(f"{side:4d}   {1e9 * wall / count:21.0f}   {1e9 * processor / count:9.0f}")


if __name__ == "__main__":
    main()
