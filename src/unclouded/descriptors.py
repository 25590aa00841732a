"""What the network is told about each band: fixed slots by wavelength, or SEnSeI-v2 descriptors.

Shapes
    b  bands of this scene        s  slots        d  descriptor length

Both kinds are (b, d) float32 matrices that travel with the pixels, so that band order never matters.
Source: SEnSeI-v2 (Francis, IEEE TGRS 2024), Fig. 1 and its reference configuration for the vector of 74.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .scene import Band

PERCENTILES = (1.0, 10.0, 50.0, 90.0, 99.0)
"""Percentiles of each band over the scene's valid pixels that follow the 74 descriptor entries."""

WAVELENGTH_ENTRIES = 32
DESCRIPTOR_LENGTH = 74
V1_DESCRIPTOR_LENGTH = 3


@dataclass(frozen=True)
class Slot:
    """A fixed input of the canonical-slot front end: bands whose centre lies in the range go there."""

    name: str
    centre_nm: float
    min_nm: float
    max_nm: float


SLOTS: tuple[Slot, ...] = (
    Slot("coastal", 443, 400, 455),
    Slot("blue", 490, 455, 520),
    Slot("green", 560, 520, 600),
    Slot("red", 660, 600, 690),
    Slot("rededge", 740, 690, 790),
    Slot("nir", 850, 790, 910),
    Slot("watervapour", 945, 910, 1000),
    Slot("cirrus", 1375, 1330, 1420),
    Slot("swir16", 1610, 1500, 1760),
    Slot("swir22", 2200, 2000, 2400),
)
"""The slots, in input order. Ranges are half open and cover the usual bands of every optical sensor."""


def slot_index(band: Band) -> int | None:
    """Slot of a band, or None where the band has no slot (thermal, SAR, elevation, panchromatic).

    >>> SLOTS[slot_index(Band("B8A", "nir08", 847.5, 880.5, 20.0))].name
    'nir'
    >>> slot_index(Band("B8", "pan", 503.0, 676.0, 15.0)) is None
    True
    """
    if band.kind != "optical" or band.min_nm is None or band.max_nm is None:
        return None
    # Panchromatic bands, of 190 nm (OLI) and more, would pass for one colour: they cover green and red alike.
    if band.max_nm - band.min_nm > 300.0 or (band.min_nm <= 560.0 and band.max_nm >= 660.0):
        return None
    for index, slot in enumerate(SLOTS):
        if slot.min_nm <= band.centre_nm < slot.max_nm:
            return index
    return None


def slot_weights(bands: Sequence[Band]) -> NDArray[np.float32]:
    """Share of each band in each slot, (b, s) float32; the columns of filled slots sum to 1.

    Several bands in one slot are averaged, so that the result does not depend on their order.

    Raises:
        InputError: fewer than two slots are filled.
    """
    weights = np.zeros((len(bands), len(SLOTS)), np.float32)
    for row, band in enumerate(bands):
        column = slot_index(band)
        if column is not None:
            weights[row, column] = 1.0
    filled = weights.sum(axis=0)
    if np.count_nonzero(filled) < 2:
        named = ", ".join(f"{band.name} ({band.kind})" for band in bands) or "none"
        raise InputError(
            f"The bands {named} fill {np.count_nonzero(filled)} of the model's inputs.",
            expected="Two or more optical bands of different wavelength are needed.",
            remedy="Name more bands, for example --bands blue=1,green=2,red=3.",
        )
    return weights / np.maximum(filled, 1.0)


def encode_wavelength(
    wavelength_nm: float, encoding: Literal["nm", "log", "log-literal"] = "log"
) -> NDArray[np.float32]:
    """Sinusoidal encoding of one wavelength, (32,) float32; sine at even, cosine at odd entries.

    Args:
        wavelength_nm: wavelength in nanometres, above 300.
        encoding: ``nm`` takes plain nanometres with frequencies 10000^(-2i/32), as the released models do.
            ``log`` takes log10(wavelength - 300) - 2 with a geometric ladder from 2 pi 32 down to 1 rad per unit.
            ``log-literal`` takes the same variable with the paper's printed ladder 10000^(-2i/32), i = 1..32,
            most of whose entries hardly vary.

    Raises:
        InputError: the wavelength is 300 nm or less.

    Source:
        SEnSeI-v2, section on descriptors; the corrected ladder is ours.
    """
    if not wavelength_nm > 300.0:
        raise InputError(
            f"A band edge lies at {wavelength_nm} nm.",
            expected="Wavelengths have to be above 300 nm.",
            remedy="Give band ranges in nanometres, e.g. 459-525 for blue.",
        )
    index = np.arange(WAVELENGTH_ENTRIES, dtype=np.float64)
    if encoding == "nm":
        phase = wavelength_nm * 10000.0 ** (-2.0 * index / WAVELENGTH_ENTRIES)
    else:
        position = np.log10(max(wavelength_nm - 300.0, 1.0)) - 2.0
        if encoding == "log":
            phase = position * np.geomspace(2.0 * np.pi * 32.0, 1.0, WAVELENGTH_ENTRIES)
        else:
            phase = position * 10000.0 ** (-2.0 * (index + 1.0) / WAVELENGTH_ENTRIES)
    return np.where(index % 2 == 0, np.sin(phase), np.cos(phase)).astype(np.float32)


