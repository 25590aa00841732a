"""A user's own labelled images: a folder with rasters, label rasters, and ``dataset.yaml`` that says what they are.

The page docs/own-data.md walks through an example.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ... import radiometry, sensors
from ...classes import SEVEN
from ...errors import InputError, first_fault
from ...raster import Header
from ...scene import Band, metres_per_pixel
from .. import labels as lab
from ..sample import Sample
from ..tiff import write_tiff
from . import _fakes, register
from ._scenes import SceneSet, by_scene, head, missing_counterpart, read_window
from .base import Record, split_by_scene

MEANINGS: Mapping[str, int] = {
    **{name: lab.bits(name) for name in SEVEN},
    "clear": lab.CLEAR,
    "cloud": lab.CLOUD,
    "not-cloud": lab.NOT_CLOUD,
    "ignore": lab.IGNORED,
}
"""What a label code may stand for."""

_PARTS = {"train": "train", "choose": "choose", "val": "choose", "validation": "choose", "test": "test"}


class Description(BaseModel):
    """What ``dataset.yaml`` may say; unknown entries are errors.

    Attributes:
        title, licence, citation: facts to show.
        sensor: name in the sensor catalogue, whose bands then have names and wavelengths.
        bands: what the rasters hold, in their order: names of the sensor's bands, common names (blue, green, red,
            nir, swir16, ...), or [from, to] in nanometres. None means all bands of the sensor.
        level: ``toa`` or ``boa`` reflectance, or ``counts``. None means the sensor's.
        scale, offset: reflectance = stored number * scale + offset. None means the sensor's, where its definition
            fixes them, or the rasters' own tags; decimal numbers without tags are reflectance.
        nodata: stored number of missing pixels. None means the rasters' own tag, or the sensor's.
        gsd_m: pixel size in metres. None means that the rasters' own grid says it.
        images: pattern of the images below the folder.
        labels: where the labels of an image lie, with ``{name}`` for the image's file name without its ending and
            ``{stem}`` for what the ``*`` of ``images`` stands for.
        classes: for every label code what it means: a name, or a list of names that are all possible.
        scene: regular expression on the file name; its first group, or all that it finds, is the scene. Splits never
            cut through one. None means that every image is a scene of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Own data"
    licence: str = ""
    citation: str = ""
    sensor: str | None = None
    bands: tuple[str | tuple[float, float], ...] | None = None
    level: Literal["toa", "boa", "counts"] | None = None
    scale: float | None = Field(default=None, gt=0)
    offset: float | None = None
    nodata: float | None = None
    gsd_m: float | None = Field(default=None, gt=0)
    images: str = "images/*.tif"
    labels: str = "labels/{name}.tif"
    classes: dict[int, str | tuple[str, ...]] = Field(min_length=1)
    scene: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sensor is None and (self.bands is None or self.level is None):
            raise ValueError("give a sensor, or bands and level")
        if self.offset is not None and self.scale is None:
            raise ValueError("an offset needs a scale")
        if self.images.count("*") < 1 or not re.search(r"\{(name|stem)\}", self.labels):
            raise ValueError("images needs a '*', and labels needs '{name}' or '{stem}'")
        for code, meaning in self.classes.items():
            if not 0 <= code <= 255:
                raise ValueError(f"the label code {code} is not between 0 and 255")
            for name in [meaning] if isinstance(meaning, str) else meaning:
                if name not in MEANINGS:
                    raise ValueError(f"'{name}' is no class; classes are {', '.join(MEANINGS)}")
        if self.scene is not None:
            try:
                re.compile(self.scene)
            except re.error as err:
                raise ValueError(f"scene is not a regular expression: {err}") from err
        return self

    def table(self) -> dict[int, int]:
        """Sets of classes by label code."""
        out = {}
        for code, meaning in self.classes.items():
            out[code] = 0
            for name in [meaning] if isinstance(meaning, str) else meaning:
                out[code] |= MEANINGS[name]
        return out


