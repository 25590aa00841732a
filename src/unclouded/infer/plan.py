"""Plan: which bands of a scene a model is given, and on which grids it is run and its result is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import SEVEN
from ..descriptors import scene_percentiles, sensei_descriptors, slot_index, slot_weights
from ..errors import ModelError, RadiometryWarning, UncloudedWarning
from ..models.card import ModelCard
from ..scene import Band, Scene

LEAST_CONTEXT = 64
"""Scenes with fewer pixels of the model grid along a side show too little of their surroundings to be judged well."""

_OVERVIEW = 512
"""Percentiles of a scene are taken from an overview of about this many pixels along its longer side."""


@dataclass(frozen=True)
class Plan:
    """How one scene is masked by one model.

    Attributes:
        scene: the scene.
        card: the model's card.
        bands: the bands that the network is given, by wavelength; others are never read.
        model_grid: grid that the network is run on: the scene's, or coarser by a whole factor.
        output_grid: grid of the result.
        zoom: pixel size of the model grid over that of the output grid.
        warnings: why the result may be less good than usual.
    """

    scene: Scene
    card: ModelCard
    bands: tuple[Band, ...]
    model_grid: GeoBox
    output_grid: GeoBox
    zoom: float
    warnings: tuple[UncloudedWarning, ...]

    def descriptors(self) -> NDArray[np.float32]:
        """What the network is told about the bands, (b, d) float32; reads an overview where it wants percentiles."""
        if self.card.front_end == "slots":
            return slot_weights(self.bands)
        percentiles = None
        if self.card.percentiles:
            step = -(-max(self.model_grid.shape) // _OVERVIEW)
            overview = self.scene.read(coarser(self.model_grid, step), [band.name for band in self.bands])
            percentiles = scene_percentiles(overview)
        return sensei_descriptors(self.bands, percentiles, self.card.encoding)


def make_plan(scene: Scene, card: ModelCard, resolution_m: float | None = None) -> Plan:
    """Choose bands and grids.

    The model grid is that of the finest band the model uses, coarsened by the whole factor that comes nearest to the
    model's own pixel size where the scene is finer.

    Args:
        scene: the scene.
        card: the model's card.
        resolution_m: pixel size of the output in metres; None means the scene's finest grid.

    Raises:
        InputError: the scene has none of the bands that the model can use.
        ModelError: the model predicts other classes than those of :data:`unclouded.classes.SEVEN`.
    """
    if card.classes != SEVEN:
        raise ModelError(
            f"The model '{card.name}' predicts the classes {', '.join(card.classes)}.",
            expected=f"Masking needs a model of the classes {', '.join(SEVEN)}, in this order.",
            remedy="Choose another model: unclouded models list",
        )
    bands = used_bands(scene.bands, card)
    finest_m = max(card.grid_m, min(band.gsd_m for band in bands))
    factor = max(1, round(finest_m / scene.resolution_m))
    model_grid = coarser(scene.geobox, factor)
    if resolution_m is None:
        output_grid, zoom = scene.geobox, float(factor)
    else:
        output_grid, zoom = scene.grid(resolution_m), factor * scene.resolution_m / resolution_m
    warnings = tuple(_doubts(scene, card, bands, model_grid, factor * scene.resolution_m))
    return Plan(scene, card, bands, model_grid, output_grid, zoom, warnings)


def used_bands(bands: Sequence[Band], card: ModelCard) -> tuple[Band, ...]:
    """The bands that a model is given, in the order of their wavelengths, whatever order they come in.

    Both front ends get the bands that have a slot: no thermal band, whose kelvin are no reflectance, no panchromatic
    one, and none between the slots, which no network has met in training.

    Raises:
        InputError: there are too few.
    """
    left_out = set(card.leave_out)
    chosen = [band for band in bands if slot_index(band) is not None and not {band.name, band.common_name} & left_out]
    chosen.sort(key=lambda band: (band.min_nm or 0.0, band.max_nm or 0.0, band.name))
    slot_weights(chosen)  # raises where too few are left
    return tuple(chosen)


def coarser(grid: GeoBox, factor: int) -> GeoBox:
    """The grid with pixels ``factor`` times as large; the last row and column may reach beyond it.

    >>> from affine import Affine
    >>> coarser(GeoBox((5, 8), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633"), 2).shape
    Shape2d(x=4, y=3)
    """
    if factor == 1:
        return grid
    rows, cols = (-(-size // factor) for size in grid.shape)
    return GeoBox((rows, cols), grid.affine * grid.affine.scale(factor), grid.crs)


def _doubts(
    scene: Scene, card: ModelCard, bands: Sequence[Band], grid: GeoBox, grid_m: float
) -> list[UncloudedWarning]:
    out = []
    if min(grid.shape) < LEAST_CONTEXT:
        out.append(
            UncloudedWarning(
                f"The scene has {grid.shape.y} x {grid.shape.x} pixels of {grid_m:g} m. Below {LEAST_CONTEXT} pixels"
                " along a side the model sees too little of the surroundings: pass a larger area where there is one."
            )
        )
    if grid_m > card.coarsest_m * 1.001:
        out.append(
            UncloudedWarning(
                f"The pixels of {grid_m:g} m are coarser than the {card.coarsest_m:g} m that the model was trained up"
                " to: expect small clouds and shadows to be missed."
            )
        )
    plain = [band.name for band in bands if not scene.radiometry[band.name].calibrated]
    if plain and not any("calibrated" in text for text in scene.warnings):  # readers usually say it themselves
        out.append(
            RadiometryWarning(
                f"The bands {', '.join(plain)} are not calibrated to reflectance: the probabilities are not calibrated"
                " either."
            )
        )
    return out
