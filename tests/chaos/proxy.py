"""The TCP door between one gateway and one nats-server. It can be stalled, muted and cut.

A stalled door holds what comes from either side, and hands it on once it is healed: as a network that loses packets
does for a while, since TCP sends them again. A muted one lets the client's bytes through and swallows the server's;
what was swallowed is gone, so healing it cuts the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

__all__ = ["Door", "State", "door"]

CHUNK: Final = 64 * 1024

State = Literal["open", "stalled", "muted"]


class Door:
    """Made by `door`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.swallowed = 0
        """Bytes of the server's that never arrived."""
        self._target = target
        self._state: State = "open"
        self._opened = asyncio.Event()
        self._opened.set()
        self._trap: bytes | None = None
        self._sprung = asyncio.Event()
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> State:
        """How it lets bytes through."""
        return self._state

    def stall(self) -> None:
        """Hold everything, of both sides. Whoever connects now hears nothing."""
        self._state = "stalled"
        self._opened.clear()

    def mute(self) -> None:
        """Swallow what the server says."""
        self._state = "muted"

    def heal(self) -> None:
        """Let everything through again."""
        if self._state == "muted":
            self.cut()
        self._state = "open"
        self._opened.set()

    def cut(self) -> None:
        """Break every connection, and lose what is on its way."""
        for writer in self._links:
            writer.transport.abort()

    async def trap(self, word: bytes) -> None:
        """Return once the client has sent `word` and the server has it; its answer does not come back."""
        self._trap = word
        self._sprung.clear()
        try:
            await self._sprung.wait()
        finally:
            self._trap = None

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self._links.add(answers)
        try:
            await self._opened.wait()
            try:
                server, requests = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                return
            self._links.add(requests)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(client, requests, answers))
                    both.create_task(self._pump(server, answers, requests, is_server=True))
            finally:
                self._links.discard(requests)
                requests.transport.abort()
        finally:
            self._links.discard(answers)
            answers.transport.abort()

    async def close(self) -> None:
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def accept(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Begin to serve a connection."""
        task = asyncio.create_task(self.serve(client, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        *,
        is_server: bool = False,
    ) -> None:
        try:
            while data := await source.read(CHUNK):
                await self._opened.wait()
                if is_server and self._state == "muted":
                    self.swallowed += len(data)
                    continue
                trapped = not is_server and self._trap is not None and self._trap in data
                if trapped:
                    self._state = "muted"
                sink.write(data)
                await sink.drain()
                if trapped:
                    self._sprung.set()
        except OSError:
            pass
        finally:
            # Neither direction outlives the other; what was handed on still arrives.
            sink.close()
            other.close()


@asynccontextmanager
async def door(target: int) -> AsyncIterator[Door]:
    """A door to a port of this machine, for as long as the block lasts."""
    made = Door(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0, limit=2 * CHUNK)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
