"""ModelCard: what a set of weights is, what it was trained on, and what it must not be used for.

The card is a JSON file beside the weights, and travels inside them too (safetensors metadata, ONNX metadata
under the key ``card``). No torch here: the base install reads cards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..classes import OUTPUT_OF
from ..errors import ModelError, first_fault
from ..normalise import Mode, Normaliser

_LARGEST = 1024 * 1024


class Strict(BaseModel):
    """Base of the card's parts: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainingSource(Strict):
    """One data source and its part in the training."""

    name: str
    labels: Literal["human", "algorithmic", "teacher", "simulated", "none"]
    images: int
    licence: str
    use: str


class Figure(Strict):
    """One measured figure and the command that measures it again."""

    data: str
    metric: str
    value: float
    images: int
    note: str = ""


class Calibration(Strict):
    """Temperature and class biases that turn blended logits into probabilities.

    ``logits / temperature + bias`` goes into the softmax; biases are in the order of the card's classes, or none.
    ``thick`` is added to the log-odds of thick against thin cloud, and leaves both together as likely as they were.
    ``cloud_from`` is the probability of cloud, thin and thick together, from which a pixel is called cloud; without
    it, cloud is where it is likelier than clear ground and than shadow.
    """

    temperature: float = Field(default=1.0, gt=0)
    bias: tuple[float, ...] = ()
    thick: float = Field(default=0.0, ge=-20, le=20)
    cloud_from: float | None = Field(default=None, gt=0, lt=1)
    fitted_on: str = ""
    expected_calibration_error: float | None = None


Loss = Literal["missed-cloud", "lost-clear"]
"""Share of a scene's cloud that is not called cloud, and share of the rest that is."""


class Guarantee(Strict):
    """A threshold on the probability of cloud that keeps a bound, see :mod:`unclouded.infer.guarantee`.

    Attributes:
        loss: what is bounded: its expectation over scenes like those of ``data``.
        bound: the largest expected share.
        threshold: cloud is where its probability is at least this.
        scenes: labelled scenes, unseen by the model, that support it.
        price: mean share of the other loss at this threshold.
        data: where the scenes come from.
    """

    loss: Loss
    bound: float = Field(gt=0, lt=1)
    threshold: float = Field(gt=0, lt=1)
    scenes: int = Field(gt=0)
    price: float = Field(ge=0, le=1)
    data: str


class BandInput(Strict):
    """One optical input of a network that takes a fixed list of bands; which band of a scene it gets, see
    :func:`unclouded.infer.plan.fixed_bands`.

    Attributes:
        name: the training sensor's name of the band, e.g. ``B02``.
        common_name: as in :class:`unclouded.scene.Band`.
        min_nm, max_nm: wavelength range in nanometres.
    """

    name: str
    common_name: str | None = None
    min_nm: float = Field(gt=0)
    max_nm: float = Field(gt=0)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not self.min_nm < self.max_nm:
            raise ValueError(f"the range of '{self.name}' runs from {self.min_nm:g} to {self.max_nm:g} nm")
        return self


class RadarInput(Strict):
    """One radar input of a network that rebuilds images: decibel from ``low_db`` to ``high_db`` become 0 to 1, clipped.

    Attributes:
        name: ``vv`` or ``vh``.
        low_db, high_db: backscatter in decibel.
    """

    name: Literal["vv", "vh"]
    low_db: float
    high_db: float

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not self.low_db < self.high_db:
            raise ValueError(f"the range of '{self.name}' runs from {self.low_db:g} to {self.high_db:g} dB")
        return self


class ExpectedError(Strict):
    """How the expected absolute error of a rebuilt image, in reflectance and as the mean over the bands, is known.

    Attributes:
        kind: ``log-scale``, the network also returns ``log_scale``, the logarithm of the expected error;
            ``mirrored``, it is the mean difference of the results for the image and its mirror image.
        factor: brings it to the size of real errors.
        fitted_on: data that the factor was fitted on; empty where it was not.
    """

    kind: Literal["log-scale", "mirrored"]
    factor: float = Field(default=1.0, gt=0)
    fitted_on: str = ""


class Scaling(Strict):
    """What is done to reflectance before a network of fixed bands sees it, see :mod:`unclouded.normalise`.

    Attributes:
        mode: a mode of :mod:`unclouded.normalise`.
        scope: whether statistics are the training set's, written here, or are taken from each scene.
        low, high: percentiles per band, in reflectance, for the modes that begin with ``percentile``.
        mean, std: per band, in reflectance, for ``standardise``.
    """

    mode: Mode = "none"
    scope: Literal["training", "scene"] = "training"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _statistics(self) -> Self:
        if self.scope == "training":
            self.normaliser()
        elif self.low or self.high or self.mean or self.std:
            raise ValueError("statistics are given, although they are to be taken from each scene")
        return self

    def normaliser(self) -> Normaliser:
        """The scaling with the training set's statistics.

        >>> Scaling(mode="percentile", low=(0.0,), high=(0.5,)).normaliser().mode
        'percentile'
        """
        return Normaliser(self.mode, low=self.low, high=self.high, mean=self.mean, std=self.std)


