"""What single stores of files do beside the rest: `tests/conformance/store` has what all do."""

from __future__ import annotations

import errno
import io
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from infra.bus.embedded import nats_server
from infra.bus.nats import connect
from infra.store import edge, folder
from infra.store.base import Missing, StoreError, Unfit
from infra.store.edge import Link, ObjectFiles
from infra.store.files import FileStores, NatsAccess
from infra.store.folder import FolderFiles
from infra.store.remote import RemoteFiles
from infra.store.uris import below, wrong_with

# --- URIs


@pytest.mark.parametrize(
    ("uri", "wrong"),
    [
        ("file:///srv/files", ""),
        ("file:///", ""),
        ("nats://artifacts", ""),
        ("s3://bucket/a prefix/ü", ""),
        ("srv/files", "is no URI, as file:///srv/files"),
        ("file://srv/files", "is no absolute path, as file:///srv/files"),
        ("FILE:///srv", "is no URI, as file:///srv/files"),
        ("s3://bucket/../other", "has a part that is empty, . or .."),
        ("s3://bucket//other", "has a part that is empty, . or .."),
        ("file:////etc", "has a part that is empty, . or .."),
        ("zip://a::file:///etc/passwd", "has '::' in it"),
        ("s3://me@bucket/a", "has '@' in it"),
        ("s3://bucket/%2e%2e/a", "has '%' in it"),
        ("s3://bucket/a?versionId=1", "has '?' in it"),
        ("file:///a\udcff", "has '\\udcff' in it"),
    ],
)
def test_odd_uris_are_told(uri: str, wrong: str) -> None:
    assert wrong_with(uri) == wrong


def test_a_prefix_ends_where_a_name_does() -> None:
    assert below("file:///srv/data/a", "file:///srv/data") == "a"
    assert below("file:///srv/data/a", "file:///srv/data/") == "a"
    with pytest.raises(Missing):
        below("file:///srv/database/a", "file:///srv/data")


# --- a directory


@pytest.fixture
def files(tmp_path: Path) -> FolderFiles:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("secret")
    return FolderFiles(f"file://{tmp_path}/root")


def fetched(store: Any, uri: str, folder: Path) -> bytes:
    with (folder / "fetched").open("w+b") as into:
        store.fetch(uri, into)
    return (folder / "fetched").read_bytes()


@pytest.mark.parametrize("name", ["link", "up/secret", "loop", "pipe", "directory", "socket"])
def test_nothing_but_files_is_read_and_no_link_followed(
    files: FolderFiles, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    (root / "directory").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)  # the path of a socket must be short
        listening.bind("socket")
        with pytest.raises(Missing):
            fetched(files, f"file://{root}/{name}", tmp_path)


def test_nothing_is_kept_through_a_link(files: FolderFiles, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "root" / "files").symlink_to(elsewhere)
    with pytest.raises(StoreError):
        files.keep("files/a", io.BytesIO(b"x"))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("odd", [lambda path: path.symlink_to("nothing"), os.mkfifo])
def test_what_is_no_file_is_not_taken_for_one_that_is_kept(files: FolderFiles, tmp_path: Path, odd: Any) -> None:
    odd(tmp_path / "root" / "a")
    assert fetched(files, files.keep("a", io.BytesIO(b"x")), tmp_path) == b"x"


def test_what_is_half_written_has_no_name(files: FolderFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        assert [path.suffix for path in (tmp_path / "root").iterdir()] == [".part"]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="a cannot be kept: No space left on device"):
        files.keep("a", io.BytesIO(b"x"))
    assert list((tmp_path / "root").iterdir()) == []


