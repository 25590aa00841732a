"""What a network costs: parameters, multiply-adds, and on this machine its speed; beside the published figures.

Convention: one multiply-add is a multiplication with its addition, two FLOPs. Counted are convolutions, matrix
products and attention, from the operations that run (torch's flop counter), and the three things here that are written
as element-wise operations although products are what they do:

    selective scan          4 s + 2 per step and channel: the exponent, the input, the state and the output of each of
                            s states, the step times the input, and the straight path (SS2D)
    kernel basis attention  4 x 9 per pixel and feature: the mixed kernels applied (MFF block)
    band sines              2 per pixel, band and feature (SEnSeI-v2)

Not counted are activations, normalisation, resizing and the exponentials themselves. fvcore, which papers use, counts
normalisation too but not fused attention; on the networks here the totals agree to about 3 %.

Networks are counted on tensors without values, so that no size is too large.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..descriptors import SLOTS
from ..nn.kernel_basis import BASIS_GROUP, MFFBlock
from ..nn.ss2d import DIRECTIONS, SS2D
from . import create, names
from .senseiv1 import V1_DESCRIPTOR
from .senseiv2 import SEnSeIv2

MASK_SIDE = 512
REMOVAL_SIDE = 128
"""Sides of the image in pixels unless others are asked for: those that the papers work at."""

SENTINEL2_BANDS = 13


@dataclass(frozen=True)
class Speed:
    """Seconds that an image takes on this machine, and what that was measured with.

    Attributes:
        latency: median wall-clock seconds of one image alone.
        processor: median processor seconds of one image alone, over all threads.
        images_per_second: of batches, from the median wall-clock time.
        batch: images in such a batch.
        threads: threads that torch used.
        machine: the device.
    """

    latency: float
    processor: float
    images_per_second: float
    batch: int
    threads: int
    machine: str


@dataclass(frozen=True)
class Published:
    """One network's figures as a source gives them; None where it gives none.

    Attributes:
        model: name in the registry.
        options: options with which the network is the one that was measured.
        printed: name in the source.
        parameters, multiply_adds: for an image of 512 x 512 pixels.
        latency_ms, images_per_second: with ``hardware``.
        source, hardware, note: where the figures are from and what has to be known about them.
    """

    model: str
    options: Mapping[str, Any]
    printed: str
    source: str
    parameters: float | None = None
    multiply_adds: float | None = None
    latency_ms: float | None = None
    images_per_second: float | None = None
    hardware: str = ""
    note: str = ""


@dataclass(frozen=True)
class Cost:
    """What one network costs for one image.

    Attributes:
        model, options: how it was created.
        bands: of the image; radar bands come on top.
        side: rows and columns of the image.
        parameters: number of weights, learned or not; buffers are not counted.
        multiply_adds: of one image.
        scan, kernels, sines: part of the multiply-adds that is a selective scan, mixed kernels, or band sines.
        published: what a source says of the same network.
        speed: measured, where that was asked for.
    """

    model: str
    options: Mapping[str, Any]
    bands: int
    side: int
    parameters: int
    multiply_adds: int
    scan: int = 0
    kernels: int = 0
    sines: int = 0
    published: Published | None = None
    speed: Speed | None = None


def complexity(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    side: int | None = None,
    time_it: bool = False,
    batch: int = 4,
    rounds: int = 5,
) -> Cost:
    """Count, and with ``time_it`` measure, what a registered network costs.

    Args:
        name: name in the registry.
        options: options of the network, such as ``bands``.
        side: rows and columns of the image; None for 512, and 128 for networks that rebuild images.
        time_it: run the network on this machine too.
        batch: images at once for the throughput.
        rounds: repetitions of which the median is taken.

    Raises:
        MissingDependencyError: a library that the network needs is not installed.
        ModelError: there is no such network, or it does not have such an option.

    >>> cost = complexity("slots-unet", side=64)
    >>> cost.bands, cost.parameters > 500_000
    (13, True)
    """
    options = dict(options or {})
    net = without_values(name, options).eval()
    side = side or default_side(net)
    parts = Counted()
    inputs = example_inputs(net, 1, side, torch.device("meta"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter, parts.watching(net):
        net(*inputs)
    speed = None
    if time_it:
        speed = measure_speed(create(name, **options).eval(), side, batch=batch, rounds=rounds)
    return Cost(
        model=name,
        options=options,
        bands=inputs[0].shape[1],
        side=side,
        parameters=sum(p.numel() for p in net.parameters()),
        multiply_adds=counter.get_total_flops() // 2 + parts.scan + parts.kernels + parts.sines,
        scan=parts.scan,
        kernels=parts.kernels,
        sines=parts.sines,
        published=_published_as(name, options) if side == MASK_SIDE else None,
        speed=speed,
    )


def without_values(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A registered network on the ``meta`` device."""
    with torch.device("meta"):
        net = create(name, **options)
    return net.to("meta")  # legacy constructors of libraries make values all the same


