"""Many scenes: one after another, in processes, or on a Dask cluster; each finished, kept or told as failed.

    summary = run("archive/*.SAFE", "out", jobs=4, resume=True)
    summary.done, summary.kept, summary.failures

An input is one task. Its fingerprint (input, model, options) in the output decides what is done already. The model is
loaded once in every process and never travels. What fails is recorded with its stage and does not end the others; a
process that is killed is replaced, and its input tried once more.

:func:`run` masks. :func:`remove` and :func:`composite` do what their name says; both need masks of every scene, which
are made first, each once, in the folder ``masks`` of the output, and stay there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .batch_inputs import sources, title
from .batch_run import Summary, treat
from .batch_task import Outcome, Task
from .batch_treatments import Compositing, Dates, Masking, Removing
from .composite_stack import mask_options
from .errors import InputError, UncloudedError
from .options import Options
from .remove_options import RemoveOptions
from .write.lock import FolderLock

if TYPE_CHECKING:
    from .infer.composites import Method
    from .scene import Scene

__all__ = ["PERIODS", "READING", "Outcome", "Summary", "Task", "composite", "remove", "run"]

READING = ("sensor", "bands", "scale", "offset", "nodata", "level")
"""Names of the arguments that say how to read a source, see :func:`unclouded.open_scene`."""

PERIODS = {"year": 4, "month": 7, "day": 10}
"""What composites can be made by, beside tiles, and how much of the time (ISO 8601) tells one from the next."""

MASKS = "masks"
"""Folder in the output for the masks that removal and composites need."""

_MASK_SHARE = 0.6
"""Of the progress that is told, where masks are made first."""


def run(
    inputs: Any,
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    jobs: int = 1,
    client: Any = None,
    resources: Mapping[str, float] | None = None,
    dry_run: bool = False,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: Callable[[float], None] | None = None,
    **changes: Any,
) -> Summary:
    """Mask many scenes into one folder.

    One run at a time works in a folder: the lock ``.unclouded.lock`` keeps others out. Scripts that set ``jobs`` need
    ``if __name__ == "__main__":`` around the call, as all do that start processes with multiprocessing.

    Args:
        inputs: what to mask, see :func:`unclouded.batch_inputs.sources`.
        output: folder of the results.
        options: settings of every scene; ``resume=True`` keeps what is finished. ``threads`` counts for each worker:
            0 shares the cores of this machine among ``jobs``, and means one thread for a task on Dask.
        jobs: worker processes; 1 works in this process, 0 takes one for each core.
        client: a ``distributed.Client``, or the address of a scheduler. The scenes then go to its workers, which see
            inputs, output and model under the same paths.
        resources: what a task takes of a Dask worker's resources, e.g. ``{"GPU": 1}``.
        dry_run: only open the inputs and say what would be written.
        fail_fast: start no further scene after the first failure.
        on_outcome: called in this process with each outcome, as it comes.
        progress: called with the share of the batch that is done, 0 to 1.
        **changes: single options, and how to read the inputs: see :data:`READING`.

    Returns:
        The outcomes. Scenes that fail do not raise.

    Raises:
        InputError: there is no input, or an option cannot be used.
        ModelError: there is no such model.
        OutputError: the folder cannot be written to, or another run is writing to it.
        MissingDependencyError: ``client`` was given, and Dask is not installed.

    Example:
        summary = unclouded.batch.run("archive/*.SAFE", "out", jobs=4, resume=True)
        for failure in summary.failures:
            log.warning("%s: %s: %s", failure.source, failure.stage, failure.error)
    """
    options, reading = _settings(options or Options(), changes)
    return treat(
        sources(inputs), output, Masking(options, reading), jobs=jobs, client=client, resources=resources,
        dry_run=dry_run, fail_fast=fail_fast, on_outcome=on_outcome, progress=progress,
    )  # fmt: skip


def remove(
    inputs: Any,
    output: str | os.PathLike[str],
    options: RemoveOptions | None = None,
    *,
    history: Any = (),
    sar: Any = None,
    sar_unit: Literal["decibel", "power"] = "decibel",
    mask: Any = None,
    history_masks: Sequence[Any] = (),
    masks: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    client: Any = None,
    resources: Mapping[str, float] | None = None,
    dry_run: bool = False,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: Callable[[float], None] | None = None,
    **changes: Any,
) -> Summary:
    """Remove the clouds of many scenes.

    Args:
        inputs: scenes, see :func:`unclouded.batch_inputs.sources`.
        output: folder of the results.
        options: settings of every scene.
        history: other dates, given as inputs are. They serve every scene, and no scene is its own other date: the
            scenes of a series may all be given here as well.
        sar: radar image for all scenes.
        sar_unit: what backscatter is stored as.
        mask, history_masks: masks of the scene and of the other dates, where there is one scene only.
        masks: folder with the output of ``unclouded mask`` for scenes and other dates. None makes them: for several
            scenes in ``masks`` below the output, with the same workers; for one in memory.
        jobs, client, resources, dry_run, fail_fast, on_outcome, progress: see :func:`run`.
        **changes: single options, and how to read the inputs: see :data:`READING`.

    Returns:
        The outcomes. Scenes that fail do not raise. An other date that is an input too and cannot be masked is
        missing from the others' dates; the next run with ``resume`` makes these again once it can.

    Raises:
        UncloudedError: as :func:`run`; or an other date that is no input cannot be masked.

    Example:
        series = "S2*_T32TPT_*.SAFE"
        summary = unclouded.batch.remove(series, "out", history=series, model="none", jobs=4, resume=True)
    """
    begin = time.monotonic()
    options, reading = _settings(options or RemoveOptions(), changes)
    found = sources(inputs)
    dates = sources(history) if _is_given(history) else []
    several = len(found) > 1
    if (several or masks is not None) and (mask is not None or history_masks):
        raise InputError(
            f"Single masks were given for {len(found)} scenes." if several else "Masks were given twice.",
            expected="Masks of several scenes lie in one folder, as 'unclouded mask' writes them.",
            remedy="Pass that folder with --masks.",
        )
    how: dict[str, Any] = {"jobs": jobs, "client": client, "resources": resources, "fail_fast": fail_fast}
    treatment = Removing(
        options, reading, tuple(dates), sar, sar_unit, mask, tuple(history_masks),
        None if masks is None else str(Path(masks).expanduser().absolute()),
    )  # fmt: skip
    if not several or masks is not None or dry_run:
        return treat(
            found, output, treatment, dry_run=dry_run, on_outcome=on_outcome, progress=progress, **how
        )
    with FolderLock(Path(output).expanduser()) as lock:
        wanted = {_key(one): one for one in (*found, *dates)}
        masking = Masking(Options(model=options.mask_model, threads=options.threads), reading)
        made, failed = _masks(wanted, lock.folder, masking, how, progress)
        if lost := [one for one in dates if _key(one) in failed and _key(one) not in map(_key, found)]:
            error = failed[_key(lost[0])].error
            assert error is not None
            raise error
        kept = tuple(one for one in dates if _key(one) not in failed)
        treatment = replace(treatment, history=kept, masks=str(made))
        return _rest(found, lambda one: failed.get(_key(one)), lock, treatment, how, on_outcome, progress, begin)


def composite(
    inputs: Any,
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    name: str = "composite",
    by: Iterable[str] = (),
    method: Method = "median",
    masks: str | os.PathLike[str] | None = None,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    buffer: int = 2,
    jobs: int = 1,
    client: Any = None,
    resources: Mapping[str, float] | None = None,
    dry_run: bool = False,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: Callable[[float], None] | None = None,
    **changes: Any,
) -> Summary:
    """Make composites of many scenes: one, or one for each tile and period.

    Args:
        inputs: scenes, see :func:`unclouded.batch_inputs.sources`.
        output: folder of the results.
        options: settings of the masks that are made, and ``overwrite`` and ``resume``.
        name: name of the composite; tile and period follow it.
        by: what composites are made for: ``tile``, and one of :data:`PERIODS`. Empty makes one of all scenes.
        method, bands, target, buffer: see :func:`unclouded.composite`.
        masks: folder with the output of ``unclouded mask`` for all scenes. None makes them in ``masks`` below the
            output.
        jobs, client, resources, dry_run, fail_fast, on_outcome, progress: see :func:`run`.
        **changes: single options, and how to read the inputs (all of :data:`READING` but ``bands``).

    Returns:
        One outcome for every composite, and one for every scene that could not be opened. A composite one of whose
        scenes cannot be opened or masked is not made.

    Raises:
        UncloudedError: as :func:`run`; or ``by`` is impossible.

    Example:
        unclouded.batch.composite("archive/*.SAFE", "out", by=("tile", "month"), method="geomedian", jobs=4)
    """
    begin = time.monotonic()
    options, reading = _settings(options or Options(), changes)
    how: dict[str, Any] = {"jobs": jobs, "client": client, "resources": resources, "fail_fast": fail_fast}
    treatment = Compositing(
        options, reading, None if masks is None else str(Path(masks).expanduser().absolute()), method,
        None if bands is None else tuple(bands), target, buffer,
    )  # fmt: skip
    groups, unread = _grouped(sources(inputs), treatment, name, tuple(by))
    if masks is not None or dry_run:
        return _rest(groups, unread.get, None, treatment, how, on_outcome, progress, begin, output, dry_run)
    with FolderLock(Path(output).expanduser()) as lock:
        readable = [one for one in groups if one not in unread]
        wanted = {_key(one): one for group in readable for one in group.sources}
        failed: dict[str, Outcome] = {}
        if wanted:
            masking = Masking(mask_options(options, method), reading)
            made, failed = _masks(wanted, lock.folder, masking, how, progress)
            treatment = replace(treatment, masks=str(made))

        def lost(group: Dates) -> Outcome | None:
            gone = [failed[_key(one)] for one in group.sources if _key(one) in failed]
            return unread.get(group) or (_without(group, gone) if gone else None)

        return _rest(groups, lost, lock, treatment, how, on_outcome, progress, begin)


def _masks(
    wanted: Mapping[str, Any],
    output: Path,
    masking: Masking,
    how: Mapping[str, Any],
    progress: Callable[[float], None] | None,
) -> tuple[Path, dict[str, Outcome]]:
    """Mask scenes that the actual work needs masked: the folder, and those that failed."""
    told = None if progress is None else lambda share: progress(_MASK_SHARE * share)
    folder = output.absolute() / MASKS
    summary = treat(list(wanted.values()), folder, masking.but(resume=True), progress=told, **how)
    keys = list(wanted)
    return folder, {keys[one.number]: one for one in summary.failures}


def _rest(
    found: Sequence[Any],
    lost: Callable[[Any], Outcome | None],
    lock: FolderLock | None,
    treatment: Removing | Compositing,
    how: Mapping[str, Any],
    on_outcome: Callable[[Outcome], None] | None,
    progress: Callable[[float], None] | None,
    begin: float,
    output: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> Summary:
    """What is left to do when some inputs have failed already; all of them are told, under their own numbers."""
    outcomes: dict[int, Outcome] = {}
    for number, one in enumerate(found):
        if (failed := lost(one)) is not None:
            empty = dict.fromkeys(treatment.figures)
            outcomes[number] = replace(failed, number=number, source=title(one), figures=empty, outputs={})
    numbers = [number for number in range(len(found)) if number not in outcomes]

    def tell(outcome: Outcome) -> None:
        number = numbers[outcome.number]
        outcomes[number] = replace(outcome, number=number)
        if on_outcome is not None:
            on_outcome(outcomes[number])

    if on_outcome is not None:
        for outcome in outcomes.values():
            on_outcome(outcome)
    stop = bool(outcomes) and how["fail_fast"]
    if numbers and not stop:
        told = None if progress is None else lambda share: progress(_MASK_SHARE + (1 - _MASK_SHARE) * share)
        folder = output if lock is None else lock.folder
        assert folder is not None
        summary = treat(
            [found[number] for number in numbers], folder, treatment, dry_run=dry_run, lock=lock, on_outcome=tell,
            progress=told, **how,
        )  # fmt: skip
        outcomes |= {numbers[one.number]: replace(one, number=numbers[one.number]) for one in summary.outcomes}
    return Summary(tuple(outcomes[number] for number in sorted(outcomes)), len(found), time.monotonic() - begin)


def _grouped(
    found: Sequence[Any], treatment: Compositing, name: str, by: tuple[str, ...]
) -> tuple[list[Dates], dict[Dates, Outcome]]:
    """The composites that scenes make; a scene that cannot be opened stands for itself, with what is wrong."""
    periods = [one for one in by if one in PERIODS]
    if len(periods) > 1 or any(one not in (*PERIODS, "tile") for one in by):
        raise InputError(
            f"Composites by {', '.join(by)} were asked for.",
            expected=f"By tile, by one of {', '.join(PERIODS)}, or by both.",
            remedy="Pass for example --by tile --by month.",
        )
    groups: dict[str, list[Any]] = {}
    unread: dict[Dates, Outcome] = {}
    if not by:
        return [Dates(name, tuple(found))], {}
    for source in found:
        try:
            scene = treatment.scene(source)
            parts = [_tile(scene)] if "tile" in by else []
            parts += [_period(scene, periods[0])] if periods else []
        except UncloudedError as err:
            alone = Dates(title(source), (source,))
            unread[alone] = Outcome(0, title(source), "failed", error=err, kind=type(err).__name__, stage="open")
            continue
        groups.setdefault("_".join([name, *parts]), []).append(source)
    return [*(Dates(one, tuple(groups[one])) for one in sorted(groups)), *unread], unread


def _without(group: Dates, gone: Sequence[Outcome]) -> Outcome:
    """What becomes of a composite when scenes of it have failed."""
    first = gone[0].error
    assert first is not None
    told = "" if len(gone) == 1 else f" {len(gone)} of its {len(group.sources)} scenes failed."
    error = type(first)(f"{gone[0].source}: {first.found}{told}", expected=first.expected, remedy=first.remedy)
    return replace(gone[0], id=group.id, error=error)


def _tile(scene: Scene) -> str:
    """Name of the place: that of Sentinel-2's or Landsat's grid, or else of the corner of the image."""
    properties = scene.properties
    if "tile" in properties:
        return str(properties["tile"])
    if "wrs_path" in properties and "wrs_row" in properties:
        return f"{properties['wrs_path']:03d}{properties['wrs_row']:03d}"
    code = None if scene.geobox.crs is None else scene.geobox.crs.epsg
    return f"{code or 'grid'}-{round(scene.geobox.affine.c)}-{round(scene.geobox.affine.f)}"


def _period(scene: Scene, period: str) -> str:
    if scene.datetime is None:
        raise InputError(
            f"The time of '{scene.id}' is not known.",
            expected=f"Composites by {period} need the time of every scene.",
            remedy="Leave the scene out, or --by.",
        )
    return scene.datetime[: PERIODS[period]]


def _settings(options: Any, changes: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Options with changes, and how inputs are read."""
    reading = {name: changes[name] for name in READING if changes.get(name) is not None}
    single = {name: value for name, value in changes.items() if name not in READING}
    known = [one.name for one in fields(options)]
    if unknown := [name for name in single if name not in known]:
        raise InputError(
            f"There is no option called {', '.join(map(repr, unknown))}.",
            expected=f"Options are {', '.join(known)}.",
            remedy="Correct the name.",
        )
    return options.but(**single), reading


def _is_given(history: Any) -> bool:
    return isinstance(history, (str, os.PathLike, Mapping)) or not isinstance(history, Sequence) or len(history) > 0


def _key(source: Any) -> str:
    """The same for sources that are the same."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return json.dumps(source, sort_keys=True, default=id)
