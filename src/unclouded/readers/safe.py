"""Sentinel-2 products: SAFE folders and zips, Level-1C and Level-2A, whole or only the images of one tile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from .. import sensors
from ..errors import InputError, RadiometryError
from ..radiometry import from_quantification
from ..raster import Header, RasterBand
from ..raster_files import PRODUCT_FORMATS
from ..scene import Band, Radiometry, Scene
from . import Reader, Request, register
from .files import Files
from .grids import check_grids, finest
from .no_images import no_images
from .safe_metadata import ProductMetadata, is_product, parse_product, parse_tile

_IMAGE = re.compile(r"(?:^|_)(B(?:0[1-9]|1[0-2]|8A))(?:_(10|20|60)m)?\.jp2$", re.IGNORECASE)
_GRANULE = re.compile(r"(?:^|.*/)GRANULE/([^/]+)/", re.IGNORECASE)
_METADATA = re.compile(r"^(?:MTD_MSI\w*|.*_MTD_SAF\w*|metadata)\.xml$", re.IGNORECASE)
_TILE_METADATA = re.compile(r"^(?:MTD_TL|.*_MTD_L\w+_TL_\w*|metadata)\.xml$", re.IGNORECASE)
_INSIDE = re.compile(r"^(?:GRANULE|IMG_DATA|R(?:10|20|60)m)$", re.IGNORECASE)
_TIME = re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(?!\d)")
_TILE = re.compile(r"(?:^|_)(T\d{2}[A-Z]{3})(?:_|\b)")
_RADAR = re.compile(r"^S1[A-D]_", re.IGNORECASE)
_JP2 = b"\x00\x00\x00\x0cjP  "
"""Signature that a JPEG 2000 file begins with. Some tools write other formats under the products' names."""

_EOC = b"\xff\xd9"
"""Marker that ends a complete JPEG 2000 stream."""


@register
class SafeReader(Reader):
    """Sentinel-2 L1C and L2A."""

    name = "safe"
    title = "a Sentinel-2 SAFE folder or zip (Level-1C, Level-2A), or a folder with its band images"
    rank = 10

    def matches(self, source: Any) -> bool:
        """A folder with Sentinel-2 band images or metadata, a zip of one, or a product's metadata file."""
        if not isinstance(source, Path):
            return False
        if source.is_dir():
            if source.suffix.upper() == ".SAFE" or _INSIDE.match(source.name):
                return True
            try:
                names = [path.name for path in source.iterdir()]
            except OSError:
                return False
            return any(
                name.upper() in ("GRANULE", "IMG_DATA") or name.upper().startswith("MTD_MSI") or _IMAGE.search(name)
                for name in names
            )
        if source.suffix.lower() == ".zip":
            try:
                return any(_IMAGE.search(name) and not _is_mask(name) for name in Files.of(source).names)
            except InputError:
                return source.name.startswith(("S2A_", "S2B_", "S2C_", "S2D_"))
        return bool(re.match(r"^(MTD_MSI\w*\.xml|MTD_TL\.xml|manifest\.safe)$", source.name, re.IGNORECASE))

    def open(self, source: Path, request: Request) -> Scene:
        """See :func:`unclouded.readers.open_scene`."""
        if _RADAR.match(source.name):
            raise InputError(
                f"{source} is a Sentinel-1 product as the agency ships it, in counts on the radar's own grid.",
                expected="Radar is read as a raster on a map, in decibel or as power, with bands VV and VH.",
                remedy="Calibrate and terrain-correct it first, e.g. with SNAP or pyroSAR, and pass the raster.",
            )
        product = _Product.find(source)
        sensor = product.sensor(request)
        metadata = product.metadata
        images = product.images()
        names = request.wanted([name for name in sensor_names(sensor) if name in images], sensor, product.id)
        if not names:
            said = {} if metadata is None else {name: _from_product(metadata, name) for name in sensor_names(sensor)}
            records = {name: own for name, one in said.items() if (own := request.radiometry(one)) is not None}
            properties = {**(metadata.properties if metadata else {}), **product.tile_properties()}
            datetime = metadata.datetime if metadata else None
            raise no_images(str(source), product.id, sensor, records, datetime, properties)
        bands: list[Band] = []
        sources: dict[str, RasterBand] = {}
        headers: dict[str, Header] = {}
        radiometry: dict[str, Radiometry] = {}
        for name in names:
            known = sensor.find(name)
            assert known is not None
            file = images[name]
            local = product.files.local(file)
            if local is not None:
                _check_complete(local)
            raster, header = RasterBand.open(product.files.gdal(file), formats=PRODUCT_FORMATS)
            record = request.radiometry(_from_product(metadata, name), sensor.nodata)
            if record is None:
                raise _no_metadata(source)
            sources[name], headers[name], radiometry[name] = raster, header, record
            bands.append(Band(name, known.common_name, known.min_nm, known.max_nm, _gsd(raster), known.kind))
        check_grids({name: header.geobox() for name, header in headers.items()}, str(source))
        expected = sensor_names(sensor)
        properties = dict(metadata.properties) if metadata else {}
        properties |= product.tile_properties()
        properties["missing_bands"] = [name for name in expected if name not in images]
        datetime = (metadata.datetime if metadata else None) or _time(product.id, *images.values())
        return Scene(
            id=product.id,
            sensor=sensor.name,
            level=request.level or sensor.level,
            bands=tuple(bands),
            geobox=finest([header.geobox() for header in headers.values()]),
            radiometry=radiometry,
            sources=dict(sources),
            source=str(source),
            datetime=datetime,
            properties=properties,
        )


