"""The parts of a STAC item that matter here, whatever its version writes them like, and the rules of collections."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from pydantic import BaseModel, ConfigDict

from ..errors import InputError

_RULES = Path(__file__).with_name("stac_rules.toml")


class Rule(BaseModel):
    """One entry of stac_rules.toml; see there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collection: tuple[str, ...]
    requires: tuple[str, ...] = ()
    sensor: str
    radiometry: Literal["item", "flag", "baseline", "sensor", "item-sun"]
    flag: str | None = None
    assets: dict[str, str] = {}

    def fits(self, item: Item) -> bool:
        """Whether the rule is about this item."""
        return any(fnmatch.fnmatchcase(item.collection, pattern) for pattern in self.collection) and all(
            name.removeprefix("asset:") in item.assets if name.startswith("asset:") else name in item.properties
            for name in self.requires
        )


@cache
def rules() -> tuple[Rule, ...]:
    """All rules, in the order in which they are tried."""
    with _RULES.open("rb") as file:
        return tuple(Rule.model_validate(entry) for entry in tomllib.load(file)["rule"])


@dataclass(frozen=True)
class ItemBand:
    """One band of one asset as the item describes it.

    Attributes:
        asset: key of the asset.
        href: address, resolved.
        index: number in the file, from 1.
        names: names it goes by, best first: the asset's key, the band's name, its common name.
        common_name, centre_nm, width_nm: as far as given.
        gsd_m: pixel size that the item states, or None.
        scale, offset, nodata: as far as given.
    """

    asset: str
    href: str
    index: int
    names: tuple[str, ...]
    common_name: str | None
    centre_nm: float | None
    width_nm: float | None
    gsd_m: float | None
    scale: float | None
    offset: float | None
    nodata: float | None


@dataclass(frozen=True)
class Item:
    """A STAC item.

    Attributes:
        id, collection, properties, assets: as in the document.
        base: address that relative references start from.
    """

    id: str
    collection: str
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    base: str

    @classmethod
    def of(cls, document: Any, base: str) -> Item:
        """Check that a document is an item.

        Raises:
            InputError: it is something else.
        """
        if not isinstance(document, Mapping) or document.get("type") != "Feature" or "assets" not in document:
            kind = document.get("type") if isinstance(document, Mapping) else type(document).__name__
            raise InputError(
                f"{base} is a document of type '{kind}'.",
                expected="One STAC item is expected: a Feature with assets.",
                remedy="Pass the item itself, not its collection, catalogue or a search result.",
            )
        properties = document.get("properties") or {}
        assets = document["assets"]
        if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
            raise InputError(
                f"{base} is not a valid STAC item.",
                expected="Properties and assets are objects.",
                remedy="Validate it: stac-validator.",
            )
        # Before STAC 0.9 the collection stood among the properties.
        collection = document.get("collection") or properties.get("collection") or ""
        return cls(
            str(document.get("id", "item")),
            str(collection),
            properties,
            {str(key): asset for key, asset in assets.items() if isinstance(asset, Mapping) and asset.get("href")},
            base,
        )

    def rule(self) -> Rule | None:
        """The first rule that fits."""
        return next((rule for rule in rules() if rule.fits(self)), None)

    def bands(self) -> Iterator[ItemBand]:
        """All bands of all image assets."""
        for key, asset in self.assets.items():
            if not _is_image(key, asset):
                continue
            described = self._described(asset)
            rasters = asset.get("raster:bands") or []
            for place in range(max(1, len(described), len(rasters))):
                band = described[place] if place < len(described) else {}
                raster = rasters[place] if place < len(rasters) else {}
                common = band.get("eo:common_name") or band.get("common_name")
                candidates = [key, band.get("name"), common] if len(described) <= 1 else [band.get("name"), common]
                yield ItemBand(
                    asset=key,
                    href=self.resolve(str(asset["href"])),
                    index=place + 1,
                    names=tuple(str(name) for name in candidates if name),
                    common_name=common,
                    centre_nm=_micrometres(band, "center_wavelength"),
                    width_nm=_micrometres(band, "full_width_half_max"),
                    gsd_m=_number(band.get("gsd"), asset.get("gsd"), raster.get("spatial_resolution")),
                    scale=_number(raster.get("scale"), band.get("raster:scale"), asset.get("raster:scale")),
                    offset=_number(raster.get("offset"), band.get("raster:offset"), asset.get("raster:offset")),
                    nodata=_number(raster.get("nodata"), band.get("nodata"), asset.get("nodata")),
                )

    def _described(self, asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        found = asset.get("bands") or asset.get("eo:bands") or []
        shared = self.properties.get("eo:bands") or []
        out = []
        for entry in found:
            if isinstance(entry, int) and 0 <= entry < len(shared):  # STAC 0.7: numbers in the item's own list
                entry = shared[entry]
            out.append(entry if isinstance(entry, Mapping) else {})
        return out

    def resolve(self, href: str) -> str:
        """What GDAL opens for a reference."""
        parts = urlsplit(href)
        if parts.scheme == "file":
            return url2pathname(parts.path)
        if parts.scheme and len(parts.scheme) > 1:
            return href
        if href.startswith("/vsi") or PurePosixPath(href).is_absolute() or len(parts.scheme) == 1:
            return href
        if "://" in self.base:
            return urljoin(self.base, href)
        return str((Path(self.base).parent / href).absolute())


def _is_image(key: str, asset: Mapping[str, Any]) -> bool:
    media = str(asset.get("type", "")).lower()
    href = str(asset["href"]).split("?")[0].lower()
    roles = asset.get("roles") or []
    if key.endswith("-jp2") or {"thumbnail", "overview", "metadata"} & set(roles):
        return False  # Earth Search lists every band twice
    return "tiff" in media or "jp2" in media or href.endswith((".tif", ".tiff", ".jp2"))


def _micrometres(band: Mapping[str, Any], key: str) -> float | None:
    value = _number(band.get(f"eo:{key}"), band.get(key))
    return None if value is None else 1000.0 * value


def _number(*values: Any) -> float | None:
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if value == "nan":
            return float("nan")
    return None
