"""A demonstration that needs no data: a simulated Sentinel-2 product with known truth, masked and scored.

The product has the real layout, metadata and files of Level-1C. It goes through the same reader, model and writer as
any other product.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from .api import mask
from .classes import CLASSES, NO_DATA, NO_DATA_CLASS
from .errors import InputError, OutputError
from .metrics import Confusion, confusion
from .options import Options
from .result import Result
from .sensors import bands_of
from .simulate.clouds import Layer, simulate_clouds
from .simulate.safe import write_safe
from .simulate.surface import LANDSCAPES, procedural_surface
from .write.atomic import cannot_write, partial_folder, replace_file

SIZE = 1098
"""Side of the scene in pixels of 10 m: a tenth of a Sentinel-2 tile."""

SEED = 1
"""Of the seeds 1 to 9 the one whose scene is scored in the middle: neither the best nor the worst to be seen."""

SMALLEST, LARGEST = 192, 2196

_OFFSET, _QUANTIFICATION = -1000, 10000  # Sentinel-2 since processing baseline 04.00
_CRS, _LEFT, _TOP = "EPSG:32633", 399_960, 5_700_000
_NAME = "S2B_MSIL1C_20240615T102031_N0511_R022_T33UVT_*.SAFE"
_SUN_ZENITH, _SUN_AZIMUTH = 38.0, 152.0
_OUT_OF_PLACE = ("winter", "ice", "salt lake")  # in Germany, in June


@dataclass(frozen=True)
class Demo:
    """What the demonstration made.

    Attributes:
        product: the simulated ``.SAFE`` folder.
        truth: GeoTIFF of the true classes on the 10 m grid.
        result: the mask, with its files.
        table: truth against mask.
    """

    product: Path
    truth: Path
    result: Result
    table: Confusion


def run_demo(
    folder: Path,
    *,
    size: int = SIZE,
    seed: int = SEED,
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> Demo:
    """Simulate a cloudy Sentinel-2 product, mask it, and compare the mask with the truth.

    Args:
        folder: where all files go, made if it does not exist.
        size: side in pixels of 10 m, a multiple of 6 from 192 to 2196.
        seed: the same number gives the same scene.
        options: settings of the mask; ``overwrite`` also replaces the product of an earlier demonstration.
        progress: called with the share of the masking that is done, 0 to 1.

    Raises:
        InputError: the size does not fit.
        OutputError: a demonstration lies there already, or the folder cannot be written to.
    """
    if size % 6 or not SMALLEST <= size <= LARGEST:
        raise InputError(
            f"The size is {size} pixels of 10 m.",
            expected=f"It has to be a multiple of 6, so that 60 m bands fit, from {SMALLEST} to {LARGEST}.",
            remedy=f"Pass --size {min(max(round(size / 6) * 6, SMALLEST), LARGEST)}.",
        )
    options = options or Options(quicklook=True)
    folder = Path(folder).expanduser()
    _make_room(folder, options.overwrite)
    counts, classes = _simulate(size, seed)
    product = write_safe(
        folder,
        counts,
        crs=_CRS,
        ulx=_LEFT,
        uly=_TOP,
        datetime="2024-06-15T10:20:31Z",
        offset=_OFFSET,
        quantification=_QUANTIFICATION,
        sun_zenith_deg=_SUN_ZENITH,
        sun_azimuth_deg=_SUN_AZIMUTH,
        tile="T33UVT",
    )
    truth = _write_truth(folder / f"{product.stem}_truth.tif", product.stem, classes)
    result = mask(product, options, output=folder, progress=progress)
    found = result.classes.values
    return Demo(product, truth, result, confusion(_on_grid(classes, found.shape), found))


def _simulate(size: int, seed: int) -> tuple[dict[str, NDArray[np.uint16]], NDArray[np.uint8]]:
    """Stored counts of every band at its own pixel size, and the true classes at 10 m."""
    rng, ground_rng, sky_rng = np.random.default_rng(seed).spawn(3)
    bands = bands_of("sentinel2-l1c")
    landscape = str(rng.choice([name for name in LANDSCAPES if name not in _OUT_OF_PLACE]))
    layers = (
        Layer("cumulus", rng.uniform(0.15, 0.3), rng.uniform(900, 2000), rng.uniform(15, 40), 0.0),
        Layer("cirrus", rng.uniform(0.15, 0.35), rng.uniform(8000, 11000), rng.uniform(1.0, 2.5), 1.0),
    )
    ground = procedural_surface(bands, (size, size), 10.0, ground_rng, landscape=landscape)
    sky = simulate_clouds(
        ground,
        bands,
        resolution_m=10.0,
        sun_zenith_deg=_SUN_ZENITH,
        sun_azimuth_deg=_SUN_AZIMUTH,
        seed=sky_rng,
        layers=layers,
    )
    missing = _beyond_swath(size)
    counts = {}
    for band, plane in zip(bands, sky.image, strict=True):
        factor = round(band.gsd_m / 10.0)
        blocks = (size // factor, factor, size // factor, factor)
        stored = plane.reshape(blocks).mean(axis=(1, 3)) * _QUANTIFICATION - _OFFSET
        stored = np.clip(np.round(stored), 1, 65534).astype(np.uint16)
        stored[missing.reshape(blocks).any(axis=(1, 3))] = 0
        counts[band.name] = stored
    return counts, np.where(missing, np.uint8(NO_DATA), sky.classes)


def _beyond_swath(size: int) -> NDArray[np.bool_]:
    """The corner that the satellite did not see, as at the edge of a swath."""
    rows, cols = np.mgrid[:size, :size]
    return cols + 0.28 * rows > 1.17 * size


def _make_room(folder: Path, overwrite: bool) -> None:
    for old in sorted(folder.glob(_NAME)):
        if not overwrite:
            raise OutputError(
                f"{old} exists already.",
                expected="The demonstration writes its product into a folder without one.",
                remedy="Pass --overwrite to replace it, or another folder with -o.",
            )
        try:
            shutil.rmtree(old)
        except OSError as err:
            raise cannot_write(old, err) from err


def _write_truth(target: Path, scene_id: str, classes: NDArray[np.uint8]) -> Path:
    with partial_folder(target.parent, scene_id) as partial:
        made = partial / target.name
        try:
            with rasterio.open(
                made,
                "w",
                driver="GTiff",
                dtype="uint8",
                count=1,
                height=classes.shape[0],
                width=classes.shape[1],
                crs=_CRS,
                transform=rasterio.transform.from_origin(_LEFT, _TOP, 10, 10),
                nodata=NO_DATA,
                tiled=True,
                compress="DEFLATE",
            ) as file:
                file.write(classes, 1)
                file.write_colormap(1, {one.value: (*one.color, 255) for one in (*CLASSES, NO_DATA_CLASS)})
                file.update_tags(1, **{f"CLASS_{one.value}": one.name for one in (*CLASSES, NO_DATA_CLASS)})
        except (RasterioError, OSError) as err:
            raise cannot_write(target, err) from err
        replace_file(made, target)
    return target


def _on_grid(classes: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Truth at the pixel centres of a result of another resolution."""
    rows, cols = ((np.arange(size) + 0.5) * classes.shape[0] / shape[0] for size in shape)
    last = classes.shape[0] - 1
    return classes[
        np.minimum(rows.astype(int), last)[:, np.newaxis], np.minimum(cols.astype(int), last)
    ]
