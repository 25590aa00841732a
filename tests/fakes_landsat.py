"""Small Landsat products in the layout of Collection 2, with an MTL file of what readers need."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .fakes_products import make_tif

NAME = "LC08_L1TP_090084_20160121_20200907_02_T1"
LEVEL2 = "LC08_L2SP_090084_20160121_20200907_02_T1"


def mtl(
    name: str, *, sun: float = 30.0, spacecraft: str = "LANDSAT_8", sensor: str = "OLI_TIRS", level: str = "L1TP"
) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE", "GROUP = PRODUCT_CONTENTS", f'LANDSAT_PRODUCT_ID = "{name}"']
    lines += [f'PROCESSING_LEVEL = "{level}"', "COLLECTION_NUMBER = 02"]
    prefix = "SR_" if level == "L2SP" else ""
    lines += [f'FILE_NAME_BAND_{band} = "{name}_{prefix}B{band}.TIF"' for band in (2, 4, 5)]
    lines += ["END_GROUP = PRODUCT_CONTENTS", "GROUP = IMAGE_ATTRIBUTES", 'SPACECRAFT_ID = "LANDSAT_8"']
    lines += ['SENSOR_ID = "OLI_TIRS"', "DATE_ACQUIRED = 2016-01-21", 'SCENE_CENTER_TIME = "23:50:23.1Z"']
    lines += [f"SUN_ELEVATION = {sun}", "SUN_AZIMUTH = 60.0", "END_GROUP = IMAGE_ATTRIBUTES"]
    if level == "L2SP":
        lines.append("GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")
        lines += [f"REFLECTANCE_MULT_BAND_{band} = 2.75e-05" for band in (2, 4, 5)]
        lines += [f"REFLECTANCE_ADD_BAND_{band} = -0.2" for band in (2, 4, 5)]
        lines.append("END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS")
    lines.append("GROUP = LEVEL1_RADIOMETRIC_RESCALING")
    lines += [f"REFLECTANCE_MULT_BAND_{band} = 2.0E-05" for band in (2, 4, 5)]
    lines += [f"REFLECTANCE_ADD_BAND_{band} = -0.1" for band in (2, 4, 5)]
    lines += ["RADIANCE_MULT_BAND_10 = 3.342E-04", "RADIANCE_ADD_BAND_10 = 0.1"]
    lines += ["END_GROUP = LEVEL1_RADIOMETRIC_RESCALING", "GROUP = LEVEL1_THERMAL_CONSTANTS"]
    lines += ["K1_CONSTANT_BAND_10 = 774.8853", "K2_CONSTANT_BAND_10 = 1321.0789"]
    lines += ["END_GROUP = LEVEL1_THERMAL_CONSTANTS", "END_GROUP = LANDSAT_METADATA_FILE", "END", "\x00\x00 padding"]
    return "\n".join(lines)


def make_landsat(folder: Path, name: str = NAME, value: int = 10000, **options: object) -> Path:
    product = folder / name
    product.mkdir(parents=True)
    level = "L2SP" if "_L2" in name else "L1TP"
    (product / f"{name}_MTL.txt").write_text(mtl(name, level=level, **options))  # type: ignore[arg-type]
    data = np.full((1, 20, 30), value, np.uint16)
    data[0, 0, 0] = 0
    for band in (2, 4, 5):
        make_tif(product / f"{name}_{'SR_' if level == 'L2SP' else ''}B{band}.TIF", data, pixel_m=30.0)
    if level == "L1TP":
        make_tif(product / f"{name}_B10.TIF", np.full((1, 20, 30), 30856, np.uint16), pixel_m=30.0)
    return product
