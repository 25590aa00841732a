"""The STAC item of a scene without its clouds: what was rebuilt, from what, by which model, and how sure that is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac

from .. import __version__
from ..scene import Scene
from .footprint import footprint
from .resume import FINGERPRINT
from .stac import _COG, _FIRST_MOMENT, EXTENSIONS, _pixel_m, _plain, _projection

if TYPE_CHECKING:
    from ..infer.remove_plan import RemovalPlan

PROVENANCE = {
    0: ("observed", "As observed, bit for bit."),
    1: ("rebuilt", "Rebuilt by the model from its surroundings, and from radar where there is any."),
    2: ("other-date", "Taken from another date, brought to this one's radiometry."),
    255: ("no-data", "Not observed, or hidden and shown by no other date."),
}
"""Name and meaning of the codes of provenance."""

COLOURS = {0: (120, 170, 110), 1: (230, 140, 60), 2: (90, 130, 200), 255: (0, 0, 0)}
"""Colour of each code, (red, green, blue)."""

ERROR_SCALE = 1e-4
"""What a stored unit of uncertainty is worth in reflectance."""

_TITLES = {
    "restored": "Reflectance without clouds",
    "restored_provenance": "Where each pixel comes from",
    "restored_uncertainty": "Expected absolute error in reflectance, mean over the bands; 0 where observed",
}
_ROLES = {
    "restored": ["data", "reflectance"],
    "restored_provenance": ["metadata"],
    "restored_uncertainty": ["data", "uncertainty"],
}


def make_removal_item(
    plan: RemovalPlan,
    *,
    outputs: Mapping[str, Path],
    counts: Mapping[int, int],
    model_sha256: str | None,
    card_path: Path | None,
    mask_source: Mapping[str, Any],
    warnings: list[str],
    fingerprint: str,
    created: dt.datetime | None = None,
) -> pystac.Item:
    """Describe a result of :func:`unclouded.remove`.

    Args:
        plan: what was done.
        outputs: finished files: ``restored``, ``restored_provenance`` and ``restored_uncertainty``.
        counts: pixels of each code of provenance.
        model_sha256, card_path: checksum of the weights, and where their card is; None without a network.
        mask_source: where the masks come from.
        warnings: findings of the run.
        fingerprint: see :mod:`unclouded.write.resume`.
        created: time of processing; None is now.

    Returns:
        The item, without its own address.
    """
    scene = plan.scene
    now = created or dt.datetime.now(dt.UTC)
    taken = pystac.utils.str_to_datetime(scene.datetime) if scene.datetime else None
    outline = footprint(plan.grid)
    item = pystac.Item(
        id=f"{scene.id}_restored",
        geometry=outline[0] if outline else None,
        bbox=outline[1] if outline else None,
        datetime=taken,
        start_datetime=None if taken else _FIRST_MOMENT,
        end_datetime=None if taken else now,
        properties=_properties(plan, counts, model_sha256, mask_source, warnings, fingerprint, now),
        stac_extensions=[EXTENSIONS[name] for name in ("classification", "processing", "projection", "raster")],
    )
    if taken is None:
        item.properties["description"] = "The time of acquisition is not known."
    for product, path in outputs.items():
        if product == "quicklook":
            address = Path(path).resolve().as_posix()
            item.add_asset(product, pystac.Asset(address, "Before and after", None, "image/png", ["overview"]))
        else:
            item.add_asset(product, _asset(plan, product, Path(path), counts))
    if not outputs:
        for name in ("classification", "raster"):
            item.stac_extensions.remove(EXTENSIONS[name])
    inputs = [(scene, "Input")] + ([(plan.sar, "Radar")] if plan.sar is not None else [])
    for one, title in (*inputs, *((date.scene, "Other date") for date in plan.dates)):
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, _place(one), title=f"{title}: {one.id}"))
    if plan.card is not None and card_path is not None:
        title = f"Model card: {plan.card.name} {plan.card.version}"
        target = Path(card_path).resolve().as_posix()
        item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, target, "application/json", title))
    return item


def _properties(
    plan: RemovalPlan,
    counts: Mapping[int, int],
    model_sha256: str | None,
    mask_source: Mapping[str, Any],
    warnings: list[str],
    fingerprint: str,
    now: dt.datetime,
) -> dict[str, Any]:
    scene, card = plan.scene, plan.card
    moment = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    means = [f"the model {card.name} {card.version}"] if card is not None else []
    means += [f"the radar image {plan.sar.id}"] if plan.sar is not None and card is not None and card.sar else []
    means += [f"{len(plan.dates)} other date{'s' * (len(plan.dates) > 1)}"] if plan.dates else []
    left_out = ("overwrite", "resume", "quicklook")
    settings = {key: value for key, value in plan.options.as_dict().items() if key not in left_out}
    error = None if card is None or card.expected_error is None else card.expected_error.model_dump()
    out: dict[str, Any] = {
        "title": f"{scene.id} without clouds",
        "created": moment,
        "updated": moment,
        **_projection(plan.grid),
        "processing:software": {
            "unclouded": __version__, "rasterio": metadata.version("rasterio"), "numpy": np.__version__,
        },
        "processing:level": "L4",
        "processing:datetime": moment,
        "processing:lineage": (
            f"Clouds and shadows in {scene.sensor} ({scene.level}) removed by unclouded {__version__} with"
            f" {' and '.join(means)}; clear pixels are as observed."
        ),
        "unclouded:sensor": scene.sensor,
        "unclouded:level": scene.level,
        "unclouded:bands": list(plan.names),
        "unclouded:radiometry": {
            name: {"scale": one.scale, "offset": one.offset, "nodata": one.nodata, "source": one.source}
            for name, one in scene.radiometry.items()
            if name in plan.names
        },
        "unclouded:product": scene.properties,
        "unclouded:model": None
        if card is None
        else {"name": card.name, "version": card.version, "sha256": model_sha256, "expected_error": error},
        "unclouded:mask": dict(mask_source),
        "unclouded:radar": None if plan.sar is None else plan.sar.id,
        "unclouded:dates": [
            {
                "id": date.scene.id,
                "datetime": date.scene.datetime,
                "days": None if date.days is None else round(date.days, 3),
                "expected_error": round(date.matching.expected, 6),
                "matched_pixels": date.matching.pixels,
            }
            for date in plan.dates
        ],
        "unclouded:options": settings,
        "unclouded:counts": {name: counts.get(code, 0) for code, (name, _) in PROVENANCE.items()},
        "unclouded:warnings": [*dict.fromkeys((*scene.warnings, *warnings))],
        FINGERPRINT: fingerprint,
    }  # fmt: skip
    if (size := _pixel_m(plan.grid)) is not None:
        out["gsd"] = size
    plain: dict[str, Any] = _plain(out)
    return plain


def _asset(plan: RemovalPlan, product: str, path: Path, counts: Mapping[int, int]) -> pystac.Asset:
    size = _pixel_m(plan.grid)
    common = {} if size is None else {"raster:spatial_resolution": size}
    fields: dict[str, Any] = {}
    if product == "restored":
        encoding = plan.encoding
        nodata = {} if encoding.nodata is None else {"nodata": _plain(float(encoding.nodata))}
        known = {band.name: band for band in plan.scene.bands}
        fields["bands"] = [
            {
                "name": name,
                "data_type": encoding.dtype.name,
                **nodata,
                **common,
                "raster:scale": scale,
                "raster:offset": offset,
                **({"description": known[name].common_name} if known[name].common_name else {}),
            }
            for name, scale, offset in zip(plan.names, encoding.scale, encoding.offset, strict=True)
        ]
    elif product == "restored_provenance":
        fields["bands"] = [{"name": "provenance", "data_type": "uint8", "nodata": 255, **common}]
        fields["classification:classes"] = [
            {
                "value": code,
                "name": name,
                "description": meaning,
                "color_hint": "".join(f"{part:02X}" for part in COLOURS[code]),
                "count": counts.get(code, 0),
                **({"nodata": True} if code == 255 else {}),
            }
            for code, (name, meaning) in PROVENANCE.items()
        ]
    else:
        fields["bands"] = [
            {
                "name": "expected absolute error", "data_type": "uint16", "nodata": 65535, **common,
                "unit": "1", "raster:scale": ERROR_SCALE, "raster:offset": 0.0,
            }
        ]  # fmt: skip
    return pystac.Asset(path.resolve().as_posix(), _TITLES[product], None, _COG, _ROLES[product], fields)


def _place(scene: Scene) -> str:
    return Path(scene.source).resolve().as_posix() if Path(scene.source).exists() else scene.source
