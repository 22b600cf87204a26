"""The three pools, each in its world: how to make one there, and how to let one of its actors die."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from contracts.calls import Call, Outcome, Reported
from infra.pool.base import ConfigError, Execution, HostSpec, Pool, PoolEvent, Profile
from tests.conformance.pool import hosts


@dataclass
class World:
    """A pool under test."""

    make: Callable[[list[Profile], HostSpec], Pool]
    concurrent: bool = True
    """Whether a profile's size and concurrency mean something; the process pool runs one job at a time."""
    separate: bool = True
    """Whether actors are processes of their own."""
    events: list[PoolEvent] = field(default_factory=list)
    told: anyio.Event = field(default_factory=anyio.Event)

    @asynccontextmanager
    async def pool(
        self, *, actors: int = 1, concurrency: int = 1, factory: str = hosts.FACTORY
    ) -> AsyncIterator[Pool]:
        """A pool of one profile `default`, served until the block ends."""
        profile = Profile(name="default", actors=actors, concurrency=concurrency, cpus=0.1)
        pool = self.make([profile], HostSpec(factory=factory, config=b"configured"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.serve, self.listen)
            yield pool
            tasks.cancel_scope.cancel()

    def listen(self, event: PoolEvent) -> None:
        self.events.append(event)
        self.told.set()
        self.told = anyio.Event()

    async def heard(self, what: str, *, times: int = 1) -> list[PoolEvent]:
        """The first so many events `what`, once there are."""
        while len(found := [event for event in self.events if event.what == what]) < times:
            await self.told.wait()
        return found[:times]
