"""From stored counts to physical values: reflectance, kelvin. Pure functions on arrays and numbers.

Missing pixels are masked before anything is added, nothing is computed in unsigned integers, nothing is clipped:
bright cloud exceeds 1, and dark water may be below 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import InputError, RadiometryError


def to_reflectance(dn: NDArray[Any], scale: float, offset: float, nodata: float | None = None) -> NDArray[np.float32]:
    """Convert stored counts to reflectance: ``dn * scale + offset``.

    Args:
        dn: counts as stored, any shape, any integer or decimal type.
        scale: reflectance per count. Sentinel-2 1e-4; Landsat Collection 2 Level 2 2.75e-5.
        offset: reflectance added after scaling, e.g. -0.1 for an offset of -1000 counts.
        nodata: stored value of missing pixels; None means that only NaN and infinities are missing.

    Returns:
        Reflectance [1], the same shape, float32, NaN where missing. Not clipped.

    Raises:
        RadiometryError: ``scale`` or ``offset`` is not usable.

    Source:
        USGS, Landsat Collection 2 Level 2 scale factors; ESA, Sentinel-2 L1C and L2A product formula.

    >>> to_reflectance(np.uint16([[[0, 2000, 18639]]]), 2.75e-5, -0.2, nodata=0).round(3)
    array([[[   nan, -0.145,  0.313]]], dtype=float32)
    """
    check_scale(scale, offset)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused by who checks ranges
        out = np.multiply(dn, np.float32(scale), dtype=np.float32)
    out += np.float32(offset)
    gone = missing(dn, nodata)
    if gone is not None:
        out[gone] = np.nan
    return out


def missing(dn: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Which stored values are missing; None where none can be.

    NaN and infinities are missing whatever ``nodata`` is. A ``nodata`` that the type cannot hold marks nothing.
    """
    gone: NDArray[np.bool_] | None = None
    if dn.dtype.kind in "fc":
        gone = ~np.isfinite(dn)
    if nodata is None or math.isnan(nodata):
        return gone
    if dn.dtype.kind == "f":
        marked = dn == dn.dtype.type(nodata)
    elif float(nodata).is_integer() and np.iinfo(dn.dtype).min <= nodata <= np.iinfo(dn.dtype).max:
        marked = dn == dn.dtype.type(int(nodata))
    else:
        return gone
    return marked if gone is None else gone | marked


