"""What is fuzzed: each target takes bytes in place of one metadata file and holds the promise to what comes out.

The promise: every input ends in a scene or record whose numbers are finite and plausible, or in an UncloudedError with
three parts, within two seconds of the processor and 400 MB more memory; no file outside the product's folder is opened,
nor any address.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rasterio.errors import RasterioIOError

from unclouded import raster, raster_files
from unclouded.errors import UncloudedError, UncloudedWarning
from unclouded.infer.runner import find_model
from unclouded.models.card import ModelCard
from unclouded.readers import open_scene
from unclouded.readers.files import Files
from unclouded.readers.mtl import Groups, read_espa, read_mtl
from unclouded.readers.safe_metadata import parse_product, parse_tile
from unclouded.readers.stac_item import Item
from unclouded.scene import Scene

from ..fakes_products import make_counts, make_safe, make_tif

SECONDS = 2.0
WAITING = 30.0
"""Seconds of the clock, on which other programs of the machine have a part."""

KILOBYTES = 400_000
OUTSIDE = b"@OUTSIDE@"
"""In an input, the folder beside the product, which holds a raster that no metadata may lead to."""

_LANDSAT = "LC08_L1TP_090084_20160121_20200907_02_T1"
_LEVEL2 = "LC08_L2SP_090084_20160121_20200907_02_T1"
_COLLECTION1 = "LC08_L1TP_090084_20160121_20170405_01_T1"


class Broken(AssertionError):
    """The promise is broken."""


@dataclass(frozen=True)
class Target:
    """One metadata file of one product.

    Attributes:
        name: identifier.
        file: the file that takes the input.
        run: opens the product and says what came out.
        own: the file's own content, a seed.
        folder: the product's folder; beside it, or above, lies one that no input may lead to.
    """

    name: str
    file: Path
    run: Callable[[], str]
    own: bytes
    folder: Path

    def __call__(self, data: bytes) -> str:
        """Put the input in place and look what comes of it.

        Returns:
            ``scene``, ``record``, or the name of the error with the beginning of its message.

        Raises:
            Broken: the promise is broken.
        """
        outside = next(place / "outside" for place in self.folder.parents if (place / "outside").is_dir())
        self.file.write_bytes(data.replace(OUTSIDE, str(outside).encode()))
        begin, clock, memory = time.process_time(), time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with _watched(self.folder):
                said = self.run()
        except UncloudedError as err:
            said = _three_parts(err)
        except Broken:
            raise
        except BaseException as err:
            raise Broken(f"{type(err).__name__}: {str(err)[:300]!r}") from err
        took, waited = time.process_time() - begin, time.monotonic() - clock
        if took > SECONDS or waited > WAITING:
            raise Broken(f"took {took:.1f} s of the processor, {waited:.1f} s of the clock")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        if grown > KILOBYTES:
            raise Broken(f"took {grown // 1000} MB more memory")
        return said


def make_targets(folder: Path) -> dict[str, Target]:
    """Products in an empty folder, and the targets that live in them, by name."""
    (folder / "outside").mkdir(parents=True)
    counts = np.full((1, 16, 16), 3000, np.uint16)
    make_tif(folder / "outside" / "B04.tif", counts)
    out: dict[str, Target] = {}

    def add(name: str, file: Path, source: Path, parse: Callable[[Files, str], None] | None = None) -> None:
        """A target that opens the whole product, and one that only reads the file, which is much faster."""
        folder = source if source.is_dir() else source.parent
        own = file.read_bytes()
        out[name] = Target(name, file, lambda: _scene(source), own, folder)
        if parse is not None:
            files = Files(file.parent, [file.name])
            out[f"{name}-read"] = Target(f"{name}-read", file, lambda: _record(parse, files, file.name), own, folder)

    bands = make_counts(640, bands=("B04", "B8A"))
    for level in ("L1C", "L2A"):
        product = make_safe(folder / f"safe-{level}", level, counts=bands)
        add(f"safe-{level.lower()}", next(product.glob("MTD_MSI*.xml")), product, _read_product)
    product = make_safe(folder / "safe-tile", counts=bands)
    add("safe-tile", next(product.glob("GRANULE/*/MTD_TL.xml")), product, _read_tile)

    for form in ("txt", "xml", "json"):
        for stem in (_LANDSAT, _LEVEL2):
            level2 = stem == _LEVEL2
            product = folder / f"landsat-{form}-{level2}" / stem
            product.mkdir(parents=True)
            for band in (2, 4, 5):
                make_tif(product / f"{stem}_{'SR_' if level2 else ''}B{band}.TIF", counts, pixel_m=30.0)
            if not level2:
                make_tif(product / f"{stem}_B10.TIF", counts, pixel_m=30.0)
            file = product / f"{stem}_MTL.{form}"
            file.write_bytes(_mtl(stem, form))
            add(f"mtl-{form}{'-l2' if level2 else ''}", file, product, None if level2 else _read_mtl)

    product = folder / "espa" / _COLLECTION1
    product.mkdir(parents=True)
    for band in (2, 4):
        make_tif(product / f"{_COLLECTION1}_sr_band{band}.tif", counts, pixel_m=30.0)
    file = product / f"{_COLLECTION1}.xml"
    file.write_bytes(_espa())
    add("espa", file, product, _read_espa)

    product = folder / "planet" / "scene"
    product.mkdir(parents=True)
    make_tif(product / "20220601_101031_22_2455_3B_AnalyticMS.tif", np.repeat(counts, 4, axis=0), pixel_m=3.0)
    file = product / "20220601_101031_22_2455_3B_AnalyticMS_metadata.xml"
    file.write_bytes(_planet())
    add("planet", file, product)

    for kind in ("earth-search", "plain", "landsat"):
        product = folder / f"stac-{kind}" / "item"
        product.mkdir(parents=True)
        file = product / "item.json"
        file.write_bytes(json.dumps(_item(kind)).encode())
        for asset in _item(kind)["assets"].values():
            make_tif(product / asset["href"].removeprefix("./"), counts)
        add(f"stac-{kind}", file, file, _read_item)

    card = folder / "models" / "card" / "card.json"
    card.parent.mkdir(parents=True)
    out["card"] = Target("card", card, lambda: _card(card), find_model("default").card.read_bytes(), card.parent)
    return out


# What has to hold -------------------------------------------------------------------------------------------------


def _scene(source: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncloudedWarning)
        scene = open_scene(source)
    check_scene(scene)
    return "scene"


def check_scene(scene: Scene) -> None:
    """Whether everything that a scene says can be meant.

    Raises:
        Broken: something cannot.
    """
    _need(bool(scene.id) and scene.id.isprintable() and not set("/\\") & set(scene.id), f"id {scene.id!r}")
    _need(scene.id not in (".", "..") and len(scene.id.encode()) <= 200, f"id {scene.id!r}")
    for band in scene.bands:
        record = scene.radiometry[band.name]
        _need(math.isfinite(record.scale) and 1e-12 < record.scale <= 1000, f"scale {record.scale}")
        _need(math.isfinite(record.offset) and abs(record.offset) <= 1000, f"offset {record.offset}")
        _need(band.gsd_m > 0 and math.isfinite(band.gsd_m), f"gsd {band.gsd_m}")
        if band.min_nm is not None or band.max_nm is not None:
            _need(0 < (band.min_nm or 0) < (band.max_nm or 0) < 1e6, f"{band.min_nm} to {band.max_nm} nm")
    if scene.datetime is not None:
        try:
            dt.datetime.fromisoformat(scene.datetime)
        except ValueError as err:
            raise Broken(f"datetime {scene.datetime!r}") from err
    for key, low, high in (("sun_zenith_deg", 0, 180), ("sun_azimuth_deg", -360, 360)):
        value = scene.properties.get(key, 0)
        _need(low <= value <= high, f"{key} {value}")
    text = json.dumps(scene.describe(), allow_nan=False, ensure_ascii=False)
    text.encode()
    _need(len(text) < 100_000, f"a description of {len(text)} characters")


def _record(parse: Callable[[Files, str], None], files: Files, name: str) -> str:
    parse(files, name)
    return "record"


def _read_product(files: Files, name: str) -> None:
    found = parse_product(files.xml(name), name)
    numbers = (found.quantification, found.nodata, *found.offsets.values(), found.properties.get("relative_orbit", 1))
    _need(all(map(math.isfinite, numbers)), f"numbers {numbers}")


def _read_tile(files: Files, name: str) -> None:
    for value in parse_tile(files.xml(name), name).values():
        _need(isinstance(value, str) or math.isfinite(value), f"value {value!r}")


def _read_mtl(files: Files, name: str) -> None:
    _only_text(read_mtl(files, name))


def _read_espa(files: Files, name: str) -> None:
    _only_text(read_espa(files, name))


def _only_text(groups: Groups) -> None:
    for group, keys in groups.items():
        _need(isinstance(group, str) and all(isinstance(one, str) for pair in keys.items() for one in pair), group)


def _read_item(files: Files, name: str) -> None:
    item = Item.of(files.json(name), str(files.root / name), files.root)
    for band in item.bands():
        numbers = (band.scale, band.offset, band.gsd_m, band.centre_nm, band.width_nm)
        _need(all(one is None or math.isfinite(one) for one in numbers), f"numbers {numbers}")
        place = item.resolve(band.href)
        inside = os.path.realpath(place).startswith(os.path.realpath(files.root))
        _need(inside or place.lower().startswith(_NETWORK), f"place {place[:200]!r}")


_NETWORK = (
    "http://", "https://", "ftp://", "s3://", "gs://", "az://", "oss://", "/vsicurl/http://", "/vsicurl/https://",
    "/vsis3/", "/vsigs/", "/vsiaz/", "/vsiadls/", "/vsioss/", "/vsiswift/",
)  # fmt: skip


def _card(path: Path) -> str:
    card = ModelCard.load(path)
    text = json.dumps(card.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
    text.encode()
    _need(card.grid_m > 0 and card.coarsest_m > 0 and card.stride > 0, "sizes")
    for one in card.calibration.values():
        _need(0 < one.temperature < math.inf and all(map(math.isfinite, (*one.bias, one.thick))), "calibration")
    return "record"


def _three_parts(err: UncloudedError) -> str:
    for part in (err.found, err.expected, err.remedy):
        _need(bool(part.strip()), f"{type(err).__name__} lacks a part: {err.found[:200]}")
        _need(len(part) < 3000, f"{type(err).__name__} has a part of {len(part)} characters")
        _need(all(char.isprintable() for char in part), f"{type(err).__name__} cannot be printed: {part[:200]!r}")
    return f"{type(err).__name__}: {err.found[:40]}"


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


# What is opened ---------------------------------------------------------------------------------------------------

_WATCH: list[str] = []
_HOOKED = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _WATCH:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not any(path.startswith(part) for part in (_WATCH[-1], *_PROGRAM)):
            raise Broken(f"opened {path}")
    elif event in ("socket.connect", "urllib.Request", "subprocess.Popen", "os.system"):
        raise Broken(f"{event} {arguments[1:]}")


_PROGRAM = (*{os.path.realpath(place) for place in (*sys.path, sys.prefix, sys.base_prefix) if place}, "/proc/self/")


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Nothing outside the folder may be opened, by Python or by GDAL."""
    global _HOOKED
    if not _HOOKED:
        sys.addaudithook(_hook)  # cannot be taken away again: an empty list makes it idle
        _HOOKED = True
    real = raster_files.open_file

    def guarded(path: str, formats: Any, **options: Any) -> Any:
        if "://" in path or path.startswith("/vsi"):
            if not path.lower().startswith(_NETWORK):
                raise Broken(f"GDAL was given {path[:200]!r}")
            raise RasterioIOError("the network is not reached from here")
        if not os.path.realpath(path.split("\0")[0]).startswith(os.path.realpath(folder) + os.sep):
            raise Broken(f"GDAL was given {path[:200]!r}")
        return real(path, formats, **options)

    with mock.patch.object(raster_files, "open_file", guarded), mock.patch.object(raster, "open_file", guarded):
        _WATCH.append(os.path.realpath(folder))
        try:
            yield
        finally:
            _WATCH.pop()


