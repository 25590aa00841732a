"""The output classes, and the seven classes that the networks predict.

Output order and codes are those of CloudSEN12: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow,
255 no data. Networks predict seven classes (SEnSeI-v2 order); the four are sums of their probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_DATA = 255
"""Code of pixels without data in class rasters, and in percent rasters."""


@dataclass(frozen=True)
class OutputClass:
    """One class of the mask.

    Attributes:
        value: code in the class raster.
        name: identifier, letters, digits and ``-`` only (STAC classification extension).
        title: text for people.
        color: (red, green, blue), 0..255.
    """

    value: int
    name: str
    title: str
    color: tuple[int, int, int]


CLASSES: tuple[OutputClass, ...] = (
    OutputClass(0, "clear", "Clear", (120, 170, 110)),
    OutputClass(1, "thick-cloud", "Thick cloud", (255, 255, 255)),
    OutputClass(2, "thin-cloud", "Thin cloud", (150, 205, 240)),
    OutputClass(3, "cloud-shadow", "Cloud shadow", (70, 60, 110)),
)
"""Output classes; the position in the tuple is the code and the band order of probabilities."""

NO_DATA_CLASS = OutputClass(NO_DATA, "no-data", "No data", (0, 0, 0))

SEVEN: tuple[str, ...] = ("land", "water", "snow", "thin", "thick", "shadow", "no-data")
"""Order of the networks' seven logits (METHODS B.8)."""

FOUR_FROM_SEVEN: tuple[tuple[int, ...], ...] = ((0, 1, 2), (4,), (3,), (5,))
"""For each output class the seven-class indices whose probabilities are added; no data is dropped."""

OUTPUT_OF: dict[str, int | None] = {
    "clear": 0, "land": 0, "water": 0, "snow": 0, "thick": 1, "cloud": 1, "thin": 2, "shadow": 3, "no-data": None,
}  # fmt: skip
"""Output class of every class that a network may predict. Cloud that is not told apart counts as thick."""


def members(classes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """For each output class the positions in ``classes`` of those whose probabilities are added.

    >>> members(SEVEN) == FOUR_FROM_SEVEN
    True
    >>> members(["clear", "thin", "thick", "shadow"])
    ((0,), (2,), (1,), (3,))
    """
    return tuple(
        tuple(index for index, name in enumerate(classes) if OUTPUT_OF[name] == one.value) for one in CLASSES
    )
