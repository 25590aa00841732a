"""CESBIO reference masks: 31 Sentinel-2 tiles of 2016 to 2018, and 7 of an older set, labelled at 60 m.

    <root>/Reference_dataset/<scene>/Classification/classification_map.tif, used_parameters.json
    <root>/Hollstein/<scene>/...
    <root>/L1C/<product>.SAFE or .zip        the images, which do not come with the masks

Products are found by name, or, since old names have changed, by tile and day.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import sensors
from ...errors import InputError
from ...raster import header
from ...readers import open_scene
from ...scene import Scene
from .. import labels as lab
from ..sample import Sample
from ..tiff import write_tiff
from . import _fakes, register
from ._scenes import SceneSet, read_window
from .base import Record, Window

_LOG = logging.getLogger("unclouded")

LABEL_M = 60
_TILE = re.compile(r"(?<![A-Z0-9])T?(\d{2}[A-Z]{3})(?![A-Z0-9])")
_DAY = re.compile(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)")
_SENSED = re.compile(r"_(20\d{6})T\d{6}_")


@register
class Cesbio(SceneSet):
    """CESBIO reference masks; a set to test with.

    Args:
        root: folder that holds Reference_dataset, and the images in ``L1C`` unless ``products`` says where they are.
        products: folder of the Level-1C products, None means ``<root>/L1C``.
        hollstein: also read the scenes below Hollstein.
        resolution_m: pixel size of the samples, 10, 20, 30 or 60 m; labels are repeated below 60 m.

    Other options, in pixels of that size: see :class:`._scenes.SceneSet`.
    """

    name = "cesbio"
    title = "CESBIO Sentinel-2 reference cloud masks"
    licence = "CC BY 4.0 (as far as known)"
    citation = (
        "Baetens, Desjardins and Hagolle (2019): Validation of Copernicus Sentinel-2 cloud masks obtained from MAJA, "
        "Sen2Cor, and FMask processors using reference cloud masks generated with a supervised active learning "
        "procedure. Remote Sensing 11(4), 433, doi:10.3390/rs11040433"
    )
    homepage = "https://zenodo.org/record/1460961"
    obtain = (
        "Get the masks from zenodo.org/record/1460961, and the Level-1C products named in used_parameters.json from "
        "the Copernicus Data Space into the folder L1C beside Reference_dataset."
    )
    sensors = ("sentinel2-l1c",)
    labels: ClassVar[Mapping[int, int]] = {
        0: lab.MISSING, 1: lab.IGNORED, 2: lab.CLOUD, 3: lab.CLOUD, 4: lab.SHADOW, 5: lab.bits("land"),
        6: lab.bits("water"), 7: lab.bits("snow"),
    }  # fmt: skip

    def __init__(
        self,
        root: Path,
        *,
        products: str | Path | None = None,
        hollstein: bool = False,
        resolution_m: int = LABEL_M,
        **options: Any,
    ) -> None:
        if resolution_m not in (10, 20, 30, LABEL_M):
            raise InputError(
                f"The resolution is {resolution_m} m.",
                expected="It is 10, 20, 30 or 60 m, so that labels of 60 m can be repeated.",
                remedy="Choose one of these.",
            )
        self.products = Path(root) / "L1C" if products is None else Path(products)
        self.hollstein, self.resolution_m = hollstein, resolution_m
        self.factor = LABEL_M // resolution_m
        super().__init__(root, **options)

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return (
            "Files Reference_dataset/<scene>/Classification/classification_map.tif, and for each the Level-1C product "
            "of its tile and day in the folder L1C, or in the one that the option products names."
        )

    def find_scenes(self) -> Iterator[Record]:
        """Scenes that have both mask and product."""
        images = self._images()
        without = []
        for folder in ("Reference_dataset", "Hollstein")[: 1 + self.hollstein]:
            for label in sorted((self.root / folder).glob("*/Classification/classification_map.tif")):
                place = label.parent.parent
                product, tile, day = _which(place)
                image = images.get(product) or images.get(f"{tile}_{day}")
                if image is None:
                    without.append(place.name)
                    continue
                name = place.name if folder == "Reference_dataset" else f"Hollstein_{place.name}"
                tags: dict[str, str | float] = {"tile": tile, "month": float(day[4:6])}
                # A scene that is in both folders stays one scene.
                yield Record(name, f"{tile}_{day}", {"image": image, "label": label}, "test", tags)
        if without:
            _LOG.warning("%s: %d scenes have no product in %s: %s", self.name, len(without), self.products, without)

    def _images(self) -> dict[str, Path]:
        """Products by name, and by tile and day."""
        out: dict[str, Path] = {}
        for path in sorted(self.products.glob("*")) if self.products.is_dir() else ():
            name = path.name.removesuffix(".zip").removesuffix(".SAFE")
            tile, sensed = _TILE.search(name.replace("_", " ")), _SENSED.search(name)
            if "MSIL1C" in name:
                out[name] = path
                if tile and sensed:
                    out[f"{tile[1]}_{sensed[1]}"] = path
        return out

    def size(self, record: Record) -> tuple[int, int]:
        """Rows and columns of a scene in pixels of the samples."""
        rows, cols = super().size(record)
        return rows * self.factor, cols * self.factor

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes, each label repeated where samples have smaller pixels."""
        window, factor = self.window(record), self.factor
        row, col = window.row // factor, window.col // factor
        last_row, last_col = -(-(window.row + window.height) // factor), -(-(window.col + window.width) // factor)
        part = Window(row, col, last_row - row, last_col - col)
        codes = read_window(record.files["label"], part, count=1, dtypes=("uint8",))[0]
        sets = lab.to_sets(codes, self.labels, str(record.files["label"]))
        fine = np.repeat(np.repeat(sets, factor, axis=0), factor, axis=1)
        top, left = window.row - row * factor, window.col - col * factor
        return fine[top : top + window.height, left : left + window.width]

    def read(self, record: Record) -> Sample:
        """Read a scene, or a window of one."""
        scene, window = _scene(record.files["image"]), self.window(record)
        self._check_grid(scene, record)
        grid = scene.grid(self.resolution_m)
        rows = slice(window.row, window.row + window.height)
        bands = sensors.bands_of("sentinel2-l1c")
        image = scene.read(grid[rows, window.col : window.col + window.width], [band.name for band in bands])
        return Sample(
            name=record.name,
            source=self.name,
            scene=record.scene,
            split=record.split,
            image=image,
            sets=self.read_sets(record),
            bands=bands,
            gsd_m=float(self.resolution_m),
            level="toa",
        )

    def _check_grid(self, scene: Scene, record: Record) -> None:
        """The mask has to lie on the product's own grid of 60 m."""
        label, image = header(str(record.files["label"])), scene.grid(LABEL_M)
        near = np.allclose(label.affine[:6], image.affine[:6], atol=0.5)
        if label.shape != tuple(image.shape) or not near:
            raise InputError(
                f"The mask {record.files['label']} has {label.shape} pixels from "
                f"({label.affine.c:g}, {label.affine.f:g}), the product {scene.id} {tuple(image.shape)} from "
                f"({image.affine.c:g}, {image.affine.f:g}).",
                expected="Both cover the same tile with pixels of 60 m.",
                remedy="Check that the product is the one that used_parameters.json names.",
            )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Two small tiles with their products, one of them in the older set, too, and one without product."""
        from ...simulate.safe import write_safe

        rng = np.random.default_rng(seed)
        side = 40
        by_code = np.array([0, 1200, 6500, 5000, 500, 1300, 400, 7000], np.uint16)
        tiles = {"T32TLR": "2017-05-14T10:30:31Z", "T18NXG": "2016-12-06T15:22:12Z", "T34RGS": "2016-08-17T08:30:12Z"}
        for number, (tile, time) in enumerate(tiles.items()):
            codes = _fakes.code_blocks(sorted(cls.labels), (side, side), rng)
            day = time[:10].replace("-", "")
            name = f"S2A_MSIL1C_{day}T103031_N0205_R108_{tile}_{day}T103025"
            if number < 2:
                planes = {}
                for band in sensors.bands_of("sentinel2-l1c"):
                    times = int(LABEL_M // band.gsd_m)
                    planes[band.name] = np.kron(by_code[codes], np.ones((times, times), np.uint16))
                safe = write_safe(
                    root / "L1C", planes, crs=_fakes.CRS, ulx=4e5, uly=5.8e6, datetime=time, tile=tile,
                    baseline="02.05", offset=None, spacecraft="S2A",
                )  # fmt: skip
                name = safe.stem
            for folder in ("Reference_dataset", "Hollstein")[: 2 if number == 0 else 1]:
                place = root / folder / name / "Classification"
                write_tiff(place / "classification_map.tif", codes, **_fakes.grid(LABEL_M))
                facts = {"cloudy_product_name": name, "tile": tile[1:], "cloudy_date": day}
                (place / "used_parameters.json").write_text(json.dumps(facts), encoding="utf-8")


def _which(place: Path) -> tuple[str, str, str]:
    """Product name, tile and day of a scene, from its parameters, or from the folder's name where these are missing.

    Raises:
        InputError: neither tells tile and day, or the parameters are damaged.
    """
    facts: dict[str, Any] = {}
    for path in (place / "Classification" / "used_parameters.json", place / "used_parameters.json"):
        if path.is_file():
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as err:
                raise InputError(
                    f"{path} is not JSON: {err}.", expected="It names the product.", remedy="Get the file again."
                ) from err
            break
    product = str(facts.get("cloudy_product_name", place.name)).removesuffix(".SAFE")
    # "_" counts as part of a word in regular expressions, blanks do not.
    tile = _TILE.search(f"{facts.get('tile', '')} {product} {place.name}".replace("_", " "))
    day = _DAY.search(f"{facts.get('cloudy_date', '')} {product} {place.name}".replace("_", " ").replace("T", " "))
    if tile is None or day is None:
        raise InputError(
            f"Tile and day of {place} cannot be told.",
            expected="They stand in used_parameters.json, or in the name of the folder or product.",
            remedy="Put used_parameters.json of the release there.",
        )
    return product, tile[1], "".join(day.groups())


@lru_cache(maxsize=4)
def _scene(path: Path) -> Scene:
    """The product, opened once for all its windows."""
    return open_scene(path, sensor="sentinel2-l1c")
