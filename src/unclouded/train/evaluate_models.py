"""Whoever can be judged: trained runs, packaged models, masks that a data set holds, masks in a folder.

Each says of an image which class a pixel has and, where it can, how probable every class is.

Shapes
    k  groups of classes    y, x  rows, columns of an image    n  patches
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from ..classes import CLASSES, NO_DATA
from ..data.augment_steps import Patch
from ..data.sample import Sample
from ..data.sets.base import DataSet, Record
from ..decoders import check_name, decode
from ..errors import InputError
from ..normalise import BandHistogram, Normaliser
from ..raster_files import read_errors
from .config import DataPart
from .corpus import Normalisers, Source, choose_bands, in_units
from .patches import Batch, Patches, stacked, starts
from .run import Run
from .targets import SCHEMES, Scheme

BATCH = 8
"""Patches of one forward pass."""


@dataclass(frozen=True)
class Said:
    """What a contestant says of one image.

    Attributes:
        codes: group of every pixel in the contestant's scheme, (y, x) uint8, 255 where it says nothing.
        probability: of every group, (k, y, x) float32, NaN where it says nothing; None from masks.
        maps: further maps to draw, (y, x) by name; CloudMamba's stages.
    """

    codes: NDArray[np.uint8]
    probability: NDArray[np.float32] | None = None
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """0 where one group is certain, 1 where all are equally likely, (y, x); CloudMamba's own where there is one.

        Source: CloudMamba, U = 1 - 2 |P - 0.5|, for k groups (1 - max p) k / (k - 1).
        """
        if "uncertainty" in self.maps:
            return self.maps["uncertainty"]
        if self.probability is None:
            return None
        k = len(self.probability)
        return (1.0 - self.probability.max(axis=0)) * np.float32(k / (k - 1))


class Contestant(Protocol):
    """Whoever is judged.

    Attributes:
        name: for tables.
        scheme: what it tells apart.
        tells: groups of the scheme that it can ever give.
    """

    name: str
    scheme: Scheme
    tells: tuple[int, ...]

    def prepare(self, data: DataSet, records: Sequence[Record]) -> None:
        """Look at the whole test once, before its first image."""

    def says(self, data: DataSet, record: Record, sample: Sample) -> Said:
        """Classes of one image."""


class TrainedRun:
    """The network of a training run, given images as in the run.

    Images are cut into patches of the run's size that cover them; where the last ones overlap with others, the first
    result stays. The scaling is the run's: with the scope ``scene`` it follows from all images of a test scene.

    Args:
        run: the run.
        which: weights of the ``best`` epoch or the ``last``.
        name: for tables; None takes the folder's.
        device: where the network runs.
        bands: names or common names of optical bands to keep, for networks that take any.
        sar, dem: False leaves these bands out.
    """

    def __init__(
        self,
        run: Run,
        which: str = "best",
        *,
        name: str | None = None,
        device: str = "cpu",
        bands: Sequence[str] | None = None,
        sar: bool = True,
        dem: bool = True,
    ) -> None:
        self.run, self.name = run, name or run.folder.resolve().name
        self.device = torch.device(device)
        self.net = run.network(which).to(self.device)
        self.scheme = SCHEMES[run.config.classes]
        self.tells = tuple(range(len(self.scheme.names)))
        self.bands, self.sar, self.dem = bands, sar, dem
        self.normalisers = run.normalisers
        if (bands is not None or not (sar and dem)) and run.config.bands is not None:
            raise InputError(
                f"The network of {run.folder} takes the bands {', '.join(run.config.bands)} and no others.",
                expected="Sets of bands are compared with a network that takes any.",
                remedy="Train a sensor-independent network, such as senseiv2-segformer-b2.",
            )

    def prepare(self, data: DataSet, records: Sequence[Record]) -> None:
        """Statistics of every scene, where the run scales by scene."""
        run = self.run
        if run.config.normalise.scope != "scene" or run.normalisers.common is not None:
            return
        counted: dict[str, BandHistogram] = {}
        for record in records:
            sample = data.read(record)
            image, bands = np.asarray(sample.image, np.float32), sample.bands
            if run.config.bands is not None:
                image, bands = choose_bands(image, bands, run.config.bands, f"Image '{record.name}'")
            histogram = counted.setdefault(sample.scene, BandHistogram(len(bands)))
            valid: NDArray[np.bool_] = np.asarray(np.isfinite(image).all(axis=0))
            histogram.update(in_units(image, bands, sample.level), valid)
        mode: Any = run.normalisers.mode
        scenes = {f"{data.name}/{scene}": Normaliser.of_training(mode, one) for scene, one in counted.items()}
        self.normalisers = Normalisers(mode, "scene", None, scenes)

    def says(self, data: DataSet, record: Record, sample: Sample) -> Said:
        """Probabilities of one image."""
        sample = kept_bands(sample, self.bands, self.sar, self.dem)
        patches = _JudgedPatches(self.run, sample, record, data, self.normalisers)
        probability: NDArray[np.float32] | None = None
        maps: dict[str, NDArray[np.float32]] = {}
        shape = sample.sets.shape
        for places, batch in _batches(patches.placed()):
            found, further = self._forward(batch.to(self.device))
            if probability is None:
                probability = np.full((found.shape[1], *shape), np.nan, np.float32)
                maps = {name: np.full(shape, np.nan, np.float32) for name in further}
            for number, place in enumerate(places):
                _put(probability, found[number], place)
                for name, values in further.items():
                    _put(maps[name][None], values[number][None], place)
        assert probability is not None
        probability[:, patches.missing] = np.nan
        return said_of(probability, maps)

    def _forward(self, batch: Batch) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Probabilities (n, k, h, w), and further maps (n, h, w)."""
        given = (batch.image,) if batch.beside is None else (batch.image, batch.beside)
        further: dict[str, NDArray[np.float32]] = {}
        with torch.no_grad():
            if self.run.config.model.name == "cloudmamba":
                outputs = self.net.outputs(*given)  # type: ignore[operator]
                logits = outputs["logits"].float()
                further = cloudmamba_maps(outputs, float(self.net.gamma))  # type: ignore[arg-type]
            else:
                logits = self.net(*given).float()
        if logits.shape[1] == 1:
            cloud = torch.sigmoid(logits)
            return torch.cat([1.0 - cloud, cloud], dim=1).cpu().numpy(), further
        return logits.softmax(dim=1).cpu().numpy(), further


