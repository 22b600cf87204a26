"""Directories for attempts: each has one of its own, below one of this process's, whose lock dies with the process.

<base>/jetray-work-…/               a process's; whoever comes next removes it once its owner is dead
    owner.lock
    …/input, …/output               an attempt's
<base>/jetray-kept-<job>…/          one that was kept, moved here so that nobody removes it
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from workers.kinds.below import DIRECTORY
from workers.kinds.removal import remove
from workers.kinds.storage import StorageError

__all__ = ["Workspace", "Workspaces"]

_log = logging.getLogger("jetray.job")

PREFIX: Final = "jetray-work-"
KEPT: Final = "jetray-kept-"
LOCK: Final = "owner.lock"
FOLDERS: Final = ("input", "output")
HIDDEN: Final = "<workspace>"
LABEL_CHARACTERS: Final = 160
UNTOUCHED: Final = 0
"""The time of last change, in nanoseconds since the epoch, of a directory that nobody has changed."""


class Workspaces:
    """Makes directories for attempts, below `base` (empty: the machine's directory for temporary files).

    Nothing is made before the first is asked for. `keep_failed` keeps those of attempts that failed.
    """

    def __init__(self, base: str = "", *, keep_failed: bool = False) -> None:
        self._base = base
        self._keep_failed = keep_failed
        self._making = threading.Lock()
        self._home: _Home | None = None

    def make(self, label: str) -> Workspace:
        """A fresh one; `label` names it where it is kept. Raises `StorageError`."""
        home = self._home
        room = None if home is None else home.unused()
        try:
            if home is None or room is None:
                home = self._own_home()
                room = _Room(home.path)
            return Workspace(home, room, label, keep_failed=self._keep_failed)
        except OSError as error:
            raise StorageError(f"no directory can be made under setting workspaces.base: {error.strerror}") from error

    def _own_home(self) -> _Home:
        with self._making:
            # Where old temporary files are removed by the clock, a process may outlive its directory.
            if self._home is None or not self._home.path.exists():
                self._home = _Home(Path(self._base or tempfile.gettempdir()))
            return self._home


class _Home:
    """This process's directory. It goes with the object, or with the process."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        # It gets its name only once it is locked, so that nobody takes it for one without an owner.
        unnamed = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=base))
        self._lock = (unnamed / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = unnamed.rename(unnamed.with_name(unnamed.name.removeprefix(".")))
        self._unused: list[_Room] = []
        weakref.finalize(self, _leave, self.path, self._lock, self._unused, os.getpid())
        # Beside the job that is the first to ask: what others left behind may take long to remove.
        self.sweeping = threading.Thread(target=_sweep, args=(base,), name="sweep workspaces", daemon=True)
        self.sweeping.start()

    def unused(self) -> _Room | None:
        """One that was taken back."""
        try:
            return self._unused.pop()
        except IndexError:
            return None

    def take_back(self, room: _Room) -> None:
        """One that is as it was made: making and removing a directory takes longer than a short job."""
        self._unused.append(room)


class _Room:
    """A directory with an empty `input` and `output` in it."""

    def __init__(self, home: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=home))
        self._opened: list[int] = []
        try:
            self._open(str(self.path))
            for name in FOLDERS:
                os.mkdir(name, dir_fd=self.descriptor)
            for name in FOLDERS:
                self._open(name, dir_fd=self.descriptor)
            # Whatever is put there or taken away leaves another time than this.
            os.utime(self.descriptor, ns=(UNTOUCHED, UNTOUCHED))
        except OSError:
            self.remove()
            raise
        self.ways = [(way, json.dumps(way, ensure_ascii=False)[1:-1].encode()) for way in _ways_to_write(self.path)]
        """How its path may stand in a text, and in JSON."""

    @property
    def descriptor(self) -> int:
        """Of the directory itself."""
        return self._opened[0]

    @property
    def is_as_made(self) -> bool:
        """Whether it is still in its place, and nothing was ever put into it."""
        if not os.path.lexists(self.path):
            return False
        return all(os.fstat(descriptor).st_mtime_ns == UNTOUCHED for descriptor in self._opened)

    def leave(self) -> None:
        """Let go of it."""
        while self._opened:
            os.close(self._opened.pop())

    def remove(self) -> None:
        """Let go of it, and remove it."""
        self.leave()
        remove(self.path)

    def _open(self, name: str, dir_fd: int | None = None) -> None:
        self._opened.append(os.open(name, DIRECTORY, dir_fd=dir_fd))
        os.utime(self._opened[-1], ns=(UNTOUCHED, UNTOUCHED))


