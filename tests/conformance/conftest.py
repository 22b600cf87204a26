"""One suite for every bus: in memory on asyncio, in memory in virtual time, and a nats-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from trio.testing import MockClock

from infra.bus.base import Bus
from infra.bus.embedded import nats_server
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.nats import NatsBus, connect
from tests.conformance.world import World

LEASE_S = {"memory": 0.2, "virtual": 60.0, "nats": 0.6}


@pytest.fixture(params=["memory", "virtual", pytest.param("nats", marks=pytest.mark.server)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which bus."""
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> str | tuple[str, dict[str, Any]]:
    """trio where time is virtual, asyncio otherwise."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)}) if kind == "virtual" else "asyncio"


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A nats-server for the whole run."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(nats_server(tmp_path_factory.mktemp("nats"))) as server,
    ):
        yield server.url


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """Where the bus is; nowhere for those in memory."""
    return str(request.getfixturevalue("nats_url")) if kind == "nats" else ""


@pytest.fixture
async def world(kind: str, url: str) -> AsyncIterator[World]:
    """A server without streams, and a connection to it."""
    if kind == "nats":
        async with connect(url, name="conformance") as bus:
            await _delete_streams(bus)
            yield World(bus, lambda: connect(url, name="another"), LEASE_S[kind])
    else:
        server = MemoryServer()

        @asynccontextmanager
        async def another() -> AsyncIterator[Bus]:
            yield MemoryBus(server)

        yield World(MemoryBus(server), another, LEASE_S[kind])


async def _delete_streams(bus: NatsBus) -> None:
    names = (await bus.api("STREAM.NAMES", None)).get("streams") or []
    for name in names:
        await bus.api(f"STREAM.DELETE.{name}", None)
