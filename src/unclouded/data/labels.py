"""Labels as sets of possible classes, one bit per class of :data:`unclouded.classes.SEVEN`.

A binary label "cloud" is the set {thin, thick}; "not cloud" is {land, water, snow, shadow}; an empty set is ignored.
Source: the label mapping of SEnSeI-v2 (METHODS B.8).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..classes import SEVEN
from ..errors import InputError


def bits(*classes: str) -> int:
    """The set of the named classes as a bit mask.

    >>> bits("thin", "thick")
    24
    """
    return sum(1 << SEVEN.index(name) for name in set(classes))


def class_names(mask: int) -> str:
    """The classes of a set by name, joined with ``|``.

    >>> class_names(bits("thin", "thick"))
    'thin|thick'
    """
    return "|".join(name for bit, name in enumerate(SEVEN) if mask >> bit & 1)


IGNORED = 0
CLEAR = bits("land", "water", "snow")
CLOUD = bits("thin", "thick")
SHADOW = bits("shadow")
THIN = bits("thin")
THICK = bits("thick")
NOT_CLOUD = CLEAR | SHADOW
MISSING = bits("no-data")

FOUR = np.array([CLEAR, THICK, THIN, SHADOW], np.uint8)
"""Sets of the project's four output classes, by class code."""


def to_sets(
    codes: NDArray[np.integer], table: Mapping[int, int], source: str = "The label raster"
) -> NDArray[np.uint8]:
    """Label codes to sets of classes.

    Args:
        codes: label raster, (y, x) integer.
        table: set (bit mask) for every code that may occur.
        source: what holds the codes, to name it in an error.

    Returns:
        Bit masks, (y, x) uint8.

    Raises:
        InputError: a code occurs that the table does not know.
    """
    out = np.zeros(codes.shape, np.uint8)
    known = np.zeros(codes.shape, bool)
    for code, mask in table.items():
        here = codes == code
        out[here] = mask
        known |= here
    if not known.all():
        strange = sorted(int(code) for code in np.unique(codes[~known]))
        raise InputError(
            f"{source} holds the codes {strange}.",
            expected=f"Known codes are {sorted(table)}.",
            remedy="Check that the raster belongs to this data set, or extend its table.",
        )
    return out
