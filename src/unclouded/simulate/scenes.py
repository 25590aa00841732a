"""One simulated scene: ground, clouds, radar and heights on one grid, with every number that it was drawn with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .. import sensors
from ..errors import InputError
from ..scene import Band, Scene
from . import radar
from .clouds import Simulated, simulate_clouds
from .layers import random_layers
from .surface import LANDSCAPES, procedural_surface

_CRS, _LEFT, _TOP = "EPSG:32633", 300_000.0, 5_900_040.0
_RADAR = ("vv", "vh")
_TRIES = 20


@dataclass(frozen=True)
class DrawnScene:
    """A simulated scene and its truth.

    Attributes:
        bands: optical and thermal bands, one per plane of ``clear`` and of ``sky.image``.
        level: ``toa``, ``boa`` or ``counts``, as the sensor's catalogue says.
        geobox: grid of all planes.
        clear: the ground without clouds, (band, y, x) float32.
        sky: the cloudy image with its truth.
        radar: VV and VH in decibel, (2, y, x) float32, or None.
        heights: elevation in metres, (y, x) float32, or None.
        parameters: everything that was drawn, as plain values.
    """

    bands: tuple[Band, ...]
    level: str
    geobox: GeoBox
    clear: NDArray[np.float32]
    sky: Simulated
    radar: NDArray[np.float32] | None
    heights: NDArray[np.float32] | None
    parameters: dict[str, Any]


def draw_scene(
    sensor: sensors.Sensor,
    size: int,
    seed: int,
    number: int,
    *,
    background: Scene | None = None,
    sar: bool = False,
    dem: bool = False,
) -> DrawnScene:
    """Draw a scene: landscape, sun, view, layers of cloud, and what they look like.

    Args:
        sensor: whose bands, level and pixel size are wanted.
        size: side in pixels.
        seed: of the whole series.
        number: of the scene in the series; seed and number decide everything.
        background: clear scene whose pixels are the ground; None makes up the ground.
        sar: whether VV and VH are wanted.
        dem: whether heights are wanted; the ground is then made up.

    Raises:
        InputError: the sensor is not an optical one, the background does not fit it, or is too small.
    """
    rng = np.random.default_rng((seed, number))
    ground_rng, radar_rng, sky_rng = rng.spawn(3)
    bands = _bands(sensor)
    sun: dict[str, Any] = {"sun_zenith_deg": _drawn(rng, 20, 68), "sun_azimuth_deg": _drawn(rng, 0, 360)}
    # Swaths of Sentinel-2 and Landsat reach some ten degrees to both sides; the sensor looks across its track.
    view: dict[str, Any] = {"view_zenith_deg": _drawn(rng, 0, 10), "view_azimuth_deg": 100.0}
    if rng.random() < 0.5:
        view["view_azimuth_deg"] = 280.0
    pixel_m = sensor.grid_m if background is None else background.resolution_m
    parameters: dict[str, Any] = {"seed": seed, "number": number, "resolution_m": pixel_m, **sun, **view}
    level = "boa" if sensor.level == "boa" else "toa"
    extra: tuple[Band, ...] = ()
    if sar:
        extra += tuple(Band(name, name, None, None, sensor.grid_m, "sar") for name in _RADAR)
    if dem:
        extra += (Band("elevation", None, None, None, sensor.grid_m, "dem"),)
    if background is None:
        landscape = str(rng.choice(list(LANDSCAPES)))
        parameters["landscape"] = landscape
        geobox = _grid(number, size, sensor.grid_m)
        planes = procedural_surface(
            (*bands, *extra), (size, size), sensor.grid_m, ground_rng, landscape=landscape, level=level, **sun
        )
    else:
        if dem:
            raise InputError(
                "Heights were asked for over a real background.",
                expected="Its terrain is not known, and made-up heights would contradict its light and shade.",
                remedy="Leave --dem out, or --background.",
            )
        bands, geobox, planes = _cut(background, sensor, size, ground_rng)
        parameters["background"] = background.id
        if sar:
            found = radar.backscatter(planes, bands, radar_rng, resolution_m=pixel_m)
            planes = np.concatenate([planes, *(found[name][None] for name in _RADAR)])
    layers = random_layers(rng)
    optics: dict[str, Any] = {"soften_px": _drawn(rng, 0.3, 1.2), "parallax_ratio": _drawn(rng, 0, 0.018)}
    clear = planes[: len(bands)]
    sky = simulate_clouds(
        clear,
        bands,
        resolution_m=pixel_m,
        seed=sky_rng,
        layers=layers,
        level="boa" if level == "boa" else "toa",
        **sun,
        **view,
        **optics,
    )
    parameters |= optics
    parameters["layers"] = [asdict(layer) for layer in layers]
    return DrawnScene(
        bands,
        sensor.level,
        geobox,
        clear,
        sky,
        planes[len(bands) : len(bands) + 2] if sar else None,
        planes[-1] if dem else None,
        parameters,
    )


def _drawn(rng: np.random.Generator, low: float, high: float) -> float:
    """A number with few digits, so that the record of it reads well and is exact."""
    return round(float(rng.uniform(low, high)), 4)


def _bands(sensor: sensors.Sensor) -> tuple[Band, ...]:
    bands = tuple(band for band in sensor.bands if band.kind in ("optical", "thermal"))
    if not any(band.kind == "optical" for band in bands):
        raise InputError(
            f"{sensor.title} has no optical bands.",
            expected="Clouds are simulated in optical and thermal bands.",
            remedy="Choose another sensor: unclouded sensors list. Radar and heights come with --sar and --dem.",
        )
    return bands


def _grid(number: int, size: int, pixel_m: float) -> GeoBox:
    """Scenes lie side by side on a large square of UTM zone 33, so that no two are at one place."""
    side = size * pixel_m
    left = _LEFT + (number % 16) * side
    top = _TOP - (number // 16 % 16) * side
    return GeoBox((size, size), Affine(pixel_m, 0, left, 0, -pixel_m, top), _CRS)


def _cut(
    scene: Scene, sensor: sensors.Sensor, size: int, rng: np.random.Generator
) -> tuple[tuple[Band, ...], GeoBox, NDArray[np.float32]]:
    """A random window of a real scene that has data almost everywhere."""
    if scene.sensor != sensor.name:
        raise InputError(
            f"The background '{scene.id}' is from the sensor {scene.sensor}.",
            expected=f"All backgrounds are from the sensor of the data set, {sensor.name}.",
            remedy=f"Pass --sensor {scene.sensor}, or other backgrounds.",
        )
    bands = tuple(band for band in scene.bands if band.kind in ("optical", "thermal"))
    rows, cols = scene.geobox.shape
    if min(rows, cols) < size:
        raise InputError(
            f"The background '{scene.id}' has {rows} x {cols} pixels.",
            expected=f"Scenes of {size} x {size} pixels are cut from it.",
            remedy=f"Pass --size {min(rows, cols)} or less, or larger backgrounds.",
        )
    for _ in range(_TRIES):
        y, x = int(rng.integers(rows - size + 1)), int(rng.integers(cols - size + 1))
        geobox = scene.geobox[y : y + size, x : x + size]
        planes = scene.read(geobox, [band.name for band in bands])
        if np.isfinite(planes).all(axis=0).mean() > 0.9:
            return bands, geobox, planes
    raise InputError(
        f"The background '{scene.id}' is mostly without data.",
        expected=f"Windows of {size} x {size} pixels with data almost everywhere are cut from it.",
        remedy="Pass a smaller --size, or other backgrounds.",
    )
