"""One input of a batch: what is to be done, the doing, and what became of it. All of it travels between processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .batch_inputs import title
from .batch_treatments import Treatment
from .errors import OutputError, UncloudedError
from .write.lock import claim, is_claimed


@dataclass(frozen=True)
class Task:
    """One input to be worked on; small, and ready to be sent to another process or machine.

    Attributes:
        number: place of the input in the batch.
        source: anything that the treatment opens.
        output: folder of the results.
        treatment: what is done.
        claims: folder where names are reserved, see :func:`unclouded.write.lock.claim`.
        dry_run: only open the source.
    """

    number: int
    source: Any
    output: str
    treatment: Treatment
    claims: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        number: its place in the batch.
        source: what it is called.
        status: ``done``, ``kept`` (finished by an earlier run), ``planned`` (dry run) or ``failed``.
        id: name of the scene; None if it could not be opened.
        outputs: files by product.
        figures: what was found: ``cloud_percent`` of masks, None where there is no data; ``replaced_percent`` and
            ``pixels`` of removal; ``scenes`` and ``filled_percent`` of composites.
        seconds: time that it took.
        warnings: what may make the result less good than usual.
        error: why it failed.
        kind: name of the error's class.
        stage: where it failed: ``open``, ``mask``, ``remove``, ``composite``, ``write``, ``worker`` (the process
            died) or ``check`` (the files were gone at the end).
        trace: the error's traceback.
    """

    number: int
    source: str
    status: str
    id: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: UncloudedError | None = None
    kind: str = ""
    stage: str = ""
    trace: str = ""

    def record(self) -> dict[str, Any]:
        """The outcome as plain values for JSON."""
        out: dict[str, Any] = {
            "id": self.id,
            "input": self.source,
            "status": self.status,
            "outputs": dict(self.outputs),
            **self.figures,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }
        if self.error is not None:
            parts = {"found": self.error.found, "expected": self.error.expected, "remedy": self.error.remedy}
            out["error"] = {"type": self.kind, "stage": self.stage, **parts}
        return out


def do_task(task: Task, progress: Callable[[float], None] | None = None) -> Outcome:
    """Work on one input of a batch, and tell what became of it.

    Args:
        task: the input.
        progress: called with the share that is done, 0 to 1.

    Returns:
        The outcome; errors are part of it, nothing is raised.
    """
    begin = time.monotonic()
    name, stage, treatment = title(task.source), "open", task.treatment
    out = Outcome(task.number, name, "failed", figures=dict.fromkeys(treatment.figures))
    try:
        opened = treatment.open(task.source)
        out = replace(out, id=opened.id)
        folder = Path(task.output)
        stage = "write"
        again = False
        if task.claims is not None:
            claims = Path(task.claims)
            again = is_claimed(claims, opened.id)
            if not again:  # before the name is claimed: what is there was not made by this run
                treatment.check_free(folder, opened.id)
            claim(claims, opened.id, task.number, name)
            if again and not treatment.options.overwrite:  # a worker died over it, and what it left is in the way
                treatment = treatment.but(resume=True)
        paths = treatment.paths(folder, opened.id)
        if task.dry_run:
            planned = {product: str(path) for product, path in paths.items()}
            out = replace(out, status="planned", outputs=planned, warnings=opened.warnings)
        else:
            stage = treatment.stage
            before = _written(paths["item"])
            made = treatment.run(opened, folder, progress)
            kept = before is not None and _written(paths["item"]) == before
            if again and not task.treatment.options.resume:
                kept = False  # what was kept was made by this run
            out = replace(
                out,
                status="kept" if kept else "done",
                outputs={product: str(path) for product, path in made.outputs.items()},
                figures=made.figures,
                warnings=made.warnings,
            )
    except Exception as err:  # noqa: BLE001  one scene's failure must not end the others
        stage = "write" if isinstance(err, OutputError) else stage
        trace = traceback.format_exc()  # before the causes are taken off
        out = replace(out, error=_told(err), kind=type(err).__name__, stage=stage, trace=trace)
    return replace(out, seconds=time.monotonic() - begin)


def _told(err: Exception) -> UncloudedError:
    """An error in three parts, without the causes: the trace tells them, and not all survive the way back."""
    if isinstance(err, UncloudedError):
        told = err.with_traceback(None)
    elif isinstance(err, MemoryError):
        told = UncloudedError(
            f"Memory was refused: {err or 'nothing more is known'}.",
            expected="A scene needs some hundred megabytes for each worker, by the size of its tiles.",
            remedy="Pass a smaller --tile or fewer --jobs, or use a machine with more memory.",
        )
    else:
        told = UncloudedError(
            f"{type(err).__name__}: {err}",
            expected="This is an error in unclouded, or in a library that it uses.",
            remedy="Run it again with -vv to see where it happened, and report it.",
        )
    told.__cause__ = told.__context__ = None
    return told


def _written(item: Path) -> tuple[int, int] | None:
    """What changes when an item is written anew, None while there is none."""
    try:
        stat = item.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
