"""One suite for every bus: in memory on asyncio, in memory in virtual time, and a nats-server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from trio.testing import MockClock

from infra.bus.base import Bus
from infra.bus.embedded import nats_server
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.nats import connect
from tests.conformance.bus.world import World

LEASE_S: Final = {"memory": 0.1, "virtual": 60.0, "nats": 0.6}


@pytest.fixture(params=["memory", "virtual", pytest.param("nats", marks=pytest.mark.server)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which bus."""
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> str | tuple[str, dict[str, Any]]:
    """trio where time is virtual, asyncio otherwise."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)}) if kind == "virtual" else "asyncio"


@pytest.fixture
async def world(kind: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A server of the test's own, and a connection to it."""
    if kind == "nats":
        # A stream deleted and made anew under the same name may find what the first one left on disk.
        async with nats_server(tmp_path_factory.mktemp("nats")) as server, connect(server.url, name="one") as bus:
            yield World(bus, lambda: connect(server.url, name="another"), LEASE_S[kind])
    else:
        memory = MemoryServer()

        @asynccontextmanager
        async def another() -> AsyncIterator[Bus]:
            yield MemoryBus(memory)

        yield World(MemoryBus(memory), another, LEASE_S[kind])
