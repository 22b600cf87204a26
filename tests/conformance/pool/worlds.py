"""The three pools, each in its world, and what tests do with any of them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from contracts.calls import Call, Outcome, Reported
from infra.pool.base import Execution, HostSpec, Pool, PoolEvent, Profile
from infra.pool.memory import MemoryPool
from tests.conformance.pool import hosts

CONFIG = b"configured"


@dataclass
class World:
    """Where a pool is tested."""

    make: Callable[[list[Profile], HostSpec], Pool]
    one_at_a_time: bool = False
    """The process pool runs one job at a time, whatever the profile says."""
    separate: bool = True
    """Actors are processes of their own."""
    events: list[PoolEvent] = field(default_factory=list)
    told: anyio.Event = field(default_factory=anyio.Event)

    @asynccontextmanager
    async def pool(self, **recipe: Any) -> AsyncIterator[Pool]:
        """A pool of one profile `default`, served until the block ends. See `unserved`."""
        pool = self.unserved(**recipe)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.serve, self.listen)
            yield pool
            tasks.cancel_scope.cancel()

    def unserved(self, *, actors: int = 1, factory: str = hosts.FACTORY, config: bytes = CONFIG, **recipe: Any) -> Pool:
        """A pool of one profile `default`, which `recipe` tells more of."""
        profile = Profile(name="default", actors=actors, cpus=0.1, **recipe)
        return self.make([profile], HostSpec(factory=factory, config=config))

    def listen(self, event: PoolEvent) -> None:
        self.events.append(event)
        self.told.set()
        self.told = anyio.Event()

    async def heard(self, what: str, *, times: int = 1) -> list[PoolEvent]:
        """The first so many events `what`, once there are as many."""
        while len(found := self.of(what)) < times:
            await self.told.wait()
        return found[:times]

    def of(self, what: str) -> list[PoolEvent]:
        return [event for event in self.events if event.what == what]

    def slay(self, pool: Pool, actor: str, pid: int) -> None:
        """Let an actor die of something outside."""
        if isinstance(pool, MemoryPool):
            pool.kill(actor)
        else:
            os.kill(pid, signal.SIGKILL)


def call(kind: str, input: bytes = b"null", *, job: str = "J1", streams: bool = False, exclusive: bool = False) -> Call:
    return Call(
        kind=kind,
        job_id=job,
        run=1,
        attempt=1,
        input=input,
        deadline=4e9,
        timeout_s=3600.0,
        exclusive=exclusive,
        streams=streams,
    )


async def begin(pool: Pool, called: Call) -> Execution:
    """Start a call once there is a slot for it."""
    reservation = await pool.reserve("default", exclusive=called.exclusive)
    return reservation.start(called)


async def finish(pool: Pool, called: Call) -> Outcome:
    """Run a call to its end."""
    return await (await begin(pool, called)).outcome()


async def underway(execution: Execution) -> int:
    """Return once the job says so: its process."""
    async for frame in execution.frames():
        assert isinstance(frame, Reported)
        assert frame.done is not None
        return frame.done
    raise AssertionError(f"ended without a word: {await execution.outcome()}")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