# Seeds ------------------------------------------------------------------------------------------------------------


def _mtl(stem: str, form: str) -> bytes:
    level2 = "_L2" in stem
    prefix = "SR_" if level2 else ""
    groups: dict[str, dict[str, Any]] = {
        "PRODUCT_CONTENTS": {
            "LANDSAT_PRODUCT_ID": stem,
            "PROCESSING_LEVEL": "L2SP" if level2 else "L1TP",
            "COLLECTION_NUMBER": "02",
            **{f"FILE_NAME_BAND_{band}": f"{stem}_{prefix}B{band}.TIF" for band in (2, 4, 5)},
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS", "WRS_PATH": "90", "WRS_ROW": "84",
            "DATE_ACQUIRED": "2016-01-21", "SCENE_CENTER_TIME": "23:50:23.1067700Z", "SUN_AZIMUTH": "61.5",
            "SUN_ELEVATION": "55.1", "EARTH_SUN_DISTANCE": "0.984",
        },
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            **{f"REFLECTANCE_MULT_BAND_{band}": "2.75e-05" for band in (2, 4, 5)},
            **{f"REFLECTANCE_ADD_BAND_{band}": "-0.2" for band in (2, 4, 5)},
        } if level2 else {},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            **{f"REFLECTANCE_MULT_BAND_{band}": "2.0000E-05" for band in (2, 4, 5)},
            **{f"REFLECTANCE_ADD_BAND_{band}": "-0.100000" for band in (2, 4, 5)},
            "RADIANCE_MULT_BAND_10": "3.3420E-04", "RADIANCE_ADD_BAND_10": "0.10000",
        },
        "LEVEL1_THERMAL_CONSTANTS": {"K1_CONSTANT_BAND_10": "774.8853", "K2_CONSTANT_BAND_10": "1321.0789"},
    }  # fmt: skip
    if form == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": groups}).encode()
    out = io.StringIO()
    for name, group in groups.items():
        if form == "xml":
            body = "".join(f"<{key}>{value}</{key}>\n" for key, value in group.items())
            out.write(f"<{name}>\n{body}</{name}>\n")
        else:
            body = "".join(f'    {key} = "{value}"\n' for key, value in group.items())
            out.write(f"  GROUP = {name}\n{body}  END_GROUP = {name}\n")
    if form == "xml":
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<LANDSAT_METADATA_FILE>\n'
        return f"{head}{out.getvalue()}</LANDSAT_METADATA_FILE>\n".encode()
    head = "GROUP = LANDSAT_METADATA_FILE\n"
    return f"{head}{out.getvalue()}END_GROUP = LANDSAT_METADATA_FILE\nEND\n".encode()


