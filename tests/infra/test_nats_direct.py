"""The short way of messages through the client, and what stays on nats-py's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from nats.aio.client import Client

from infra.bus.embedded import nats_server
from infra.bus.nats.client import Arrived, DirectClient
from infra.bus.nats.framing import framed, header_block

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def nats_url(tmp_path: Path) -> AsyncIterator[str]:
    async with nats_server(tmp_path) as server:
        yield server.url


async def until(holds: Callable[[], bool]) -> None:
    """The client announces nothing that could be waited for."""
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_frames_are_those_of_the_client_library() -> None:
    sent: list[bytes] = []

    class Recorder(Client):
        async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
            sent.append(cmd)

    headers = {"A": " b\r\n", "C-d": "é"}
    await Recorder()._send_publish("x.y", "r", b"body", 4, headers)
    await Recorder()._send_publish("x.y", "r", b"body", 4, None)
    assert [framed("x.y", "r", header_block(headers), b"body"), framed("x.y", "r", b"", b"body")] == sent


@pytest.mark.server
async def test_plain_messages_are_taken_where_they_are_read_and_a_status_by_the_queue(nats_url: str) -> None:
    client = DirectClient()
    await client.connect(nats_url)
    queued: list[int] = []
    inner = Client._process_msg

    async def spy(self: Client, sid: int, *rest: bytes) -> None:
        queued.append(sid)
        await inner(self, sid, *rest)

    arrived: list[Arrived] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "_process_msg", spy)
        direct = await client.subscribe_direct("direct.>", arrived.append)
        await client.publish("direct.a", b"1", headers={"H": "v"})
        await client.publish("direct.b", b"2", reply="r")
        await client.publish("nobody.hears", b"", reply="direct.none")
        await until(lambda: len(arrived) == 3)
    assert [(message.subject, message.data) for message in arrived] == [
        ("direct.a", b"1"),
        ("direct.b", b"2"),
        ("direct.none", b""),
    ]
    assert arrived[0].headers == {"H": "v"}
    assert arrived[1].reply == "r"
    assert (arrived[2].headers or {})["Status"] == "503"
    assert queued == [direct._id]
    await client.close()


@pytest.mark.server
async def test_an_error_of_whoever_takes_leaves_the_connection_as_it_is(nats_url: str) -> None:
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    client = DirectClient()
    await client.connect(nats_url, error_cb=note)

    def take(message: Arrived) -> None:
        raise ValueError(message.subject)

    await client.subscribe_direct("direct.>", take)
    await client.publish("direct.a", b"1")
    await until(lambda: bool(errors))
    assert [str(error) for error in errors] == ["direct.a"]
    assert client.is_connected
    await client.close()


@pytest.mark.server
async def test_a_flush_that_nobody_waits_for_any_more_leaves_the_connection_as_it_is(nats_url: str) -> None:
    client = DirectClient()
    await client.connect(nats_url)
    arrived: list[Arrived] = []
    await client.subscribe_direct("direct.>", arrived.append)
    given_up = asyncio.get_running_loop().create_future()
    given_up.cancel()
    await client._send_ping(given_up)
    await client.publish("direct.a", b"1")
    await until(lambda: bool(arrived))
    await client.close()
