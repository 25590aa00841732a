"""L8 Biome: 96 Landsat 8 scenes with masks of cloud, thin cloud and, in some scenes, shadow.

Layouts, found by themselves:
    USGS        <biome>/<scene>/<scene>_B1.TIF ... _B11.TIF, <scene>_MTL.txt, <scene>_fixedmask.img and .hdr
    one raster  <biome>/<scene>/<scene>.TIF with B1 to B11 at 30 m, <scene>_fixedmask.TIF (as TorchGeo has it)
    converted   <scene>_toa.TIF beside either mask: reflectance x 10000, and thermal bands in hundredths of a degree
                Celsius, as conversions for Fmask write it; taken where counts or their metadata are missing
    patches     images/<biome>_<scene>_<place>.tif, masks/ with the same names; reflectance, eight bands
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from ...errors import InputError, RadiometryError
from ..labels import MISSING
from ..sample import Sample
from ..tiff import write_tiff
from . import _fakes, register
from ._landsat import CCA, CcaSet, cloud_cover
from ._scenes import SceneSet, by_scene, codes_in, cut_in_order, files_below, head, missing_counterpart, read_window
from .base import Record

BIOMES = ("barren", "forest", "grass_crops", "shrubland", "snow_ice", "urban", "water", "wetlands")
_PATCH_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10")
_CONVERTED = {
    count: tuple(f"B{number}" for number in range(1, 12) if number not in left)
    for count, left in ((11, ()), (10, (8,)), (8, (8, 10, 11)))
}
"""Bands of a converted raster by their number: all, without the panchromatic one, and without thermal ones as well."""
_CELSIUS = (-100.0, 75.0)
_ZERO_CELSIUS = 273.15
_THIRDS = (("train", 0.6), ("choose", 0.2), ("test", 0.2))


@register
class L8Biome(CcaSet):
    """See the module's text. Splits: none is official.

    ``mscloudcam`` shuffles the scenes with seed 42 and cuts them into 57, 19 and 20; the order before the shuffle is
    not published, here it is by name. ``by-biome`` does the same within every biome. ``sensei`` trains on all.
    """

    name = "l8biome"
    title = "L8 Biome cloud validation masks"
    licence = "Public domain (US Government)"
    citation = (
        "U.S. Geological Survey, 2016. L8 Biome Cloud Validation Masks. doi:10.5066/F7251GDH. Foga et al., 2017, "
        "Remote Sensing of Environment 194, 379-390"
    )
    homepage = "https://www.usgs.gov/landsat-missions/landsat-8-cloud-cover-assessment-validation-data"
    obtain = "Download the archives of the biomes from the homepage, or from huggingface.co/datasets/torchgeo/l8biome, \
and unpack them below one folder."
    sensors = ("landsat-oli-c1-l1",)
    schemes = ("mscloudcam", "by-biome", "sensei")
    stacked = tuple(f"B{number}" for number in range(1, 12))

    @classmethod
    def expected_layout(cls) -> str:
        """Which files are looked for."""
        return (
            "Expected are masks called <scene>_fixedmask.img or <scene>_fixedmask.TIF beside the scene's bands, "
            "or patches in images/ and masks/."
        )

    def find_scenes(self) -> Iterator[Record]:
        """Scenes by their masks, and patches."""
        for mask in files_below(self.root, "_fixedmask.img", "_fixedmask.tif"):
            scene = re.sub(r"_fixedmask\.\w+$", "", mask.name, flags=re.IGNORECASE)
            files = {"label": mask}
            for path in mask.parent.iterdir():
                place = re.fullmatch(rf"{re.escape(scene)}(?:_(B\d+|MTL|toa))?\.(TIFF?|txt)", path.name, re.IGNORECASE)
                if place is not None and (place[1] or "").upper() == "MTL":
                    files["mtl"] = path
                elif place is not None and (place[1] or "").upper() == "TOA":
                    files["converted"] = path
                elif place is not None and place[2].lower() != "txt":
                    files[place[1].upper() if place[1] else "image"] = path
            if "B2" in files:
                files.pop("image", None)
            counted = "B2" in files or "image" in files
            if counted and ("mtl" in files or self.level == "counts"):
                files.pop("converted", None)
            elif not counted and "converted" not in files:
                raise missing_counterpart(mask, "bands", f"Unpack the scene again: {scene}_B1.TIF ... or {scene}.TIF.")
            tags: dict[str, str | float] = {**_biome(mask.relative_to(self.root.parent).parts[:-1])}
            yield Record(scene, scene, files, tags=tags | cloud_cover(files.get("mtl")))
        for folder in sorted(path for path in [self.root, *self.root.rglob("*")] if (path / "masks").is_dir()):
            for image in files_below(folder / "images", ".tif") if (folder / "images").is_dir() else []:
                mask = folder / "masks" / image.name
                if not mask.is_file():
                    raise missing_counterpart(image, f"mask {mask}", "Get the patch again.")
                scene = image.stem.rpartition("_")[0] or image.stem
                yield Record(image.stem, scene, {"toa": image, "label": mask}, tags=_biome([image.stem]))

    def _assign(self, scheme: str) -> dict[str, str]:
        if scheme == "sensei":
            return {record.name: "train" for record in self.records}
        if scheme == "mscloudcam":
            return by_scene(self.records, cut_in_order((record.scene for record in self.records), _THIRDS, 42))
        split: dict[str, str] = {}
        for biome in sorted({str(record.tags.get("biome", "")) for record in self.records}):
            members = (record.scene for record in self.records if record.tags.get("biome", "") == biome)
            split |= cut_in_order(members, _THIRDS, 42)
        return by_scene(self.records, split)

    def size(self, record: Record) -> tuple[int, int]:
        """Rows and columns of a scene or patch."""
        return SceneSet.size(self, record) if "toa" in record.files else super().size(record)

    @cached_property
    def _patch_codes(self) -> Mapping[str, frozenset[int]]:
        found: dict[str, frozenset[int]] = {}
        for record in self.find_scenes():
            if "toa" in record.files:
                found[record.scene] = found.get(record.scene, frozenset()) | codes_in(record.files["label"])
        return found

    def codes_of_scene(self, record: Record) -> frozenset[int]:
        """All codes that occur in the scene, or in all patches of it that are there."""
        return self._patch_codes[record.scene] if "toa" in record.files else super().codes_of_scene(record)

    def grid_band(self, record: Record) -> Path:
        """A raster of 30 m."""
        return record.files["converted"] if "converted" in record.files else super().grid_band(record)

    def read(self, record: Record) -> Sample:
        """Read a scene, a window of one, or a patch."""
        if "toa" in record.files:
            return self._read_patch(record)
        return self._read_converted(record) if "converted" in record.files else super().read(record)

    def _reflectance(self, path: Path) -> Path:
        """A file without the product's stored numbers, unless those are asked for."""
        if self.level == "counts":
            raise RadiometryError(
                f"{path} holds reflectance.",
                expected="Stored numbers of the product are asked for with level='counts'.",
                remedy="Leave level out, or unpack the whole scene's own bands.",
            )
        return path

    def _read_converted(self, record: Record) -> Sample:
        path = self._reflectance(record.files["converted"])
        found = head(path)
        names = _CONVERTED.get(found.count)
        if names is None:
            raise InputError(
                f"{path} has {found.count} bands.",
                expected="A converted scene has 11 bands, 10 without the panchromatic one, or 8 without thermal ones.",
                remedy="Unpack the scene's own bands and *_MTL.txt there, or convert it again.",
            )
        bands = tuple(band for band in self.bands if band.name in names)
        wanted = [names.index(band.name) + 1 for band in bands]
        stored = read_window(path, self.window(record), bands=wanted, dtypes=("int16",))
        image, sets = stored * np.float32(1e-4), self.read_sets(record)
        light = np.array([band.kind == "optical" for band in bands])
        missing = (stored[light] == 0).all(axis=0) | (sets == MISSING)
        for nodata in set(found.nodata) - {None}:
            missing |= (stored == nodata).any(axis=0)
        for row in np.flatnonzero(~light):
            degrees = stored[row] * np.float32(0.01)
            middle = float(np.median(degrees[~missing])) if not missing.all() else 0.0
            if not _CELSIUS[0] <= middle <= _CELSIUS[1]:
                raise RadiometryError(
                    f"{bands[row].name} of {path} has the median {middle:g} where hundredths of a degree are read.",
                    expected=f"It lies between {_CELSIUS[0]:g} and {_CELSIUS[1]:g} degrees Celsius.",
                    remedy="Convert the scene again, or unpack its own bands and *_MTL.txt there.",
                )
            image[row] = degrees + np.float32(_ZERO_CELSIUS)
        image[:, missing] = np.nan
        return Sample(record.name, self.name, record.scene, record.split, image, sets, bands, 30.0, "toa")

    def _read_patch(self, record: Record) -> Sample:
        path = self._reflectance(record.files["toa"])
        found = head(path)
        steps = (1e-4,) * 7 + (0.01,)
        if found.scales != steps or any(found.offsets):
            raise RadiometryError(
                f"{path} has the band scales {found.scales}.",
                expected=f"Patches store reflectance x 10000 and kelvin x 100, and say so: {steps}.",
                remedy="Check that the file belongs to this packaging of the data set.",
            )
        names = {band.name for band in self.bands} & set(_PATCH_BANDS)
        bands = tuple(band for band in self.bands if band.name in names)
        places = [_PATCH_BANDS.index(band.name) for band in bands]
        stored = read_window(path, self.window(record), count=8, dtypes=("int16",))[places]
        image = stored * np.array([steps[place] for place in places], np.float32)[:, None, None]
        image[stored == -32768] = np.nan
        return Sample(
            record.name, self.name, record.scene, record.split, image, self.read_sets(record), bands, 30.0, "toa"
        )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0, layout: str = "usgs") -> None:
        """Write six small scenes of three biomes; in every second one shadow is labelled.

        Args:
            root: folder to write to.
            seed: of all that is drawn.
            layout: ``usgs``, ``one-raster``, ``converted`` or ``patches``.
        """
        rng = np.random.default_rng(seed)
        for index, biome in enumerate(("barren", "snow_ice", "water") * 2):
            codes = sorted(CCA) if index % 2 == 0 else [0, 128, 192, 255]
            label = _fakes.code_blocks(codes, (48, 40), rng, corner=0)
            levels = {64: 8000, 128: 11000, 192: 18000, 255: 32000}
            counts = _fakes.counts(label, levels, 11, rng, "uint16")
            scene = f"LC8{42 + index:03d}0082013220LGN00"
            if layout == "patches":
                _write_patch(root, f"{biome.title().replace('_', '')}_{index:02d}_0101", label, counts)
                continue
            folder = root / biome / scene
            if layout == "converted":
                _write_converted(folder, scene, label, counts)
                continue
            _fakes.write_oli_metadata(folder / f"{scene}_MTL.txt", scene, sun_elevation=35.0 + 5 * index)
            if layout == "one-raster":
                write_tiff(folder / f"{scene}.TIF", counts, **_fakes.grid(30.0))
                write_tiff(folder / f"{scene}_fixedmask.TIF", label, **_fakes.grid(30.0))
                continue
            for number, plane in enumerate(counts, 1):
                if number == 8:
                    fine = np.kron(plane, np.ones((2, 2), plane.dtype))[:-1, :-1]
                    write_tiff(folder / f"{scene}_B8.TIF", fine, **_fakes.grid(15.0, aside_m=7.5))
                else:
                    write_tiff(folder / f"{scene}_B{number}.TIF", plane, **_fakes.grid(30.0))
            _fakes.write_envi(folder / f"{scene}_fixedmask.img", label)


