"""Files of an attempt, hashed and kept under one commit: all of them, or none.

Each file is kept as `files/sha256/<sha256>` below the storage root, so the same bytes are kept once. The list of the
set, JSON with sorted keys and names, is kept as `files/commits/<commit>.json`; `commit` is the sha256 of its bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from msgspec import Struct

from contracts.calls import Tracked, TrackingFailed
from contracts.codec import canonical
from contracts.errors import ErrorInfo, Reason, bounded
from contracts.events import EVENT_LIMIT, Moved, TrackedFile
from workers.kinds.below import directory, shown
from workers.kinds.outcomes import Fail
from workers.kinds.storage import Storage, StorageError
from workers.kinds.survey import Found, Selection, survey

__all__ = ["Commit", "track", "untracked"]

MOST_FILES: Final = 100_000
LIST_LIMIT: Final = EVENT_LIMIT - 64 * 1024
"""Bytes of JSON that the files of an event may take; the rest is for its other fields."""
NAMED: Final = 100
"""Refused files that are named where the list of all can be kept nowhere."""
IN_MEMORY: Final = 1024 * 1024
CHUNK: Final = 256 * 1024
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Commit(Struct, frozen=True, kw_only=True):
    """A set of files that is kept."""

    commit: str
    files: list[TrackedFile]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)


class Untrackable(Exception):
    """The set cannot be tracked, because of these files."""

    def __init__(self, reason: Reason, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.names = [bounded(shown(name), 1024) for name in names]


def track(
    root: int, storage: Storage, spare: Path, *, where: Sequence[str], selection: Selection, max_bytes: int
) -> tuple[Commit | None, Tracked | TrackingFailed]:
    """Keep the selected files of the directory `where` below `root`, and what there is to be told. Raises nothing.

    What is no plain file, or changes meanwhile, is refused, and the whole set with it: a commit is complete or is none.
    `spare` is a directory for copies without a name, so that what is kept is what was hashed.
    """
    try:
        files = _chosen(root, where, selection, max_bytes)
        kept = [_keep(root, where, file, storage, spare) for file in files]
        return _committed(kept, storage)
    except Untrackable as error:
        return None, _failed(error.reason, error, error.names, storage)
    except Fail as error:
        return None, _failed(error.reason, error, [], storage)
    except StorageError as error:
        return None, untracked(error)
    except OSError as error:
        wrong = Untrackable("user", f"{shown('/'.join(where))} cannot be read: {error.strerror}")
        return None, _failed("user", wrong, [], storage)


def untracked(error: StorageError) -> TrackingFailed:
    """What there is to be told where no file is to blame."""
    return TrackingFailed(error=_info("storage", error), files=[])


def _chosen(root: int, where: Sequence[str], selection: Selection, max_bytes: int) -> list[Found]:
    found = survey(root, where, selection, most=MOST_FILES)
    if found.is_cut:
        raise Untrackable("too_large", f"there are more than the {MOST_FILES} files that may be tracked at once")
    if found.unfit:
        (name, why), *others = sorted(found.unfit.items())
        more = f", and {len(others)} more cannot be tracked" if others else ""
        raise Untrackable("user", f"{shown(name)} {why}{more}", sorted(found.unfit))
    size = sum(file.was.st_size for file in found.files)
    if size > max_bytes:
        raise Untrackable("too_large", f"the files have {size} bytes, and max_bytes is {max_bytes}")
    return found.files


def _keep(root: int, where: Sequence[str], file: Found, storage: Storage, spare: Path) -> TrackedFile:
    *folders, last = file.name.split("/")
    with SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(spare)) as copy:
        try:
            with directory(root, (*where, *folders)) as folder:
                digest = _copy(folder, last, file, copy)
        except OSError as error:
            # It was there: whatever is in its place now is not looked at.
            raise Untrackable("user", f"{shown(file.name)} changed meanwhile: {error.strerror}", [file.name]) from error
        storage.keep(f"files/sha256/{digest}", copy)
    return TrackedFile(name=file.name, bytes=file.was.st_size, sha256=digest)


def _copy(folder: int, name: str, file: Found, into: IO[bytes]) -> str:
    """Copy the very file that was found; its sha256. What was read is what is kept, whatever happens to the file."""
    digest, size = hashlib.sha256(), 0
    source = os.open(name, _READ, dir_fd=folder)
    try:
        _still(file, os.fstat(source))
        while chunk := os.read(source, CHUNK):
            digest.update(chunk)
            _write(chunk, into)
            size += len(chunk)
            if size > file.was.st_size:
                break
        _still(file, os.fstat(source), os.stat(name, dir_fd=folder, follow_symlinks=False), size=size)
    finally:
        os.close(source)
    return digest.hexdigest()


def _write(chunk: bytes, into: IO[bytes]) -> None:
    try:
        into.write(chunk)
    except OSError as error:
        raise StorageError(f"there is no room for a copy: {error.strerror}") from error


def _still(file: Found, *now: os.stat_result, size: int | None = None) -> None:
    if any(_seen(each) != _seen(file.was) for each in now) or size not in (None, file.was.st_size):
        raise Untrackable("user", f"{shown(file.name)} changed while it was read", [file.name])


def _seen(was: os.stat_result) -> tuple[int, ...]:
    return (
        stat.S_IFMT(was.st_mode),
        was.st_dev,
        was.st_ino,
        was.st_nlink,
        was.st_size,
        was.st_mtime_ns,
        was.st_ctime_ns,
    )


def _committed(files: list[TrackedFile], storage: Storage) -> tuple[Commit, Tracked]:
    manifest = canonical(files)
    commit = hashlib.sha256(manifest).hexdigest()
    uri = storage.keep(f"files/commits/{commit}.json", io.BytesIO(manifest))
    told: list[TrackedFile] | Moved = files
    if len(manifest) > LIST_LIMIT:
        told = Moved(artifact=uri, sha256=commit)
    return Commit(commit=commit, files=files), Tracked(commit=commit, files=told)


def _failed(reason: Reason, error: Exception, names: list[str], storage: Storage) -> TrackingFailed:
    return TrackingFailed(error=_info(reason, error), files=_that_fit(names, storage))


def _info(reason: Reason, error: Exception) -> ErrorInfo:
    name = type(error).__name__
    return ErrorInfo(reason=reason, type=name, message=bounded(str(error) or name))


def _that_fit(names: list[str], storage: Storage) -> list[str] | Moved:
    body = canonical(names)
    if len(body) <= LIST_LIMIT:
        return names
    digest = hashlib.sha256(body).hexdigest()
    try:
        return Moved(artifact=storage.keep(f"files/refused/{digest}.json", io.BytesIO(body)), sha256=digest)
    except (Fail, StorageError):
        return names[:NAMED]
