"""Options: the settings of one masking run, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .errors import InputError


@dataclass(frozen=True)
class Options:
    """Settings of :func:`unclouded.mask`. The defaults suit a laptop.

    Attributes:
        model: name of a shipped model, or path of a model folder or ``.onnx`` file with its card.
        resolution_m: pixel size of the output in metres; None means the scene's finest grid.
        tile: side of the square window given to the network, in pixels of the model grid, halo included; a scene that
            is up to a quarter larger is not cut. Models that take windows of one size only use their own.
        halo: pixels at each side of a tile that belong to its neighbours; what lies there only gives context, except
            for a quarter over which one tile fades into the next.
        threads: CPU threads of the network; 0 means all cores.
        max_missed_cloud: largest expected share of a scene's cloud that may be missed, 0 to 1. Cloud is then where its
            probability passes the threshold that the model's card has for this bound; the card says for which data
            the bound holds. None means cloud where it is likelier than clear ground and than shadow.
        max_lost_clear: the same for the share of ground free of cloud that may be called cloud.
        probability: also write one probability band per class.
        quicklook: also write a PNG picture of scene and mask.
        polygons: also write outlines of clouds and shadows, ``fgb`` (FlatGeobuf) or ``parquet`` (GeoParquet).
        overwrite: replace existing output.
        resume: keep existing, complete output of the same input, model and options.

    Raises:
        InputError: a value is out of range.

    >>> Options(tile=512).halo
    96
    """

    model: str = "default"
    resolution_m: float | None = None
    tile: int = 1024
    halo: int = 96
    threads: int = 0
    max_missed_cloud: float | None = None
    max_lost_clear: float | None = None
    probability: bool = False
    quicklook: bool = False
    polygons: str | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.tile < 64 or self.tile % 32:
            raise InputError(
                f"The tile size is {self.tile}.",
                expected="It has to be a multiple of 32, and at least 64.",
                remedy="Pass --tile 512 or another multiple of 32.",
            )
        if self.halo < 0 or self.halo % 32 or self.tile - 2 * self.halo < 32:
            raise InputError(
                f"The halo is {self.halo} pixels for tiles of {self.tile}.",
                expected="It has to be a multiple of 32, with 32 pixels or more left between both sides.",
                remedy="Pass a larger --tile, or a smaller --halo.",
            )
        if self.resolution_m is not None and not self.resolution_m > 0:
            raise InputError(
                f"The output resolution is {self.resolution_m} m.",
                expected="It has to be a positive number of metres.",
                remedy="Pass --resolution 10, or leave the option out.",
            )
        if self.threads < 0:
            raise InputError(
                f"The number of threads is {self.threads}.",
                expected="It has to be 0 (all cores) or a positive number.",
                remedy="Leave --threads out to use all cores.",
            )
        for name, share in (("missed cloud", self.max_missed_cloud), ("lost clear ground", self.max_lost_clear)):
            if share is not None and not 0.0 < share < 1.0:
                raise InputError(
                    f"The largest share of {name} is {share}.",
                    expected="It has to lie between 0 and 1.",
                    remedy="Pass for example 0.05 for five percent.",
                )
        if self.max_missed_cloud is not None and self.max_lost_clear is not None:
            raise InputError(
                "Bounds on both missed cloud and lost clear ground were asked for.",
                expected="One threshold can keep one bound.",
                remedy="Pass only one of --max-missed-cloud and --max-lost-clear.",
            )
        if self.polygons not in (None, "fgb", "parquet"):
            raise InputError(
                f"Polygons were asked for as '{self.polygons}'.",
                expected="They are written as fgb (FlatGeobuf) or parquet (GeoParquet).",
                remedy="Pass --polygons fgb, or leave the option out.",
            )
        if self.overwrite and self.resume:
            raise InputError(
                "Both overwrite and resume were asked for.",
                expected="One replaces existing output, the other keeps it.",
                remedy="Pass only one of --overwrite and --resume.",
            )

    def but(self, **changes: Any) -> Self:
        """A copy with some settings changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
