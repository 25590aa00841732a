"""Many scenes: failures are told and counted, never lost, and end the run only if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ..errors import UncloudedError
from ._talk import Talk, report, report_unexpected

if TYPE_CHECKING:
    from ..batch import Outcome, Summary

_Function = TypeVar("_Function", bound=Callable[..., Any])


def batch_options(function: _Function) -> _Function:
    """Add the options that say where and how many inputs are worked on, as the argument ``way``."""

    @wraps(function)
    def gathered(*args: Any, **settings: Any) -> Any:
        way = {name: settings.pop(name) for name in ("dry_run", "fail_fast", "jobs", "dask", "dask_resources")}
        alone = way["dask"] is None
        if way["jobs"] < 0 or (not alone and way["jobs"] != 1) or (way["dask_resources"] is not None and alone):
            raise click.UsageError(
                "--jobs is not negative, stands without --dask, and --dask-resources with it.",
                click.get_current_context(),
            )
        way["client"], way["resources"] = way.pop("dask"), way.pop("dask_resources")
        return function(*args, way=way, **settings)

    for decorate in reversed(
        (
            click.option("--overwrite", is_flag=True, help="Replace existing output."),
            click.option("--resume", is_flag=True, help="Keep output that is complete and was made by the same run."),
            click.option("--dry-run", is_flag=True, help="Only open the inputs and say what would be written."),
            click.option("--fail-fast", is_flag=True, help="Stop at the first scene that fails."),
            click.option(
                "--jobs",
                default=1,
                show_default=True,
                metavar="N",
                help="Worker processes; they share the cores. 0: one per core.",
            ),
            click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster whose workers do the work."),
            click.option(
                "--dask-resources",
                callback=_parse_resources,
                metavar="NAME=COUNT,...",
                help="What a scene takes of a Dask worker's resources, e.g. GPU=1.",
            ),
        )
    ):
        gathered = decorate(gathered)
    return cast(_Function, gathered)


def _parse_resources(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, float] | None:
    """``GPU=1,MEMORY=2e9`` as a mapping."""
    if value is None:
        return None
    out: dict[str, float] = {}
    for part in value.split(","):
        name, _, count = part.partition("=")
        try:
            out[name.strip()] = float(count)
        except ValueError as err:
            raise click.BadParameter(f"'{part}' is not of the form name=count.", ctx, param) from err
    return out


def run_batch(
    talk: Talk, task: str, many: bool, work: Callable[..., Summary], told: Callable[[Mapping[str, Any]], str]
) -> int:
    """Do a batch, and tell of each outcome as it comes.

    Args:
        talk: where to speak.
        task: title of the bar of progress.
        many: whether there are several inputs, which messages then name.
        work: does it; takes ``on_outcome`` and ``progress``, see :func:`unclouded.batch.run`.
        told: what to say of an outcome's figures.

    Returns:
        Exit code: 0 if all succeeded; the error's own if the only input failed; 1 if any of several did.
    """

    def tell(outcome: Outcome) -> None:
        if outcome.error is not None:
            if outcome.trace:
                outcome.error.add_note(outcome.trace.rstrip())
            report(outcome.error, talk, outcome.source if many else "")
        elif outcome.status == "planned":
            for path in outcome.outputs.values():
                talk.put(path)
        else:
            for warning in outcome.warnings:
                talk.say(f"warning: {outcome.id}: {warning}")
            talk.say(f"{outcome.id}: {outcome.status}, {told(outcome.figures)}, {outcome.seconds:.1f} s")
            talk.put(outcome.outputs["item"])
        talk.emit(outcome.record())

    with talk.progress(task) as progress:
        summary = work(on_outcome=tell, progress=progress)
    talk.emit({"summary": summary.record()})
    if many or summary.scenes > 1:
        counted = ", ".join(f"{count} {status}" for status, count in summary.tally.items())
        talk.say(f"{summary.scenes} {task.split()[-1]}: {counted}.")
        for one in summary.failures:
            talk.say(f"  failed: {one.id or one.source} ({one.stage}): {one.error and one.error.found}")
    return summary.exit_code


def counted(found: Sequence[Any], what: str) -> str:
    """Number of things, with their name.

    >>> counted([1, 2], "scene")
    '2 scenes'
    """
    return f"{len(found)} {what}{'s' * (len(found) != 1)}"


def percent(share: float | None, of: str) -> str:
    """A share for people, and what it is a share of.

    >>> percent(12.34, "cloud"), percent(None, "cloud")
    ('12.3 % cloud', 'no valid pixel')
    """
    return "no valid pixel" if share is None else f"{share:.1f} % {of}"


def run_each(
    talk: Talk, inputs: Sequence[str], work: Callable[[str], dict[str, Any]], *, fail_fast: bool = False
) -> int:
    """Do some work for every input.

    Args:
        talk: where to speak.
        inputs: the inputs.
        work: does the work for one input and returns its record for ``--json``, with the key ``status``.
        fail_fast: stop at the first failure.

    Returns:
        Exit code: 0 if all succeeded; the error's own if the only input failed; 1 if any of several did.
    """
    begin = time.monotonic()
    failures: list[tuple[str, str, int]] = []
    tally: dict[str, int] = {}
    for number, source in enumerate(inputs):
        start = time.monotonic()
        try:
            record = work(source)
        except UncloudedError as err:
            report(err, talk, source if len(inputs) > 1 else "")
            failures.append((source, err.found, err.exit_code))
            record = failed(source, err, time.monotonic() - start)
        except Exception as err:  # noqa: BLE001  one scene's failure must not end the others
            report_unexpected(err, talk, source if len(inputs) > 1 else "")
            failures.append((source, f"{type(err).__name__}: {err}", 1))
            record = failed(source, err, time.monotonic() - start)
        tally[record["status"]] = tally.get(record["status"], 0) + 1
        talk.emit(record)
        if failures and fail_fast:
            if left := len(inputs) - number - 1:
                tally["not-tried"] = left
            break
    summary: dict[str, Any] = {"scenes": len(inputs), **tally, "seconds": round(time.monotonic() - begin, 3)}
    summary["failures"] = [{"input": source, "error": found} for source, found, _ in failures]
    talk.emit({"summary": summary})
    if len(inputs) > 1:
        told = ", ".join(f"{count} {status}" for status, count in tally.items())
        talk.say(f"{len(inputs)} scenes: {told}.")
        for source, found, _ in failures:
            talk.say(f"  failed: {source}: {found}")
    if not failures:
        return 0
    return failures[0][2] if len(inputs) == 1 else 1


def failed(source: str, err: Exception, seconds: float) -> dict[str, Any]:
    """Record of an input that failed."""
    parts = {"type": type(err).__name__, "found": str(err), "expected": "", "remedy": ""}
    if isinstance(err, UncloudedError):
        parts |= {"found": err.found, "expected": err.expected, "remedy": err.remedy}
    return {
        "id": None,
        "input": source,
        "status": "failed",
        "outputs": {},
        "cloud_percent": None,
        "seconds": round(seconds, 3),
        "warnings": [],
        "error": parts,
    }