def sensei_descriptor(
    band: Band | None, encoding: Literal["nm", "log", "log-literal"] = "log", multitemporal: bool = False
) -> NDArray[np.float32]:
    """Descriptor of one band, (74,) float32; ``None`` describes a padding band and gives zeros.

    Entries 0-31 and 32-63 encode the lower and upper wavelength, 64 marks optical or thermal, 65 SAR, 66 elevation,
    67 thermal, 73 a band of several dates (``multitemporal``). SAR bands reuse 0-63: VV sets 0-31, VH sets 32-63, the
    incidence angle sets both.

    Raises:
        InputError: the kind of the band is unknown, or a SAR band is neither vv, vh nor angle.
    """
    out = np.zeros(DESCRIPTOR_LENGTH, np.float32)
    if band is None:
        return out
    out[73] = float(multitemporal)
    if band.kind in ("optical", "thermal"):
        if band.min_nm is None or band.max_nm is None:
            _ = band.centre_nm  # raises with the band's name
        else:
            out[:32] = encode_wavelength(band.min_nm, encoding)
            out[32:64] = encode_wavelength(band.max_nm, encoding)
        out[64] = 1.0
        out[67] = float(band.kind == "thermal")
    elif band.kind == "sar":
        name = (band.common_name or band.name).lower()
        if name not in ("vv", "vh", "angle"):
            raise InputError(
                f"The SAR band is called '{band.name}'.",
                expected="SAR bands are vv, vh or angle.",
                remedy="Rename the band.",
            )
        out[:32] = float(name in ("vv", "angle"))
        out[32:64] = float(name in ("vh", "angle"))
        out[65] = 1.0
    elif band.kind == "dem":
        out[66] = 1.0
    else:
        raise InputError(
            f"Band '{band.name}' is of kind '{band.kind}'.",
            expected="Kinds are optical, thermal, sar and dem.",
            remedy="Correct the band's kind.",
        )
    return out


def sensei_descriptors(
    bands: Sequence[Band],
    percentiles: NDArray[np.float32] | None,
    encoding: Literal["nm", "log", "log-literal"] = "log",
) -> NDArray[np.float32]:
    """Descriptors of all bands, followed by the scene's percentiles, (b, 74) or (b, 79) float32.

    Args:
        bands: the bands, in any order.
        percentiles: (b, 5) values at :data:`PERCENTILES` over the scene's valid pixels, or None for none.
        encoding: see :func:`encode_wavelength`.
    """
    rows = np.stack([sensei_descriptor(band, encoding) for band in bands])
    if percentiles is None:
        return rows
    return np.concatenate([rows, np.asarray(percentiles, np.float32)], axis=1)


def sensei_v1_descriptors(bands: Sequence[Band | None]) -> NDArray[np.float32]:
    """Descriptors of SEnSeI-v1, (b, 3) float32: ln(wavelength - 300) - 2 of lower edge, centre and upper edge.

    ``None`` describes a padding band and gives zeros.

    Raises:
        InputError: a band has no wavelengths, or one at 300 nm or less.

    Source:
        SEnSeI (Francis et al., IEEE TGRS 2021), with the natural logarithm.

    >>> sensei_v1_descriptors([Band("B02", "blue", 446.0, 542.0, 10.0)]).round(3)
    array([[2.984, 3.268, 3.489]], dtype=float32)
    """
    out = np.zeros((len(bands), V1_DESCRIPTOR_LENGTH), np.float32)
    for row, band in enumerate(bands):
        if band is None:
            continue
        centre = band.centre_nm
        edges = np.array([band.min_nm, centre, band.max_nm], np.float64)
        if not edges.min() > 300.0:
            raise InputError(
                f"Band '{band.name}' has an edge at {edges.min():g} nm.",
                expected="Wavelengths have to be above 300 nm.",
                remedy="Give band ranges in nanometres, e.g. 459-525 for blue.",
            )
        out[row] = np.log(edges - 300.0) - 2.0
    return out


def scene_percentiles(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Percentiles of every band over its valid pixels, (b, 5) float32; zeros for a band without any.

    Args:
        image: reflectance of the whole scene at overview resolution, (band, y, x), NaN where missing.
    """
    out = np.zeros((image.shape[0], len(PERCENTILES)), np.float32)
    for row, band in enumerate(image):
        values = band[np.isfinite(band)]
        if values.size:
            out[row] = np.percentile(values, PERCENTILES)
    return out
