"""Scene: a lazy image that carries its bands, grid, radiometry and missing pixels with it.

Arrays never travel without their meaning: a reader makes a Scene, everything after it takes one.
Axes are (band, y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import InputError


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Attributes:
        name: the sensor's own name, e.g. ``B02`` or ``SR_B2``.
        common_name: blue, green, red, nir, swir16, swir22, cirrus, ... (STAC eo names), or None.
        min_nm, max_nm: wavelength range in nanometres; None for SAR and elevation.
        gsd_m: native pixel size in metres.
        kind: ``optical``, ``thermal``, ``sar`` or ``dem``.
    """

    name: str
    common_name: str | None
    min_nm: float | None
    max_nm: float | None
    gsd_m: float
    kind: str = "optical"

    @property
    def centre_nm(self) -> float:
        """Middle of the wavelength range in nanometres.

        Raises:
            InputError: the band has no wavelengths.
        """
        if self.min_nm is None or self.max_nm is None:
            raise InputError(
                f"Band '{self.name}' of kind '{self.kind}' has no wavelengths.",
                expected="Only optical and thermal bands have them.",
                remedy="Leave the band out, or give its range in nanometres.",
            )
        return 0.5 * (self.min_nm + self.max_nm)


@dataclass(frozen=True)
class Radiometry:
    """How the stored numbers of one band become reflectance, and who says so.

    ``reflectance = dn * scale + offset``; ``nodata`` marks missing pixels before scaling.

    Attributes:
        scale: reflectance per count.
        offset: reflectance added after scaling.
        nodata: stored value of missing pixels, or None when only NaN is missing.
        source: ``product-xml``, ``user``, ``stac``, ``sensor`` (fixed by the product's definition), ``array``.
        calibrated: False when the numbers are not reflectance (8-bit pictures and the like).
    """

    scale: float
    offset: float
    nodata: float | None
    source: str
    calibrated: bool = True


class BandSource(Protocol):
    """Where the stored numbers of one band come from."""

    def read(self, geobox: GeoBox, radiometry: Radiometry) -> NDArray[np.float32]:
        """Reflectance on ``geobox``, (y, x) float32, NaN where missing.

        ``geobox`` has the scene's CRS and its pixels are a whole multiple or fraction of the source's.
        """
        ...


@dataclass(frozen=True)
class Scene:
    """One acquisition: bands on one grid, read piece by piece.

    Attributes:
        id: name of the product, without path and suffix.
        sensor: name in the sensor catalogue, e.g. ``sentinel2-l1c``.
        level: ``toa``, ``boa`` or ``counts``.
        bands: bands that are present, in the product's order.
        geobox: finest grid of any band; the grid of the output unless another resolution is asked for.
        radiometry: one record per band name.
        sources: one source per band name.
        source: path or address that was opened.
        datetime: acquisition time, ISO 8601 in UTC, or None.
        properties: what else the product says: processing baseline, sun elevation, ...
        warnings: suspicious findings, for the user and for the output item.
    """

    id: str
    sensor: str
    level: str
    bands: tuple[Band, ...]
    geobox: GeoBox
    radiometry: dict[str, Radiometry]
    sources: dict[str, BandSource] = field(repr=False)
    source: str
    datetime: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def read(self, geobox: GeoBox, bands: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Reflectance on ``geobox``.

        Args:
            geobox: any window of the scene's grid or of a coarser one; :meth:`grid` makes such grids.
            bands: names of the bands wanted, in the order wanted; None means all.

        Returns:
            Reflectance [1], (band, y, x) float32, NaN where missing, not clipped.

        Raises:
            InputError: a band is unknown, or its file cannot be read.
        """
        names = [band.name for band in self.bands] if bands is None else list(bands)
        out = np.empty((len(names), *geobox.shape), np.float32)
        for index, name in enumerate(names):
            if name not in self.sources:
                raise InputError(
                    f"Scene '{self.id}' has no band '{name}'.",
                    expected=f"Its bands are {', '.join(band.name for band in self.bands)}.",
                    remedy="Ask for one of these.",
                )
            out[index] = self.sources[name].read(geobox, self.radiometry[name])
        return out

    def grid(self, resolution_m: float) -> GeoBox:
        """The scene's footprint on pixels of ``resolution_m``; the last row and column may reach beyond it."""
        native = abs(self.geobox.resolution.x)
        factor = resolution_m / native
        rows, cols = (int(np.ceil(round(size / factor, 6))) for size in self.geobox.shape)
        return GeoBox((rows, cols), self.geobox.affine * self.geobox.affine.scale(factor), self.geobox.crs)
