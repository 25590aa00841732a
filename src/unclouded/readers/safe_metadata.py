"""What the metadata files of a Sentinel-2 product say: level, quantification, offsets, times, angles.

The offset of each band is what the product lists for it; a product without a list has none. Neither the date nor the
processing baseline decides anything: reprocessed products carry the offset on old dates, and products made outside the
agency carry baselines of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from ..errors import InputError, RadiometryError
from .files import find_all, find_text, finite, local_name

_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Band of each number, in products that do not say it themselves."""


@dataclass(frozen=True)
class ProductMetadata:
    """Content of MTD_MSIL1C.xml or MTD_MSIL2A.xml.

    Attributes:
        level: ``toa`` or ``boa``.
        quantification: counts per unit of reflectance.
        offsets: counts to add, by band name; empty where the product has no list.
        nodata: stored value of missing pixels.
        datetime: sensing time, ISO 8601.
        properties: baseline, spacecraft, orbit and the like.
    """

    level: str
    quantification: float
    offsets: dict[str, float]
    nodata: float
    datetime: str | None
    properties: dict[str, Any] = field(default_factory=dict)

    def offset(self, band: str) -> float:
        """Counts to add to a band.

        Raises:
            RadiometryError: the product lists offsets, but none for this band.
        """
        if not self.offsets:
            return 0.0
        if band not in self.offsets:
            raise RadiometryError(
                f"The product lists offsets for {', '.join(self.offsets)}, but none for {band}.",
                expected="Every band has an offset where any has.",
                remedy="Leave the band out with --bands, or say its radiometry: --scale 0.0001 --offset -0.1.",
            )
        return self.offsets[band]


def is_product(root: Element) -> bool:
    """Whether this is the metadata of a whole product, not of a tile or a data strip."""
    return local_name(root) in ("Level-1C_User_Product", "Level-2A_User_Product")


def parse_product(root: Element, name: str) -> ProductMetadata:
    """Read product metadata.

    Args:
        root: root of the XML.
        name: file, for messages.

    Raises:
        InputError: a number is not one, or cannot be meant.
        RadiometryError: the quantification value is missing.
    """
    level = "toa" if local_name(root) == "Level-1C_User_Product" else "boa"
    # Level-2A products before baseline 02.07 had a prefix of their own.
    tags = (
        ("QUANTIFICATION_VALUE",)
        if level == "toa"
        else ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE", "L1C_L2A_Quantification_Value")
    )
    quantification = find_text(root, *tags)
    if quantification is None:
        raise RadiometryError(
            f"{name} has no {tags[0]}.",
            expected="It says how many counts make a reflectance of 1.",
            remedy="Say it: --scale 0.0001 --offset 0, or --offset -0.1 from baseline 04.00 on.",
        )
    physical = {
        entry.get("bandId", ""): _band_name(entry.get("physicalBand", ""))
        for entry in find_all(root, "Spectral_Information")
    }
    numbers = {str(number): band for number, band in enumerate(_BANDS)} | {
        key: value for key, value in physical.items() if key and value
    }
    offsets: dict[str, float] = {}
    for entry in find_all(root, "RADIO_ADD_OFFSET" if level == "toa" else "BOA_ADD_OFFSET"):
        identifier = entry.get("band_id", entry.get("bandId", ""))
        if identifier not in numbers:
            raise _damaged(f"{name} has an offset for the band number '{identifier}'.", "Band numbers are 0 to 12.")
        offsets[numbers[identifier]] = _number(entry.text, f"The offset of band {identifier}", name)
    special = {
        find_text(entry, "SPECIAL_VALUE_TEXT"): find_text(entry, "SPECIAL_VALUE_INDEX")
        for entry in find_all(root, "Special_Values")
    }
    texts = {
        "processing_baseline": find_text(root, "PROCESSING_BASELINE"),
        "spacecraft": find_text(root, "SPACECRAFT_NAME"),
        "relative_orbit": find_text(root, "SENSING_ORBIT_NUMBER"),
        "orbit_direction": find_text(root, "SENSING_ORBIT_DIRECTION"),
        "product_uri": find_text(root, "PRODUCT_URI", "PRODUCT_URI_1C", "PRODUCT_URI_2A"),
    }
    properties: dict[str, Any] = {key: text for key, text in texts.items() if text is not None}
    if "relative_orbit" in properties:
        orbit = _number(properties["relative_orbit"], "The orbit", name)
        if not 0 <= orbit < 1000:
            raise _damaged(f"The orbit in {name} is {orbit:g}.", "Relative orbits are 1 to 143.")
        properties["relative_orbit"] = int(orbit)
    return ProductMetadata(
        level=level,
        quantification=_number(quantification, "The quantification value", name),
        offsets=offsets,
        nodata=_number(special.get("NODATA") or "0", "The value of missing pixels", name),
        datetime=find_text(root, "PRODUCT_START_TIME", "DATATAKE_SENSING_START"),
        properties=properties,
    )


def parse_tile(root: Element, name: str) -> dict[str, Any]:
    """Tile identifier, sensing time and mean sun angles of MTD_TL.xml, those that are there."""
    out: dict[str, Any] = {}
    tile = find_text(root, "TILE_ID")
    if tile is not None:
        out["tile_id"] = tile
        places = [part for part in tile.split("_") if len(part) == 6 and part[0] == "T" and part[1:3].isdigit()]
        if places:
            out["tile"] = places[-1]
    sensing = find_text(root, "SENSING_TIME")
    if sensing is not None:
        out["sensing_time"] = sensing
    sun = next(find_all(root, "Mean_Sun_Angle"), None)
    if sun is not None:
        for key, tag in (("sun_zenith_deg", "ZENITH_ANGLE"), ("sun_azimuth_deg", "AZIMUTH_ANGLE")):
            text = find_text(sun, tag)
            if text is not None:
                out[key] = _number(text, "A sun angle", name)
    return out


def _band_name(physical: str) -> str:
    """``B1`` in the metadata is ``B01`` in file names."""
    number = physical[1:]
    return f"B{number:>02}" if number.isascii() and number.isdecimal() else physical


def _number(text: str | None, what: str, name: str) -> float:
    try:
        return finite(text or "")
    except ValueError as err:
        raise _damaged(f"{what} in {name} is '{text or ''}'.", "A finite number is expected.") from err


def _damaged(found: str, expected: str) -> InputError:
    return InputError(found, expected=expected, remedy="Download the product again; its metadata is damaged.")
