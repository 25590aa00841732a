"""The metadata files of a Sentinel-2 product, as XML trees. Used by the product writer only."""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import sensors

BAND_IDS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    )
}
"""Number of each band in the metadata (bandId, band_id)."""

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SAFE = "http://www.esa.int/safe/sentinel/1.1"
_XFDU = "urn:ccsds:schema:xfdu:1"
_GML = "http://www.opengis.net/gml"
_ANGLE_STEP_M = 5000
_ABSOLUTE_ORBIT = 31632


@dataclass(frozen=True)
class ProductFacts:
    """What the metadata says about one product; see :func:`unclouded.simulate.safe.write_safe`."""

    level: str
    sensing: dt.datetime
    baseline: str
    offsets: dict[str, int] | None
    quantification: int
    sun_zenith_deg: float
    sun_azimuth_deg: float
    tile: str
    spacecraft: str
    relative_orbit: int
    crs: str
    crs_name: str
    ulx: float
    uly: float
    rows_m: int
    cols_m: int
    footprint: list[tuple[float, float]]

    @property
    def stamp(self) -> str:
        """Sensing time as names have it."""
        return f"{self.sensing:%Y%m%dT%H%M%S}"

    @property
    def name(self) -> str:
        """The product's name without suffix. It is a function of the content, so the sensing time stands twice."""
        return (
            f"{self.spacecraft}_MSI{self.level}_{self.stamp}_N{self.baseline.replace('.', '')}"
            f"_R{self.relative_orbit:03d}_{self.tile}_{self.stamp}"
        )

    @property
    def product_file(self) -> str:
        """Name of the product metadata file."""
        return f"MTD_MSI{self.level}.xml"

    @property
    def granule(self) -> str:
        """Folder of the granule, relative to the product."""
        return f"GRANULE/{self.level}_{self.tile}_A{_ABSOLUTE_ORBIT:06d}_{self.stamp}"

    def image(self, band: str, gsd_m: int) -> str:
        """File of a band, relative to the product."""
        stem = f"{self.granule}/IMG_DATA"
        if self.level == "L1C":
            return f"{stem}/{self.tile}_{self.stamp}_{band}.jp2"
        return f"{stem}/R{gsd_m}m/{self.tile}_{self.stamp}_{band}_{gsd_m}m.jp2"


def product_xml(facts: ProductFacts, images: Sequence[str]) -> ET.Element:
    """Product metadata: MTD_MSIL1C.xml or MTD_MSIL2A.xml."""
    level = facts.level[1:]
    space = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd"
    root = _root(f"n1:Level-{level}_User_Product", space)
    general = ET.SubElement(root, "n1:General_Info")
    info = ET.SubElement(general, "Product_Info")
    _texts(
        info,
        PRODUCT_START_TIME=_iso(facts.sensing),
        PRODUCT_STOP_TIME=_iso(facts.sensing),
        PRODUCT_URI=f"{facts.name}.SAFE",
        PROCESSING_LEVEL=f"Level-{level}",
        PRODUCT_TYPE=f"S2MSI{level}",
        PROCESSING_BASELINE=facts.baseline,
        GENERATION_TIME=_iso(facts.sensing),
        PREVIEW_IMAGE_URL="Not applicable",
        PREVIEW_GEO_INFO="Not applicable",
    )
    take_id = f"G{facts.spacecraft}_{facts.stamp}_{_ABSOLUTE_ORBIT:06d}_N{facts.baseline}"
    take = ET.SubElement(info, "Datatake", datatakeIdentifier=take_id)
    _texts(
        take,
        SPACECRAFT_NAME=f"Sentinel-{facts.spacecraft[1:]}",
        DATATAKE_TYPE="INS-NOBS",
        DATATAKE_SENSING_START=_iso(facts.sensing),
        SENSING_ORBIT_NUMBER=str(facts.relative_orbit),
        SENSING_ORBIT_DIRECTION="DESCENDING",
    )
    query = ET.SubElement(info, "Query_Options", completeSingleTile="true")
    _texts(query, PRODUCT_FORMAT="SAFE_COMPACT")
    granules = ET.SubElement(ET.SubElement(info, "Product_Organisation"), "Granule_List")
    granule = ET.SubElement(
        granules,
        "Granule",
        datastripIdentifier=f"{facts.spacecraft}_OPER_MSI_{facts.level}_DS_SIMU_{facts.stamp}_S{facts.stamp}_N{facts.baseline}",
        granuleIdentifier=_tile_id(facts),
        imageFormat="JPEG2000",
    )
    for image in images:
        ET.SubElement(granule, "IMAGE_FILE").text = image.removesuffix(".jp2")
    _image_characteristics(general, facts)
    geometric = ET.SubElement(root, "n1:Geometric_Info")
    outer = ET.SubElement(geometric, "Product_Footprint")
    ring = ET.SubElement(ET.SubElement(ET.SubElement(outer, "Product_Footprint"), "Global_Footprint"), "EXT_POS_LIST")
    ring.text = _ring(facts)
    _texts(outer, RASTER_CS_TYPE="POINT", PIXEL_ORIGIN="1")
    system = ET.SubElement(geometric, "Coordinate_Reference_System")
    ET.SubElement(system, "GEO_TABLES", version="1").text = "EPSG"
    _texts(system, HORIZONTAL_CS_TYPE="GEOGRAPHIC")
    quality = ET.SubElement(root, "n1:Quality_Indicators_Info")
    ET.SubElement(quality, "Cloud_Coverage_Assessment").text = "0.0"
    return root


