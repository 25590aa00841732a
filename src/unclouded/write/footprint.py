"""Outline of a grid in longitude and latitude, as GeoJSON wants it: cut at the antimeridian, closed over the poles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from odc.geo import geom
from odc.geo.geobox import GeoBox

_POINTS_PER_SIDE = 16
_TOLERANCE = 5e-5  # degrees, about 5 m: points that straight sides do not need are left out
_DECIMALS = 7  # about a centimetre on the ground


def footprint(geobox: GeoBox) -> tuple[dict[str, Any], list[float]] | None:
    """Outline and bounding box of a grid in EPSG:4326.

    Args:
        geobox: the grid.

    Returns:
        A GeoJSON Polygon or MultiPolygon and its bounding box (west, south, east, north) in degrees; west is greater
        than east where the outline crosses the antimeridian. None for a grid without CRS, or one whose outline
        has no place on the globe.

    Source:
        RFC 7946, sections 3.1.6 (right-hand rule), 3.1.9 (cutting) and 5.2 (bounding boxes).

    >>> from affine import Affine
    >>> outline, box = footprint(GeoBox((2, 2), Affine(1, 0, 179, 0, -1, 1), "EPSG:4326"))
    >>> outline["type"], box
    ('MultiPolygon', [179.0, -1.0, -179.0, 1.0])
    """
    if geobox.crs is None:
        return None
    ring = _ring(geobox)
    if not np.isfinite(ring).all():
        return None
    # Steps of more than half the globe are steps over the antimeridian.
    ring[:, 0] = np.rad2deg(np.unwrap(np.deg2rad(ring[:, 0])))
    turns = round((ring[-1, 0] - ring[0, 0]) / 360.0)
    if turns:
        # The outline goes round a pole: it is closed along that pole, which is an edge of the map.
        pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
        ends = np.array([[ring[-1, 0], pole], [ring[0, 0], pole]])
        ring = np.concatenate([ring, ends, ring[:1]])
    ring[:, 0] -= 360.0 * np.floor((ring[:, 0].min() + 180.0) / 360.0)
    sheets = _cut([(float(lon), float(lat)) for lon, lat in ring])
    parts = [part for sheet in sheets for part in sheet]
    if not parts:
        return None
    coordinates = [[_oriented(part)] for part in parts]
    south = min(point[1] for part in parts for point in part)
    north = max(point[1] for part in parts for point in part)
    west = min(point[0] for part in (sheets[0] or sheets[1]) for point in part)
    east = max(point[0] for part in (sheets[1] or sheets[0]) for point in part)
    if np.ptp(ring[:, 0]) > 360.0 - 1e-6:  # all longitudes
        west, east = -180.0, 180.0
    if len(coordinates) == 1:
        outline: dict[str, Any] = {"type": "Polygon", "coordinates": coordinates[0]}
    else:
        outline = {"type": "MultiPolygon", "coordinates": coordinates}
    return outline, [west, south, east, north]


def _ring(geobox: GeoBox) -> np.ndarray:
    """Closed outline with points along its sides, (point, lon and lat) in degrees."""
    rows, cols = geobox.shape
    steps = np.linspace(0.0, 1.0, _POINTS_PER_SIDE + 1)[:-1]
    corners = ((0, 0), (0, rows), (cols, rows), (cols, 0), (0, 0))
    pixel = np.concatenate(
        [np.outer(1 - steps, start) + np.outer(steps, end) for start, end in pairwise(corners)] + [[corners[0]]]
    )
    to_map = geobox.affine
    x = to_map.a * pixel[:, 0] + to_map.b * pixel[:, 1] + to_map.c
    y = to_map.d * pixel[:, 0] + to_map.e * pixel[:, 1] + to_map.f
    assert geobox.crs is not None
    if geobox.crs.geographic:
        return np.stack([x, y], axis=1)
    lon, lat = geobox.crs.transformer_to_crs("EPSG:4326", always_xy=True)(x, y)
    return np.stack([lon, lat], axis=1)


def _cut(ring: list[tuple[float, float]]) -> list[list[list[tuple[float, float]]]]:
    """Pieces of a ring west and east of the antimeridian; its longitudes start in -180..180 and may run on to 540."""
    whole = geom.polygon(ring, None).simplify(_TOLERANCE)
    sheets: list[list[list[tuple[float, float]]]] = []
    for shift in (0.0, 360.0):
        parts = []
        map_sheet = geom.box(-180.0 + shift, -90.0, 180.0 + shift, 90.0, None)
        common = whole & map_sheet
        pieces = list(common.geoms) if common.is_multi else [common]
        for piece in pieces:
            if piece.geom_type == "Polygon" and not piece.is_empty:
                points = [(round(x - shift, _DECIMALS), round(y, _DECIMALS)) for x, y in piece.exterior.points]
                parts.append(points)
        sheets.append(parts)
    return sheets


def _oriented(ring: list[tuple[float, float]]) -> list[list[float]]:
    """The ring counterclockwise, as GeoJSON wants exteriors."""
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
    return [list(point) for point in (ring if area >= 0 else ring[::-1])]
