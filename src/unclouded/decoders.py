"""Masks that come with products, turned into this project's classes.

Every decoder gives uint8 codes: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow, 255 no data. Where a product
does not tell thick from thin cloud, its cloud becomes thick cloud. Snow, water and dark surfaces are clear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .classes import NO_DATA
from .errors import InputError

_CLEAR, _THICK, _THIN, _SHADOW = 0, 1, 2, 3

_DECODERS: dict[str, Callable[..., NDArray[np.uint8]]] = {}


def decode(product: str, array: ArrayLike, **options: Any) -> NDArray[np.uint8]:
    """Turn a product's own mask into classes.

    Args:
        product: one of :func:`names`:
            ``scl`` Sentinel-2 Level-2A scene classification;
            ``cldprb`` Sentinel-2 Level-2A cloud probability in percent, option ``threshold`` (50);
            ``qa_pixel`` Landsat Collection 2 bit field, option ``dilated`` (False): count dilated cloud as cloud;
            ``fmask`` codes of Fmask 3 and 4; ``python-fmask`` codes of that program;
            ``hls-fmask`` bit field of HLS, option ``adjacent`` (False): count pixels next to cloud or shadow as cloud;
            ``udm2`` PlanetScope usable data mask of 8 bands, (8, y, x).
        array: the mask, integers, (y, x); for ``udm2`` (8, y, x).
        **options: see above.

    Returns:
        Classes, (y, x) uint8.

    Raises:
        InputError: the product is unknown, or the array has values, a shape or a type that the product cannot have.

    >>> decode("scl", [[0, 4, 9, 10, 3]])
    array([[255,   0,   1,   2,   3]], dtype=uint8)
    """
    check_name(product)
    values = np.asarray(array)
    if values.dtype.kind not in "ui":
        raise InputError(
            f"The mask is of type {values.dtype}.",
            expected="Masks are integers.",
            remedy="Read it without scaling; in xarray with mask_and_scale=False.",
        )
    if values.ndim != (3 if product == "udm2" else 2):
        raise InputError(
            f"The mask has the shape {values.shape}.",
            expected="The axes are band, y and x for udm2, and y and x for all others.",
            remedy="Pass a single mask.",
        )
    return _DECODERS[product](values, **options)


def check_name(product: str) -> None:
    """Refuse a product that cannot be decoded.

    Raises:
        InputError: it is none of :func:`names`.
    """
    if product not in _DECODERS:
        raise InputError(
            f"There is no decoder for '{product}'.",
            expected=f"Decoders are {', '.join(names())}.",
            remedy="Choose one of these.",
        )


def names() -> list[str]:
    """Products that can be decoded, sorted.

    >>> names()
    ['cldprb', 'fmask', 'hls-fmask', 'python-fmask', 'qa_pixel', 'scl', 'udm2']
    """
    return sorted(_DECODERS)


def _decoder(name: str) -> Callable[[Callable[..., NDArray[np.uint8]]], Callable[..., NDArray[np.uint8]]]:
    def enter(function: Callable[..., NDArray[np.uint8]]) -> Callable[..., NDArray[np.uint8]]:
        _DECODERS[name] = function
        return function

    return enter


def _look_up(name: str, values: NDArray[Any], codes: dict[int, int]) -> NDArray[np.uint8]:
    table = np.full(256, 254, np.uint8)
    table[list(codes)] = list(codes.values())
    small = values if values.dtype == np.uint8 else np.clip(values, 0, 255).astype(np.uint8)
    out = table[small]
    wrong = (out == 254) | (small != values)
    if wrong.any():
        raise InputError(
            f"The mask holds the code {values[wrong].flat[0]}.",
            expected=f"Codes of {name} are {', '.join(str(code) for code in codes)}.",
            remedy="Check that this is the mask that was named.",
        )
    return out


def _painted(values: NDArray[Any], *layers: tuple[int, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Clear, painted over by each layer in turn."""
    out = np.full(values.shape[-2:], _CLEAR, np.uint8)
    for code, where in layers:
        out[where] = code
    return out


