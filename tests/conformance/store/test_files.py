"""What every store of files does."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest

from infra.store.base import FileStore, Missing, StoreError

Opener = Callable[[str], FileStore]


def fetched(store: FileStore, uri: str, folder: Path) -> bytes:
    """What is under a URI, as it arrives in a file that held something else."""
    file = folder / "fetched"
    file.write_bytes(b"what was there before, and is longer than most of what comes")
    with file.open("r+b") as into:
        store.fetch(uri, into)
    return file.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 1_000_000])
def test_what_is_kept_can_be_fetched(store: FileStore, root: str, tmp_path: Path, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    uri = store.keep("files/sha256/abc", io.BytesIO(data))
    assert uri == f"{root}/files/sha256/abc"
    assert fetched(store, uri, tmp_path) == data


def test_files_are_kept_from_their_beginning_wherever_they_were_read_to(store: FileStore, tmp_path: Path) -> None:
    with SpooledTemporaryFile(max_size=2) as data:
        data.write(b"all of it")
        uri = store.keep("a", data)
    assert fetched(store, uri, tmp_path) == b"all of it"


def test_what_is_there_is_not_kept_again(store: FileStore, tmp_path: Path) -> None:
    uri = store.keep("a", io.BytesIO(b"one"))
    assert store.keep("a", io.BytesIO(b"two")) == uri
    assert fetched(store, uri, tmp_path) == b"one"


def test_names_are_apart(store: FileStore, tmp_path: Path) -> None:
    uris = {store.keep(name, io.BytesIO(name.encode())): name for name in ("a", "a b", "b/a", "b/a.b", "ü")}
    assert {uri: fetched(store, uri, tmp_path).decode() for uri in uris} == uris


def test_what_is_not_there_is_missing(store: FileStore, root: str, tmp_path: Path) -> None:
    store.keep("b/c", io.BytesIO(b"x"))
    for name in ("a", "b", "b/c/d", "b/" + "x" * 200):
        with pytest.raises(Missing):
            fetched(store, f"{root}/{name}", tmp_path)


def test_what_lies_elsewhere_is_missing(opened: Opener, root: str, tmp_path: Path) -> None:
    elsewhere = opened(f"{root}-elsewhere").keep("a", io.BytesIO(b"secret"))
    store = opened(root)
    store.keep("a", io.BytesIO(b"x"))
    for uri in (elsewhere, f"{root}/../{root.rpartition('/')[2]}-elsewhere/a", root, f"{root}/", "a", ""):
        with pytest.raises(Missing):
            fetched(store, uri, tmp_path)


ODD = [
    "a//b",
    "./a",
    "a/..",
    "a/../a",
    "%61",
    "a?b",
    "a#b",
    "a*",
    "a[b]",
    "u@a",
    "zip://x::a",
    "a::b",
    "a\nb",
    "a\\b",
    "\0",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_uris_are_missing_before_anybody_looks(store: FileStore, root: str, tmp_path: Path, name: str) -> None:
    store.keep("a", io.BytesIO(b"x"))
    with pytest.raises(Missing):
        fetched(store, f"{root}/{name}", tmp_path)
    with pytest.raises(Missing):
        store.keep(name, io.BytesIO(b"x"))


class Torn(io.BytesIO):
    """A file of which only the first part can be read."""

    def read(self, size: int | None = -1) -> bytes:
        self._tear(-1 if size is None else size)
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self._tear(memoryview(buffer).nbytes)
        return super().readinto(buffer)

    def _tear(self, size: int) -> None:
        if self.tell() or size < 0:
            raise OSError(5, "torn")


def test_of_what_could_not_be_read_nothing_is_there(store: FileStore, root: str, tmp_path: Path) -> None:
    with pytest.raises((StoreError, OSError)):
        store.keep("a", Torn(b"x" * 300_000))
    with pytest.raises(Missing):
        fetched(store, f"{root}/a", tmp_path)
    assert fetched(store, store.keep("a", io.BytesIO(b"whole")), tmp_path) == b"whole"


def test_many_may_keep_the_same_at_once(store: FileStore, tmp_path: Path) -> None:
    data = b"x" * 300_000
    with ThreadPoolExecutor(8) as threads:
        uris = set(threads.map(lambda _: store.keep("a", io.BytesIO(data)), range(16)))
    assert len(uris) == 1
    assert fetched(store, uris.pop(), tmp_path) == data
