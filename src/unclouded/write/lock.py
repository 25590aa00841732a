"""One run at a time in an output folder: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import OutputError
from .atomic import cannot_write, remove_leftovers

LOCK = ".unclouded.lock"
CLAIMS = ".unclouded.claims"

_BEAT_S = 20.0
_SILENCE_S = 120.0
"""A holder on another machine shows every ``_BEAT_S`` that it lives; after this long without it, it does not."""

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)


class FolderLock:
    """Keeps other runs out of an output folder. Use it in a with-block.

    The system gives the lock back when its holder dies. Where the file system has no locks, or the holder was on
    another machine, the holder counts as dead when its process is gone, or has been silent for two minutes. Entering
    and leaving remove what killed runs left in the folder. A folder that had to be made and stays empty is removed.

    Args:
        folder: the output folder, made if it does not exist.

    Attributes:
        claims: folder for :func:`claim`.

    Raises:
        OutputError: another run holds the lock, or the folder cannot be written to.

    >>> with tempfile.TemporaryDirectory() as name:
    ...     with FolderLock(Path(name)) as lock:
    ...         first = sorted(path.name for path in Path(name).iterdir())
    ...     (first, list(Path(name).iterdir()))
    (['.unclouded.claims', '.unclouded.lock'], [])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.claims = self.folder / CLAIMS
        self._path = self.folder / LOCK
        self._handle = -1
        self._locks_work = False
        self._made = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._made = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while not self._take():
                pass
            remove_leftovers(self.folder, unlocked=self._locks_work)
            shutil.rmtree(self.claims, ignore_errors=True)
            self.claims.mkdir()
        except OutputError:
            raise
        except OSError as err:
            told = cannot_write(self.folder, err)
            self._release()
            raise told from err
        threading.Thread(target=self._beat, name="unclouded-lock", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        remove_leftovers(self.folder, unlocked=self._locks_work)
        self._release()

    def _take(self) -> bool:
        """Try once; False if the file changed in between.

        Raises:
            OutputError: another run holds the lock.
        """
        created, ours = True, False
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            created = False
            try:
                handle = os.open(self._path, os.O_RDWR)
            except FileNotFoundError:
                return False
        try:
            locked = _lock(handle)
            if locked is False:
                raise self._busy(_owner(handle))
            if not self._is_at_path(handle):  # its last holder has removed it since it was opened
                os.close(handle)
                return False
            owner = {} if created else _owner(handle)
            if owner and self._alive(owner, handle, trusted=bool(locked)):
                raise self._busy(owner)
            if locked is None and not created:  # without locks, only making the file is exclusive
                os.close(handle)
                self._path.unlink(missing_ok=True)
                return False
            ours = True
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps(_myself()).encode())
        except OSError:
            if ours and self._is_at_path(handle):  # a disk so full that not even this could be written
                self._path.unlink(missing_ok=True)
            os.close(handle)
            raise
        self._handle, self._locks_work = handle, bool(locked)
        return True

    def _alive(self, owner: dict[str, Any], handle: int, *, trusted: bool) -> bool:
        """Whether the run that wrote the file still runs, although the system did not say that it holds the lock."""
        if owner.get("host") == socket.gethostname() and (trusted or owner.get("started")):
            return not trusted and _started(int(owner.get("pid", 0))) == owner["started"]
        with tempfile.TemporaryFile(dir=self.folder) as now:  # by the clock of the file system
            return os.fstat(now.fileno()).st_mtime - os.fstat(handle).st_mtime < _SILENCE_S

    def _busy(self, owner: dict[str, Any]) -> OutputError:
        who = f"process {owner.get('pid', '?')} on {owner.get('host', 'an unknown machine')}"
        return OutputError(
            f"Another run is writing to {self.folder}: {who}.",
            expected="One run at a time works in an output folder.",
            remedy="Wait until it has ended, or choose another folder with -o. The lock of a run that was killed"
            " expires by itself, at once on this machine and after two minutes on others.",
        )

    def _is_at_path(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            try:
                os.utime(self._path)
            except OSError:  # the folder has vanished; the scenes will tell
                return

    def _release(self) -> None:
        self._ended.set()
        if self._handle >= 0:
            shutil.rmtree(self.claims, ignore_errors=True)
            mine = self._is_at_path(self._handle)
            if sys.platform == "win32":  # open files cannot be removed there
                os.close(self._handle)
            if mine:
                self._path.unlink(missing_ok=True)
            if sys.platform != "win32":
                os.close(self._handle)
            self._handle = -1
        if self._made:
            try:
                self.folder.rmdir()
            except OSError:
                return


def claim(claims: Path, scene_id: str, number: int, source: str) -> None:
    """Reserve the name of a scene for one input of a run, whichever process or machine works on it.

    Args:
        claims: :attr:`FolderLock.claims` of the run.
        scene_id: name of the scene.
        number: number of the input; the same one may ask again.
        source: what the input is called in messages.

    Raises:
        OutputError: another input has the name, or the folder cannot be written to.
    """
    try:
        claims.mkdir(parents=True, exist_ok=True)
        found = _put_once(_claim_file(claims, scene_id), json.dumps([number, source]))
    except OSError as err:
        raise cannot_write(claims.parent, err) from err
    if found is not None and found[0] != number:
        raise OutputError(
            f"'{source}' has the same name '{scene_id}' as '{found[1]}'.",
            expected="Output files are called after the scene, so names have to differ within one folder.",
            remedy="Write the two to different folders.",
        )


def is_claimed(claims: Path, scene_id: str) -> bool:
    """Whether some input of the run has reserved a name."""
    return _claim_file(claims, scene_id).exists()


def _claim_file(claims: Path, scene_id: str) -> Path:
    name = scene_id.encode("utf-8", "surrogateescape").hex()
    return claims / (name if len(name) < 200 else f"{name[:150]}-{_digest(name)}")


def _put_once(target: Path, text: str) -> list[Any] | None:
    """Make a file with its content in one step; what it holds if it is there already."""
    handle, made = tempfile.mkstemp(dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            os.link(made, target)
        except OSError as err:
            if err.errno not in _NO_LINKS:
                raise
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        return None
    except FileExistsError:
        found: list[Any] = json.loads(target.read_text(encoding="utf-8"))
        return found
    finally:
        os.unlink(made)


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _lock(handle: int) -> bool | None:
    """True if the lock is ours now, False if another has it, None where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        return False if err.errno in _HELD else None
    return True


def _owner(handle: int) -> dict[str, Any]:
    """What the holder wrote about itself; empty while it has not done so."""
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        found = json.loads(os.read(handle, 4096))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _myself() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """When a process of this machine was started, as boot and clock ticks; None if it is gone or cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return f"{boot}:{fields[19]}"
