"""Do the files of one product lie on one ground? The finest of their grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from odc.geo.geobox import GeoBox

from ..errors import InputError


def check_grids(grids: Mapping[str, GeoBox], source: str) -> None:
    """Refuse bands that do not belong together.

    Bands may differ in pixel size and may end a pixel earlier or later, but not in reference system, and they have to
    cover the same ground to within one pixel of the coarser.

    Args:
        grids: grid of each band.
        source: product, for messages.

    Raises:
        InputError: two bands differ.
    """
    first, *others = grids
    reference = grids[first]
    for name in others:
        grid = grids[name]
        if grid.crs != reference.crs:
            raise InputError(
                f"Bands {first} and {name} of {source} are in {_name(reference)} and {_name(grid)}.",
                expected="All bands of a scene have one reference system.",
                remedy="Warp them to one grid first: gdalwarp.",
            )
        slack = 1.001 * max(abs(grid.resolution.x), abs(reference.resolution.x))
        here, there = reference.boundingbox, grid.boundingbox
        if max(abs(a - b) for a, b in zip(here.bbox, there.bbox, strict=True)) > slack:
            raise InputError(
                f"Bands {first} and {name} of {source} cover different ground: {_box(reference)} and {_box(grid)}.",
                expected="All bands of a scene cover the same area.",
                remedy="Cut them to one area first: gdalwarp -te, or leave the band out with --bands.",
            )


def finest(grids: Sequence[GeoBox]) -> GeoBox:
    """The grid with the smallest pixels; the first of equals."""
    return min(grids, key=lambda grid: abs(grid.resolution.x))


def _name(grid: GeoBox) -> str:
    return "no reference system" if grid.crs is None else str(grid.crs)


def _box(grid: GeoBox) -> str:
    return "(" + ", ".join(f"{value:g}" for value in grid.boundingbox.bbox) + ")"
