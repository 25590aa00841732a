"""Where the tasks of a batch are done: in this process, in processes of their own, or on a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from .batch_inputs import title
from .batch_task import Outcome, Task, do_task
from .errors import InputError, MissingDependencyError, ModelError, UncloudedError, UncloudedWarning
from .infer.runner import load_runner

_LOG = logging.getLogger("unclouded")

_TRIES = 2
"""A scene whose worker died is tried once more."""

_FAILED_STARTS = 3
"""Workers that may die one after another before they are ready."""

_TELL_S = 0.2
_NO_WORKERS_S = 30.0
_PATIENCE_S = 10.0

Tell = Callable[[int, float], None]
"""Called with the number of an input and the share of it that is done."""

Work = Callable[[Iterable[Task]], Generator[Outcome, None, None]]
"""Does tasks, and yields what became of each as it is finished."""


def _lost(task: Task, found: str, kind: str = "UncloudedError") -> Outcome:
    """Outcome of a scene whose worker did not live to tell it."""
    error = UncloudedError(
        found,
        expected="A worker that ends in the middle of a scene has most often run out of memory.",
        remedy="Pass a smaller --tile or fewer --jobs, or give the workers more memory; then go on with --resume.",
    )
    figures = dict.fromkeys(task.treatment.figures)
    return Outcome(
        task.number, title(task.source), "failed", figures=figures, error=error, kind=kind, stage="worker"
    )


@contextmanager
def workplace(jobs: int, client: Any, resources: Mapping[str, float] | None, tell: Tell) -> Iterator[Work]:
    """Where tasks are done."""
    if client is None:
        yield (lambda tasks: _here(tasks, tell)) if jobs == 1 else (lambda tasks: _in_processes(tasks, jobs, tell))
        return
    try:
        import distributed
    except ImportError as err:
        raise MissingDependencyError.for_extra("distributed", "dask") from err
    if not isinstance(client, str):
        yield lambda tasks: _on_dask(tasks, client, resources)
        return
    try:
        connected = distributed.Client(client, set_as_default=False)
    except (OSError, ValueError) as err:
        raise InputError(
            f"There is no Dask scheduler at {client}: {err}.",
            expected="The address of a running scheduler, for example tcp://10.0.0.1:8786.",
            remedy="Start one with 'dask scheduler', and workers with 'dask worker ADDRESS'.",
        ) from err
    with connected:
        yield lambda tasks: _on_dask(tasks, connected, resources)


def _here(tasks: Iterable[Task], tell: Tell) -> Generator[Outcome, None, None]:
    """One task after another in this process."""
    for task in tasks:
        number = task.number
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncloudedWarning)  # they are part of the outcome
            outcome = do_task(task, lambda share, number=number: tell(number, share))  # type: ignore[misc]
        yield outcome


# Processes. multiprocessing's own pools lose all their work, or wait for ever, when one of them is killed.


@dataclass(eq=False)
class _Worker:
    process: Any
    connection: Connection
    task: Task | None = None
    ready: bool = False


def _in_processes(tasks: Iterable[Task], jobs: int, tell: Tell) -> Generator[Outcome, None, None]:
    """Tasks in worker processes, each of which takes the next one when it has finished."""
    context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
    waiting = deque(tasks)
    tries: Counter[int] = Counter()
    workers: list[_Worker] = []
    failed_starts = 0
    try:
        while waiting or any(worker.task for worker in workers):
            busy = sum(worker.task is not None for worker in workers)
            while len(workers) < min(jobs, busy + len(waiting)):
                workers.append(_start(context))
            for worker in _speaking(workers):
                message = _hear(worker)
                if message is None:
                    workers.remove(worker)
                    how = _stop(worker)
                    failed_starts = 0 if worker.ready else failed_starts + 1
                    if failed_starts == _FAILED_STARTS:
                        raise UncloudedError(
                            f"Worker processes end before they can start ({how}).",
                            expected="Python starts them by importing the calling script again.",
                            remedy="Put the call under 'if __name__ == \"__main__\":', or pass jobs=1.",
                        )
                    if worker.task is not None:
                        tries[worker.task.number] += 1
                        if tries[worker.task.number] < _TRIES:
                            waiting.appendleft(worker.task)
                        else:
                            yield _lost(worker.task, f"Two worker processes ended while they worked on it ({how}).")
                elif isinstance(message, float):
                    if worker.task is not None:
                        tell(worker.task.number, message)
                else:
                    worker.ready, worker.task = True, None
                    if waiting:
                        worker.task = waiting.popleft()
                        _say(worker, worker.task)
                    if isinstance(message, Outcome):
                        yield message
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _stop(worker)


def _start(context: Any) -> _Worker:
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), name="unclouded-worker", daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    return _Worker(process, here)


def _speaking(workers: list[_Worker]) -> list[_Worker]:
    """Workers that have something to say, or have ended; waits for the first."""
    places: dict[Any, _Worker] = {}
    for worker in workers:
        places[worker.connection] = places[worker.process.sentinel] = worker
    heard = [places[place] for place in wait(list(places))]
    return [worker for worker in workers if worker in heard]


def _hear(worker: _Worker) -> Any:
    """The next message: a share, the outcome of the task, or that it is ready; None if the worker has ended."""
    try:
        return worker.connection.recv() if worker.connection.poll() else None
    except (EOFError, OSError):
        return None


def _say(worker: _Worker, task: Task) -> None:
    with suppress(OSError):  # it has ended meanwhile, which will be noticed
        worker.connection.send(task)


def _stop(worker: _Worker) -> str:
    """Wait until a worker has ended, and say how."""
    worker.process.join(_PATIENCE_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.connection.close()
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _serve(connection: Connection) -> None:
    """Life of a worker process: do the tasks that come until it is terminated or its parent ends."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_follow_parent, daemon=True).start()
    warnings.simplefilter("ignore", UncloudedWarning)
    connection.send("ready")
    told = 0.0

    def progress(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            connection.send(float(share))

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(do_task(task, progress))


def _leave(number: int, frame: Any) -> NoReturn:
    """End as with an exception, so that unfinished files are removed."""
    sys.exit(128 + number)


def _follow_parent() -> None:
    """A parent that was killed cannot end its workers: they would go on writing beside the run that resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


# Dask.


def _on_dask(
    tasks: Iterable[Task], client: Any, resources: Mapping[str, float] | None
) -> Generator[Outcome, None, None]:
    """Tasks on the workers of a cluster, a few for each of its threads at a time."""
    from distributed import as_completed

    kept = {} if resources is None else {"resources": dict(resources)}
    pending: dict[Any, Task] = {}
    left = iter(tasks)

    def submit(count: int) -> list[Any]:
        new = []
        for task in islice(left, count):
            key = f"unclouded-{task.treatment.stage}-{os.urandom(8).hex()}"
            future = client.submit(_on_worker, task, pure=False, key=key, **kept)
            pending[future] = task
            new.append(future)
        return new

    watching = threading.Event()
    threading.Thread(target=_tell_of_no_workers, args=(client, watching), daemon=True).start()
    try:
        first = submit(max(16, 4 * sum(client.nthreads().values())))
        completed = as_completed(first, loop=client.loop, raise_errors=False)  # there may be no default client
        for future in completed:
            if future.status in ("lost", "pending"):
                completed.add(future)  # its worker died with the outcome, and the scheduler has it done again
                continue
            task = pending.pop(future)
            for new in submit(1):
                completed.add(new)
            if future.status == "finished":
                yield future.result()
            elif future.status == "error":
                err = future.exception()
                yield _lost(task, f"{type(err).__name__}: {err}", type(err).__name__)
            else:
                yield _lost(task, f"The cluster has lost it, its state is '{future.status}'.")
    finally:
        watching.set()
        if pending:
            client.cancel(list(pending))


def _tell_of_no_workers(client: Any, ended: threading.Event) -> None:
    """Say so when a batch waits for workers, which may come yet: it would look as if it hung."""
    while not ended.wait(_NO_WORKERS_S):
        with suppress(OSError, ValueError, RuntimeError):  # the client is being closed
            if not client.nthreads():
                _LOG.warning("The Dask cluster has no workers: waiting for some to join.")


def _on_worker(task: Task) -> Outcome:
    """A task on a Dask worker: one thread for the network, as a task takes one of the worker's threads."""
    _quiet()
    treatment = task.treatment.but(threads=task.treatment.options.threads or 1)
    # Tasks of several threads would each load it at first. If it cannot be loaded the task will tell.
    for name in treatment.models():
        with _LOADING, suppress(ModelError, MissingDependencyError):
            load_runner(name, treatment.options.threads)
    return do_task(replace(task, treatment=treatment))


_LOADING = threading.Lock()


@cache
def _quiet() -> None:
    """Warnings are part of outcomes."""
    warnings.simplefilter("ignore", UncloudedWarning)
