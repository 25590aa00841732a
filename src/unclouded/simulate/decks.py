"""Where a layer of cloud is seen from the ground, from the sensor and from lower layers: windows of one field.

A layer at height h is seen at a point of the ground where it is above the point's line of sight, that is displaced by h
tan(view zenith) towards the sensor, and it shades the point where it is displaced by h tan(sun zenith) towards the sun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import optics
from .layers import Layer, thickness_field
from .noise import blur

_SUN_RADIUS_RAD = 0.00465
_LEAST_TAU = 0.02
"""Thinner cloud is no cloud."""

Offset = tuple[int, int]


@dataclass(frozen=True)
class Direction:
    """A straight line from the ground to the sun or to the sensor."""

    zenith_deg: float
    azimuth_deg: float
    resolution_m: float

    @property
    def mu(self) -> float:
        return float(np.cos(np.radians(self.zenith_deg)))

    def offset(self, height_m: float) -> Offset:
        """Pixels (down, right) from a point on the ground to where its line reaches a height."""
        reach = height_m * np.tan(np.radians(self.zenith_deg)) / self.resolution_m
        azimuth = np.radians(self.azimuth_deg)
        return round(-reach * np.cos(azimuth)), round(reach * np.sin(azimuth))


@dataclass(frozen=True)
class Deck:
    """One layer, and where to look for it: windows of one field of cloud.

    Attributes:
        layer: the layer.
        tau: optical thickness of a part of the layer larger than the image.
        codes: the same as entries of the tables of optics.py.
        soft: the same with the penumbra.
        shape: rows and columns of the image.
        origin: corner of the window that the sensor sees.
        shades: corners of the windows that shade the ground (first) and each lower layer.
        parallax: displacement of the last band against the first, (right, down) in pixels.
    """

    layer: Layer
    tau: NDArray[np.float32]
    codes: NDArray[np.uint16]
    soft: NDArray[np.uint16]
    shape: tuple[int, int]
    origin: Offset
    shades: tuple[Offset, ...]
    parallax: tuple[float, float]

    @classmethod
    def make(
        cls,
        layer: Layer,
        below_m: Sequence[float],
        shape: tuple[int, int],
        sun: Direction,
        view: Direction,
        resolution_m: float,
        rng: np.random.Generator,
        soften_px: float,
        parallax: tuple[float, float],
        given: NDArray[np.float32] | None,
    ) -> Deck:
        spare = int(np.ceil(abs(parallax[1]))), int(np.ceil(abs(parallax[0])))
        here = view.offset(layer.height_m)
        windows = []
        for height in (0.0, *below_m):
            seen, towards = view.offset(height), sun.offset(layer.height_m - height)
            apart = [seen[axis] + towards[axis] - here[axis] for axis in (0, 1)]
            # A shadow cast from outside the image comes from just beside it instead: nobody can tell, and the field
            # need not reach to the far end of a long shadow.
            far = [shape[axis] + spare[axis] for axis in (0, 1)]
            windows.append((int(np.clip(apart[0], -far[0], far[0])), int(np.clip(apart[1], -far[1], far[1]))))
        low = [min(-spare[axis], *(window[axis] for window in windows)) for axis in (0, 1)]
        high = [max(spare[axis], *(window[axis] for window in windows)) + shape[axis] for axis in (0, 1)]
        origin = (-low[0], -low[1])
        if given is None:
            size = (_fast_length(high[0] - low[0]), _fast_length(high[1] - low[1]))
            tau = thickness_field(layer, size, resolution_m, rng)
        else:
            tau = np.zeros((high[0] - low[0], high[1] - low[1]), np.float32)
            tau[origin[0] : origin[0] + shape[0], origin[1] : origin[1] + shape[1]] = given
        tau = blur(tau, soften_px)
        tau *= tau >= _LEAST_TAU
        codes = optics.tau_index(tau)
        # The half shade is as wide as the disc of the sun; seen from afar it looks like a blur of half its radius.
        penumbra = layer.height_m / sun.mu * _SUN_RADIUS_RAD / 2 / resolution_m
        soft = _penumbra(tau, penumbra) if penumbra >= 0.3 else codes
        shades = tuple((origin[0] + window[0], origin[1] + window[1]) for window in windows)
        return cls(layer, tau, codes, soft, shape, origin, shades, parallax)

    def seen(self) -> NDArray[np.float32]:
        """Optical thickness that the first band sees, (y, x) float32."""
        return self._cut(self.tau, self.origin)

    def seen_codes(self, place: float) -> NDArray[np.uint16]:
        """The same in entries of the tables, for a band at ``place`` between the first (0) and the last (1)."""
        return self._cut(self.codes, self.corner(place))

    def corner(self, place: float) -> Offset:
        """Corner of the window that a band sees."""
        right, down = self.parallax
        return self.origin[0] - round(down * place), self.origin[1] - round(right * place)

    def shade_codes(self, target: int) -> NDArray[np.uint16]:
        """What shades the ground (0) or a lower layer (1, 2, ...), (y, x)."""
        return self._cut(self.soft, self.shades[target])

    def relief(self, sun: Direction, strength: float, place: float) -> NDArray[np.float32]:
        """Brightness of cloud sides relative to a flat cloud: above 1 where the cloud rises away from the sun."""
        height = np.log1p(self._cut(self.tau, self.corner(place)))  # thicker parts stand higher
        azimuth = np.radians(sun.azimuth_deg)
        slope = strength * min(float(np.tan(np.radians(sun.zenith_deg))), 2.0)
        out = np.ones_like(height)
        down = (height[2:] - height[:-2]) * np.float32(0.5 * slope * np.cos(azimuth))
        out[1:-1] += down
        right = (height[:, 2:] - height[:, :-2]) * np.float32(0.5 * slope * np.sin(azimuth))
        out[:, 1:-1] -= right
        return np.clip(out, 0.6, 1.35, out=out)

    def _cut(self, field: NDArray[np.generic], corner: Offset) -> NDArray:
        return field[corner[0] : corner[0] + self.shape[0], corner[1] : corner[1] + self.shape[1]]


def _penumbra(tau: NDArray[np.float32], radius_px: float) -> NDArray[np.uint16]:
    """Entries of the tables whose grey transmittance is the blurred one."""
    gamma = np.float32(np.sqrt(3) / 2 * (1 - optics.ASYMMETRY))
    through = blur(np.asarray(1 / (1 + gamma * tau), np.float32), radius_px)
    soft = np.asarray((1 / np.clip(through, 1e-4, 1.0) - 1) / gamma, np.float32)
    soft *= soft >= _LEAST_TAU
    return optics.tau_index(soft)


def _fast_length(size: int) -> int:
    """Smallest length from ``size`` upwards whose only factors are 2, 3 and 5, which transforms quickly."""
    length = size
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