def _image_characteristics(general: ET.Element, facts: ProductFacts) -> None:
    chars = ET.SubElement(general, "Product_Image_Characteristics")
    for text, index in (("NODATA", "0"), ("SATURATED", "65535")):
        _texts(ET.SubElement(chars, "Special_Values"), SPECIAL_VALUE_TEXT=text, SPECIAL_VALUE_INDEX=index)
    _texts(ET.SubElement(chars, "Image_Display_Order"), RED_CHANNEL="3", GREEN_CHANNEL="2", BLUE_CHANNEL="1")
    if facts.level == "L1C":
        ET.SubElement(chars, "QUANTIFICATION_VALUE", unit="none").text = str(facts.quantification)
        group, element = "Radiometric_Offset_List", "RADIO_ADD_OFFSET"
    else:
        values = ET.SubElement(chars, "QUANTIFICATION_VALUES_LIST")
        ET.SubElement(values, "BOA_QUANTIFICATION_VALUE", unit="none").text = str(facts.quantification)
        ET.SubElement(values, "AOT_QUANTIFICATION_VALUE", unit="none").text = "1000.0"
        ET.SubElement(values, "WVP_QUANTIFICATION_VALUE", unit="cm").text = "1000.0"
        group, element = "BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET"
    if facts.offsets is not None:
        offsets = ET.SubElement(chars, group)
        for name, value in facts.offsets.items():
            ET.SubElement(offsets, element, band_id=str(BAND_IDS[name])).text = str(value)
    spectral = ET.SubElement(chars, "Spectral_Information_List")
    for band in sensors.load("sentinel2-l1c").bands:
        physical = band.name[0] + band.name[1:].lstrip("0")
        entry = ET.SubElement(spectral, "Spectral_Information", bandId=str(BAND_IDS[band.name]), physicalBand=physical)
        _texts(entry, RESOLUTION=f"{band.gsd_m:g}")
        wave = ET.SubElement(entry, "Wavelength")
        for tag, limit in (("MIN", band.min_nm), ("MAX", band.max_nm), ("CENTRAL", band.centre_nm)):
            ET.SubElement(wave, tag, unit="nm").text = f"{limit:g}"


