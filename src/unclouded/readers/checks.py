"""Can what a product says of itself be meant? The last look at every scene before it is handed out.

Readers check that numbers are numbers; here is what holds for every scene, whichever reader made it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, RadiometryError, printable
from ..radiometry import check_scale
from ..scene import Band, Radiometry, Scene

_UNSAFE = re.compile(r'[/\\:*?"<>|]')
_LONGEST_ID = 150
"""Bytes of a scene's name; most file systems take 255 for a file's, and endings follow."""

_SCALES = {"optical": (1e-10, 10.0)}
_OFFSETS = {"optical": 10.0}
_OTHERS = (1e-10, 1000.0)
"""Limits of scale and of offset. For reflectance, the scale of 32-bit integers is 2e-10, that of decimal numbers 1."""

_ANGLES = {"sun_zenith_deg": (0.0, 180.0), "sun_azimuth_deg": (-360.0, 360.0)}


_KELVIN = (170.0, 420.0)
"""Limits of the 1st and 99th percentile of thermal bands: the coldest cloud has 180 K. Counts of TM's thermal band are
mostly 100 to 150."""


def check_kelvin(values: NDArray[np.float32], record: Radiometry, what: str) -> None:
    """Refuse a thermal band whose values cannot be kelvin.

    Args:
        values: valid values, as ``record`` makes them.
        record: for the message.
        what: the band, for the message.

    Raises:
        RadiometryError: they lie too low or too high.
    """
    if values.size == 0:
        return
    low, high = np.percentile(values, [1, 99], method="nearest")
    if low < _KELVIN[0] or high > _KELVIN[1]:
        raise RadiometryError(
            f"The thermal band {what} reaches from {low:.5g} to {high:.5g} (1st and 99th percentile) with the scale"
            f" {record.scale:g} and the offset {record.offset:g}.",
            expected="Thermal bands are in kelvin, about 200 to 330; a scale of reflectance does not make them so.",
            remedy="Leave the band out with --bands, or open the product with its metadata; if a value marks missing"
            " pixels, name it: --nodata -9999.",
        )


def check_scene(scene: Scene) -> Scene:
    """The scene with a name that files can have.

    Raises:
        InputError: a wavelength, pixel size, time or angle cannot be meant.
        RadiometryError: a scale or offset cannot be meant.
    """
    for band in scene.bands:
        _check_band(band, scene)
        _check_radiometry(band, scene.radiometry[band.name], scene)
        for constant in getattr(scene.sources[band.name], "thermal", None) or ():
            if not 0 < constant < 1e5:
                raise _damaged(scene, f"the thermal constant {constant:g} for band {band.name}", "They are positive.")
    area = scene.geobox.affine.determinant
    if not math.isfinite(area) or area == 0:
        raise _damaged(scene, f"pixels with an area of {area:g}", "Columns and rows lead in two directions.")
    if scene.datetime is not None and not _is_time(scene.datetime):
        raise _damaged(
            scene, f"the time '{scene.datetime}'", "Times are written as in ISO 8601, e.g. 2024-06-01T10:10:31Z."
        )
    for key, (low, high) in _ANGLES.items():
        if key in scene.properties and not low <= scene.properties[key] <= high:
            told = f"{key} = {scene.properties[key]:g}"
            raise _damaged(scene, told, f"It lies between {low:g} and {high:g} degrees.")
    properties = {key: _plain(value) for key, value in scene.properties.items()}
    return replace(scene, id=file_name(scene.id), properties=properties)


def file_name(text: str) -> str:
    """A product's name as part of file names: what no file system takes, and what leads elsewhere, becomes ``_``.

    >>> file_name("LANDSAT/LC08_044034"), file_name("../../x"), file_name("S2B_33TWL_20230820_0_L2A")
    ('LANDSAT_LC08_044034', '_.._x', 'S2B_33TWL_20230820_0_L2A')
    """
    text = _UNSAFE.sub("_", printable(text)).lstrip(". ").rstrip(". ")
    while len(text.encode()) > _LONGEST_ID:
        text = text[:-1]
    return text or "scene"


def _check_band(band: Band, scene: Scene) -> None:
    if not (math.isfinite(band.gsd_m) and band.gsd_m > 0):
        raise _damaged(scene, f"pixels of {band.gsd_m:g} m for band {band.name}", "A pixel has a size.")
    if band.min_nm is not None and band.max_nm is not None and not 0 < band.min_nm < band.max_nm < 1e6:
        raise _damaged(
            scene,
            f"the range from {band.min_nm:g} to {band.max_nm:g} nm for band {band.name}",
            "Wavelengths are positive and rise; STAC gives them in micrometres.",
        )


def _check_radiometry(band: Band, record: Radiometry, scene: Scene) -> None:
    if record.source != "dtype-float":
        check_scale(record.scale, record.offset)
    low, high = _SCALES.get(band.kind, _OTHERS)
    most = _OFFSETS.get(band.kind, _OTHERS[1])
    if not (low <= record.scale <= high and abs(record.offset) <= most):
        raise RadiometryError(
            f"Band {band.name} of {scene.source} has the scale {record.scale:g} and the offset {record.offset:g}, as"
            f" '{record.source}' says.",
            expected=f"Scales lie between {low:g} and {high:g}, offsets between -{most:g} and {most:g}.",
            remedy="Say them with --scale and --offset, or download the product again if its metadata is damaged.",
        )


def _is_time(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return text[4:5] == "-"


def _plain(value: Any) -> Any:
    """Text from metadata may hold anything, see :func:`unclouded.errors.printable`."""
    if isinstance(value, str):
        return printable(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _damaged(scene: Scene, what: str, expected: str) -> InputError:
    return InputError(
        f"{scene.source} has {what}.", expected=expected, remedy="Get the product again; its metadata is damaged."
    )