class Workspace:
    """One attempt's directory.

    Whatever the job puts in its place: `opened` gives the directory that was made.
    """

    def __init__(self, home: _Home, room: _Room, label: str, *, keep_failed: bool) -> None:
        self._home = home
        self._label = label[:LABEL_CHARACTERS]
        self._keep_failed = keep_failed
        self._closing = threading.Lock()
        self._room: _Room | None = room
        self._ways = room.ways
        self.path = room.path

    @property
    def spare(self) -> Path:
        """A directory beside it, on the same disk, for files without a name."""
        return self._home.path

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of it, for as long as the block lasts. Raises `StorageError`, also once it is closed."""
        with self._closing:
            if self._room is None:
                raise StorageError("the attempt is over, and its workspace with it")
            try:
                # Of its own: a thread that the job left behind must not end up in whatever is opened next.
                own = os.dup(self._room.descriptor)
            except OSError as error:
                raise StorageError(f"the workspace cannot be opened: {error.strerror}") from error
        try:
            yield own
        finally:
            os.close(own)

    def hidden(self, text: str) -> str:
        """`text` without the whereabouts of the workspace."""
        for way, _ in self._ways:
            text = text.replace(way, HIDDEN)
        return text

    def hidden_in(self, body: bytes) -> bytes:
        """The same, of JSON."""
        for _, way in self._ways:
            body = body.replace(way, HIDDEN.encode())
        return body

    def close(self, *, failed: bool, is_known: bool = True) -> None:
        """Remove it, or move it aside where it is to be kept.

        One that the job was not told of (`is_known`) goes to the next attempt if there is nothing in it.
        """
        with self._closing:
            assert self._room is not None, "it is closed once"
            room, self._room = self._room, None
        if not is_known and room.is_as_made:
            self._home.take_back(room)
        elif failed and self._keep_failed:
            room.leave()
            self._keep()
        else:
            room.remove()

    def _keep(self) -> None:
        try:
            aside = tempfile.mkdtemp(prefix=f"{KEPT}{self._label}-", dir=self._home.path.parent)
            try:
                self.path.rename(aside)
            except OSError:
                os.rmdir(aside)
                raise
        except OSError as error:
            _log.warning("the workspace of %s could not be kept: %s", self._label, error)
            remove(self.path)
        else:
            _log.warning("%s failed: its workspace is kept as %s", self._label, aside)


def _ways_to_write(path: Path) -> list[str]:
    """A path as it may stand in a text, the longest way first."""
    plain = {str(path), os.path.realpath(path)}
    return sorted(plain | {repr(each)[1:-1] for each in plain}, key=len, reverse=True)


def _leave(path: Path, lock: BinaryIO, unused: list[_Room], owner: int) -> None:
    # A fork of the process comes here, too.
    if os.getpid() == owner:
        for room in unused:
            room.leave()
        remove(path)
        lock.close()


def _sweep(base: Path) -> None:
    with suppress(OSError):  # the base may be gone by now
        for path in base.glob(f"{PREFIX}*/{LOCK}"):
            _remove_orphan(path)


def _remove_orphan(lock: Path) -> None:
    try:
        if not _is_ours(lock.parent.lstat()):
            return
        held = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(lock.parent)
        finally:
            os.close(held)
    except OSError:  # another one's: in use, or removed at this moment
        return


def _is_ours(was: os.stat_result) -> bool:
    """Where everybody may write, as in /tmp, anybody may have made one that is to be swept."""
    return stat.S_ISDIR(was.st_mode) and was.st_uid == os.geteuid()