def all_costs(
    chosen: Sequence[str] = (), *, side: int | None = None, time_it: bool = False, batch: int = 4
) -> Iterator[Cost]:
    """Costs of networks at their default options, each followed by the same as sources measured it otherwise.

    Args:
        chosen: names in the registry; all of them where empty.
        side, time_it, batch: see :func:`complexity`.
    """
    for name in chosen or names():
        yield complexity(name, side=side, time_it=time_it, batch=batch)
        if side in (None, MASK_SIDE):
            for row in published():
                if row.model == name and not _is_default(row):
                    yield complexity(name, row.options)


@functools.cache
def published() -> tuple[Published, ...]:
    """Figures that papers and their repositories give.

    >>> next(row.parameters for row in published() if row.printed == "MSCloudCAM")
    47440000.0
    """
    text = resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in tomllib.loads(text)["row"])


def _is_default(row: Published) -> bool:
    return dict(row.options) == {"bands": SENTINEL2_BANDS}


def _published_as(name: str, options: Mapping[str, Any]) -> Published | None:
    wanted = {"bands": SENTINEL2_BANDS, **options}
    return next((row for row in published() if row.model == name and dict(row.options) == wanted), None)


def default_side(net: nn.Module) -> int:
    """Rows and columns of the image that a network is counted with."""
    return REMOVAL_SIDE if _removes(net) else MASK_SIDE


def _removes(net: nn.Module) -> bool:
    return getattr(net, "task", "mask") == "removal"


def example_inputs(net: nn.Module, n: int, side: int, device: torch.device) -> tuple[Tensor, ...]:
    """Inputs of a network's ``forward``: n images of ``side`` x ``side`` pixels and what goes with them.

    Networks for any bands get the 13 of Sentinel-2. Values are random, on the ``meta`` device there are none.
    """
    if _removes(net):
        bands, sar = int(net.bands), int(net.sar_bands)  # type: ignore[arg-type]
        image = torch.rand(n, bands, side, side, device=device)
        return (image, torch.rand(n, sar, side, side, device=device)) if sar else (image,)
    front_end = getattr(net, "front_end", "fixed")
    bands = int(first_convolution(net).in_channels) if front_end == "fixed" else SENTINEL2_BANDS
    image = torch.rand(n, bands, side, side, device=device)
    if front_end == "fixed":
        return (image,)
    if front_end == "slots":
        weights = torch.zeros(n, bands, len(SLOTS), device=device)
        weights[:, range(len(SLOTS)), range(len(SLOTS))] = 1.0
        return image, weights
    length = V1_DESCRIPTOR if front_end == "senseiv1" else net.front.used  # type: ignore[union-attr]
    return image, torch.rand(n, bands, int(length), device=device)  # type: ignore[arg-type]


def first_convolution(net: nn.Module) -> nn.Conv2d:
    """The convolution that reads the image in a network with a fixed list of bands."""
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


@dataclass
class Counted:
    """Multiply-adds of what is written as element-wise operations, see the head of this file."""

    scan: int = 0
    kernels: int = 0
    sines: int = 0

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Count whatever runs inside."""
        kinds: dict[type[nn.Module], Callable[..., None]] = {
            SS2D: self._scan,
            MFFBlock: self._kernels,
            SEnSeIv2: self._sines,
        }
        handles = [
            module.register_forward_pre_hook(kinds[type(module)]) for module in net.modules() if type(module) in kinds
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _scan(self, block: SS2D, inputs: tuple[Tensor, ...]) -> None:
        n, _, h, w = inputs[0].shape
        self.scan += DIRECTIONS * n * h * w * block.conv2d.in_channels * (4 * block.state + 2)

    def _kernels(self, block: MFFBlock, inputs: tuple[Tensor, ...]) -> None:
        n, c, h, w = inputs[0].shape
        self.kernels += n * h * w * c * BASIS_GROUP * block.basis_weight.shape[-1] ** 2

    def _sines(self, front: SEnSeIv2, inputs: tuple[Tensor, ...]) -> None:
        if not front.pairwise:
            n, b, h, w = inputs[0].shape
            self.sines += 2 * n * b * h * w * front.channels


def measure_speed(net: nn.Module, side: int, *, batch: int = 4, rounds: int = 5) -> Speed:
    """Time a network on the device that its weights are on.

    Args:
        net: in eval mode.
        side: rows and columns of the image.
        batch: images at once for the throughput.
        rounds: repetitions, after one that does not count.
    """
    device = next(net.parameters()).device
    one, many = example_inputs(net, 1, side, device), example_inputs(net, batch, side, device)
    wall, processor = _clock(net, one, rounds)
    together, _ = _clock(net, many, max(1, rounds // 2))
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Speed(wall, processor, batch / together, batch, torch.get_num_threads(), machine)


def _clock(net: nn.Module, inputs: tuple[Tensor, ...], rounds: int) -> tuple[float, float]:
    walls, processors = [], []
    cuda = inputs[0].is_cuda
    with torch.inference_mode():
        net(*inputs)
        for _ in range(rounds):
            if cuda:
                torch.cuda.synchronize()
            wall, processor = time.perf_counter(), time.process_time()
            net(*inputs)
            if cuda:
                torch.cuda.synchronize()
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:  # not Linux
        found = ""
    return f"{found or 'CPU'}, {os.cpu_count()} cores"
