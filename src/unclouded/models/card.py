"""ModelCard: what a set of weights is, what it was trained on, and what it must not be used for.

The card is a JSON file beside the weights, and travels inside them too (safetensors metadata, ONNX metadata
under the key ``card``). No torch here: the base install reads cards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ModelError


class Strict(BaseModel):
    """Base of the card's parts: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    ``logits / temperature + bias`` goes into the softmax; biases are in the order of the seven classes.
    """

    temperature: float = Field(default=1.0, gt=0)
    bias: tuple[float, ...] = (0.0,) * 7
    fitted_on: str = ""
    expected_calibration_error: float | None = None


class ModelCard(Strict):
    """Everything needed to run a model, and to decide whether to.

    Attributes:
        front_end: ``slots`` or ``senseiv2``: which descriptors the network takes.
        encoding: wavelength encoding of SEnSeI-v2 descriptors.
        percentiles: whether scene percentiles follow the descriptors.
        grid_m: finest pixel size that the network is run at; finer scenes are read at this size.
        coarsest_m: coarsest pixel size seen in training; beyond it a warning is raised.
        stride: the network's sides have to be multiples of this.
        leave_out: common names of bands that the network is not given.
    """

    name: str
    title: str
    version: str
    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)
    front_end: Literal["slots", "senseiv2"]
    encoding: Literal["nm", "log", "log-literal"] = "log"
    percentiles: bool = False
    grid_m: float = 20.0
    coarsest_m: float = 60.0
    stride: int = 32
    leave_out: tuple[str, ...] = ()
    classes: tuple[str, ...]
    calibration: dict[str, Calibration] = Field(default_factory=dict)
    training: tuple[TrainingSource, ...] = ()
    figures: tuple[Figure, ...] = ()
    limits: tuple[str, ...] = ()
    licence: str
    parameters: int
    sha256: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> ModelCard:
        """Read and check a card.

        Raises:
            ModelError: the file is missing, not JSON, or does not follow the schema.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as err:
            raise ModelError(
                f"The model card {path} cannot be read: {err.strerror or err}.",
                expected="Every model comes with a card, a JSON file beside its weights.",
                remedy="See the shipped models: unclouded models list",
            ) from err
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ModelError(
                f"The model card {path} is not valid: {where}: {first['msg']}.",
                expected="A card follows the schema of unclouded.models.card.ModelCard.",
                remedy="Export the model again, or correct the card.",
            ) from err

    def save(self, path: Path) -> None:
        """Write the card as indented JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")

    def calibration_for(self, level: str) -> Calibration:
        """Calibration of a radiometric level, or the one named ``default``, or none at all."""
        return self.calibration.get(level) or self.calibration.get("default") or Calibration()