class PackagedModel:
    """A model with a card, as ``unclouded mask`` runs it.

    Args:
        model: name or path of the model, as for :func:`unclouded.predict`.
        name: for tables.
    """

    scheme = SCHEMES["four"]
    tells: tuple[int, ...] = (0, 1, 2, 3)

    def __init__(self, model: str | os.PathLike[str] = "default", *, name: str | None = None) -> None:
        self.model, self.name = model, name or Path(model).name

    def prepare(self, data: DataSet, records: Sequence[Record]) -> None:
        """Nothing has to be known before."""

    def says(self, data: DataSet, record: Record, sample: Sample) -> Said:
        """Calibrated probabilities of one image."""
        from ..api import predict

        rows = [row for row, band in enumerate(sample.bands) if band.kind == "optical" and band.min_nm is not None]
        bands = [(float(sample.bands[row].min_nm or 0), float(sample.bands[row].max_nm or 0)) for row in rows]
        image = np.asarray(sample.image, np.float32)[rows]
        found = predict(image, bands, resolution_m=sample.gsd_m, level=sample.level, model=self.model)
        return Said(found.classes, found.probability)


class HeldMask:
    """A mask of another program that a data set holds beside its labels, such as CloudSEN12's s2cloudless.

    Args:
        program: its name in the data set.
        name: for tables.
        tells: output classes that it has.
    """

    scheme = SCHEMES["four"]

    def __init__(self, program: str, *, name: str | None = None, tells: Iterable[int] | None = None) -> None:
        from ..data.sets._cloudsen12 import THIRD_PARTY

        known = set(THIRD_PARTY.get(program, {}).values()) - {NO_DATA}
        self.program, self.name = program, name or program
        self.tells = tuple(sorted(known if tells is None else tells))

    def prepare(self, data: DataSet, records: Sequence[Record]) -> None:
        """Check that the data set holds masks of other programs."""
        if not hasattr(data, "third_party"):
            raise InputError(
                f"{data.title} holds no masks of other programs.",
                expected="CloudSEN12 does.",
                remedy="Judge masks of your own with a folder of rasters.",
            )

    def says(self, data: DataSet, record: Record, sample: Sample) -> Said:
        """The program's classes for one image."""
        return Said(data.third_party(record, self.program))  # type: ignore[attr-defined]


