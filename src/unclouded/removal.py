"""Remove the clouds of a scene, or of an array, and say of every pixel where it comes from and how sure that is."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import InputError, ModelError, UncloudedWarning
from .infer.predict import Progress
from .infer.remove import RestoredStrip, restored_strips
from .infer.remove_plan import ClassPlane, RemovalPlan, classes_of, plan_removal
from .infer.runner import Runner, find_model, load_runner, shipped
from .models.card import ModelCard
from .options import Options
from .remove_options import NONE, RemoveOptions
from .result import Result
from .scene import Band, Scene

if TYPE_CHECKING:
    import pystac
    import xarray

    from .sensors import BandLike

_DEFAULT = "removal"
_PRODUCTS = ("restored", "restored_provenance", "restored_uncertainty")
_NO_ERROR = 65535
"""Stored value of pixels without uncertainty."""


@dataclass(frozen=True)
class Restored:
    """What :func:`restore` makes; the axes are those of the image.

    Attributes:
        image: reflectance without clouds, (band, y, x) in the image's own type; NaN where nothing is known.
        provenance: (y, x) uint8: 0 observed, 1 rebuilt from radar and surroundings, 2 taken from another date, 255 no
            data. Where it is 0 the image is untouched.
        uncertainty: expected absolute error in reflectance, mean over the bands, (y, x) float32; 0 where observed, NaN
            without data.
    """

    image: NDArray[np.floating]
    provenance: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]


def remove(
    source: str | os.PathLike[str] | Scene,
    options: RemoveOptions | None = None,
    *,
    sar: str | os.PathLike[str] | Scene | None = None,
    history: Iterable[str | os.PathLike[str] | Scene] = (),
    mask: Any = None,
    history_masks: Sequence[Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | Mapping[str, int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: str | None = None,
    sar_unit: Literal["decibel", "power"] = "decibel",
    progress: Progress | None = None,
    **changes: Any,
) -> Removal:
    """Give back a scene without its clouds and shadows.

    What other dates show clear is taken from them, brought to the scene's radiometry; what none shows is rebuilt by a
    network, from radar where there is any. Pixels that the mask calls clear and that lie outside of the widened and
    feathered mask are those of the scene, bit for bit.

    Args:
        source: path of a product or image, or a Scene from :func:`open_scene`.
        options: settings; None means the defaults.
        sar: Sentinel-1 image of about the same time, any grid with a reference system.
        history: earlier or later dates of the same sensor and level; their clouds are found as well.
        mask: classes of the scene: a Result of :func:`mask`, the path of its ``_mask.tif``, or (y, x) codes on the
            scene's grid. None finds them.
        history_masks: the same for every other date, in their order.
        output: folder for the results, written while they are made. None keeps them in memory.
        sensor, bands, scale, offset, nodata, level: how to read the scene and the other dates where they do not say
            so themselves, see :func:`open_scene`.
        sar_unit: what backscatter is stored as.
        progress: called with the share that is done, 0 to 1.
        **changes: single settings by their name in :class:`RemoveOptions`, e.g. ``dilation=5``.

    Returns:
        Image, provenance and uncertainty, with what is needed to judge and to save them.

    Raises:
        InputError: an input or an option cannot be used, or the inputs do not fit together.
        RadiometryError: nothing says how the numbers become reflectance.
        ModelError: there is neither a removal model nor another date, or the model does not fit.
        OutputError: output exists already or cannot be written.

    Example:
        result = unclouded.remove("S2B_MSIL2A_20230810.SAFE", history=["S2A_MSIL2A_20230815.SAFE"])
        trusted = result.image.where(result.uncertainty < 0.02)
        item = result.save("out")
    """
    begin = time.perf_counter()
    options = _options(options, changes)
    reading = {
        "sensor": sensor, "bands": bands, "scale": scale, "offset": offset, "nodata": nodata, "level": level,
    }  # fmt: skip
    scene = _opened(source, reading)
    dates = [_opened(one, reading) for one in history]
    runner, notes = _network(options, bool(dates))
    radar = _radar(sar, scene, sar_unit)
    job = _Job(scene, dates, radar, options, runner, _class_plane(mask, scene), _date_planes(history_masks, dates))
    if output is None:
        run = job.plan(progress, notes)
        with closing(restored_strips(run.plan, runner, job.scaled(progress))) as strips:
            planes = _Arrays.of(run.plan, strips)
        _tell(progress)
        return Removal(run, planes, counts=planes.counts(), seconds=time.perf_counter() - begin)
    folder = Path(output).expanduser()
    if not job.to_do(folder):
        paths = removal_paths(folder, scene.id)
        _tell(progress)
        return _finished_before(job.described(), paths, begin)
    run = job.plan(progress, notes)
    with closing(restored_strips(run.plan, runner, job.scaled(progress))) as strips:
        outputs, counts, item = run.write(folder, map(_Stored.of, _with_encoding(strips, run.plan)))
    _tell(progress)
    seconds = time.perf_counter() - begin
    return Removal(run, _Files(outputs), counts=counts, seconds=seconds, outputs=outputs, item=item)


def restore(
    image: NDArray[np.floating],
    bands: Sequence[BandLike],
    *,
    sar: NDArray[np.floating] | None = None,
    history: NDArray[np.floating] | Sequence[NDArray[np.floating]] | None = None,
    mask: NDArray[np.integer] | None = None,
    history_masks: NDArray[np.integer] | Sequence[NDArray[np.integer]] | None = None,
    sensor: str | None = None,
    resolution_m: float = 10.0,
    options: RemoveOptions | None = None,
    **changes: Any,
) -> Restored:
    """Give back an array without its clouds and shadows; :func:`remove` for arrays.

    Args:
        image: reflectance, (band, y, x), decimal numbers; NaN where missing.
        bands: what the planes are: names of the sensor's bands, common names such as ``blue``, or pairs of
            wavelengths (min_nm, max_nm).
        sar: backscatter VV and VH in decibel on the image's grid, (2, y, x), NaN where missing.
        history: other dates on the image's grid, (date, band, y, x), reflectance, the best first where several are
            equally good; NaN where missing. Their clouds are found as well.
        mask: classes of the image, (y, x): 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 255 no data. None
            finds them.
        history_masks: the same for the other dates, (date, y, x).
        sensor: sensor that the names of bands belong to; None for common names.
        resolution_m: pixel size in metres.
        options: settings; None means the defaults.
        **changes: single settings by their name in :class:`RemoveOptions`.

    Returns:
        Image, provenance and uncertainty.

    Raises:
        InputError: a shape, a band or an option is impossible.
        RadiometryError: the numbers are integers, or far from reflectance.
        ModelError: there is neither a removal model nor history, or the model does not fit.

    >>> clear = np.full((2, 3, 32, 32), 0.1, np.float32) + np.linspace(0, 0.1, 32, dtype=np.float32)
    >>> cloudy, mask = clear[0].copy(), np.zeros((32, 32), np.uint8)
    >>> cloudy[:, 8:16, 8:16], mask[8:16, 8:16] = 0.8, 1
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     found = restore(cloudy, ["blue", "green", "red"], history=clear[1:], mask=mask, model="none",
    ...                     history_masks=np.zeros((1, 32, 32), np.uint8))
    >>> bool(np.abs(found.image - clear[0]).max() < 0.002), int(found.provenance[10, 10])
    (True, 2)
    """
    from . import sensors
    from .infer.arrays import array_scene

    options = _options(options, changes)
    image = np.asarray(image.filled(np.nan) if isinstance(image, np.ma.MaskedArray) else image)
    named = sensors.resolve_bands(bands, sensor, gsd_m=resolution_m)
    level = "unknown" if sensor is None or sensor == "generic" else sensors.load(sensor).level

    def opened(values: NDArray[np.floating], planes: Sequence[Band], title: str) -> Scene:
        scene = array_scene(
            values, planes, sensor=sensor or "generic", level=level, resolution_m=resolution_m, nodata=None
        )
        return replace(scene, id=title)

    scene = opened(image, named, "image")
    dates = []
    for number, one in enumerate([] if history is None else history):
        _check_like(one, image.shape, "history", "(date, band, y, x) of the image's bands and size")
        dates.append(opened(np.asarray(one), named, f"history {number}"))
    radar = None
    if sar is not None:
        _check_like(sar, (2, *image.shape[1:]), "sar", "(2, y, x) of the image's size, VV and VH in decibel")
        polarisations = [Band(name, None, None, None, resolution_m, "sar") for name in ("vv", "vh")]
        radar = opened(np.asarray(sar), polarisations, "sar")
    runner, notes = _network(options, bool(dates))
    job = _Job(scene, dates, radar, options, runner, _class_plane(mask, scene), _date_planes(history_masks, dates))
    run = job.plan(None, notes)
    out = np.array(image)
    provenance = np.empty(image.shape[1:], np.uint8)
    uncertainty = np.empty(image.shape[1:], np.float32)
    kept = [[band.name for band in named].index(name) for name in run.plan.names]
    with closing(restored_strips(run.plan, runner)) as strips:
        for strip in strips:
            rows = slice(strip.first, strip.first + strip.provenance.shape[0])
            changed = strip.provenance != 0
            for place, plane in zip(kept, strip.stored, strict=True):
                out[place, rows][changed] = plane[changed]
            for place in set(range(len(out))) - set(kept):  # bands that the model does not restore
                out[place, rows][changed] = np.nan
            provenance[rows], uncertainty[rows] = strip.provenance, strip.error
    return Restored(out, provenance, uncertainty)


def removal_paths(folder: Path, scene_id: str) -> dict[str, Path]:
    """Files that removal makes of a scene; the item, which says that all is done, comes last.

    >>> [path.name for path in removal_paths(Path("out"), "scene").values()][-1]
    'scene_restored.json'
    """
    out = {product: Path(folder) / f"{scene_id}_{product}.tif" for product in _PRODUCTS}
    return {**out, "item": Path(folder) / f"{scene_id}_restored.json"}


@dataclass(frozen=True)
class _Run:
    """What decides the result: plan, weights, masks."""

    plan: RemovalPlan
    model_sha256: str | None
    card_path: Path | None
    mask_source: Mapping[str, Any]
    fingerprint: str
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Findings of the reader, then of masks and plan."""
        return tuple(dict.fromkeys((*self.plan.scene.warnings, *self.notes)))

    def item(self, outputs: Mapping[str, Path], counts: Mapping[int, int], notes: Sequence[str] = ()) -> pystac.Item:
        """The STAC item that describes the result."""
        from .write.stac_removal import make_removal_item

        return make_removal_item(
            self.plan,
            outputs=outputs,
            counts=counts,
            model_sha256=self.model_sha256,
            card_path=self.card_path,
            mask_source=self.mask_source,
            warnings=[*self.warnings, *notes],
            fingerprint=self.fingerprint,
        )

    def write(self, folder: Path, strips: Iterable[_Stored]) -> tuple[dict[str, Path], dict[int, int], Any]:
        """Write all files of the result, the item last."""
        from . import __version__
        from .write.layers import Layer, LayerWriter
        from .write.stac import write_item
        from .write.stac_removal import COLOURS, ERROR_SCALE, PROVENANCE

        plan, encoding = self.plan, self.plan.encoding
        model = "none" if plan.card is None else f"{plan.card.name} {plan.card.version}"
        tags = {
            "SENSOR": plan.scene.sensor, "LEVEL": plan.scene.level, "MODEL": model,
            "SOFTWARE": f"unclouded {__version__}",
        }  # fmt: skip
        if plan.scene.datetime:
            tags["DATETIME"] = plan.scene.datetime
        layers = {
            "restored": Layer(encoding.dtype.name, plan.names, encoding.nodata, encoding.scale, encoding.offset),
            "restored_provenance": Layer(
                "uint8",
                ("provenance",),
                255,
                codes={code: (name, COLOURS[code]) for code, (name, _) in PROVENANCE.items()},
                overview="MODE",
            ),
            "restored_uncertainty": Layer("uint16", ("expected absolute error",), _NO_ERROR, (ERROR_SCALE,), (0.0,)),
        }
        counts = dict.fromkeys(PROVENANCE, 0)
        with LayerWriter(folder, plan.scene.id, plan.grid, layers, tags) as writer:
            for strip in strips:
                writer.write_rows(
                    strip.first,
                    {
                        "restored": strip.image,
                        "restored_provenance": strip.provenance[np.newaxis],
                        "restored_uncertainty": strip.error[np.newaxis],
                    },
                )
                found = np.bincount(strip.provenance.ravel(), minlength=256)
                for code in counts:
                    counts[code] += int(found[code])
            outputs = dict(writer.finish(stale=("_restored.json",)))
        item = self.item(outputs, counts, _losses(plan, counts))
        outputs["item"] = write_item(item, removal_paths(folder, plan.scene.id)["item"])
        return outputs, counts, item


