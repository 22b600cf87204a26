"""One suite for every bus: in memory on asyncio, in memory in virtual time, and a nats-server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from trio.testing import MockClock

from infra.bus.base import Bus
from infra.bus.embedded import start, stop
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.nats import connect
from tests.conformance.bus.world import World, eventually

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
        async with real_world(tmp_path_factory.mktemp("nats")) as world:
            yield world
    else:
        yield memory_world(LEASE_S[kind])


def memory_world(lease_s: float) -> World:
    """A server in this process."""
    server = MemoryServer()
    bus = MemoryBus(server)

    @asynccontextmanager
    async def another() -> AsyncIterator[Bus]:
        yield MemoryBus(server)

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        bus.disconnect()
        yield
        bus.reconnect()

    @asynccontextmanager
    async def forgetful_outage() -> AsyncIterator[None]:
        before = {stream: list(stream.messages()) for stream in server.streams.values()}
        yield
        for stream, messages in before.items():
            for message in messages:
                if stream.get(message.sequence) is None:
                    stream.bring_back(message)

    return World(bus, another, outage, forgetful_outage, lease_s)


@asynccontextmanager
async def real_world(store: Path) -> AsyncIterator[World]:
    """A nats-server. One each: a stream made anew under the name of a deleted one may find what that left on disk."""
    server = await start(store)

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        nonlocal server
        await stop(server.process)
        await until_connected(bus, False)
        yield
        server = await start(store, port=server.port)
        await until_connected(bus, True)

    @asynccontextmanager
    async def forgetful_outage() -> AsyncIterator[None]:
        """As a full disk does it, to every stream: the messages are as they were, the consumers are not."""
        kept = store / "kept"
        streams = store / "data" / "jetstream" / "$G" / "streams"
        async with outage():
            for messages in streams.glob("*/msgs"):
                shutil.copytree(messages, kept / messages.parent.name)
        yield
        async with outage():
            for messages in kept.iterdir():
                shutil.rmtree(streams / messages.name / "msgs")
                messages.rename(streams / messages.name / "msgs")

    try:
        async with connect(server.url, name="one") as bus:
            yield World(bus, lambda: connect(server.url, name="another"), outage, forgetful_outage, LEASE_S["nats"])
    finally:
        await stop(server.process)


async def until_connected(bus: Bus, connected: bool) -> None:
    """Return once the bus is, or is not."""

    async def holds() -> bool:
        return bus.connected is connected

    await eventually(holds, 1.0)
