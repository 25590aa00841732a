"""One scene of a batch: what is to be done, the doing, and what became of it. All of it travels between processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .batch_inputs import title
from .errors import OutputError, UncloudedError
from .options import Options
from .write.lock import claim, is_claimed

if TYPE_CHECKING:
    from .scene import Scene

READING = ("sensor", "bands", "scale", "offset", "nodata", "level")
"""Names of the arguments that say how to read a source, see :func:`unclouded.open_scene`."""


@dataclass(frozen=True)
class Task:
    """One scene to be masked; small, and ready to be sent to another process or machine.

    Attributes:
        number: place of the input in the batch.
        source: anything that :func:`unclouded.open_scene` takes.
        output: folder of the results.
        options: settings.
        reading: how the source is read, see :data:`READING`.
        claims: folder where names are reserved, see :func:`unclouded.write.lock.claim`.
        dry_run: only open the source.
    """

    number: int
    source: Any
    output: str
    options: Options
    reading: Mapping[str, Any] = field(default_factory=dict)
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
        cloud_percent: share of cloud among the pixels with data; None where there are none.
        seconds: time that it took.
        warnings: what may make the result less good than usual.
        error: why it failed.
        kind: name of the error's class.
        stage: where it failed: ``open``, ``mask``, ``write``, ``worker`` (the process died) or ``check`` (the files
            were gone at the end).
        trace: the error's traceback.
    """

    number: int
    source: str
    status: str
    id: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    cloud_percent: float | None = None
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
            "cloud_percent": self.cloud_percent,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }
        if self.error is not None:
            parts = {"found": self.error.found, "expected": self.error.expected, "remedy": self.error.remedy}
            out["error"] = {"type": self.kind, "stage": self.stage, **parts}
        return out


def do_task(task: Task, progress: Callable[[float], None] | None = None) -> Outcome:
    """Mask one scene of a batch, and tell what became of it.

    Args:
        task: the scene.
        progress: called with the share that is done, 0 to 1.

    Returns:
        The outcome; errors are part of it, nothing is raised.
    """
    from .readers import open_scene
    from .write.resume import output_paths, plan_outputs

    begin = time.monotonic()
    name, stage = title(task.source), "open"
    out = Outcome(task.number, name, "failed")
    try:
        scene = open_scene(task.source, resolution_m=task.options.resolution_m, **task.reading)
        out = replace(out, id=scene.id)
        folder = Path(task.output)
        stage = "write"
        options, again = task.options, False
        if task.claims is not None:
            claims = Path(task.claims)
            again = is_claimed(claims, scene.id)
            if not again:  # before the name is claimed: what is there was not made by this run
                plan_outputs(folder, scene.id, "", options)
            claim(claims, scene.id, task.number, name)
            if again and not options.overwrite:  # a worker died over it, and what it left is in the way
                options = options.but(resume=True)
        paths = output_paths(folder, scene.id, task.options)
        if task.dry_run:
            planned = {product: str(path) for product, path in paths.items()}
            out = replace(out, status="planned", outputs=planned, warnings=scene.warnings)
        else:
            stage = "mask"
            out = _masked(scene, folder, options, paths["item"], out, progress)
            if again and not task.options.resume:  # what was kept was made by this run
                out = replace(out, status="done")
    except UncloudedError as err:
        stage = "write" if isinstance(err, OutputError) else stage
        trace = traceback.format_exc()
        out = replace(out, error=err.with_traceback(None), kind=type(err).__name__, stage=stage, trace=trace)
    except Exception as err:  # noqa: BLE001  one scene's failure must not end the others
        foreseen = UncloudedError(
            f"{type(err).__name__}: {err}",
            expected="This is an error in unclouded, or in a library that it uses.",
            remedy="Run it again with -vv to see where it happened, and report it.",
        )
        trace = traceback.format_exc()
        out = replace(out, error=foreseen, kind=type(err).__name__, stage=stage, trace=trace)
    return replace(out, seconds=time.monotonic() - begin)


def _masked(
    scene: Scene, folder: Path, options: Options, item: Path, out: Outcome, progress: Callable[[float], None] | None
) -> Outcome:
    from .api import mask

    before = _written(item)
    result = mask(scene, options, output=folder, progress=progress)
    return replace(
        out,
        status="kept" if before is not None and _written(item) == before else "done",
        outputs={product: str(path) for product, path in result.outputs.items()},
        cloud_percent=result.cloud_percent,
        warnings=result.warnings,
    )


def _written(item: Path) -> tuple[int, int] | None:
    """What changes when an item is written anew, None while there is none."""
    try:
        stat = item.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
