"""A whole Jetray in memory, for tests of your kinds: the real gateway, on a bus and a pool in this very process.

    async with stack(kinds=[score]) as jetray:
        job_id = await jetray.submit("score", {"words": ["to", "have"]})
        assert await jetray.result_of("score", job_id) == Score(letters=6)

Messages, events, retries, deadlines and dead letters are those of production; nats-server and Ray are not needed. It
runs on asyncio and on trio. With `virtual_time` as the backend of anyio's pytest plugin, clocks move on by themselves
whenever everybody waits: an hour's retries take milliseconds. A sync kind that takes a `JobContext` runs in a thread;
while it does, virtual time stands still.
"""

from __future__ import annotations

import math
import platform
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import anyio
import msgspec
from msgspec import Struct

from contracts import dlq, events, inbound, subjects
from contracts import headers as h
from contracts.calls import Call, Frame, Raised, Returned
from contracts.errors import ErrorInfo, Reason
from contracts.events import Cancelled, Completed, Event, Failed, Moved
from contracts.fleet import Versions
from infra.bus.memory import Faults, MemoryBus, MemoryServer
from infra.pool.memory import MemoryPool
from infra.store.memory import MemoryFiles, MemoryStore
from workers.hosting import Depot
from workers.kinds.context import JobContext, Places
from workers.kinds.host import KindHost
from workers.kinds.registry import Kind, load
from workers.kinds.workspaces import Workspaces
from workers.runtime import terms
from workers.runtime.gateway import Gateway
from workers.runtime.quarantine import Quarantine
from workers.settings import Settings, check, check_kinds

if TYPE_CHECKING:
    from trio.testing import MockClock

__all__ = ["DeadLetter", "Stack", "stack", "virtual_time"]

MEMORY: Final = "memory://"
JITTER: Final = 0.5
"""Every retry waits half of what it may wait at most, so that test runs are alike."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that could not be done."""

    kind: str
    job_id: str
    reason: Reason
    attempts: int
    body: bytes
    headers: dict[str, str]
    """Those that it was published with."""
    sequence: int


class Stack:
    """A gateway in memory, and a client's connection beside it. Made by `stack`."""

    def __init__(
        self, kinds: Iterable[Kind], settings: Settings, *, server: MemoryServer, faults: Faults | None = None
    ) -> None:
        self.kinds = load(settings.kinds.modules) | {kind.name: kind for kind in kinds}
        self.settings = _checked(settings, self.kinds)
        self.server = server
        self.client = MemoryBus(server)
        """A connection that is not the gateway's."""
        self.bus = MemoryBus(server, faults=faults)
        """The gateway's connection: `bus.disconnect()` cuts it."""
        configs = terms.configs(self.settings)
        self.store = MemoryStore()
        """What is kept: large results, and files. `await store.put(name, data)` gives a URI that jobs may stage."""
        self.places = _places(self.settings, self.store)
        """Where jobs have their files."""
        self.pool = MemoryPool(terms.profiles(self.settings), lambda: _Host(self.kinds, configs, self.places))
        """Where jobs run: `pool.kill(actor)` kills an actor, and `started` events name them."""
        self.gateway = Gateway(
            self.settings,
            self.kinds,
            bus=self.bus,
            pool=self.pool,
            store=self.store,
            versions=Versions(jetray="testing", python=platform.python_version(), ray=None, nats_server=server.version),
            nonce=secrets.token_hex(8),
            jitter=lambda: JITTER,
            quarantine=_Trust(),
        )

    def __repr__(self) -> str:
        return f"Stack({self.settings.gateway.name}, {', '.join(sorted(self.kinds))})"

    async def submit(
        self, kind: str, value: Any, *, headers: Mapping[str, str] | None = None, high: bool = False
    ) -> str:
        """Publish a job of `kind`, and return its id. `value` is its input, or bytes to be sent as they are."""
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        subject = subjects.job(kind, high=high)
        stored = await self.client.publish(subject, body, headers)
        message = inbound.Message(
            subject=subject, headers=headers or {}, body=body, stream=stored.stream, sequence=stored.sequence
        )
        limits = self.settings.limits
        read = inbound.Limits(input_bytes=limits.input_bytes, input_depth=limits.input_depth)
        return inbound.read(message, self.kinds[kind].spec, read, foreign=False).job_id

    async def publish(self, subject: str, value: Any, *, headers: Mapping[str, str] | None = None) -> int:
        """Publish a domain event on a routed subject; its sequence."""
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        return (await self.client.publish(subject, body, headers)).sequence

    async def end_of(
        self, kind: str, job_id: str, *, run: int = 1, within_s: float = 900.0
    ) -> Completed | Failed | Cancelled:
        """The terminal event of a job's run, waited for. Raises `TimeoutError` that tells how far the job came."""
        with anyio.move_on_after(within_s):
            async with aclosing(self.client.follow(subjects.EVENTS, subjects.job_log(kind, job_id))) as log:
                async for message in log:
                    event = events.decode(message.body)
                    if isinstance(event, (Completed, Failed, Cancelled)) and event.run >= run:
                        return event
        told = ", ".join(events.event_name(event) for event in await self.events(kind, job_id)) or "no event at all"
        raise TimeoutError(f"{kind}.{job_id} did not end within {within_s:g} s; its log has: {told}")

    async def result_of(self, kind: str, job_id: str, *, run: int = 1, within_s: float = 900.0) -> Any:
        """The job's typed result, waited for. Raises `AssertionError` where it ended otherwise."""
        end = await self.end_of(kind, job_id, run=run, within_s=within_s)
        assert isinstance(end, Completed), f"{kind}.{job_id} did not complete: {_why(end)}"
        moved = _moved(end.result)
        result = end.result if moved is None else await self.store.get(moved)
        return msgspec.json.decode(result, type=self.kinds[kind].result_type)

    async def events(self, kind: str, job_id: str) -> list[Event]:
        """The job's log so far."""
        kept = self.server.stream(subjects.EVENTS).messages(subjects.job_log(kind, job_id))
        return [events.decode(message.body) for message in kept]

    async def emitted(self, job_id: str) -> list[tuple[str, Any]]:
        """What a job said with `ctx.emit` so far: the event, as `response.completed`, and its body."""
        kept = self.server.stream(subjects.AGENTS).messages(f"agent.*.*.{job_id}")
        return [(".".join(message.subject.split(".")[1:3]), msgspec.json.decode(message.body)) for message in kept]

    def dead_letters(self) -> list[DeadLetter]:
        """What is in `DLQ`."""
        return [
            DeadLetter(
                kind=message.headers[h.KIND],
                job_id=message.headers[h.JOB_ID],
                reason=msgspec.convert(message.headers[h.REASON], Reason),
                attempts=int(message.headers[h.ATTEMPTS]),
                body=message.body,
                headers=dlq.original_headers(message.headers),
                sequence=message.sequence,
            )
            for message in self.server.stream(subjects.DLQ).messages()
        ]


