"""Remove the clouds of a scene, or of an array, and say of every pixel where it comes from and how sure that is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .infer.predict import Progress
from .infer.remove import restored_strips
from .removal_job import Job, network
from .removal_masks import class_plane, date_planes
from .removal_result import Arrays, Files, Removal, finished_before
from .removal_run import Stored, removal_paths
from .remove_options import RemoveOptions
from .scene import Band, Scene

if TYPE_CHECKING:
    from .sensors import BandLike

__all__ = ["Removal", "Restored", "removal_paths", "remove", "restore"]


@dataclass(frozen=True)
class Restored:
    """What :func:`restore` makes; the axes are those of the image.

    Attributes:
        image: reflectance without clouds, (band, y, x) in the image's own type; NaN where the image is missing, or
            hidden where nothing else is known.
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
    runner, notes = network(options, bool(dates))
    radar = _radar(sar, scene, sar_unit)
    job = Job(scene, dates, radar, options, runner, class_plane(mask, scene), date_planes(history_masks, dates))
    if output is None:
        run = job.plan(progress, notes)
        with closing(restored_strips(run.plan, runner, job.scaled(progress))) as strips:
            planes = Arrays.of(run.plan, strips)
        _tell(progress)
        return Removal(run, planes, counts=planes.counts(), seconds=time.perf_counter() - begin)
    folder = Path(output).expanduser()
    if not job.to_do(folder):
        paths = removal_paths(folder, scene.id, quicklook=options.quicklook)
        _tell(progress)
        return finished_before(job.described(), paths, begin)
    run = job.plan(progress, notes)
    with closing(restored_strips(run.plan, runner, job.scaled(progress))) as strips:
        outputs, counts, item = run.write(folder, (Stored.of(strip, run.plan) for strip in strips))
    _tell(progress)
    seconds = time.perf_counter() - begin
    return Removal(run, Files(outputs), counts=counts, seconds=seconds, outputs=outputs, item=item)


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
    runner, notes = network(options, bool(dates))
    job = Job(scene, dates, radar, options, runner, class_plane(mask, scene), date_planes(history_masks, dates))
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


def _radar(
    source: str | os.PathLike[str] | Scene | None, scene: Scene, unit: Literal["decibel", "power"]
) -> Scene | None:
    if source is None or isinstance(source, Scene):
        return source
    from .readers.aligned import open_aligned

    return open_aligned(source, scene, sensor="sentinel1-grd", unit=unit)


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
