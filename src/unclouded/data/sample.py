"""Sample: an image, its label sets, its bands, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..scene import Band


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        name: unique within its source.
        source: data source, e.g. ``l8biome``.
        scene: acquisition the image was cut from; splits never cut through a scene.
        split: ``train``, ``choose`` (model choice and calibration) or ``test`` (reporting only).
        image: reflectance, (band, y, x) float16 or float32; NaN where missing.
        sets: possible classes as bit masks, (y, x) uint8; 0 is ignored.
        bands: one per plane of the image.
        gsd_m: pixel size in metres.
        level: ``toa``, ``boa`` or ``counts``.
        background: free of cloud and shadow, so that clouds may be simulated over it.
    """

    name: str
    source: str
    scene: str
    split: str
    image: NDArray[np.floating]
    sets: NDArray[np.uint8]
    bands: tuple[Band, ...]
    gsd_m: float
    level: str
    background: bool = False

    def __post_init__(self) -> None:
        if self.image.shape[0] != len(self.bands) or self.image.shape[1:] != self.sets.shape:
            raise InputError(
                f"Sample '{self.name}': image {self.image.shape}, labels {self.sets.shape}, {len(self.bands)} bands.",
                expected="The image has to be (band, y, x) with one Band per plane and labels of the same (y, x).",
                remedy="Check the reader of this source.",
            )
