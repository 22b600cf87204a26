"""A gateway's own connection to an actor. Calls cross it in a fifth of the time that they take through Ray.

Ray makes an actor, places, watches and ends it. The actor listens until its gateway has come, and says where in its
first word, together with a secret. Messages are msgpack, each with its length in front:

    gateway     the secret, once
    actor       an empty message: it is the right one
    gateway     Asked       any number may be open at a time
    actor       Answered    in any order; a stream's are many, of which the last one says so

What is open when the connection ends is answered by nobody: `LineLost`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final, cast

import msgspec
from msgspec import Struct

from contracts import codec
from infra.pool.wire import LENGTH

__all__ = [
    "Answer",
    "Answered",
    "Argument",
    "Asked",
    "Line",
    "LineLost",
    "Method",
    "Number",
    "Stream",
    "Switchboard",
    "decode_answered",
    "decode_asked",
]

_log = logging.getLogger("jetray.pool")

SECRET_BYTES: Final = 32
CONNECT_S: Final = 2.0
"""How long an actor may take to pick up."""
LISTEN_S: Final = 30.0
"""How long an actor waits for its gateway to call. Where packets to its port are dropped, none does."""
STRANGERS: Final = 16
"""Connections that may be open meanwhile."""
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds, and how often. A job may be silent for longer than a firewall remembers a connection."""

Argument = bytes | None
Answer = bytes | bool | int | None


class Number(Struct, frozen=True):
    """Where an actor is to be reached."""

    host: str
    port: int
    secret: bytes


class Asked(Struct, frozen=True, array_like=True):
    """To the actor: this of its methods, with this argument."""

    call: int
    method: str
    argument: Argument


class Answered(Struct, frozen=True, array_like=True):
    """From the actor: what its method returned, or one item of a stream."""

    call: int
    answer: Answer
    last: bool


class LineLost(Exception):
    """The connection has ended."""


_encoder = msgspec.msgpack.Encoder()
_asked = msgspec.msgpack.Decoder(Asked)
_answered = msgspec.msgpack.Decoder(Answered)


def decode_asked(data: bytes) -> Asked:
    """What the gateway asked; `codec.Undecodable` where it asked nothing."""
    return codec.decode(_asked, data)


def decode_answered(data: bytes) -> Answered:
    """What the actor answered; `codec.Undecodable` where it answered nothing."""
    return codec.decode(_answered, data)


class _End(asyncio.Protocol):
    """One end of a connection: whole messages."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._unread = bytearray()
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while len(self._unread) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._unread)[0]
            if not self.bears(end):
                self.hang_up()
                return
            if len(self._unread) < end:
                return
            message = bytes(self._unread[LENGTH.size : end])
            del self._unread[:end]
            self.take(message)
            if self._transport.is_closing():
                return

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        # Whoever waits for room finds that it waits for nothing.
        self._room.set()

    def bears(self, size: int) -> bool:
        """Whether a message of so many bytes may come."""
        return True

    def take(self, message: bytes) -> None:
        """A message has come."""
        raise NotImplementedError

    def send(self, message: bytes) -> None:
        """Send one, to nobody if the connection has ended. What is read slowly waits here: see `room`."""
        if self._transport.is_closing():
            return
        # Not `writelines`: in Python 3.12 and 3.13 that never says that there is no room.
        self._transport.write(LENGTH.pack(len(message)) + message)

    async def room(self) -> None:
        """Return once what was sent is on its way."""
        await self._room.wait()

    def hang_up(self) -> None:
        """End the connection at once."""
        self._transport.abort()


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


# --- the actor's end --------------------------------------------------------------------------------------------------


Method = Callable[..., Awaitable[Answer]]
"""Takes the argument, if there is one."""
Stream = Callable[[bytes], AsyncIterator[bytes]]


class Switchboard:
    """Where an actor listens, until its gateway has come."""

    def __init__(self, methods: Mapping[str, Method], stream: Stream) -> None:
        self.methods = methods
        self.stream = stream
        self.secret = secrets.token_bytes(SECRET_BYTES)
        self._server: asyncio.Server
        self._strangers: set[_Caller] = set()

    async def open(self, host: str) -> Number:
        """Listen on a port of `host` that is free. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Caller(self), host, 0)
        loop.call_later(LISTEN_S, self.close)
        return Number(host, self._server.sockets[0].getsockname()[1], self.secret)

    def called(self, caller: _Caller) -> bool:
        """Somebody has connected. False where too many have."""
        if len(self._strangers) >= STRANGERS:
            return False
        self._strangers.add(caller)
        return True

    def left(self, caller: _Caller) -> None:
        """Its connection has ended."""
        self._strangers.discard(caller)

    def known(self, caller: _Caller) -> None:
        """It is the gateway: nobody else is wanted any more."""
        self._strangers.discard(caller)
        self.close()

    def close(self) -> None:
        """Listen no more, and hang up on strangers."""
        self._server.close()
        for stranger in [*self._strangers]:
            stranger.hang_up()