class MaskFolder:
    """Masks in a folder, one raster for each image, called after it.

    Args:
        folder: with ``NAME.tif`` or ``NAME_mask.tif`` for every image of the data set.
        decoder: see :func:`unclouded.decoders.names`; None for the project's own codes.
        name: for tables.
    """

    scheme = SCHEMES["four"]

    def __init__(
        self, folder: str | os.PathLike[str], decoder: str | None = None, *, name: str | None = None
    ) -> None:
        if decoder is not None:
            check_name(decoder)
        self.folder, self.decoder = Path(folder).expanduser(), decoder
        self.name, self.tells = name or self.folder.name, tuple(one.value for one in CLASSES)

    def prepare(self, data: DataSet, records: Sequence[Record]) -> None:
        """Check that there is a mask for every image."""
        missing = [record.name for record in records if self._file(record) is None]
        if missing:
            raise InputError(
                f"The folder {self.folder} has no mask for {len(missing)} images, e.g. '{missing[0]}'.",
                expected=f"It holds {missing[0]}.tif or {missing[0]}_mask.tif, and so on.",
                remedy="Name the files after the images: 'unclouded datasets show' lists their names.",
            )

    def says(self, data: DataSet, record: Record, sample: Sample) -> Said:
        """The mask of one image."""
        path = self._file(record)
        assert path is not None
        with read_errors(str(path)), rasterio.open(path) as dataset:
            stored = dataset.read() if self.decoder == "udm2" else dataset.read(1)
        codes = stored if self.decoder is None else decode(self.decoder, stored)
        strange = set(np.unique(codes).tolist()) - {*self.tells, NO_DATA}
        if codes.shape != sample.sets.shape or strange:
            raise InputError(
                f"{path} has {codes.shape[0]} x {codes.shape[1]} pixels and the codes {sorted(np.unique(codes))[:9]}.",
                expected=f"It has {sample.sets.shape[0]} x {sample.sets.shape[1]} pixels and the codes 0 to 3 and 255.",
                remedy="Bring it to the grid of the image, and name its decoder if it is a mask of another maker.",
            )
        return Said(codes.astype(np.uint8))

    def _file(self, record: Record) -> Path | None:
        names = (f"{record.name}.tif", f"{record.name}_mask.tif", f"{record.name}.tiff")
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)


def said_of(probability: NDArray[np.float32], maps: Mapping[str, NDArray[np.float32]] | None = None) -> Said:
    """The most probable group and its probabilities, from probabilities (k, y, x) with NaN where nothing is said."""
    missing = np.isnan(probability).any(axis=0)
    codes = np.where(missing, NO_DATA, np.nan_to_num(probability).argmax(axis=0)).astype(np.uint8)
    return Said(codes, probability, maps or {})


