"""Judge trained runs, packaged models and other programs' masks on data sets.

    test = open_test(DataPart(name="cloudsen12", root=Path("/data/cloudsen12")), "test")
    found = evaluate([TrainedRun(load_run("runs/first")), HeldMask("s2cloudless")], test)
    found[0].figures()["cloud IoU"], found[0].groups("biome")

Classes are judged where the label leaves one class possible; questions such as "cloud or not" wherever every class that
the label leaves possible gives the same answer, so that binary and partial labels count as well.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data import sets
from ..data.sample import Sample
from ..data.sets.base import DataSet, Record
from ..data.simulated import SimulatedSet
from ..errors import InputError
from .config import DataPart
from .corpus import open_simulated, split_records
from .evaluate_judge import JUDGED, QUESTIONS, Image, MaskImage, cover_names, judged_image, key_of, sum_of, translation
from .evaluate_models import Contestant, Said
from .evaluate_tables import Figure, bootstrap, figures_of

Part = Literal["train", "choose", "test", "all"]


@dataclass(frozen=True)
class Test:
    """Images to judge on.

    Attributes:
        data: the data set.
        records: its images.
        title: for tables.
    """

    __test__ = False  # no test for pytest to collect

    data: DataSet
    records: tuple[Record, ...]
    title: str


One = TypeVar("One", bound=Image)


@dataclass(frozen=True)
class Evaluation(ABC, Generic[One]):
    """How one contestant did.

    Attributes:
        name: of the contestant.
        test: title of what it was judged on.
        images: what is kept of each image.
        seconds: that the contestant took.
    """

    name: str
    test: str
    images: tuple[One, ...]
    seconds: float

    @abstractmethod
    def figures(self, images: Sequence[One] | None = None) -> dict[str, Figure]:
        """Figures by name, with intervals over scenes; of some of the images, None means all."""

    def groups(self, by: str) -> dict[str, tuple[One, ...]]:
        """The images by a tag such as ``biome``, ``season`` or ``sensor``, by ``scene``, or by ``cover`` in bins.

        Raises:
            InputError: no image has that tag.
        """
        out: dict[str, list[One]] = defaultdict(list)
        for image in self.images:
            key = key_of(image, by)
            if key is not None:
                out[key].append(image)
        if not out:
            known = sorted({tag for image in self.images for tag in image.tags} | {"scene", "cover"})
            raise InputError(
                f"No image of {self.test} has the tag '{by}'.",
                expected=f"Tags are {', '.join(known)}.",
                remedy="Group by one of these.",
            )
        order = cover_names() if by == "cover" else sorted(out)
        return {key: tuple(out[key]) for key in order if key in out}

    def named(self, names: Iterable[str]) -> tuple[One, ...]:
        """The images of these names, such as those that another contestant is least sure of."""
        wanted = set(names)
        return tuple(image for image in self.images if image.name in wanted)


@dataclass(frozen=True)
class MaskEvaluation(Evaluation[MaskImage]):
    """How one contestant's masks agree with labels.

    Attributes:
        scheme: name of what is judged, see :data:`JUDGED`.
        tells: groups that the contestant can give; figures of others are left out.
        absent_is_zero: see :func:`unclouded.train.evaluate_tables.figures_of`.
    """

    scheme: str = "four"
    tells: tuple[str, ...] = ()
    absent_is_zero: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the judged classes, in the order of the tables."""
        return JUDGED[self.scheme].names

    def figures(self, images: Sequence[MaskImage] | None = None) -> dict[str, Figure]:
        """Figures by class, by question, and over all classes, see :mod:`unclouded.train.evaluate_tables`."""
        chosen = self.images if images is None else images
        by_scene: dict[str, list[MaskImage]] = defaultdict(list)
        for image in chosen:
            by_scene[image.scene].append(image)
        if not by_scene:
            return {}
        stacks = {"classes": np.stack([sum_of(one.classes for one in group) for group in by_scene.values()])}
        for question in chosen[0].questions:
            stacks[question] = np.stack(
                [sum_of(one.questions[question] for one in group) for group in by_scene.values()]
            )
        found = bootstrap(stacks, lambda tables: figures_of(tables, self.classes, absent_is_zero=self.absent_is_zero))
        if len(self.tells) == len(self.classes):
            return found
        # A mask that cannot tell thin from thick has no figures of classes, only of questions.
        return {name: figure for name, figure in found.items() if name.split()[0] in QUESTIONS}

    def table(self, images: Sequence[MaskImage] | None = None) -> NDArray[np.int64]:
        """Pixels by truth and prediction, (k, k)."""
        return sum_of(image.classes for image in (self.images if images is None else images))

    def reliability(self) -> dict[str, NDArray[np.float64] | float]:
        """Mean confidence, share of right pixels and pixels by bin, and the expected calibration error."""
        count, confidence, right = sum_of(image.reliability for image in self.images)
        with np.errstate(invalid="ignore"):
            mean, share = confidence / count, right / count
        filled = count > 0
        total = float(count.sum())
        error = float(np.abs(confidence - right)[filled].sum() / total) if total else math.nan
        return {"confidence": mean, "accuracy": share, "count": count, "error": error}

    def hardest(self, share: float = 0.1) -> tuple[str, ...]:
        """Names of the images that the contestant is least sure of on average, at least one.

        Source: CloudMamba's hard subset, the tenth of the test patches with the largest mean uncertainty.

        Raises:
            InputError: it gives no probabilities.
        """
        if any(math.isnan(image.uncertainty) for image in self.images):
            raise InputError(
                f"'{self.name}' gives no probabilities.",
                expected="The hard subset follows from the uncertainty of a network.",
                remedy="Rank the images by a trained run.",
            )
        ranked = sorted(self.images, key=lambda image: (-image.uncertainty, image.name))
        return tuple(image.name for image in ranked[: max(1, round(share * len(ranked)))])


