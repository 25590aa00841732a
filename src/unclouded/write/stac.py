"""The STAC item of a result: what was found, from what, by which model, and how sure one may be of its input.

STAC 1.1 with the extensions classification 2.0, eo 2.0, projection 2.0, raster 2.0 and processing 1.2. Fields are
written as the specifications name them; the project's own begin with ``unclouded:``.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from odc.geo.geobox import GeoBox

from .. import __version__
from ..classes import CLASSES, NO_DATA, NO_DATA_CLASS
from ..infer.guarantee import guarantee_for
from ..models.card import ModelCard
from ..options import Options
from ..scene import Scene
from .atomic import write_text
from .footprint import footprint
from .resume import FINGERPRINT

EXTENSIONS = {
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
}
"""Addresses of the schemas that the items follow."""

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_FIRST_MOMENT = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TITLES = {
    "mask": "Clouds and shadows",
    "uncertainty": "Uncertainty: how near the class was to another, 0 sure to 1 undecided",
    "prob": "Probability of each class",
    "quicklook": "Picture of the scene and its mask",
    "polygons": "Outlines of clouds and shadows",
}
_ROLES = {
    "mask": ["data", "cloud", "cloud-shadow"],
    "uncertainty": ["data", "uncertainty"],
    "prob": ["data", "probability"],
    "quicklook": ["overview"],
    "polygons": ["data", "cloud", "cloud-shadow"],
}
_VECTORS = {".fgb": "application/vnd.flatgeobuf", ".parquet": "application/vnd.apache.parquet"}
_MEANING = {
    0: "Neither cloud nor cloud shadow: land, water, snow and ice.",
    1: "Cloud that hides the surface.",
    2: "Cloud or haze through which the surface can be seen.",
    3: "Surface in the shadow of a cloud.",
    NO_DATA: "Not observed, or missing in a band that the model needs.",
}
_FACTOR = 0.01  # what a stored percent is worth


def cloud_percent(counts: Mapping[int, int]) -> float | None:
    """Share of thick and thin cloud among the pixels with data, in percent; None without any such pixel.

    Args:
        counts: pixels of each class code.

    >>> cloud_percent({0: 2, 1: 1, 2: 1, 3: 0, 255: 96})
    50.0
    """
    valid = sum(counts.get(one.value, 0) for one in CLASSES)
    return 100.0 * (counts.get(1, 0) + counts.get(2, 0)) / valid if valid else None


def make_item(
    scene: Scene,
    *,
    geobox: GeoBox,
    outputs: Mapping[str, Path],
    counts: Mapping[int, int],
    card: ModelCard,
    card_path: Path | None,
    model_sha256: str,
    bands: Sequence[str],
    options: Options,
    warnings: Sequence[str] = (),
    fingerprint: str,
    saturated: Mapping[str, float] | None = None,
    created: dt.datetime | None = None,
) -> pystac.Item:
    """Describe a result.

    Args:
        scene: what was masked.
        geobox: grid of the output.
        outputs: finished files: ``mask``, ``uncertainty``, ``prob``, ``quicklook``, as far as they were made.
        counts: pixels of each class code, no data (255) included.
        card: card of the model.
        card_path: where the card is, for a link; None leaves the link out.
        model_sha256: checksum of the weights that were used.
        bands: names of the bands that the model was given.
        options: settings of the run.
        warnings: findings of the run; those of the scene are put before them.
        fingerprint: see :func:`unclouded.write.resume.fingerprint`.
        saturated: share of saturated pixels in percent, of bands where it is known.
        created: time of processing; None is now.

    Returns:
        The item, without its own address. Where the time of acquisition is not known, the interval from 1970 to the
        time of processing stands for it. A scene without CRS has neither geometry nor bounding box.
    """
    now = created or dt.datetime.now(dt.UTC)
    taken = pystac.utils.str_to_datetime(scene.datetime) if scene.datetime else None
    outline = footprint(geobox)
    item = pystac.Item(
        id=scene.id,
        geometry=outline[0] if outline else None,
        bbox=outline[1] if outline else None,
        datetime=taken,
        start_datetime=None if taken else _FIRST_MOMENT,
        end_datetime=None if taken else now,
        properties=_properties(
            scene, geobox, counts, card, model_sha256, bands, options, warnings, fingerprint, saturated or {}, now
        ),
        stac_extensions=[EXTENSIONS[name] for name in ("eo", "processing", "projection")],
    )
    if taken is None:
        item.properties["description"] = "The time of acquisition is not known."
    for product, path in outputs.items():
        item.add_asset(product, _asset(product, Path(path), geobox, counts))
    if "mask" in outputs:
        item.stac_extensions.append(EXTENSIONS["classification"])
    if "uncertainty" in outputs or "prob" in outputs:
        item.stac_extensions.append(EXTENSIONS["raster"])
    if cloud_percent(counts) is None:
        item.stac_extensions.remove(EXTENSIONS["eo"])
    source = Path(scene.source).resolve().as_posix() if Path(scene.source).exists() else scene.source
    item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, source, title=f"Input: {scene.id}"))
    if card_path is not None:
        title = f"Model card: {card.name} {card.version}"
        target = Path(card_path).resolve().as_posix()
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, target, "application/json", title))
    return item


def write_item(item: pystac.Item, path: Path) -> Path:
    """Write an item beside its files, complete or not at all. It comes last: an item says that a scene is done.

    Args:
        item: the item; its addresses of files become relative to ``path``, so that the folder can be moved.
        path: the item's file.

    Raises:
        OutputError: the file cannot be written.
    """
    path = path.resolve()
    item.set_self_href(path.as_posix())
    item.make_asset_hrefs_relative()
    text = json.dumps(item.to_dict(include_self_link=False), indent=2, allow_nan=False)
    write_text(path, text + "\n", item.id)
    return path


def _properties(
    scene: Scene,
    geobox: GeoBox,
    counts: Mapping[int, int],
    card: ModelCard,
    model_sha256: str,
    bands: Sequence[str],
    options: Options,
    warnings: Sequence[str],
    fingerprint: str,
    saturated: Mapping[str, float],
    now: dt.datetime,
) -> dict[str, Any]:
    settings = {key: value for key, value in options.as_dict().items() if key not in ("overwrite", "resume")}
    software = {"unclouded": __version__, "rasterio": metadata.version("rasterio"), "numpy": np.__version__}
    cover = cloud_percent(counts)
    guarantee = guarantee_for(card, options.max_missed_cloud, options.max_lost_clear)
    moment = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    out: dict[str, Any] = {
        "title": f"Cloud and shadow mask of {scene.id}",
        "created": moment,
        "updated": moment,
        **_projection(geobox),
        "processing:software": software,
        "processing:level": "L4",
        "processing:datetime": moment,
        "processing:lineage": (
            f"Clouds and shadows in {scene.sensor} ({scene.level}) found by unclouded {__version__} with the model"
            f" {card.name} {card.version} from the bands {', '.join(bands)}."
        ),
        "unclouded:sensor": scene.sensor,
        "unclouded:level": scene.level,
        "unclouded:bands": list(bands),
        "unclouded:radiometry": {
            name: {
                "scale": one.scale,
                "offset": one.offset,
                "nodata": one.nodata,
                "source": one.source,
                "calibrated": one.calibrated,
                **({"saturated_percent": saturated[name]} if name in saturated else {}),
            }
            for name, one in scene.radiometry.items()
            if name in bands
        },
        "unclouded:product": scene.properties,
        "unclouded:model": {"name": card.name, "version": card.version, "sha256": model_sha256},
        "unclouded:options": settings,
        **({} if guarantee is None else {"unclouded:guarantee": guarantee.model_dump()}),
        "unclouded:counts": {one.name: counts.get(one.value, 0) for one in (*CLASSES, NO_DATA_CLASS)},
        "unclouded:warnings": [*dict.fromkeys((*scene.warnings, *warnings))],
        FINGERPRINT: fingerprint,
    }
    if cover is not None:
        out["eo:cloud_cover"] = round(cover, 4)
    if (size := _pixel_m(geobox)) is not None:
        out["gsd"] = size
    plain: dict[str, Any] = _plain(out)
    return plain


def _projection(geobox: GeoBox) -> dict[str, Any]:
    out: dict[str, Any] = {
        "proj:code": None,
        "proj:shape": list(geobox.shape),
        "proj:transform": list(geobox.affine)[:6],
    }
    if geobox.crs is not None:
        code = geobox.crs.to_epsg()
        if code is not None:
            out["proj:code"] = f"EPSG:{code}"
        else:
            out["proj:wkt2"] = geobox.crs.to_wkt()
    return out


def _pixel_m(geobox: GeoBox) -> float | None:
    """Pixel size in metres, None where the grid is not in metres."""
    if geobox.crs is None or geobox.crs.geographic or geobox.crs.units[0] not in ("metre", "meter", "m"):
        return None
    return abs(float(geobox.resolution.x))


def _asset(product: str, path: Path, geobox: GeoBox, counts: Mapping[int, int]) -> pystac.Asset:
    fields: dict[str, Any] = {}
    if product == "quicklook":
        return pystac.Asset(path.resolve().as_posix(), _TITLES[product], None, "image/png", _ROLES[product])
    if product == "polygons":
        return pystac.Asset(path.resolve().as_posix(), _TITLES[product], None, _VECTORS[path.suffix], _ROLES[product])
    pixel: dict[str, Any] = {"data_type": "uint8", "nodata": NO_DATA}
    if (size := _pixel_m(geobox)) is not None:
        pixel["raster:spatial_resolution"] = size
    if product == "mask":
        fields["bands"] = [{"name": "class", **pixel}]
        fields["classification:classes"] = _classes(counts)
    else:
        percent = {**pixel, "unit": "1", "raster:scale": _FACTOR, "raster:offset": 0.0}
        names = ["uncertainty"] if product == "uncertainty" else [one.name for one in CLASSES]
        fields["bands"] = [{"name": name, **percent} for name in names]
    return pystac.Asset(path.resolve().as_posix(), _TITLES[product], None, _COG, _ROLES[product], fields)


def _classes(counts: Mapping[int, int]) -> list[dict[str, Any]]:
    valid = sum(counts.get(one.value, 0) for one in CLASSES)
    out = []
    for one in (*CLASSES, NO_DATA_CLASS):
        entry: dict[str, Any] = {
            "value": one.value,
            "name": one.name,
            "title": one.title,
            "description": _MEANING[one.value],
            "color_hint": "".join(f"{part:02X}" for part in one.color),
            "count": counts.get(one.value, 0),
        }
        if one.value == NO_DATA:
            entry["nodata"] = True
        elif valid:
            entry["percentage"] = round(100.0 * entry["count"] / valid, 4)
        out.append(entry)
    return out


def _plain(value: Any) -> Any:
    """The value in types that JSON has; numbers that are not finite become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value)
