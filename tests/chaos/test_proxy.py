"""The door does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.chaos.proxy import Door, door

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

QUIET_S = 0.2
"""Long enough for bytes that would come to have come: only ever too short to see a fault, never to make one up."""


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each line with itself, its port, and what it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(line)
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


class Client:
    """One connection through a door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, line: bytes) -> None:
        self._writer.write(line)

    async def hears(self, within_s: float = 20) -> bytes:
        async with asyncio.timeout(within_s):
            return await self._reader.readline()

    async def hears_nothing(self) -> bool:
        try:
            return await self.hears(QUIET_S) == b""
        except TimeoutError:
            return True

    async def is_cut(self) -> bool:
        try:
            async with asyncio.timeout(20):
                return await self._reader.read() == b""
        except ConnectionResetError:
            return True


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[tuple[Door, list[bytes], Client]]:
    async with echoing() as (port, heard), door(port) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        client = Client(reader, writer)
        client.say(b"hello\n")
        assert await client.hears() == b"hello\n"
        yield made, heard, client
        writer.close()


async def test_a_stalled_door_holds_both_directions_and_loses_nothing(scene: tuple[Door, list[bytes], Client]) -> None:
    made, heard, client = scene
    made.stall()
    client.say(b"late\n")
    assert await client.hears_nothing()
    assert heard == [b"hello\n"]
    made.heal()
    assert await client.hears() == b"late\n"


async def test_whoever_connects_to_a_stalled_door_hears_nothing_until_it_is_healed(
    scene: tuple[Door, list[bytes], Client],
) -> None:
    made, _, _ = scene
    made.stall()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    newcomer = Client(reader, writer)
    newcomer.say(b"new\n")
    assert await newcomer.hears_nothing()
    made.heal()
    assert await newcomer.hears() == b"new\n"
    writer.close()


async def test_a_muted_door_lets_requests_through_and_swallows_the_answers(
    scene: tuple[Door, list[bytes], Client],
) -> None:
    made, heard, client = scene
    made.mute()
    client.say(b"asked\n")
    assert await client.hears_nothing()
    assert heard == [b"hello\n", b"asked\n"]
    assert made.swallowed == len(b"asked\n")
    made.heal()
    assert await client.is_cut()


async def test_a_cut_door_breaks_the_connection_and_takes_new_ones(scene: tuple[Door, list[bytes], Client]) -> None:
    made, _, client = scene
    made.cut()
    assert await client.is_cut()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    again = Client(reader, writer)
    again.say(b"again\n")
    assert await again.hears() == b"again\n"
    writer.close()


async def test_a_trap_lets_the_word_through_and_loses_its_answer(scene: tuple[Door, list[bytes], Client]) -> None:
    made, heard, client = scene
    trap = asyncio.create_task(made.trap(b"second"))
    await asyncio.sleep(0)
    client.say(b"first\n")
    assert await client.hears() == b"first\n"
    client.say(b"the second\n")
    await trap
    assert await client.hears_nothing()
    assert heard == [b"hello\n", b"first\n", b"the second\n"]
    made.heal()
    assert await client.is_cut()


async def test_a_door_whose_server_is_gone_ends_connections() -> None:
    async with echoing() as (port, _):
        pass
    async with door(port) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        assert await Client(reader, writer).is_cut()
        writer.close()