def _espa() -> bytes:
    bands = "".join(
        f'<band product="sr_refl" name="sr_band{band}" category="image" data_type="INT16" fill_value="-9999" '
        'scale_factor="0.000100" add_offset="0.000000">\n'
        f"<file_name>{_COLLECTION1}_sr_band{band}.tif</file_name></band>\n"
        for band in (2, 4)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<espa_metadata version="2.0" xmlns="http://espa.cr.usgs.gov/v2">
<global_metadata><satellite>LANDSAT_8</satellite><instrument>OLI_TIRS</instrument>
<acquisition_date>2016-01-21</acquisition_date><scene_center_time>23:50:23.0546530Z</scene_center_time>
<solar_angles zenith="34.900000" azimuth="61.500000" units="degrees"/><wrs system="2" path="90" row="84"/>
<product_id>{_COLLECTION1}</product_id></global_metadata>
<bands>{bands}</bands></espa_metadata>
""".encode()


def _planet() -> bytes:
    blocks = "".join(
        f"<ps:bandSpecificMetadata><ps:bandNumber>{number}</ps:bandNumber><ps:reflectanceCoefficient>{value}"
        "</ps:reflectanceCoefficient></ps:bandSpecificMetadata>\n"
        for number, value in enumerate((2.0e-5, 2.1e-5, 2.4e-5, 3.6e-5), start=1)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ps:EarthObservation xmlns:eop="http://earth.esa.int/eop" xmlns:opt="http://earth.esa.int/opt" xmlns:ps="urn:ps">
<eop:serialIdentifier>2455</eop:serialIdentifier>
<opt:illuminationAzimuthAngle uom="deg">140.5</opt:illuminationAzimuthAngle>
<opt:illuminationElevationAngle uom="deg">55.25</opt:illuminationElevationAngle>
<ps:acquisitionDateTime>2022-06-01T10:10:31+00:00</ps:acquisitionDateTime>
{blocks}</ps:EarthObservation>
""".encode()


def _item(kind: str) -> dict[str, Any]:
    media = "image/tiff; application=geotiff; profile=cloud-optimized"
    properties: dict[str, Any] = {"datetime": "2024-06-01T10:10:31Z", "view:sun_elevation": 55.0, "platform": "x"}
    assets: dict[str, Any] = {}
    collection = {"earth-search": "sentinel-2-l2a", "plain": "", "landsat": "landsat-c2-l1"}[kind]
    for key, common, centre in (("blue", "blue", 0.49), ("red", "red", 0.665), ("nir", "nir", 0.842)):
        asset: dict[str, Any] = {"href": f"./{key}.tif", "type": media, "roles": ["data"]}
        if kind == "plain":
            asset["bands"] = [
                {"name": key, "eo:common_name": common, "eo:center_wavelength": centre, "eo:full_width_half_max": 0.06}
            ]
            asset |= {"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0, "gsd": 10}
        else:
            asset["eo:bands"] = [{"name": key, "common_name": common, "center_wavelength": centre}]
            asset["raster:bands"] = [{"nodata": 0, "scale": 0.0001, "offset": -0.1, "spatial_resolution": 10}]
        assets[key] = asset
    if kind == "earth-search":
        properties |= {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}
    if kind == "landsat":
        properties |= {"instruments": ["oli", "tirs"], "view:sun_azimuth": 60.0}
        assets = {{"blue": "B2", "red": "B4", "nir": "B5"}[key]: asset for key, asset in assets.items()}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": "scene", "collection": collection or None, "geometry": None,
        "properties": properties, "assets": assets,
        "links": [{"rel": "self", "href": "./item.json"}, {"rel": "parent", "href": "../item.json"}],
    }  # fmt: skip
