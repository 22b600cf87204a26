"""Each test here runs once for every store of files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from infra.bus.embedded import nats_server
from infra.bus.nats import connect
from infra.store.base import FileStore
from infra.store.edge import Link, ObjectFiles
from infra.store.folder import FolderFiles
from infra.store.memory import MemoryFiles, MemoryStore
from infra.store.remote import RemoteFiles

STORES = ["memory", "folder", "fsspec", pytest.param("nats", marks=pytest.mark.server)]

Opener = Callable[[str], FileStore]


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A nats-server with an object store `artifacts`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(nats_server(tmp_path_factory.mktemp("nats"))) as server,
    ):
        portal.call(_make_bucket, server.url)
        yield server.url


async def _make_bucket(url: str) -> None:
    async with connect(url, name="test") as bus:
        await bus.jetstream().create_object_store("artifacts")


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    return str(request.param)


@pytest.fixture
def root(kind: str, tmp_path: Path) -> str:
    """A place of the test's own."""
    name = uuid.uuid4().hex
    places = {
        "memory": f"memory://{name}",
        "fsspec": f"local://{tmp_path}/files",
        "folder": f"file://{tmp_path}/files",
        "nats": f"nats://artifacts/{name}",
    }
    return places[kind]


@pytest.fixture
def opened(kind: str, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens the store below a URI."""
    if kind == "nats":
        link = Link(request.getfixturevalue("nats_url"))
        yield lambda root: ObjectFiles(root, link)
        link.close()
    else:
        memory = MemoryStore()
        openers: dict[str, Opener] = {
            "memory": lambda root: MemoryFiles(memory, root),
            "fsspec": partial(RemoteFiles, auto_mkdir=True),
            "folder": FolderFiles,
        }
        yield openers[kind]


@pytest.fixture
def store(opened: Opener, root: str) -> FileStore:
    """The store of the test's own place."""
    return opened(root)
