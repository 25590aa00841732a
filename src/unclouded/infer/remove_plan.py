"""Plan of a removal: grid, bands, mask, radar and other dates of one scene, brought together and checked."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..classes import NO_DATA
from ..errors import InputError, ModelError, UncloudedWarning
from ..models.card import ModelCard
from ..options import Options
from ..remove_options import RemoveOptions
from ..scene import Band, Scene
from .feather import dilated
from .matching import FEWEST, Matching, match
from .plan import coarser, fixed_bands, make_plan
from .planes import Encoding, Planes, own_grid
from .predict import Progress, model_rows
from .runner import Runner

_OVERVIEW = 1536
"""Dates are matched on an overview of about this many pixels along its longer side."""

_STRIP = 512
"""Rows of the scene that are looked at together for the overview."""

_SAMPLES, _SAMPLE_ROWS = 4, 32
"""Strips of the scene, and rows of each, on which errors of single pixels are compared with those of the overview."""

_ALIKE = 2.0
"""Dates whose expected errors differ by less than this factor count as equally good; the nearest then comes first."""

_WHOLE_CELLS = 1e-3


@dataclass(frozen=True)
class ClassPlane:
    """Class codes of a scene on a grid of their own.

    Attributes:
        classes: (y, x) uint8, see :mod:`unclouded.classes`.
        affine: pixels to map coordinates.
    """

    classes: NDArray[np.uint8]
    affine: Affine

    def rows(self, grid: GeoBox, first: int, end: int) -> NDArray[np.uint8]:
        """The class under the centre of each pixel of some rows of a grid, 255 beyond the classes."""
        step = ~self.affine * grid.affine
        rows = np.floor(step.f + step.e * (np.arange(first, end) + 0.5) + 1e-6).astype(np.intp)
        cols = np.floor(step.c + step.a * (np.arange(grid.shape.x) + 0.5) + 1e-6).astype(np.intp)
        height, width = self.classes.shape
        out = np.full((rows.size, cols.size), NO_DATA, np.uint8)
        down, across = (rows >= 0) & (rows < height), (cols >= 0) & (cols < width)
        if down.any() and across.any():
            low, high = rows[down].min(), rows[down].max() + 1
            block = np.asarray(self.classes[low:high])
            out[np.ix_(down, across)] = block[np.ix_(rows[down] - low, cols[across])]
        return out


@dataclass(frozen=True)
class Date:
    """Another date of the same ground.

    Attributes:
        scene: the scene.
        planes, encoding: its bands on the grid of the scene that is restored.
        mask: its classes.
        matching: lines that bring its reflectance to the scene's.
        days: time between the two; None where one is not known.
    """

    scene: Scene
    planes: Planes
    encoding: Encoding
    mask: ClassPlane
    matching: Matching
    days: float | None

    def level(self, name: str, first: int, end: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """One band of some rows as the scene would show it, (y, x), NaN where missing."""
        band = self.planes.names.index(name)
        planes, encoding = replace(self.planes, names=(name,)), Encoding.of(self.scene, (name,))
        matching = replace(
            self.matching, gain=self.matching.gain[[band]], offset=self.matching.offset[[band]]
        )
        return matching.apply(encoding.reflectance(planes.read(first, end)), first, shape)[0]


@dataclass(frozen=True)
class RemovalPlan:
    """How the clouds of one scene are removed.

    Attributes:
        scene: the scene.
        card: the network's card; None where other dates alone fill the gaps.
        options: the settings.
        names: bands that are restored, in the scene's order.
        places: where these are among the network's inputs.
        grid: grid of the result.
        planes, encoding: the scene's bands on it.
        mask: the scene's classes.
        sar: radar image on the grid, or None.
        dates: other dates, the best first.
        warnings: why the result may be less good than usual.
    """

    scene: Scene
    card: ModelCard | None
    options: RemoveOptions
    names: tuple[str, ...]
    places: tuple[int, ...]
    grid: GeoBox
    planes: Planes
    encoding: Encoding
    mask: ClassPlane
    sar: Scene | None
    dates: tuple[Date, ...]
    warnings: tuple[UncloudedWarning, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return int(self.grid.shape.y), int(self.grid.shape.x)

    @property
    def haziest(self) -> str:
        """The band that shows haze best: blue, else that of the shortest waves, else the first."""
        bands = [band for band in self.scene.bands if band.name in self.names]
        return min(
            bands, key=lambda band: (band.common_name != "blue", math.inf if band.min_nm is None else band.min_nm)
        ).name

    def radar(self, first: int, end: int) -> NDArray[np.float32]:
        """Backscatter of some rows as the network takes it, (s, y, x) in 0..1; 0 where missing, else at least 0.001."""
        assert self.card is not None
        if self.sar is None:
            return np.zeros((len(self.card.sar), end - first, self.shape[1]), np.float32)
        inputs = self.card.sar
        decibel = self.sar.read(self.grid[first:end, :], [one.name for one in inputs])
        low, high = (np.array([getattr(one, key) for one in inputs], np.float32) for key in ("low_db", "high_db"))
        scaled = np.clip((decibel - low[:, None, None]) / (high - low)[:, None, None], 1e-3, 1.0)
        return np.where(np.isfinite(decibel), scaled, np.float32(0.0)).astype(np.float32)


def plan_removal(
    scene: Scene,
    mask: ClassPlane,
    card: ModelCard | None,
    options: RemoveOptions,
    *,
    sar: Scene | None = None,
    history: Sequence[tuple[Scene, ClassPlane]] = (),
) -> RemovalPlan:
    """Bring together what is needed, and look at the overviews that other dates are matched on.

    Args:
        scene: the scene.
        mask: its classes.
        card: the network's card, or None.
        options: the settings.
        sar: radar image that reads on the scene's grid.
        history: other dates with their classes.

    Raises:
        InputError: another date is of another sensor or level, lacks a band, lies elsewhere or on turned axes; or the
            radar image lacks a band or does not cover the scene.
        ModelError: the network does not rebuild images, or needs what there is not.
    """
    optical = [band for band in scene.bands if band.kind == "optical"]
    if card is None:
        chosen = {band.name: place for place, band in enumerate(optical)}
    else:
        _check_card(card, sar)
        chosen = placed_bands(optical, card)
    if not chosen:
        raise InputError(
            f"Scene '{scene.id}' has no optical band.",
            expected="Clouds are removed from reflectance.",
            remedy="Pass an optical scene.",
        )
    bands = [band for band in scene.bands if band.name in chosen]
    names = tuple(band.name for band in bands)
    grid = own_grid(scene, bands)
    plan = RemovalPlan(
        scene=scene,
        card=card,
        options=options,
        names=names,
        places=tuple(chosen[name] for name in names),
        grid=grid,
        planes=Planes(scene, names, grid),
        encoding=Encoding.of(scene, names),
        mask=mask,
        sar=sar,
        dates=(),
        warnings=tuple(_doubts(scene, card, names, optical, sar)),
    )
    if sar is not None:
        _check_radar(sar, plan)
    factor = max(1, -(-max(grid.shape) // _OVERVIEW))
    view = _View.of(plan, factor) if history else None
    dates = [] if view is None else [_date(plan, view, *one) for one in history]
    return replace(plan, dates=tuple(sorted(_alike(dates), key=_rank)))


def classes_of(
    scene: Scene, runner: Runner, progress: Progress | None = None
) -> tuple[ClassPlane, tuple[UncloudedWarning, ...]]:
    """Find the clouds of a scene. The codes lie in a file without a name, not in memory.

    Returns:
        The classes, and the doubts of the masking plan.
    """
    from ..result import finish_plan

    plan, settings = make_plan(scene, runner.card), Options()
    with tempfile.TemporaryFile() as file:
        classes = np.memmap(file, np.uint8, "w+", shape=tuple(plan.output_grid.shape))
    with closing(model_rows(plan, runner, tile=settings.tile, halo=settings.halo, progress=progress)) as parts:
        for strip in finish_plan(plan, parts, False):
            classes[strip.first : strip.first + strip.classes.shape[0]] = strip.classes
    return ClassPlane(classes, plan.output_grid.affine), plan.warnings


def placed_bands(bands: Sequence[Band], card: ModelCard) -> dict[str, int]:
    """The network's input for each band that it can restore.

    Raises:
        ModelError: the network has to have a band that there is not, or can use none of them.

    >>> from unclouded.models.card import BandInput
    >>> card = ModelCard(name="x", title="X", version="1", architecture="mmcanet", task="removal", front_end="bands",
    ...     bands=tuple(BandInput(name=n, common_name=c, min_nm=a, max_nm=a + 60)
    ...                 for n, c, a in (("B04", "red", 640), ("B02", "blue", 460))),
    ...     partial_inputs=True, licence="none", parameters=1)
    >>> placed_bands([Band("B2", "blue", 452, 512, 30.0)], card)
    {'B2': 1}
    """
    if not card.partial_inputs:
        return {band.name: place for place, band in enumerate(fixed_bands(bands, card.bands))}
    left = list(bands)
    chosen: dict[str, int] = {}
    for by_name in (True, False):
        for place, one in enumerate(card.bands):
            pool = [band for band in left if not by_name or band.common_name == one.common_name is not None]
            if place in chosen.values() or not pool:
                continue
            try:
                (found,) = fixed_bands(pool, [one])
            except ModelError:
                continue
            left.remove(found)
            chosen[found.name] = place
    if not chosen:
        raise ModelError(
            f"The model '{card.name}' can restore none of the bands {', '.join(band.name for band in bands)}.",
            expected=f"It restores {', '.join(one.name for one in card.bands)}.",
            remedy="Name the bands of the image with --bands, or choose another --model.",
        )
    return chosen


def _check_card(card: ModelCard, sar: Scene | None) -> None:
    if card.task != "removal":
        raise ModelError(
            f"The model '{card.name}' finds clouds, it does not rebuild what they hide.",
            expected="Removal needs a model whose card has the task 'removal'.",
            remedy="Choose another model: unclouded models list",
        )
    if card.scaling.mode != "none":
        raise ModelError(
            f"The model '{card.name}' wants reflectance scaled by '{card.scaling.mode}'.",
            expected="Removal networks take and give reflectance.",
            remedy="Train it without scaling.",
        )
    if card.sar and sar is None and not card.partial_inputs:
        raise ModelError(
            f"The model '{card.name}' needs a radar image.",
            expected=f"It takes {', '.join(one.name for one in card.sar)} of Sentinel-1 beside the optical image.",
            remedy="Pass one with --sar, or choose a model that runs without.",
        )


def _check_radar(sar: Scene, plan: RemovalPlan) -> None:
    """Refuse a radar image that lacks bands, or shows other ground."""
    wanted = [one.name for one in plan.card.sar] if plan.card is not None else []
    lacking = [name for name in wanted if name not in sar.sources]
    if lacking:
        raise InputError(
            f"The radar image '{sar.id}' has no {' and no '.join(lacking)}.",
            expected=f"The model takes {', '.join(wanted)}.",
            remedy='Name its bands, e.g. bands={"vv": 1, "vh": 2}, or take an image with both polarisations.',
        )
    if sar.sources and not _covers(sar, plan.grid):
        raise InputError(
            f"The radar image '{sar.id}' has no data where the scene '{plan.scene.id}' lies.",
            expected="Both show the same ground.",
            remedy="Take the Sentinel-1 image of this place, or leave --sar out.",
        )


def _covers(sar: Scene, grid: GeoBox) -> bool:
    """Whether there is any value on the grid; rows are looked at until one is found."""
    step = max(1, int(grid.shape.y) // 64)
    name = sar.bands[0].name
    middle_first = sorted(range(0, int(grid.shape.y), step), key=lambda row: abs(row - grid.shape.y // 2))
    return any(bool(np.isfinite(sar.read(grid[row : row + 1, :], [name])).any()) for row in middle_first)


def _doubts(
    scene: Scene, card: ModelCard | None, names: Sequence[str], optical: Sequence[Band], sar: Scene | None
) -> list[UncloudedWarning]:
    out = []
    left_out = [band.name for band in optical if band.name not in names]
    if card is not None and left_out:
        out.append(
            UncloudedWarning(
                f"The model '{card.name}' does not restore {', '.join(left_out)}: the result does not have them."
            )
        )
    if card is not None and sar is not None and not card.sar:
        out.append(UncloudedWarning(f"The model '{card.name}' takes no radar image: '{sar.id}' is not used."))
    if card is not None and card.sensors and scene.sensor not in card.sensors:
        out.append(
            UncloudedWarning(
                f"The model '{card.name}' was made for {', '.join(card.sensors)}, and this is a scene of"
                f" {scene.sensor}: expect it to be less accurate."
            )
        )
    if card is not None and not card.grid_m * 0.4 <= scene.resolution_m <= card.coarsest_m * 1.001:
        out.append(
            UncloudedWarning(
                f"The pixels of {scene.resolution_m:g} m lie outside of the {card.grid_m:g} to {card.coarsest_m:g} m"
                f" that the model '{card.name}' was trained with: expect it to be less accurate."
            )
        )
    if card is not None and (card.expected_error is None or not card.expected_error.fitted_on):
        out.append(
            UncloudedWarning(
                f"The uncertainty of the model '{card.name}' is not calibrated: it ranks pixels, and no more."
            )
        )
    return out


@dataclass(frozen=True)
class _View:
    """Overview of the scene: reflectance, and where it is clear."""

    grid: GeoBox
    factor: int
    image: NDArray[np.float32]
    clear: NDArray[np.bool_]

    @classmethod
    def of(cls, plan: RemovalPlan, factor: int) -> _View:
        grid = coarser(plan.grid, factor)
        return cls(grid, factor, _overview(plan.scene, plan, grid, factor), _clear(plan, plan.mask, factor))


def _overview(scene: Scene, plan: RemovalPlan, grid: GeoBox, factor: int) -> NDArray[np.float32]:
    """A scene on a coarse grid, read in strips: files without resolution levels are read whole for it."""
    height, step = int(grid.shape.y), max(1, _STRIP // factor)
    strips = [
        scene.read(grid[row : min(row + step, height), :], plan.names) for row in range(0, height, step)
    ]
    return np.concatenate(strips, axis=1)


def _clear(plan: RemovalPlan, mask: ClassPlane, factor: int) -> NDArray[np.bool_]:
    """Overview pixels all of whose pixels are clear and away from clouds."""
    parts = []
    height, reach = plan.shape[0], plan.options.dilation
    step = max(1, _STRIP // factor) * factor
    for first in range(0, height, step):
        low, high = max(first - reach, 0), min(first + step + reach, height)
        hidden = dilated(mask.rows(plan.grid, low, high) != 0, reach)[first - low : min(first + step, height) - low]
        for axis in (0, 1):
            hidden = np.logical_or.reduceat(hidden, np.arange(0, hidden.shape[axis], factor), axis=axis)
        parts.append(~hidden)
    return np.concatenate(parts)


def _date(plan: RemovalPlan, view: _View, scene: Scene, mask: ClassPlane) -> Date:
    _check_date(plan, scene)
    image = _overview(scene, plan, view.grid, view.factor)
    matching = match(view.image, image, view.clear & _clear(plan, mask, view.factor), view.factor)
    planes, encoding = Planes(scene, plan.names, plan.grid), Encoding.of(scene, plan.names)
    date = Date(scene, planes, encoding, mask, matching, _days(plan.scene, scene))
    if view.factor == 1 or not matching.pixels:
        return date
    return replace(date, matching=replace(matching, change=matching.change.scaled(_sharper(plan, view, date))))


def _sharper(plan: RemovalPlan, view: _View, date: Date) -> float:
    """How much larger errors are between single pixels than on the overview, whose means even out texture and shifts.

    Measured on a few strips of rows, those with the most clear ground of each part of the scene.
    """
    common = (view.clear & _clear(plan, date.mask, view.factor)).sum(axis=1)
    parts = np.array_split(np.arange(common.size), min(_SAMPLES, common.size))
    found = told = 0.0
    for part in parts:
        row = int(part[np.argmax(common[part])]) * view.factor
        end = min(row + max(view.factor, _SAMPLE_ROWS), plan.shape[0])
        own = plan.encoding.reflectance(plan.planes.read(row, end))
        made = date.matching.apply(date.encoding.reflectance(date.planes.read(row, end)), row, plan.shape)
        hidden = dilated((plan.mask.rows(plan.grid, row, end) != 0) | (date.mask.rows(plan.grid, row, end) != 0), 3)
        residual = np.abs(made - own).mean(axis=0)
        use = ~hidden & np.isfinite(residual)
        found += float(residual[use].sum())
        told += float(date.matching.change.errors(made, row, plan.shape)[use].sum())
    return found / told if found > 0 and told > 0 else 1.0


def _check_date(plan: RemovalPlan, scene: Scene) -> None:
    here = plan.scene
    if (scene.sensor, scene.level) != (here.sensor, here.level):
        raise InputError(
            f"'{scene.id}' is a scene of {scene.sensor} ({scene.level}), and '{here.id}' of {here.sensor}"
            f" ({here.level}).",
            expected="Other dates are of the same sensor and level.",
            remedy="Take the other dates' products of the same kind.",
        )
    lacking = [name for name in plan.names if name not in scene.sources]
    if lacking:
        raise InputError(
            f"'{scene.id}' has no {', '.join(lacking)}.",
            expected=f"Other dates have all bands that are restored: {', '.join(plan.names)}.",
            remedy="Choose these bands with --bands for all of them, or leave that date out.",
        )
    ours, theirs = plan.grid, scene.geobox
    step = ~theirs.affine * ours.affine
    turned = max(abs(step.b), abs(step.d)) > _WHOLE_CELLS or step.a <= 0 or step.e <= 0
    corners = [step * (x, y) for x in (0, ours.shape.x) for y in (0, ours.shape.y)]
    apart = (
        max(x for x, _ in corners) <= 0 or min(x for x, _ in corners) >= theirs.shape.x
        or max(y for _, y in corners) <= 0 or min(y for _, y in corners) >= theirs.shape.y
    )  # fmt: skip
    unplaced = ours.crs is None and here.geobox.shape != theirs.shape
    if ours.crs != theirs.crs or turned or apart or unplaced:
        raise InputError(
            f"'{scene.id}' lies on another grid than '{here.id}'"
            f" ({theirs.crs or 'no reference system'}, {theirs.shape.y} x {theirs.shape.x} pixels).",
            expected="Other dates show the same ground in the same reference system; without one they have the same"
            " size.",
            remedy="Warp that date to the scene's grid first: gdalwarp, or take products of one tile.",
        )


def _days(one: Scene, other: Scene) -> float | None:
    if not one.datetime or not other.datetime:
        return None
    first, second = (dt.datetime.fromisoformat(scene.datetime or "") for scene in (one, other))
    if (first.tzinfo is None) != (second.tzinfo is None):
        first, second = (moment.replace(tzinfo=None) for moment in (first, second))
    return abs((first - second).total_seconds()) / 86400


def _alike(dates: Sequence[Date]) -> list[Date]:
    """Give all dates that could not be compared one error, the largest of theirs.

    The error of each alone is its own contrast, and a date full of fog, which has the least, would come first.
    """
    most = max((one.matching.expected for one in dates if one.matching.pixels < FEWEST), default=0.0)
    out = []
    for date in dates:
        if date.matching.pixels < FEWEST and date.matching.expected > 0:
            change = date.matching.change.scaled(most / date.matching.expected)
            date = replace(date, matching=replace(date.matching, change=change))
        out.append(date)
    return out


def _rank(date: Date) -> tuple[int, float]:
    """Dates of the smallest errors first; of those that are about as good, the nearest in time."""
    error = max(date.matching.expected, 1e-6)
    return math.floor(math.log(error) / math.log(_ALIKE)), math.inf if date.days is None else date.days


