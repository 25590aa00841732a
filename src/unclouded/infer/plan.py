"""Plan: which bands of a scene a model is given, and on which grids it is run and its result is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import CLASSES, members
from ..descriptors import (
    scene_percentiles,
    sensei_descriptors,
    sensei_v1_descriptors,
    slot_index,
    slot_weights,
)
from ..errors import ModelError, RadiometryWarning, UncloudedWarning
from ..models.card import BandInput, Guarantee, ModelCard
from ..normalise import Normaliser
from ..scene import Band, Scene
from .guarantee import guarantee_for

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
        bands: the bands that the network is given, by wavelength, or in the order that the card fixes; others are
            never read.
        model_grid: grid that the network is run on: the scene's, or coarser by a whole factor.
        output_grid: grid of the result.
        zoom: pixel size of the model grid over that of the output grid.
        warnings: why the result may be less good than usual.
        guarantee: the threshold on the probability of cloud that was asked for, with the bound that it keeps.
    """

    scene: Scene
    card: ModelCard
    bands: tuple[Band, ...]
    model_grid: GeoBox
    output_grid: GeoBox
    zoom: float
    warnings: tuple[UncloudedWarning, ...]
    guarantee: Guarantee | None = None

    @property
    def cloud_from(self) -> float | None:
        """The probability from which a pixel is cloud: what the guarantee asks for, else what the card says."""
        if self.guarantee is not None:
            return self.guarantee.threshold
        return self.card.calibration_for(self.scene.level).cloud_from

    def descriptors(self) -> NDArray[np.float32] | None:
        """What the network is told about the bands, (b, d) float32; None where their order says it all.

        Reads an overview where the network wants percentiles.
        """
        if self.card.front_end == "bands":
            return None
        if self.card.front_end == "slots":
            return slot_weights(self.bands)
        if self.card.front_end == "senseiv1":
            return sensei_v1_descriptors(self.bands)
        percentiles = scene_percentiles(self._overview()) if self.card.percentiles else None
        return sensei_descriptors(self.bands, percentiles, self.card.encoding)

    def normaliser(self) -> Normaliser | None:
        """What is done to reflectance before the network sees it, None for nothing.

        Reads an overview where statistics are those of the scene.

        Raises:
            InputError: they are, and a band has no valid value.
        """
        scaling = self.card.scaling
        if scaling.mode == "none":
            return None
        if scaling.scope == "scene":
            return Normaliser.of_scene(scaling.mode, self._overview())
        return scaling.normaliser()

    def overview_step(self) -> int:
        """Pixels of the model grid along one of the overview that statistics are taken from."""
        return -(-int(max(self.model_grid.shape)) // _OVERVIEW)

    def _overview(self) -> NDArray[np.float32]:
        return self.scene.read(coarser(self.model_grid, self.overview_step()), [band.name for band in self.bands])


def make_plan(
    scene: Scene,
    card: ModelCard,
    resolution_m: float | None = None,
    *,
    max_missed_cloud: float | None = None,
    max_lost_clear: float | None = None,
) -> Plan:
    """Choose bands and grids.

    The model grid is that of the finest band the model uses, coarsened by the whole factor that comes nearest to the
    model's own pixel size where the scene is finer.

    Args:
        scene: the scene.
        card: the model's card.
        resolution_m: pixel size of the output in metres; None means the scene's finest grid.
        max_missed_cloud, max_lost_clear: see :class:`unclouded.Options`.

    Raises:
        InputError: the scene has none of the bands that the model can use.
        ModelError: the model does not mask, the scene lacks a band that it has to have, or the card has no evidence
            for the bound that is asked for.
    """
    if card.task != "mask":
        raise ModelError(
            f"The model '{card.name}' rebuilds what clouds hide, it does not find them.",
            expected="Masking needs a model whose card has the task 'mask'.",
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
    guarantee = guarantee_for(card, max_missed_cloud, max_lost_clear)
    return Plan(scene, card, bands, model_grid, output_grid, zoom, warnings, guarantee)


def used_bands(bands: Sequence[Band], card: ModelCard) -> tuple[Band, ...]:
    """The bands that a model is given, whatever order they come in.

    Front ends for any bands get those that have a slot, by wavelength: no thermal band, whose kelvin are no
    reflectance, no panchromatic one, and none between the slots, which no network has met in training.

    Raises:
        InputError: there are too few.
        ModelError: a band that the network has to have is missing.
    """
    if card.front_end == "bands":
        return fixed_bands(bands, card.bands)
    left_out = set(card.leave_out)
    chosen = [band for band in bands if slot_index(band) is not None and not {band.name, band.common_name} & left_out]
    chosen.sort(key=lambda band: (band.min_nm or 0.0, band.max_nm or 0.0, band.name))
    slot_weights(chosen)  # raises where too few are left
    return tuple(chosen)


def fixed_bands(bands: Sequence[Band], inputs: Sequence[BandInput]) -> tuple[Band, ...]:
    """The band for each input of a network that takes fixed bands, in the network's order.

    Bands of the same common name come first. An input that is left takes, of the bands that are left and whose centre
    lies in its range, the one whose range is most alike. No band serves twice.

    Args:
        bands: what there is, in any order.
        inputs: what the network takes.

    Raises:
        ModelError: an input has no band.
    """
    left = [band for band in bands if band.kind == "optical" and band.min_nm is not None and band.max_nm is not None]
    taken: dict[str, Band] = {}

    def take(one: BandInput, fitting: Sequence[Band]) -> None:
        if fitting:
            taken[one.name] = min(fitting, key=lambda band: (band.name != one.name, _unlike(band, one), band.name))
            left.remove(taken[one.name])

    for one in inputs:
        take(one, [band for band in left if band.common_name is not None and band.common_name == one.common_name])
    for one in inputs:
        if one.name not in taken:
            take(one, [b for b in left if slot_index(b) is not None and one.min_nm <= b.centre_nm <= one.max_nm])
    if lacking := [f"{one.name} ({one.min_nm:g}-{one.max_nm:g} nm)" for one in inputs if one.name not in taken]:
        raise ModelError(
            f"The scene has no band for the model's {', '.join(lacking)}.",
            expected=f"The model takes {len(inputs)} bands: {', '.join(one.name for one in inputs)}. The scene has"
            f" {', '.join(band.name for band in bands) or 'none'}.",
            remedy="Choose a model for any set of bands, for example --model default, or a scene with these bands.",
        )
    return tuple(taken[one.name] for one in inputs)


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
    if card.sensors and scene.sensor not in card.sensors:
        out.append(
            UncloudedWarning(
                f"The model '{card.name}' was made for {', '.join(card.sensors)}, and this is a scene of"
                f" {scene.sensor}: expect it to be less accurate."
            )
        )
    unknown = [one.title.lower() for one, group in zip(CLASSES, members(card.classes), strict=True) if not group]
    unknown = [title for title in unknown if card.classes != ("cloud",) or title != "clear"]
    if unknown:
        out.append(
            UncloudedWarning(
                f"The model '{card.name}' does not know {' and '.join(unknown)}: the mask has none of it."
                + (" All cloud counts as thick." if "cloud" in card.classes else "")
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


def _unlike(band: Band, one: BandInput) -> float:
    """How far the edges of two ranges lie apart, in nanometres."""
    return abs((band.min_nm or 0.0) - one.min_nm) + abs((band.max_nm or 0.0) - one.max_nm)
