"""A directory for one Ray's sockets and logs: short, fresh, and gone afterwards, even after a `kill -9`."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["Workplace"]

_log = logging.getLogger("jetray.pool")

PREFIX = "jetray-ray-"
LOCK = "owner.lock"
LONGEST_BASE = 20
"""Systems allow a socket's path 103 bytes, and Ray's begins with a directory, a time and a process id."""


class Workplace:
    """Ours as long as we hold its lock; whoever comes next removes those whose owners were killed."""

    def __init__(self, base: str | None = None) -> None:
        base = base or tempfile.gettempdir()
        if len(base) > LONGEST_BASE and os.access("/tmp", os.W_OK):
            base = "/tmp"
        _sweep(Path(base))
        # It gets its name only once it is locked, so that nobody takes it for one without an owner.
        unnamed = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=base))
        self._lock = (unnamed / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = unnamed.rename(unnamed.with_name(unnamed.name.removeprefix(".")))

    def __repr__(self) -> str:
        return f"Workplace({str(self.path)!r})"

    def remove(self) -> None:
        """Remove it. Ray's last processes may still write a line while they end."""
        for _ in range(100):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(0.02)
        else:
            _log.warning("could not remove %s", self.path)
        self._lock.close()


def _sweep(base: Path) -> None:
    for path in base.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # another one's: in use, of another user, or removed at this moment
            continue
