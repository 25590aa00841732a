"""STAC items: a pystac.Item, a local JSON file or an address; STAC 0.7 to 1.1.

Catalogues differ in who applied the offset: stac_rules.toml holds what is known, and the choice is checked on pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as WebRequest
from urllib.request import urlopen

import numpy as np

from .. import sensors
from ..errors import InputError, RadiometryError
from ..radiometry import unknown_scale, with_sun
from ..raster import Header, RasterBand
from ..raster_files import PRODUCT_FORMATS
from ..scene import Band, Radiometry, Scene
from . import Reader, Request, register
from .files import Files, finite
from .grids import check_grids, finest
from .stac_item import Item, ItemBand, Rule, number

_TIMEOUT_S = 60
_LARGEST = 16 * 1024 * 1024


@register
class StacReader(Reader):
    """STAC items."""

    name = "stac"
    title = "a STAC item (object, JSON file, folder with one, or address)"
    rank = 30

    def matches(self, source: Any) -> bool:
        """An item object, a document, a JSON file, or an address of JSON."""
        if isinstance(source, Path):
            return _is_json(source) or _item_in(source) is not None
        if isinstance(source, str):
            place = source.split("?")[0].lower()
            return source.startswith(("http://", "https://")) and (
                place.endswith((".json", ".geojson")) or "/items/" in place
            )
        if isinstance(source, Mapping):
            return source.get("type") == "Feature"
        return type(source).__module__.split(".")[0].startswith("pystac") and hasattr(source, "assets")

    def open(self, source: Any, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        item = read_item(source)
        rule = item.rule()
        sensor = _sensor(item, rule, request)
        named = _named(item, rule, sensor, request)
        bands: list[Band] = []
        sources: dict[str, Any] = {}
        headers: dict[str, Header] = {}
        radiometry: dict[str, Radiometry] = {}
        for band, found in named:
            raster, header = RasterBand.open(item.resolve(found.href), found.index, formats=PRODUCT_FORMATS)
            nodata = _nodata(sensor, band, found, header)
            known = _known(item, rule, sensor, band, found, raster, header, nodata)
            record = request.radiometry(known, nodata, kind=band.kind)
            if record is None:
                raise unknown_scale(f"Asset '{found.asset}' of {item.id}", raster.dtype)
            gsd = round(abs(raster.affine.a), 6)
            bands.append(Band(band.name, band.common_name, band.min_nm, band.max_nm, gsd, band.kind))
            sources[band.name], headers[band.name], radiometry[band.name] = raster, header, record
        check_grids({name: header.geobox() for name, header in headers.items()}, item.id)
        others = [headers[band.name].geobox() for band in bands if band.common_name != "pan"]
        return Scene(
            id=item.id,
            sensor="generic" if sensor is None else sensor.name,
            level=request.level or ("unknown" if sensor is None else sensor.level),
            bands=tuple(bands),
            geobox=finest(others or [header.geobox() for header in headers.values()]),
            radiometry=radiometry,
            sources=sources,
            source=item.base,
            datetime=_datetime(item),
            properties=_properties(item, sensor, [band.name for band in bands]),
        )


def read_item(source: Any) -> Item:
    """Read a STAC item.

    Args:
        source: path of a JSON file, address, document, or item object of pystac.

    Raises:
        InputError: it cannot be read, or is no item.
    """
    if isinstance(source, Path):
        source = _item_in(source) or source
        source = source.absolute()
        return Item.of(Files(source.parent, [source.name]).json(source.name), str(source), source.parent)
    if isinstance(source, str):
        return Item.of(_fetch(source), source)
    if isinstance(source, Mapping):
        return Item.of(source, _own_address(source) or str(Path.cwd() / "item.json"))
    document = source.to_dict(include_self_link=True, transform_hrefs=False)
    return Item.of(document, source.get_self_href() or str(Path.cwd() / "item.json"))


def _own_address(document: Mapping[str, Any]) -> str:
    links = document.get("links")
    for link in links if isinstance(links, (list, tuple)) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self":
            return str(link.get("href") or "")
    return ""


def _is_json(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".json", ".geojson")


def _item_in(folder: Path) -> Path | None:
    """The only item in a folder."""
    if not folder.is_dir():
        return None
    try:
        found = [path for path in folder.iterdir() if _is_json(path)]
        if len(found) != 1 or found[0].stat().st_size > _LARGEST:
            return None
        document = json.loads(found[0].read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found[0] if isinstance(document, dict) and document.get("type") == "Feature" else None


def _fetch(address: str) -> Any:
    try:
        with urlopen(WebRequest(address, headers={"Accept": "application/json"}), timeout=_TIMEOUT_S) as answer:
            content = answer.read(_LARGEST + 1)
    except (HTTPException, OSError, ValueError) as err:
        # HTTPError has a reason too, but only its text has the number.
        cause = err if isinstance(err, HTTPError) else getattr(err, "reason", None) or err
        raise InputError(
            f"{address} cannot be fetched: {cause}.",
            expected="A STAC item as JSON.",
            remedy="Check the address and the network, or download the item and pass the file.",
        ) from err
    if len(content) > _LARGEST:
        raise InputError(
            f"{address} is larger than {_LARGEST // 2**20} MiB.",
            expected="A STAC item is a small document.",
            remedy="Pass the address of a single item.",
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as err:
        raise InputError(
            f"{address} is not JSON: {err}.",
            expected="A STAC item as JSON.",
            remedy="Pass the address of the item itself.",
        ) from err


def _sensor(item: Item, rule: Rule | None, request: Request) -> sensors.Sensor | None:
    if request.sensor is not None:
        return sensors.load(request.sensor)
    if rule is None:
        return None
    name = rule.sensor
    if "{instrument}" in name:
        said = item.properties.get("instruments") or [item.properties.get("eo:instrument") or ""]
        said = said if isinstance(said, (list, tuple)) else [said]
        family = {"oli": "oli", "oli_tirs": "oli", "etm": "etm", "etm+": "etm", "tm": "tm"}
        found = [family[str(entry).lower()] for entry in said if str(entry).lower() in family]
        if not found:
            raise InputError(
                f"Item {item.id} of {item.collection} names the instruments {said}.",
                expected="Instruments are oli, tirs, etm and tm.",
                remedy="Say it: --sensor landsat-oli-c2-l2.",
            )
        name = name.replace("{instrument}", found[0])
    return sensors.load(name)


def _named(
    item: Item, rule: Rule | None, sensor: sensors.Sensor | None, request: Request
) -> list[tuple[Band, ItemBand]]:
    """The item's bands, each from the asset with the smallest pixels.

    Raises:
        InputError: no asset is a band that is known.
    """
    found: dict[str, tuple[Band, ItemBand]] = {}
    for entry in item.bands():
        band = _band(entry, rule, sensor)
        if band is None:
            continue
        held = found.get(band.name)
        if held is None or (entry.gsd_m or np.inf) < (held[1].gsd_m or np.inf):
            found[band.name] = (band, entry)
    if not found:
        raise InputError(
            f"Item {item.id} has no image that is a band: its assets are {', '.join(item.assets) or 'none'}.",
            expected="Assets have band names (eo:bands or bands), or names that the sensor knows.",
            remedy="Name the sensor with --sensor, or open the images themselves.",
        )
    order = [band.name for band in sensor.band] if sensor is not None else list(found)
    present = [name for name in order if name in found]
    if request.bands is None:
        return [found[name] for name in present]
    return [found[name] for name in request.wanted(present, sensor, f"Item {item.id}")]


def _band(entry: ItemBand, rule: Rule | None, sensor: sensors.Sensor | None) -> Band | None:
    if sensor is not None:
        for name in entry.names:
            plain = re.sub(r"_\d+m$", "", (rule.assets if rule else {}).get(name, name))
            own = sensor.find(re.sub(r"\.(TIF|tif|jp2)$", "", plain))
            if own is not None:
                return own.band()
        return None
    if entry.centre_nm is not None:
        half = 0.5 * (entry.width_nm or 0.04 * entry.centre_nm)
        low, high = entry.centre_nm - half, entry.centre_nm + half
        kind = "thermal" if low > 3000 else "optical"
        return Band(entry.names[0], entry.common_name, low, high, entry.gsd_m or 10.0, kind)
    for name in entry.names:
        try:
            return sensors.resolve_bands([name])[0]
        except InputError:
            continue
    return None


def _nodata(sensor: sensors.Sensor | None, band: Band, found: ItemBand, header: Header) -> float | None:
    """Stored value of missing pixels, by the item, the file or the sensor."""
    if found.nodata is not None:
        return found.nodata
    if header.nodata[found.index - 1] is not None or sensor is None:
        return header.nodata[found.index - 1]
    own = sensor.find(band.name)
    return own.nodata if own is not None and own.nodata is not None else sensor.nodata


def _known(
    item: Item,
    rule: Rule | None,
    sensor: sensors.Sensor | None,
    band: Band,
    found: ItemBand,
    raster: RasterBand,
    header: Header,
    nodata: float | None,
) -> Radiometry | None:
    """Radiometry as the item, its collection's rule and the file say it, or None."""
    own = sensor.find(band.name) if sensor is not None else None
    how = "item" if rule is None else rule.radiometry
    if how == "sensor" and sensor is not None and sensor.scale is not None and sensor.offset is not None:
        scale = own.scale if own is not None and own.scale is not None else sensor.scale
        offset = own.offset if own is not None and own.offset is not None else sensor.offset
        return Radiometry(scale, offset, nodata, "sensor")
    if how == "baseline":
        return Radiometry(1e-4, -0.1 if _baseline(item) >= 4.0 else 0.0, nodata, "stac")
    if found.scale is not None:
        offset = found.offset or 0.0
        if how == "flag" and rule is not None and rule.flag is not None and _flag(item, rule.flag):
            offset = 0.0
        if how == "item-sun" and band.kind == "optical":
            return Radiometry(*with_sun(found.scale, offset, _sun_elevation(item)), nodata, "stac")
        return Radiometry(found.scale, offset, nodata, "stac")
    scale, offset = header.scales[found.index - 1], header.offsets[found.index - 1]
    if (scale, offset) != (1.0, 0.0) and how == "item":
        return Radiometry(scale, offset, nodata, "file")
    if np.dtype(raster.dtype).kind == "f":
        return Radiometry(1.0, 0.0, nodata, "dtype-float")
    return None