def read_description(path: Path) -> Description:
    """Read and check ``dataset.yaml``.

    Raises:
        InputError: the file cannot be read, or says something that it may not.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Description.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise InputError(
            f"{path} cannot be read: {str(err).splitlines()[0]}.",
            expected="A folder of own data holds dataset.yaml, which says what the rasters are.",
            remedy="Write one: docs/own-data.md has an example.",
        ) from err
    except ValidationError as err:
        raise InputError(
            f"{path} is not valid: {first_fault(err)}.",
            expected="Its entries are those of docs/own-data.md.",
            remedy="Correct the file.",
        ) from err


@register
class Folder(SceneSet):
    """See the module's text.

    Splits: ``own`` is ``splits.csv`` in the folder, with the columns ``name`` (file name without its ending) and
    ``split`` (train, choose or test), and where it likes ``scene``; without this file it is ``random``: 60, 20 and
    20 % of the scenes, seed 42.

    Args:
        root: folder that holds the images and labels.
        description: another place of ``dataset.yaml``; None means in ``root``.
        patch, stride, edge, empty: see :class:`SceneSet`.
    """

    name = "folder"
    title = "Own data: a folder of images and label rasters"
    licence = "As dataset.yaml says"
    citation = "As dataset.yaml says"
    homepage = "docs/own-data.md"
    obtain = "Write dataset.yaml beside your images and labels: docs/own-data.md has an example."
    schemes: ClassVar[tuple[str, ...]] = ("own", "random")

    def __init__(
        self,
        root: Path,
        *,
        description: str | Path | None = None,
        patch: int | None = None,
        stride: int | None = None,
        edge: Literal["drop", "align"] = "drop",
        empty: bool = True,
    ) -> None:
        said = read_description(Path(root) / "dataset.yaml" if description is None else Path(description))
        self.said, self.table = said, said.table()
        self.sensor = None if said.sensor is None else sensors.load(said.sensor)
        self.bands: tuple[Band, ...] = (
            sensors.resolve_bands(said.bands, self.sensor, gsd_m=said.gsd_m or 10.0)
            if said.bands is not None
            else sensors.bands_of(said.sensor or "")
        )
        super().__init__(root, patch=patch, stride=stride, edge=edge, empty=empty)

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return "Expected are dataset.yaml, and the images and labels where it says: images/*.tif and labels/*.tif."

    def find_scenes(self) -> Iterator[Record]:
        """Images by the pattern; every one has to have labels."""
        splits = self._splits()
        before, _, after = self.said.images.rpartition("/")[2].partition("*")
        for image in sorted(path for path in self.root.glob(self.said.images) if path.is_file()):
            stem = image.name.removeprefix(before)
            stem = stem.removesuffix(after) if after and stem.endswith(after) else Path(stem).stem
            label = self.root / self.said.labels.format(name=image.stem, stem=stem)
            if not label.is_file():
                raise missing_counterpart(image, f"labels {label}", "Add them, or correct labels in dataset.yaml.")
            row = splits.pop(image.stem, {})
            scene = row.get("scene") or self._scene(image)
            yield Record(image.stem, scene, {"image": image, "label": label}, _PARTS.get(row.get("split", ""), ""))
        if splits:
            raise InputError(
                f"{self.root / 'splits.csv'} names {len(splits)} images that are missing, e.g. '{next(iter(splits))}'.",
                expected="Its column name holds file names of images without their ending.",
                remedy="Correct the file.",
            )

    def _scene(self, image: Path) -> str:
        if self.said.scene is None:
            return image.stem
        found = re.search(self.said.scene, image.name)
        if found is None:
            raise InputError(
                f"The expression '{self.said.scene}' finds no scene in '{image.name}'.",
                expected="The entry scene of dataset.yaml fits every file name.",
                remedy="Correct it, or leave it out.",
            )
        return str(found[1] if found.re.groups else found[0])

    def _splits(self) -> dict[str, dict[str, str]]:
        path = self.root / "splits.csv"
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", newline="") as stream:
            rows = {row.get("name", ""): row for row in csv.DictReader(stream)}
        for name, row in rows.items():
            if not name or row.get("split", "") not in _PARTS:
                raise InputError(
                    f"{path} says '{row.get('split')}' of '{name}'.",
                    expected="Its columns are name, split (train, choose or test), and where it likes scene.",
                    remedy="Correct the file.",
                )
        return rows

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "random" or not (self.root / "splits.csv").is_file():
            parts = (("train", 0.6), ("choose", 0.2), ("test", 0.2))
            return by_scene(self.records, split_by_scene((record.scene for record in self.records), parts, 42))
        torn: dict[str, str] = {}
        for record in self.records:
            if not record.split or torn.setdefault(record.scene, record.split) != record.split:
                raise InputError(
                    f"splits.csv leaves out '{record.name}', or puts scene '{record.scene}' into two splits.",
                    expected="Every image has a split, and all images of a scene the same.",
                    remedy="Correct splits.csv, or choose the split 'random'.",
                )
        return super()._assign(scheme)

    def read_sets(self, record: Record) -> NDArray[np.uint8]:
        """Sets of classes of an image or window, (y, x)."""
        codes = read_window(record.files["label"], self.window(record), count=1)[0]
        if codes.dtype.kind not in "iu":
            raise InputError(
                f"{record.files['label']} holds numbers of the type {codes.dtype}.",
                expected="Label rasters hold integer codes.",
                remedy="Store the codes as bytes.",
            )
        return lab.to_sets(codes, self.table, str(record.files["label"]))

    def read(self, record: Record) -> Sample:
        """Read one image, or a window of it."""
        path, part = record.files["image"], self.window(record)
        found = head(path)
        stored = read_window(path, part, count=len(self.bands))
        label = head(record.files["label"]).shape
        if found.shape != label:
            raise InputError(
                f"{path} has {found.shape[0]} x {found.shape[1]} pixels, its labels {label[0]} x {label[1]}.",
                expected="Image and labels have the same size.",
                remedy="Bring the labels onto the image's grid.",
            )
        image = np.empty(stored.shape, np.float32)
        for row, band in enumerate(self.bands):
            scale, offset, nodata = self._factors(found, row, band, path)
            image[row] = radiometry.to_reflectance(stored[row], scale, offset, nodata)
        sets = self.read_sets(record)
        sets[np.isnan(image).all(axis=0)] = lab.MISSING
        level = self.said.level or (self.sensor.level if self.sensor is not None else "")
        return Sample(
            record.name, self.name, record.scene, record.split, image, sets, self.bands, self._pixel(found, path), level
        )

    def _factors(self, found: Header, row: int, band: Band, path: Path) -> tuple[float, float, float | None]:
        """Scale, offset and missing value of a band: from dataset.yaml, the sensor, or the raster's tags."""
        said, sensor = self.said, self.sensor
        known = None if sensor is None else sensor.find(band.name)
        nodata = said.nodata if said.nodata is not None else found.nodata[row]
        if nodata is None and sensor is not None:
            nodata = sensor.nodata if known is None or known.nodata is None else known.nodata
        if said.scale is not None:
            return said.scale, said.offset or 0.0, nodata
        if (found.scales[row], found.offsets[row]) != (1.0, 0.0):
            return found.scales[row], found.offsets[row], nodata
        if np.dtype(found.dtypes[row]).kind == "f":
            return 1.0, 0.0, nodata
        if sensor is not None and sensor.scale is not None and sensor.offset is not None:
            scale = sensor.scale if known is None or known.scale is None else known.scale
            offset = sensor.offset if known is None or known.offset is None else known.offset
            return scale, offset, nodata
        raise radiometry.unknown_scale(f"{path}, band '{band.name}',", found.dtypes[row])

    def _pixel(self, found: Header, path: Path) -> float:
        if self.said.gsd_m is not None:
            return self.said.gsd_m
        if found.crs is not None:
            return metres_per_pixel(found.geobox())
        if self.sensor is not None:
            return self.sensor.grid_m
        raise InputError(
            f"{path} has no reference system, so that the size of its pixels is not known.",
            expected="dataset.yaml says it where the rasters do not.",
            remedy="Add for example gsd_m: 10 to dataset.yaml.",
        )

    def describe(self) -> dict[str, Any]:
        """Facts and counts; title, licence and citation as dataset.yaml has them."""
        said = {key: getattr(self.said, key) for key in ("title", "licence", "citation")}
        return {**super().describe(), **said}

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Write five small images of Sentinel-2 bands, their labels, and both text files."""
        rng = np.random.default_rng(seed)
        rows = ["name,split"]
        for index, split in enumerate(("train", "train", "train", "choose", "test")):
            label = _fakes.code_blocks([0, 1, 2, 3, 255], (48, 40), rng)
            image = _fakes.counts(label, {0: 1200, 1: 6000, 2: 2500, 3: 600}, 4, rng, "uint16")
            write_tiff(root / "images" / f"place{index}.tif", image, **_fakes.grid(10.0))
            write_tiff(root / "labels" / f"place{index}.tif", label, **_fakes.grid(10.0))
            rows.append(f"place{index},{split}")
        (root / "splits.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (root / "dataset.yaml").write_text(
            "title: Made-up places\nlicence: CC0-1.0\nsensor: sentinel2-l2a\nbands: [B02, B03, B04, B08]\n"
            "scale: 0.0001\noffset: 0.0\nnodata: 0\n"
            "classes:\n  0: clear\n  1: cloud\n  2: [thin, thick]\n  3: shadow\n  255: ignore\n",
            encoding="utf-8",
        )
