"""Broken and hostile input, through the command line and as arrays.

Each is refused with the documented exit code and a message of three parts; nothing is written, and nothing is left
behind. What is only empty is masked as missing.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

import unclouded
from unclouded.errors import InputError, RadiometryError, UncloudedError, UncloudedWarning

from .fakes_command import records, run
from .fakes_products import image, make_counts, make_safe, make_tif

LANDSAT = "LC08_L2SP_090084_20160121_20200907_02_T1"
NAMES = ("blue", "green", "red", "nir")
NAMED = ("--bands", "blue=1,green=2,red=3,nir=4", "--level", "toa")
SCALED = ("--scale", "0.0001", "--offset", "0")

Maker = Callable[[Path], Path]
CASES: dict[str, tuple[Maker, int, str, tuple[str, ...]]] = {}


def case(code: int, says: str, *options: str) -> Callable[[Maker], Maker]:
    """Enter an input: the exit code of info and mask, a piece of the message, options that go with it."""

    def enter(make: Maker) -> Maker:
        CASES[make.__name__] = make, code, says, options
        return make

    return enter


# Products to break ------------------------------------------------------------------------------------------------

SAFE = Path(tempfile.gettempdir())  # replaced by the fixture below


@pytest.fixture(scope="module", autouse=True)
def _product(tmp_path_factory: pytest.TempPathFactory) -> None:
    global SAFE
    SAFE = make_safe(tmp_path_factory.mktemp("whole"), counts=make_counts(960, bands=("B02", "B03", "B04", "B08")))


def safe(folder: Path) -> Path:
    return Path(shutil.copytree(SAFE, folder / SAFE.name))


def zipped(product: Path) -> Path:
    archive = product.parent / f"{product.name.removesuffix('.SAFE')}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(product.rglob("*")):
            out.write(file, file.relative_to(product.parent))
    shutil.rmtree(product)
    return archive


def metadata(product: Path) -> Path:
    return product / "MTD_MSIL1C.xml"


def landsat(folder: Path) -> Path:
    product = folder / LANDSAT
    product.mkdir()
    lines = [f'LANDSAT_PRODUCT_ID = "{LANDSAT}"', 'PROCESSING_LEVEL = "L2SP"', "COLLECTION_NUMBER = 02"]
    lines += ['SPACECRAFT_ID = "LANDSAT_8"', 'SENSOR_ID = "OLI_TIRS"', "DATE_ACQUIRED = 2016-01-21"]
    (product / f"{LANDSAT}_MTL.txt").write_text("\n".join(["GROUP = PRODUCT_CONTENTS", *lines, "END_GROUP = X", "END"]))
    for band in (2, 3, 4, 5):
        data = counts(1) + np.uint16(8000)
        make_tif(product / f"{LANDSAT}_SR_B{band}.TIF", data, pixel_m=30.0, compress="deflate")
    return product


def tarred(product: Path, mode: str = "w") -> Path:
    archive = product.parent / f"{product.name}.tar{'.gz' if mode == 'w:gz' else ''}"
    with tarfile.open(archive, mode) as out:  # type: ignore[call-overload]
        out.add(product, product.name)
    shutil.rmtree(product)
    return archive


def counts(bands: int = 4, side: int = 96, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(1).integers(500, 4000, (bands, side, side)).astype(dtype)


def reflectance(bands: int = 4, side: int = 96) -> np.ndarray:
    return (counts(bands, side) / 10_000).astype(np.float32)


def picture(folder: Path, data: np.ndarray | None = None, **options: Any) -> Path:
    data = reflectance() if data is None else data
    names = NAMES[: len(data)] if len(data) <= 4 else None
    return make_tif(folder / "picture.tif", data, **{"descriptions": names, **options})


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def spoil(path: Path, begin: float = 0.4, end: float = 0.6) -> Path:
    content = bytearray(path.read_bytes())
    first, last = int(len(content) * begin), int(len(content) * end)
    content[first:last] = bytes(byte ^ 0xA5 for byte in content[first:last])
    path.write_bytes(content)
    return path


# Images -----------------------------------------------------------------------------------------------------------


@case(3, "cut short")
def jp2_cut_short(folder: Path) -> Path:
    product = safe(folder)
    cut(image(product, "B04"), 0.5)
    return product


@case(3, "cannot be read")
def jp2_corrupt(folder: Path) -> Path:
    product = safe(folder)
    spoil(image(product, "B04"), 0.2, 0.8)
    return product


@case(3, "empty (0 bytes)")
def jp2_of_0_bytes(folder: Path) -> Path:
    product = safe(folder)
    image(product, "B04").write_bytes(b"")
    return product


@case(3, "not recognized")
def jp2_that_is_a_list_of_other_files(folder: Path) -> Path:
    product = safe(folder)
    secret = make_tif(folder / "secret.tif", counts(1))
    vrt = f'<VRTDataset rasterXSize="96" rasterYSize="96"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>\
<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>\n\n\n'
    image(product, "B04").write_bytes(vrt.encode() + b"\xff\xd9")
    return product


@case(3, "cannot be read")
def jp2_corrupt_in_a_zip(folder: Path) -> Path:
    product = safe(folder)
    spoil(image(product, "B04"), 0.2, 0.8)
    return zipped(product)


@case(3, "cannot be read")
def tif_cut_short(folder: Path) -> Path:
    return cut(picture(folder), 0.5)


@case(3, "cannot be read")
def tif_corrupt(folder: Path) -> Path:
    return spoil(picture(folder, compress="deflate"), 0.3, 0.7)


@case(3, "cannot be read")
def tif_with_a_broken_header(folder: Path) -> Path:
    return spoil(picture(folder), 0, 0.001)


@case(3, "cannot be read")
def tif_of_0_bytes(folder: Path) -> Path:
    path = picture(folder)
    path.write_bytes(b"")
    return path


@case(3, "cannot be read")
def tif_of_0_pixels(folder: Path) -> Path:
    path = picture(folder)
    content = bytearray(path.read_bytes())
    place = struct.unpack("<I", content[4:8])[0]
    for entry in range(struct.unpack("<H", content[place : place + 2])[0]):
        at = place + 2 + 12 * entry
        if struct.unpack("<H", content[at : at + 2])[0] in (256, 257):  # ImageWidth, ImageLength
            content[at + 8 : at + 12] = bytes(4)
    path.write_bytes(content)
    return path


@case(3, "cannot be read")
def tif_corrupt_in_a_landsat_folder(folder: Path) -> Path:
    product = landsat(folder)
    spoil(product / f"{LANDSAT}_SR_B4.TIF", 0.2, 0.8)
    return product


@case(3, "of no known kind")
def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "picture.tif")
    return folder / "picture.tif"


@case(3, "have an area of 0")
def pixels_without_size(folder: Path) -> Path:
    path = picture(folder)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform = rasterio.Affine(10, 0, 3e5, 10, 0, 5.8e6)
    return path


# Archives ---------------------------------------------------------------------------------------------------------


@case(3, "cannot be read")
def zip_cut_short(folder: Path) -> Path:
    return cut(zipped(safe(folder)), 0.7)


@case(3, "cannot be read")
def zip_corrupt(folder: Path) -> Path:
    return spoil(zipped(safe(folder)), 0.01, 0.9)


@case(3, "cannot be read")
def zip_of_0_bytes(folder: Path) -> Path:
    archive = zipped(safe(folder))
    archive.write_bytes(b"")
    return archive


@case(3, "leads out of the archive")
def zip_that_climbs(folder: Path) -> Path:
    archive = zipped(safe(folder))
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("S2.SAFE/../../../etc/B04.jp2", b"x")
    return archive


@case(3, "leads out of the archive")
def zip_with_an_absolute_name(folder: Path) -> Path:
    archive = zipped(safe(folder))
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("/etc/T33UUU_20240601T101031_B12.jp2", b"x")
    return archive


@case(3, "larger than")
def zip_bomb(folder: Path) -> Path:
    product = safe(folder)
    with metadata(product).open("ab") as file:
        file.write(b"<!-- " + b" " * (20 << 20) + b"-->")
    return zipped(product)


@case(3, "would unpack to")
def zip_that_claims_to_hold_more_than_any_product(folder: Path) -> Path:
    archive = zipped(safe(folder))
    content = bytearray(archive.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:  # the size of every entry of the central directory
        content[at + 24 : at + 28] = b"\xf0\xff\xff\xff"
        at = content.find(b"PK\x01\x02", at + 4)
    archive.write_bytes(content)
    return archive


@case(3, "encrypted")
def zip_with_a_password(folder: Path) -> Path:
    archive = zipped(safe(folder))
    content = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of every local and central entry
        at = content.find(mark)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(mark, at + 4)
    archive.write_bytes(content)
    return archive


@case(3, "cannot be read")
def tar_cut_short(folder: Path) -> Path:
    return cut(tarred(landsat(folder)), 0.3)


@case(3, "cannot be read")
def tar_gz_cut_short(folder: Path) -> Path:
    return cut(tarred(landsat(folder), "w:gz"), 0.5)


@case(3, "cannot be read")
def tar_gz_corrupt(folder: Path) -> Path:
    return spoil(tarred(landsat(folder), "w:gz"))


def _tar_with(folder: Path, **member: Any) -> Path:
    archive = tarred(landsat(folder))
    with tarfile.open(archive, "a") as out:
        info = tarfile.TarInfo(member.pop("name"))
        for key, value in member.items():
            setattr(info, key, value)
        out.addfile(info, io.BytesIO(bytes(info.size)) if info.isfile() else None)
    return archive


@case(3, "leads out of the archive")
def tar_that_climbs(folder: Path) -> Path:
    return _tar_with(folder, name=f"{LANDSAT}/../../../tmp/x_B9.TIF", size=4)


@case(3, "leads out of the archive")
def tar_with_an_absolute_name(folder: Path) -> Path:
    return _tar_with(folder, name="/tmp/x_B9.TIF", size=4)


@case(3, "a link or a device")
def tar_with_a_link(folder: Path) -> Path:
    return _tar_with(folder, name=f"{LANDSAT}/x_B9.TIF", type=tarfile.SYMTYPE, linkname="/etc/passwd")


@case(3, "a link or a device")
def tar_with_a_hard_link(folder: Path) -> Path:
    return _tar_with(folder, name=f"{LANDSAT}/x_B9.TIF", type=tarfile.LNKTYPE, linkname="/etc/passwd")


@case(3, "a link or a device")
def tar_with_a_device(folder: Path) -> Path:
    return _tar_with(folder, name=f"{LANDSAT}/x_B9.TIF", type=tarfile.CHRTYPE, devmajor=1, devminor=5)


@case(3, "larger than")
def tar_gz_bomb(folder: Path) -> Path:
    product = landsat(folder)
    with (product / f"{LANDSAT}_MTL.txt").open("ab") as file:
        file.write(b" " * (20 << 20))
    return tarred(product, "w:gz")


@case(3, "would unpack to")
def tar_gz_with_an_image_that_is_a_bomb(folder: Path) -> Path:
    archive = tarred(landsat(folder), "w:gz")
    with tarfile.open(archive) as held, tarfile.open(folder / "bomb.tar.gz", "w:gz") as out:
        for member in held:
            out.addfile(member, held.extractfile(member))
        bomb = tarfile.TarInfo(f"{LANDSAT}/{LANDSAT}_SR_B6.TIF")
        bomb.size = 5 << 30
        out.fileobj.write(bomb.tobuf(format=tarfile.GNU_FORMAT))  # type: ignore[union-attr]
        out.fileobj.write(bytes(1 << 20))  # type: ignore[union-attr]
    (folder / "bomb.tar.gz").replace(archive)
    return archive


# Metadata ---------------------------------------------------------------------------------------------------------

_ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
_DECLARED = {
    "xml_bomb": f'<!DOCTYPE a [<!ENTITY a0 "lol">{_ENTITIES}]><Level-1C_User_Product>&a9;</Level-1C_User_Product>',
    "xml_that_reads_a_file": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "xml_that_asks_a_server": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a/>',
}


def _declared(name: str) -> None:
    def make(folder: Path) -> Path:
        product = safe(folder)
        metadata(product).write_text(_DECLARED[name])
        return product

    make.__name__ = name
    case(3, "declares entities")(make)


for _name in _DECLARED:
    _declared(_name)


@case(3, "is not XML")
def xml_of_an_unknown_encoding(folder: Path) -> Path:
    product = safe(folder)
    metadata(product).write_text('<?xml version="1.0" encoding="foo"?><a/>')
    return product


@case(3, "is not XML")
def xml_cut_short(folder: Path) -> Path:
    product = safe(folder)
    cut(metadata(product), 0.5)
    return product


@case(3, "A finite number is expected")
def xml_with_an_absurd_offset(folder: Path) -> Path:
    product = safe(folder)
    text = metadata(product).read_text()
    metadata(product).write_text(text.replace(">-1000<", ">-1e400<"))
    return product


@case(4, "offsets between")
def xml_with_an_absurd_quantification(folder: Path) -> Path:
    product = safe(folder)
    text = metadata(product).read_text()
    metadata(product).write_text(text.replace(">10000<", ">0.001<"))
    return product


def _item(folder: Path, href: str, **asset: Any) -> Path:
    (folder / "item").mkdir()
    make_tif(folder / "secret.tif", counts(1))
    make_tif(folder / "item" / "red.tif", counts(1))
    assets = {
        name: {"href": href, "type": "image/tiff", "raster:bands": [{"scale": 1e-4, "offset": 0}], **asset}
        for name in ("red", "nir")
    }
    path = folder / "item" / "item.json"
    path.write_text(json.dumps({"type": "Feature", "id": "x", "properties": {}, "assets": assets}))
    return path


@case(3, "lie in its folder")
def item_that_climbs(folder: Path) -> Path:
    return _item(folder, "../secret.tif")


@case(3, "lie in its folder")
def item_with_an_absolute_place(folder: Path) -> Path:
    return _item(folder, str(folder / "secret.tif"))


@case(3, "lie in its folder")
def item_with_a_file_address(folder: Path) -> Path:
    return _item(folder, f"file://{folder}/secret.tif")


@case(3, "refers to '/vsi")
def item_with_a_byte_range(folder: Path) -> Path:
    return _item(folder, f"/vsisubfile/0_100000,{folder}/secret.tif")


@case(3, "'scale'")
def item_with_a_scale_in_quotes(folder: Path) -> Path:
    return _item(folder, "red.tif", **{"raster:bands": [{"scale": "0.0001"}]})


@case(3, "is not JSON")
def item_nested_without_end(folder: Path) -> Path:
    path = folder / "item.json"
    path.write_text('{"a":' * 100_000)
    return path


@case(3, "EARTH_SUN_DISTANCE = 9")
def mtl_with_a_sun_too_far_away(folder: Path) -> Path:
    product = landsat(folder)
    text = (product / f"{LANDSAT}_MTL.txt").read_text()
    for old, new in (("L2SP", "L1T"), ("OLI_TIRS", "TM"), ("LANDSAT_8", "LANDSAT_5"), ("= 02", "= 01")):
        text = text.replace(old, new)
    lines = [f"RADIANCE_MULT_BAND_{n} = 0.6\nRADIANCE_ADD_BAND_{n} = -2\n" for n in (2, 3, 4, 5)]
    sun = "GROUP = IMAGE_ATTRIBUTES\nSUN_ELEVATION = 50\nEARTH_SUN_DISTANCE = 9\nGROUP = RADIOMETRIC_RESCALING\n"
    (product / "LT05_L1TP_MTL.txt").write_text(text.replace("END_GROUP = X", sun + "".join(lines)))
    (product / f"{LANDSAT}_MTL.txt").unlink()
    for band in (2, 3, 4, 5):
        (product / f"{LANDSAT}_SR_B{band}.TIF").rename(product / f"LT05_L1TP_B{band}.TIF")
    return product


@case(3, "day 0 of the year 0")
def a_name_that_says_no_day(folder: Path) -> Path:
    product = folder / "hls"
    product.mkdir()
    for band in ("B02", "B04", "B8A"):
        make_tif(product / f"HLS.S30.T33UUU.0000000T101031.v2.0.{band}.tif", counts(1), pixel_m=30.0)
    return product


# Grids, numbers, names --------------------------------------------------------------------------------------------


@case(3, "are in EPSG:32633 and EPSG:32634")
def bands_of_different_reference_systems(folder: Path) -> Path:
    product = landsat(folder)
    make_tif(product / f"{LANDSAT}_SR_B4.TIF", counts(1), pixel_m=30.0, crs="EPSG:32634")
    return product


@case(3, "cover different ground")
def bands_of_different_extents(folder: Path) -> Path:
    product = landsat(folder)
    make_tif(product / f"{LANDSAT}_SR_B4.TIF", counts(1, 60), pixel_m=30.0)
    return product


@case(3, "complex numbers")
def complex_numbers(folder: Path) -> Path:
    return picture(folder, reflectance().astype(np.complex64))


@case(4, "uint16 counts, and nothing says")
def counts_without_a_scale(folder: Path) -> Path:
    return picture(folder, counts())


@case(4, "holds decimal numbers from")
def counts_as_decimal_numbers(folder: Path) -> Path:
    return picture(folder, counts(dtype="float64"))


@case(4, "holds decimal numbers from")
def numbers_beyond_single_precision(folder: Path) -> Path:
    return picture(folder, np.full((4, 96, 96), 1e300))


@case(4, "holds decimal numbers from")
def a_missing_value_that_nobody_names(folder: Path) -> Path:
    data = reflectance()
    data[:, :50] = -9999
    return picture(folder, data)


@case(4, "scale", *NAMED, "--scale", "1e30", "--offset", "0")
def an_absurd_scale_of_the_user(folder: Path) -> Path:
    return picture(folder, counts())


@case(4, "scale", *NAMED, "--scale", "-0.0001", "--offset", "0")
def a_negative_scale_of_the_user(folder: Path) -> Path:
    return picture(folder, counts())


@case(4, "scale", *NAMED, "--scale", "nan", "--offset", "0")
def no_number_as_the_users_scale(folder: Path) -> Path:
    return picture(folder, counts())


@case(4, "in place of -1000", *NAMED, "--scale", "0.0001", "--offset", "-1000")
def an_offset_in_counts(folder: Path) -> Path:
    return picture(folder, counts())


@case(4, "scale")
def an_absurd_scale_of_the_file(folder: Path) -> Path:
    return picture(folder, counts(), scales=[1e30] * 4, offsets=[0.0] * 4)


@case(4, "offset")
def an_absurd_offset_of_the_file(folder: Path) -> Path:
    return picture(folder, counts(), scales=[1e-4] * 4, offsets=[float("inf")] * 4)


@case(3, "'red' is given twice")
def two_bands_of_one_name(folder: Path) -> Path:
    return picture(folder, descriptions=("blue", "red", "red", "nir"))


@case(2, "'red' is given twice", "--bands", "red=1,red=2")
def two_bands_that_the_user_names_alike(folder: Path) -> Path:
    return picture(folder)


@case(3, "may be named once", "--bands", "red=1,nir=1")
def two_names_for_one_band(folder: Path) -> Path:
    return picture(folder)


def _latin(folder: Path, path: Path) -> Path:
    other = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9" + os.fsencode(path.suffix)))
    try:
        path.rename(other)
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    return other


@case(3, "caf\\udce9.tif")
def a_name_that_is_not_utf_8(folder: Path) -> Path:
    return _latin(folder, picture(folder))


@case(3, "caf\\udce9.SAFE")
def a_product_whose_name_is_not_utf_8(folder: Path) -> Path:
    return _latin(folder, safe(folder))


# The tests --------------------------------------------------------------------------------------------------------


def listing(folder: Path) -> dict[str, int]:
    return {os.fsencode(path.relative_to(folder)).hex(): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, code, says, options = CASES[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "temporary").mkdir()
    source = make(tmp_path / "in")
    before = listing(tmp_path / "in")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("CPL_TMPDIR", str(tmp_path / "temporary"))
    out = tmp_path / "out"
    for words in (("info", source), ("mask", source, "-o", out)):
        done = run(*words, *options)
        assert (done.returncode, done.stdout) == (code, ""), (done.stdout, done.stderr)
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.replace("\n", "").isprintable()
        if code != 2:
            assert done.stderr.startswith("Error: ")
            assert done.stderr.count("\n  Expected: ") == done.stderr.count("\n  To do:    ") == 1
            told = records(run(*words, *options, "--json"))[0]
            assert told["status"] == "failed"
            assert all(told["error"][part] for part in ("found", "expected", "remedy"))
    assert not out.exists()
    assert listing(tmp_path / "in") == before, "nothing is left beside the input"
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "EPSG:4978"])
def test_a_reference_system_of_no_place_on_the_ground_counts_as_none(crs: str, tmp_path: Path) -> None:
    done = run("mask", picture(tmp_path, crs=crs), "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    told = records(done)[0]
    assert "no georeference" in " ".join(told["warnings"])
    assert json.loads(Path(told["outputs"]["item"]).read_text())["geometry"] is None


def test_reading_a_compressed_archive_leaves_nothing_beside_it(tmp_path: Path) -> None:
    archive = tarred(landsat(tmp_path), "w:gz")
    scene = unclouded.open_scene(archive)
    assert np.isfinite(scene.read(scene.geobox)).all()
    assert list(tmp_path.iterdir()) == [archive]


def test_links_within_a_folder_neither_hang_nor_hurt(tmp_path: Path) -> None:
    product = safe(tmp_path)
    (product / "GRANULE" / "round").symlink_to(product, target_is_directory=True)
    (product / "GRANULE" / "nowhere.jp2").symlink_to(tmp_path / "nowhere")
    (product / "itself").symlink_to(product / "itself")
    done = run("info", product, "--json")
    assert done.returncode == 0, done.stderr
    assert [band["name"] for band in records(done)[0]["bands"]] == ["B02", "B03", "B04", "B08"]


def test_a_small_file_of_millions_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.tif"
    size: dict[str, Any] = {"width": 200_000_000, "height": 2048, "count": 4, "blockxsize": 16384, "blockysize": 2048}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0)}
    options = {"driver": "GTiff", "dtype": "uint16", "tiled": True, "SPARSE_OK": True, "BIGTIFF": "YES"}
    with rasterio.open(path, "w", **size, **place, **options) as dataset:
        dataset.descriptions = NAMES
    assert path.stat().st_size < 2**20
    done = run("mask", path, "-o", tmp_path / "out", *SCALED, "--level", "toa")
    assert done.returncode == 3, done.stderr
    assert "GiB of memory" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_missing(value: float, tmp_path: Path) -> None:
    data = reflectance()
    data[1, 10:20, 30:50] = value
    done = run("mask", picture(tmp_path, data), "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    with rasterio.open(records(done)[0]["outputs"]["mask"]) as file:
        gone = file.read(1) == 255
    assert gone[10:20, 30:50].all()
    assert gone.mean() < 0.1


@pytest.mark.parametrize("kind", ["nan", "nodata", "safe"])
def test_a_scene_without_data_is_all_missing(kind: str, tmp_path: Path) -> None:
    options: tuple[str, ...] = ()
    if kind == "safe":
        empty = {name: np.zeros_like(plane) for name, plane in make_counts(1920, bands=("B02", "B04", "B08")).items()}
        source = make_safe(tmp_path / "in", counts=empty)
    elif kind == "nan":
        source = picture(tmp_path, np.full((4, 96, 96), np.nan, np.float32))
    else:
        source, options = picture(tmp_path, np.zeros((4, 96, 96), np.uint16), nodata=0), (*NAMED, *SCALED)
    assert run("info", source, *options).returncode == 0
    done = run("mask", source, "-o", tmp_path / "out", *options, "--json")
    assert done.returncode == 0, done.stderr
    told = records(done)[0]
    assert told["cloud_percent"] is None
    with rasterio.open(told["outputs"]["mask"]) as file:
        assert (file.read(1) == 255).all()


def test_output_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    done = run("mask", picture(tmp_path), "-o", out)
    assert done.returncode == 1, done.stderr
    assert "not UTF-8" in done.stderr
    assert "\n  To do:    " in done.stderr
    assert not os.path.isdir(out) or not os.listdir(out)


# Arrays -----------------------------------------------------------------------------------------------------------

BANDS = ("blue", "green", "red", "nir")


def cube(data: np.ndarray, names: Any = BANDS, dims: tuple[str, ...] = ("band", "y", "x")) -> xr.DataArray:
    return xr.DataArray(data, dims=dims, coords={"band": list(names)} if "band" in dims else None)


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (counts(), RadiometryError, "uint16"),
        (counts(dtype="int64"), RadiometryError, "int64"),
        (counts() > 1000, RadiometryError, "bool"),
        (reflectance().astype(complex), InputError, "complex"),
        (reflectance().astype(object), InputError, "object"),
        (np.full((4, 96, 96), "a"), InputError, "type <U1"),
        (reflectance() * 10_000, RadiometryError, "nodata|Convert"),
        (np.full((4, 96, 96), 1e300), RadiometryError, "1e\\+300"),
        (np.zeros((4, 0, 96), np.float32), InputError, "at least one pixel"),
        (np.zeros((0, 96, 96), np.float32), InputError, "at least one pixel"),
        (reflectance()[0], InputError, "np.stack"),
        (reflectance()[None], InputError, "np.stack"),
        (np.moveaxis(reflectance(), 0, -1), InputError, "np.moveaxis"),
        (reflectance(3), InputError, "4 bands are named"),
    ],
    ids=lambda value: None if not isinstance(value, np.ndarray) else f"{value.dtype}-{value.shape}",
)
def test_arrays_that_predict_refuses(data: Any, kind: type[UncloudedError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        unclouded.predict(data, BANDS)
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        (cube(counts()), RadiometryError, "counts"),
        (cube(counts() > 1000), UncloudedError, "bool"),
        (cube(reflectance().astype(complex)), InputError, "complex"),
        (cube(reflectance().astype(object)), InputError, "object"),
        (cube(np.full((4, 96, 96), "a")), InputError, "type"),
        (cube(reflectance() * 10_000), RadiometryError, "scale"),
        (cube(np.full((4, 96, 96), 1e300)), RadiometryError, "inf"),
        (cube(np.zeros((4, 0, 96), np.float32)), InputError, "pixel"),
        (cube(np.zeros((0, 96, 96), np.float32), ()), InputError, "band"),
        (cube(reflectance(), ("blue", "red", "red", "nir")), InputError, "once"),
        (cube(reflectance()[0], dims=("y", "x")), InputError, "band, y and x"),
        (cube(reflectance(), dims=("a", "b", "c")), InputError, "band, y and x"),
        (cube(reflectance()).assign_attrs(scale_factor=float("nan")), RadiometryError, "scale"),
        (cube(counts()).assign_attrs(scale_factor=1e30), RadiometryError, "scale"),
        (cube(counts()).assign_attrs(scale_factor="x"), UncloudedError, "scale_factor"),
        (cube(counts()).assign_attrs(scale_factor=1e-4, _FillValue="x"), UncloudedError, "_FillValue"),
        (cube(reflectance()).assign_attrs(crs="EPSG:99999999"), InputError, "reference system"),
        (xr.Dataset({"red": (("y", "x"), counts(1)[0]), "nir": (("v", "u"), counts(1)[0])}), InputError, "axes"),
        (xr.Dataset(), InputError, "none"),
    ],
)
def test_arrays_that_mask_refuses(source: Any, kind: type[UncloudedError], says: str) -> None:
    if "crs" in source.attrs:
        source = source.assign_coords(y=np.arange(96.0), x=np.arange(96.0))
    with pytest.raises(kind, match=says) as caught:
        unclouded.mask(source)
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.remedy


def test_bands_that_are_named_twice() -> None:
    names = ("blue", "red", "RED", "nir")
    with pytest.raises(InputError, match="'red' is given twice"):
        unclouded.predict(reflectance(), names)
    with pytest.raises(InputError, match="'red' is given twice"):
        unclouded.mask(cube(reflectance(), names))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_of_arrays_that_are_no_numbers_are_missing(value: float) -> None:
    data = reflectance(side=160)
    data[2, 40:60, 5:25] = value
    classes = unclouded.predict(data, BANDS).classes
    assert (classes[40:60, 5:25] == 255).all()
    assert (classes == 255).mean() < 0.1
    transposed = cube(data).transpose("y", "x", "band")
    assert np.array_equal(unclouded.mask(transposed).classes.values == 255, classes == 255)


def test_a_single_pixel_is_masked_with_a_warning() -> None:
    with pytest.warns(UncloudedWarning, match="1 x 1 pixels"):
        found = unclouded.predict(np.full((4, 1, 1), 0.1, np.float32), BANDS, resolution_m=20)
    assert found.classes.shape == (1, 1)
    assert found.classes[0, 0] in (0, 1, 2, 3)
    with pytest.warns(UncloudedWarning, match="1 x 1 pixels"):
        assert unclouded.mask(cube(np.full((4, 1, 1), 0.1, np.float32))).classes.shape == (1, 1)


def test_an_array_without_data_is_all_missing() -> None:
    empty = np.full((4, 160, 160), np.nan, np.float32)
    found = unclouded.predict(empty, BANDS)
    assert (found.classes == 255).all()
    assert np.isnan(found.probability).all()
    assert (unclouded.mask(cube(empty)).classes == 255).all()