@_decoder("scl")
def _scl(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Source: ESA, Level-2A Algorithm Theoretical Basis Document, table of classes. 1 is saturated or defective."""
    codes = dict.fromkeys((0, 1), NO_DATA) | dict.fromkeys((2, 4, 5, 6, 7, 11), _CLEAR)
    return _look_up("SCL", values, codes | {3: _SHADOW, 8: _THICK, 9: _THICK, 10: _THIN})


@_decoder("cldprb")
def _cldprb(values: NDArray[Any], threshold: float = 50) -> NDArray[np.uint8]:
    if not 0 < threshold <= 100:
        raise InputError(
            f"The threshold is {threshold}.", expected="It is a percentage above 0.", remedy="Pass threshold=50."
        )
    if values.size and (values.min() < 0 or ((values > 100) & (values != NO_DATA)).any()):
        raise InputError(
            f"The mask holds values from {values.min()} to {values.max()}.",
            expected="Cloud probabilities are percentages, and 255 is no data.",
            remedy="Check that this is MSK_CLDPRB.",
        )
    return _painted(values, (_THICK, values >= threshold), (NO_DATA, values == NO_DATA))


@_decoder("qa_pixel")
def _qa_pixel(values: NDArray[Any], dilated: bool = False) -> NDArray[np.uint8]:
    """Source: USGS, Landsat Collection 2 Quality Assessment bands: bit 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud,
    4 cloud shadow."""
    cloud = _bit(values, 3) | (_bit(values, 1) if dilated else False)
    return _painted(
        values, (_SHADOW, _bit(values, 4)), (_THIN, _bit(values, 2)), (_THICK, cloud), (NO_DATA, _bit(values, 0))
    )


@_decoder("fmask")
def _fmask(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Source: Zhu, Wang & Woodcock 2015: 0 land, 1 water, 2 shadow, 3 snow, 4 cloud, 255 fill."""
    return _look_up("Fmask", values, {0: _CLEAR, 1: _CLEAR, 2: _SHADOW, 3: _CLEAR, 4: _THICK, 255: NO_DATA})


@_decoder("python-fmask")
def _python_fmask(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Codes of python-fmask: 0 null, 1 clear, 2 cloud, 3 shadow, 4 snow, 5 water."""
    return _look_up("python-fmask", values, {0: NO_DATA, 1: _CLEAR, 2: _THICK, 3: _SHADOW, 4: _CLEAR, 5: _CLEAR})


@_decoder("hls-fmask")
def _hls_fmask(values: NDArray[Any], adjacent: bool = False) -> NDArray[np.uint8]:
    """Source: NASA, HLS Product User Guide v2.0: bit 0 cirrus, 1 cloud, 2 next to cloud or shadow, 3 shadow."""
    cloud = _bit(values, 1) | (_bit(values, 2) if adjacent else False)
    return _painted(
        values, (_SHADOW, _bit(values, 3)), (_THIN, _bit(values, 0)), (_THICK, cloud), (NO_DATA, values == 255)
    )


@_decoder("udm2")
def _udm2(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Source: Planet, UDM2: bands clear, snow, shadow, light haze, heavy haze, cloud, confidence, unusable."""
    if values.shape[0] != 8:
        raise InputError(
            f"The mask has {values.shape[0]} bands.",
            expected="UDM2 has 8 bands: clear, snow, shadow, light haze, heavy haze, cloud, confidence, unusable.",
            remedy="Read all bands; the older UDM of one band tells no cloud classes.",
        )
    clear, snow, shadow, light, heavy, cloud, _, unusable = values
    known = (clear | snow | shadow | light | heavy | cloud) > 0
    return _painted(
        values,
        (_SHADOW, shadow > 0),
        (_THIN, (light | heavy) > 0),
        (_THICK, cloud > 0),
        (NO_DATA, ~known | _bit(unusable, 0)),
    )


def _bit(values: NDArray[Any], place: int) -> NDArray[np.bool_]:
    return (values >> place & 1).astype(bool)