class ModelCard(Strict):
    """Everything needed to run a model, and to decide whether to.

    Attributes:
        task: ``mask`` finds clouds, ``removal`` rebuilds what they hide.
        front_end: what the network is told about the bands: ``slots``, ``senseiv1`` and ``senseiv2`` take any bands
            with descriptors, ``bands`` takes those of ``bands``, in that order, and no descriptors.
        encoding: wavelength encoding of SEnSeI-v2 descriptors.
        percentiles: whether scene percentiles follow the descriptors.
        bands: optical inputs of the front end ``bands``, in the network's order.
        sar: radar inputs of a removal network, in its order.
        partial_inputs: a removal network runs without radar, and without bands that a scene lacks: they are 0.
        marks: a removal network is told what to rebuild, by ``hidden`` (n, 2, h, w): where the image is to be
            rebuilt; and 1 where nothing of the ground is seen, 0.5 in shadow.
        expected_error: how sure a removal network is; None means ``mirrored``, not fitted.
        scaling: what is done to reflectance before the network sees it, with the front end ``bands`` only.
        sensors: sensors that the network was made for; a warning is raised for others. Empty means any.
        grid_m: finest pixel size that the network is run at; finer scenes are read at this size.
        coarsest_m: coarsest pixel size seen in training; beyond it a warning is raised.
        stride: the network's sides have to be multiples of this.
        tile: rows and columns of the only image that the ONNX file takes; None where any multiple of the stride
            will do.
        leave_out: common names of bands that the network is not given.
        classes: the network's outputs, names of :data:`unclouded.classes.OUTPUT_OF`; none for removal. A network with
            the single class ``cloud`` gives its log-odds.
        source: where the weights come from, if they were made elsewhere.
    """

    name: str
    title: str
    version: str
    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)
    task: Literal["mask", "removal"] = "mask"
    front_end: Literal["slots", "senseiv1", "senseiv2", "bands"]
    encoding: Literal["nm", "log", "log-literal"] = "log"
    percentiles: bool = False
    bands: tuple[BandInput, ...] = ()
    sar: tuple[RadarInput, ...] = ()
    partial_inputs: bool = False
    marks: bool = False
    expected_error: ExpectedError | None = None
    scaling: Scaling = Scaling()
    sensors: tuple[str, ...] = ()
    grid_m: float = Field(default=20.0, gt=0)
    coarsest_m: float = Field(default=60.0, gt=0)
    stride: int = Field(default=32, gt=0)
    tile: int | None = Field(default=None, gt=0)
    leave_out: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    calibration: dict[str, Calibration] = Field(default_factory=dict)
    guarantees: tuple[Guarantee, ...] = ()
    training: tuple[TrainingSource, ...] = ()
    figures: tuple[Figure, ...] = ()
    limits: tuple[str, ...] = ()
    licence: str
    source: str = ""
    parameters: int
    sha256: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        problem = _disagreement(self)
        if problem:
            raise ValueError(problem)
        return self

    @classmethod
    def load(cls, path: Path) -> ModelCard:
        """Read and check a card.

        Raises:
            ModelError: the file is missing, not JSON, or does not follow the schema.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ModelError(
                    f"The model card {path} is larger than {_LARGEST // 2**20} MiB.",
                    expected="A card is a JSON file of a few pages.",
                    remedy="Name the card itself, the JSON file beside the weights.",
                )
            return cls.model_validate_json(content)
        except OSError as err:
            raise ModelError(
                f"The model card {path} cannot be read: {err.strerror or err}.",
                expected="Every model comes with a card, a JSON file beside its weights.",
                remedy="See the shipped models: unclouded models list",
            ) from err
        except ValidationError as err:
            raise ModelError(
                f"The model card {path} is not valid: {first_fault(err)}.",
                expected="A card follows the schema of unclouded.models.card.ModelCard.",
                remedy="Export the model again, or correct the card.",
            ) from err

    def save(self, path: Path) -> None:
        """Write the card as indented JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")

    def calibration_for(self, level: str) -> Calibration:
        """Calibration of a radiometric level, or the one named ``default``, or none at all."""
        return self.calibration.get(level) or self.calibration.get("default") or Calibration()


def _disagreement(card: ModelCard) -> str:
    """What in a card contradicts itself, or nothing."""
    fixed = card.front_end == "bands"
    scaling = card.scaling
    statistics = [part for part in (scaling.low, scaling.high, scaling.mean, scaling.std) if part]
    biases = {len(one.bias) for one in card.calibration.values()} - {0}
    for names, what in ((card.classes, "classes"), ([band.name for band in card.bands], "bands")):
        if len(set(names)) != len(names):
            return f"the {what} {', '.join(names)} are not all different"
    if fixed != bool(card.bands):
        return "bands belong to the front end 'bands', and to no other"
    if not fixed and scaling.mode != "none":
        return "a scaling belongs to the front end 'bands', and to no other"
    if any(len(part) != len(card.bands) for part in statistics):
        return f"the scaling has statistics of {len(statistics[0])} bands, and the network has {len(card.bands)}"
    if card.task == "removal":
        return "" if fixed and not card.classes else "removal takes the front end 'bands' and has no classes"
    if card.sar:
        return "radar inputs belong to the task 'removal'"
    if card.partial_inputs or card.marks or card.expected_error:
        return "partial inputs, marks and expected errors belong to the task 'removal'"
    if unknown := [name for name in card.classes if name not in OUTPUT_OF]:
        return f"the classes {', '.join(unknown)} are unknown; known ones are {', '.join(OUTPUT_OF)}"
    if card.tile is not None and card.tile % card.stride:
        return f"the tile of {card.tile} pixels is no multiple of the stride {card.stride}"
    if biases - {len(card.classes)}:
        return f"a calibration has {min(biases)} biases for {len(card.classes)} classes"
    found = {OUTPUT_OF[name] for name in card.classes}
    if card.classes != ("cloud",) and not (0 in found and found & {1, 2}):
        return f"the classes {', '.join(card.classes) or '(none)'} do not tell cloud from clear"
    return ""
