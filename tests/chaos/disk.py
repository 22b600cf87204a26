"""A small disk that can be filled: a tmpfs in a mount namespace of this process, gone with its last process."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["Disk", "NoDisk", "own_mounts"]

CHUNK: Final = bytes(1024 * 1024)
_NEWNS: Final = 0x00020000
_REC_PRIVATE: Final = 0x4000 | 0x40000


class NoDisk(Exception):
    """This system lets us mount none."""


def own_mounts() -> None:
    """Give this process mounts of its own; before it starts a thread. Raises `NoDisk`."""
    if sys.platform != "linux":
        raise NoDisk("mounts of our own are to be had on Linux alone")
    _call("unshare", _NEWNS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_REC_PRIVATE), None)


class Disk:
    """Mounted when it is made."""

    def __init__(self, path: Path, megabytes: int) -> None:
        path.mkdir(parents=True)
        _call("mount", b"jetray-chaos", os.fsencode(path), b"tmpfs", ctypes.c_ulong(0), b"size=%dm" % megabytes)
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> int:
        """Leave no byte; the bytes that were written for it."""
        with self._filler.open("wb", buffering=0) as filler:
            for chunk in (CHUNK, CHUNK[:4096]):
                while _write(filler.fileno(), chunk):
                    pass
            return filler.tell()

    def free(self) -> None:
        """Have the room back."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Let go of it, even while somebody still has a file open there."""
        _call("umount2", os.fsencode(self.path), 2)


def _write(descriptor: int, chunk: bytes) -> bool:
    try:
        return os.write(descriptor, chunk) == len(chunk)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise NoDisk(f"{name}: {os.strerror(number)}")
