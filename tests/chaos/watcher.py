"""What an observer saw live on the bus: which jobs are open, how they ended, and how long recoveries took."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from contracts import events, subjects
from contracts.events import Event, Failed, Requeued, Retrying, Started, is_terminal
from contracts.fleet import FLEET_EVENTS, ActorRestarted, FleetEvent, GatewayStarted, PoolCreated
from infra.bus.base import Stored
from infra.bus.nats import NatsBus

__all__ = ["Recoveries", "Watcher"]

Key = tuple[str, str]

_DIED: Final = re.compile("Died|Killed|WorkerCrashed")


class Recoveries(Struct):
    """Seconds, one for each recovery that was seen."""

    gateway: list[float] = msgspec.field(default_factory=list)
    """From a gateway's death to the next attempt at a job that it held."""
    actor: list[float] = msgspec.field(default_factory=list)
    """From an actor's death to its replacement."""
    server: list[float] = msgspec.field(default_factory=list)
    """From when a server listens again to the next attempt at any job."""


class _Held(Struct):
    gateway: str
    run: int
    attempt: int


class Watcher:
    """Follows the bus by a connection that no fault cuts off; `watch` must be running."""

    def __init__(self, bus: NatsBus, on_failed: Callable[[Failed], None] = lambda _: None) -> None:
        self.sequences: list[int] = []
        """Of every event, as it came."""
        self.ends: Counter[str] = Counter()
        self.ended: set[Key] = set()
        """Jobs whose newest run has ended."""
        self.serving: Counter[str] = Counter()
        """How often each gateway came to serve."""
        self.pools: Counter[str] = Counter()
        """How often each gateway's pools came to be whole."""
        self.recoveries = Recoveries()
        self._bus = bus
        self._on_failed = on_failed
        self._held: dict[Key, _Held] = {}
        self._awaited: dict[Key, float] = {}
        self._actor_died: list[float] = []
        self._server_ready: float | None = None
        self._news = asyncio.Event()
        self._fleet: msgspec.json.Decoder[FleetEvent] = msgspec.json.Decoder(_union(FLEET_EVENTS))

    async def watch(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._follow(subjects.EVENTS, "orchestration.*.*.*", self._event))
            both.create_task(self._follow(subjects.WORKERS, "workers.*.*.*", self._told))

    def holds(self, gateway: str) -> int:
        """How many jobs a gateway holds now."""
        return sum(held.gateway == gateway for held in self._held.values())

    def gateway_died(self, gateway: str, at: float) -> None:
        """From now on the next attempts at its jobs are waited for."""
        for key, held in self._held.items():
            if held.gateway == gateway:
                self._awaited.setdefault(key, at)

    def actor_died(self, at: float) -> None:
        """From now on its replacement is waited for."""
        self._actor_died.append(at)

    def server_ready(self, at: float) -> None:
        """From now on the next attempt is waited for."""
        self._server_ready = at

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once it holds; looked at whenever something was seen."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _follow(self, stream: str, subject: str, take: Callable[[Stored], None]) -> None:
        async with aclosing(self._bus.follow(stream, subject)) as messages:
            async for message in messages:
                take(message)
                self._news.set()

    def _event(self, message: Stored) -> None:
        self.sequences.append(message.sequence)
        event = events.decode(message.body)
        key = event.kind, event.job_id
        if isinstance(event, Started):
            self._started(key, event, message.time)
        elif isinstance(event, (Retrying, Requeued)) or is_terminal(event):
            self._held.pop(key, None)
            self._awaited.pop(key, None)
        self._count(key, event)

    def _count(self, key: Key, event: Event) -> None:
        if is_terminal(event):
            self.ends[f"{event.kind} {events.event_name(event)}"] += 1
            self.ended.add(key)
        else:
            self.ended.discard(key)
        if isinstance(event, Failed):
            self._on_failed(event)

    def _started(self, key: Key, event: Started, at: datetime) -> None:
        seconds = at.timestamp()
        died = self._awaited.pop(key, None)
        if died is not None:
            self.recoveries.gateway.append(seconds - died)
        if self._server_ready is not None and seconds > self._server_ready:
            self.recoveries.server.append(seconds - self._server_ready)
            self._server_ready = None
        self._held[key] = _Held(event.gateway, event.run, event.attempt)

    def _told(self, message: Stored) -> None:
        said = self._fleet.decode(message.body)
        match said:
            case GatewayStarted():
                self.serving[said.gateway] += 1
            case PoolCreated():
                self.pools[said.gateway] += 1
            case ActorRestarted() if self._actor_died and _DIED.search(said.reason):
                self.recoveries.actor.append(message.time.timestamp() - self._actor_died.pop(0))


def _union(types: tuple[type[FleetEvent], ...]) -> type[FleetEvent]:
    union = types[0]
    for each in types[1:]:
        union = union | each  # type: ignore[assignment]
    return union