class _Caller(_End):
    """Whoever has connected: nobody, before it has said the secret."""

    def __init__(self, switchboard: Switchboard) -> None:
        super().__init__()
        self._switchboard = switchboard
        self._known = False
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._switchboard.called(self):
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._switchboard.left(self)

    def bears(self, size: int) -> bool:
        return self._known or size == LENGTH.size + SECRET_BYTES

    def take(self, message: bytes) -> None:
        if self._known:
            task = asyncio.get_running_loop().create_task(self._answer(decode_asked(message)))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        elif secrets.compare_digest(message, self._switchboard.secret):
            self._known = True
            self._switchboard.known(self)
            self.send(b"")
        else:
            self.hang_up()

    async def _answer(self, asked: Asked) -> None:
        if asked.method == "stream":
            assert isinstance(asked.argument, bytes)
            async for item in self._switchboard.stream(asked.argument):
                self._send(Answered(asked.call, item, last=False))
                await self.room()
            self._send(Answered(asked.call, None, last=True))
        else:
            arguments = () if asked.argument is None else (asked.argument,)
            answer = await self._switchboard.methods[asked.method](*arguments)
            self._send(Answered(asked.call, answer, last=True))

    def _send(self, answered: Answered) -> None:
        self.send(_encoder.encode(answered))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            # Whoever asked waits for an answer that cannot come.
            _log.error("an actor could not answer its gateway", exc_info=None if task.cancelled() else task.exception())
            self.hang_up()


# --- the gateway's end ------------------------------------------------------------------------------------------------


class Line(_End):
    """The way to one actor."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = itertools.count()
        self._open: dict[int, asyncio.Queue[Answered | None]] = {}
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @staticmethod
    async def connect(to: Number) -> Line:
        """Call an actor. Raises `OSError`, `TimeoutError` among them."""
        async with asyncio.timeout(CONNECT_S):
            _, line = await asyncio.get_running_loop().create_connection(Line, to.host, to.port)
            with ExitStack() as otherwise:
                otherwise.callback(line.hang_up)
                line.send(to.secret)
                # Who accepts a connection is not always who was called, as behind a proxy.
                await line._greeted
                otherwise.pop_all()
        return line

    async def ask(self, method: str, argument: Argument = None) -> Answer:
        """What a method returns. Raises `LineLost`. Cancelling this does not cancel that."""
        with self._asking(method, argument) as answers:
            return (await _next(answers)).answer

    async def stream(self, argument: bytes) -> AsyncGenerator[bytes, None]:
        """What `stream` yields. Raises `LineLost`."""
        with self._asking("stream", argument) as answers:
            while not (answered := await _next(answers)).last:
                assert isinstance(answered.answer, bytes)
                yield answered.answer

    def take(self, message: bytes) -> None:
        if not self._greeted.done():
            self._greeted.set_result(None)
            return
        answered = decode_answered(message)
        # Whoever asked may have gone since.
        if (waiting := self._open.get(answered.call)) is not None:
            waiting.put_nowait(answered)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._greeted.done():
            self._greeted.set_exception(ConnectionResetError("it hung up"))
        for waiting in self._open.values():
            waiting.put_nowait(None)

    @contextmanager
    def _asking(self, method: str, argument: Argument) -> Iterator[asyncio.Queue[Answered | None]]:
        if self._transport.is_closing():
            raise LineLost
        call = next(self._calls)
        answers = self._open[call] = asyncio.Queue[Answered | None]()
        try:
            self.send(_encoder.encode(Asked(call, method, argument)))
            yield answers
        finally:
            del self._open[call]


async def _next(answers: asyncio.Queue[Answered | None]) -> Answered:
    answered = await answers.get()
    if answered is None:
        raise LineLost
    return answered
