"""Compare two masks pixel by pixel: how often each class of one is which class of the other, and the scores from it.

Both are read window by window, so that memory does not grow with their size. The first mask is the reference:
precision and recall say how well the second finds what the first has. Masks of other makers are turned into the
project's classes by a decoder, see :mod:`unclouded.decoders`. Some of them do not tell thick from thin cloud; the
scores of cloud as one class are meant for these.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from .classes import CLASSES, NO_DATA
from .decoders import check_name, decode
from .errors import InputError
from .metrics import Confusion, confusion
from .raster_files import environment, read_errors
from .readers.stac import read_item

MERGED: dict[str, tuple[str, ...]] = {
    "cloud": ("thick-cloud", "thin-cloud"),
    "cloud-or-shadow": ("thick-cloud", "thin-cloud", "cloud-shadow"),
}
"""Classes that are also scored as one."""

_SIDE = 1024
"""Side of the windows in pixels."""

_SAME = 0.01
"""Pixels by which the corners of two grids may differ and still be the same grid."""

_TOLERANCE = 1e-3
"""Pixels by which GDAL's interpolation of the transform may be off."""

_ASSETS = {"hls-fmask": "fmask", "python-fmask": "fmask", "cldprb": "cloud"}
"""Asset of a STAC item that holds a decoder's mask, where it is not called after the decoder."""


