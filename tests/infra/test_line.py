"""`infra.pool.ray.line`: both ends of a line over a real socket. What jobs do on it the conformance suite shows."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import msgspec
import pytest
import uvloop

from infra.pool.ray import line as line_module
from infra.pool.ray.line import STRANGERS, Asked, Line, LineLost, Method, Number, Switchboard

LOOPBACK = "127.0.0.1"


class Actor:
    """What answers."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.yielded = 0

    async def open(self) -> Number:
        methods: dict[str, Method] = {
            "echo": self.echo,
            "count": self.count,
            "wait": self.wait,
            "fails": self.fails,
            "cancels": self.cancels,
        }
        return await Switchboard(methods, self.stream).open(LOOPBACK)

    async def echo(self, data: bytes) -> bytes:
        return data

    async def count(self) -> int:
        return 7

    async def wait(self, data: bytes) -> bytes:
        self.began.set()
        await self.go_on.wait()
        return data

    async def fails(self) -> None:
        raise KeyError("nothing there")

    async def cancels(self) -> None:
        """As who awaits a task that it has cancelled itself."""
        raise asyncio.CancelledError

    async def stream(self, data: bytes) -> AsyncIterator[bytes]:
        for _ in range(100):
            self.yielded += 1
            yield data


@pytest.mark.asyncio
async def test_answers_come_to_those_who_asked() -> None:
    line = await Line.connect(await Actor().open())
    assert await line.ask("count") == 7
    echoes = await asyncio.gather(*(line.ask("echo", b"%d" % number) for number in range(100)))
    assert echoes == [b"%d" % number for number in range(100)]
    line.hang_up()


@pytest.mark.asyncio
async def test_one_who_waits_holds_up_nobody() -> None:
    actor = Actor()
    line = await Line.connect(await actor.open())
    waiting = asyncio.create_task(line.ask("wait", b"first"))
    await actor.began.wait()
    assert await line.ask("echo", b"second") == b"second"
    assert not waiting.done()
    actor.go_on.set()
    assert await waiting == b"first"
    line.hang_up()


@pytest.mark.asyncio
async def test_an_answer_may_be_large() -> None:
    line = await Line.connect(await Actor().open())
    data = b"x" * 20_000_000
    assert await line.ask("echo", data) == data
    line.hang_up()


@pytest.mark.asyncio
async def test_a_stream_comes_whole_and_in_order() -> None:
    line = await Line.connect(await Actor().open())
    assert [item async for item in line.stream(b"item")] == [b"item"] * 100
    line.hang_up()


@pytest.mark.asyncio
async def test_a_stream_waits_for_whoever_reads_it() -> None:
    actor = Actor()
    line = await Line.connect(await actor.open())
    line._transport.pause_reading()
    reading = asyncio.create_task(anext(line.stream(b"x" * 1_000_000)))
    await asyncio.sleep(0.2)
    assert 0 < actor.yielded < 50
    line._transport.resume_reading()
    assert await reading == b"x" * 1_000_000
    line.hang_up()


@pytest.mark.asyncio
async def test_who_gives_up_is_not_waited_for() -> None:
    actor = Actor()
    line = await Line.connect(await actor.open())
    waiting = asyncio.create_task(line.ask("wait", b"late"))
    await actor.began.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    actor.go_on.set()
    assert await line.ask("echo", b"on time") == b"on time"
    assert line._open == {}
    line.hang_up()


@pytest.mark.asyncio
async def test_what_is_open_when_the_line_ends_is_lost() -> None:
    actor = Actor()
    line = await Line.connect(await actor.open())
    waiting = asyncio.create_task(line.ask("wait", b""))
    await actor.began.wait()
    line.hang_up()
    with pytest.raises(LineLost):
        await waiting
    with pytest.raises(LineLost):
        await line.ask("count")


@pytest.mark.asyncio
async def test_a_stream_ends_with_its_line() -> None:
    line = await Line.connect(await Actor().open())
    line._transport.pause_reading()
    reading = asyncio.create_task(anext(line.stream(b"x" * 1_000_000)))
    await asyncio.sleep(0.1)
    line.hang_up()
    with pytest.raises(LineLost):
        await reading


@pytest.mark.parametrize("method", ["fails", "cancels", "unheard of"])
@pytest.mark.asyncio
async def test_what_cannot_be_answered_ends_the_line(method: str, caplog: pytest.LogCaptureFixture) -> None:
    line = await Line.connect(await Actor().open())
    with pytest.raises(LineLost):
        await line.ask(method)
    assert "could not answer" in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!I", 32) + b"w" * 32,
        struct.pack("!I", 1 << 31),
        struct.pack("!I", 4) + b"word",
        msgspec.msgpack.encode(Asked(1, "count", None)),
    ],
    ids=["another secret", "very long", "short", "no secret"],
)
@pytest.mark.asyncio
async def test_a_stranger_hears_nothing_and_keeps_nobody_out(said: bytes) -> None:
    number = await Actor().open()
    reader, writer = await asyncio.open_connection(number.host, number.port)
    writer.write(said)
    async with asyncio.timeout(10):
        assert await _read(reader) == b""
    line = await Line.connect(number)
    assert await line.ask("count") == 7
    line.hang_up()
    writer.close()


@pytest.mark.asyncio
async def test_strangers_go_when_the_gateway_comes_and_there_are_never_many() -> None:
    number = await Actor().open()
    strangers = [await asyncio.open_connection(number.host, number.port) for _ in range(STRANGERS + 1)]
    async with asyncio.timeout(10):
        assert await _read(strangers[-1][0]) == b"", "there are too many already"
        strangers[0][1].close()
        await strangers[0][1].wait_closed()
        line = await _as_soon_as_there_is_room(number)
        for reader, writer in strangers[1:]:
            assert await _read(reader) == b""
            writer.close()
    assert await line.ask("count") == 7
    line.hang_up()


@pytest.mark.asyncio
@pytest.mark.parametrize("hangs_up", [True, False])
async def test_who_only_accepts_has_not_picked_up(monkeypatch: pytest.MonkeyPatch, *, hangs_up: bool) -> None:
    monkeypatch.setattr(line_module, "CONNECT_S", 0.2)
    ended = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not hangs_up:
            await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(accept, LOOPBACK, 0) as server:
        number = Number(LOOPBACK, server.sockets[0].getsockname()[1], b"s" * 32)
        with pytest.raises(ConnectionError if hangs_up else TimeoutError):
            await Line.connect(number)
        async with asyncio.timeout(10):
            await ended.wait()


@pytest.mark.asyncio
async def test_once_its_gateway_has_come_an_actor_listens_no_more() -> None:
    number = await Actor().open()
    line = await Line.connect(number)
    await line.ask("count")
    with pytest.raises(ConnectionRefusedError):
        await Line.connect(number)
    line.hang_up()


def test_an_actor_on_uvloop_answers() -> None:
    async def main() -> None:
        line = await Line.connect(await Actor().open())
        assert await line.ask("count") == 7
        line.hang_up()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def _read(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


async def _as_soon_as_there_is_room(number: Number) -> Line:
    while True:
        with contextlib.suppress(ConnectionError):
            return await Line.connect(number)
        await asyncio.sleep(0.01)
