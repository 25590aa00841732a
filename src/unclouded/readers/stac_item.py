"""The parts of a STAC item that matter here, whatever its version writes them like, and the rules of collections."""

from __future__ import annotations

import fnmatch
import math
import os.path
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from pydantic import BaseModel, ConfigDict

from ..errors import InputError

_RULES = Path(__file__).with_name("stac_rules.toml")
_REMOTE = re.compile(
    r"(?:https?|ftp|s3|gs|az|oss)://|/vsi(?:curl/(?:https?|ftp)://|s3/|gs/|az/|adls/|oss/|swift/)", re.IGNORECASE
)
"""Addresses on a network. Others that GDAL knows read local files inside archives, byte ranges, standard input."""

_MOST_BANDS = 10_000


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
        href: address as the item has it, see :meth:`Item.resolve`.
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
        within: folder that images on this machine have to lie in; None leaves it to whoever made the item.
    """

    id: str
    collection: str
    properties: Mapping[str, Any]
    assets: Mapping[str, Mapping[str, Any]]
    base: str
    within: Path | None = None

    @classmethod
    def of(cls, document: Any, base: str, within: Path | None = None) -> Item:
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
            raise _invalid(base, "'properties' or 'assets'", "Properties and assets are objects.")
        if base.startswith("file:"):
            base = url2pathname(urlsplit(base).path)
        # Before STAC 0.9 the collection stood among the properties.
        collection = document.get("collection") or properties.get("collection")
        return cls(
            text(document.get("id", "item"), base, "id") or "item",
            text(collection, base, "collection") or "",
            properties,
            {str(key): asset for key, asset in assets.items() if isinstance(asset, Mapping) and asset.get("href")},
            base,
            within,
        )

    def rule(self) -> Rule | None:
        """The first rule that fits."""
        return next((rule for rule in rules() if rule.fits(self)), None)

    def bands(self) -> Iterator[ItemBand]:
        """All bands of all image assets.

        Raises:
            InputError: an asset does not say what STAC wants it to say.
        """
        count = 0
        for key, asset in self.assets.items():
            if not _is_image(key, asset):
                continue
            where = f"{self.base}, asset '{text(key, self.base, 'assets')}'"
            described = self._described(asset, where)
            rasters = _objects(asset.get("raster:bands"), where, "raster:bands")
            count += max(1, len(described), len(rasters))
            if count > _MOST_BANDS:
                raise _invalid(where, f"its more than {_MOST_BANDS} bands", "An item has at most a few hundred.")
            for place in range(max(1, len(described), len(rasters))):
                band = described[place] if place < len(described) else {}
                raster = rasters[place] if place < len(rasters) else {}
                name = text(band.get("name"), where, "name")
                common = text(band.get("eo:common_name") or band.get("common_name"), where, "common_name")
                candidates = [key, name, common] if len(described) <= 1 else [name, common]
                yield ItemBand(
                    asset=key,
                    href=text(asset["href"], where, "href") or "",
                    index=place + 1,
                    names=tuple(one for one in candidates if one),
                    common_name=common,
                    centre_nm=_micrometres(band, where, "center_wavelength"),
                    width_nm=_micrometres(band, where, "full_width_half_max"),
                    gsd_m=number(where, "gsd", band.get("gsd"), asset.get("gsd"), raster.get("spatial_resolution")),
                    scale=number(
                        where, "scale", raster.get("scale"), band.get("raster:scale"), asset.get("raster:scale")
                    ),
                    offset=number(
                        where, "offset", raster.get("offset"), band.get("raster:offset"), asset.get("raster:offset")
                    ),
                    nodata=_nodata(where, raster.get("nodata"), band.get("nodata"), asset.get("nodata")),
                )

    def _described(self, asset: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
        found = asset.get("bands") or asset.get("eo:bands") or []
        if isinstance(found, (list, tuple)) and all(isinstance(entry, int) for entry in found):
            # STAC 0.7: numbers in the item's own list
            shared = _objects(self.properties.get("eo:bands"), where, "eo:bands")
            return [shared[entry] if 0 <= entry < len(shared) else {} for entry in found]
        return _objects(found, where, "bands")

    def resolve(self, href: str) -> str:
        """What GDAL opens for a reference.

        Items come from strangers. One that was fetched must not make this machine read its own files, and one that was
        opened from a file must not lead out of its folder.

        Raises:
            InputError: the reference leads where the item has no business, or is none.
        """
        if not href.isprintable():
            raise self._refused(href, "It has characters that no address has.")
        if _REMOTE.match(href):
            return href
        try:
            parts = urlsplit(href)
        except ValueError as err:
            raise self._refused(href, "It is no address.") from err
        if parts.scheme == "file":
            href = url2pathname(parts.path)
        elif len(parts.scheme) > 1 or href.startswith("/vsi"):
            raise self._refused(href, "Images lie beside the item, or at addresses such as https:// and s3://.")
        elif "://" in self.base:
            return urljoin(self.base, href)
        if "://" in self.base:
            raise self._refused(href, "An item on a server has its images on servers.")
        path = os.path.normpath(os.path.abspath(Path(self.base).parent / href))
        if self.within is not None and not Path(path).is_relative_to(os.path.abspath(self.within)):
            raise self._refused(href, f"The images of an item file lie in its folder {self.within} or below.")
        return path

    def _refused(self, href: str, expected: str) -> InputError:
        return InputError(
            f"Item {self.id} refers to '{href}'.",
            expected=expected,
            remedy="Put the images into the item's folder; or, where the item is to be trusted, open it in Python:"
            ' unclouded.open_scene(pystac.Item.from_file("item.json")).',
        )


def _is_image(key: str, asset: Mapping[str, Any]) -> bool:
    media = str(asset.get("type", "")).lower()
    href = str(asset["href"]).split("?")[0].lower()
    roles = asset.get("roles")
    if key.endswith("-jp2"):
        return False  # Earth Search lists every band twice
    if isinstance(roles, (list, tuple)) and any(role in roles for role in ("thumbnail", "overview", "metadata")):
        return False
    return "tiff" in media or "jp2" in media or href.endswith((".tif", ".tiff", ".jp2"))


def _objects(value: Any, where: str, key: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in value):
        raise _invalid(where, f"'{key}'", "It is a list of objects.")
    return list(value)


def text(value: Any, where: str, key: str) -> str | None:
    """Text that can be written, or None.

    Raises:
        InputError: it is something else, or holds characters that cannot be printed.
    """
    if value is None or (isinstance(value, str) and value.isprintable()):
        return value
    shown = repr(value) if isinstance(value, str) else f"of type '{type(value).__name__}'"
    raise _invalid(where, f"'{key}'", f"It is text that can be printed; here it is {shown}.")


def _micrometres(band: Mapping[str, Any], where: str, key: str) -> float | None:
    value = number(where, key, band.get(f"eo:{key}"), band.get(key))
    # In nanometres the largest numbers would become infinite.
    return None if value is None else number(where, key, 1000.0 * value)


def number(where: str, key: str, *values: Any) -> float | None:
    """The first that is given.

    Raises:
        InputError: it is no finite number. To pass over a scale in quotes would be to pass over the scale.
    """
    value = next((one for one in values if one is not None), None)
    if value is None:
        return None
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # whole numbers of hundreds of digits
            if math.isfinite(found := float(value)):
                return found
    shown = repr(value) if isinstance(value, (str, float)) else f"of type '{type(value).__name__}'"
    raise _invalid(where, f"'{key}'", f"It is a finite number; here it is {shown}.")


def _nodata(where: str, *values: Any) -> float | None:
    """Value of missing pixels, which JSON has to write in quotes where it is no number."""
    value = next((one for one in values if one is not None), None)
    if value in ("nan", "inf", "-inf") or (isinstance(value, float) and math.isnan(value)):
        return float(value)
    return number(where, "nodata", value)


def _invalid(where: str, what: str, expected: str) -> InputError:
    return InputError(
        f"{where} is not a valid STAC item: see {what}.", expected=expected, remedy="Validate it: stac-validator."
    )
