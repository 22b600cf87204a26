"""For tests of outages: a nats-server that goes and comes back, and kinds that wait, echo and fail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts import subjects
from infra.bus import embedded
from infra.bus.nats import NatsBus, connect
from tests.integration.stack import Stack

__all__ = ["KINDS", "LEASE_S", "SETTINGS", "Proxy", "Server", "count", "cpu_s", "said", "stack_on", "until"]

LEASE_S: Final = 4.0

KINDS: Final = '''
from pathlib import Path

import anyio
import msgspec

from workers import JobContext, batch, job
from workers.kinds.registry import Child


class Task(msgspec.Struct):
    id: str
    seconds: float = 0.0
    padding: int = 0


@job("echo", id_field="id")
async def echo(task: Task) -> str:
    """Takes its seconds, and returns its padding."""
    await anyio.sleep(task.seconds)
    return "x" * task.padding


@job("patient", id_field="id")
async def patient(ctx: JobContext, task: Task) -> str:
    """Goes on until there is a file of its job's name."""
    ctx.progress(message="waiting")
    while not (Path(__file__).parent / task.id).exists():
        await anyio.sleep(0.05)
    return "done"


class Group(msgspec.Struct):
    id: str
    members: list[str]


@batch("group", id_field="id")
class Grouping:
    """A patient child for each member."""

    def expand(self, group: Group) -> list[Child]:
        return [Child(key=name, kind="patient", input=Task(id=f"{group.id}-{name}")) for name in group.members]

    def reduce(self, group: Group, ends: object) -> str:
        return "all"
'''

SETTINGS: Final = f"""
[kinds]
modules = ["some_kinds"]
[gateway]
ack_wait_s = {LEASE_S}
grace_s = 2
"""


class Server:
    """A nats-server on one port and one store, whatever becomes of its processes."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.port = port
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, on the port that it has had."""
        server = await embedded.start(self._folder, port=self.port)
        self.process, self.port = server.process, server.port

    async def stop(self) -> None:
        """End it, without a word to anybody."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def stack_on(folder: Path, *, proxied: bool = False) -> AsyncIterator[tuple[Stack, Server, Proxy | None]]:
    """A stack whose server can go away; gateways reach it through a proxy if so wished."""
    (folder / "some_kinds.py").write_text(KINDS)
    (folder / "jetray.toml").write_text(SETTINGS)
    server = Server(folder / "nats", 0)
    await server.start()
    proxy = Proxy(server) if proxied else None
    try:
        url = server.url if proxy is None else await proxy.open()
        async with connect(server.url, name="test") as bus:
            running = Stack(url, bus, folder)
            try:
                yield running, server, proxy
            finally:
                await running.stop()
    finally:
        if proxy is not None:
            await proxy.close()
        assert server.process is not None
        await embedded.stop(server.process)


class Proxy:
    """Carries bytes between gateways and a server, until it is told to cut a connection at a certain word."""

    def __init__(self, server: Server) -> None:
        self._target = server
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._word = b""
        self.cuts = 0

    async def open(self) -> str:
        """Listen; the URL."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def cut_after(self, word: bytes) -> None:
        """The next time this word goes to the server, it arrives, and no answer comes back."""
        self._word = word

    async def close(self) -> None:
        """End everything."""
        assert self._listener is not None
        self._listener.close()
        for writer in self._writers:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target.port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._up(reader, back, writer), self._down(there, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            back.close()

    async def _up(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._word and self._word in data:
                self._word = b""
                self.cuts += 1
                client.transport.abort()
                to.write(data)
                await to.drain()
                await asyncio.sleep(0.2)  # so that the server has read it when the connection goes
                raise ConnectionAbortedError
            to.write(data)
            await to.drain()
        to.close()

    async def _down(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            to.write(data)
            await to.drain()
        to.close()


async def said(bus: NatsBus, subject: str, *, times: int = 1, within_s: float = 60) -> dict[str, Any]:
    """What gateways said on a subject for the how-manieth time, waited for."""
    async with asyncio.timeout(within_s), aclosing(bus.follow(subjects.WORKERS, subject)) as told:
        async for message in told:
            times -= 1
            if not times:
                body: dict[str, Any] = msgspec.json.decode(message.body)
                return body
    raise AssertionError("a follower does not end by itself")


async def until(log: Path, text: str, *, times: int = 1, within_s: float = 60) -> None:
    """Return once a log holds a text so often."""
    async with asyncio.timeout(within_s):
        while count(log, text) < times:  # noqa: ASYNC110  a file tells nobody
            await asyncio.sleep(0.05)


def count(log: Path, text: str) -> int:
    """How often a log holds a text."""
    return log.read_text().count(text) if log.exists() else 0


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