def sensor_names(sensor: sensors.Sensor) -> list[str]:
    """Band names of a sensor."""
    return [band.name for band in sensor.band]


@dataclass(frozen=True)
class _Product:
    """A product's files, and the part of them that belongs to one tile.

    Attributes:
        files: everything from the product's root on.
        id: the product's name.
        inside: folder that the images lie in, relative to the root; empty for the whole product.
        metadata: product metadata, or None where the product came without.
        level: ``toa`` or ``boa`` as the metadata or the names say, or None.
    """

    files: Files
    id: str
    inside: str
    metadata: ProductMetadata | None
    level: str | None

    @classmethod
    def find(cls, source: Path) -> _Product:
        """The product that a folder, archive or metadata file belongs to."""
        source = source.absolute()
        folder = source.parent if source.is_file() and source.suffix.lower() != ".zip" else source
        root = folder
        if folder.is_dir():
            for parent in (folder, *list(folder.parents)[:4]):
                if parent.suffix.upper() == ".SAFE" or _has_metadata(parent):
                    root = parent
                    break
        files = Files.of(root)
        inside = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        metadata = _read_metadata(files)
        level = metadata.level if metadata else None
        name = _product_name(root, files)
        for text in (name, inside, *(str(part) for part in root.parts[-3:]), *files.names[:200]):
            if level is None and re.search(r"L1C", text):
                level = "toa"
            if level is None and re.search(r"L2A|(?:^|/)R[126]0m/", text):
                level = "boa"
        return cls(files, name, inside, metadata, level)

    def sensor(self, request: Request) -> sensors.Sensor:
        """The sensor in the catalogue, which the caller may say where the product does not."""
        by_level = {"toa": "sentinel2-l1c", "boa": "sentinel2-l2a"}
        if request.sensor is not None:
            if request.sensor not in by_level.values():
                raise InputError(
                    f"{self.id} is a Sentinel-2 product, and the sensor was given as {request.sensor}.",
                    expected="Its sensor is sentinel2-l1c or sentinel2-l2a.",
                    remedy="Leave --sensor out.",
                )
            said = sensors.load(request.sensor)
            if self.metadata is not None and said.level != self.metadata.level:
                raise InputError(
                    f"{self.id} is of level {self.metadata.level}, and the sensor was given as {request.sensor}.",
                    expected=f"Its metadata makes it {by_level[self.metadata.level]}.",
                    remedy="Leave --sensor out.",
                )
            return said
        level = self.level or request.level
        if level not in by_level:
            raise RadiometryError(
                f"Nothing says whether {self.id} is of Level-1C or Level-2A.",
                expected="The product's metadata or names say it.",
                remedy="Pass --sensor sentinel2-l1c or --sensor sentinel2-l2a.",
            )
        return sensors.load(by_level[level])

    def images(self) -> dict[str, str]:
        """File of each band at its finest pixel size.

        Raises:
            InputError: there are images of several tiles.
        """
        found: dict[str, dict[int, str]] = {}
        granules: set[str] = set()
        for name in self.files.names:
            match = _IMAGE.search(PurePosixPath(name).name)
            if match is None or _is_mask(name) or not name.startswith(self.inside):
                continue
            granule = _GRANULE.match(name)
            granules.add(granule.group(1) if granule else "")
            folder = re.search(r"(?:^|/)R(10|20|60)m/", name, re.IGNORECASE)
            size = int(match.group(2) or (folder.group(1) if folder else 0))
            found.setdefault(match.group(1).upper(), {})[size] = name
        if len(granules) > 1:
            raise InputError(
                f"{self.files.root} holds {len(granules)} tiles: {', '.join(sorted(granules)[:4])}, ...",
                expected="One tile is masked at a time.",
                remedy=f"Pass the folder of one: {self.files.root}/GRANULE/{min(granules)}",
            )
        return {band: sizes[min(sizes)] for band, sizes in found.items()}

    def tile_properties(self) -> dict[str, Any]:
        """Tile identifier and sun angles, from the tile's metadata or from names."""
        out: dict[str, Any] = {}
        folders = {str(PurePosixPath(image).parent) for image in self.images().values()}
        for name in self.files.names:
            path = PurePosixPath(name)
            near = any(folder == str(path.parent) or folder.startswith(_prefix(path)) for folder in folders)
            if near and _TILE_METADATA.match(path.name):
                root = self.files.xml(name)
                if not is_product(root):
                    out |= parse_tile(root, name)
        if "tile" not in out:
            for text in (self.id, *self.images().values()):
                match = _TILE.search(PurePosixPath(text).name)
                if match:
                    out["tile"] = match.group(1)
                    break
        return out