def _biome(parts: tuple[str, ...] | list[str]) -> dict[str, str]:
    """The tag ``biome`` from names of folders, or from the beginning of a patch's name."""
    for part in reversed(parts):
        plain = re.sub(r"[^a-z]", "", part.casefold())
        for biome in BIOMES:
            if plain == biome.replace("_", ""):
                return {"biome": biome}
    return {}


def _write_converted(folder: Path, scene: str, label: NDArray[np.uint8], counts: NDArray[np.generic]) -> None:
    image = np.where(label == 0, 0, counts.astype(np.int32) // 4).astype(np.int16)
    image[9:, label != 0] = 1840
    write_tiff(folder / f"{scene}_toa.TIF", np.delete(image, 7, axis=0), **_fakes.grid(30.0))
    _fakes.write_envi(folder / f"{scene}_fixedmask.img", label)


def _write_patch(root: Path, name: str, label: NDArray[np.uint8], counts: NDArray[np.generic]) -> None:
    order = [int(band.removeprefix("B")) - 1 for band in _PATCH_BANDS]
    image = np.clip(counts[order].astype(np.int32) // 4, 0, 30000).astype(np.int16)
    image[7] = 28000
    write_tiff(root / "images" / f"{name}.tif", image, **_fakes.NOWHERE)
    write_tiff(root / "masks" / f"{name}.tif", np.where(label == 0, 128, label).astype(np.uint8), **_fakes.NOWHERE)
    with rasterio.open(root / "images" / f"{name}.tif", "r+") as file:
        file.scales = (1e-4,) * 7 + (0.01,)