def cloudmamba_maps(outputs: Mapping[str, torch.Tensor], gamma: float) -> dict[str, NDArray[np.float32]]:
    """CloudMamba's stages as maps (n, h, w): ``coarse``, ``uncertainty``, ``accepted``, ``refined`` and ``fused``."""

    def cloud(logits: torch.Tensor) -> NDArray[np.float32]:
        one = torch.sigmoid(logits[:, 0]) if logits.shape[1] == 1 else 1.0 - logits.softmax(dim=1)[:, 0]
        found: NDArray[np.float32] = one.float().cpu().numpy()
        return found

    unsure = outputs["uncertainty"][:, 0].float().cpu().numpy()
    maps = {"coarse": cloud(outputs.get("coarse", outputs["logits"])), "uncertainty": unsure}
    if "refined" in outputs:
        maps |= {"accepted": (unsure < gamma).astype(np.float32), "refined": cloud(outputs["refined"])}
        maps["fused"] = cloud(outputs["logits"])
    return maps


def kept_bands(sample: Sample, optical: Sequence[str] | None, sar: bool = True, dem: bool = True) -> Sample:
    """A sample with some of its bands.

    Args:
        sample: the whole.
        optical: names or common names of the optical and thermal bands to keep; None keeps all.
        sar, dem: False leaves radar, or elevation, out.

    Raises:
        InputError: it has no band of a name.
    """
    out = [
        row for row, band in enumerate(sample.bands)
        if (band.kind == "sar" and sar) or (band.kind == "dem" and dem)
        or (band.kind not in ("sar", "dem") and optical is None)
    ]  # fmt: skip
    if optical is not None:
        _, chosen = choose_bands(np.asarray(sample.image), sample.bands, optical, f"Image '{sample.name}'")
        out = sorted({*out, *(sample.bands.index(band) for band in chosen)})
    return replace(sample, image=sample.image[out], bands=tuple(sample.bands[row] for row in out))


class _Given:
    """A data set of one sample that was read before."""

    def __init__(self, data: DataSet, sample: Sample) -> None:
        self.name, self.sample = data.name, sample

    def read(self, record: Record) -> Sample:
        return self.sample


class _JudgedPatches(Patches):
    """The patches of one image as the network sees them in training, without augmentation, and where they lie."""

    def __init__(
        self, run: Run, sample: Sample, record: Record, data: DataSet, normalisers: Normalisers
    ) -> None:
        part = DataPart(name=data.name)
        source = Source(part, _Given(data, sample), {"train": (record,), "choose": (), "test": ()})  # type: ignore[arg-type]
        super().__init__(run.config, [source], normalisers, run.front_end, run.descriptor)
        self.sample, self.image, self.bands = self._read(source, self.order.items[0][0])
        self.missing: NDArray[np.bool_] = np.asarray(~np.isfinite(self.image).all(axis=0))

    def placed(self) -> Iterator[tuple[tuple[int, int], Batch]]:
        """First pixel of every patch, and the patch as a batch of one."""
        source, size = self.sources[0], self.config.patch.size
        rows, cols = self.missing.shape
        whole = np.full((len(self.image), max(rows, size), max(cols, size)), np.nan, np.float32)
        whole[:, :rows, :cols] = self.image
        sets = np.zeros((size, size), np.uint8)
        for y in starts(whole.shape[1], size):
            for x in starts(whole.shape[2], size):
                patch = Patch(whole[:, y : y + size, x : x + size], sets, self.bands)
                yield (y, x), self._mask(patch, source, self.sample)


def _batches(placed: Iterable[tuple[tuple[int, int], Batch]]) -> Iterator[tuple[list[tuple[int, int]], Batch]]:
    held: dict[tuple[int, ...], list[tuple[tuple[int, int], Batch]]] = defaultdict(list)
    for place, batch in placed:
        group = held[tuple(batch.image.shape)]
        group.append((place, batch))
        if len(group) == BATCH:
            yield [one for one, _ in group], stacked([one for _, one in group])
            group.clear()
    for group in held.values():
        if group:
            yield [one for one, _ in group], stacked([one for _, one in group])


def _put(whole: NDArray[np.float32], part: NDArray[np.float32], place: tuple[int, int]) -> None:
    """Write a patch where nothing has been written yet."""
    y, x = place
    there = whole[:, y : y + part.shape[1], x : x + part.shape[2]]
    np.copyto(there, part[:, : there.shape[1], : there.shape[2]], where=np.isnan(there))
