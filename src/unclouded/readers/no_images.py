"""Products whose metadata are there without their images: nothing can be read of them, but something can be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import sensors
from ..errors import InputError
from ..scene import Radiometry

NOTE = "The images are missing: this is what the metadata say."


class NoImages(InputError):
    """A product has metadata, and no image of any band.

    Attributes:
        description: what the metadata say, with the keys of :meth:`unclouded.scene.Scene.describe`; the grid is None.
    """

    description: Mapping[str, Any] = {}


def no_images(
    source: str,
    product: str,
    sensor: sensors.Sensor,
    radiometry: Mapping[str, Radiometry],
    datetime: str | None,
    properties: Mapping[str, Any],
) -> NoImages:
    """The error for a product without images.

    Args:
        source: what was opened.
        product: name of the product.
        sensor: its sensor.
        radiometry: records of the bands that the metadata say something about.
        datetime: time of acquisition, or None.
        properties: what else the metadata say.
    """
    bands = []
    for band in sensor.bands:
        if band.name in radiometry:
            record = replace(radiometry[band.name], saturated=sensor.saturated if band.kind == "optical" else None)
            bands.append(
                {
                    "name": band.name,
                    "common_name": band.common_name,
                    "kind": band.kind,
                    "min_nm": band.min_nm,
                    "max_nm": band.max_nm,
                    "gsd_m": band.gsd_m,
                    "file": None,
                    "scale": record.scale,
                    "offset": record.offset,
                    "nodata": record.nodata,
                    "radiometry": record.source,
                    "calibrated": record.calibrated,
                    "saturated": record.saturated,
                }
            )
    error = NoImages(
        f"{source} has no image of any band of {sensor.name}.",
        expected=f"Images of {', '.join(band.name for band in sensor.band)}.",
        remedy="Download the product again; the images are missing.",
    )
    error.description = {
        "id": product,
        "source": source,
        "sensor": sensor.name,
        "level": sensor.level,
        "datetime": datetime,
        "baseline": properties.get("processing_baseline"),
        "resolution_m": sensor.grid_m,
        "shape": None,
        "crs": None,
        "transform": None,
        "calibrated": all(record.calibrated for record in radiometry.values()),
        "bands": bands,
        "properties": dict(properties),
        "warnings": [NOTE],
    }
    return error
