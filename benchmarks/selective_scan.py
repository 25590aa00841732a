"""The selective scan's three bars, each measured in one run: speed beside a loop, memory over length, SS2D per pixel.

    python benchmarks/selective_scan.py [--steps 16384] [--channels 64] [--state 16] [--rounds 5] [--only 1 2 3]

Whatever is compared runs in turns, round after round, so that a machine that is busy otherwise slows both sides alike.
Printed are medians over the rounds, wall-clock and processor seconds (of all threads), and the least processor seconds
of a round: other programs take caches away and only ever add to it, so the bars are judged by it. Each length of the
second table runs in its own process, as peak memory only grows.

    1. seconds of a forward and backward pass, the loop over the steps and the chunked form     bar: 20 times faster
    2. seconds and peak memory of the chunked form over lengths                                 bar: linear memory
    3. SS2D over square images of the same number of pixels in all                              bar: 15 % per pixel
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unclouded.nn.selective_scan import Method, selective_scan
from unclouded.nn.ss2d import SS2D

LENGTHS = (65536, 131072, 262144, 524288)
"""Long enough for the scan's memory to exceed what importing torch takes for a moment."""

SIDES = (64, 128, 256)

SPEED_BAR = 20.0
DOUBLING_BAR = 2.1
PIXEL_BAR = 0.15


class Seconds(NamedTuple):
    """Median wall-clock, median processor and least processor seconds of a call."""

    wall: float
    processor: float
    least: float


def main() -> None:
    """Parse the command line and print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-loop", action="store_true", help="leave the loop over the steps out")
    parser.add_argument("--only", type=int, nargs="+", choices=(1, 2, 3), help="tables to make; all by default")
    parser.add_argument("--peak", type=int, metavar="STEPS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.peak, options.channels, options.state)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds in turns, medians")
    parts = {1: speed, 2: growth, 3: pixels}
    for number in options.only or parts:
        parts[number](options)


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """Times over rounds in which every call has its turn, after one round that does not count."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            if turn:
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    out = {}
    for name, rows in taken.items():
        walls, processors = zip(*rows, strict=True)
        out[name] = Seconds(statistics.median(walls), statistics.median(processors), min(processors))
    return out


def draw(steps: int, channels: int, state: int) -> list[Tensor]:
    """u, dt, A, B, C of one sequence, all asking for gradients."""
    torch.manual_seed(0)
    rate = -torch.rand(channels, state) * 15 - 1
    u, dt, B, C = (torch.randn(1, rows, steps) for rows in (channels, channels, state, state))
    return [value.requires_grad_() for value in (u, dt - 2, rate, B, C)]


def both_ways(values: list[Tensor], method: Method, threads: int | None = None) -> Callable[[], None]:
    """A forward and backward pass as a call; None for as many threads as torch has by itself."""
    threads = threads or torch.get_num_threads()

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            torch.autograd.grad(selective_scan(*values, method=method).sum(), values)
        finally:
            torch.set_num_threads(before)

    return run


def speed(options: argparse.Namespace) -> None:
    """The chunked form, with one thread and with all, against the loop, whose operations are too small to divide."""
    print(f"\n1. {options.steps} steps, {options.channels} channels, state {options.state}: forward and backward")
    values = draw(options.steps, options.channels, options.state)
    counts = sorted({1, torch.get_num_threads()})
    calls = {f"chunked {threads}": both_ways(values, "chunked", threads) for threads in counts}
    if not options.no_loop:
        calls["steps 1"] = both_ways(values, "steps", 1)
    taken = in_turns(calls, options.rounds)
    print("   form     threads   wall s   processor s   least")
    for name, seconds in taken.items():
        form, threads = name.split()
        print(f"   {form:8s} {threads:>7s} {seconds.wall:8.3f} {seconds.processor:13.3f} {seconds.least:7.3f}")
    for threads in () if options.no_loop else counts:
        ratios = [slow / fast for slow, fast in zip(taken["steps 1"], taken[f"chunked {threads}"], strict=True)]
        print(
            f"   {threads} threads: {ratios[0]:.1f} times faster on the clock, {ratios[1]:.1f} times in processor time,"
            f" {ratios[2]:.1f} times in the least ({verdict(ratios[2] >= SPEED_BAR)}: {SPEED_BAR:.0f} times)"
        )


def growth(options: argparse.Namespace) -> None:
    """Time and peak memory over lengths."""
    print("\n2. chunked, forward and backward")
    print("      steps   wall s   processor s   peak MiB   bytes per step   of all states")
    peaks = []
    for steps in LENGTHS:
        command = [sys.executable, __file__, "--peak", str(steps)]
        command += ["--channels", str(options.channels), "--state", str(options.state)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        wall, processor, kibibytes = map(float, run.stdout.split())
        states = steps * options.channels * options.state * 4
        peaks.append(1024 * kibibytes)
        print(
            f"   {steps:8d} {wall:8.3f} {processor:13.3f} {kibibytes / 1024:10.1f} {peaks[-1] / steps:16.0f}"
            f" {peaks[-1] / states:15.2f}"
        )
    doubling = max(later / earlier for earlier, later in itertools.pairwise(peaks))
    holds = verdict(doubling <= DOUBLING_BAR)
    print(f"   twice the steps take at most {doubling:.2f} times the memory ({holds}: linear)")


def peak(steps: int, channels: int, state: int) -> None:
    """One length in this process: prints seconds, processor seconds and the growth of the peak memory in KiB."""
    values = draw(steps, channels, state)
    both_ways([value[..., :64] if value.ndim == 3 else value for value in values], "chunked")()
    before = high_water()
    wall, processor = time.perf_counter(), time.process_time()
    both_ways(values, "chunked")()
    print(time.perf_counter() - wall, time.process_time() - processor, high_water() - before)


def high_water() -> int:
    """Peak resident memory of this process in KiB (Linux); unlike ru_maxrss it does not begin at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def pixels(options: argparse.Namespace) -> None:
    """SS2D over square images, forward alone and forward with backward.

    One thread: threads that wait for each other on a busy machine would be most of what is measured.
    """
    torch.set_num_threads(1)
    block = SS2D(16)
    images = {side: torch.randn((SIDES[-1] // side) ** 2, 16, side, side) for side in SIDES}

    def forward(x: Tensor) -> None:
        with torch.inference_mode():
            block(x)

    def both(x: Tensor) -> None:
        block(x).sum().backward()

    for title, run in (("forward", forward), ("forward and backward", both)):
        calls = {str(side): functools.partial(run, x) for side, x in images.items()}
        taken = in_turns(calls, options.rounds)
        print(f"\n3. SS2D, 16 features, {title}, one thread\n   side   wall ns per pixel   processor   least")
        each = {side: [1e9 * value / SIDES[-1] ** 2 for value in taken[str(side)]] for side in SIDES}
        for side, (wall, processor, least) in each.items():
            print(f"   {side:4d} {wall:19.0f} {processor:11.0f} {least:7.0f}")
        costs = [least for _, _, least in each.values()]
        spread = max(costs) / min(costs) - 1
        print(f"   spread {100 * spread:.0f} % of the least ({verdict(spread <= PIXEL_BAR)}: {100 * PIXEL_BAR:.0f} %)")


def verdict(holds: bool) -> str:
    """Whether a bar is reached."""
    return "reaches the bar" if holds else "MISSES the bar"


if __name__ == "__main__":
    main()
