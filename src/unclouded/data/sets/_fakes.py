"""Made-up label rasters, images and metadata for tiny copies of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from ..tiff import write_tiff

CRS = "EPSG:32633"


def code_blocks(
    codes: Sequence[int], size: tuple[int, int], rng: np.random.Generator, *, corner: int | None = None
) -> NDArray[np.uint8]:
    """A label raster in which every code fills at least one rectangle; ``corner`` fills the upper left one.

    Args:
        codes: codes to use.
        size: rows and columns, at least four pixels for each code.
        rng: source of the order.
    """
    side = int(np.ceil(np.sqrt(len(codes))))
    order = [int(code) for code in rng.permutation(np.array(codes))]
    cells = np.array([order[index % len(order)] for index in range(side * side)], np.uint8)
    if corner is not None:
        place = int(np.flatnonzero(cells == corner)[0])
        cells[[0, place]] = cells[[place, 0]]
    rows = np.arange(size[0]) * side // size[0]
    cols = np.arange(size[1]) * side // size[1]
    return cells.reshape(side, side)[rows[:, None], cols[None, :]]


def counts(
    labels: NDArray[np.integer], levels: Mapping[int, float], bands: int, rng: np.random.Generator, dtype: str
) -> NDArray[np.generic]:
    """Counts that follow the labels: ``levels`` by code, a factor by band, and 2 % noise; a level of 0 stays 0."""
    base = np.zeros(labels.shape)
    for code, level in levels.items():
        base[labels == code] = level
    gain = rng.uniform(0.8, 1.2, (bands, 1, 1))
    image = base * gain * (1 + 0.02 * rng.standard_normal((bands, *labels.shape)))
    image = np.clip(np.rint(image), 1, np.iinfo(dtype).max)
    return np.where(base > 0, image, 0).astype(dtype)


def grid(pixel_m: float, *, aside_m: float = 0.0) -> dict[str, object]:
    """Profile of a made-up raster with a reference system; ``aside_m`` moves its corner right and down."""
    place = Affine(pixel_m, 0, 4e5 + aside_m, 0, -pixel_m, 5.8e6 - aside_m)
    return {"crs": CRS, "transform": place, "compress": None}


NOWHERE = {"crs": None, "transform": None, "compress": None}
"""Profile of a made-up raster without a reference system."""


def write_envi(path: Path, label: NDArray[np.uint8]) -> None:
    """A label raster of 30 m as ``.img`` with its ``.hdr``."""
    write_tiff(path, label, driver="ENVI", **grid(30.0))


def write_oli_metadata(path: Path, scene: str, *, sun_elevation: float = 50.0, cloud: float = 40.0) -> None:
    """Metadata of a Landsat 8 scene in the form of 2013 and after, with the factors that all such scenes have."""
    lines = [f'LANDSAT_SCENE_ID = "{scene}"', 'SPACECRAFT_ID = "LANDSAT_8"', 'SENSOR_ID = "OLI_TIRS"']
    scaling = [f"REFLECTANCE_MULT_BAND_{band} = 2.0000E-05" for band in range(1, 10)]
    scaling += [f"REFLECTANCE_ADD_BAND_{band} = -0.100000" for band in range(1, 10)]
    scaling += [f"RADIANCE_MULT_BAND_{band} = 3.3420E-04" for band in (10, 11)]
    scaling += [f"RADIANCE_ADD_BAND_{band} = 0.10000" for band in (10, 11)]
    constants = ["K1_CONSTANT_BAND_10 = 774.89", "K1_CONSTANT_BAND_11 = 480.89"]
    constants += ["K2_CONSTANT_BAND_10 = 1321.08", "K2_CONSTANT_BAND_11 = 1201.14"]
    _write_groups(
        path,
        {
            "METADATA_FILE_INFO": lines[:1],
            "PRODUCT_METADATA": [*lines[1:], "DATE_ACQUIRED = 2013-08-08", "SCENE_CENTER_TIME = 18:41:23.1234567Z"],
            "IMAGE_ATTRIBUTES": [f"CLOUD_COVER = {cloud:.2f}", f"SUN_ELEVATION = {sun_elevation:.8f}"],
            "RADIOMETRIC_RESCALING": scaling,
            "TIRS_THERMAL_CONSTANTS": constants,
        },
    )


ETM_RADIANCE = {
    "1": (191.6, -6.2), "2": (196.5, -6.4), "3": (152.9, -5.0), "4": (241.1, -5.1), "5": (31.06, -1.0),
    "61": (17.04, 0.0), "62": (12.65, 3.2), "7": (10.8, -0.35), "8": (243.1, -4.7),
}  # fmt: skip
"""Ranges of radiance (LMAX, LMIN) of ETM+ in high gain, band 4 in low gain, in W/(m2 sr um).

Source: USGS, Landsat 7 Data Users Handbook.
"""


def write_etm_metadata(path: Path, *, sun_elevation: float = 45.0) -> None:
    """Metadata of a Landsat 7 scene in the form that was used until August 2012."""
    ranges = [f"{key}_BAND{band} = {value:.3f}" for band, ends in ETM_RADIANCE.items()
              for key, value in zip(("LMAX", "LMIN"), ends, strict=True)]  # fmt: skip
    pixels = [line for band in ETM_RADIANCE for line in (f"QCALMAX_BAND{band} = 255.0", f"QCALMIN_BAND{band} = 1.0")]
    _write_groups(
        path,
        {
            "PRODUCT_METADATA": ['SPACECRAFT_ID = "Landsat7"', 'SENSOR_ID = "ETM+"', "ACQUISITION_DATE = 2001-06-11"],
            "MIN_MAX_RADIANCE": ranges,
            "MIN_MAX_PIXEL_VALUE": pixels,
            "PRODUCT_PARAMETERS": [f"SUN_ELEVATION = {sun_elevation:.7f}"],
        },
    )


def _write_groups(path: Path, groups: Mapping[str, Sequence[str]]) -> None:
    text = "GROUP = L1_METADATA_FILE\n"
    for name, lines in groups.items():
        text += f"  GROUP = {name}\n" + "".join(f"    {line}\n" for line in lines) + f"  END_GROUP = {name}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "END_GROUP = L1_METADATA_FILE\nEND\n", encoding="ascii")
