"""Layers of cloud: what kinds there are, and the random fields of optical thickness that they fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .noise import power_law_field

Kind = Literal["cumulus", "fractus", "stratus", "altocumulus", "cirrus", "haze"]

_SHARES: dict[Kind, float] = {
    "cumulus": 0.33,
    "fractus": 0.07,
    "stratus": 0.20,
    "altocumulus": 0.13,
    "cirrus": 0.20,
    "haze": 0.07,
}


@dataclass(frozen=True)
class Layer:
    """One layer of cloud.

    Attributes:
        kind: shape of the cloud field: single heaps, fragments, a sheet, small cells, fibres, or a smooth veil.
        cover: share of the area under the layer, 0..1.
        height_m: height of the layer above the ground in metres.
        tau: optical thickness at 550 nm that the thicker parts reach.
        ice: 0 for droplets, 1 for ice.
        coarse: size of the ice particles, 0 for cirrus, 1 for the tops of deep convection, which are as dark in the
            short-wave infrared as snow.
    """

    kind: Kind
    cover: float
    height_m: float
    tau: float
    ice: float
    coarse: float = 0.0


def random_layers(rng: np.random.Generator, cover: float | None = None) -> tuple[Layer, ...]:
    """One or two layers with plausible heights and thicknesses.

    Args:
        rng: source of randomness.
        cover: share of the area under the first layer; None draws it.
    """
    kinds = list(_SHARES)
    layers = []
    for number in range(1 + int(rng.random() < 0.3)):
        kind = kinds[rng.choice(len(kinds), p=list(_SHARES.values()))]
        share = float(rng.beta(0.9, 1.1)) if cover is None or number else float(cover)
        if kind in ("cumulus", "stratus") and rng.random() < 0.4:  # deep cloud with an icy top
            ice, coarse = rng.uniform(0.4, 1.0), rng.uniform(0.0, 1.0)
            layer = Layer(kind, share, rng.uniform(3000, 12000), _tau(rng, 10, 100), ice, coarse)
        elif kind == "cumulus":
            layer = Layer(kind, min(share, 0.8), rng.uniform(500, 2500), _tau(rng, 5, 60), 0.0)
        elif kind == "fractus":
            layer = Layer(kind, min(share, 0.5), rng.uniform(300, 2000), _tau(rng, 2, 20), 0.0)
        elif kind == "stratus":
            layer = Layer(kind, share, rng.uniform(300, 2500), _tau(rng, 4, 50), 0.0)
        elif kind == "altocumulus":
            layer = Layer(kind, share, rng.uniform(2500, 6000), _tau(rng, 2, 25), float(rng.random() < 0.5))
        elif kind == "cirrus":
            layer = Layer(kind, share, rng.uniform(6000, 12000), _tau(rng, 0.5, 7.5), 1.0)
        else:
            layer = Layer(kind, share, rng.uniform(300, 2000), _tau(rng, 0.5, 2.7), 0.0)
        layers.append(layer)
    return tuple(layers)


def _tau(rng: np.random.Generator, low: float, high: float) -> float:
    """Optical thickness between two bounds; as many thin clouds as thick ones on a scale of ratios."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def thickness_field(
    layer: Layer, shape: tuple[int, int], resolution_m: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Optical thickness of one layer, (y, x) float32, zero outside its clouds. It wraps around at its edges."""
    if layer.cover <= 0:
        return np.zeros(shape, np.float32)
    angle = rng.uniform(0, np.pi)
    if layer.kind == "cumulus":
        size = rng.uniform(600, 6000) / resolution_m
        field = power_law_field(shape, rng, exponent=rng.uniform(2.7, 3.5), largest_px=size)
        steep = rng.uniform(0.7, 1.6)
    elif layer.kind == "fractus":
        size = rng.uniform(150, 600) / resolution_m
        field = power_law_field(shape, rng, exponent=rng.uniform(2.6, 3.0), largest_px=max(size, 4.0))
        field += power_law_field(shape, rng, exponent=3.5)  # fragments come in fields
        steep = rng.uniform(0.5, 1.2)
    elif layer.kind == "stratus":
        field = power_law_field(shape, rng, exponent=rng.uniform(2.9, 3.7))
        steep = rng.uniform(0.5, 1.5)
    elif layer.kind == "altocumulus":
        field = power_law_field(shape, rng, exponent=3.2, largest_px=rng.uniform(300, 900) / resolution_m)
        field *= np.float32(0.55)
        field += power_law_field(shape, rng, exponent=3.4)
        steep = rng.uniform(0.5, 1.2)
    elif layer.kind == "cirrus":
        stretch = rng.uniform(2.0, 8.0)
        field = power_law_field(shape, rng, exponent=rng.uniform(2.6, 3.4), stretch=stretch, angle_rad=angle)
        steep = rng.uniform(0.3, 0.8)
    else:
        field = power_law_field(shape, rng, exponent=rng.uniform(3.4, 4.2))
        steep = rng.uniform(0.2, 0.6)
    some = field[:: max(1, shape[0] // 64), :: max(1, shape[1] // 64)]
    field -= np.float32(np.quantile(some, 1 - layer.cover))
    np.maximum(field, 0.0, out=field)
    # Water path grows towards the middle of a cloud and saturates there: cumulus quickly, haze slowly.
    thickness = np.exp(field * np.float32(-steep))
    np.subtract(1.0, thickness, out=thickness)
    np.minimum(field, 2.0, out=field)
    field *= np.float32(0.3)
    field += 1.0
    thickness *= field
    thickness *= np.float32(layer.tau)
    return thickness
