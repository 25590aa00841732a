"""What one image adds to the figures: counts by class and by question, uncertainty, reliability. No torch.

Shapes
    k  judged classes    y, x  rows, columns
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import sensors
from ..classes import SEVEN
from ..data import labels as lab
from ..data.sample import Sample
from ..data.sets.base import DataSet, Record
from ..errors import InputError
from .targets import IGNORED, SCHEMES, Scheme

COVER_BINS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Edges of the bins of cloud cover, those of MMCANet's figures."""

BINS = 15
"""Bins of confidence between 0 and 1."""

JUDGED: dict[str, Scheme] = {
    **{name: SCHEMES[name] for name in ("four", "three", "cloud")},
    "five": Scheme(("land", "water", "snow", "cloud", "shadow"), ((0,), (1,), (2,), (3, 4), (5,))),
}
"""What may be judged; ``five`` are the classes of CESBIO as SEnSeI-v2 scores them."""

QUESTIONS: dict[str, int] = {"cloud": lab.CLOUD, "invalid": lab.CLOUD | lab.SHADOW}
"""Classes that are judged as one against all others, as sets."""


@dataclass(frozen=True)
class Image:
    """What is kept of one judged image.

    Attributes:
        name, scene: of the image.
        tags: what the data set says of it, with ``data`` for the data set and ``sensor`` where it can be told.
        cover: share of the pixels that are cloud, NaN where nothing tells.
    """

    name: str
    scene: str
    tags: Mapping[str, str | float]
    cover: float


@dataclass(frozen=True)
class MaskImage(Image):
    """One image judged by its mask.

    Attributes:
        classes: pixels by truth and prediction, (k, k) int64.
        questions: the same for each question, (2, 2).
        unpredicted: labelled pixels without prediction; they are in no figure.
        uncertainty: mean over the image, NaN for masks.
        reliability: pixels, sum of confidences and right pixels by bin of confidence, (3, bins).
    """

    classes: NDArray[np.int64]
    questions: Mapping[str, NDArray[np.int64]]
    unpredicted: int
    uncertainty: float
    reliability: NDArray[np.float64]


class Saying(Protocol):
    """What a contestant says of an image, see :class:`unclouded.train.evaluate_models.Said`."""

    @property
    def codes(self) -> NDArray[np.uint8]: ...

    @property
    def probability(self) -> NDArray[np.float32] | None: ...

    @property
    def uncertainty(self) -> NDArray[np.float32] | None: ...


def translation(own: Scheme, judged: Scheme) -> tuple[int, ...]:
    """Judged group of every group of a contestant, -1 for no data.

    A contestant whose groups are coarser than what is judged gives cloud as thick cloud, as everywhere in unclouded.

    Raises:
        InputError: a group is coarser in another way.

    >>> translation(SCHEMES["seven"], JUDGED["four"]), translation(SCHEMES["cloud"], JUDGED["four"])
    ((0, 0, 0, 2, 1, 3, -1), (0, 1))
    """
    out = []
    thick = SEVEN.index("thick")
    for name, group in zip(own.names, own.groups, strict=True):
        if group == (SEVEN.index("no-data"),):
            out.append(-1)
            continue
        found = [index for index, other in enumerate(judged.groups) if set(group) <= set(other)]
        if not found and thick in group:
            found = [index for index, other in enumerate(judged.groups) if thick in other]
        if not found and name == "clear":
            found = [index for index, other in enumerate(judged.groups) if other[:3] == (0, 1, 2)]
        if len(found) != 1:
            raise InputError(
                f"A mask with the classes {', '.join(own.names)} is judged by {', '.join(judged.names)}.",
                expected=f"What it calls '{name}' is one of these.",
                remedy="Judge it by coarser classes, such as 'cloud'.",
            )
        out.append(found[0])
    return tuple(out)


def judged_image(
    said: Saying, own: Scheme, record: Record, sample: Sample, scheme: Scheme, data: DataSet
) -> MaskImage:
    """Counts of one image."""
    places = translation(own, scheme)
    truth = scheme.index(sample.sets)
    codes, confidence = judged_codes(said, places, len(scheme.names))
    known = (truth != IGNORED) & (codes != IGNORED)
    questions = {
        name: count_pairs(_answer(sample.sets, positive), _positive(said, own, positive), 2)
        for name, positive in QUESTIONS.items()
        if _can_answer(own, positive)
    }
    unsure = said.uncertainty
    cloudy = _answer(sample.sets, lab.CLOUD)
    labelled = cloudy != IGNORED
    tags = {**sensor_tag(data, sample), **record.tags, "data": data.name}
    return MaskImage(
        record.name,
        record.scene,
        tags,
        float((cloudy[labelled] == 1).mean()) if labelled.any() else math.nan,
        count_pairs(truth, codes, len(scheme.names)),
        questions,
        int(((truth != IGNORED) & (codes == IGNORED)).sum()),
        math.nan if unsure is None or not np.isfinite(unsure).any() else float(np.nanmean(unsure)),
        _reliability(confidence, truth == codes, known),
    )


