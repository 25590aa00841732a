"""What the configuration of a training run may say: every key, its meaning, type and range.

:mod:`unclouded.train.config_file` reads it from YAML. Unknown keys are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..data.augment_steps import GEOMETRIC, check_step
from ..errors import InputError

Scheme = Literal["seven", "four", "three", "cloud"]


class Part(BaseModel):
    """Base of the configuration's parts: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(Part):
    """The network.

    Attributes:
        name: of the registry, ``unclouded.models.names()``.
        options: the network's own; ``bands`` and ``classes`` follow from the run unless given.
        start: checkpoint or ``.safetensors`` file, or run folder, whose weights to start from.
        freeze: patterns of parameter names that are not trained, e.g. ``encoder.*``.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None
    freeze: tuple[str, ...] = ()


class DataPart(Part):
    """One data set.

    Attributes:
        name: of the registry, or ``simulated``.
        root: its folder; may also stand in ``roots`` under the set's name.
        options: the data set's own.
        scheme: how it is split; None takes its usual split.
        weight: share of the draws, relative to the other sets; None for every set draws all images once per epoch.
        where: keep records by their tags, e.g. ``{biome: [urban, water], latitude: {abs: true, min: 23.5}}``.
        limit: keep so many records of each split at most, evenly spaced in their order.
        choose_share: where the split has no part for model choice, take so many of the training scenes.
        train: False uses the set for model choice only.
    """

    name: str
    root: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    scheme: str | None = None
    weight: float | None = Field(default=None, gt=0)
    where: dict[str, Any] = Field(default_factory=dict)
    limit: int | None = Field(default=None, ge=1)
    choose_share: float = Field(default=0.0, ge=0, lt=1)
    train: bool = True


class NormalisePart(Part):
    """What is done to reflectance before the network.

    Attributes:
        mode: see :mod:`unclouded.normalise`; ``percentile`` and ``standardise`` have a scope.
        scope: statistics of the ``train`` set, or of each ``scene``.
    """

    mode: Literal["none", "divide-3000", "percentile", "percentile-literal", "standardise"] = "none"
    scope: Literal["train", "scene"] = "train"


class PatchPart(Part):
    """How images are cut.

    Attributes:
        size: side of a patch in pixels.
        cut: ``random`` place, ``centre``, ``corner`` (top left) or ``tiles``.
        tiles: with ``tiles``: every image gives tiles x tiles patches, the last ones aligned with its edge.
        ground_m: range of pixel sizes in metres to resample to, drawn evenly in the logarithm; None keeps the image's.
        judge: how images are cut for model choice: ``cover`` judges every pixel once.
    """

    size: int = Field(default=256, ge=16)
    cut: Literal["random", "centre", "corner", "tiles"] = "random"
    tiles: int = Field(default=2, ge=1)
    ground_m: tuple[float, float] | None = None
    judge: Literal["cover", "centre", "corner", "tiles"] = "cover"

    @field_validator("ground_m")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("has to be two positive numbers of metres, the smaller one first")
        return value

    @model_validator(mode="after")
    def _anywhere(self) -> Self:
        if self.ground_m is not None and self.cut != "random":
            raise ValueError("'ground_m' goes with cut: random")
        return self


class AugmentPart(Part):
    """One step of augmentation: its name, its probability p, and its settings beside them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    p: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            check_step(self.name, self.settings)
        except InputError as err:
            raise ValueError(str(err)) from err
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but name and probability."""
        return dict(self.__pydantic_extra__ or {})


class LossPart(Part):
    """What is minimised.

    Attributes:
        kind: masks: ``set-cross-entropy``, ``set-mse``, ``cross-entropy``, ``dice``, ``cross-entropy-dice``,
            ``bce-dice`` (one map), ``cloudmamba`` (all levels and stages), ``own`` (the network's own, Mask2Former).
            Removal: ``l1-ssim``.
        outputs: weight of every output of the network that takes part.
        class_weights: weight of pixels that are certainly of a class, by name; others have 1.
        base: of the logarithm of ``set-cross-entropy``.
        ssim: weight of 1 - SSIM in ``l1-ssim``; 0 leaves L1.
        recovery: weight of the auxiliary recovery loss of sensor-independent networks.
        recovery_warm_up: optimiser steps over which the other losses rise quadratically to their weight.
        penalty: weight of SEnSeI-v1's penalty on its last layers.
    """

    kind: Literal[
        "set-cross-entropy",
        "set-mse",
        "cross-entropy",
        "dice",
        "cross-entropy-dice",
        "bce-dice",
        "cloudmamba",
        "own",
        "l1-ssim",
    ] = "set-cross-entropy"
    outputs: dict[str, float] = Field(default_factory=lambda: {"logits": 1.0}, min_length=1)
    class_weights: dict[str, float] = Field(default_factory=dict)
    base: float = Field(default=2.718281828459045, gt=1)
    ssim: float = Field(default=1.0, ge=0)
    recovery: float = Field(default=1.0, ge=0)
    recovery_warm_up: int = Field(default=0, ge=0)
    penalty: float = Field(default=0.0, ge=0)


class GroupPart(Part):
    """Parameters that are trained otherwise: ``match`` is a pattern of names; the first group that fits counts."""

    match: str
    rate_factor: float = Field(default=1.0, ge=0)
    weight_decay: float | None = Field(default=None, ge=0)


class OptimiserPart(Part):
    """The optimiser.

    Attributes:
        kind: ``adam`` (decay in the gradient), ``adamw``, ``sgd``, or ``muon``, see :mod:`unclouded.train.muon`.
        rate: peak learning rate.
        weight_decay: not applied to what the network itself excludes, nor to vectors unless ``decay_vectors``.
        decay_vectors: apply it to biases and normalisation as well, as torch does by itself.
        betas, eps: of Adam, and of what Muon leaves to it.
        momentum: of SGD and Muon, 0.95 for the latter by its authors.
        nesterov: of SGD; Muon always looks ahead.
        groups: parameters with another rate or decay.
    """

    kind: Literal["adam", "adamw", "sgd", "muon"] = "adamw"
    rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay_vectors: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    groups: tuple[GroupPart, ...] = ()


class PhasePart(Part):
    """From an epoch on, another learning rate and number of accumulated batches."""

    epoch: int = Field(ge=0)
    rate: float = Field(gt=0)
    accumulate: int = Field(default=1, ge=1)


class SchedulePart(Part):
    """How the learning rate moves.

    Attributes:
        kind: ``constant``; ``cosine`` to ``floor``; ``poly``; ``step``, times ``factor`` every ``every`` epochs;
            ``phases``; ``plateau``, times ``factor`` after ``patience`` epochs without a better score.
        warm_up: optimiser steps of linear rise, before any of these.
        warm_up_from: share of the rate that it starts from.
        floor: lowest share of the rate that ``cosine``, ``poly`` and ``plateau`` reach.
        power: of ``poly``.
        every, factor, patience, phases: see ``kind``.
    """

    kind: Literal["constant", "cosine", "poly", "step", "phases", "plateau"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    warm_up_from: float = Field(default=0.0, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, le=1)
    power: float = Field(default=0.9, gt=0)
    every: int = Field(default=25, ge=1)
    factor: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=5, ge=0)
    phases: tuple[PhasePart, ...] = ()

    @model_validator(mode="after")
    def _phases(self) -> Self:
        starts = [phase.epoch for phase in self.phases]
        if (self.kind == "phases") != bool(starts):
            raise ValueError("'phases' goes with kind: phases, and this kind needs it")
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError("the first phase begins at epoch 0, and each begins after the one before")
        return self


class StoppingPart(Part):
    """End the run after ``patience`` epochs in which the score rose by less than ``least``."""

    patience: int = Field(default=5, ge=1)
    least: float = Field(default=0.0, ge=0)


class RunConfig(Part):
    """Everything that decides the outcome of a run, and where it happens.

    Attributes:
        title: for people.
        task: ``mask`` or ``removal``.
        model, data, normalise, patch, augment, loss, optimiser, schedule: see the parts.
        roots: folders of data sets by name, for entries of ``data`` without ``root``.
        classes: what the network tells apart, see :mod:`unclouded.train.targets`.
        bands: names or common names of the bands, in the network's order; None for sensor-independent networks.
        sar: removal: give the network VV and VH.
        batch: images of one forward pass on each device.
        accumulate: forward passes to one step of the optimiser.
        epochs: passes over the data.
        steps: optimiser steps in all, in the place of epochs.
        images_per_epoch: fewer (or more) images than the data hold.
        clip: largest norm of the gradient.
        average: share that the running average of the weights keeps at every step; None for no average.
        select: score that decides which weights are best, ``loss`` or a name in the log such as ``mean IoU``.
        stopping: early stopping, or None.
        precision: ``32``, ``bf16`` or ``16`` (mixed; needs a GPU).
        accelerator, devices, nodes: where it runs; with torchrun ``devices`` follows from it.
        workers: processes that read and augment; the result does not depend on their number.
        threads: CPU threads of each process; 0 leaves torch's choice. It decides the last bits of the result.
        channels_last: memory layout that convolutions are often faster with.
        seed: of everything that is drawn.
        checkpoint_minutes: between checkpoints within an epoch.
        pictures: images of the part for model choice that are drawn after every epoch.
        output: folder of the run.
    """

    title: str = ""
    task: Literal["mask", "removal"] = "mask"
    model: ModelPart
    data: tuple[DataPart, ...] = Field(min_length=1)
    roots: dict[str, Path] = Field(default_factory=dict)
    classes: Scheme = "seven"
    bands: tuple[str, ...] | None = None
    sar: bool = True
    normalise: NormalisePart = NormalisePart()
    patch: PatchPart = PatchPart()
    augment: tuple[AugmentPart, ...] = ()
    loss: LossPart = LossPart()
    optimiser: OptimiserPart = OptimiserPart()
    schedule: SchedulePart = SchedulePart()
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    images_per_epoch: int | None = Field(default=None, ge=1)
    clip: float | None = Field(default=None, gt=0)
    average: float | None = Field(default=None, gt=0, lt=1)
    select: str = "loss"
    stopping: StoppingPart | None = None
    precision: Literal["32", "bf16", "16"] = "32"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)
    channels_last: bool = False
    seed: int = Field(default=42, ge=0)
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    pictures: int = Field(default=4, ge=0)
    output: Path

    @field_validator("precision", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either 'epochs' or 'steps'")
        if (self.loss.kind == "l1-ssim") != (self.task == "removal"):
            raise ValueError("the loss 'l1-ssim' goes with task: removal, and this task needs it")
        if self.task == "removal":
            odd = [step.name for step in self.augment if step.name not in GEOMETRIC]
            if odd:
                raise ValueError(f"augment: '{odd[0]}' does not suit removal; these do: {', '.join(GEOMETRIC)}")
            if self.normalise.mode != "none":
                raise ValueError("normalise: removal takes reflectance as it is (mode: none)")
        if self.schedule.kind == "phases" and self.accumulate > 1:
            raise ValueError("'accumulate' stands in the phases of the schedule")
        if not any(part.train for part in self.data):
            raise ValueError("data: no set is trained on")
        if len({part.weight is None for part in self.data if part.train}) > 1:
            raise ValueError("data: give every set a weight, or none")
        if self.task == "removal" and self.bands is None:
            raise ValueError("removal needs 'bands', e.g. [B04, B03, B02]")
        return self

    def root_of(self, part: DataPart) -> Path:
        """Folder of a data set.

        Raises:
            InputError: the configuration does not say.
        """
        root = part.root or self.roots.get(part.name)
        if root is None:
            raise InputError(
                f"The configuration does not say where the data set '{part.name}' is.",
                expected=f"It has the key data.root, or roots.{part.name}.",
                remedy=f"Pass --data {part.name}=FOLDER.",
            )
        return root

    def dump(self) -> str:
        """The configuration as YAML, every key written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
