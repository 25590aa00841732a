"""What networks tell apart: groups of the seven classes, and labels in terms of these groups.

A label is a set of the seven classes, one bit each (:mod:`unclouded.data.labels`). A group is possible where one of its
members is; a pixel of which nothing is known, or whose classes lie in no group, is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..classes import FOUR_FROM_SEVEN, SEVEN
from ..data import labels as lab
from ..errors import InputError

IGNORED = 255
"""Index of pixels whose group is not certain."""


@dataclass(frozen=True)
class Scheme:
    """What a network tells apart.

    Attributes:
        names: of the groups, in the order of the network's outputs.
        groups: indices into :data:`unclouded.classes.SEVEN` of the members of each.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    def bits(self, sets: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Sets of the seven classes as sets of groups, bit masks of the same shape."""
        return self._bit_table()[sets]

    def index(self, sets: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The group of pixels where it is certain, :data:`IGNORED` elsewhere.

        >>> SCHEMES["cloud"].index(np.array([lab.THIN, lab.CLOUD, lab.NOT_CLOUD, 255], np.uint8)).tolist()
        [1, 1, 0, 255]
        """
        table = np.full(256, IGNORED, np.uint8)
        for mask, groups in enumerate(self._bit_table()):
            if groups and not groups & (groups - 1):
                table[mask] = int(groups).bit_length() - 1
        return table[sets]

    def cloud_groups(self) -> tuple[int, ...]:
        """Groups that are cloud and nothing else; empty where the scheme does not tell cloud from other things."""
        cloud = {SEVEN.index("thin"), SEVEN.index("thick")}
        inside = tuple(index for index, group in enumerate(self.groups) if set(group) <= cloud)
        covered = {one for index in inside for one in self.groups[index]}
        return inside if covered == cloud else ()

    def _bit_table(self) -> NDArray[np.uint8]:
        masks = np.arange(256, dtype=np.uint16)
        table = np.zeros(256, np.uint8)
        for index, group in enumerate(self.groups):
            possible = np.zeros(256, bool)
            for one in group:
                possible |= (masks >> one & 1).astype(bool)
            table[possible] |= np.uint8(1 << index)
        return table


SCHEMES: dict[str, Scheme] = {
    "seven": Scheme(SEVEN, tuple((index,) for index in range(len(SEVEN)))),
    "four": Scheme(("clear", "thick", "thin", "shadow"), FOUR_FROM_SEVEN),
    "three": Scheme(("clear", "shadow", "cloud"), ((0, 1, 2), (5,), (3, 4))),
    "cloud": Scheme(("clear", "cloud"), ((0, 1, 2, 5), (3, 4))),
}
"""``seven`` and ``four`` in the orders of :mod:`unclouded.classes`, ``three`` those of the percentile study's cross
test, ``cloud`` the binary question, whose ``clear`` is everything but cloud. The names are those of a model's card."""


def judged_as(name: str) -> str:
    """The scheme in which a network is scored: the seven classes as the four that they are put out as.

    Most labels do not tell land, water and snow apart; as one class they are certain.
    """
    return "four" if name == "seven" else name


def cloud_certain(sets: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where the label says cloud, 0 where it excludes cloud, :data:`IGNORED` elsewhere and without data."""
    out = np.full(sets.shape, IGNORED, np.uint8)
    out[(sets != 0) & (sets & np.uint8(lab.CLOUD) == 0) & (sets != lab.MISSING)] = 0
    out[(sets != 0) & (sets & np.uint8(~lab.CLOUD & 0xFF) == 0)] = 1
    return out


def class_number(scheme: Scheme, name: str) -> int:
    """Place of a class in a scheme.

    Raises:
        InputError: the scheme does not have it.
    """
    if name not in scheme.names:
        raise InputError(
            f"There is no class '{name}' in this run.",
            expected=f"Its classes are {', '.join(scheme.names)}.",
            remedy="Correct loss.class_weights, or choose other 'classes'.",
        )
    return scheme.names.index(name)
