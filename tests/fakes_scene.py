"""A small scene held in memory and a model card, for tests of what comes after reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from unclouded.models.card import ModelCard
from unclouded.scene import Band, Radiometry, Scene

BANDS = (
    Band("B02", "blue", 459, 525, 10),
    Band("B03", "green", 541, 577, 10),
    Band("B04", "red", 649, 680, 10),
    Band("B08", "nir", 780, 886, 10),
)

UTM_GRID = GeoBox((120, 160), Affine(10, 0, 399_960, 0, -10, 5_800_020), "EPSG:32633")


@dataclass(frozen=True)
class FunctionSource:
    """Reflectance as a function of the column and row of the scene's grid."""

    function: Callable[[NDArray, NDArray], NDArray]
    geobox: GeoBox

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        rows, cols = np.mgrid[: geobox.shape.y, : geobox.shape.x] + 0.5
        step = ~self.geobox.affine * geobox.affine
        x = step.a * cols + step.b * rows + step.c
        y = step.d * cols + step.e * rows + step.f
        values = self.function(x, y).astype(np.float32)
        height, width = self.geobox.shape
        values[(x < 0) | (y < 0) | (x > width) | (y > height)] = np.nan
        return values


def plain(x: NDArray, y: NDArray) -> NDArray:
    """A slope from dark to bright with a missing corner."""
    return np.where((x < 20) & (y < 20), np.nan, 0.05 + 0.002 * x)


def make_scene(
    geobox: GeoBox = UTM_GRID,
    *,
    bands: tuple[Band, ...] = BANDS,
    function: Callable[[NDArray, NDArray], NDArray] = plain,
    source: str = "memory",
    datetime: str | None = "2024-06-01T10:00:31Z",
    warnings: tuple[str, ...] = (),
    **properties: object,
) -> Scene:
    """A scene of ``bands`` whose reflectance is a function of place."""
    return Scene(
        id="scene",
        sensor="sentinel2-l1c",
        level="toa",
        bands=bands,
        geobox=geobox,
        radiometry={band.name: Radiometry(1e-4, -0.1, 0, "product-xml") for band in bands},
        sources={band.name: FunctionSource(function, geobox) for band in bands},
        source=source,
        datetime=datetime,
        properties=dict(properties),
        warnings=warnings,
    )


CARD = ModelCard(
    name="default",
    title="A card for tests",
    version="1.2",
    architecture="unet-small",
    front_end="slots",
    classes=("land", "water", "snow", "thin", "thick", "shadow", "no-data"),
    licence="Apache-2.0",
    parameters=1,
)
