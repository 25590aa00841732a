"""Data sets of simulated scenes on disk, all with exact truth.

| written | content |
| --- | --- |
| ``images/NAME.tif``, ``labels/NAME.tif``, ``dataset.yaml``, ``splits.csv`` | data set ``folder``, docs/own-data.md |
| ``sar/NAME.tif``, ``dem/NAME.tif`` | VV and VH in decibel; heights in metres |
| ``truth/NAME.tif`` | classes, optical thickness, share of sunlight |
| ``ROIs1158_spring_{s1,s2,s2_cloudy}/`` | pairs, in the layout of SEN12MS-CR |
| ``*.SAFE`` | Sentinel-2 products |
| ``items/NAME.json``, ``collection.json`` | STAC: every file, seed and parameter |

The item of a scene is written last: a scene without one is made again, so that an interrupted run resumes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__, sensors
from ..classes import CLASSES
from ..errors import OutputError
from ..scene import Scene
from ..write.atomic import write_text
from ..write.resume import FINGERPRINT
from .files import label_codes, write_labelled, write_pair, write_product, write_truth
from .manifest import PAIR_SIDE, PERCENT, Order, collect, describe, moment, read_item, scene_item, scene_name
from .scenes import draw_scene

__all__ = ["PAIR_SIDE", "Made", "Order", "background_scenes", "simulate_dataset"]


@dataclass(frozen=True)
class Made:
    """One scene of a data set.

    Attributes:
        name: of its files.
        item: path of its STAC item.
        kept: whether an earlier run had made it.
        percent: share of the pixels of each class, by name.
    """

    name: str
    item: Path
    kept: bool
    percent: dict[str, float]


def simulate_dataset(
    folder: str | Path,
    order: Order,
    *,
    backgrounds: Sequence[Scene] = (),
    overwrite: bool = False,
) -> Iterator[Made]:
    """Write a data set of simulated scenes, one after the other.

    Args:
        folder: where everything goes; made if it does not exist. Complete scenes of the same order are kept, and a
            larger number of scenes adds to them.
        order: what is wanted.
        backgrounds: clear scenes of the same sensor whose pixels are the ground, in turn; none makes up the ground.
        overwrite: replace what an earlier order with other settings has written.

    Yields:
        Each scene as soon as it is complete.

    Raises:
        InputError: sensor or backgrounds do not fit.
        OutputError: the folder holds scenes of another order, or cannot be written to.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     made = list(simulate_dataset(name, Order(scenes=2, size=64, sensor="planetscope-4b-sr")))
    ...     len(made), sorted(path.name for path in (Path(name) / "images").iterdir())
    (2, ['simulated-00000.tif', 'simulated-00001.tif'])
    """
    root = Path(folder).expanduser()
    finger = _fingerprint(order, backgrounds)
    _check_folder(root, finger, overwrite)
    # Said before the first scene, so that a run that is cut short leaves a data set that can be read.
    describe(root, order, backgrounds)
    for number in range(order.scenes):
        yield _make(root, order, number, backgrounds, finger)
    collect(root, order)


def _make(root: Path, order: Order, number: int, backgrounds: Sequence[Scene], finger: str) -> Made:
    name = scene_name(order, number)
    item = root / "items" / f"{name}.json"
    known = read_item(item)
    if known is not None and known["properties"][FINGERPRINT] == finger and _complete(item, known):
        return Made(name, item, True, known["properties"][PERCENT])
    sensor = sensors.load(order.sensor)
    background = backgrounds[number % len(backgrounds)] if backgrounds else None
    drawn = draw_scene(
        sensor, order.size, order.seed, number, background=background, sar=order.sar or order.pairs, dem=order.dem
    )
    labels = label_codes(drawn)
    files: dict[str, Path]
    if order.product == "safe":
        files = {"product": write_product(root, sensor, moment(number), drawn)}
    elif order.pairs:
        files = write_pair(root, name, drawn)
    else:
        files = write_labelled(root, name, sensor, drawn, labels)
    files |= write_truth(root, name, drawn, labels)
    percent = {
        one.name: round(100 * float((drawn.sky.classes == one.value).mean()), 3) for one in CLASSES
    }
    write_text(item, json.dumps(scene_item(item, name, number, drawn, files, finger, percent), indent=1), name)
    return Made(name, item, False, percent)


def _fingerprint(order: Order, backgrounds: Sequence[Scene]) -> str:
    """Everything that decides what a scene is, whatever the number of scenes."""
    said = {key: value for key, value in asdict(order).items() if key != "scenes"}
    said["backgrounds"] = [scene.source for scene in backgrounds]
    said["version"] = __version__
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _check_folder(root: Path, finger: str, overwrite: bool) -> None:
    for path in sorted((root / "items").glob("*.json")):
        known = read_item(path)
        if known is None or known["properties"][FINGERPRINT] == finger:
            continue
        if not overwrite:
            raise OutputError(
                f"{root} holds scenes that were simulated with other settings, e.g. {path.stem}.",
                expected="A data set is made with one sensor, size and seed, by one version of unclouded.",
                remedy="Pass --overwrite to replace them, or choose another folder.",
            )
        for asset in known["assets"].values():
            _remove(path.parent / asset["href"])
        path.unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _complete(item: Path, known: dict[str, Any]) -> bool:
    return all((item.parent / asset["href"]).exists() for asset in known["assets"].values())


def background_scenes(path: str | Path, opener: Callable[[Path], Scene]) -> list[Scene]:
    """The scenes of a background: the product or raster itself, or those that a folder holds, by name.

    Args:
        path: a product, a raster, or a folder of them.
        opener: opens one, as :func:`unclouded.open_scene` does.

    Raises:
        InputError: there is nothing at the path, or something that cannot be opened.
    """
    found = Path(path).expanduser()
    if found.is_dir() and sensors.detect(found.name) is None:
        rasters = (".tif", ".tiff", ".jp2")
        inside = sorted(one for one in found.iterdir() if one.suffix.lower() in rasters or sensors.detect(one.name))
        if inside:
            return [opener(one) for one in inside]
    return [opener(found)]
