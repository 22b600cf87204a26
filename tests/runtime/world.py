"""A bus in memory, and real gateways on it that can be crashed, cut off and drained."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts import subjects
from contracts.events import Event, event_name
from infra.bus.base import ConsumerState, NoAnswer, Stored
from infra.bus.memory import Faults, MemoryBus, MemoryServer
from tests.checker import logs, violations
from workers.kinds.registry import Kind
from workers.runtime.rooms import Rooms
from workers.settings import Settings
from workers.testing import Stack

__all__ = ["APPROVED", "ONE_SLOT", "Hooks", "Member", "World", "names", "plan", "serving", "settings"]

EVERYTHING_ENDS_S: Final = 3_600.0
APPROVED: Final = "planning.plan.approved"


def settings(**sections: Any) -> Settings:
    """Settings with one actor of two slots, unless `profiles` says otherwise."""
    return msgspec.convert({"profiles": {"default": {"actors": 1, "concurrency": 2}}, **sections}, Settings)


ONE_SLOT: Final = settings(profiles={"default": {"actors": 1, "concurrency": 1}})
"""With these a gateway that has a job asks for no more, so that its message goes to another one."""


def names(log: Iterable[Event]) -> list[str]:
    """The words of a log's events."""
    return [event_name(event) for event in log]


class Hooks(Faults):
    """Notes every call to the server, and lets a test step in before it and after it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []
        """Method, what it was called with, and when."""
        self.on_before: Callable[[str, str], Awaitable[None]] = _nothing
        self.on_after: Callable[[str, str], Awaitable[None]] = _nothing

    async def before(self, op: str, subject: str) -> None:
        await super().before(op, subject)
        await self.on_before(op, subject)
        self.calls.append((op, subject, anyio.current_time()))

    async def after(self, op: str, subject: str) -> None:
        await super().after(op, subject)
        await self.on_after(op, subject)

    def lose_answers(self, op: str, subject: str, times: int = 1) -> None:
        """The server does what it is asked, and its next answers never arrive."""
        self.on_after = _losing(op, subject, times)

    def lose_requests(self, op: str, subject: str, times: int = 1) -> None:
        """The next requests never arrive."""
        self.on_before = _losing(op, subject, times)


async def _nothing(op: str, subject: str) -> None:
    pass


def _losing(op: str, subject: str, times: int) -> Callable[[str, str], Awaitable[None]]:
    left = times

    async def lose(called: str, with_: str) -> None:
        nonlocal left
        if left and called == op and with_.startswith(subject):
            left -= 1
            raise NoAnswer("lost on the way")

    return lose


class Member(Stack):
    """A gateway of a world, and what a client wants to know of it."""

    def __init__(self, kinds: Iterable[Kind], settings: Settings, *, server: MemoryServer, hooks: Hooks) -> None:
        super().__init__(kinds, settings, server=server, faults=hooks)
        self.hooks = hooks
        self.error: Exception | None = None
        self.over = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def rooms(self) -> Rooms:
        """What its rooms share."""
        return self.gateway._rooms

    @property
    def ready(self) -> bool:
        """Whether its pool has actors."""
        pool, busy = self.pool, len(self.rooms.live) > 0
        return busy or all(pool.slots(name, exclusive=False).free for name in self.settings.profiles)

    async def serve(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run until drained or crashed. An error of its own is kept, for the end of the test to raise."""
        try:
            with self._scope:
                await self.gateway.run(task_status.started)
        except Exception as error:  # noqa: BLE001  whatever it is, the test ends with it
            self.error = error
        finally:
            self.over.set()

    async def crash(self) -> None:
        """End it as `kill -9` would: nothing that it does on its way down reaches the bus."""
        self.bus.disconnect()
        self._scope.cancel()
        await self.over.wait()

    async def drain(self, why: str = "the test says so") -> None:
        """Drain it, and wait for its end."""
        self.gateway.drain(why)
        with anyio.fail_after(EVERYTHING_ENDS_S):
            await self.over.wait()

    def leaks(self) -> list[str]:
        """What it still holds. Empty for one that has nothing to do, or is over."""
        live, leases, credits = self.rooms.live, self.rooms.leases._held, self.gateway._credits
        found = [f"in hand: {worker!r}" for worker in live]
        found += [f"lease: {lease.delivery!r}" for lease in leases]
        found += [f"credit {name!r}: {credit.held} held" for name, credit in credits.items() if credit.held]
        found += [f"active in KV: {each.kind}.{each.job_id}" for each in self.rooms.fleet.status().active]
        for name in () if self.over.is_set() else self.settings.profiles:
            for exclusive in (False, True):
                slots = self.pool.slots(name, exclusive=exclusive)
                found += [f"slots of {name}: {slots}"] if slots.free != slots.total else []
        return found


