"""The running of a batch, whatever is done to its inputs: lock, workers, outcomes, summary."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .batch_task import Outcome, Task
from .batch_treatments import Treatment
from .batch_workers import workplace
from .errors import InputError, OutputError
from .infer.runner import cores, find_model
from .write.lock import FolderLock


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
        """Inputs that were worked on."""
        return self.tally.get("done", 0)

    @property
    def kept(self) -> int:
        """Inputs that an earlier run had finished."""
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


def treat(
    found: Sequence[Any],
    output: str | os.PathLike[str],
    treatment: Treatment,
    *,
    jobs: int = 1,
    client: Any = None,
    resources: Mapping[str, float] | None = None,
    dry_run: bool = False,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    progress: Callable[[float], None] | None = None,
    lock: FolderLock | None = None,
) -> Summary:
    """Do something to many inputs, with the results in one folder.

    Args:
        found: the inputs, one of which or more there are.
        output: folder of the results.
        treatment: what is done.
        jobs, client, resources, dry_run, fail_fast, on_outcome, progress: see :func:`unclouded.batch.run`.
        lock: that of the folder where the caller has it already.

    Returns:
        The outcomes. Inputs that fail do not raise.

    Raises:
        UncloudedError: see :func:`unclouded.batch.run`.
    """
    begin = time.monotonic()
    if jobs < 0 or (client is not None and jobs > 1):
        raise InputError(
            f"{jobs} worker processes were asked for{' together with Dask' if client is not None else ''}.",
            expected="A positive number of processes on this machine, 0 for one per core, or a Dask cluster.",
            remedy="Pass --jobs 2, or --dask ADDRESS.",
        )
    jobs = min(jobs or cores(), len(found))
    if client is None:
        for name in treatment.models():
            find_model(name)
        treatment = treatment.but(threads=treatment.options.threads or max(1, cores() // jobs))
    folder = Path(output).expanduser()
    outcomes: dict[int, Outcome] = {}
    shares: dict[int, float] = {}

    def tell(number: int, share: float) -> None:
        shares[number] = share
        if progress is not None:
            progress((len(outcomes) + sum(shares.values())) / len(found))

    own = FolderLock(folder) if lock is None and not dry_run else None
    with nullcontext() if own is None else own, workplace(jobs, client, resources, tell) as work:
        held = own or lock
        claims = None if held is None else str(held.claims)
        target = str(folder.absolute()) if client is not None else str(folder)
        tasks = (Task(n, one, target, treatment, claims, dry_run) for n, one in enumerate(found))
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
