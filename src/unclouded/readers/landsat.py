"""Landsat 1 to 9: folders and tar files with an MTL file, Level 1 and Level 2, Collections 1, 2 and earlier.

Level 1 becomes reflectance at the top of the atmosphere with the product's own factors and the elevation of the sun;
old products that give radiance only, with the solar irradiance of the sensor file. Thermal bands become kelvin.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .. import sensors
from ..errors import InputError, RadiometryError
from ..radiometry import from_radiance, with_sun
from ..raster import Header, RasterBand
from ..raster_files import PRODUCT_FORMATS
from ..scene import Band, Radiometry, Scene
from . import Reader, Request, register
from .files import Files
from .grids import check_grids, finest
from .mtl import ESPA, NAME, Groups, find, number, read_espa, read_mtl
from .no_images import no_images

_ARCHIVE = re.compile(r"\.(tar|tgz|tar\.gz)$", re.IGNORECASE)
_PRODUCT = re.compile(r"^L[COTEM]\d{2}_|^L[COTEM]\d{14}|^L[COTEM]\d{20}")
_SURFACE = re.compile(r"_sr_band\d\.tif$", re.IGNORECASE)
_RESCALING = ("LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING")
_THERMAL = ("LEVEL1_THERMAL_CONSTANTS", "TIRS_THERMAL_CONSTANTS", "THERMAL_CONSTANTS")
_FORMS = (".json", ".txt", ".xml")


@register
class LandsatReader(Reader):
    """Landsat products with an MTL file."""

    name = "landsat"
    title = "a Landsat folder, tar or MTL file (Level 1 and 2)"
    rank = 20

    def matches(self, source: Any) -> bool:
        """A folder or tar with an MTL file or with surface reflectance bands of Collection 1, or a metadata file."""
        if not isinstance(source, Path):
            return False
        if source.is_dir():
            try:
                return any(NAME.search(path.name) or _SURFACE.search(path.name) for path in source.iterdir())
            except OSError:
                return False
        if _ARCHIVE.search(source.name):
            try:
                names = Files.of(source).names
            except InputError:
                return bool(_PRODUCT.match(source.name))
            return any(NAME.search(PurePosixPath(name).name) or _SURFACE.search(name) for name in names)
        return NAME.search(source.name) is not None or _is_espa(source)

    def open(self, source: Path, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        root = source.parent if source.is_file() and not _ARCHIVE.search(source.name) else source
        files = Files.of(root.absolute())
        product = _Product.find(files, source)
        sensor = product.sensor(request)
        images = product.images(sensor)
        # Thermal bands of old products may lack their constants.
        present = [band.name for band in sensor.band if band.name in images and product.convertible(band)]
        names = request.wanted(present, sensor, product.id)
        if not names:
            said = product.all_radiometry(sensor)
            raise no_images(str(source), product.id, sensor, said, product.datetime(), product.properties())
        bands: list[Band] = []
        sources: dict[str, Any] = {}
        headers: dict[str, Header] = {}
        radiometry: dict[str, Radiometry] = {}
        for name in names:
            known = sensor.find(name)
            assert known is not None
            thermal = None
            if request.scale is not None and request.offset is not None and known.kind == "optical":
                own = request.radiometry(None, sensor.nodata if known.nodata is None else known.nodata)
            else:
                record, thermal = product.radiometry(known, sensor)
                own = request.radiometry(record, kind=known.kind)
            assert own is not None
            raster, header = RasterBand.open(
                files.gdal(images[name]),
                thermal=thermal,
                formats=PRODUCT_FORMATS,
            )
            sources[name], headers[name], radiometry[name] = raster, header, own
            gsd = round(abs(raster.affine.a), 6)
            bands.append(Band(name, known.common_name, known.min_nm, known.max_nm, gsd, known.kind))
        check_grids({name: header.geobox() for name, header in headers.items()}, str(source))
        # The panchromatic band is finer than anything the mask is made from, and its grid lies half a pixel aside.
        others = [headers[band.name].geobox() for band in bands if band.common_name != "pan"]
        properties = product.properties()
        properties["missing_bands"] = [band.name for band in sensor.band if band.name not in present]
        return Scene(
            id=product.id,
            sensor=sensor.name,
            level=request.level or sensor.level,
            bands=tuple(bands),
            geobox=finest(others or [header.geobox() for header in headers.values()]),
            radiometry=radiometry,
            sources=sources,
            source=str(source),
            datetime=product.datetime(),
            properties=properties,
        )


@dataclass(frozen=True)
class _Product:
    """A product's files and what its metadata says.

    Attributes:
        files: everything in the folder or archive.
        id: the product's name.
        groups: metadata; empty for Collection 1 surface reflectance that came without.
        surface: surface reflectance as it was made on order from Collection 1 and before.
        said_by: source of the factors that ``groups`` hold.
    """

    files: Files
    id: str
    groups: Groups
    surface: bool
    said_by: str = "product-mtl"

    @classmethod
    def find(cls, files: Files, source: Path) -> _Product:
        """Find and read the metadata.

        Raises:
            InputError: there are several products in one folder.
        """
        metadata = sorted(
            (name for name in files.names if NAME.search(PurePosixPath(name).name)),
            key=lambda name: (_FORMS.index(PurePosixPath(name).suffix.lower()), name),
        )
        surface = any(_SURFACE.search(name) for name in files.names)
        ordered = [name for name in files.names if surface and ESPA.match(PurePosixPath(name).name)]
        if source.is_file() and source.name in files.names:
            if ESPA.match(source.name):
                metadata, ordered, surface = [], [source.name], True
            else:
                metadata = [source.name]
        stems = {_stem(name) for name in metadata} or {_stem(name) for name in ordered}
        if len(stems) > 1:
            raise InputError(
                f"{files.root} holds {len(stems)} Landsat products: {', '.join(sorted(stems)[:4])}.",
                expected="One product is opened at a time.",
                remedy="Pass the MTL file of one of them.",
            )
        groups = read_mtl(files, metadata[0]) if metadata else {}
        factors = read_espa(files, ordered[0]) if len(ordered) == 1 else {}
        groups = {**groups, **factors}
        said = find(groups, "LANDSAT_PRODUCT_ID", "PRODUCT_CONTENTS", "METADATA_FILE_INFO") or find(
            groups, "LANDSAT_SCENE_ID", "METADATA_FILE_INFO"
        )
        name = said or (stems.pop() if stems else files.root.name.partition(".")[0])
        return cls(files, name, groups, surface, "product-xml" if factors else "product-mtl")

    def sensor(self, request: Request) -> sensors.Sensor:
        """The sensor in the catalogue."""
        name = self._sensor_name()
        if request.sensor is not None and request.sensor != name:
            raise InputError(
                f"{self.id} is a product of {name}, and the sensor was given as {request.sensor}.",
                expected="The product says itself what it is.",
                remedy="Leave --sensor out.",
            )
        return sensors.load(name)

    def _sensor_name(self) -> str:
        spacecraft = find(self.groups, "SPACECRAFT_ID") or ""
        instrument = (find(self.groups, "SENSOR_ID") or "").upper()
        if not spacecraft:
            letter, craft = self.id[1:2], self.id[2:4].lstrip("0")[:1]
            instrument = {"C": "OLI", "O": "OLI", "E": "ETM", "T": "TM", "M": "MSS"}.get(letter, "")
        else:
            craft = re.sub(r"\D", "", spacecraft)[-1:]
        collection = (find(self.groups, "COLLECTION_NUMBER") or "1").lstrip("0")
        level = find(self.groups, "PROCESSING_LEVEL", "PRODUCT_CONTENTS") or "L1"
        stage = "l2" if level.startswith("L2") or self.surface else "l1"
        if self.surface:
            collection = "1"
        if instrument == "MSS":
            return "landsat-mss45-l1" if craft in ("4", "5") else "landsat-mss123-l1"
        family = {"OLI_TIRS": "oli", "OLI": "oli", "ETM": "etm", "ETM+": "etm", "TM": "tm"}.get(instrument)
        name = f"landsat-{family}-c{'2' if collection == '2' else '1'}-{stage}"
        if family is None or name not in sensors.names():
            raise InputError(
                f"{self.id} is by the instrument '{instrument}' of '{spacecraft}'.",
                expected="Instruments are OLI_TIRS, ETM, TM and MSS.",
                remedy="Open single bands as rasters, with --bands, --scale and --offset.",
            )
        return name

    def images(self, sensor: sensors.Sensor) -> dict[str, str]:
        """File of each band: the one that the metadata names, or the one with the band's ending."""
        by_name = {PurePosixPath(name).name.casefold(): name for name in self.files.names}
        out = {}
        for band in sensor.band:
            # Beside surface reflectance of Collection 1, the MTL file names the images of Level 1.
            said = None if self.surface else find(self.groups, f"FILE_NAME_BAND_{_number(band.name)}")
            if said is not None and said.casefold() in by_name:
                out[band.name] = by_name[said.casefold()]
                continue
            ending = re.compile(rf"(?:^|_){re.escape(band.name)}\.tiff?$", re.IGNORECASE)
            found = [name for name in self.files.names if ending.search(PurePosixPath(name).name)]
            if len(found) == 1:
                out[band.name] = found[0]
        return out

    def convertible(self, band: sensors.SensorBand) -> bool:
        """Whether the metadata says how a thermal band becomes temperature; other bands have to say it."""
        if band.kind != "thermal" or band.name.startswith("ST_"):
            return True
        place = _number(band.name)
        return all(number(self.groups, f"{key}_CONSTANT_BAND_{place}", *_THERMAL) is not None for key in ("K1", "K2"))

    def radiometry(
        self, band: sensors.SensorBand, sensor: sensors.Sensor, thermal: tuple[float, float] | None = None
    ) -> tuple[Radiometry, tuple[float, float] | None]:
        """Scale and offset of a band, and the thermal constants that follow, or ``thermal`` where none are said.

        Raises:
            RadiometryError: the metadata does not say them.
        """
        place = _number(band.name)
        nodata = sensor.nodata if band.nodata is None else band.nodata
        if sensor.radiometry == "fixed":
            group, key = (
                ("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", "TEMPERATURE")
                if band.kind == "thermal"
                else ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE")
            )
            mult = number(self.groups, f"{key}_MULT_BAND_{place}", group)
            add = number(self.groups, f"{key}_ADD_BAND_{place}", group)
            if mult is not None and add is not None:
                return Radiometry(mult, add, nodata, self.said_by), None
            scale = sensor.scale if band.scale is None else band.scale
            offset = sensor.offset if band.offset is None else band.offset
            assert scale is not None
            assert offset is not None
            return Radiometry(scale, offset, nodata, "sensor"), None
        radiance = self._factors("RADIANCE", place)
        if band.kind == "thermal":
            k1, k2 = (number(self.groups, f"{key}_CONSTANT_BAND_{place}", *_THERMAL) for key in ("K1", "K2"))
            if thermal is not None and (k1 is None or k2 is None):
                k1, k2 = thermal
            if radiance is None or k1 is None or k2 is None:
                raise self._unknown(band.name)
            return Radiometry(*radiance, nodata, "product-mtl"), (k1, k2)
        sun = number(self.groups, "SUN_ELEVATION", "IMAGE_ATTRIBUTES", "PRODUCT_PARAMETERS")
        if sun is None:
            raise self._unknown(band.name)
        reflectance = self._factors("REFLECTANCE", place)
        if reflectance is not None:
            return Radiometry(*with_sun(*reflectance, sun), nodata, "product-mtl"), None
        if radiance is None or band.irradiance is None:
            raise self._unknown(band.name)
        factors = from_radiance(*radiance, band.irradiance, self._distance(), sun)
        return Radiometry(*factors, nodata, "product-mtl"), None

    def _factors(self, kind: str, place: str) -> tuple[float, float] | None:
        mult = number(self.groups, f"{kind}_MULT_BAND_{place}", *_RESCALING)
        add = number(self.groups, f"{kind}_ADD_BAND_{place}", *_RESCALING)
        if mult is not None and add is not None:
            return mult, add
        return self._old_factors(place) if kind == "RADIANCE" else None

    def _old_factors(self, place: str) -> tuple[float, float] | None:
        """Radiance factors of metadata from before August 2012, which gives the ends of both ranges instead."""
        place = place.replace("6_VCID_", "6")
        ends = [number(self.groups, f"{key}_BAND{place}") for key in ("LMAX", "LMIN", "QCALMAX", "QCALMIN")]
        if None in ends:
            return None
        high, low, last, first = (end for end in ends if end is not None)
        if last <= first:
            raise InputError(
                f"The metadata of {self.id} gives counts from {first:g} to {last:g}.",
                expected="QCALMAX is larger than QCALMIN.",
                remedy="Download the product again; the file is damaged.",
            )
        mult = (high - low) / (last - first)
        return mult, low - mult * first

    def _unknown(self, band: str) -> RadiometryError:
        return RadiometryError(
            f"The metadata of {self.id} does not say how the counts of {band} become reflectance.",
            expected="It has REFLECTANCE_MULT, REFLECTANCE_ADD or RADIANCE_MULT, RADIANCE_ADD, and SUN_ELEVATION.",
            remedy="Download the product with its MTL file again, leave the band out with --bands, or pass --scale and"
            " --offset, which then hold for all bands.",
        )

    def _damaged(self, found: str, expected: str) -> InputError:
        return InputError(
            f"The metadata of {self.id} say {found}.",
            expected=expected,
            remedy="Download the product again; its metadata is damaged.",
        )

    def _distance(self) -> float:
        """Distance of the sun in astronomical units: from the metadata, or from the day of the year."""
        said = number(self.groups, "EARTH_SUN_DISTANCE")
        if said is not None and 0.98 < said < 1.02:
            return said
        if said is not None:
            raise self._damaged(f"EARTH_SUN_DISTANCE = {said:g}", "It lies between 0.983 and 1.017.")
        date = find(self.groups, "DATE_ACQUIRED") or find(self.groups, "ACQUISITION_DATE")
        if date is None:
            raise self._unknown("any band")
        try:
            day = dt.date.fromisoformat(date).timetuple().tm_yday
        except ValueError as err:
            raise self._damaged(f"the date '{date}'", "Dates are written as 2016-01-21.") from err
        # Kepler's orbit to first order in its eccentricity, perihelion on 4 January; good to 0.0003.
        return 1.0 - 0.01672 * math.cos(math.radians(0.9856 * (day - 4)))

    def all_radiometry(self, sensor: sensors.Sensor) -> dict[str, Radiometry]:
        """Scale and offset of every band that the metadata know, by name.

        Raises:
            RadiometryError: they say it of none.
        """
        out: dict[str, Radiometry] = {}
        refusal: RadiometryError | None = None
        listed = {key for group in self.groups.values() for key in group if key.startswith("FILE_NAME_BAND_")}
        for band in sensor.band:
            # Surface temperature, for one, is not part of every product.
            if self.convertible(band) and (not listed or f"FILE_NAME_BAND_{_number(band.name)}" in listed):
                try:
                    out[band.name] = self.radiometry(band, sensor)[0]
                except RadiometryError as err:  # a band that was not received has no factors
                    refusal = refusal or err
        if refusal is not None and not out:
            raise refusal
        return out

    def datetime(self) -> str | None:
        """Time of the scene's middle, ISO 8601 in UTC."""
        date, time = find(self.groups, "DATE_ACQUIRED"), find(self.groups, "SCENE_CENTER_TIME")
        if date is None:
            return None
        return f"{date}T{(time or '00:00:00').rstrip('Z').partition('.')[0]}Z"

    def properties(self) -> dict[str, Any]:
        """Spacecraft, path and row, sun angles, processing level."""
        out: dict[str, Any] = {}
        texts: Mapping[str, str] = {
            "spacecraft": "SPACECRAFT_ID",
            "instrument": "SENSOR_ID",
            "processing_level": "PROCESSING_LEVEL",
            "collection": "COLLECTION_NUMBER",
        }
        for key, tag in texts.items():
            value = find(self.groups, tag)
            if value is not None:
                out[key] = value
        for key, tag in (("wrs_path", "WRS_PATH"), ("wrs_row", "WRS_ROW"), ("sun_azimuth_deg", "SUN_AZIMUTH")):
            found = number(self.groups, tag)
            if found is not None:
                out[key] = int(found) if key.startswith("wrs") else found
        sun = number(self.groups, "SUN_ELEVATION")
        if sun is not None:
            out["sun_zenith_deg"] = round(90.0 - sun, 8)
        return out