@dataclass(frozen=True)
class Comparison:
    """How two masks go together.

    Attributes:
        a, b: files that were read.
        table: pixels by class of A (rows) and class of B (columns); its scores are those of B against A.
        missing: pixels without data in ``a`` only, in ``b`` only, and in ``both``; they are in no score.
        resampled: whether B was brought to the grid of A.
    """

    a: str
    b: str
    table: Confusion
    missing: dict[str, int]
    resampled: bool

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values that JSON can hold; what is undefined is None."""
        table = self.table
        scores = {name: asdict(one) for name, one in table.scores().items()}
        merged = {name: asdict(table.merged(members)) for name, members in MERGED.items()}
        out: dict[str, Any] = _plain(
            {
                "a": self.a,
                "b": self.b,
                "resampled": self.resampled,
                "pixels": table.pixels,
                "missing": self.missing,
                "classes": list(table.classes),
                "counts": table.counts.tolist(),
                "agreement": table.overall_accuracy,
                "balanced_accuracy": table.balanced_accuracy,
                "mean_iou": table.mean_iou,
                "scores": scores,
                "merged": merged,
            }
        )
        return out


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    decode_a: str | None = None,
    decode_b: str | None = None,
    resample: bool = False,
) -> Comparison:
    """Compare two masks on one grid.

    Args:
        a: the reference: a mask raster, the output folder of one scene, or a STAC item (file or address) with a mask.
        b: what is judged, in the same forms.
        decode_a, decode_b: name of a decoder for masks of other makers, see :func:`unclouded.decoders.names`; None
            means the project's own codes. Of a STAC item the asset of that name is read, such as ``scl``.
        resample: bring B to the grid of A by nearest neighbour where their grids differ.

    Returns:
        Counts and scores. Pixels that either mask has no data for are counted apart.

    Raises:
        InputError: a mask cannot be read, holds codes that are no classes, or lies on another grid.

    Example:
        found = unclouded.compare("out/", "S2A_T33UUB_SCL_20m.tif", decode_b="scl", resample=True)
        found.table.merged(["thick-cloud", "thin-cloud"]).iou
    """
    for name in (decode_a, decode_b):
        if name is not None:
            check_name(name)
    paths = _file(a, decode_a), _file(b, decode_b)
    names = tuple(one.name for one in CLASSES)
    table = Confusion(names, np.zeros((len(names), len(names)), np.int64))
    missing = {"a": 0, "b": 0, "both": 0}
    with ExitStack() as stack:
        first = stack.enter_context(_opened(paths[0], decode_a))
        second = stack.enter_context(_opened(paths[1], decode_b))
        apart = not _one_grid(first, second)
        if apart and not resample:
            raise InputError(
                f"{paths[0]} has {_described(first)}; {paths[1]} has {_described(second)}.",
                expected="Two masks are compared pixel by pixel, on one grid.",
                remedy="Pass --resample to bring the second to the grid of the first by nearest neighbour.",
            )
        if apart:
            second = stack.enter_context(_on_grid_of(first, second, paths))
        for window in _windows(first):
            one = _classes(first, paths[0], decode_a, window, "--decode-a")
            two = _classes(second, paths[1], decode_b, window, "--decode-b")
            table = table + confusion(one, two)
            gone = one == NO_DATA, two == NO_DATA
            missing["both"] += int((gone[0] & gone[1]).sum())
            missing["a"] += int((gone[0] & ~gone[1]).sum())
            missing["b"] += int((gone[1] & ~gone[0]).sum())
    return Comparison(paths[0], paths[1], table, missing, apart)


def _file(source: str | os.PathLike[str], decoder: str | None) -> str:
    """The raster that a source stands for."""
    text = os.fspath(source)
    remote = "://" in text
    if not remote and not text.startswith("/vsi"):
        path = Path(text).expanduser()
        if not path.exists():
            raise InputError(
                f"{text} does not exist.",
                expected="A mask raster, an output folder or a STAC item is expected.",
                remedy="Check the path.",
            )
        if path.is_dir():
            return _in_folder(path)
        text = str(path)
    place = text.split("?")[0].lower()
    if place.endswith((".json", ".geojson")) or (remote and "/items/" in place):
        return _in_item(text if remote else Path(text), decoder)
    return text


def _in_folder(folder: Path) -> str:
    found = sorted(folder.glob("*_mask.tif"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:4])
        raise InputError(
            f"{folder} holds {len(found)} masks{': ' + names if names else ''}.",
            expected="A folder is taken for the output of one scene, with one file *_mask.tif.",
            remedy="Name the file of the mask itself.",
        )
    return str(found[0])


def _in_item(source: str | Path, decoder: str | None) -> str:
    item = read_item(source)
    wanted = "mask" if decoder is None else _ASSETS.get(decoder, decoder)
    for key, asset in item.assets.items():
        if key.casefold().replace("-", "_") == wanted:
            return item.resolve(str(asset["href"]))
    raise InputError(
        f"Item {item.id} has no asset '{wanted}': its assets are {', '.join(item.assets) or 'none'}.",
        expected="Results of unclouded have an asset 'mask'; other masks are found by the name of their decoder.",
        remedy="Name the file of the mask itself, or the decoder with --decode-a or --decode-b.",
    )


@contextmanager
def _opened(path: str, decoder: str | None) -> Iterator[Any]:
    with ExitStack() as stack:
        with read_errors(path):
            stack.enter_context(environment(path))
            dataset = stack.enter_context(rasterio.open(path))
        if decoder != "udm2" and dataset.count != 1:
            raise InputError(
                f"{path} has {dataset.count} bands.",
                expected="A mask has one band with a code for each pixel.",
                remedy="Name the file of the mask; of probabilities no class is told.",
            )
        yield dataset


@contextmanager
def _on_grid_of(first: Any, second: Any, paths: tuple[str, str]) -> Iterator[Any]:
    """The second raster as it looks on the grid of the first, by nearest neighbour; nothing where it does not reach."""
    for dataset, path in zip((first, second), paths, strict=True):
        if dataset.crs is None:
            raise InputError(
                f"{path} has no reference system.",
                expected="Only masks with a position can be brought to one grid.",
                remedy="Georeference it first, or cut both to the same pixels.",
            )
    with ExitStack() as stack:
        with read_errors(paths[1]):
            warped = WarpedVRT(
                second,
                crs=first.crs,
                transform=first.transform,
                height=first.height,
                width=first.width,
                resampling=Resampling.nearest,
                tolerance=_TOLERANCE,
                # Tells where the raster does not reach; its own codes cannot: 0 is a class in some of them.
                add_alpha=True,
            )
            stack.enter_context(warped)
        yield warped


def _windows(dataset: Any) -> Iterator[Window]:
    for top in range(0, dataset.height, _SIDE):
        for left in range(0, dataset.width, _SIDE):
            yield Window(left, top, min(_SIDE, dataset.width - left), min(_SIDE, dataset.height - top))


def _classes(dataset: Any, path: str, decoder: str | None, window: Window, option: str) -> NDArray[np.uint8]:
    """Classes of one window, (y, x); what the file itself calls missing is missing."""
    with read_errors(path):
        stored = dataset.read(tuple(range(1, 9)) if decoder == "udm2" else 1, window=window)
        valid = dataset.dataset_mask(window=window)
    if decoder is not None:
        try:
            out = decode(decoder, stored)
        except InputError as err:
            raise InputError(f"{path}: {err.found}", expected=err.expected, remedy=err.remedy) from err
    else:
        known = np.isin(stored, [one.value for one in CLASSES]) | (stored == NO_DATA)
        if stored.dtype.kind not in "ui" or not (known | (valid == 0)).all():
            shown = f"the value {stored[~known].flat[0]}" if (~known).any() else f"numbers of type {stored.dtype}"
            raise InputError(
                f"{path} holds {shown}.",
                expected=f"Codes of classes are {', '.join(str(one.value) for one in CLASSES)} and {NO_DATA}.",
                remedy=f"If it is a mask of another maker, name its decoder: {option} scl, or another.",
            )
        out = stored.astype(np.uint8)
    out[valid == 0] = NO_DATA
    return out


def _one_grid(first: Any, second: Any) -> bool:
    if first.shape != second.shape or first.crs != second.crs:
        return False
    height, width = first.shape
    relative = ~first.transform * second.transform
    corners = ((0, 0), (width, 0), (0, height), (width, height))
    return all(math.dist(relative * corner, corner) <= _SAME for corner in corners)


def _described(dataset: Any) -> str:
    affine = dataset.transform
    where = f"in {dataset.crs} " if dataset.crs is not None else ""
    return (
        f"{dataset.height} x {dataset.width} pixels of {abs(affine.a):g} x {abs(affine.e):g} {where}"
        f"from ({affine.c:.10g}, {affine.f:.10g})"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
