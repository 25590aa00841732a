"""A scene without its clouds, in memory or in files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .infer.remove import RestoredStrip
from .infer.remove_plan import RemovalPlan
from .models.card import ModelCard
from .removal_run import NO_ERROR, Run, Stored, losses, removal_paths

if TYPE_CHECKING:
    import pystac
    import xarray


class Arrays:
    """A result in memory."""

    def __init__(self, image: NDArray[Any], provenance: NDArray[np.uint8], error: NDArray[np.uint16]) -> None:
        self._image, self._provenance, self._error = image, provenance, error

    @classmethod
    def of(cls, plan: RemovalPlan, strips: Iterable[RestoredStrip]) -> Arrays:
        out = cls(
            np.empty((len(plan.names), *plan.shape), plan.encoding.dtype),
            np.empty(plan.shape, np.uint8),
            np.empty(plan.shape, np.uint16),
        )
        for strip in (Stored.of(one, plan) for one in strips):
            rows = slice(strip.first, strip.first + strip.provenance.shape[0])
            out._image[:, rows], out._provenance[rows], out._error[rows] = strip.image, strip.provenance, strip.error
        return out

    def image(self) -> NDArray[Any]:
        """(band, y, x) as stored."""
        return self._image

    def provenance(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._provenance

    def error(self) -> NDArray[np.uint16]:
        """(y, x) ten-thousandths of reflectance, 65535 where missing."""
        return self._error

    def counts(self) -> dict[int, int]:
        """Pixels of each code."""
        from .write.stac_removal import PROVENANCE

        found = np.bincount(self._provenance.ravel(), minlength=256)
        return {code: int(found[code]) for code in PROVENANCE}


class Files:
    """A result in files, read when it is asked for."""

    def __init__(self, outputs: Mapping[str, Path]) -> None:
        self._outputs = outputs

    def image(self) -> NDArray[Any]:
        """(band, y, x) as stored."""
        return self._read("restored")

    def provenance(self) -> NDArray[np.uint8]:
        """(y, x) codes."""
        return self._read("restored_provenance")[0]

    def error(self) -> NDArray[np.uint16]:
        """(y, x) ten-thousandths of reflectance, 65535 where missing."""
        return self._read("restored_uncertainty")[0]

    def _read(self, product: str) -> NDArray[Any]:
        import rasterio

        from .raster_files import environment, read_errors

        path = str(self._outputs[product])
        with read_errors(path), environment(path), rasterio.open(path) as file:
            values: NDArray[Any] = file.read()
            return values


class Removal:
    """One scene without its clouds.

    Attributes:
        counts: pixels of each code of provenance: 0 observed, 1 rebuilt, 2 from another date, 255 no data.
        outputs: files by product: ``restored``, ``restored_provenance``, ``restored_uncertainty``, ``item``; empty
            while the result is only in memory.
        seconds: time that it took.
    """

    def __init__(
        self,
        run: Run,
        planes: Arrays | Files,
        *,
        counts: Mapping[int, int],
        seconds: float,
        outputs: Mapping[str, Path] | None = None,
        item: pystac.Item | None = None,
    ) -> None:
        self._run, self._planes, self._item = run, planes, item
        self.counts, self.outputs, self.seconds = dict(counts), dict(outputs or {}), seconds

    @property
    def id(self) -> str:
        """Name of the scene."""
        return self._run.plan.scene.id

    @property
    def model(self) -> ModelCard | None:
        """Card of the network, None where there was none."""
        return self._run.plan.card

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the result has."""
        return self._run.plan.names

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may make the result less good than usual."""
        return (*self._run.warnings, *losses(self._run.plan, self.counts))

    @property
    def geobox(self) -> GeoBox:
        """Grid of the result."""
        return self._run.plan.grid

    @property
    def replaced_percent(self) -> float | None:
        """Share of the pixels with data that were rebuilt or taken from another date, in percent; None without data."""
        made = self.counts[1] + self.counts[2]
        valid = self.counts[0] + made
        return 100.0 * made / valid if valid else None

    @cached_property
    def image(self) -> xarray.DataArray:
        """Reflectance without clouds, (band, y, x) float32, NaN without data."""
        encoding = self._run.plan.encoding
        stored = self._planes.image().astype(np.float32)
        if encoding.nodata is None:
            stored[:, self._planes.provenance() == 255] = np.nan
        elif not np.isnan(encoding.nodata):
            stored[stored == encoding.nodata] = np.nan
        return self._labelled(
            encoding.reflectance(stored), "image", {"long_name": "reflectance", "units": "1"}, ("band", self.bands)
        )

    @cached_property
    def stored(self) -> xarray.DataArray:
        """The same as counts, (band, y, x) in the scene's own type: what the file holds."""
        nodata = self._run.plan.encoding.nodata
        attrs = {"long_name": "stored counts"} | ({} if nodata is None else {"nodata": nodata, "_FillValue": nodata})
        return self._labelled(self._planes.image(), "stored", attrs, ("band", self.bands))

    @cached_property
    def provenance(self) -> xarray.DataArray:
        """Where each pixel comes from, (y, x) uint8."""
        from .write.stac_removal import PROVENANCE

        attrs = {
            "long_name": "provenance",
            "flag_values": list(PROVENANCE),
            "flag_meanings": " ".join(name for name, _ in PROVENANCE.values()),
        }
        return self._labelled(self._planes.provenance(), "provenance", attrs)

    @cached_property
    def uncertainty(self) -> xarray.DataArray:
        """Expected absolute error in reflectance, mean over the bands, (y, x) float32; 0 where observed."""
        from .write.stac_removal import ERROR_SCALE

        stored = self._planes.error()
        values = np.where(stored == NO_ERROR, np.nan, stored * ERROR_SCALE).astype(np.float32)
        return self._labelled(values, "uncertainty", {"long_name": "expected absolute error", "units": "1"})

    @property
    def item(self) -> pystac.Item:
        """STAC item of the result; it names files once they are written."""
        if self._item is None:
            self._item = self._run.item({}, self.counts, losses(self._run.plan, self.counts))
        return self._item

    def save(self, folder: str | Path, *, overwrite: bool = False, resume: bool = False) -> pystac.Item:
        """Write image, provenance, uncertainty and STAC item.

        Args:
            folder: output folder, made if it does not exist.
            overwrite: replace existing output.
            resume: keep existing, complete output of the same run.

        Returns:
            The item, also written as ``<id>_restored.json``.

        Raises:
            OutputError: output exists and ``overwrite`` was not asked for, or the folder cannot be written to.
        """
        from .write.resume import plan_files

        target = Path(folder).expanduser()
        paths = removal_paths(target, self.id, quicklook=self._run.plan.options.quicklook)
        if plan_files(
            target, self.id, paths, list(paths.values()), self._run.fingerprint, overwrite=overwrite, resume=resume
        ):
            whole = Stored(0, self._planes.image(), self._planes.provenance(), self._planes.error())
            outputs, _, item = self._run.write(target, [whole])
            self.outputs, self._item = outputs, item
        return self.item

    def _labelled(
        self, values: NDArray[Any], name: str, attrs: dict[str, Any], first: tuple[str, Sequence[str]] | None = None
    ) -> xarray.DataArray:
        from .labelled import labelled

        return labelled(values, self.geobox, name=name, attrs=attrs, first_axis=first)

    def __repr__(self) -> str:
        share = self.replaced_percent
        told = "no data" if share is None else f"{share:.1f} % replaced"
        where = f"in {self.outputs['item'].parent}" if self.outputs else "in memory"
        size = self.geobox.shape
        return f"<unclouded.Removal {self.id}: {told}, {size.y} x {size.x} pixels, {where}>"


def finished_before(run: Run, paths: Mapping[str, Path], begin: float) -> Removal:
    """The result of an earlier run of the same kind, which was complete."""
    import pystac

    from .write.stac_removal import PROVENANCE

    item = pystac.Item.from_file(str(paths["item"]))
    stored = item.properties["unclouded:counts"]
    counts = {code: int(stored[name]) for code, (name, _) in PROVENANCE.items()}
    return Removal(
        run, Files(paths), counts=counts, seconds=time.perf_counter() - begin, outputs=paths, item=item
    )
