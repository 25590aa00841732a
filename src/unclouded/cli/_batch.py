"""Many scenes: failures are told and counted, never lost, and end the run only if asked to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UncloudedError
from ._talk import Talk, report, report_unexpected

if TYPE_CHECKING:
    from ..batch import Outcome
    from ..options import Options

_LOG = logging.getLogger("unclouded")


def run_batch(
    talk: Talk,
    inputs: Sequence[str],
    output: Path,
    options: Options,
    *,
    jobs: int,
    dask: str | None,
    resources: dict[str, float] | None,
    **settings: Any,
) -> int:
    """Mask scenes, see :func:`unclouded.batch.run`, and tell of each as it is finished.

    Args:
        talk: where to speak.
        inputs: what to mask.
        output: folder of the results.
        options: settings of every scene.
        jobs: worker processes.
        dask: address of a scheduler in place of processes.
        resources: what a task takes of a Dask worker's resources.
        **settings: ``dry_run``, ``fail_fast``, and how to read the inputs.

    Returns:
        Exit code: 0 if all succeeded; the error's own if the only input failed; 1 if any of several did.
    """
    from ..batch import run
    from ..batch_inputs import sources

    found = sources(inputs)
    many = len(found) > 1

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
            percent = outcome.cloud_percent
            cover = "no valid pixel" if percent is None else f"{percent:.1f} % cloud"
            talk.say(f"{outcome.id}: {outcome.status}, {cover}, {outcome.seconds:.1f} s")
            talk.put(outcome.outputs["item"])
        talk.emit(outcome.record())

    with talk.progress(f"{len(found)} scenes" if many else "1 scene") as progress:
        summary = run(
            found, output, options, jobs=jobs, client=dask, resources=resources, on_outcome=tell, progress=progress,
            **settings,
        )  # fmt: skip
    talk.emit({"summary": summary.record()})
    if many:
        told = ", ".join(f"{count} {status}" for status, count in summary.tally.items())
        talk.say(f"{summary.scenes} scenes: {told}.")
        for one in summary.failures:
            talk.say(f"  failed: {one.id or one.source} ({one.stage}): {one.error and one.error.found}")
    return summary.exit_code


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