def _flag(item: Item, name: str) -> bool:
    value = item.properties.get(name)
    if not isinstance(value, bool):  # a text "false" would count as true
        raise RadiometryError(
            f"Item {item.id} has {name} = {value!r}.",
            expected="It is true where counts lack the offset already, or false.",
            remedy="Say it: --scale 0.0001 --offset 0 where the offset is applied, --offset -0.1 where it is not.",
        )
    return value


def _baseline(item: Item) -> float:
    text = str(item.properties.get("s2:processing_baseline", ""))
    try:
        return finite(text)
    except ValueError as err:
        raise RadiometryError(
            f"Item {item.id} has the processing baseline '{text}'.",
            expected="A number such as 05.09 tells whether counts carry the offset.",
            remedy="Say it: --scale 0.0001 --offset -0.1 from baseline 04.00 on, --offset 0 before.",
        ) from err


def _sun_elevation(item: Item) -> float:
    value = _angle(item, "sun_elevation")
    if value is None:
        raise RadiometryError(
            f"Item {item.id} does not say how high the sun stood.",
            expected="Level 1 counts become reflectance with view:sun_elevation.",
            remedy="Open the product through its MTL file, or pass --scale and --offset.",
        )
    return value


def _angle(item: Item, name: str) -> float | None:
    return number(item.base, name, item.properties.get(f"view:{name}"), item.properties.get(f"eo:{name}"))


def _datetime(item: Item) -> str | None:
    value = item.properties.get("datetime") or item.properties.get("start_datetime")
    return None if value is None else str(value)


def _properties(item: Item, sensor: sensors.Sensor | None, present: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"stac_collection": item.collection, "stac_id": item.id}
    baseline = item.properties.get("s2:processing_baseline") or item.properties.get("processing:version")
    if baseline is not None:
        out["processing_baseline"] = str(baseline)
    azimuth, elevation = _angle(item, "sun_azimuth"), _angle(item, "sun_elevation")
    if azimuth is not None:
        out["sun_azimuth_deg"] = azimuth
    if elevation is not None:
        out["sun_zenith_deg"] = round(90.0 - elevation, 8)
    for name in ("platform", "eo:platform"):
        if name in item.properties:
            out["spacecraft"] = str(item.properties[name])
    if sensor is not None:
        out["missing_bands"] = [band.name for band in sensor.band if band.name not in present]
    return out