@dataclass
class _Job:
    """One call: the inputs, opened, before anything is computed."""

    scene: Scene
    dates: list[Scene]
    sar: Scene | None
    options: RemoveOptions
    runner: Runner | None
    mask: ClassPlane | None
    date_masks: list[ClassPlane] | None

    @cached_property
    def masker(self) -> Runner | None:
        """The network that finds clouds; None where no mask has to be made."""
        wanted = self.mask is None or (self.dates and self.date_masks is None)
        return load_runner(self.options.mask_model, self.options.threads) if wanted else None

    @cached_property
    def fingerprint(self) -> str:
        """Checksum over everything that decides the output."""
        from .write.resume import fingerprint

        same = Options()
        without = ("model", "mask_model", "threads", "overwrite", "resume")
        sar = None
        if self.sar is not None:
            sar = [fingerprint(self.sar, "", same), [getattr(one, "power", False) for one in self.sar.sources.values()]]
        given = [one for one in (self.mask, *(self.date_masks or ())) if one is not None]
        parts = {
            "scene": fingerprint(self.scene, "", same),
            "history": [fingerprint(one, "", same) for one in self.dates],
            "sar": sar,
            "masks": [hashlib.sha256(one.classes.tobytes()).hexdigest() for one in given],
            "mask_model": None if self.masker is None else self.masker.sha256,
            "model": None if self.runner is None else self.runner.sha256,
            "options": {key: value for key, value in self.options.as_dict().items() if key not in without},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def to_do(self, folder: Path) -> bool:
        """Whether there is anything to do, see :func:`unclouded.write.resume.plan_files`."""
        from .write.resume import plan_files

        paths = removal_paths(folder, self.scene.id)
        return plan_files(
            folder, self.scene.id, paths, list(paths.values()), self.fingerprint,
            overwrite=self.options.overwrite, resume=self.options.resume,
        )  # fmt: skip

    def plan(self, progress: Progress | None, notes: Sequence[str]) -> _Run:
        """Find the clouds, and bring everything together; doubts are told as warnings."""
        unmasked = [self.scene] * (self.mask is None) + self.dates * (self.date_masks is None)
        told: list[str] = list(notes)
        planes = []
        for number, scene in enumerate(unmasked):
            assert self.masker is not None

            def step(share: float, before: int = number) -> None:
                if progress is not None:
                    progress(0.5 * (before + share) / len(unmasked))

            plane, doubts = classes_of(scene, self.masker, step)
            planes.append(plane)
            told += [str(one) for one in doubts]
        mask = self.mask if self.mask is not None else planes.pop(0)
        plan = plan_removal(
            self.scene,
            mask,
            None if self.runner is None else self.runner.card,
            self.options,
            sar=self.sar,
            history=list(zip(self.dates, planes if self.date_masks is None else self.date_masks, strict=True)),
        )
        run = self._run(plan, told + [str(one) for one in plan.warnings])
        for text in run.notes:
            warnings.warn(UncloudedWarning(text), stacklevel=3)
        return run

    def described(self) -> _Run:
        """The run as it was, without computing anything."""
        empty = ClassPlane(np.zeros((1, 1), np.uint8), self.scene.geobox.affine)
        card = None if self.runner is None else self.runner.card
        return self._run(plan_removal(self.scene, empty, card, self.options, sar=self.sar), [])

    def scaled(self, progress: Progress | None) -> Progress | None:
        """The progress of the rows, after that of the masks."""
        start = 0.5 if self.masker is not None else 0.0
        return None if progress is None else lambda share: progress(start + (0.95 - start) * share)

    def _run(self, plan: RemovalPlan, notes: Sequence[str]) -> _Run:
        card_path = None if self.runner is None else find_model(self.options.model).card
        source: dict[str, Any] = {"scene": "given" if self.mask is not None else "made"}
        if self.masker is not None:
            one = self.masker
            source["model"] = {"name": one.card.name, "version": one.card.version, "sha256": one.sha256}
        sha = None if self.runner is None else self.runner.sha256
        return _Run(plan, sha, card_path, source, self.fingerprint, tuple(dict.fromkeys(notes)))


@dataclass(frozen=True)
class _Stored:
    """Rows as they are written: counts, codes, and uncertainty in ten-thousandths."""

    first: int
    image: NDArray[Any]
    provenance: NDArray[np.uint8]
    error: NDArray[np.uint16]

    @classmethod
    def of(cls, pair: tuple[RestoredStrip, RemovalPlan]) -> _Stored:
        from .write.stac_removal import ERROR_SCALE

        strip, plan = pair
        units = np.clip(np.rint(np.nan_to_num(strip.error) / ERROR_SCALE), 0, _NO_ERROR - 1)
        error = np.where(np.isnan(strip.error), _NO_ERROR, units).astype(np.uint16)
        return cls(strip.first, plan.encoding.cast(strip.stored), strip.provenance, error)


def _with_encoding(
    strips: Iterable[RestoredStrip], plan: RemovalPlan
) -> Iterator[tuple[RestoredStrip, RemovalPlan]]:
    for strip in strips:
        yield strip, plan


class _Arrays:
    """A result in memory."""

    def __init__(self, image: NDArray[Any], provenance: NDArray[np.uint8], error: NDArray[np.uint16]) -> None:
        self._image, self._provenance, self._error = image, provenance, error

    @classmethod
    def of(cls, plan: RemovalPlan, strips: Iterable[RestoredStrip]) -> _Arrays:
        out = cls(
            np.empty((len(plan.names), *plan.shape), plan.encoding.dtype),
            np.empty(plan.shape, np.uint8),
            np.empty(plan.shape, np.uint16),
        )
        for strip in map(_Stored.of, _with_encoding(strips, plan)):
            rows = slice(strip.first, strip.first + strip.provenance.shape[0])
            out._image[:, rows], out._provenance[rows], out._error[rows] = strip.image, strip.provenance, strip.error
        return out

    def image(self) -> NDArray[Any]:
        """(band, y, x) as stored."""
        return self._image

    def provenance(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._provenance

    def error(self) -> NDArray[np.uint16]:
        """(y, x) ten-thousandths of reflectance, 65535 where missing."""
        return self._error

    def counts(self) -> dict[int, int]:
        """Pixels of each code."""
        from .write.stac_removal import PROVENANCE

        found = np.bincount(self._provenance.ravel(), minlength=256)
        return {code: int(found[code]) for code in PROVENANCE}


class _Files:
    """A result in files, read when it is asked for."""

    def __init__(self, outputs: Mapping[str, Path]) -> None:
        self._outputs = outputs

    def image(self) -> NDArray[Any]:
        """(band, y, x) as stored."""
        return self._read("restored")

    def provenance(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._read("restored_provenance")[0]

    def error(self) -> NDArray[np.uint16]:
        """(y, x) ten-thousandths of reflectance, 65535 where missing."""
        return self._read("restored_uncertainty")[0]

    def _read(self, product: str) -> NDArray[Any]:
        import rasterio

        from .raster import environment, read_errors

        path = str(self._outputs[product])
        with read_errors(path), environment(path), rasterio.open(path) as file:
            values: NDArray[Any] = file.read()
            return values


class Removal:
    """One scene without its clouds.

    Attributes:
        counts: pixels of each code of provenance: 0 observed, 1 rebuilt, 2 from another date, 255 no data.
        outputs: files by product: ``restored``, ``restored_provenance``, ``restored_uncertainty``, ``item``; empty
            while the result is only in memory.
        seconds: time that it took.
    """

    def __init__(
        self,
        run: _Run,
        planes: _Arrays | _Files,
        *,
        counts: Mapping[int, int],
        seconds: float,
        outputs: Mapping[str, Path] | None = None,
        item: pystac.Item | None = None,
    ) -> None:
        self._run, self._planes, self._item = run, planes, item
        self.counts, self.outputs, self.seconds = dict(counts), dict(outputs or {}), seconds

    @property
    def id(self) -> str:
        """Name of the scene."""
        return self._run.plan.scene.id

    @property
    def model(self) -> ModelCard | None:
        """Card of the network, None where there was none."""
        return self._run.plan.card

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the result has."""
        return self._run.plan.names

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may make the result less good than usual."""
        return (*self._run.warnings, *_losses(self._run.plan, self.counts))

    @property
    def geobox(self) -> GeoBox:
        """Grid of the result."""
        return self._run.plan.grid

    @property
    def rebuilt_percent(self) -> float | None:
        """Share of the pixels with data that are not as observed, in percent; None where there is no data."""
        made = self.counts[1] + self.counts[2]
        valid = self.counts[0] + made
        return 100.0 * made / valid if valid else None

    @cached_property
    def image(self) -> xarray.DataArray:
        """Reflectance without clouds, (band, y, x) float32, NaN without data."""
        encoding = self._run.plan.encoding
        stored = self._planes.image().astype(np.float32)
        if encoding.nodata is None:
            stored[:, self._planes.provenance() == 255] = np.nan
        elif not np.isnan(encoding.nodata):
            stored[stored == encoding.nodata] = np.nan
        return self._labelled(
            encoding.reflectance(stored), "image", {"long_name": "reflectance", "units": "1"}, ("band", self.bands)
        )

    @cached_property
    def stored(self) -> xarray.DataArray:
        """The same as counts, (band, y, x) in the scene's own type: what the file holds."""
        nodata = self._run.plan.encoding.nodata
        attrs = {"long_name": "stored counts"} | ({} if nodata is None else {"nodata": nodata, "_FillValue": nodata})
        return self._labelled(self._planes.image(), "stored", attrs, ("band", self.bands))

    @cached_property
    def provenance(self) -> xarray.DataArray:
        """Where each pixel comes from, (y, x) uint8."""
        from .write.stac_removal import PROVENANCE

        attrs = {
            "long_name": "provenance",
            "flag_values": list(PROVENANCE),
            "flag_meanings": " ".join(name for name, _ in PROVENANCE.values()),
        }
        return self._labelled(self._planes.provenance(), "provenance", attrs)

    @cached_property
    def uncertainty(self) -> xarray.DataArray:
        """Expected absolute error in reflectance, mean over the bands, (y, x) float32; 0 where observed."""
        from .write.stac_removal import ERROR_SCALE

        stored = self._planes.error()
        values = np.where(stored == _NO_ERROR, np.nan, stored * ERROR_SCALE).astype(np.float32)
        return self._labelled(values, "uncertainty", {"long_name": "expected absolute error", "units": "1"})

    @property
    def item(self) -> pystac.Item:
        """STAC item of the result; it names files once they are written."""
        if self._item is None:
            self._item = self._run.item({}, self.counts, _losses(self._run.plan, self.counts))
        return self._item

    def save(self, folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> pystac.Item:
        """Write image, provenance, uncertainty and STAC item.

        Args:
            folder: output folder, made if it does not exist.
            overwrite: replace existing output.
            resume: keep existing, complete output of the same run.

        Returns:
            The item, also written as ``<id>_restored.json``.

        Raises:
            OutputError: output exists and ``overwrite`` was not asked for, or the folder cannot be written to.
        """
        from .write.resume import plan_files

        target = Path(folder).expanduser()
        paths = removal_paths(target, self.id)
        if plan_files(
            target, self.id, paths, list(paths.values()), self._run.fingerprint, overwrite=overwrite, resume=resume
        ):
            whole = _Stored(0, self._planes.image(), self._planes.provenance(), self._planes.error())
            outputs, _, item = self._run.write(target, [whole])
            self.outputs, self._item = outputs, item
        return self.item

    def _labelled(
        self, values: NDArray[Any], name: str, attrs: dict[str, Any], first: tuple[str, Sequence[str]] | None = None
    ) -> xarray.DataArray:
        from .labelled import labelled

        return labelled(values, self.geobox, name=name, attrs=attrs, first_axis=first)

    def __repr__(self) -> str:
        share = self.rebuilt_percent
        told = "no data" if share is None else f"{share:.1f} % rebuilt"
        where = f"in {self.outputs['item'].parent}" if self.outputs else "in memory"
        size = self.geobox.shape
        return f"<unclouded.Removal {self.id}: {told}, {size.y} x {size.x} pixels, {where}>"


def _losses(plan: RemovalPlan, counts: Mapping[int, int]) -> list[str]:
    """What could not be filled, for people."""
    if plan.card is not None or not counts.get(255):
        return []
    return [
        "Without a removal model, pixels that no other date shows clear have no data: pass more dates, or --model."
    ]


def _finished_before(run: _Run, paths: Mapping[str, Path], begin: float) -> Removal:
    """The result of an earlier run of the same kind, which was complete."""
    import pystac

    from .write.stac_removal import PROVENANCE

    item = pystac.Item.from_file(str(paths["item"]))
    stored = item.properties["unclouded:counts"]
    counts = {code: int(stored[name]) for code, (name, _) in PROVENANCE.items()}
    return Removal(
        run, _Files(paths), counts=counts, seconds=time.perf_counter() - begin, outputs=paths, item=item
    )


def _network(options: RemoveOptions, dates: bool) -> tuple[Runner | None, list[str]]:
    """The network that is asked for, or None where other dates alone have to do."""
    if options.model == NONE or (options.model == _DEFAULT and _DEFAULT not in shipped()):
        if not dates:
            raise ModelError(
                "There is neither a removal model nor another date of the scene."
                if options.model == NONE
                else "No removal model is installed, and no other date of the scene is given.",
                expected="What clouds hide is taken from other dates, or rebuilt by a network.",
                remedy="Pass other dates with --history, or a network with --model.",
            )
        note = "No removal model is installed: what no other date shows clear stays without data."
        return None, [] if options.model == NONE else [note]
    return load_runner(options.model, options.threads), []


def _radar(
    source: str | os.PathLike[str] | Scene | None, scene: Scene, unit: Literal["decibel", "power"]
) -> Scene | None:
    if source is None or isinstance(source, Scene):
        return source
    from .readers.aligned import open_aligned

    return open_aligned(source, scene, sensor="sentinel1-grd", unit=unit)


def _class_plane(mask: Any, scene: Scene) -> ClassPlane | None:
    """A mask in any of the forms that users have it in."""
    if mask is None:
        return None
    grid = scene.geobox
    affine = grid.affine
    if isinstance(mask, Result):
        values, affine = mask.classes.values, mask.geobox.affine
    elif isinstance(mask, (str, os.PathLike)):
        import rasterio

        from .raster import environment, header, read_errors

        path = os.path.expanduser(os.fspath(mask))
        head = header(path)
        if head.crs is not None and grid.crs is not None and head.geobox().crs != grid.crs:
            raise InputError(
                f"The mask {path} is in {head.geobox().crs}, and the scene in {grid.crs}.",
                expected="Mask and scene have one reference system.",
                remedy="Warp the mask to the scene's grid, by nearest neighbour: gdalwarp -r near.",
            )
        with read_errors(path), environment(path), rasterio.open(path) as file:
            values = file.read(1)
        affine = head.affine
        _check_overlap(path, head.geobox(), scene)
    else:
        values = np.asarray(mask)
        if values.shape != tuple(grid.shape):
            raise InputError(
                f"The mask has the shape {values.shape}, and the scene {tuple(grid.shape)}.",
                expected="A mask that is an array lies on the scene's grid.",
                remedy="Pass the path of the mask's file, or resample it.",
            )
    known = np.isin(values, (0, 1, 2, 3, 255)) if values.dtype.kind in "iu" else np.zeros(1, bool)
    if not known.all():
        raise InputError(
            f"The mask holds {values.dtype} numbers that are no classes.",
            expected="Classes are 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 255 no data, whole numbers.",
            remedy="Translate other masks with unclouded.decode.",
        )
    return ClassPlane(values.astype(np.uint8), affine)


def _check_overlap(path: str, grid: GeoBox, scene: Scene) -> None:
    step = ~grid.affine * scene.geobox.affine
    corners = [step * (x, y) for x in (0, scene.geobox.shape.x) for y in (0, scene.geobox.shape.y)]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if max(xs) <= 0 or max(ys) <= 0 or min(xs) >= grid.shape.x or min(ys) >= grid.shape.y:
        raise InputError(
            f"The mask {path} lies beside the scene '{scene.id}'.",
            expected="Mask and scene show the same ground.",
            remedy="Pass the mask of this scene, or leave it out to have it made.",
        )


def _date_planes(masks: Any, dates: Sequence[Scene]) -> list[ClassPlane] | None:
    if masks is None:
        return None
    if len(masks) != len(dates):
        raise InputError(
            f"{len(masks)} masks are given for {len(dates)} other dates.",
            expected="Every date has its mask, in the same order, or none has.",
            remedy="Leave them out to have all of them found.",
        )
    return [plane for one, scene in zip(masks, dates, strict=True) if (plane := _class_plane(one, scene)) is not None]


def _opened(source: Any, reading: Mapping[str, Any]) -> Scene:
    from .readers import open_scene

    return source if isinstance(source, Scene) else open_scene(source, **reading)


def _check_like(values: NDArray[Any], shape: tuple[int, ...], name: str, told: str) -> None:
    if np.shape(values) != shape:
        raise InputError(
            f"An array of {name} has the shape {np.shape(values)}.",
            expected=f"It is {told}: {shape}.",
            remedy="Cut and order it like the image.",
        )


def _options(options: RemoveOptions | None, changes: Mapping[str, Any]) -> RemoveOptions:
    known = [field.name for field in fields(RemoveOptions)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise InputError(
            f"There is no option called {', '.join(repr(name) for name in unknown)}.",
            expected=f"Options are {', '.join(known)}.",
            remedy="Correct the name.",
        )
    return (options or RemoveOptions()).but(**changes)


def _tell(progress: Progress | None) -> None:
    if progress is not None:
        progress(1.0)
