"""What a batch does to each of its inputs: mask it, remove its clouds, or make one clear image of several.

A treatment holds all settings, is small, and travels to the process or machine that does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from .infer.runner import shipped
from .options import Options
from .remove_options import NONE, RemoveOptions

if TYPE_CHECKING:
    from .infer.composites import Method
    from .scene import Scene

Progress = Callable[[float], None]


class Named(Protocol):
    """What an input becomes when it is opened."""

    @property
    def id(self) -> str:
        """First part of the names of its output."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is suspicious about it."""
        ...


@dataclass(frozen=True)
class Made:
    """What came of one input: files by product, figures for the record, and what may make it less good than usual."""

    outputs: Mapping[str, Path]
    figures: Mapping[str, Any]
    warnings: tuple[str, ...]


class Treatment(Protocol):
    """What is done to each input.

    Attributes:
        stage: what it is called in records of failures.
        options: settings that have ``threads``, ``overwrite`` and ``resume``.
        figures: names of the figures of :class:`Made`.
    """

    stage: ClassVar[str]
    figures: ClassVar[tuple[str, ...]]

    @property
    def options(self) -> Any: ...

    def but(self, **changes: Any) -> Treatment:
        """The same with some options changed."""
        ...

    def models(self) -> tuple[str, ...]:
        """Models that it needs."""
        ...

    def open(self, source: Any) -> Named:
        """Open an input. Raises what :func:`unclouded.open_scene` raises."""
        ...

    def paths(self, folder: Path, name: str) -> dict[str, Path]:
        """Files that it makes; the ``item``, which says that all is done, comes last."""
        ...

    def check_free(self, folder: Path, name: str) -> None:
        """Raise OutputError where files are in the way."""
        ...

    def run(self, opened: Any, folder: Path, progress: Progress | None) -> Made:
        """Do it, or keep what is done already."""
        ...


@dataclass(frozen=True)
class Masking:
    """Find clouds and shadows: :func:`unclouded.mask`.

    Attributes:
        options: settings of every scene.
        reading: how sources are read, see :func:`unclouded.open_scene`.
    """

    stage: ClassVar[str] = "mask"
    figures: ClassVar[tuple[str, ...]] = ("cloud_percent",)
    options: Options = field(default_factory=Options)
    reading: Mapping[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Masking:
        """See :class:`Treatment`; so for all methods."""
        return replace(self, options=self.options.but(**changes))

    def models(self) -> tuple[str, ...]:
        return (self.options.model,)

    def open(self, source: Any) -> Scene:
        from .readers import open_scene

        return open_scene(source, resolution_m=self.options.resolution_m, **self.reading)

    def paths(self, folder: Path, name: str) -> dict[str, Path]:
        from .write.resume import output_paths

        return output_paths(folder, name, self.options)

    def check_free(self, folder: Path, name: str) -> None:
        from .write.resume import plan_outputs

        plan_outputs(folder, name, "", self.options)

    def run(self, opened: Scene, folder: Path, progress: Progress | None) -> Made:
        from .api import mask

        result = mask(opened, self.options, output=folder, progress=progress)
        return Made(result.outputs, {"cloud_percent": result.cloud_percent}, result.warnings)


@dataclass(frozen=True)
class Removing:
    """Remove clouds and shadows: :func:`unclouded.remove`.

    Attributes:
        options: settings of every scene.
        reading: how scenes and other dates are read.
        history: other dates, of all scenes; a scene is not its own other date.
        sar: radar image of the scenes, or None.
        sar_unit: what backscatter is stored as.
        mask: mask of the scene, where there is one scene.
        history_masks: masks of the other dates, in their order.
        masks: folder with masks of scenes and other dates, in place of the two before.
    """

    stage: ClassVar[str] = "remove"
    figures: ClassVar[tuple[str, ...]] = ("replaced_percent", "pixels")
    options: RemoveOptions = field(default_factory=RemoveOptions)
    reading: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Any, ...] = ()
    sar: Any = None
    sar_unit: Literal["decibel", "power"] = "decibel"
    mask: Any = None
    history_masks: tuple[Any, ...] = ()
    masks: str | None = None

    def but(self, **changes: Any) -> Removing:
        return replace(self, options=self.options.but(**changes))

    def models(self) -> tuple[str, ...]:
        wanted = self.options.model
        # The default need not be installed: other dates may do.
        optional = wanted == NONE or (wanted == RemoveOptions.model and wanted not in shipped())
        return (self.options.mask_model, *(() if optional else (wanted,)))

    def open(self, source: Any) -> Scene:
        from .readers import open_scene

        return open_scene(source, **self.reading)

    def paths(self, folder: Path, name: str) -> dict[str, Path]:
        from .removal import removal_paths

        return removal_paths(folder, name, quicklook=self.options.quicklook)

    def check_free(self, folder: Path, name: str) -> None:
        _check_free(self, folder, name)

    def run(self, opened: Scene, folder: Path, progress: Progress | None) -> Made:
        from .removal import remove

        opened_dates = [self.open(one) for one in self.history]
        kept = [n for n, date in enumerate(opened_dates) if date.id != opened.id]
        dates = [opened_dates[n] for n in kept]
        mask, masks = self.mask, [self.history_masks[n] for n in kept] if self.history_masks else None
        if self.masks is not None:
            mask, *masks = [Path(self.masks) / f"{one.id}_mask.tif" for one in (opened, *dates)]
        result = remove(
            opened, self.options, sar=self.sar, sar_unit=self.sar_unit, history=dates, mask=mask,
            history_masks=masks, output=folder, progress=progress,
        )  # fmt: skip
        figures = {"replaced_percent": result.replaced_percent, "pixels": dict(result.counts)}
        return Made(result.outputs, figures, result.warnings)