Watch = Callable[[Record, Sample, Mapping[str, Said]], None]
"""Called with every image and what each contestant said of it."""


def open_test(part: DataPart, which: Part = "test", *, seed: int = 42, task: str = "mask") -> Test:
    """Open the images to judge on.

    Args:
        part: name, root, options, scheme and filters of the data set, as in the configuration of a training run.
        which: ``test``, another part, or ``all``.
        seed: of the parts that ``choose_share`` cuts.
        task: ``mask`` or ``removal``.

    Raises:
        InputError: the data set is not where it should be, is for another task, or has no image in that part.
    """
    data: DataSet
    if part.name == SimulatedSet.name:
        data = open_simulated(part)
    else:
        if part.root is None:
            raise InputError(
                f"It was not said where the data set '{part.name}' is.",
                expected="Every data set has a folder.",
                remedy=f"Name it: {part.name}=FOLDER.",
            )
        data = sets.open_set(part.name, part.root, **part.options)
        if data.task != task:
            raise InputError(
                f"The data set '{part.name}' is for the task '{data.task}'.",
                expected=f"The task here is '{task}'.",
                remedy="Choose another data set, or another model.",
            )
    if which == "all":
        split = split_records(data, part.model_copy(update={"choose_share": 0.0}), seed)
        records = tuple(record for name in ("train", "choose", "test") for record in split[name])
    else:
        records = split_records(data, part, seed)[which]
    if not records:
        there = Counter(value for value in data.assign(part.scheme).values() if value)
        raise InputError(
            f"The data set '{part.name}' has no image in the part '{which}'.",
            expected=f"Its parts are {', '.join(f'{name} ({count})' for name, count in there.items()) or '(none)'}.",
            remedy="Choose another part, another scheme, or other filters.",
        )
    return Test(data, records, f"{data.title}, {which}")


def evaluate(
    contestants: Sequence[Contestant],
    test: Test,
    *,
    classes: str = "four",
    absent_is_zero: bool = False,
    watch: Watch | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[MaskEvaluation]:
    """Judge masks.

    Args:
        contestants: who is judged; their names differ.
        test: the images.
        classes: what is judged: ``four``, ``three``, ``five`` or ``cloud``.
        absent_is_zero: see :func:`unclouded.train.evaluate_tables.figures_of`.
        watch: sees every image with what was said of it, for pictures.
        progress: called with the share done.

    Raises:
        InputError: names are the same, or a contestant cannot tell what is judged.
    """
    if len({one.name for one in contestants}) < len(contestants):
        raise InputError(
            f"Two contestants are called alike: {', '.join(one.name for one in contestants)}.",
            expected="Names tell them apart.",
            remedy="Give each a name of its own.",
        )
    scheme = JUDGED[classes]
    for one in contestants:
        translation(one.scheme, scheme)
        one.prepare(test.data, test.records)
    images: dict[str, list[MaskImage]] = {one.name: [] for one in contestants}
    seconds = dict.fromkeys(images, 0.0)
    for number, record in enumerate(test.records):
        sample = test.data.read(record)
        said = {}
        for one in contestants:
            begin = time.perf_counter()
            said[one.name] = one.says(test.data, record, sample)
            seconds[one.name] += time.perf_counter() - begin
            images[one.name].append(judged_image(said[one.name], one.scheme, record, sample, scheme, test.data))
        if watch is not None:
            watch(record, sample, said)
        if progress is not None:
            progress((number + 1) / len(test.records))
    return [
        MaskEvaluation(
            one.name, test.title, tuple(images[one.name]), seconds[one.name], classes,
            tuple(scheme.names[index] for index in sorted({translation(one.scheme, scheme)[own] for own in one.tells})
                  if index >= 0),
            absent_is_zero,
        )
        for one in contestants
    ]  # fmt: skip
