"""The functions that users call: mask a scene, or predict from an array."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .classes import CLASSES
from .errors import InputError
from .infer.arrays import array_scene
from .infer.memory import check_memory
from .infer.plan import Plan, make_plan
from .infer.predict import ModelRows, Progress, model_rows
from .infer.runner import Runner, find_model, load_runner
from .options import Options
from .result import InFiles, InMemory, PercentStrip, Result, Run, finish_plan
from .saturation import Tally
from .scene import Scene

if TYPE_CHECKING:
    import os

    import xarray

    from .sensors import BandLike

_NETWORK_SHARE = 0.95
"""Of the progress that is told; writing the final files is the rest."""


@dataclass(frozen=True)
class Prediction:
    """What :func:`predict` finds; the axes are those of the image.

    Attributes:
        probability: of clear, thick cloud, thin cloud and cloud shadow, (4, y, x) float32, NaN where missing.
        classes: the most probable class, (y, x) uint8; 255 where missing.
        uncertainty: how near the class was to another, 0 sure to 1 undecided, (y, x) float32, NaN where missing.
    """

    probability: NDArray[np.float32]
    classes: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]


@overload
def mask(
    source: str | os.PathLike[str] | Scene,
    options: Options | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | Mapping[str, int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: str | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Result: ...


@overload
def mask(source: xarray.DataArray | xarray.Dataset, options: Options | None = None, **settings: Any) -> Any: ...


def mask(
    source: Any,
    options: Options | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | Mapping[str, int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: str | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> Any:
    """Find clouds and their shadows in a scene.

    Args:
        source: path of a product or image, a Scene from :func:`open_scene`, a STAC item, or an xarray object with
            named bands. One that Dask computes gives a result that Dask computes, for one date or many, unless
            ``output`` is given: see :mod:`unclouded.lazy`.
        options: settings; None means the defaults.
        output: folder for the results. They are then written while they are made, and nothing is held in memory
            whole. None keeps them in memory, about 9 bytes per pixel.
        sensor, bands, scale, offset, nodata, level: how to read the source where it does not say so itself, see
            :func:`open_scene`.
        progress: called with the share that is done, 0 to 1.
        **changes: single settings by their name in :class:`Options`, e.g. ``tile=512``.

    Returns:
        A :class:`Result`: classes, uncertainty and probabilities, with what is needed to judge and to save them. For
        Dask arrays an ``xarray.Dataset`` of the same, not computed yet; ``probability=True`` adds the probabilities.

    Raises:
        InputError: the source or an option cannot be used.
        RadiometryError: nothing says how the source's numbers become reflectance.
        ModelError: the model's files are missing or do not fit.
        OutputError: output exists already or cannot be written.

    Example:
        result = unclouded.mask("S2B_MSIL1C_20220101T111349_N0301_R137_T30STF_20220101T132332.SAFE")
        clear = reflectance.where(result.classes == 0)
        item = result.save("out")
    """
    begin = time.perf_counter()
    options = _options(options, changes)
    reading = {
        "sensor": sensor, "bands": bands, "scale": scale, "offset": offset, "nodata": nodata, "level": level,
    }  # fmt: skip
    if output is None and is_lazy(source):
        from .lazy import lazy_mask

        return lazy_mask(source, options, reading)
    if options.polygons:
        from .polygons import require

        require(options.polygons)
    scene = _scene(source, reading)
    runner = load_runner(options.model, options.threads)
    plan = make_plan(
        scene,
        runner.card,
        options.resolution_m,
        max_missed_cloud=options.max_missed_cloud,
        max_lost_clear=options.max_lost_clear,
    )
    run = Run(plan, options, runner.sha256, find_model(options.model).card, Tally(scene.radiometry))
    for warning in plan.warnings:
        warnings.warn(warning, stacklevel=2)
    if output is None:
        with closing(_model_rows(plan, runner, options, progress, run.tally)) as parts:
            planes = InMemory(plan, parts)
        codes = np.bincount(planes.classes().ravel(), minlength=256)
        counts = {code: int(codes[code]) for code in (*(one.value for one in CLASSES), 255)}
        _tell(progress)
        return Result(run, planes, counts=counts, seconds=time.perf_counter() - begin)
    return _mask_to_files(run, runner, Path(output).expanduser(), progress, begin)


def predict(
    image: NDArray[np.floating],
    bands: Sequence[BandLike],
    *,
    sensor: str | None = None,
    resolution_m: float = 10.0,
    nodata: float | None = None,
    level: str | None = None,
    model: str | os.PathLike[str] = "default",
) -> Prediction:
    """Find clouds and their shadows in an array.

    Args:
        image: reflectance, (band, y, x), decimal numbers; NaN, infinite, masked or ``nodata`` where missing.
        bands: what the planes are: names of the sensor's bands, common names such as ``blue``, or pairs of
            wavelengths (min_nm, max_nm).
        sensor: sensor that the names belong to, see :mod:`unclouded.sensors`; None for common names.
        resolution_m: pixel size of the image in metres. Finer images are averaged to the model's own pixel size, and
            the result is brought back to the image's.
        nodata: value of missing pixels, beside NaN.
        level: ``toa`` or ``boa`` reflectance, for the choice of the calibration; None means the sensor's.
        model: name or path of a model.

    Returns:
        Probabilities, classes and uncertainty, each of the image's height and width.

    Raises:
        InputError: shape, bands or resolution are impossible.
        RadiometryError: the numbers are integers, or far from reflectance.
        ModelError: the model's files are missing or do not fit.

    >>> found = predict(np.full((3, 64, 96), 0.1, np.float32), ["blue", "green", "red"], resolution_m=20)
    >>> found.probability.shape, found.classes.shape, found.classes.dtype.name
    ((4, 64, 96), (64, 96), 'uint8')
    """
    from . import sensors

    if not (np.isfinite(resolution_m) and resolution_m > 0):
        raise InputError(
            f"The resolution is {resolution_m} m.",
            expected="It is the size of a pixel in metres, a positive number.",
            remedy="Pass for example resolution_m=10.",
        )
    named = sensors.resolve_bands(bands, sensor, gsd_m=resolution_m)
    if level is None:
        level = "unknown" if sensor is None or sensor == "generic" else sensors.load(sensor).level
    scene = array_scene(
        image, named, sensor=sensor or "generic", level=level, resolution_m=resolution_m, nodata=nodata
    )
    options = Options(model=str(model))
    runner = load_runner(options.model, options.threads)
    plan = make_plan(scene, runner.card)
    for warning in plan.warnings:
        warnings.warn(warning, stacklevel=2)
    shape = (int(plan.output_grid.shape.y), int(plan.output_grid.shape.x))
    found = Prediction(
        np.empty((len(CLASSES), *shape), np.float32), np.empty(shape, np.uint8), np.empty(shape, np.float32)
    )
    with closing(_model_rows(plan, runner, options, None)) as parts:
        for strip in finish_plan(plan, parts, True):
            rows = slice(strip.first, strip.first + strip.classes.shape[0])
            found.probability[:, rows] = strip.probability
            found.classes[rows] = strip.classes
            found.uncertainty[rows] = strip.uncertainty
    return found


def _mask_to_files(run: Run, runner: Runner, folder: Path, progress: Progress | None, begin: float) -> Result:
    from .write.resume import output_paths, plan_outputs

    if not plan_outputs(folder, run.plan.scene.id, run.fingerprint, run.options):
        outputs = output_paths(folder, run.plan.scene.id, run.options)
        _tell(progress)
        return _finished_before(run, outputs, begin)
    with closing(_model_rows(run.plan, runner, run.options, progress, run.tally)) as parts:
        strips = map(PercentStrip.of, finish_plan(run.plan, parts, run.options.probability))
        outputs, counts, item = run.write(folder, strips)
    _tell(progress)
    seconds = time.perf_counter() - begin
    return Result(run, InFiles(outputs), counts=counts, seconds=seconds, outputs=outputs, item=item)


def _finished_before(run: Run, outputs: Mapping[str, Path], begin: float) -> Result:
    """The result of an earlier run of the same kind, which was complete."""
    import pystac

    from .classes import NO_DATA_CLASS

    item = pystac.Item.from_file(str(outputs["item"]))
    stored = item.properties["unclouded:counts"]
    counts = {one.value: int(stored[one.name]) for one in (*CLASSES, NO_DATA_CLASS)}
    seconds = time.perf_counter() - begin
    return Result(run, InFiles(outputs), counts=counts, seconds=seconds, outputs=outputs, item=item)


def _model_rows(
    plan: Plan, runner: Runner, options: Options, progress: Progress | None, tally: Tally | None = None
) -> Generator[ModelRows, None, None]:
    check_memory(plan, options.tile)
    scaled = None if progress is None else lambda share: progress(_NETWORK_SHARE * share)
    return model_rows(plan, runner, tile=options.tile, halo=options.halo, progress=scaled, tally=tally)


def is_lazy(source: Any) -> bool:
    """Whether a source is an xarray object that Dask computes.

    >>> is_lazy("scene.tif")
    False
    """
    if type(source).__module__.split(".")[0] != "xarray" or not hasattr(source, "dims"):
        return False
    planes = source.data_vars.values() if hasattr(source, "data_vars") else [source]
    return any(plane.chunks is not None for plane in planes)


def _tell(progress: Progress | None) -> None:
    if progress is not None:
        progress(1.0)


def _options(options: Options | None, changes: Mapping[str, Any]) -> Options:
    known = [field.name for field in fields(Options)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise InputError(
            f"There is no option called {', '.join(repr(name) for name in unknown)}.",
            expected=f"Options are {', '.join(known)}.",
            remedy="Correct the name.",
        )
    return (options or Options()).but(**changes)


def _scene(source: str | os.PathLike[str] | Scene, reading: Mapping[str, Any]) -> Scene:
    if not isinstance(source, Scene):
        from .readers import open_scene

        return open_scene(source, **reading)
    given = [name for name, value in reading.items() if value is not None]
    if given:
        raise InputError(
            f"A Scene was given together with {', '.join(given)}.",
            expected="A Scene is open already, and knows these itself.",
            remedy="Pass them to unclouded.open_scene.",
        )
    return source