def check_scale(scale: float, offset: float) -> None:
    """Refuse a scale or offset that cannot be meant.

    Raises:
        RadiometryError: the scale is not a positive number, or the offset is not a number or above 1 in size while
            the scale is that of reflectance.

    >>> check_scale(0.0001, -1000)
    Traceback (most recent call last):
        ...
    unclouded.errors.RadiometryError: The offset is -1000 with a scale of 0.0001. The offset is in reflectance and \
added after scaling: offset = counts * scale. Pass --offset -0.1 in place of -1000.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise RadiometryError(
            f"The scale is {scale:g}.",
            expected="It is the reflectance of one count, a positive number.",
            remedy="Pass for example --scale 0.0001.",
        )
    if not math.isfinite(offset) or (scale <= 0.001 and abs(offset) >= 10):
        good = f"{offset * scale:g}" if math.isfinite(offset) else "0"
        raise RadiometryError(
            f"The offset is {offset:g} with a scale of {scale:g}.",
            expected="The offset is in reflectance and added after scaling: offset = counts * scale.",
            remedy=f"Pass --offset {good} in place of {offset:g}.",
        )


def from_quantification(add_offset: float, quantification: float) -> tuple[float, float]:
    """Scale and offset of Sentinel-2: reflectance = (DN + ADD_OFFSET) / QUANTIFICATION_VALUE.

    Args:
        add_offset: RADIO_ADD_OFFSET or BOA_ADD_OFFSET of the band in counts; 0 where the product has no list.
        quantification: QUANTIFICATION_VALUE or BOA_QUANTIFICATION_VALUE.

    Returns:
        (scale, offset) for :func:`to_reflectance`.

    Raises:
        InputError: the quantification value is not positive.

    >>> from_quantification(-1000, 10000)
    (0.0001, -0.1)
    """
    if not quantification > 0:
        raise InputError(
            f"The product's quantification value is {quantification:g}.",
            expected="It is a positive number, 10000 in all products so far.",
            remedy="Download the product again; its metadata is damaged.",
        )
    return 1.0 / quantification, add_offset / quantification


def with_sun(mult: float, add: float, sun_elevation_deg: float) -> tuple[float, float]:
    """Scale and offset of Landsat Level 1: reflectance = (MULT * DN + ADD) / sin(sun elevation).

    Args:
        mult, add: REFLECTANCE_MULT_BAND_x and REFLECTANCE_ADD_BAND_x.
        sun_elevation_deg: SUN_ELEVATION in degrees.

    Raises:
        RadiometryError: the sun is not above the horizon.

    >>> with_sun(2e-5, -0.1, 30.0)
    (4e-05, -0.2)
    """
    if not 0 < sun_elevation_deg <= 90:
        raise RadiometryError(
            f"The sun's elevation is {sun_elevation_deg:g} degrees.",
            expected="Reflectance needs a sun above the horizon.",
            remedy="Use a scene taken by day.",
        )
    sine = math.sin(math.radians(sun_elevation_deg))
    return float(f"{mult / sine:.12g}"), float(f"{add / sine:.12g}")


def from_radiance(
    mult: float, add: float, irradiance: float, distance_au: float, sun_elevation_deg: float
) -> tuple[float, float]:
    """Scale and offset from radiance factors: reflectance = pi * L * d^2 / (ESUN * sin(sun elevation)).

    Args:
        mult, add: radiance = mult * DN + add, in W / (m^2 sr um).
        irradiance: mean solar irradiance of the band at 1 au (ESUN) in W / (m^2 um).
        distance_au: distance of the sun in astronomical units.
        sun_elevation_deg: SUN_ELEVATION in degrees.

    Source:
        Chander, Markham & Helder 2009, Remote Sensing of Environment 113, equation 2.
    """
    factor = math.pi * distance_au**2 / irradiance
    return with_sun(mult * factor, add * factor, sun_elevation_deg)


def brightness_temperature(radiance: NDArray[np.float32], k1: float, k2: float) -> NDArray[np.float32]:
    """Temperature of a black body of that radiance: ``K2 / ln(K1 / L + 1)``, in kelvin.

    Args:
        radiance: W / (m^2 sr um), any shape; zero or less gives NaN.
        k1, k2: thermal constants from the product's metadata.

    Source:
        USGS, Landsat 8-9 Data Users Handbook, section 5.

    >>> brightness_temperature(np.float32([3.342e-4 * 30856 + 0.1]), 774.8853, 1321.0789).round(1)
    array([305.6], dtype=float32)
    """
    safe = np.where(radiance > 0, radiance, np.float32(np.nan))
    return (np.float32(k2) / np.log(np.float32(k1) / safe + np.float32(1.0))).astype(np.float32)


def unknown_scale(source: str, dtype: DTypeLike) -> RadiometryError:
    """The error for integer counts whose scale nothing says."""
    return RadiometryError(
        f"{source} holds {np.dtype(dtype).name} counts, and nothing says how they become reflectance.",
        expected="reflectance = count * scale + offset has to be known: it is never guessed.",
        remedy="Say it with --scale and --offset, e.g. --scale 0.0001 --offset 0 (Sentinel-2 before baseline 04.00),"
        " --scale 0.0001 --offset -0.1 (since then), --scale 0.0000275 --offset -0.2 (Landsat Collection 2 Level 2);"
        " or name the product with --sensor, where its definition fixes the scale.",
    )


CHECKED: tuple[tuple[str, ...], ...] = (
    ("blue",),
    ("red",),
    ("nir08", "nir"),
    ("swir22", "swir16"),
    ("cirrus",),
)
"""Common names of the bands whose darkest pixels tell a wrong offset; the first of each group that a scene has."""

_BELOW, _SHARE = -0.03, 0.02
_SHARE_BLUE = 0.05
"""Correction of the atmosphere takes too much from blue over shade: up to 3 % of a product's pixels."""

_DARKEST = (0.09, 0.13)


def suspicion(samples: Mapping[str, NDArray[np.float32]]) -> str | None:
    """A sentence when reflectances look as if an offset of 0.1 had been forgotten or applied twice, else None.

    Applied twice: in some band more than 2 % of the pixels lie below -0.03, of blue more than 5 %. Forgotten: in every
    band the 1st percentile lies above 0.09, and in the darkest band below 0.13; somewhere in a scene there is shade,
    water, or forest that is dark in at least one band.

    Args:
        samples: valid reflectances of bands in :data:`CHECKED`, by common name.

    Source:
        Tuned on real images of Landsat 5, 7, 8, 9 and Sentinel-2, at the top of the atmosphere and at the surface, and
        measured on them by benchmarks/radiometry_check.py. Of 127 images of 256 pixels and more none raised a false
        alarm (with a confidence of 95 % the rate is below 2.4 %). Of the same images 121 were noticed with the offset
        applied twice (95 %), and 108 without it (85 %), the rest being covered by cloud, snow or bright desert. Of 102
        smaller images none raised a false alarm; 102 and 93 were noticed.

    >>> suspicion({"red": np.float32([-0.06, 0.02, 0.1]), "nir": np.float32([0.1, 0.2, 0.3])})
    '33 % of the pixels of red lie below -0.03: was the offset applied twice?'
    """
    for name, values in samples.items():
        share = float((values < _BELOW).mean()) if values.size else 0.0
        if share > (_SHARE_BLUE if name == "blue" else _SHARE):
            return f"{100 * share:.0f} % of the pixels of {name} lie below {_BELOW}: was the offset applied twice?"
    darkest = {name: float(np.percentile(values, 1)) for name, values in samples.items() if values.size}
    beyond_green = [name for name in darkest if name != "blue"]
    if len(beyond_green) >= 2 and _DARKEST[0] <= min(darkest.values()) <= _DARKEST[1]:
        return (
            f"No band is darker than {min(darkest.values()):.2f} (1st percentile): was an offset of -0.1 forgotten?"
        )
    return None