Calibration = tuple[Radiometry, tuple[float, float] | None]
"""Scale and offset of a band, and the constants (K1, K2) that turn its radiance into kelvin, if it is thermal."""


def calibration(
    metadata: Path, bands: Sequence[str] | None = None, *, thermal: tuple[float, float] | None = None
) -> tuple[sensors.Sensor, dict[str, Calibration]]:
    """What a metadata file alone says of a Level-1 product: sensor, and how counts become reflectance and kelvin.

    For images that travel without the product's own file names, as those of data sets do.

    Args:
        metadata: the MTL file.
        bands: names of the bands wanted; None means all.
        thermal: (K1, K2) for metadata that does not have them.

    Raises:
        InputError: the file cannot be read, or the sensor or a band is not known.
        RadiometryError: it does not say how a band becomes reflectance.
    """
    files = Files(metadata.parent, [metadata.name])
    product = _Product(files, _stem(metadata.name), read_mtl(files, metadata.name), surface=False)
    sensor = sensors.load(product._sensor_name())
    out: dict[str, Calibration] = {}
    for name in [band.name for band in sensor.band] if bands is None else bands:
        band = sensor.find(name)
        if band is None:
            raise InputError(
                f"{metadata} belongs to {sensor.title}, which has no band '{name}'.",
                expected=f"Its bands are {', '.join(known.name for known in sensor.band)}.",
                remedy="Check that the file belongs to this image.",
            )
        out[band.name] = product.radiometry(band, sensor, thermal)
    return sensor, out


def _stem(name: str) -> str:
    return NAME.sub("", PurePosixPath(name).name).removesuffix(".xml")


def _is_espa(source: Path) -> bool:
    """Whether a file is metadata of ordered surface reflectance, by its name and its first bytes."""
    if not ESPA.match(source.name):
        return False
    try:
        with source.open("rb") as file:
            return b"<espa_metadata" in file.read(1024)
    except OSError:
        return False


def _number(band: str) -> str:
    """``SR_B1`` and ``B1`` are band 1 in the metadata; ``ST_B10`` stays."""
    return band if band.startswith("ST_") else re.sub(r"^(SR_)?B|^sr_band", "", band)
