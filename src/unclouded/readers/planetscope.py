"""PlanetScope analytic images with the files that come beside them: metadata and usable data mask.

Surface reflectance (``_SR``) has a fixed scale. Analytic images without it are radiances, which the metadata turns
into reflectance at the top of the atmosphere with one coefficient for each band and scene; the metadata of surface
reflectance lists the same coefficients, which must not be applied there. Pixels that the mask calls blackfill are
missing; its cloud bands are not used, see :mod:`unclouded.decoders` for these.

Source:
    Planet, PlanetScope Product Specifications: 3.1 radiometric interpretation, table of UDM2 bands, general XML
    metadata file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from .. import sensors
from ..errors import InputError, RadiometryError
from ..raster import Header, RasterBand, header
from ..raster_files import PRODUCT_FORMATS, environment, read_errors
from ..scene import Band, Radiometry, Scene, metres_per_pixel
from . import Reader, Request, register
from .files import Files, find_all, find_text, finite

_IMAGE = re.compile(r"^(.+?)_3B_AnalyticMS\w*\.tiff?$", re.IGNORECASE)
_METADATA = re.compile(r"_metadata(?:_clip)?\.xml$", re.IGNORECASE)
_MASK = re.compile(r"_(?:3B_udm2|udm2|DN_udm)(?:_clip)?\.tiff?$", re.IGNORECASE)


@register
class PlanetScopeReader(Reader):
    """PlanetScope scenes of 4 and 8 bands."""

    name = "planetscope"
    title = "a PlanetScope analytic image, or the folder of one"
    rank = 40

    def matches(self, source: Any) -> bool:
        """An image that is named and has as many bands as PlanetScope images have, or a folder with one."""
        if not isinstance(source, Path):
            return False
        try:
            found = _images(source)
            return bool(found) and all(_sensor(path) is not None for path in found)
        except (OSError, InputError):
            return False

    def open(self, source: Path, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        found = _images(source)
        if len(found) > 1:
            raise InputError(
                f"{source} holds {len(found)} images: {', '.join(path.name for path in found[:3])}.",
                expected="One image is opened at a time.",
                remedy="Pass the image itself.",
            )
        image = found[0].absolute()
        sensor = _sensor(image)
        assert sensor is not None
        if request.sensor not in (None, sensor.name):
            raise InputError(
                f"{image.name} is an image of {sensor.name}, and the sensor was given as {request.sensor}.",
                expected="The file's name says what it is.",
                remedy="Leave --sensor out, or rename the file.",
            )
        files = Files.of(image.parent)
        beside = [name for name in files.names if "/" not in name and name.startswith(_scene_name(image) + "_")]
        metadata = _Metadata.read(files, [name for name in beside if _METADATA.search(name)], sensor)
        mask = next((name for name in beside if _MASK.search(name)), None)
        head = header(str(image))
        bands: list[Band] = []
        sources: dict[str, RasterBand] = {}
        radiometry: dict[str, Radiometry] = {}
        for name in request.wanted([band.name for band in sensor.band], sensor, image.name):
            number = next(place for place, band in enumerate(sensor.band, start=1) if band.name == name)
            raster, _ = RasterBand.open(str(image), number, formats=PRODUCT_FORMATS)
            nodata = head.nodata[number - 1] if head.nodata[number - 1] is not None else sensor.nodata
            record = request.radiometry(_known(sensor, metadata, number, nodata), nodata)
            if record is None:
                raise _unknown(image)
            sources[name] = raster if mask is None else UsableBand.of(raster, head, files.gdal(mask))
            radiometry[name] = record
            bands.append(replace(sensor.bands[number - 1], gsd_m=round(metres_per_pixel(head.geobox()), 6)))
        properties = dict(metadata.properties) if metadata else {}
        if mask is not None:
            properties["usable_data_mask"] = mask
        return Scene(
            id=image.stem,
            sensor=sensor.name,
            level=request.level or sensor.level,
            bands=tuple(bands),
            geobox=head.geobox(),
            radiometry=radiometry,
            sources=dict(sources),
            source=str(source),
            datetime=(metadata.datetime if metadata else None) or _time(image.name),
            properties=properties,
        )


@dataclass(frozen=True, eq=False)
class UsableBand(RasterBand):
    """A band whose missing pixels are also those that a usable data mask calls blackfill.

    Attributes:
        udm: the mask's file.
        udm_index: band of the unusable data flags, whose bit 0 is blackfill: the 8th of UDM2, the only one of UDM.
    """

    udm: str = ""
    udm_index: int = 8

    @classmethod
    def of(cls, band: RasterBand, image: Header, udm: str) -> UsableBand:
        """Put a mask over a band.

        Raises:
            InputError: the mask lies on other pixels than the image, or is none.
        """
        mask = header(udm)
        if mask.shape != image.shape or not mask.affine.almost_equals(image.affine, precision=1e-6):
            raise InputError(
                f"The usable data mask {udm} has {mask.shape[0]} x {mask.shape[1]} pixels, the image {image.shape[0]} x"
                f" {image.shape[1]}.",
                expected="Both are cut alike.",
                remedy="Order both with the same tools, or move the mask elsewhere to do without it.",
            )
        if mask.count not in (1, 8):
            raise InputError(
                f"The usable data mask {udm} has {mask.count} bands.",
                expected="UDM2 has 8 bands, the older UDM one.",
                remedy="Download the mask again, or move it elsewhere to do without it.",
            )
        own = {one.name: getattr(band, one.name) for one in fields(RasterBand)}
        return cls(**own, udm=udm, udm_index=mask.count)

    def _load(self, rows: Any, cols: Any, factor: int, level: int | None, size: int) -> tuple[Any, Any, Any, Any]:
        stored, mask, y, x = super()._load(rows, cols, factor, level, size)
        window = Window(
            x.low * size,
            y.low * size,
            min(x.high * size, self.shape[1]) - x.low * size,
            min(y.high * size, self.shape[0]) - y.low * size,
        )
        with read_errors(self.udm), environment(self.udm), rasterio.open(self.udm) as dataset:
            flags = dataset.read(self.udm_index, window=window)
        usable = np.where(_any_in_blocks(flags & 1, size, stored.shape), 0, 255).astype(np.uint8)
        return stored, usable if mask is None else np.minimum(mask, usable), y, x


def _any_in_blocks(flags: NDArray[Any], size: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a flag stands anywhere in each block of ``size`` x ``size`` pixels; the last blocks may be cut off."""
    height, width = shape
    full = np.zeros((height * size, width * size), bool)
    full[: flags.shape[0], : flags.shape[1]] = flags
    return np.asarray(full.reshape(height, size, width, size).any(axis=(1, 3)))