class World:
    """Gateways on one server. At its end every job has ended and nothing is held any more, by anybody."""

    def __init__(self, group: TaskGroup) -> None:
        self.server = MemoryServer()
        self.client = MemoryBus(self.server)
        self.members: list[Member] = []
        self.unfinished: set[tuple[str, str]] = set()
        """Jobs, as kind and id, that a test leaves without an end."""
        self._group = group

    async def gateway(
        self, *kinds: Kind, name: str = "", hooks: Hooks | None = None, settings: Settings | None = None
    ) -> Member:
        """A gateway that serves. It has the first one's kinds and settings unless others are given."""
        member = self.lone_gateway(*kinds, name=name or f"gw-{len(self.members) + 1}", hooks=hooks, settings=settings)
        self.members.append(member)
        await self._group.start(member.serve)
        await self.settled(lambda: member.ready)
        return member

    def lone_gateway(
        self, *kinds: Kind, name: str = "lone", hooks: Hooks | None = None, settings: Settings | None = None
    ) -> Member:
        """A gateway that does not run."""
        first = self.members[0] if self.members else None
        known = kinds or (() if first is None else tuple(first.kinds.values()))
        terms = settings or (_usual() if first is None else first.settings)
        gateway = msgspec.structs.replace(terms.gateway, name=name)
        named = msgspec.structs.replace(terms, gateway=gateway)
        return Member(known, named, server=self.server, hooks=hooks or Hooks())

    async def state(self, kind: str, *, stream: str = subjects.JOBS) -> ConsumerState:
        """Figures of a kind's normal lane, or of another consumer."""
        return await self.client.consumer(stream, kind)

    async def waiting(self, kind: str) -> int:
        """Messages of a kind that nobody has in hand."""
        return (await self.state(kind)).waiting

    def kept(self, stream: str, subject: str = ">") -> list[Stored]:
        """What a stream holds."""
        return [*self.server.stream(stream).messages(subject)]

    async def settled(self, holds: Callable[[], bool], within_s: float = EVERYTHING_ENDS_S) -> None:
        """Return once `holds` does. Time is virtual: looking costs nothing."""
        with anyio.fail_after(within_s):
            while not holds():  # noqa: ASYNC110  what is looked at announces nothing
                await anyio.sleep(0.25)

    async def close(self) -> None:
        """Every gateway comes to rest and is drained; then the promises are checked."""
        for member in self.members:
            if member.error is not None:
                raise member.error
            if not member.over.is_set():
                await self._rest(member)
                await member.drain()
            assert member.leaks() == []
        found = await logs(self.client)
        assert violations({key: log for key, log in found.items() if key not in self.unfinished}) == []
        if not self.unfinished:
            assert self.kept(subjects.JOBS) == []

    async def _rest(self, member: Member) -> None:
        with anyio.move_on_after(EVERYTHING_ENDS_S):
            while member.leaks():  # noqa: ASYNC110  what is looked at announces nothing
                await anyio.sleep(1.0)
        assert member.leaks() == []

    @property
    def running(self) -> list[Member]:
        """Gateways that serve."""
        return [member for member in self.members if not member.over.is_set()]


def _usual() -> Settings:
    return settings()


@asynccontextmanager
async def serving() -> AsyncIterator[World]:
    """A world. After a failure its gateways are cancelled, and nothing more is checked."""
    async with anyio.create_task_group() as group:
        world = World(group)
        try:
            yield world
            await world.close()
        finally:
            group.cancel_scope.cancel()


def plan(plan_id: str, *roles: str, timestamp: str = "2026-11-22T05:00:00Z") -> Mapping[str, Any]:
    """An approved plan."""
    return {
        "story_id": "S1",
        "plan_id": plan_id,
        "approved_by": "reviewer-1",
        "timestamp": timestamp,
        "roles": roles,
    }