def granule_xml(facts: ProductFacts) -> ET.Element:
    """Tile metadata: MTD_TL.xml. The view is straight down, and the sun stands the same over the whole tile."""
    level = facts.level[1:]
    space = f"https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{level}_Tile_Metadata.xsd"
    root = _root(f"n1:Level-{level}_Tile_ID", space)
    general = ET.SubElement(root, "n1:General_Info")
    _texts(general, TILE_ID=_tile_id(facts), SENSING_TIME=_iso(facts.sensing))
    geometric = ET.SubElement(root, "n1:Geometric_Info")
    coding = ET.SubElement(geometric, "Tile_Geocoding", metadataLevel="Brief")
    _texts(coding, HORIZONTAL_CS_NAME=facts.crs_name, HORIZONTAL_CS_CODE=facts.crs)
    for size in (10, 20, 60):
        shape = ET.SubElement(coding, "Size", resolution=str(size))
        _texts(shape, NROWS=str(facts.rows_m // size), NCOLS=str(facts.cols_m // size))
    for size in (10, 20, 60):
        place = ET.SubElement(coding, "Geoposition", resolution=str(size))
        _texts(
            place,
            ULX=f"{facts.ulx:g}" if facts.ulx % 1 else str(int(facts.ulx)),
            ULY=f"{facts.uly:g}" if facts.uly % 1 else str(int(facts.uly)),
            XDIM=str(size),
            YDIM=str(-size),
        )
    angles = ET.SubElement(geometric, "Tile_Angles", metadataLevel="Standard")
    grid = ET.SubElement(angles, "Sun_Angles_Grid")
    rows, cols = (side // _ANGLE_STEP_M + 2 for side in (facts.rows_m, facts.cols_m))
    for tag, value in (("Zenith", facts.sun_zenith_deg), ("Azimuth", facts.sun_azimuth_deg)):
        part = ET.SubElement(grid, tag)
        ET.SubElement(part, "COL_STEP", unit="m").text = str(_ANGLE_STEP_M)
        ET.SubElement(part, "ROW_STEP", unit="m").text = str(_ANGLE_STEP_M)
        values = ET.SubElement(part, "Values_List")
        for _ in range(rows):
            ET.SubElement(values, "VALUES").text = " ".join([f"{value:g}"] * cols)
    _angle_pair(ET.SubElement(angles, "Mean_Sun_Angle"), facts.sun_zenith_deg, facts.sun_azimuth_deg)
    views = ET.SubElement(angles, "Mean_Viewing_Incidence_Angle_List")
    for number in BAND_IDS.values():
        _angle_pair(ET.SubElement(views, "Mean_Viewing_Incidence_Angle", bandId=str(number)), 0.0, 0.0)
    return root


def manifest_xml(facts: ProductFacts, files: Mapping[str, tuple[int, str]]) -> ET.Element:
    """The list of all files with sizes and SHA3-256 sums: manifest.safe.

    Args:
        facts: the product.
        files: relative path -> (bytes, hexadecimal sum).
    """
    level = facts.level[1:]
    kind = f"esa/safe/sentinel/1.1/sentinel-2/msi/archive_l{level.lower()}_user_product"
    root = ET.Element(
        "xfdu:XFDU",
        {"xmlns:xfdu": _XFDU, "xmlns:safe": _SAFE, "xmlns:gml": _GML, "version": kind},
    )
    package = ET.SubElement(
        ET.SubElement(root, "informationPackageMap"),
        "xfdu:contentUnit",
        textInfo=f"SENTINEL-2 MSI Level-{level} User Product",
        unitType=f"Product_Level-{level}",
    )
    section = ET.SubElement(root, "metadataSection")
    period = _wrapped(section, "acquisitionPeriod", "safe:acquisitionPeriod")
    ET.SubElement(period, "safe:startTime").text = _iso(facts.sensing)
    platform = _wrapped(section, "platform", "safe:platform")
    ET.SubElement(platform, "safe:familyName").text = "SENTINEL"
    ET.SubElement(platform, "safe:number").text = facts.spacecraft[1:]
    frame = _wrapped(section, "measurementFrameSet", "safe:frameSet")
    print_ = ET.SubElement(frame, "safe:footPrint", srsName="http://www.opengis.net/gml/srs/epsg.xml#4326")
    ET.SubElement(print_, "gml:coordinates").text = _ring(facts)
    objects = ET.SubElement(root, "dataObjectSection")
    for number, (path, (size, digest)) in enumerate(sorted(files.items()), start=1):
        identifier = f"object{number:03d}"
        unit = ET.SubElement(package, "xfdu:contentUnit", ID=f"unit{number:03d}")
        ET.SubElement(unit, "dataObjectPointer", dataObjectID=identifier)
        stream = ET.SubElement(
            ET.SubElement(objects, "dataObject", ID=identifier),
            "byteStream",
            mimeType="text/xml" if path.endswith(".xml") else "application/octet-stream",
            size=str(size),
        )
        ET.SubElement(stream, "fileLocation", href=f"./{path}", locatorType="URL")
        ET.SubElement(stream, "checksum", checksumName="SHA3-256").text = digest
    return root


def _root(tag: str, space: str) -> ET.Element:
    # Prefixes are written out: ElementTree keeps its own prefixes in a table shared by the whole process.
    return ET.Element(tag, {"xmlns:n1": space, "xmlns:xsi": _XSI, "xsi:schemaLocation": f"{space} {space}"})


def _wrapped(section: ET.Element, identifier: str, tag: str) -> ET.Element:
    entry = ET.SubElement(section, "metadataObject", ID=identifier, classification="DESCRIPTION", category="DMD")
    wrap = ET.SubElement(entry, "metadataWrap", mimeType="text/xml", vocabularyName="Sentinel-SAFE")
    return ET.SubElement(ET.SubElement(wrap, "xmlData"), tag)


def _tile_id(facts: ProductFacts) -> str:
    return (
        f"{facts.spacecraft}_OPER_MSI_{facts.level}_TL_SIMU_{facts.stamp}_A{_ABSOLUTE_ORBIT:06d}_{facts.tile}"
        f"_N{facts.baseline}"
    )


def _angle_pair(parent: ET.Element, zenith_deg: float, azimuth_deg: float) -> None:
    ET.SubElement(parent, "ZENITH_ANGLE", unit="deg").text = f"{zenith_deg:.9g}"
    ET.SubElement(parent, "AZIMUTH_ANGLE", unit="deg").text = f"{azimuth_deg:.9g}"


def _texts(parent: ET.Element, **values: str) -> None:
    for tag, text in values.items():
        ET.SubElement(parent, tag).text = text


def _iso(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _ring(facts: ProductFacts) -> str:
    return " ".join(f"{latitude:.9f} {longitude:.9f}" for latitude, longitude in facts.footprint)