def sensor_tag(data: DataSet, sample: Sample) -> dict[str, str]:
    """The tag ``sensor``: the one sensor of the data set that has the image's bands at its level; else none."""
    names = {band.name for band in sample.bands if band.kind == "optical"}
    fitting = [
        name for name in data.sensors
        if len(data.sensors) == 1
        or (names <= {band.name for band in sensors.load(name).bands}
            and sample.level in (sensors.load(name).level, "counts"))
    ]  # fmt: skip
    return {"sensor": fitting[0]} if len(fitting) == 1 else {}


def count_pairs(truth: NDArray[np.uint8], codes: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Pixels by truth and prediction, (size, size); 255 in either counts nowhere."""
    known = (truth != IGNORED) & (codes != IGNORED)
    pairs = truth[known].astype(np.int64) * size + codes[known]
    return np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.int64)


def sum_of(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Sum of arrays of one shape, at least one."""
    total: NDArray[Any] = np.stack(list(parts)).sum(axis=0)
    return total


def judged_codes(
    said: Saying, places: Sequence[int], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Judged group of every pixel, and how probable it is."""
    if said.probability is None:
        table = np.full(256, IGNORED, np.uint8)
        table[: len(places)] = [place if place >= 0 else IGNORED for place in places]
        return table[said.codes], None
    sums = np.zeros((size, *said.codes.shape), np.float32)
    for values, place in zip(said.probability, places, strict=True):
        if place >= 0:
            sums[place] += values
    total = sums.sum(axis=0)
    missing = ~(total > 0)  # NaN as well
    codes = np.where(missing, IGNORED, np.nan_to_num(sums).argmax(axis=0)).astype(np.uint8)
    with np.errstate(invalid="ignore", divide="ignore"):
        return codes, sums.max(axis=0) / total


def _answer(label_sets: NDArray[np.uint8], positive: int) -> NDArray[np.uint8]:
    """1 where every possible class is positive, 0 where none is, else 255; 255 without data."""
    table = np.full(256, IGNORED, np.uint8)
    for mask in range(1, 256):
        if mask == lab.MISSING:
            continue
        if not mask & positive:
            table[mask] = 0
        elif not mask & ~positive:
            table[mask] = 1
    return table[label_sets]


def _members(own: Scheme, positive: int) -> list[bool]:
    return [all(positive >> one & 1 for one in group) for group in own.groups]


def _can_answer(own: Scheme, positive: int) -> bool:
    return all(
        inside or not any(positive >> one & 1 for one in group)
        for group, inside in zip(own.groups, _members(own, positive), strict=True)
    )


def _positive(said: Saying, own: Scheme, positive: int) -> NDArray[np.uint8]:
    """1 where the classes of a question have more than half of the probability, 255 where nothing is said.

    Source: SEnSeI-v2 adds the probabilities of the classes before it decides.
    """
    members = np.array(_members(own, positive))
    if said.probability is None:
        table = np.full(256, IGNORED, np.uint8)
        table[: len(members)] = members
        return table[said.codes]
    share = said.probability[members].sum(axis=0)
    return np.where(np.isnan(share), IGNORED, share > 0.5).astype(np.uint8)


def _reliability(
    confidence: NDArray[np.float32] | None, right: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if confidence is None or not known.any():
        return np.zeros((3, BINS))
    values = confidence[known].astype(np.float64)
    place = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return np.stack(
        [np.bincount(place, weights, BINS).astype(np.float64) for weights in (None, values, right[known])]
    )


def key_of(image: Image, by: str) -> str | None:
    """Value of a tag, the scene, or the bin of cloud cover, as text; None where the image has none."""
    if by == "scene":
        return image.scene
    if by == "cover":
        if math.isnan(image.cover):
            return None
        return cover_names()[min(int(np.searchsorted(COVER_BINS, image.cover, "right")) - 1, len(COVER_BINS) - 2)]
    value = image.tags.get(by)
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def cover_names() -> list[str]:
    """Names of the bins of cloud cover, rising."""
    edges = [f"{100 * edge:g}" for edge in COVER_BINS]
    return [f"{low}-{high} %" for low, high in pairwise(edges)]