def _prefix(path: PurePosixPath) -> str:
    parent = str(path.parent)
    return "" if parent == "." else parent + "/"


def _has_metadata(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.name.upper().startswith("MTD_MSI") or re.match(r".*_MTD_SAF\w*\.xml$", path.name, re.IGNORECASE)
        for path in folder.glob("*.[xX][mM][lL]")
    )


def _read_metadata(files: Files) -> ProductMetadata | None:
    """Product metadata nearest to the root, found by content: names vary in case and pattern."""
    candidates = [name for name in files.names if _METADATA.match(PurePosixPath(name).name)]
    for name in sorted(candidates, key=lambda name: (name.count("/"), name)):
        if _GRANULE.match(name):
            continue
        root: Element = files.xml(name)
        if is_product(root):
            return parse_product(root, name)
    return None


def _product_name(root: Path, files: Files) -> str:
    if root.is_file():
        first = {name.partition("/")[0] for name in files.names if "/" in name}
        inner = [name for name in first if name.upper().endswith(".SAFE")]
        return (inner[0] if len(inner) == 1 else root.name).removesuffix(".zip").removesuffix(".SAFE")
    stem = root.name[:-5] if root.suffix.upper() == ".SAFE" else root.name
    return root.parent.name if _INSIDE.match(stem) else stem


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.upper().startswith("MSK_") or any(part.upper() in ("QI_DATA", "QI") for part in path.parts[:-1])


def _from_product(metadata: ProductMetadata | None, band: str) -> Radiometry | None:
    if metadata is None:
        return None
    scale, offset = from_quantification(metadata.offset(band), metadata.quantification)
    return Radiometry(scale, offset, metadata.nodata, "product-xml")


def _no_metadata(source: Path) -> RadiometryError:
    return RadiometryError(
        f"{source} comes without product metadata (MTD_MSIL1C.xml or MTD_MSIL2A.xml).",
        expected="The metadata says which offset each band has; neither the date nor the name tells it.",
        remedy="Say it: --scale 0.0001 --offset 0 for processing baselines before 04.00, --scale 0.0001 --offset -0.1"
        " from 04.00 on; or put the metadata file back into the product's folder.",
    )


def _check_complete(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_JP2))
            file.seek(max(size - 2, 0))
            end = file.read(2)
    except OSError as err:
        raise InputError(
            f"{path} cannot be read: {err.strerror or err}.",
            expected="A band image in JPEG 2000.",
            remedy="Check the file's permissions.",
        ) from err
    if size == 0 or (_JP2.startswith(start) and end != _EOC):
        raise InputError(
            f"{path} is {'empty' if size == 0 else 'cut short'} ({size} bytes).",
            expected="A complete JPEG 2000 file ends with its end-of-codestream marker.",
            remedy="Download the product again.",
        )


def _gsd(raster: RasterBand) -> float:
    return round(abs(raster.affine.a), 6)


def _time(*texts: str) -> str | None:
    for text in texts:
        match = _TIME.search(PurePosixPath(text).name)
        if match:
            year, month, day, hour, minute, second = match.groups()
            return f"{year}-{month}-{day}T{hour}:{minute}:{second}Z"
    return None
