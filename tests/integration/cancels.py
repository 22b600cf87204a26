"""What the tests of cancels share: kinds that can be cancelled in every way, and eyes for what comes of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import nats

from contracts import events, subjects
from contracts.events import Event, is_terminal
from tests.checker import logs, read_all
from tests.integration.stack import Stack

__all__ = ["SLOTS", "answers", "follow_ends", "furnish", "marks", "proxy", "settled", "subscriber"]

SLOTS: Final = 64

KINDS = """
import time
from pathlib import Path

import anyio
import msgspec

from workers import JobContext, Retry, job


# Where the test looks; jobs may work elsewhere.
HERE = Path(__file__).parent


class Task(msgspec.Struct):
    id: str
    takes_s: float = 0


@job("race", id_field="id")
async def race(ctx: JobContext, task: Task) -> str:
    await anyio.sleep(task.takes_s)
    return task.id


@job("patient", id_field="id")
async def patient(ctx: JobContext, task: Task) -> str:
    (HERE / f"ran-{task.id}").touch()
    await anyio.sleep_forever()
    return "never"


@job("brief", id_field="id")
def brief(task: Task) -> str:
    (HERE / f"ran-{task.id}").touch()
    return task.id


@job("later", id_field="id")
def later(task: Task) -> str | Retry:
    return Retry("not yet", after=task.takes_s)


@job("polite", id_field="id")
def polite(ctx: JobContext, task: Task) -> str:
    ctx.progress(message="begun")
    while not ctx.cancelled:
        time.sleep(0.01)
    (HERE / f"asked-{task.id}").touch()
    return task.id


@job("stubborn", id_field="id")
def stubborn(ctx: JobContext, task: Task) -> str:
    ctx.progress(message="begun")
    time.sleep(3600)
    return "never"
"""

SETTINGS = f"""
routes = []
[kinds]
modules = ["some_kinds"]
[gateway]
ack_wait_s = 15
grace_s = 1
[retry]
max_attempts = 10
[profiles.default]
actors = 1
concurrency = {SLOTS}
"""


def furnish(folder: Path) -> None:
    (folder / "some_kinds.py").write_text(KINDS)
    (folder / "jetray.toml").write_text(SETTINGS)


@asynccontextmanager
async def subscriber(url: str) -> AsyncIterator[Any]:
    """A stranger's client, without JetStream."""
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def follow_ends(jetray: Stack, count: int) -> Mapping[str, list[Event]]:
    """Each job's ends, as a consumer of EVENTS has them, until `count` jobs have one."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    async with aclosing(jetray.bus.follow(subjects.EVENTS, "orchestration.race.*.*")) as stored:
        async for message in stored:
            event = events.decode(message.body)
            if is_terminal(event):
                found[event.job_id].append(event)
            if len(found) == count:
                return found
    raise AssertionError("a follower does not end by itself")


async def answers(jetray: Stack, commands: Iterable[int]) -> dict[int, list[tuple[str, str]]]:
    """What was said to each command, once something was said to all of them."""
    unheard = set(commands)
    said: dict[int, list[tuple[str, str]]] = {sequence: [] for sequence in unheard}
    async with asyncio.timeout(60):
        async with aclosing(jetray.bus.follow(subjects.WORKERS, "workers.control.*.*")) as stored:
            while unheard:
                unheard.discard(msgspec.json.decode((await anext(stored)).body)["sequence"])
    for message in await read_all(jetray.bus, subjects.WORKERS, "workers.control.*.*"):
        told = msgspec.json.decode(message.body)
        if told["sequence"] in said:
            said[told["sequence"]].append((told["event"], told.get("detail") or told["reason"]))
    return said


def marks(folder: Path, what: str) -> set[str]:
    """Ids of the jobs that left such a mark."""
    return {path.name.removeprefix(f"{what}-") for path in folder.glob(f"{what}-*")}


async def settled(jetray: Stack) -> dict[tuple[str, str], list[Event]]:
    """All logs, once nothing waits and nothing is in anybody's hands."""
    async with asyncio.timeout(60):
        for stream in (subjects.JOBS, subjects.CONTROL):
            while (await jetray.bus.api(f"STREAM.INFO.{stream}", None))["state"]["messages"]:  # noqa: ASYNC110
                # A queue announces to nobody that it is empty.
                await asyncio.sleep(0.05)
    return await logs(jetray.bus)


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]]:
    """A way to the server that can be cut, and mended."""
    port, open_, writers = int(url.rsplit(":", 1)[1]), asyncio.Event(), set[asyncio.StreamWriter]()
    open_.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not open_.is_set():
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, back))
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            for each in (writer, back):
                writers.discard(each)
                each.close()

    async def cut() -> None:
        open_.clear()
        for writer in [*writers]:
            writer.transport.abort()

    async def mend() -> None:
        open_.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", cut, mend
    finally:
        server.close()
        await cut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()
