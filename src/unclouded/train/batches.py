"""Batches of the default model: crops of lessons and of pictures, the same for the same seed and step.

Every crop is drawn from a generator seeded with (seed, step, place in the batch), so that a run that resumes at a
step sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..classes import SEVEN
from ..data import augment
from ..data import labels as lab
from ..data.sample import Sample
from ..descriptors import (
    DESCRIPTOR_LENGTH,
    PERCENTILES,
    SLOTS,
    scene_percentiles,
    sensei_descriptors,
    slot_weights,
)
from .lessons import Lesson, Lessons
from .tiles import PICTURES

PICTURE_SHARE = 0.08
"""Share of crops that are cut from uncalibrated pictures, which have labels and no teacher."""

PLANES = 13
"""Band places of a batch; crops with fewer bands are padded."""


@dataclass
class Batch:
    """Tensors of one step.

    Attributes:
        image: (n, 13, h, w) float32, 0 where missing and in padding bands.
        slots: (n, 13, s) float32 weights of the canonical slots.
        descriptors: (n, 13, 79) float32 SEnSeI-v2 descriptors with percentiles; zero rows are padding.
        sets: (n, k, h, w) bool, possible classes.
        taught: (n, 3, h, w) float32, the teacher's probabilities of clear, cloud and shadow; 0 where it says nothing.
    """

    image: Tensor
    slots: Tensor
    descriptors: Tensor
    sets: Tensor
    taught: Tensor


class Crops:
    """Draws crops from lessons, and from pictures.

    Args:
        lessons: tiles with what the teacher says of them.
        samples: training samples; those of uncalibrated pictures are used.
        seed: of the whole run.
    """

    def __init__(self, lessons: Lessons, samples: Sequence[Sample], seed: int) -> None:
        self.lessons = lessons
        self.pictures = [sample for sample in samples if sample.source in PICTURES]
        self.seed = seed

    def batch(self, step: int, n: int, side: int) -> Batch:
        """The batch of a step: ``n`` crops of ``side`` x ``side`` pixels."""
        image = np.zeros((n, PLANES, side, side), np.float32)
        slots = np.zeros((n, PLANES, len(SLOTS)), np.float32)
        descriptors = np.zeros((n, PLANES, DESCRIPTOR_LENGTH + len(PERCENTILES)), np.float32)
        sets = np.zeros((n, side, side), np.uint8)
        taught = np.zeros((n, 3, side, side), np.float32)
        for place in range(n):
            rng = np.random.default_rng((self.seed, step, place))
            crop = self.crop(rng, side)
            count = len(crop.bands)
            percentiles = scene_percentiles(crop.image[:, ::4, ::4])
            if rng.random() < 0.4:
                percentiles[:] = 0.0  # the percentiles of a whole scene are not those of a crop: do not lean on them
            image[place, :count] = np.nan_to_num(crop.image)
            slots[place, :count] = slot_weights(crop.bands)
            descriptors[place, :count] = sensei_descriptors(crop.bands, percentiles)
            sets[place], taught[place] = crop.sets, crop.taught
        possible = (torch.from_numpy(sets)[:, None] >> torch.arange(len(SEVEN), dtype=torch.uint8)[:, None, None]) & 1
        return Batch(
            torch.from_numpy(image),
            torch.from_numpy(slots),
            torch.from_numpy(descriptors),
            possible.bool(),
            torch.from_numpy(taught),
        )

    def crop(self, rng: np.random.Generator, side: int) -> Lesson:
        """One augmented crop of ``side`` x ``side`` pixels."""
        if self.pictures and rng.random() < PICTURE_SHARE:
            one = self.pictures[int(rng.integers(len(self.pictures)))]
            nothing = np.zeros((3, *one.sets.shape), np.float32)
            return self._window(Lesson(one.image.astype(np.float32), nothing, one.sets, one.bands), side, rng)
        crop = self._window(self.lessons.read(int(rng.integers(self.lessons.count))), side, rng)
        image, bands = augment.drop_bands(crop.image, crop.bands, rng)
        if {band.common_name for band in bands} == {"blue", "green", "red"} and rng.random() < 0.5:
            image = augment.stretched(image, rng)
        sets, taught = crop.sets, crop.taught
        if rng.random() < 0.08:
            image, sets = augment.edge_of_scene(image, sets, rng)
        missing = ~np.isfinite(image).all(axis=0)
        image[:, missing] = np.nan
        sets = np.where(missing, np.uint8(lab.MISSING), sets).astype(np.uint8)
        return Lesson(image, np.where(missing, np.float32(0), taught), sets, bands)

    @staticmethod
    def _window(lesson: Lesson, side: int, rng: np.random.Generator) -> Lesson:
        """A window at a random place, turned at random."""
        y, x = (int(rng.integers(size - side + 1)) for size in lesson.sets.shape)
        part = np.s_[..., y : y + side, x : x + side]
        both = np.concatenate([lesson.image[part], lesson.taught[part]])
        both, sets = augment.turn(both, lesson.sets[part], rng)
        count = len(lesson.bands)
        return Lesson(both[:count], both[count:], sets, lesson.bands)
