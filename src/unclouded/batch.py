"""Many scenes: one after another, in processes, or on a Dask cluster; each finished, kept or told as failed.

    summary = run("archive/*.SAFE", "out", jobs=4, resume=True)
    summary.done, summary.kept, summary.failures

A scene is one task. Its fingerprint (input, model, options) in the output decides what is done already. The model is
loaded once in every process and never travels. What fails is recorded with its stage and does not end the others; a
process that is killed is replaced, and its scene tried once more.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .batch_inputs import sources
from .batch_task import READING, Outcome, Task
from .batch_workers import workplace
from .errors import InputError, OutputError
from .infer.runner import cores, find_model
from .options import Options
from .write.lock import FolderLock

__all__ = ["READING", "Outcome", "Summary", "Task", "run"]


@dataclass(frozen=True)
class Summary:
    """What became of a batch.

    Attributes:
        outcomes: one for every input that was tried, in the order of the inputs.
        scenes: number of inputs.
        seconds: time that it took.
    """

    outcomes: tuple[Outcome, ...]
    scenes: int
    seconds: float

    @property
    def tally(self) -> dict[str, int]:
        """Number of inputs by status; those that were not tried count as ``not-tried``."""
        out = dict(Counter(one.status for one in self.outcomes))
        if left := self.scenes - len(self.outcomes):
            out["not-tried"] = left
        return out

    @property
    def done(self) -> int:
        """Scenes that were masked."""
        return self.tally.get("done", 0)

    @property
    def kept(self) -> int:
        """Scenes that an earlier run had finished."""
        return self.tally.get("kept", 0)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The inputs that failed."""
        return tuple(one for one in self.outcomes if one.status == "failed")

    @property
    def exit_code(self) -> int:
        """0 if all went well, the error's own code if the only input failed, 1 if any of several did."""
        if not self.failures:
            return 0
        error = self.failures[0].error
        return 1 if self.scenes > 1 or error is None else error.exit_code

    def record(self) -> dict[str, Any]:
        """The summary as plain values for JSON."""
        failures = [
            {"input": one.source, "id": one.id, "stage": one.stage, "error": one.error.found if one.error else ""}
            for one in self.failures
        ]
        return {"scenes": self.scenes, **self.tally, "seconds": round(self.seconds, 3), "failures": failures}


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
    from .api import _options

    begin = time.monotonic()
    reading = {name: changes.pop(name) for name in READING if changes.get(name) is not None}
    options = _options(options, {name: value for name, value in changes.items() if name not in READING})
    if jobs < 0 or (client is not None and jobs > 1):
        raise InputError(
            f"{jobs} worker processes were asked for{' together with Dask' if client is not None else ''}.",
            expected="A positive number of processes on this machine, 0 for one per core, or a Dask cluster.",
            remedy="Pass --jobs 2, or --dask ADDRESS.",
        )
    found = sources(inputs)
    jobs = min(jobs or cores(), len(found))
    if client is None:
        find_model(options.model)
        options = options.but(threads=options.threads or max(1, cores() // jobs))
    folder = Path(output).expanduser()
    lock = None if dry_run else FolderLock(folder)
    outcomes: dict[int, Outcome] = {}
    shares: dict[int, float] = {}

    def tell(number: int, share: float) -> None:
        shares[number] = share
        if progress is not None:
            progress((len(outcomes) + sum(shares.values())) / len(found))

    with nullcontext() if lock is None else lock, workplace(jobs, client, resources, tell) as work:
        claims = None if lock is None else str(lock.claims)
        target = str(folder.absolute()) if client is not None else str(folder)
        tasks = (Task(n, one, target, options, reading, claims, dry_run) for n, one in enumerate(found))
        with closing(work(tasks)) as finished:
            for outcome in finished:
                outcomes[outcome.number] = outcome
                shares.pop(outcome.number, None)
                if on_outcome is not None:
                    on_outcome(outcome)
                tell(outcome.number, 0.0)
                if fail_fast and outcome.status == "failed":
                    break
    checked = [_still_there(outcomes[number]) for number in sorted(outcomes)]
    return Summary(tuple(checked), len(found), time.monotonic() - begin)


def _still_there(outcome: Outcome) -> Outcome:
    """The outcome; failed if the files that it names have vanished since."""
    if outcome.status not in ("done", "kept"):
        return outcome
    gone = [path for path in outcome.outputs.values() if not Path(path).is_file()]
    if not gone:
        return outcome
    error = OutputError(
        f"{gone[0]} was written, and is gone.",
        expected="Nobody removes output while a run writes to its folder.",
        remedy="Run it again with --resume.",
    )
    return replace(outcome, status="failed", error=error, kind="OutputError", stage="check")
