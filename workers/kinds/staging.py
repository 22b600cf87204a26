"""Inputs of a job, copied into its workspace: read-only, and a copy of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from workers.kinds.below import directory, parts, shown
from workers.kinds.outcomes import Fail
from workers.kinds.storage import Storage, StorageError

__all__ = ["stage"]

INPUT: Final = "input"
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def stage(root: int, storage: Storage, inputs: Mapping[str, str]) -> None:
    """Copy each URI to its name below `input/` of the directory `root`. Raises `Fail` and `StorageError`.

    No name is copied before all have been looked at.
    """
    for name, folders in {name: _parts(name) for name in inputs}.items():
        _stage(root, storage, name, folders, inputs[name])


def _parts(name: str) -> tuple[str, ...]:
    try:
        return parts(name)
    except ValueError as error:
        raise Fail(f"input {shown(name)!r} cannot be staged: its name {error}") from error


def _stage(root: int, storage: Storage, name: str, path: tuple[str, ...], uri: str) -> None:
    *folders, last = path
    try:
        with directory(root, (INPUT, *folders), make=True) as folder:
            file = os.open(last, _NEW, 0o600, dir_fd=folder)
            try:
                with open(file, "wb") as into:
                    storage.fetch(uri, into)
                    into.flush()
                    os.fchmod(file, 0o444)
            except BaseException:
                os.unlink(last, dir_fd=folder)
                raise
    except Fail as failure:
        raise Fail(f"input {name!r} cannot be staged: {failure}", reason=failure.reason) from failure
    except FileExistsError as error:
        raise Fail(f"input {name!r} cannot be staged: there is a file of that name already") from error
    except NotADirectoryError as error:
        raise Fail(f"input {name!r} cannot be staged: a part of its name is no directory") from error
    except OSError as error:
        raise StorageError(f"input {name!r} cannot be staged: {error.strerror}") from error
