"""What a gateway says of itself: `workers.*` events, its key in KV `workers`, and the keys of its kinds in KV `kinds`.

For eyes, never for decisions: nothing waits for it. During an outage it is kept, up to a bound, and said after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import anyio
import msgspec

from contracts import subjects
from contracts.cloudevents import binary_headers
from contracts.codec import encode
from contracts.events import Cancelled, Completed, Failed, LogEvent, Retrying, Started, event_type
from contracts.fleet import (
    ActiveJob,
    ActorFailed,
    ActorInitialized,
    ActorRestarted,
    ActorRetired,
    FleetEvent,
    GatewayReconnected,
    GatewayStatus,
    KindTotals,
    PoolCreated,
    Versions,
)
from infra.bus.base import Bus, BusError, Refused, TooLarge
from infra.pool.base import PoolEvent
from workers.runtime.inbox import Inbox
from workers.runtime.patience import patiently

__all__ = ["Fleet"]

log = logging.getLogger("jetray.fleet")

BACKLOG: Final = 1_000
STATUS_S: Final = 5.0

State = Literal["starting", "serving", "draining"]


class Fleet:
    """Says things in the background. `serve` must be running for any of it to be heard."""

    def __init__(self, bus: Bus, *, gateway: str, nonce: str, versions: Versions) -> None:
        self._bus = bus
        self._gateway = gateway
        self._nonce = nonce
        self.versions = versions
        self._outbox: Inbox[FleetEvent] = Inbox()
        self._said = 0
        self._began = anyio.current_time()
        self._totals: dict[str, _Totals] = {}
        self._active: dict[tuple[str, str], ActiveJob] = {}
        self.state: State = "starting"
        self._turned = anyio.Event()
        self.depths: dict[str, int] = {}
        self.pools: Callable[[], Mapping[str, Mapping[str, Any]]] = dict

    @property
    def uptime_ms(self) -> int:
        """Since it was made."""
        return int((anyio.current_time() - self._began) * 1000)

    def say(self, event: type[FleetEvent], **fields: Any) -> None:
        """Publish an event soon. Never waits; over a backlog of 1,000 it is dropped, with a word in the log."""
        value = self.event(event, **fields)
        if len(self._outbox) >= BACKLOG:
            log.warning("not said, too much is waiting: %s", value)
        else:
            self._outbox.put(value)

    def event(self, event: type[FleetEvent], **fields: Any) -> FleetEvent:
        """An event of this gateway, now."""
        return event(gateway=self._gateway, time=self._bus.server_now(), **fields)

    def pool_event(self, profiles: Mapping[str, Any], event: PoolEvent) -> None:
        """Say what happened to a pool or an actor."""
        match event.what:
            case "created":
                profile = profiles[event.profile]
                self.say(
                    PoolCreated,
                    profile=event.profile,
                    actors=list(event.actors),
                    cpus=profile.cpus,
                    gpus=profile.gpus,
                    memory=profile.memory,
                    slots=len(event.actors) * profile.concurrency,
                )
            case "initialized":
                duration_ms = int(event.duration_s * 1000)
                self.say(ActorInitialized, profile=event.profile, actor=event.actor, duration_ms=duration_ms)
            case "failed":
                self.say(
                    ActorFailed,
                    profile=event.profile,
                    actor=event.actor,
                    error=event.error,
                    jobs=list(event.jobs),
                    executions=event.executions,
                )
            case "restarted":
                self.say(
                    ActorRestarted,
                    profile=event.profile,
                    actor=event.actor,
                    replaces=event.replaces,
                    restarts=event.restarts,
                    reason=event.reason,
                )
            case "retired":
                self.say(
                    ActorRetired,
                    profile=event.profile,
                    actor=event.actor,
                    reason=event.reason,
                    executions=event.executions,
                )

    def appended(self, event: LogEvent) -> None:
        """Count an event that this gateway appended to a log."""
        key = (event.kind, event.job_id)
        totals = self._totals.setdefault(event.kind, _Totals())
        match event:
            case Started():
                self._active[key] = ActiveJob(
                    kind=event.kind,
                    job_id=event.job_id,
                    run=event.run,
                    attempt=event.attempt,
                    started=event.time,
                    deadline=event.deadline,
                    actor=event.actor,
                )
                return
            case Completed():
                totals.completed += 1
                totals.total_ms += event.duration_ms
            case Failed():
                totals.failed += 1
            case Cancelled():
                totals.cancelled += 1
            case Retrying():
                totals.retried += 1
            case _:
                return
        self._active.pop(key, None)

    def become(self, state: State) -> None:
        """Be in another state from here on, and show it at once."""
        self.state = state
        self._turned.set()

    def forget(self, kind: str, job_id: str) -> None:
        """This gateway no longer holds a job, however it ended."""
        self._active.pop((kind, job_id), None)

    def completed(self, kind: str) -> int:
        """Jobs of a kind that completed here."""
        totals = self._totals.get(kind)
        return 0 if totals is None else totals.completed

    def status(self) -> GatewayStatus:
        """What KV `workers` shows."""
        active: dict[str, int] = {}
        for kind, _ in self._active:
            active[kind] = active.get(kind, 0) + 1
        return GatewayStatus(
            gateway=self._gateway,
            time=self._bus.server_now(),
            state=self.state,
            uptime_ms=self.uptime_ms,
            active=list(self._active.values()),
            kinds={
                kind: KindTotals(
                    active=active.get(kind, 0),
                    completed=totals.completed,
                    failed=totals.failed,
                    cancelled=totals.cancelled,
                    retried=totals.retried,
                    average_ms=round(totals.total_ms / totals.completed, 3) if totals.completed else 0.0,
                    depth=self.depths.get(kind),
                )
                for kind, totals in self._totals.items()
            },
            pools={name: dict(pool) for name, pool in self.pools().items()},
            versions=self.versions,
        )

    def known(self, kinds: Iterable[str]) -> None:
        """Show these kinds in the totals, also before their first job."""
        for kind in kinds:
            self._totals.setdefault(kind, _Totals())

    async def serve(self) -> None:
        """Say what is to be said, and renew the key, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew)
            while True:
                await self._publish(await self._outbox.get())

    async def last_words(self, limit_s: float) -> None:
        """Say what is still waiting to be said, within `limit_s`."""
        with anyio.move_on_after(limit_s):
            while (event := self._outbox.take()) is not None:
                await self._publish(event)

    async def _publish(self, event: FleetEvent) -> None:
        self._said += 1
        message_id, what = f"{self._nonce}.w{self._said}", str(event.__struct_config__.tag)
        try:
            await patiently(lambda: self.publish(event, message_id=message_id), what=what, unless=(Refused,))
        except (Refused, TooLarge) as error:
            log.warning("not said: %s: %s", event, error)

    async def publish(self, event: FleetEvent, *, message_id: str) -> None:
        """Publish an event and see it stored. Raises the bus's errors."""
        topic, name = event.words()
        headers = binary_headers(
            event_type=event_type(f"workers.{topic}", name),
            gateway=self._gateway,
            event_id=message_id,
            subject=self._gateway,
            time=event.time,
        )
        await self._bus.publish(subjects.worker(topic, name, self._gateway), encode(event), headers)

    async def _renew(self) -> None:
        away_since: float | None = None
        while True:
            tried = anyio.current_time()
            try:
                await self._bus.put(subjects.WORKERS_KV, self._gateway, encode(self.status()))
            except BusError as error:
                away_since = tried if away_since is None else away_since
                log.info("KV workers not renewed: %s", error)
            else:
                if away_since is not None:
                    self.say(GatewayReconnected, away_ms=int((anyio.current_time() - away_since) * 1000))
                    away_since = None
            with anyio.move_on_after(STATUS_S):
                await self._turned.wait()
            self._turned = anyio.Event()


class _Totals(msgspec.Struct):
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    total_ms: int = 0
