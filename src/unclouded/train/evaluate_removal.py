"""Judge networks that rebuild what clouds hide: PSNR, SSIM, MAE, RMSE and SAM over all, cloudy and clear pixels.

Figures are means over images, as in the papers. Which pixels are cloudy is found by a detector, the shipped model
unless another is given, for no data set of pairs has labels of clouds.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.labels import CLEAR
from ..data.sets.base import Pair, Record
from ..errors import InputError
from ..image_metrics import restoration
from .config import DataPart
from .corpus import Source
from .evaluate import Evaluation, Test
from .evaluate_judge import Image
from .evaluate_tables import Figure, Tables, Values, bootstrap
from .patches import Batch, Patches, windows
from .run import Run

METRICS = ("PSNR", "SSIM", "MAE", "RMSE", "SAM")
REGIONS = ("all", "cloudy", "clear")

Detector = Callable[[Pair], NDArray[np.uint8]]
"""From a pair to the output classes of its cloudy image, (y, x)."""


@dataclass(frozen=True)
class RestoredImage(Image):
    """One patch judged by what was rebuilt.

    Attributes:
        scores: by region and metric, NaN where the patch has no such pixel.
    """

    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class RemovalEvaluation(Evaluation[RestoredImage]):
    """How well one contestant rebuilds images."""

    def figures(self, images: Sequence[RestoredImage] | None = None) -> dict[str, Figure]:
        """Means over images: ``PSNR`` and so on, ``cloudy PSNR``, ``clear PSNR``."""
        by_scene: dict[str, list[RestoredImage]] = defaultdict(list)
        for image in self.images if images is None else images:
            by_scene[image.scene].append(image)
        if not by_scene:
            return {}
        sums, counts = [], []
        for group in by_scene.values():
            values = np.array([[[one.scores[r][m] for m in METRICS] for r in REGIONS] for one in group])
            sums.append(np.nansum(values, axis=0))
            counts.append(np.isfinite(values).sum(axis=0))
        stacks = {"sums": np.stack(sums), "counts": np.stack(counts)}
        return bootstrap(stacks, _means)


class Restorer(Protocol):
    """Whoever rebuilds images.

    Attributes:
        name: for tables.
    """

    name: str

    def restores(self, pair: Pair, record: Record, cloud: NDArray[np.uint8]) -> Sequence[Restored]:
        """The patches of one pair, each rebuilt."""


@dataclass(frozen=True)
class Restored:
    """A patch before and after.

    Attributes:
        cloudy, restored, clear: (band, y, x) float32.
        classes: of the cloudy image, (y, x) uint8.
    """

    cloudy: NDArray[np.float32]
    restored: NDArray[np.float32]
    clear: NDArray[np.float32]
    classes: NDArray[np.uint8]


class RemovalRun:
    """The network of a removal run, given patches as the run cuts them for model choice.

    Args:
        run: the run.
        which: weights of the ``best`` epoch or the ``last``.
        name: for tables; None takes the folder's.
        device: where the network runs.
    """

    def __init__(self, run: Run, which: str = "best", *, name: str | None = None, device: str = "cpu") -> None:
        self.run, self.name = run, name or run.folder.resolve().name
        self.device = torch.device(device)
        self.net = run.network(which).to(self.device)

    def restores(self, pair: Pair, record: Record, cloud: NDArray[np.uint8]) -> list[Restored]:
        """The patches of one pair, each rebuilt."""
        out = []
        for batch, classes in _PairPatches(self.run, pair, record).cut(cloud):
            given = [part.to(self.device) for part in (batch.image, batch.beside) if part is not None]
            with torch.no_grad():
                found = self.net(*given).float().clamp(0, 1).cpu().numpy()[0]
            out.append(Restored(batch.image[0].numpy(), found, batch.target[0].numpy(), classes))
        return out


class Untouched:
    """Leaves the cloudy image as it is: what any network has to beat.

    Args:
        run: a removal run, whose bands and patches are taken.
    """

    name = "cloudy image"

    def __init__(self, run: Run) -> None:
        self.run = run

    def restores(self, pair: Pair, record: Record, cloud: NDArray[np.uint8]) -> list[Restored]:
        """The patches of one pair, as they are."""
        patches = [(one.image[0].numpy(), one.target[0].numpy(), classes) for one, classes in
                   _PairPatches(self.run, pair, record).cut(cloud)]  # fmt: skip
        return [Restored(cloudy, cloudy, clear, classes) for cloudy, clear, classes in patches]


def shipped_detector(model: str | Path = "default") -> Detector:
    """Clouds as a packaged model finds them in the pair's optical bands."""
    from ..api import predict

    def detect(pair: Pair) -> NDArray[np.uint8]:
        rows = [row for row, band in enumerate(pair.bands) if band.kind == "optical" and band.min_nm is not None]
        bands = [(float(pair.bands[row].min_nm or 0), float(pair.bands[row].max_nm or 0)) for row in rows]
        return predict(pair.cloudy[rows], bands, resolution_m=pair.gsd_m, model=model).classes

    return detect


