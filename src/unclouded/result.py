"""Result: what a mask holds, whether it lies in memory or in files, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .classes import CLASSES, NO_DATA
from .errors import InputError
from .infer.plan import Plan
from .infer.predict import ModelRows, Strip, finish, percent
from .labelled import labelled
from .models.card import ModelCard
from .options import Options
from .saturation import Tally

if TYPE_CHECKING:
    import pystac
    import xarray

_ROWS = 256
"""Rows that are read from files at a time."""

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "classes": {
        "long_name": "clouds and shadows",
        "nodata": NO_DATA,
        "_FillValue": NO_DATA,
        "flag_values": [one.value for one in CLASSES],
        "flag_meanings": " ".join(one.name for one in CLASSES),
    },
    "uncertainty": {"long_name": "how near the class was to another", "units": "1"},
    "probability": {"long_name": "class probability", "units": "1"},
}
"""Attributes of the arrays of a result."""


@dataclass(frozen=True)
class PercentStrip:
    """Rows of the result as they are stored: codes and percent, 255 where missing."""

    first: int
    classes: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]
    probability: NDArray[np.uint8] | None

    @classmethod
    def of(cls, strip: Strip) -> PercentStrip:
        """From shares to percent."""
        gone = strip.classes == NO_DATA
        shares = None if strip.probability is None else percent(strip.probability, gone)
        return cls(strip.first, strip.classes, percent(strip.uncertainty, gone), shares)


class Planes(Protocol):
    """Where a result's pixels are."""

    def classes(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        ...

    def uncertainty(self) -> NDArray[np.float32]:
        """(y, x), NaN where missing."""
        ...

    def probability(self) -> NDArray[np.float32]:
        """(class, y, x), NaN where missing."""
        ...

    def strips(self, probability: bool) -> Iterator[PercentStrip]:
        """All rows as they are stored, from top to bottom."""
        ...


class InMemory:
    """Pixels in memory. Probabilities are kept as scores on the model grid and made when they are asked for."""

    def __init__(self, plan: Plan, parts: Iterable[ModelRows]) -> None:
        self._plan = plan
        self._parts: list[ModelRows] = []
        shape = tuple(plan.output_grid.shape)
        self._classes = np.empty(shape, np.uint8)
        self._uncertainty = np.empty(shape, np.float32)
        for strip in self._finished(self._keeping(parts), False):
            rows = slice(strip.first, strip.first + strip.classes.shape[0])
            self._classes[rows] = strip.classes
            self._uncertainty[rows] = strip.uncertainty

    def classes(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._classes

    def uncertainty(self) -> NDArray[np.float32]:
        """(y, x), NaN where missing."""
        return self._uncertainty

    def probability(self) -> NDArray[np.float32]:
        """(class, y, x), NaN where missing."""
        out = np.empty((len(CLASSES), *self._classes.shape), np.float32)
        for strip in self._finished(self._parts, True):
            assert strip.probability is not None
            out[:, strip.first : strip.first + strip.classes.shape[0]] = strip.probability
        return out

    def strips(self, probability: bool) -> Iterator[PercentStrip]:
        """All rows as they are stored, from top to bottom."""
        return map(PercentStrip.of, self._finished(self._parts, probability))

    def _keeping(self, parts: Iterable[ModelRows]) -> Iterator[ModelRows]:
        for part in parts:
            self._parts.append(part)
            yield part

    def _finished(self, parts: Iterable[ModelRows], probability: bool) -> Iterator[Strip]:
        return finish_plan(self._plan, parts, probability)


class InFiles:
    """Pixels in the files of a finished run, read when they are asked for."""

    def __init__(self, outputs: Mapping[str, Path]) -> None:
        self._outputs = outputs

    def classes(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._read("mask")[0]

    def uncertainty(self) -> NDArray[np.float32]:
        """(y, x), NaN where missing; whole percent."""
        return _shares(self._read("uncertainty")[0])

    def probability(self) -> NDArray[np.float32]:
        """(class, y, x), NaN where missing; whole percent."""
        return _shares(self._read("prob"))

    def strips(self, probability: bool) -> Iterator[PercentStrip]:
        """All rows as they are stored, from top to bottom."""
        first, height = 0, 1
        while first < height:
            height, mask = self._window("mask", first)
            shares = self._window("prob", first)[1] if probability else None
            yield PercentStrip(first, mask[0], self._window("uncertainty", first)[1][0], shares)
            first += mask.shape[1]

    def _read(self, product: str) -> NDArray[np.uint8]:
        return np.concatenate([rows for _, rows in self._windows(product)], axis=1)

    def _windows(self, product: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        first, height = 0, 1
        while first < height:
            height, rows = self._window(product, first)
            yield first, rows
            first += rows.shape[1]

    def _window(self, product: str, first: int) -> tuple[int, NDArray[np.uint8]]:
        """Height of the file, and some rows from ``first`` on."""
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        if product not in self._outputs:
            raise InputError(
                "This result was written without probabilities.",
                expected="They are written only where they were asked for.",
                remedy="Run it again with probability=True (--prob).",
            )
        path = self._outputs[product]
        try:
            with rasterio.open(path) as file:
                rows = min(_ROWS, file.height - first)
                values: NDArray[np.uint8] = file.read(window=Window(0, first, file.width, rows))
                return file.height, values
        except RasterioError as err:
            raise InputError(
                f"The result's file {path} cannot be read: {err}.",
                expected="A result that was written stays readable as long as its files are where they were.",
                remedy="Run it again, or open the files where they are now.",
            ) from err


@dataclass(frozen=True)
class Run:
    """What decides the result of one scene: plan, settings, and the weights in use."""

    plan: Plan
    options: Options
    model_sha256: str
    card_path: Path
    tally: Tally

    @property
    def warnings(self) -> tuple[str, ...]:
        """Findings of the reader, then of the plan."""
        return (*self.plan.scene.warnings, *(str(warning) for warning in self.plan.warnings))

    @cached_property
    def fingerprint(self) -> str:
        """See :func:`unclouded.write.resume.fingerprint`."""
        from .write.resume import fingerprint

        return fingerprint(self.plan.scene, self.model_sha256, self.options)

    def item(self, outputs: Mapping[str, Path], counts: Mapping[int, int]) -> pystac.Item:
        """The STAC item that describes the result."""
        from .write.stac import make_item

        return make_item(
            self.plan.scene,
            geobox=self.plan.output_grid,
            outputs=outputs,
            counts=counts,
            card=self.plan.card,
            card_path=self.card_path,
            model_sha256=self.model_sha256,
            bands=[band.name for band in self.plan.bands],
            options=self.options,
            warnings=self.warnings,
            fingerprint=self.fingerprint,
            saturated=self.tally.percent(),
        )

    def write(self, folder: Path, strips: Iterable[PercentStrip]) -> tuple[dict[str, Path], dict[int, int], Any]:
        """Write all files of the result, the item last.

        Returns:
            Paths by product, pixels of each class, and the item.

        Raises:
            OutputError: the folder cannot be written to.
        """
        from . import __version__
        from .write.product import ProductWriter
        from .write.stac import write_item

        scene, card = self.plan.scene, self.plan.card
        tags = {
            "SENSOR": scene.sensor,
            "LEVEL": scene.level,
            "MODEL": f"{card.name} {card.version}",
            "SOFTWARE": f"unclouded {__version__}",
        }
        if scene.datetime:
            tags["DATETIME"] = scene.datetime
        with ProductWriter(
            folder, scene.id, self.plan.output_grid, probability=self.options.probability, tags=tags
        ) as writer:
            for strip in strips:
                writer.write_rows(strip.first, strip.classes, strip.uncertainty, strip.probability)
            outputs = dict(writer.finish())
            counts = dict(writer.counts)
        if self.options.quicklook:
            from .write.quicklook import write_quicklook

            picture = folder / f"{scene.id}_quicklook.png"
            outputs["quicklook"] = write_quicklook(scene, outputs["mask"], picture, counts)
        if self.options.polygons:
            from .polygons import write_polygons

            outlines = folder / f"{scene.id}_polygons.{self.options.polygons}"
            write_polygons(outputs["mask"], outlines)
            outputs["polygons"] = outlines
        item = self.item(outputs, counts)
        outputs["item"] = write_item(item, folder / f"{scene.id}.json")
        return outputs, counts, item


class Result:
    """The mask of one scene.

    Attributes:
        id: name of the scene.
        counts: pixels of each class code, no data (255) included.
        outputs: files by product: ``mask``, ``uncertainty``, ``prob``, ``quicklook``, ``polygons``, ``item``; empty
            while the result is only in memory.
        warnings: what may make the result less good than usual, for people.
        model: card of the model.
        seconds: time that masking took.
    """

    def __init__(
        self,
        run: Run,
        planes: Planes,
        *,
        counts: Mapping[int, int],
        seconds: float,
        outputs: Mapping[str, Path] | None = None,
        item: pystac.Item | None = None,
    ) -> None:
        self._run = run
        self._planes = planes
        self._item = item
        self.counts = dict(counts)
        self.outputs = dict(outputs or {})
        self.seconds = seconds

    @property
    def id(self) -> str:
        """Name of the scene."""
        return self._run.plan.scene.id

    @property
    def model(self) -> ModelCard:
        """Card of the model."""
        return self._run.plan.card

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may make the result less good than usual."""
        return self._run.warnings

    @property
    def geobox(self) -> GeoBox:
        """Grid of the result."""
        return self._run.plan.output_grid

    @property
    def cloud_percent(self) -> float | None:
        """Share of thick and thin cloud among the pixels with data, in percent; None where there is no data."""
        from .write.stac import cloud_percent

        return cloud_percent(self.counts)

    @cached_property
    def classes(self) -> xarray.DataArray:
        """Class codes, (y, x) uint8; 255 is no data."""
        return labelled(
            self._planes.classes(),
            self.geobox,
            name="classes",
            attrs=ATTRIBUTES["classes"],
        )

    @cached_property
    def uncertainty(self) -> xarray.DataArray:
        """Entropy of the probabilities as a share of its maximum, (y, x) float32, NaN without data."""
        return labelled(
            self._planes.uncertainty(),
            self.geobox,
            name="uncertainty",
            attrs=ATTRIBUTES["uncertainty"],
        )

    @cached_property
    def probability(self) -> xarray.DataArray:
        """Calibrated probability of each class, (class, y, x) float32, NaN without data.

        Raises:
            InputError: the result is in files, and was written without probabilities.
        """
        return labelled(
            self._planes.probability(),
            self.geobox,
            name="probability",
            attrs=ATTRIBUTES["probability"],
            first_axis=("class", [one.name for one in CLASSES]),
        )

    @property
    def item(self) -> pystac.Item:
        """STAC item of the result; it names files once they are written."""
        if self._item is None:
            self._item = self._run.item({}, self.counts)
        return self._item

    def save(self, folder: str | Path, **changes: Any) -> pystac.Item:
        """Write mask, uncertainty and STAC item, and what the options ask for.

        Args:
            folder: output folder, made if it does not exist.
            **changes: fields of Options that concern the output: probability, quicklook, polygons, overwrite,
                resume.

        Returns:
            The item, also written as ``<id>.json``.

        Raises:
            OutputError: output exists and ``overwrite`` was not asked for, or the folder cannot be written to.
            InputError: another option was given, or probabilities were asked for that the result's files lack.
        """
        from .write.resume import plan_outputs

        wrong = changes.keys() - {"probability", "quicklook", "polygons", "overwrite", "resume"}
        if wrong:
            raise InputError(
                f"save() was given {', '.join(sorted(wrong))}.",
                expected="It takes probability, quicklook, polygons, overwrite and resume: the mask is made already.",
                remedy="Pass other options to unclouded.mask.",
            )
        target = Path(folder).expanduser()
        run = replace(self._run, options=self._run.options.but(**changes))
        if plan_outputs(target, self.id, run.fingerprint, run.options):
            outputs, _, item = run.write(target, self._planes.strips(run.options.probability))
            self._run, self.outputs, self._item = run, outputs, item
        return self.item

    def plot(self, what: str = "classes", ax: Any = None) -> Any:
        """Draw it with matplotlib, see :func:`unclouded.display.plot`.

        Args:
            what: ``classes`` or ``uncertainty``.
            ax: matplotlib axes to draw on; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: ``what`` is something else.
            MissingDependencyError: matplotlib is not installed.
        """
        from .display import plot

        return plot(self, what, ax)

    def _repr_html_(self) -> str:
        from .display import result_html

        return result_html(self)

    def __repr__(self) -> str:
        cover = self.cloud_percent
        where = f"in {self.outputs['item'].parent}" if self.outputs else "in memory"
        told = "no data" if cover is None else f"{cover:.1f} % cloud"
        return f"<unclouded.Result {self.id}: {told}, {self.geobox.shape.y} x {self.geobox.shape.x} pixels, {where}>"


def finish_plan(plan: Plan, parts: Iterable[ModelRows], probability: bool) -> Iterator[Strip]:
    """:func:`unclouded.infer.predict.finish` with the grids of a plan."""
    shapes = [(int(grid.shape.y), int(grid.shape.x)) for grid in (plan.model_grid, plan.output_grid)]
    return finish(parts, shapes[0], shapes[1], plan.zoom, probability=probability, cloud_from=plan.cloud_from)


def _shares(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    out = stored.astype(np.float32)
    out *= np.float32(0.01)
    out[stored == NO_DATA] = np.nan
    return out
