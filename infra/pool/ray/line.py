"""A gateway's own connection to an actor. Calls cross it in a fifth of the time that they take through Ray.

Ray makes an actor, places, watches and ends it. The actor listens until its gateway has come, and says where in its
first word, together with a secret. Messages are msgpack, each with its length in front:

    gateway     the secret, once
                Asked       any number may be open at a time
    actor       Answered    in any order; a stream's are many, of which the last one says so

What is open when the connection ends is answered by nobody: `LineLost`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
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

Argument = bytes | None
Answer = bytes | bool | int | None


class Number(Struct, frozen=True):
    """Where an actor is to be reached."""

    host: str
    port: int
    secret: bytes


class Asked(Struct, frozen=True, array_like=True):
    """To the actor: this of its methods, with this argument."""

    number: int
    method: str
    argument: Argument


class Answered(Struct, frozen=True, array_like=True):
    """From the actor: what its method returned, or one item of a stream."""

    number: int
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

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while len(self._unread) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._unread)[0]
            if not self.bears(end):
                self._transport.abort()
                return
            if len(self._unread) < end:
                return
            message = bytes(self._unread[LENGTH.size : end])
            del self._unread[:end]
            self.take(message)

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
        """Send one. What the other end reads slowly waits here: `room` tells when there is room."""
        # Not `writelines`: in Python 3.12 that never says that there is no room.
        self._transport.write(LENGTH.pack(len(message)) + message)

    async def room(self) -> None:
        """Return once what was sent is on its way."""
        await self._room.wait()


# --- the actor's end --------------------------------------------------------------------------------------------------


Method = Callable[..., Awaitable[Answer]]
"""Takes the argument, if there is one."""
Stream = Callable[[bytes], AsyncIterator[bytes]]


class Switchboard:
    """Where an actor listens, until its gateway has come."""

    def __init__(self, methods: Mapping[str, Method], stream: Stream) -> None:
        self._methods = methods
        self._stream = stream
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._server: asyncio.Server

    async def open(self, host: str) -> Number:
        """Listen on a port of `host` that is free. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._caller, host, 0)
        loop.call_later(LISTEN_S, self._server.close)
        return Number(host, self._server.sockets[0].getsockname()[1], self._secret)

    def _caller(self) -> _Caller:
        return _Caller(self._secret, self._methods, self._stream, self._server.close)


class _Caller(_End):
    """Whoever has connected: nobody, before it has said the secret."""

    def __init__(self, secret: bytes, methods: Mapping[str, Method], stream: Stream, came: Callable[[], None]) -> None:
        super().__init__()
        self._secret = secret
        self._methods = methods
        self._stream = stream
        self._came = came
        self._known = False
        self._tasks: set[asyncio.Task[None]] = set()

    def bears(self, size: int) -> bool:
        return self._known or size == LENGTH.size + SECRET_BYTES

    def take(self, message: bytes) -> None:
        if self._known:
            task = asyncio.get_running_loop().create_task(self._answer(decode_asked(message)))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        elif secrets.compare_digest(message, self._secret):
            self._known = True
            self._came()
        else:
            self._transport.abort()

    async def _answer(self, asked: Asked) -> None:
        if asked.method == "stream":
            assert isinstance(asked.argument, bytes)
            async for item in self._stream(asked.argument):
                self._send(Answered(asked.number, item, last=False))
                await self.room()
            self._send(Answered(asked.number, None, last=True))
        else:
            arguments = () if asked.argument is None else (asked.argument,)
            answer = await self._methods[asked.method](*arguments)
            self._send(Answered(asked.number, answer, last=True))

    def _send(self, answered: Answered) -> None:
        self.send(_encoder.encode(answered))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever asked waits for an answer that cannot come.
            _log.error("an actor could not answer its gateway", exc_info=error)
            self._transport.abort()


# --- the gateway's end ------------------------------------------------------------------------------------------------


class Line(_End):
    """The way to one actor."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Queue[Answered | None]] = {}

    @staticmethod
    async def connect(to: Number) -> Line:
        """Call an actor. Raises `OSError`, `TimeoutError` among them."""
        async with asyncio.timeout(CONNECT_S):
            _, line = await asyncio.get_running_loop().create_connection(Line, to.host, to.port)
        line.send(to.secret)
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

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def take(self, message: bytes) -> None:
        answered = decode_answered(message)
        # Whoever asked may have gone since.
        if (waiting := self._open.get(answered.number)) is not None:
            waiting.put_nowait(answered)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for waiting in self._open.values():
            waiting.put_nowait(None)

    @contextmanager
    def _asking(self, method: str, argument: Argument) -> Iterator[asyncio.Queue[Answered | None]]:
        if self._transport.is_closing():
            raise LineLost
        number = next(self._numbers)
        answers = self._open[number] = asyncio.Queue[Answered | None]()
        try:
            self.send(_encoder.encode(Asked(number, method, argument)))
            yield answers
        finally:
            del self._open[number]


async def _next(answers: asyncio.Queue[Answered | None]) -> Answered:
    answered = await answers.get()
    if answered is None:
        raise LineLost
    return answered