def test_a_file_is_cloned_where_that_can_be(
    files: FolderFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = files.keep("a", io.BytesIO(b"original"))

    def clone(into: int, request: int, source: int) -> int:
        assert request == 0x40049409
        assert os.pread(source, 100, 0) == b"original"
        os.write(into, b"shared blocks")
        return 0

    monkeypatch.setattr(folder, "ioctl", clone)
    assert fetched(files, uri, tmp_path) == b"shared blocks"


def test_a_root_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a cannot be kept: Not a directory"):
        FolderFiles(f"file://{tmp_path}/file/root").keep("a", io.BytesIO(b"x"))


# --- NATS


async def _make_bucket(url: str, ttl_s: float | None = None) -> None:
    async with connect(url, name="test") as bus:
        await bus.jetstream().create_object_store("artifacts", ttl=ttl_s)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Callable[[float | None], str]]:
    """Starts a nats-server with an object store whose files are kept for so many seconds."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(nats_server(tmp_path / "nats")) as server:

        def started(ttl_s: float | None = None) -> str:
            portal.call(_make_bucket, server.url, ttl_s)
            return server.url

        yield started


@pytest.mark.server
def test_what_will_soon_be_forgotten_is_kept_anew(
    bucket: Callable[[float | None], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(minutes=31)

    link = Link(bucket(3600.0))
    store = ObjectFiles("nats://artifacts", link)
    uri = store.keep("a", io.BytesIO(b"one"))
    store.keep("a", io.BytesIO(b"two"))
    assert fetched(store, uri, tmp_path) == b"one"
    monkeypatch.setattr(edge, "datetime", Later)
    store.keep("a", io.BytesIO(b"three"))
    assert fetched(store, uri, tmp_path) == b"three"
    link.close()


@pytest.mark.server
def test_a_closed_connection_is_made_again(bucket: Callable[[float | None], str], tmp_path: Path) -> None:
    link = Link(bucket(None))
    link.close()
    for name in ("a", "b"):
        store = ObjectFiles("nats://artifacts", link)
        assert fetched(store, store.keep(name, io.BytesIO(b"x")), tmp_path) == b"x"
        link.close()
        link.close()


@pytest.mark.server
def test_a_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with start_blocking_portal() as portal:
        with portal.wrap_async_context_manager(nats_server(tmp_path / "nats")) as server:
            portal.call(_make_bucket, server.url)
            link, port = Link(server.url), server.port
            store = ObjectFiles("nats://artifacts", link)
            uri = store.keep("a", io.BytesIO(b"x"))
        for _ in range(2):
            with pytest.raises(StoreError):
                store.keep("b", io.BytesIO(b"x"))
        with portal.wrap_async_context_manager(nats_server(tmp_path / "nats", port=port)):
            assert fetched(store, uri, tmp_path) == b"x"
            assert fetched(store, store.keep("b", io.BytesIO(b"y")), tmp_path) == b"y"
            link.close()


@pytest.mark.server
def test_a_bucket_that_is_not_there_is_the_operators(bucket: Callable[[float | None], str]) -> None:
    link = Link(bucket(None))
    with pytest.raises(Unfit, match="there is no object store nowhere"):
        ObjectFiles("nats://nowhere", link).keep("a", io.BytesIO(b"x"))
    link.close()


def test_where_nobody_listens_is_an_error_and_no_wait_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    link = Link(f"nats://127.0.0.1:{port}")
    with pytest.raises(StoreError, match="NATS does not take or give files just now"):
        ObjectFiles("nats://artifacts", link).keep("a", io.BytesIO(b"x"))
    link.close()


@pytest.mark.anyio
async def test_a_file_that_stops_half_way_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "STALL_S", 0.05)
    into = io.BytesIO()

    async def stops(writer: Any) -> None:
        for _ in range(5):
            writer.write(b"xx")
            await anyio.sleep(0.02)
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError, match="it stops after 10 bytes"):
        await edge._unless_stalled(stops, into)
    assert into.getvalue() == b"x" * 10


# --- which store


def test_nothing_is_connected_before_it_is_asked_for() -> None:
    stores = FileStores(NatsAccess(url="nats://nobody.invalid:4222"))
    first, second = stores.open("nats://artifacts"), stores.open("nats://other/prefix")
    assert isinstance(first, ObjectFiles)
    assert isinstance(second, ObjectFiles)
    assert first._link is second._link
    assert first._link._loop is None
    assert isinstance(stores.open("file:///srv"), FolderFiles)
    assert isinstance(stores.open("s3://bucket"), RemoteFiles)


@pytest.mark.parametrize("uri", ["nats://artifacts", "http://host/a", "srv", "memory://a"])
def test_other_places_are_none(uri: str) -> None:
    with pytest.raises(Unfit, match="is no place for files here"):
        FileStores().open(uri)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(name: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(Unfit, match="s3:// needs the package s3fs wherever jobs run"):
        RemoteFiles("s3://bucket").keep("a", io.BytesIO(b"x"))
