"""A small removal network of known behaviour, and small scenes with clouds whose ground is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import rasterio
from affine import Affine
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from unclouded.models.card import BandInput, ExpectedError, ModelCard, RadarInput

REACH = 7
"""The network looks this many pixels far."""

INPUTS = (
    BandInput(name="B02", common_name="blue", min_nm=459, max_nm=525),
    BandInput(name="B03", common_name="green", min_nm=541, max_nm=577),
    BandInput(name="B04", common_name="red", min_nm=649, max_nm=680),
    BandInput(name="B08", common_name="nir", min_nm=780, max_nm=886),
)
RADAR = (RadarInput(name="vv", low_db=-25, high_db=0), RadarInput(name="vh", low_db=-32.5, high_db=0))


def write_model(
    folder: Path, *, sar: float | None = None, marks: bool = True, error: bool = True, **card: object
) -> Path:
    """A network that gives the mean of what is not marked within 7 pixels, plus ``sar`` times VV.

    The expected error is 0.02 where nothing around is marked, rising to 0.04 where all is.
    """
    bands, side = len(INPUTS), 2 * REACH + 1
    ones = np.ones((1, 1, side, side), np.float32)
    nodes = [
        helper.make_node("Sub", ["one", "rebuild"], ["known"]),
        helper.make_node("Mul", ["image", "known"], ["shown"]),
        helper.make_node("Conv", ["shown", "wide"], ["total"], pads=[REACH] * 4, group=bands),
        helper.make_node("Conv", ["known", "ones"], ["count"], pads=[REACH] * 4),
        helper.make_node("Add", ["count", "small"], ["some"]),
        helper.make_node("Div", ["total", "some"], ["mean"]),
    ]
    if marks:
        nodes.insert(0, helper.make_node("Slice", ["hidden", "zero", "unit", "unit"], ["rebuild"]))
    else:
        nodes.insert(0, helper.make_node("Mul", ["image_first", "zero_f"], ["rebuild"]))
        nodes.insert(0, helper.make_node("Slice", ["image", "zero", "unit", "unit"], ["image_first"]))
    if sar is None:
        nodes.append(helper.make_node("Identity", ["mean"], ["restored"]))
    else:
        nodes += [
            helper.make_node("Slice", ["sar", "zero", "unit", "unit"], ["vv"]),
            helper.make_node("Mul", ["vv", "weight"], ["echo"]),
            helper.make_node("Add", ["mean", "echo"], ["restored"]),
        ]
    if error:
        nodes += [
            helper.make_node("Div", ["count", "all"], ["share"]),
            helper.make_node("Sub", ["two", "share"], ["doubt"]),
            helper.make_node("Mul", ["doubt", "unsure"], ["expected"]),
            helper.make_node("Log", ["expected"], ["log_scale"]),
        ]
    constants = {
        "one": np.float32(1), "small": np.float32(1e-3), "wide": np.repeat(ones, bands, 0), "ones": ones,
        "zero": np.array([0]), "unit": np.array([1]), "weight": np.float32(sar or 0), "all": np.float32(side**2),
        "two": np.float32(2), "unsure": np.float32(0.02), "zero_f": np.float32(0),
    }  # fmt: skip
    given = {"image": bands} | ({"sar": 2} if sar is not None else {}) | ({"hidden": 2} if marks else {})
    made = {"restored": bands} | ({"log_scale": 1} if error else {})

    def values(names: dict[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", count, "h", "w"])
            for name, count in names.items()
        ]

    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "rebuild", values(given), values(made),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "rebuild.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(weights))
    settings: dict[str, object] = {
        "name": "rebuild", "title": "A network for tests", "version": "1", "architecture": "none", "task": "removal",
        "front_end": "bands", "bands": INPUTS, "sar": RADAR if sar is not None else (), "marks": marks,
        "partial_inputs": True, "licence": "none", "parameters": 1, "grid_m": 10.0, "coarsest_m": 130.0,
        "expected_error": ExpectedError(kind="log-scale", fitted_on="nothing, it is known") if error else None,
        "sha256": {"onnx": hashlib.sha256(weights.read_bytes()).hexdigest()},
    }  # fmt: skip
    ModelCard.model_validate(settings | card).save(folder / "rebuild.json")
    return weights


@dataclass(frozen=True)
class Ground:
    """Dates of one place.

    Attributes:
        paths: files of the dates, the cloudy one first.
        masks: their classes.
        clear: reflectance of the first date without its cloud, (band, y, x).
        counts: its stored counts, with the cloud.
    """

    paths: tuple[Path, ...]
    masks: tuple[NDArray[np.uint8], ...]
    clear: NDArray[np.float32]
    counts: NDArray[np.uint16]


READING = {"scale": 1e-4, "offset": -0.1, "nodata": 0, "level": "boa"}
"""How the files are opened."""

GRID = Affine(10, 0, 4e5, 0, -10, 5.8e6)


def write_image(
    path: Path, image: NDArray[np.generic], *, grid: Affine = GRID, names: Sequence[str] = (), **profile: object
) -> Path:
    """Bands (band, y, x) as a GeoTIFF."""
    settings = {"driver": "GTiff", "crs": "EPSG:32633", "transform": grid, "count": len(image), **profile}
    with rasterio.open(
        path, "w", height=image.shape[1], width=image.shape[2], dtype=image.dtype, **settings
    ) as file:
        file.write(image)
        file.descriptions = tuple(names) or ("blue", "green", "red", "nir")[: len(image)]
    return path


def make_ground(folder: Path, size: tuple[int, int] = (150, 190), seed: int = 1) -> Ground:
    """A cloudy date with a cloud, a shadow and missing corner, and two clear dates in other light."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    coarse = rng.uniform(0.03, 0.35, (4, -(-size[0] // 6), -(-size[1] // 6))).astype(np.float32)
    clear = coarse.repeat(6, 1).repeat(6, 2)[:, : size[0], : size[1]]
    clear = clear + rng.normal(0, 0.003, clear.shape).astype(np.float32)
    mask = np.zeros(size, np.uint8)
    mask[30:70, 40:90] = 1
    mask[70:90, 60:80] = 2
    mask[85:110, 95:130] = 3
    mask[:9, :12] = 255
    cloudy = np.where(mask == 1, 0.8, np.where(mask == 2, 0.5 * clear + 0.2, np.where(mask == 3, 0.4 * clear, clear)))
    counts = np.rint((cloudy + 0.1) * 1e4).astype(np.uint16)
    counts[:, mask == 255] = 0
    paths, masks = [write_image(folder / "first.tif", counts, nodata=0)], [mask]
    for number, (gain, offset) in enumerate(((0.8, 0.02), (1.2, -0.01))):
        other = gain * clear + offset + rng.normal(0, 0.002, clear.shape)
        own = np.zeros(size, np.uint8)
        if number == 0:
            own[50:100, 30:60] = 1  # hides part of what the first date's cloud hides
            other[:, own == 1] = 0.9
        stored = np.rint((other + 0.1) * 1e4).astype(np.uint16)
        paths.append(write_image(folder / f"other{number}.tif", stored, nodata=0))
        masks.append(own)
    return Ground(tuple(paths), tuple(masks), clear, counts)
