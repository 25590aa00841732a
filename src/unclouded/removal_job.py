"""One call of removal: the inputs, opened, and the masks that have to be made before anything is restored."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError, UncloudedWarning
from .infer.predict import Progress
from .infer.remove_plan import ClassPlane, RemovalPlan, classes_of, plan_removal
from .infer.runner import Runner, find_model, load_runner, shipped
from .options import Options
from .removal_run import Run, removal_paths
from .remove_options import NONE, RemoveOptions
from .scene import Scene

_DEFAULT = "removal"


@dataclass
class Job:
    """One call: the inputs, opened, before anything is computed."""

    scene: Scene
    dates: list[Scene]
    sar: Scene | None
    options: RemoveOptions
    runner: Runner | None
    mask: ClassPlane | None
    date_masks: list[ClassPlane] | None

    @cached_property
    def masker(self) -> Runner | None:
        """The network that finds clouds; None where no mask has to be made."""
        wanted = self.mask is None or (self.dates and self.date_masks is None)
        return load_runner(self.options.mask_model, self.options.threads) if wanted else None

    @cached_property
    def fingerprint(self) -> str:
        """Checksum over everything that decides the output."""
        from .write.resume import fingerprint

        same = Options()
        without = ("model", "mask_model", "threads", "quicklook", "overwrite", "resume")
        sar = None
        if self.sar is not None:
            sar = [fingerprint(self.sar, "", same), [getattr(one, "power", False) for one in self.sar.sources.values()]]
        given = [one for one in (self.mask, *(self.date_masks or ())) if one is not None]
        parts = {
            "scene": fingerprint(self.scene, "", same),
            "history": [fingerprint(one, "", same) for one in self.dates],
            "sar": sar,
            "masks": [hashlib.sha256(one.classes.tobytes()).hexdigest() for one in given],
            "mask_model": None if self.masker is None else self.masker.sha256,
            "model": None if self.runner is None else self.runner.sha256,
            "options": {key: value for key, value in self.options.as_dict().items() if key not in without},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def to_do(self, folder: Path) -> bool:
        """Whether there is anything to do, see :func:`unclouded.write.resume.plan_files`."""
        from .write.resume import plan_files

        paths = removal_paths(folder, self.scene.id, quicklook=self.options.quicklook)
        return plan_files(
            folder, self.scene.id, paths, list(paths.values()), self.fingerprint,
            overwrite=self.options.overwrite, resume=self.options.resume,
        )  # fmt: skip

    def plan(self, progress: Progress | None, notes: Sequence[str]) -> Run:
        """Find the clouds, and bring everything together; doubts are told as warnings."""
        unmasked = [self.scene] * (self.mask is None) + self.dates * (self.date_masks is None)
        told: list[str] = list(notes)
        planes = []
        for number, scene in enumerate(unmasked):
            assert self.masker is not None

            def step(share: float, before: int = number) -> None:
                if progress is not None:
                    progress(0.5 * (before + share) / len(unmasked))

            plane, doubts = classes_of(scene, self.masker, step)
            planes.append(plane)
            told += [str(one) for one in doubts]
        mask = self.mask if self.mask is not None else planes.pop(0)
        plan = plan_removal(
            self.scene,
            mask,
            None if self.runner is None else self.runner.card,
            self.options,
            sar=self.sar,
            history=list(zip(self.dates, planes if self.date_masks is None else self.date_masks, strict=True)),
        )
        run = self._run(plan, told + [str(one) for one in plan.warnings])
        for text in run.notes:
            warnings.warn(UncloudedWarning(text), stacklevel=3)
        return run

    def described(self) -> Run:
        """The run as it was, without computing anything."""
        empty = ClassPlane(np.zeros((1, 1), np.uint8), self.scene.geobox.affine)
        card = None if self.runner is None else self.runner.card
        return self._run(plan_removal(self.scene, empty, card, self.options, sar=self.sar), [])

    def scaled(self, progress: Progress | None) -> Progress | None:
        """The progress of the rows, after that of the masks."""
        start = 0.5 if self.masker is not None else 0.0
        return None if progress is None else lambda share: progress(start + (0.95 - start) * share)

    def _run(self, plan: RemovalPlan, notes: Sequence[str]) -> Run:
        card_path = None if self.runner is None else find_model(self.options.model).card
        source: dict[str, Any] = {"scene": "given" if self.mask is not None else "made"}
        if self.masker is not None:
            one = self.masker
            source["model"] = {"name": one.card.name, "version": one.card.version, "sha256": one.sha256}
        sha = None if self.runner is None else self.runner.sha256
        return Run(plan, sha, card_path, source, self.fingerprint, tuple(dict.fromkeys(notes)))


def network(options: RemoveOptions, dates: bool) -> tuple[Runner | None, list[str]]:
    """The network that is asked for, or None where other dates alone have to do."""
    if options.model == NONE or (options.model == _DEFAULT and _DEFAULT not in shipped()):
        if not dates:
            raise ModelError(
                "There is neither a removal model nor another date of the scene."
                if options.model == NONE
                else "No removal model is installed, and no other date of the scene is given.",
                expected="What clouds hide is taken from other dates, or rebuilt by a network.",
                remedy="Pass other dates with --history, or a network with --model.",
            )
        note = "No removal model is installed: what no other date shows clear stays without data."
        return None, [] if options.model == NONE else [note]
    return load_runner(options.model, options.threads), []
