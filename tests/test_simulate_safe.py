"""The writer of Sentinel-2 products: complete or not there, streamed or whole, and strict about what it is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import defusedxml.ElementTree as ET
import numpy as np
import pytest
import rasterio

from unclouded.errors import InputError, OutputError
from unclouded.simulate.safe import write_safe

from .fakes_products import CRS, ULX, ULY, image, make_counts

PLACE: dict[str, Any] = {"crs": CRS, "ulx": ULX, "uly": ULY, "datetime": "2024-06-01T10:10:31Z"}


def test_rows_given_piece_by_piece_make_the_same_product(tmp_path: Path) -> None:
    counts = make_counts(12000, bands=["B02", "B09"])
    asked: list[tuple[int, int]] = []

    def rows(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        return counts["B02"][first:last]

    whole = write_safe(tmp_path / "a", counts, **PLACE)
    pieces = write_safe(tmp_path / "b", {**counts, "B02": rows}, size_m=12000, **PLACE)
    assert asked == [(0, 1024), (1024, 1200)]
    for band in counts:
        with rasterio.open(image(whole, band)) as first, rasterio.open(image(pieces, band)) as second:
            assert np.array_equal(first.read(1), counts[band])
            assert np.array_equal(second.read(1), counts[band])
            assert first.crs.to_epsg() == 32633
            assert tuple(first.transform)[:6] == (
                1200 * 10 / counts[band].shape[0],
                0,
                ULX,
                0,
                -12000 / counts[band].shape[0],
                ULY,
            )
    with rasterio.open(image(whole, "B02")) as dataset:
        assert dataset.block_shapes == [(1024, 1024)]
        assert dataset.overviews(1)[:2] == [2, 4]


def test_the_manifest_lists_every_file_with_size_and_sum(tmp_path: Path) -> None:
    product = write_safe(tmp_path, make_counts(1200, bands=["B02", "B11"]), **PLACE)
    root = ET.parse(product / "manifest.safe").getroot()
    listed = {}
    for stream in root.iter("byteStream"):
        path = product / stream.find("fileLocation").get("href")
        assert path.stat().st_size == int(stream.get("size"))
        assert hashlib.sha3_256(path.read_bytes()).hexdigest() == stream.find("checksum").text
        listed[path.resolve()] = True
    files = {path.resolve() for path in product.rglob("*") if path.is_file()} - {(product / "manifest.safe").resolve()}
    assert set(listed) == files


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def broken(first: int, last: int) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_safe(tmp_path, {"B02": broken}, size_m=1200, **PLACE)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"uint16 of shape \(120, 120\) is expected"):
        write_safe(tmp_path, {"B02": lambda first, last: np.zeros((1, 1), np.uint16)}, size_m=1200, **PLACE)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_product_is_kept(tmp_path: Path) -> None:
    counts = make_counts(1200, bands=["B02"])
    write_safe(tmp_path, counts, **PLACE)
    with pytest.raises(OutputError, match="exists already"):
        write_safe(tmp_path, counts, **PLACE)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_safe(tmp_path / "file", make_counts(1200, bands=["B02"]), **PLACE)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({}, {}, "none"),
        ({"B77": np.zeros((6, 6), np.uint16)}, {}, "B77"),
        ({"B02": np.zeros((12, 12), np.float32)}, {}, "float32"),
        ({"B02": np.zeros((12, 12), np.uint16), "B05": np.zeros((12, 12), np.uint16)}, {}, "cover"),
        ({"B02": np.zeros((12, 12), np.uint16)}, {"size_m": 240}, "cover"),
        ({"B02": np.zeros((12, 12), np.uint16)}, {"level": "L3"}, "L3"),
        ({"B02": np.zeros((12, 12), np.uint16)}, {"crs": "EPSG:4326"}, "UTM"),
        ({"B02": np.zeros((12, 12), np.uint16)}, {"crs": "EPSG:0"}, "not known"),
        ({"B02": np.zeros((12, 12), np.uint16)}, {"datetime": "yesterday"}, "yesterday"),
        ({"B10": np.zeros((12, 12), np.uint16)}, {"level": "L2A"}, "B10"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, counts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        write_safe(tmp_path, counts, **{**PLACE, **options})
    assert caught.value.expected
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []
