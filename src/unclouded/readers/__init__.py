"""Readers: from a product to a Scene. One file per kind of product, each registering itself.

``open_scene(source)`` asks the readers in the order of their ``rank`` which of them knows the source. A new reader is
one new file in this folder with a class under ``@register``; nothing else has to be edited.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import sensors
from ..errors import InputError, RadiometryError, RadiometryWarning
from ..radiometry import CHECKED, check_scale, suspicion

if TYPE_CHECKING:
    from ..scene import Radiometry, Scene

_FEWEST = 5000
"""Pixels below which the radiometry is not checked: too few to tell."""

_LEVELS = ("toa", "boa", "counts")


@dataclass(frozen=True)
class Request:
    """What the caller says about a source; None means that the source has to say it.

    Attributes:
        sensor: name in the sensor catalogue.
        bands: names in the file's order, or the bands wanted of a product that names its own; or name -> number of
            the band in the file, from 1.
        scale, offset: ``reflectance = count * scale + offset``.
        nodata: stored value of missing pixels.
        level: ``toa``, ``boa`` or ``counts``.
        resolution_m: pixel size in metres, for images whose grid does not say it.
    """

    sensor: str | None = None
    bands: Sequence[str] | Mapping[str, int] | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    level: str | None = None
    resolution_m: float | None = None

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in _LEVELS:
            raise InputError(
                f"The level is '{self.level}'.",
                expected=f"Levels are {', '.join(_LEVELS)}.",
                remedy="Pass --level toa for reflectance at the top of the atmosphere, boa for surface reflectance.",
            )
        if self.sensor is not None:
            sensors.load(self.sensor)
        if self.resolution_m is not None and not self.resolution_m > 0:
            raise InputError(
                f"The pixel size is {self.resolution_m} m.",
                expected="It has to be a positive number of metres.",
                remedy="Pass for example --resolution 10.",
            )
        if isinstance(self.bands, str):
            sensors.resolve_bands(self.bands)  # raises: text in place of a list
        if self.bands is not None and not self.bands:
            raise InputError(
                "No bands are named.", expected="At least one band is needed.", remedy="Pass --bands red=1,green=2."
            )

    def radiometry(
        self, known: Radiometry | None, nodata: float | None = None, *, kind: str = "optical"
    ) -> Radiometry | None:
        """What the product says, with what the caller says over it; None where the scale stays unknown.

        Args:
            known: as the product says it, or None.
            nodata: stored value of missing pixels where nothing else is known of the product.
            kind: kind of the band. The caller's scale and offset are those of reflectance: a thermal band whose own are
                known keeps them.

        Raises:
            RadiometryError: only one of scale and offset is given where both are needed.
        """
        from ..scene import Radiometry

        if known is not None:
            nodata = known.nodata
        if self.nodata is not None:
            nodata = self.nodata
        if (self.scale is None and self.offset is None) or (kind == "thermal" and known is not None):
            if known is None or nodata == known.nodata:
                return known
            return Radiometry(known.scale, known.offset, nodata, known.source, known.calibrated)
        scale = self.scale if self.scale is not None else (known.scale if known else None)
        if scale is None:
            raise RadiometryError(
                f"The offset {self.offset:g} is given without a scale, and the file does not say one.",
                expected="reflectance = count * scale + offset needs both.",
                remedy="Pass --scale too, e.g. --scale 0.0001.",
            )
        if self.offset is None and known is not None and known.offset != 0 and known.calibrated:
            raise RadiometryError(
                f"The scale {self.scale:g} is given without offset, and the product has the offset {known.offset:g}.",
                expected="Scale and offset belong together.",
                remedy=f"Pass both: --scale {self.scale:g} --offset 0, or --offset {known.offset:g}.",
            )
        offset = self.offset if self.offset is not None else 0.0
        check_scale(scale, offset)
        return Radiometry(scale, offset, nodata, "user")

    def wanted(self, present: Sequence[str], sensor: sensors.Sensor | None, product: str) -> list[str]:
        """Of the bands that a product has, those that the caller wants, in the caller's order.

        Raises:
            InputError: bands are numbered although the product names them, or a band is unknown, doubled or missing.
        """
        if self.bands is None:
            return list(present)
        if isinstance(self.bands, Mapping):
            raise InputError(
                f"Band numbers are given for {product}.",
                expected="This product names its bands itself.",
                remedy=f"Pass names only, e.g. --bands {','.join(list(present)[:3])}.",
            )
        if sensor is None:
            names = [str(name) for name in self.bands]
        else:
            names = [band.name for band in sensors.resolve_bands(self.bands, sensor)]
        absent = [name for name in names if name not in present]
        if absent:
            raise InputError(
                f"{product} has no file for band {', '.join(absent)}.",
                expected=f"It has {', '.join(present)}.",
                remedy="Leave the band out, or download the product again.",
            )
        return names


class Reader(ABC):
    """One kind of product.

    Attributes:
        name: identifier.
        title: text for people.
        rank: readers of low rank are asked first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    rank: ClassVar[int] = 50

    @abstractmethod
    def matches(self, source: Any) -> bool:
        """Whether this reader knows the source; cheap, and never raises."""

    @abstractmethod
    def open(self, source: Any, request: Request) -> Scene:
        """Make the scene. Pixels are not read yet, but every file is looked at."""