def evaluate_removal(
    restorers: Sequence[Restorer],
    test: Test,
    *,
    detector: Detector | None = None,
    watch: Callable[[Record, Mapping[str, Sequence[Restored]]], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[RemovalEvaluation]:
    """Judge networks that rebuild images.

    Args:
        restorers: who is judged; their names differ.
        test: pairs of images.
        detector: finds the clouds; None takes the shipped model.
        watch: sees every pair with what was made of it, for pictures.
        progress: called with the share done.

    Raises:
        InputError: names are the same.
    """
    names = [one.name for one in restorers]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two networks are called alike: {', '.join(names)}.",
            expected="Names tell them apart.",
            remedy="Give each a name of its own.",
        )
    detect = detector or shipped_detector()
    images: dict[str, list[RestoredImage]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for number, record in enumerate(test.records):
        pair = test.data.read_pair(record)
        cloud = detect(pair)
        made = {}
        for one in restorers:
            begin = time.perf_counter()
            made[one.name] = one.restores(pair, record, cloud)
            seconds[one.name] += time.perf_counter() - begin
            tags = {**record.tags, "data": test.data.name} | ({"season": pair.season} if pair.season else {})
            images[one.name] += [_judged(part, record, tags) for part in made[one.name]]
        if watch is not None:
            watch(record, made)
        if progress is not None:
            progress((number + 1) / len(test.records))
    return [RemovalEvaluation(name, test.title, tuple(images[name]), seconds[name]) for name in names]


def _judged(part: Restored, record: Record, tags: Mapping[str, Any]) -> RestoredImage:
    known = part.classes <= 3
    changed = known & (part.classes != 0)
    regions = {"all": None, "cloudy": changed, "clear": known & ~changed}
    cloud = np.isin(part.classes, (1, 2))
    return RestoredImage(
        record.name, record.scene, tags, float(cloud[known].mean()) if known.any() else math.nan,
        {name: restoration(part.restored, part.clear, where) for name, where in regions.items()},
    )  # fmt: skip


def _means(tables: Tables) -> dict[str, Values]:
    sums, counts = np.asarray(tables["sums"], np.float64), np.asarray(tables["counts"], np.float64)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return {
        metric if region == "all" else f"{region} {metric}": means[..., row, column]
        for row, region in enumerate(REGIONS)
        for column, metric in enumerate(METRICS)
    }


class _Given:
    """A data set of one pair that was read before."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def read_pair(self, record: Record) -> Pair:
        return self.pair


class _PairPatches(Patches):
    """The patches of one pair as the network sees them for model choice, and the classes under each."""

    def __init__(self, run: Run, pair: Pair, record: Record) -> None:
        part = DataPart(name=run.config.data[0].name)
        source = Source(part, _Given(pair), {"train": (record,), "choose": (), "test": ()})  # type: ignore[arg-type]
        super().__init__(run.config, [source], run.normalisers, run.front_end, run.descriptor)
        self.pair = pair

    def cut(self, cloud: NDArray[np.uint8]) -> list[tuple[Batch, NDArray[np.uint8]]]:
        """Batches of one, each with the classes under it."""
        patch = self.config.patch
        planes, optical, radar = self._planes(self.pair, self.sources[0])
        planes = np.concatenate([planes, cloud[None].astype(np.float32)])
        if patch.judge == "cover":  # whole patches only, as in training
            rows, cols = (side // patch.size * patch.size for side in planes.shape[1:])
            planes = planes[:, :rows, :cols]
        labels = np.full(planes.shape[1:], CLEAR, np.uint8)
        return [
            (self._pair(window[:-1], optical, radar), window[-1].astype(np.uint8))
            for window, _ in windows(planes, labels, patch.size, patch.judge, patch.tiles)
        ]
