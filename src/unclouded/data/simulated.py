"""Simulated scenes as a data set: made when they are read, the same for the same seed, never on disk.

For training without any data, and for tests. ``unclouded simulate`` writes scenes to files instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import sensors
from ..errors import InputError
from ..simulate.clouds import Simulated, simulate_clouds
from ..simulate.surface import LANDSCAPES, procedural_surface
from . import labels as lab
from .sample import Sample
from .sets.base import DataSet, Pair, Record


class SimulatedSet(DataSet):
    """Procedural surfaces under simulated clouds.

    Args:
        root: has no meaning here.
        sensor: name in the sensor catalogue; its optical bands are made.
        bands: names of the bands, None for all that have a place in the reflected spectrum.
        images: scenes for training.
        choose, test: scenes for model choice and for reporting.
        size: side of a scene in pixels.
        resolution_m: pixel size in metres.
        landscapes: names of landscapes to draw from, None for all.
        clear_share: share of the scenes without any cloud.
        seed: another number gives other scenes.

    Raises:
        InputError: there is no such sensor, band or landscape.

    >>> scenes = SimulatedSet(images=3, choose=1, size=32)
    >>> scenes.read(scenes.records[0]).image.shape
    (13, 32, 32)
    """

    name: ClassVar[str] = "simulated"
    title: ClassVar[str] = "Simulated scenes"
    licence: ClassVar[str] = "Apache-2.0, as unclouded itself"
    citation: ClassVar[str] = "unclouded, procedural surfaces and simulated clouds"
    homepage: ClassVar[str] = ""
    obtain: ClassVar[str] = "Nothing has to be got: scenes are made when they are read."
    labels: ClassVar = dict(enumerate(lab.FOUR.tolist()))

    def __init__(
        self,
        root: Path | None = None,
        *,
        sensor: str = "sentinel2-l1c",
        bands: Sequence[str] | None = None,
        images: int = 200,
        choose: int = 40,
        test: int = 0,
        size: int = 256,
        resolution_m: float = 20.0,
        landscapes: Sequence[str] | None = None,
        clear_share: float = 0.1,
        seed: int = 1,
    ) -> None:
        self.root = Path() if root is None else Path(root)
        self.sensor = sensors.load(sensor)
        self.bands = tuple(
            band for band in sensors.bands_of(self.sensor, bands) if band.kind == "optical" and band.min_nm is not None
        )
        self.counts = {"train": images, "choose": choose, "test": test}
        self.size, self.resolution_m = size, resolution_m
        self.landscapes = tuple(LANDSCAPES) if landscapes is None else tuple(landscapes)
        unknown = [name for name in self.landscapes if name not in LANDSCAPES]
        if unknown or not self.landscapes:
            raise InputError(
                f"There is no landscape '{unknown[0] if unknown else ''}'.",
                expected=f"Landscapes are {', '.join(LANDSCAPES)}.",
                remedy="Choose among these.",
            )
        self.clear_share, self.seed = clear_share, seed

    @classmethod
    def expected_layout(cls) -> str:
        """Nothing is looked for."""
        return cls.obtain

    def find(self) -> Iterator[Record]:
        """Names of the scenes, each its own."""
        for split, count in self.counts.items():
            for number in range(count):
                name = f"{split}-{number:06d}"
                yield Record(name, name, {}, split, index=number)

    def read(self, record: Record) -> Sample:
        """Make one scene with its true classes."""
        sky = self._sky(record)[1]
        sets = lab.FOUR[sky.classes]
        return Sample(
            record.name, self.name, record.scene, record.split, sky.image, sets, self.bands, self.resolution_m,
            self._level(), not (sets != lab.CLEAR).any(),
        )  # fmt: skip

    def read_pair(self, record: Record) -> Pair:
        """Make one scene with and without its clouds; there is no radar."""
        clear, sky = self._sky(record)
        return Pair(
            record.name, record.scene, record.split, sky.image, clear, None, self.bands, self.resolution_m, "simulated"
        )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """There is nothing to write."""

    def _level(self) -> str:
        return "boa" if self.sensor.level == "boa" else "toa"

    def _sky(self, record: Record) -> tuple[NDArray[np.float32], Simulated]:
        place = list(self.counts).index(record.split)
        rng = np.random.default_rng((self.seed, place, record.index or 0))
        level = self._level()
        surface = procedural_surface(
            self.bands, (self.size, self.size), self.resolution_m, rng,
            landscape=str(rng.choice(self.landscapes)), level=level,
        )  # fmt: skip
        clear = rng.random() < self.clear_share
        sky = simulate_clouds(
            surface, self.bands, resolution_m=self.resolution_m, seed=rng, level="boa" if level == "boa" else "toa",
            sun_zenith_deg=float(rng.uniform(15, 70)), sun_azimuth_deg=float(rng.uniform(0, 360)),
            layers=() if clear else None, soften_px=float(rng.uniform(0.3, 1.5)),
        )  # fmt: skip
        return surface, sky

