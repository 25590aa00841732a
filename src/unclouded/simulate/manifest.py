"""What is wanted of a simulated data set, and the text files that describe it: STAC items, dataset.yaml, splits.csv."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from .. import __version__, sensors
from ..errors import InputError, OutputError
from ..scene import Scene
from ..write.atomic import write_text
from ..write.footprint import footprint
from ..write.resume import FINGERPRINT
from .files import LABELS, SAFE_LEVELS
from .scenes import DrawnScene

PERCENT = "unclouded:class_percent"
"""Property of an item: share of each class in percent of the pixels."""

PAIR_SIDE = 256
"""Side of the images of SEN12MS-CR in pixels."""

_PAIRS_SENSOR = "sentinel2-l1c"
_PARTS = ("train", "train", "train", "choose", "test")
_SPRING_TEST = (106, 123, 140, 31, 44)
_SPRING_CHOOSE = 17
_FIRST = dt.datetime(2024, 6, 15, 10, 20, 31, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Order:
    """What is wanted.

    Attributes:
        sensor: name in the sensor catalogue.
        scenes: how many.
        size: side in pixels.
        seed: the same number gives the same scenes.
        pairs: cloudy and clear images and radar, for removal, instead of images with labels.
        sar, dem: whether radar and heights are wanted.
        product: ``geotiff``, or ``safe`` for whole Sentinel-2 products.

    Raises:
        InputError: the wishes contradict each other.
    """

    sensor: str = "sentinel2-l1c"
    scenes: int = 20
    size: int = 512
    seed: int = 1
    pairs: bool = False
    sar: bool = False
    dem: bool = False
    product: Literal["geotiff", "safe"] = "geotiff"

    def __post_init__(self) -> None:
        sensors.load(self.sensor)
        if self.scenes < 1 or self.size < 32:
            raise InputError(
                f"{self.scenes} scenes of {self.size} pixels were asked for.",
                expected="There is at least one scene, and its side has at least 32 pixels.",
                remedy="Pass for example --scenes 20 --size 512.",
            )
        if self.pairs and (self.sensor != _PAIRS_SENSOR or self.size != PAIR_SIDE or self.product != "geotiff"):
            raise InputError(
                f"Pairs were asked for as {self.product} of {self.sensor} with {self.size} pixels.",
                expected=f"Pairs have the layout of SEN12MS-CR: {_PAIRS_SENSOR}, {PAIR_SIDE} pixels, GeoTIFF.",
                remedy=f"Pass --pairs --sensor {_PAIRS_SENSOR} --size {PAIR_SIDE}.",
            )
        if self.product == "safe" and (self.sensor not in SAFE_LEVELS or self.size % 6):
            raise InputError(
                f"SAFE products of {self.sensor} with {self.size} pixels were asked for.",
                expected=f"They exist for {' and '.join(SAFE_LEVELS)}, with a multiple of 6 pixels of 10 m.",
                remedy="Pass --sensor sentinel2-l1c --size 1098, or --product geotiff.",
            )


def scene_name(order: Order, number: int) -> str:
    """Name of the files of a scene."""
    if not order.pairs:
        return f"simulated-{number:05d}"
    # Places with these numbers belong to these parts of the public split, and all others train.
    turn, part = divmod(number, len(_PARTS))
    test = _SPRING_TEST[turn % len(_SPRING_TEST)]
    place = {"train": 1000 + number, "choose": _SPRING_CHOOSE, "test": test}[_PARTS[part]]
    return f"ROIs1158_spring_{place}_p{number}"


def moment(number: int) -> dt.datetime:
    """Sensing time of a scene: one every half minute."""
    return _FIRST + dt.timedelta(seconds=30 * number)


def read_item(path: Path) -> dict[str, Any] | None:
    """The item of a scene, None if there is none.

    Raises:
        OutputError: the file is something else.
    """
    if not path.exists():
        return None
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        item["properties"][FINGERPRINT], item["properties"][PERCENT], item["assets"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise OutputError(
            f"{path} is not an item that unclouded wrote.",
            expected="The folder of a simulated data set holds nothing else under items.",
            remedy="Choose another folder.",
        ) from err
    return item


def scene_item(
    path: Path,
    name: str,
    number: int,
    drawn: DrawnScene,
    files: dict[str, Path],
    finger: str,
    percent: dict[str, float],
) -> dict[str, Any]:
    """STAC item of a scene, which will be written to ``path``: its files, and every number that it was drawn with."""
    place = footprint(drawn.geobox)
    assets = {}
    for role, file in files.items():
        assets[role] = {
            "href": f"../{file.relative_to(path.parent.parent).as_posix()}",
            "roles": ["labels" if role in ("label", "truth") else "data"],
        }
        if file.suffix == ".tif":
            assets[role]["type"] = "image/tiff; application=geotiff"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "geometry": None if place is None else place[0],
        **({} if place is None else {"bbox": place[1]}),
        "properties": {
            "datetime": f"{moment(number):%Y-%m-%dT%H:%M:%SZ}",
            "gsd": drawn.parameters["resolution_m"],
            "unclouded:simulation": drawn.parameters,
            PERCENT: percent,
            "unclouded:version": __version__,
            FINGERPRINT: finger,
        },
        "assets": assets,
        "collection": "simulated",
        "links": [
            {"rel": rel, "href": "../collection.json", "type": "application/json"}
            for rel in ("root", "parent", "collection")
        ],
    }


def describe(root: Path, order: Order, backgrounds: Sequence[Scene]) -> None:
    """dataset.yaml and splits.csv, where images have labels."""
    if order.pairs or order.product == "safe":
        return
    said: dict[str, Any] = {
        "title": "Simulated clouds and shadows",
        "licence": "That of the backgrounds" if backgrounds else "CC0-1.0",
        "citation": f"unclouded {__version__}, unclouded simulate --seed {order.seed}",
        "sensor": order.sensor,
        "bands": [band.name for band in sensors.bands_of(order.sensor) if band.kind in ("optical", "thermal")],
        "nodata": 0,
        "classes": LABELS,
    }
    if backgrounds:
        said["bands"] = [band.name for band in backgrounds[0].bands if band.kind in ("optical", "thermal")]
    write_text(root / "dataset.yaml", yaml.safe_dump(said, sort_keys=False), "dataset")
    count = order.scenes
    while (root / "items" / f"{scene_name(order, count)}.json").exists():  # a longer run was here before
        count += 1
    rows = ["name,split,scene"]
    for number in range(count):
        # All scenes over one background stay in one part; parts do not change when more scenes are made.
        place = number % len(backgrounds) if backgrounds else number
        scene = backgrounds[place].id if backgrounds else scene_name(order, number)
        rows.append(f"{scene_name(order, number)},{_PARTS[place % len(_PARTS)]},{scene}")
    write_text(root / "splits.csv", "\n".join(rows) + "\n", "splits")


def collect(root: Path, order: Order) -> None:
    """collection.json: what all scenes have in common, and where their items are."""
    items = [scene_name(order, number) for number in range(order.scenes)]
    boxes = [box for name in items if (box := (read_item(root / f"items/{name}.json") or {}).get("bbox"))]
    extent = [
        [min(box[0] for box in boxes), min(box[1] for box in boxes)],
        [max(box[2] for box in boxes), max(box[3] for box in boxes)],
    ] if boxes else [[-180.0, -90.0], [180.0, 90.0]]  # fmt: skip
    last = moment(order.scenes - 1)
    collection = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": "simulated",
        "description": f"Simulated scenes of {sensors.load(order.sensor).title} with exact truth",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[*extent[0], *extent[1]]]},
            "temporal": {"interval": [[f"{_FIRST:%Y-%m-%dT%H:%M:%SZ}", f"{last:%Y-%m-%dT%H:%M:%SZ}"]]},
        },
        "summaries": {"unclouded:order": {key: [value] for key, value in asdict(order).items()}},
        "links": [
            {"rel": "root", "href": "./collection.json", "type": "application/json"},
            *({"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"} for name in items),
        ],
    }
    write_text(root / "collection.json", json.dumps(collection, indent=1), "collection")