@dataclass(frozen=True)
class _Metadata:
    """What the XML file beside an image says.

    Attributes:
        coefficients: reflectance per count at the top of the atmosphere, by number of the band.
        datetime: time of acquisition, or None.
        properties: angles of the sun and the spacecraft.
    """

    coefficients: dict[int, float]
    datetime: str | None
    properties: dict[str, Any]

    @classmethod
    def read(cls, files: Files, names: list[str], sensor: sensors.Sensor) -> _Metadata | None:
        """Metadata of the image with as many bands as the sensor has; None where there are none.

        Raises:
            InputError: a file is damaged.
        """
        for name in names:
            root = files.xml(name)
            coefficients = {}
            for block in find_all(root, "bandSpecificMetadata"):
                number = _number(find_text(block, "bandNumber"), name)
                value = _number(find_text(block, "reflectanceCoefficient"), name)
                if number is not None and value is not None:
                    coefficients[int(number)] = value
            if len(coefficients) not in (0, len(sensor.band)):
                continue
            elevation = _number(find_text(root, "illuminationElevationAngle"), name)
            azimuth = _number(find_text(root, "illuminationAzimuthAngle"), name)
            properties: dict[str, Any] = {"spacecraft": find_text(root, "serialIdentifier")}
            if elevation is not None:
                properties["sun_zenith_deg"] = round(90.0 - elevation, 8)
            if azimuth is not None:
                properties["sun_azimuth_deg"] = azimuth
            time = find_text(root, "acquisitionDateTime", "acquisitionDate")
            return cls(coefficients, _utc(time), {key: one for key, one in properties.items() if one is not None})
        return None


def _images(source: Path) -> list[Path]:
    """Analytic images at a place."""
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [path for path in paths if path.is_file() and _IMAGE.match(path.name) and not _MASK.search(path.name)]


def _sensor(image: Path) -> sensors.Sensor | None:
    found = sensors.detect(image.stem)
    if found is None or not found.name.startswith("planetscope-"):
        return None
    # A stack that is named like a product is taken as one only if it has the product's bands.
    return found if header(str(image)).count == len(found.band) else None


def _scene_name(image: Path) -> str:
    match = _IMAGE.match(image.name)
    assert match is not None
    return match.group(1)


def _known(
    sensor: sensors.Sensor, metadata: _Metadata | None, number: int, nodata: float | None
) -> Radiometry | None:
    if sensor.scale is not None and sensor.offset is not None:
        return Radiometry(sensor.scale, sensor.offset, nodata, "sensor")
    coefficient = metadata.coefficients.get(number) if metadata is not None else None
    return None if coefficient is None else Radiometry(coefficient, 0.0, nodata, "product-xml")


def _unknown(image: Path) -> RadiometryError:
    return RadiometryError(
        f"{image.name} holds radiances, and no metadata beside it says how they become reflectance.",
        expected=f"{_scene_name(image)}_3B_AnalyticMS_metadata.xml has a reflectanceCoefficient for each band.",
        remedy="Put the metadata file of the order beside the image, or say --scale and --offset 0.",
    )


def _number(text: str | None, name: str) -> float | None:
    try:
        return None if text is None else finite(text)
    except ValueError as err:
        raise InputError(
            f"'{name}' has '{text}' where a number belongs.",
            expected="Coefficients and angles are numbers.",
            remedy="Download the metadata again; the file is damaged.",
        ) from err


def _utc(text: str | None) -> str | None:
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", text or "")
    return f"{match.group(1)}Z" if match else None


def _time(name: str) -> str | None:
    match = re.match(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)", name)
    return "{}-{}-{}T{}:{}:{}Z".format(*match.groups()) if match else None