_REGISTRY: dict[str, Reader] = {}
_ReaderType = TypeVar("_ReaderType", bound=type[Reader])


def register(reader: _ReaderType) -> _ReaderType:
    """Class decorator that enters a reader."""
    taken = _REGISTRY.get(reader.name)
    if taken is not None and type(taken).__module__ != reader.__module__:
        raise InputError(
            f"The reader name '{reader.name}' is taken by {type(taken).__module__}.",
            expected="Names of readers are unique.",
            remedy=f"Choose another name in {reader.__module__}.",
        )
    _REGISTRY[reader.name] = reader()
    return reader


def readers() -> list[Reader]:
    """All readers, in the order in which they are asked."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY.values(), key=lambda reader: (reader.rank, reader.name))


def open_scene(
    source: Any,
    *,
    sensor: str | None = None,
    bands: Sequence[str] | Mapping[str, int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: str | None = None,
    resolution_m: float | None = None,
) -> Scene:
    """Open a satellite product or image; pixels are read later, piece by piece.

    Args:
        source: path of a Sentinel-2 SAFE folder or zip, a raster file, ...; ``~`` is the home folder. A Scene is
            returned as it is.
        sensor: name in the sensor catalogue; None means that the product says it.
        bands: for products that name their bands, those wanted. For other images the name of each band in the file's
            order, or name -> number from 1.
        scale, offset: ``reflectance = count * scale + offset``, where the product does not say it or is to be
            overruled.
        nodata: stored value of missing pixels.
        level: ``toa`` or ``boa`` reflectance, or ``counts``; None means what the product or sensor says.
        resolution_m: pixel size in metres of an image without georeference.

    Returns:
        The scene.

    Raises:
        InputError: the source does not exist, is damaged, or is of no known kind.
        RadiometryError: nothing says how counts become reflectance, or which level it is.
    """
    from ..scene import Scene
    from .checks import check_scene

    request = Request(sensor, bands, scale, offset, nodata, level, resolution_m)
    if isinstance(source, Scene):
        return source
    if isinstance(source, (str, os.PathLike)):
        source = _place(os.fspath(source))
    for reader in readers():
        if reader.matches(source):
            return _checked(_with_saturation(check_scene(reader.open(source, request))))
    known = "; ".join(reader.title for reader in readers())
    raise InputError(
        f"{source if isinstance(source, (str, Path)) else type(source).__name__} is of no known kind.",
        expected=f"Known are: {known}.",
        remedy="Pass the product's own folder or file.",
    )


def describe(source: Any, **reading: Any) -> tuple[dict[str, Any], Scene | None]:
    """What is recognised in a source.

    Args:
        source: see :func:`open_scene`; a product whose images are missing is described by its metadata.
        **reading: the options of :func:`open_scene`.

    Returns:
        The description, see :meth:`unclouded.scene.Scene.describe`, and the scene, None where images are missing.

    Raises:
        InputError, RadiometryError: see :func:`open_scene`.
    """
    from .no_images import NoImages

    try:
        scene = open_scene(source, **reading)
    except NoImages as err:
        if not err.description["bands"]:
            raise
        return dict(err.description), None
    return scene.describe(), scene


def _with_saturation(scene: Scene) -> Scene:
    """The scene, with the sensor's saturation value in the records of bands that hold counts."""
    if scene.sensor not in sensors.names():
        return scene
    value = sensors.load(scene.sensor).saturated
    records = {}
    for band in scene.bands:
        dtype = np.dtype(getattr(scene.sources[band.name], "dtype", np.float32))
        holds = value is not None and dtype.kind in "ui" and value <= np.iinfo(dtype).max and band.kind == "optical"
        records[band.name] = replace(scene.radiometry[band.name], saturated=value if holds else None)
    return replace(scene, radiometry=records)


def _checked(scene: Scene) -> Scene:
    """The scene, with a warning when its reflectances look as if the offset were wrong."""
    if not all(record.calibrated for record in scene.radiometry.values()):
        return scene
    by_common_name = {band.common_name: band.name for band in reversed(scene.bands)}
    chosen = {}
    for group in CHECKED:
        common = next((name for name in group if name in by_common_name), None)
        if common is not None and hasattr(scene.sources[by_common_name[common]], "sample"):
            chosen[common] = by_common_name[common]
    with ThreadPoolExecutor(max(1, len(chosen)), "unclouded-check") as pool:

        def sample(name: str) -> NDArray[np.float32]:
            source: Any = scene.sources[name]
            return np.asarray(source.sample(scene.radiometry[name]))

        samples = dict(zip(chosen, pool.map(sample, chosen.values()), strict=True))
    if sum(values.size for values in samples.values()) < _FEWEST:
        return scene
    note = suspicion(samples)
    if note is None:
        return scene
    note = f"{note} See where scale and offset come from: unclouded info."
    warnings.warn(note, RadiometryWarning, stacklevel=3)
    return replace(scene, warnings=(*scene.warnings, note))


def _place(text: str) -> str | Path:
    """An address as it is, a path with ``~`` resolved."""
    if "://" in text or text.startswith("/vsi"):
        return text
    path = Path(text).expanduser()
    if not path.exists():
        raise InputError(
            f"{text} does not exist.",
            expected="A file or folder with a satellite scene is expected.",
            remedy="Check the path.",
        )
    return path
