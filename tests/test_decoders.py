"""Masks of products become classes: documented codes, precedence, and refusal of what cannot be such a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from unclouded.decoders import decode, names
from unclouded.errors import InputError


def test_scene_classification() -> None:
    out = decode("scl", np.arange(12, dtype=np.uint8)[None])
    assert out.tolist() == [[255, 255, 0, 3, 0, 0, 0, 0, 1, 1, 2, 0]]


@pytest.mark.parametrize(
    ("value", "expected"),
    # Values of the USGS table for Landsat 8-9: fill, clear land, clear water, dilated, cloud, shadow, cirrus, snow.
    [
        (1, 255),
        (21824, 0),
        (21952, 0),
        (21826, 0),
        (22280, 1),
        (23888, 3),
        (54596, 2),
        (30048, 0),
        (54852, 2),
        (55052, 1),
    ],
)
def test_qa_pixel(value: int, expected: int) -> None:
    assert decode("qa_pixel", np.uint16([[value]]))[0, 0] == expected


def test_qa_pixel_dilated_cloud_is_an_option() -> None:
    assert decode("qa_pixel", np.uint16([[21826, 21824]]), dilated=True).tolist() == [[1, 0]]


def test_fmask_families() -> None:
    assert decode("fmask", [[0, 1, 2, 3, 4, 255]]).tolist() == [[0, 0, 3, 0, 1, 255]]
    assert decode("python-fmask", [[0, 1, 2, 3, 4, 5]]).tolist() == [[255, 0, 1, 3, 0, 0]]
    bits = np.uint8([[0b01000000, 0b00000010, 0b00001000, 0b00000001, 0b00000100, 0b00110000, 255, 0b00001010]])
    assert decode("hls-fmask", bits).tolist() == [[0, 1, 3, 2, 0, 0, 255, 1]]
    assert decode("hls-fmask", bits, adjacent=True).tolist() == [[0, 1, 3, 2, 1, 0, 255, 1]]


def test_udm2() -> None:
    mask = np.zeros((8, 1, 8), np.uint8)
    for band in range(6):
        mask[band, 0, band] = 1
    mask[[0, 7], 0, 6] = 1  # clear, but black fill
    assert decode("udm2", mask).tolist() == [[0, 0, 3, 2, 2, 1, 255, 255]]


def test_cloud_probability() -> None:
    assert decode("cldprb", [[0, 49, 50, 100, 255]]).tolist() == [[0, 0, 1, 1, 255]]
    assert decode("cldprb", [[0, 19, 20]], threshold=20).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("product", "array", "message"),
    [
        ("nosuch", [[0]], "Decoders are"),
        ("scl", [[12]], "code 12"),
        ("scl", np.int16([[-1]]), "code -1"),
        ("scl", np.uint16([[260]]), "code 260"),
        ("fmask", [[5]], "code 5"),
        ("scl", [[0.5]], "integers"),
        ("scl", [1, 2], "shape"),
        ("udm2", np.zeros((1, 2, 2), np.uint8), "1 bands"),
        ("udm2", np.zeros((2, 2), np.uint8), "shape"),
        ("cldprb", [[101]], "percentages"),
    ],
)
def test_what_cannot_be_such_a_mask(product: str, array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        decode(product, array)
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize("product", names())
def test_every_decoder_gives_known_classes_only(product: str) -> None:
    rng = np.random.default_rng(0)
    high = {"qa_pixel": 65536, "hls-fmask": 256, "cldprb": 101, "scl": 12, "fmask": 5, "python-fmask": 6, "udm2": 2}
    shape = (8, 16, 16) if product == "udm2" else (16, 16)
    values = rng.integers(0, high[product], shape).astype(np.uint16)
    before = values.copy()
    out = decode(product, values)
    assert out.dtype == np.uint8
    assert out.shape == (16, 16)
    assert set(np.unique(out)) <= {0, 1, 2, 3, 255}
    assert np.array_equal(values, before)


def test_real_masks(shared_data: Path) -> None:
    scl = next((shared_data / "safe_s2_l2a_60m").rglob("*_SCL_60m.jp2"))
    with rasterio.open(scl) as dataset:
        values = dataset.read(1)
    out = decode("scl", values)
    assert np.array_equal(out == 255, values < 2)
    cloudy = np.isin(out, [1, 2]).sum() / (out != 255).sum()
    assert cloudy == pytest.approx(0.597697, abs=0.02)  # CLOUDY_PIXEL_PERCENTAGE of the product
    folder = next((shared_data / "landsat").glob("LC08_L2SP_017036*"))
    with rasterio.open(next(folder.glob("*QA_PIXEL.TIF"))) as dataset:
        out = decode("qa_pixel", dataset.read(1))
    assert (out[out != 255] != 0).mean() > 0.9
