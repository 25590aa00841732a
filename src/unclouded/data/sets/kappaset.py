"""KappaSet: sub-tiles of 512 x 512 pixels at 10 m of Sentinel-2 products, one netCDF file each.

    <root>/**/T35VLF_20200529T094041_tile_<x>_<y>.nc     variables B01 ... B12, B8A and Label

Stored values are counts divided by 65535. Products of processing baseline 04.00 and later have an offset of -1000
counts; which baseline it was stands in the attribute ``product_name``.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError, MissingDependencyError, RadiometryError
from .. import labels as lab
from ..sample import Sample
from . import _fakes, register
from .base import DataSet, Record, split_by_scene

if TYPE_CHECKING:
    import xarray as xr

SIDE = 512
_NAME = re.compile(r"((T\d\d[A-Z]{3})_(20\d{6}T\d{6}))_tile_(\d+)_(\d+)\.nc")
_PRODUCT = re.compile(r"S2[A-D]_MSI(L1C|L2A)_20\d{6}T\d{6}_N(\d{4})_.*")
_COUNTS = 65535
_CLEAR = 1
_QUANTIFICATION = 10000
_OFFSET = -1000
_OFFSET_FROM = 400
_LOCAL = 9900
"""Baselines from here on are those of products made by users; they say nothing of the offset."""
_SHARES = (("train", 0.8), ("choose", 0.1), ("test", 0.1))


@register
class KappaSet(DataSet):
    """KappaSet, and the earlier release of northern Europe.

    Args:
        root: folder that holds the .nc files, at any depth.
        offset: counts to add, for files that do not name their product; None takes it from the name.
        ignore_codes: further label codes to ignore; any other unknown code is an error.
    """

    name = "kappaset"
    title = "KappaSet"
    licence = "CC BY 4.0 (as far as known)"
    citation = "KappaZeta (2022): KappaSet, Sentinel-2 cloud and cloud shadow masks. Zenodo, doi:10.5281/zenodo.7100327"
    homepage = "https://zenodo.org/record/7100327"
    obtain = "Get the archives from zenodo.org/record/7100327 and unpack them; pip install 'unclouded[data]'."
    sensors = ("sentinel2-l1c", "sentinel2-l2a")
    # Both 0 (undefined) and 5 (missing, or undefined in other texts) cannot be used; METHODS B.8 makes them no data.
    labels: ClassVar[Mapping[int, int]] = {
        0: lab.MISSING, 1: lab.CLEAR, 2: lab.SHADOW, 3: lab.THIN, 4: lab.THICK, 5: lab.MISSING,
    }  # fmt: skip
    schemes = ("random",)

    def __init__(self, root: Path, *, offset: int | None = None, ignore_codes: Sequence[int] = ()) -> None:
        self.offset = offset
        self.table = {**self.labels, **dict.fromkeys(ignore_codes, lab.IGNORED)}
        super().__init__(root)

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return "Files like T35VLF_20200529T094041_tile_0_512.nc, at any depth."

    def find(self) -> Iterator[Record]:
        """One record per file, by its name alone; the scene is the product it was cut from."""
        for path in self.root.rglob("*.nc"):
            match = _NAME.fullmatch(path.name)
            if match:
                tags: dict[str, str | float] = {"tile": match[2], "month": float(match[3][4:6])}
                yield Record(path.stem, match[1], {"image": path, "label": path}, tags=tags)

    def read(self, record: Record) -> Sample:
        """Read one sub-tile.

        Raises:
            RadiometryError: it cannot be known whether the product had an offset.
        """
        path = record.files["image"]
        with _open(path) as stored:
            product = str(stored.attrs.get("product_name", ""))
            level = self._level(stored, product, path)
            bands = sensors.bands_of(f"sentinel2-{level}")
            missing = [name for name in (*(band.name for band in bands), "Label") if name not in stored]
            if missing:
                raise InputError(
                    f"{path} has no variables {', '.join(missing)}.",
                    expected="There is one for every band of the level, and Label.",
                    remedy="Get the file again.",
                )
            image = np.stack([_plane(stored, band.name, "float32", path) for band in bands])
            codes = _plane(stored, "Label", "uint8", path)
        if not (np.nanmin(image) >= 0 and np.nanmax(image) <= 1):
            raise RadiometryError(
                f"The values of {path} reach from {np.nanmin(image):g} to {np.nanmax(image):g}.",
                expected="They are counts divided by 65535.",
                remedy="Check the release.",
            )
        empty = ~(image > 0).any(axis=0)
        scale, offset = _COUNTS / _QUANTIFICATION, self._offset(product, path) / _QUANTIFICATION
        image = image * np.float32(scale) + np.float32(offset)
        image[:, empty] = np.nan
        sets = lab.to_sets(codes, self.table, str(path))
        return Sample(
            name=record.name,
            source=self.name,
            scene=record.scene,
            split=record.split,
            image=image,
            sets=sets,
            bands=bands,
            gsd_m=10.0,
            level="toa" if level == "l1c" else "boa",
            background=bool((codes == _CLEAR).all()),
        )

    def _level(self, stored: xr.Dataset, product: str, path: Path) -> str:
        """L1C alone has the cirrus band; the product's name has to agree."""
        level = "l1c" if "B10" in stored else "l2a"
        named = _PRODUCT.match(product)
        if named and named[1].casefold() != level:
            raise InputError(
                f"{path} is of the product {product}, but has {'the' if level == 'l1c' else 'no'} band B10.",
                expected="Level L1C has that band, and L2A does not.",
                remedy="Get the file again.",
            )
        return level

    def _offset(self, product: str, path: Path) -> int:
        if self.offset is not None:
            return self.offset
        named = _PRODUCT.match(product)
        if named is None or int(named[2]) >= _LOCAL:
            raise RadiometryError(
                f"{path} does not name a product of ESA (product_name is '{product}').",
                expected="The processing baseline in that name tells whether counts have an offset.",
                remedy="Pass offset=0 for baselines before 04.00, offset=-1000 for later ones.",
            )
        return _OFFSET if int(named[2]) >= _OFFSET_FROM else 0

    def _assign(self, scheme: str) -> dict[str, str]:
        parts = split_by_scene((record.scene for record in self.records), _SHARES, seed=0)
        return {record.name: parts[record.scene] for record in self.records}

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Four sub-tiles of three products: both levels, with and without offset, every label code."""
        xr = _xarray()
        rng = np.random.default_rng(seed)
        files = (
            ("T35VLF_20200529T094041_tile_0_0", "S2A_MSIL1C_20200529T094041_N0209_R036_T35VLF_20200529T115611"),
            ("T35VLF_20200529T094041_tile_0_512", "S2A_MSIL1C_20200529T094041_N0209_R036_T35VLF_20200529T115611"),
            ("T34VEM_20220612T100031_tile_0_0", "S2B_MSIL1C_20220612T100031_N0400_R122_T34VEM_20220612T121050"),
            ("T35VME_20200701T094039_tile_512_0", "S2B_MSIL2A_20200701T094039_N0214_R036_T35VME_20200701T121050"),
        )
        (root / "tiles").mkdir(parents=True)
        by_code = np.array([0, 1500, 500, 3000, 6500, 0], np.float32)
        for stem, product in files:
            codes = _fakes.code_blocks(sorted(cls.labels), (SIDE, SIDE), rng)
            bands = sensors.bands_of("sentinel2-l1c" if "L1C" in product else "sentinel2-l2a")
            counts = by_code[codes] + (1000 if "_N04" in product else 0) * (by_code[codes] > 0)
            planes = {band.name: (("y", "x"), (counts / _COUNTS).astype(np.float32)) for band in bands}
            stored = xr.Dataset({**planes, "Label": (("y", "x"), codes)}, attrs={"product_name": product})
            packed = {name: {"compression": "lzf"} for name in stored}
            stored.to_netcdf(root / "tiles" / f"{stem}.nc", engine="h5netcdf", encoding=packed)


def _xarray() -> ModuleType:
    if importlib.util.find_spec("h5netcdf") is None:
        raise MissingDependencyError.for_extra("h5netcdf", "data")
    import xarray

    return xarray


def _open(path: Path) -> xr.Dataset:
    module = _xarray()
    try:
        opened: xr.Dataset = module.open_dataset(path, engine="h5netcdf", mask_and_scale=False, decode_times=False)
    except (OSError, ValueError) as err:
        raise InputError(
            f"{path} cannot be read: {err}.",
            expected="It is a complete netCDF-4 file.",
            remedy="Get it again.",
        ) from err
    return opened


def _plane(stored: xr.Dataset, name: str, dtype: str, path: Path) -> NDArray[Any]:
    variable = stored[name]
    values: NDArray[Any] = variable.values.squeeze()
    if values.shape != (SIDE, SIDE) or str(values.dtype) != dtype:
        raise InputError(
            f"The variable {name} of {path} is {values.dtype} of the shape {variable.shape}.",
            expected=f"It is {dtype} with {SIDE} x {SIDE} pixels.",
            remedy="Get the file again.",
        )
    return values
