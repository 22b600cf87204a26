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
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from workers.kinds.below import DIRECTORY
from workers.kinds.storage import StorageError

__all__ = ["Workspace", "Workspaces"]

_log = logging.getLogger("jetray.job")

PREFIX: Final = "jetray-work-"
KEPT: Final = "jetray-kept-"
LOCK: Final = "owner.lock"
HIDDEN: Final = "<workspace>"
LABEL_CHARACTERS: Final = 160


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
        try:
            return Workspace(self._own_home(), label, keep_failed=self._keep_failed)
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
        weakref.finalize(self, _leave, self.path, self._lock, os.getpid())
        # Beside the job that is the first to ask: what others left behind may take long to remove.
        self.sweeping = threading.Thread(target=_sweep, args=(base,), name="sweep workspaces", daemon=True)
        self.sweeping.start()


class Workspace:
    """One attempt's directory.

    Whatever the job puts in its place: `opened` gives the directory that was made.
    """

    def __init__(self, home: _Home, label: str, *, keep_failed: bool) -> None:
        self.path = Path(tempfile.mkdtemp(dir=home.path))
        self._home = home
        self._label = label[:LABEL_CHARACTERS]
        self._keep_failed = keep_failed
        self._hides = _ways_to_write(self.path)
        self._closing = threading.Lock()
        self._directory: int | None = os.open(self.path, DIRECTORY)
        for name in ("input", "output"):
            os.mkdir(name, dir_fd=self._directory)

    @property
    def spare(self) -> Path:
        """A directory beside it, on the same disk, for files without a name."""
        return self._home.path

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of it, for as long as the block lasts. Raises `StorageError` once it is closed."""
        with self._closing:
            if self._directory is None:
                raise StorageError("the attempt is over, and its workspace with it")
            # Of its own: a thread that the job left behind must not end up in whatever is opened next.
            own = os.dup(self._directory)
        try:
            yield own
        finally:
            os.close(own)

    def hidden(self, text: str) -> str:
        """`text` without the whereabouts of the workspace."""
        for way in self._hides:
            text = text.replace(way, HIDDEN)
        return text

    def hidden_in(self, body: bytes) -> bytes:
        """The same, of JSON."""
        for way in self._hides:
            body = body.replace(json.dumps(way, ensure_ascii=False)[1:-1].encode(), HIDDEN.encode())
        return body

    def close(self, *, failed: bool) -> None:
        """Remove it, or move it aside where it is to be kept."""
        with self._closing:
            assert self._directory is not None, "it is closed once"
            os.close(self._directory)
            self._directory = None
        if failed and self._keep_failed:
            self._keep()
        else:
            _remove(self.path)

    def _keep(self) -> None:
        try:
            aside = tempfile.mkdtemp(prefix=f"{KEPT}{self._label}-", dir=self._home.path.parent)
            self.path.rename(aside)
        except OSError as error:
            _log.warning("the workspace of %s could not be kept: %s", self._label, error)
            _remove(self.path)
        else:
            _log.warning("%s failed: its workspace is kept as %s", self._label, aside)


def _ways_to_write(path: Path) -> list[str]:
    """A path as it may stand in a text, the longest way first."""
    plain = {str(path), os.path.realpath(path)}
    return sorted(plain | {repr(each)[1:-1] for each in plain}, key=len, reverse=True)


def _leave(path: Path, lock: BinaryIO, owner: int) -> None:
    # A fork of the process comes here, too.
    if os.getpid() == owner:
        _remove(path)
        lock.close()


def _sweep(base: Path) -> None:
    with suppress(OSError):  # the base may be gone by now
        for path in base.glob(f"{PREFIX}*/{LOCK}"):
            _remove_orphan(path)


def _remove_orphan(lock: Path) -> None:
    try:
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock.parent)
    except OSError:  # another one's: in use, of another user, or removed at this moment
        return


def _remove(path: Path) -> None:
    if path.is_symlink():
        # The job has put it in the place of its workspace.
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        with suppress(OSError):
            _open_up(path)
        shutil.rmtree(path, ignore_errors=True)


def _open_up(path: Path) -> None:
    """A directory that may not be written to keeps what is in it."""
    os.chmod(path, 0o700)
    for folder, folders, _ in os.walk(path):
        for inner in (os.path.join(folder, name) for name in folders):
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
