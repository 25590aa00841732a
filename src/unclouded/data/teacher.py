"""Labels from a teacher: the networks that ukis-csmask ships (Apache-2.0), run on real imagery without labels.

Only training uses this; ukis-csmask has to be installed. Its networks take 256 x 256 tiles at about 20 to 30 m.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependencyError
from ..scene import Band
from . import labels as lab

POSSIBLE_FROM = 0.3
"""A class stays possible where the teacher gives it at least this probability."""

_WANTED = {"blue": 490, "green": 560, "red": 660, "nir": 850, "swir16": 1610, "swir22": 2200}


def teacher_probability(image: NDArray[np.float32], bands: Sequence[Band], level: str) -> NDArray[np.float32]:
    """Mean probability of clear, cloud and shadow over the teacher's networks that fit the bands.

    Args:
        image: reflectance, (band, y, x), at about 20 to 30 m; NaN where missing.
        bands: the bands of ``image``.
        level: ``toa`` or ``boa``.

    Returns:
        (3, y, x) float32: clear, cloud, shadow.
    """
    planes = {}
    for name, wavelength in _WANTED.items():
        distance = [abs(band.centre_nm - wavelength) for band in bands]
        nearest = int(np.argmin(distance))
        if distance[nearest] < 70:
            planes[name] = np.nan_to_num(image[nearest])
    product = "l1c" if level == "toa" else "l2a"
    total, count = np.zeros((3, *image.shape[1:]), np.float32), 0
    for size in (6, 4):
        session, info = _network(size, product)
        statistics = info["data"]["dataset_statistics"]
        if not set(statistics["band_names"]) <= set(planes):
            continue
        mean, std = (np.asarray(row, np.float32)[:, None, None] for row in statistics["img"])
        stack = (np.stack([planes[name] for name in statistics["band_names"]]) - mean) / std
        total += _tiled(session, stack)
        count += 1
    return np.asarray(total / max(count, 1), dtype=np.float32)


def teacher_sets(image: NDArray[np.float32], bands: Sequence[Band], level: str, coarsen: int) -> NDArray[np.uint8]:
    """Sets of possible classes as the teacher sees them, (y, x) uint8.

    Args:
        image: reflectance, (band, y, x).
        bands: the bands of ``image``.
        level: ``toa`` or ``boa``.
        coarsen: the teacher sees means of this many pixels squared.
    """
    rows, cols = (size // coarsen * coarsen for size in image.shape[1:])
    shape = (image.shape[0], rows // coarsen, coarsen, cols // coarsen, coarsen)
    small = image[:, :rows, :cols].reshape(shape).mean(axis=(2, 4))
    probability = teacher_probability(small, bands, level)
    sets = np.zeros(probability.shape[1:], np.uint8)
    for row, mask in enumerate((lab.CLEAR, lab.CLOUD, lab.SHADOW)):
        sets[probability[row] >= POSSIBLE_FROM] |= np.uint8(mask)
    full = np.zeros(image.shape[1:], np.uint8)
    full[:rows, :cols] = sets.repeat(coarsen, 0).repeat(coarsen, 1)
    full[~np.isfinite(image).all(axis=0)] = lab.IGNORED
    return full


@cache
def _network(size: int, product: str) -> tuple[Any, dict[str, Any]]:
    import onnxruntime

    found = importlib.util.find_spec("ukis_csmask")
    if found is None or found.origin is None:
        raise MissingDependencyError(
            "The Python module 'ukis_csmask' is not installed.",
            expected="It holds the networks that label the unlabelled training imagery.",
            remedy="Install it: pip install --no-deps ukis-csmask==1.0.0",
        )
    folder = Path(found.origin).parent
    name = f"model_{size}b_{product}"
    info = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # tiles are labelled by several processes
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options), info


def _tiled(session: Any, stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over overlapping tiles of 256, averaged with a tapered window."""
    rows, cols = stack.shape[1:]
    pad = (max(256 - rows, 0), max(256 - cols, 0))
    stack = np.pad(stack, ((0, 0), (0, pad[0]), (0, pad[1])), mode="symmetric")
    ramp = np.minimum(np.arange(1, 257), np.arange(256, 0, -1)).astype(np.float32)
    window = np.minimum(ramp[:, None], ramp[None, :])
    total = np.zeros((3, *stack.shape[1:]), np.float32)
    weight = np.zeros(stack.shape[1:], np.float32)
    starts = [sorted({*range(0, size - 255, 192), size - 256}) for size in stack.shape[1:]]
    for y in starts[0]:
        for x in starts[1]:
            tile = stack[None, :, y : y + 256, x : x + 256]
            logits = session.run(None, {session.get_inputs()[0].name: tile})[0][0]
            power = np.exp(logits - logits.max(axis=0))
            total[:, y : y + 256, x : x + 256] += window * power / power.sum(axis=0)
            weight[y : y + 256, x : x + 256] += window
    return np.asarray((total / weight)[:, :rows, :cols], dtype=np.float32)
