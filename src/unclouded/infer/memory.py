"""Does a scene fit into this machine? Asked before the first row is read, not when the system ends the program."""

from __future__ import annotations

import os

from ..errors import InputError
from .plan import Plan
from .predict import AHEAD, READ_ROWS


def least_bytes(plan: Plan, tile: int) -> int:
    """What masking a scene takes at the least: the rows of a tile, and those read ahead, with the network's scores.

    >>> from types import SimpleNamespace as Some
    >>> grid = Some(shape=Some(y=5000, x=10000))
    >>> least_bytes(Some(model_grid=grid, bands=(1, 2, 3), card=Some(classes=(0,) * 7)), 1024) // 10**6
    424
    """
    height, cols = int(plan.model_grid.shape.y), int(plan.model_grid.shape.x)
    rows, read = min(height, tile), min(height, tile + AHEAD * READ_ROWS)
    return cols * 4 * (read * len(plan.bands) + rows * len(plan.card.classes))


def check_memory(plan: Plan, tile: int) -> None:
    """Refuse a scene whose rows this machine cannot hold.

    A file of some kilobytes may claim millions of columns.

    Raises:
        InputError: it takes more than the machine's whole memory.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not known on every system
        return
    needed = least_bytes(plan, tile)
    if needed > memory > 0:
        raise InputError(
            f"'{plan.scene.id}' is {plan.model_grid.shape.x} pixels wide; rows of that width take {needed / 2**30:.0f}"
            " GiB of memory.",
            expected=f"This machine has {memory / 2**30:.0f} GiB.",
            remedy="Pass a smaller --tile, or cut the image into pieces first: gdal_translate -srcwin.",
        )
