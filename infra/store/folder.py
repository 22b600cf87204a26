"""Files in a directory: `file:///…`."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import ioctl
from typing import IO, Final

from infra.store.base import Missing, StoreError
from infra.store.uris import above, below

__all__ = ["FolderFiles"]

FICLONE: Final = 0x40049409
"""Linux: have a file share another's blocks until one of them is written to."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


class FolderFiles:
    """See `infra.store.base.FileStore`. No link below its root is followed: jobs may write there, and put one."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = root.removeprefix("file://") or "/"

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all of `data`: under a name of its own first, so that what has its name is whole."""
        uri = above(self._root, name)
        *folders, last = below(uri, self._root).split("/")
        try:
            os.makedirs(self._path, exist_ok=True)
            with self._directory(folders, make=True) as folder:
                if not _is_there(last, folder):
                    _write(data, last, folder)
        except OSError as error:
            raise StoreError(f"{name} cannot be kept: {error.strerror}") from error
        return uri

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI: as a clone, where the file system has such, else as a copy."""
        *folders, last = below(uri, self._root).split("/")
        try:
            with self._directory(folders) as folder, open(os.open(last, _READ, dir_fd=folder), "rb") as source:
                _copy(source, into)
        except OSError as error:
            if error.errno in _NOT_THERE or isinstance(error, IsADirectoryError):
                raise Missing(f"there is no file {uri}") from error
            raise StoreError(f"{uri} cannot be read: {error.strerror}") from error

    # As `workers.kinds.below.directory`, which knows no store, as stores know no kinds.
    @contextmanager
    def _directory(self, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
        found = os.open(self._path, _DIRECTORY)
        try:
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=found)
                deeper = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=found)
                os.close(found)
                found = deeper
            yield found
        finally:
            os.close(found)


def _is_there(name: str, folder: int) -> bool:
    try:
        was = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    # What else has the name is no file that could be fetched.
    return stat.S_ISREG(was.st_mode)


def _write(data: IO[bytes], name: str, folder: int) -> None:
    part = f".{secrets.token_hex(8)}.part"
    data.seek(0)
    try:
        with open(os.open(part, _NEW, 0o644, dir_fd=folder), "wb") as file:
            shutil.copyfileobj(data, file)
            file.flush()
            # Else a power failure could leave the name, and nothing in it.
            os.fsync(file.fileno())
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        raise


def _copy(source: IO[bytes], into: IO[bytes]) -> None:
    into.seek(0)
    into.truncate()
    if not os.path.isfile(source.fileno()):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        ioctl(into.fileno(), FICLONE, source.fileno())
    except OSError:  # another file system, or one that has no clones
        shutil.copyfileobj(source, into)
