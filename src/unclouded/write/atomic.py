"""Files that are complete or absent: everything is made in a hidden folder beside its target and then renamed."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import OutputError

_LOCK = "lock"
_LITTLE_BYTES = 64_000_000
_log = logging.getLogger("unclouded")


@contextmanager
def partial_folder(folder: Path, scene_id: str) -> Iterator[Path]:
    """A hidden folder inside ``folder`` for unfinished files; it disappears when the with-block ends.

    Being on the same file system as the target, finished files can be renamed into place. Leftovers of killed runs of
    the same scene are removed first; those of running ones are left alone. If ``folder`` had to be made and the
    block fails, it is removed again.

    Args:
        folder: where the finished files go; made if it does not exist.
        scene_id: name of the scene; part of the hidden folder's name.

    Yields:
        Path of the hidden folder.

    Raises:
        OutputError: the folder cannot be made or written to, or the name cannot be a file name.
    """
    if not scene_id or scene_id in (".", "..") or any(char in scene_id for char in "/\\\0"):
        raise OutputError(
            f"The scene is called '{scene_id}'.",
            expected="The name becomes part of file names, so it cannot be empty or hold slashes.",
            remedy="Rename the input, or set another id on the Scene.",
        )
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, scene_id)
        partial, lock = _locked_folder(folder, scene_id)
    except OSError as err:
        raise cannot_write(folder, err) from err
    finished = False
    try:
        yield partial
        finished = True
    finally:
        if lock is not None:
            lock.close()
        shutil.rmtree(partial, ignore_errors=True)
        if made and not finished:
            try:
                folder.rmdir()
            except OSError:
                _log.debug("%s is kept, it is not empty", folder)


def replace_file(made: Path, target: Path) -> None:
    """Give a finished file its final name, after its content has reached the disk.

    Raises:
        OutputError: the target cannot be replaced.
    """
    try:
        with made.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(made, target)
        _sync_folder(target.parent)
    except OSError as err:
        raise cannot_write(target, err) from err


def write_text(target: Path, text: str, scene_id: str) -> None:
    """Write a small text file, complete or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with partial_folder(target.parent, scene_id) as partial:
        made = partial / target.name
        try:
            made.write_text(text, encoding="utf-8")
        except OSError as err:
            raise cannot_write(target, err) from err
        replace_file(made, target)


def cannot_write(target: Path, err: Exception) -> OutputError:
    """The error for a target that the file system refuses."""
    # rasterio's errors point to that of GDAL
    reason = getattr(err, "strerror", None) or str(err.__cause__ or err).strip().rstrip(".") or type(err).__name__
    if not isinstance(err, OSError) or not err.errno:  # GDAL does not say that the disk is full
        reason += _little_space(target)
    return OutputError(
        f"{target} cannot be written: {reason}.",
        expected="The output folder has to be a folder with free space that you may write to.",
        remedy="Choose another folder with -o, or correct its permissions.",
    )


def _little_space(target: Path) -> str:
    """How much room is left where a target lies, if that may be why it could not be written."""
    folder = next(one for one in (target, *target.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(folder).free
    return f" ({free / 1e6:.1f} MB are free there)" if free < _LITTLE_BYTES else ""


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_lock(path: Path) -> IO[bytes] | None:
    """Lock that the system gives back when the process dies, however it dies; None where there are no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = path.open("wb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # network file systems without locks: without the file nobody takes this folder for a leftover
        handle.close()
        path.unlink()
        return None
    return handle


def _locked_folder(folder: Path, scene_id: str) -> tuple[Path, IO[bytes] | None]:
    """A new hidden folder with its lock; made again if it is taken for a leftover before it has one."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f".{scene_id}.partial-", dir=folder))
        try:
            return partial, _take_lock(partial / _LOCK)
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def remove_leftovers(folder: Path, scene_id: str | None = None, *, unlocked: bool = False) -> None:
    """Remove the hidden folders of killed runs.

    Args:
        folder: where they are looked for.
        scene_id: those of this scene only; None means all.
        unlocked: also those without a lock, which a kill in the wrong moment leaves. To be set where locks are known
            to work: there nobody else can be at work in such a folder.
    """
    if sys.platform == "win32":
        return
    import fcntl

    start = "*" if scene_id is None else glob.escape(scene_id)
    for name in folder.glob(f".{start}.partial-*"):
        try:
            handle = (name / _LOCK).open("rb")
        except FileNotFoundError:  # without a lock it cannot be known whether its maker still runs
            if unlocked:
                _remove_unlocked(name)
            continue
        except OSError:
            continue
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(name, ignore_errors=True)
            _log.info("removed %s, left by a run that was interrupted", name)


def _remove_unlocked(partial: Path) -> None:
    """Remove a hidden folder without lock; an empty one may be about to get its lock, and survives that."""
    try:
        partial.rmdir()
    except OSError:
        if partial.is_dir() and not (partial / _LOCK).exists():
            shutil.rmtree(partial, ignore_errors=True)