@asynccontextmanager
async def stack(kinds: Iterable[Kind] = (), settings: Settings | None = None) -> AsyncIterator[Stack]:
    """A gateway that knows `kinds`, those that ship and those of `settings.kinds.modules`, while the block lasts.

    What still runs at its end is stopped at once. Raises what is wrong with the settings, as the gateway would.
    """
    jetray = Stack(kinds, settings or Settings(), server=MemoryServer())
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        serving = anyio.Event()
        group.start_soon(jetray.gateway.run, serving.set)
        await serving.wait()
        try:
            yield jetray
        except Exception as error:  # noqa: BLE001  raised below, outside of the group that would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def virtual_time() -> tuple[str, dict[str, Any]]:
    """What a fixture `anyio_backend` returns to run tests marked `anyio` in virtual time. Needs the package trio."""
    from trio.testing import MockClock

    return ("trio", {"clock": MockClock(autojump_threshold=0)})


def _places(settings: Settings, store: MemoryStore) -> Places:
    workspaces = Workspaces(settings.workspaces.base, keep_failed=settings.workspaces.keep_failed)
    return Places(workspaces=workspaces, storage=Depot(MEMORY, [], lambda root: MemoryFiles(store, root), patience_s=0))


class _Trust(Quarantine):
    """Decodes everything right here: a kind of a test need not be importable anywhere else."""

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        return None


class _Host(KindHost):
    """Holds virtual time while a job, or what is done after it, is in a thread, where no clock can see it busy."""

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        with _time_stands_still(when=call.exclusive and call.streams):
            return await super().execute(call, send)

    async def close(self, context: JobContext, *, failed: bool) -> None:
        with _time_stands_still(when=context.has_workspace):
            await super().close(context, failed=failed)


_held: WeakKeyDictionary[MockClock, int] = WeakKeyDictionary()
"""How many threads each clock waits for."""


@contextmanager
def _time_stands_still(*, when: bool) -> Iterator[None]:
    clock = _virtual_clock() if when else None
    if clock is None:
        yield
        return
    _held[clock] = _held.get(clock, 0) + 1
    clock.autojump_threshold = math.inf
    try:
        yield
    finally:
        _held[clock] -= 1
        if not _held[clock]:
            clock.autojump_threshold = 0


def _virtual_clock() -> MockClock | None:
    if "trio" not in sys.modules:
        return None
    import trio
    from trio.testing import MockClock

    clock = trio.lowlevel.current_clock() if trio.lowlevel.in_trio_run() else None
    return clock if isinstance(clock, MockClock) else None


def _checked(settings: Settings, kinds: Mapping[str, Kind]) -> Settings:
    if not settings.gateway.name:
        gateway = msgspec.structs.replace(settings.gateway, name="testing")
        settings = msgspec.structs.replace(settings, gateway=gateway)
    check(settings)
    check_kinds(settings, kinds)
    return settings


def _moved(result: msgspec.Raw) -> str | None:
    """Where a result is that was too large for its event."""
    try:
        uri = msgspec.json.decode(result, type=Moved).artifact
    except msgspec.ValidationError:
        return None
    return uri if uri.startswith("memory://results/") else None


def _why(end: Completed | Failed | Cancelled) -> str:
    match end:
        case Failed(error=error):
            return f"it failed ({error.reason}): {error.type}: {error.message}"
        case Cancelled(reason=reason):
            return f"it was cancelled: {reason}"
        case _:
            return "it completed"