@dataclass(frozen=True)
class Dates:
    """Several scenes that become one image.

    Attributes:
        id: name of the image.
        sources: the scenes.
    """

    id: str
    sources: tuple[Any, ...]
    warnings: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Compositing:
    """Make one clear image of many dates: :func:`unclouded.composite`. Its inputs are :class:`Dates`.

    Attributes:
        options: settings of masks that have to be made, and what becomes of existing files.
        reading: how sources are read.
        masks: folder with a mask of every scene; None makes them.
        method, bands, target, buffer: see :func:`unclouded.composite`.
    """

    stage: ClassVar[str] = "composite"
    figures: ClassVar[tuple[str, ...]] = ("scenes", "filled_percent")
    options: Options = field(default_factory=Options)
    reading: Mapping[str, Any] = field(default_factory=dict)
    masks: str | None = None
    method: Method = "median"
    bands: tuple[str, ...] | None = None
    target: str | None = None
    buffer: int = 2

    def but(self, **changes: Any) -> Compositing:
        return replace(self, options=self.options.but(**changes))

    def models(self) -> tuple[str, ...]:
        return (self.options.model,) if self.masks is None else ()

    def open(self, source: Dates) -> Dates:
        return source

    def paths(self, folder: Path, name: str) -> dict[str, Path]:
        from .write.composite import paths_of

        return paths_of(folder, name)

    def check_free(self, folder: Path, name: str) -> None:
        _check_free(self, folder, name)

    def run(self, opened: Dates, folder: Path, progress: Progress | None) -> Made:
        from .compositing import composite

        made = composite(
            [self.scene(one) for one in opened.sources], method=self.method, masks=self.masks, bands=self.bands,
            target=self.target, buffer=self.buffer, output=folder, name=opened.id, options=self.options,
            overwrite=self.options.overwrite, resume=self.options.resume, progress=progress,
        )  # fmt: skip
        return Made(made.outputs, {"scenes": list(made.scenes), "filled_percent": made.filled_percent}, ())

    def scene(self, source: Any) -> Scene:
        """Open one of the dates."""
        from .readers import open_scene

        return open_scene(source, **self.reading)


def _check_free(treatment: Removing | Compositing, folder: Path, name: str) -> None:
    from .write.resume import plan_files

    paths, options = treatment.paths(folder, name), treatment.options
    plan_files(folder, name, paths, list(paths.values()), "", overwrite=options.overwrite, resume=options.resume)
