"""The gateway: what is started, in which order, and how it stops.

Two lifetimes: pulling ends first, working later. Everything is owned by one task group; the pool starts beside the
rest, so that the bus is served meanwhile.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from anyio.abc import TaskGroup

from contracts.fleet import GatewayDraining, GatewayStarted, GatewayStopped, Versions
from contracts.inbound import Limits
from contracts.subjects import JOBS
from infra.bus.base import Bus, Delivery
from infra.pool.base import Pool, PoolEvent
from infra.store.base import Store
from workers.core.credit import ahead
from workers.kinds.batching import BatchCode
from workers.kinds.registry import Kind
from workers.runtime import terms
from workers.runtime.control import Control
from workers.runtime.delayed import Delayed
from workers.runtime.depths import Depths
from workers.runtime.episodes import Episodes
from workers.runtime.fleet import Fleet
from workers.runtime.intake import Intake
from workers.runtime.journal import Journal
from workers.runtime.lease import Leases
from workers.runtime.leftovers import Leftovers
from workers.runtime.limits import Limits as KindLimits
from workers.runtime.live import Live
from workers.runtime.offer import tell_kinds
from workers.runtime.platform import Platform
from workers.runtime.pressure import Pressure
from workers.runtime.pull import Credit, Lane, Settled, pull
from workers.runtime.quarantine import Quarantine
from workers.runtime.replay import Replayer
from workers.runtime.rooms import Rooms
from workers.runtime.scale import Scale
from workers.runtime.settle import Settle
from workers.runtime.topology import lane_durable, topology
from workers.runtime.upstream import Upstream
from workers.runtime.watch import watch
from workers.runtime.worker import Worker
from workers.settings import Settings

__all__ = ["Gateway"]

log = logging.getLogger("jetray.gateway")

LAST_APPENDS_S: Final = 10.0
"""What jobs get to write down how they ended, once they were stopped."""
LAST_WORDS_S: Final = 2.0


class Gateway:
    """Pulls, works and settles until it is drained. Await `run` once."""

    def __init__(
        self,
        settings: Settings,
        kinds: Mapping[str, Kind],
        *,
        bus: Bus,
        pool: Pool,
        store: Store,
        versions: Versions,
        nonce: str,
        jitter: Callable[[], float],
        quarantine: Quarantine | None = None,
    ) -> None:
        self._drained = anyio.Event()
        self._why = ""
        self._credits: dict[str, Credit] = {}
        self._platforms: dict[str, Platform] = {}
        name = settings.gateway.name
        configs = terms.configs(settings)
        fleet = Fleet(bus, gateway=name, nonce=nonce, versions=versions)
        delayed = Delayed(settings.retry.delayed)
        depths = Depths(bus, kinds, delayed, in_hand=self._in_hand)
        fleet.depths = depths.known
        marks = functools.partial(terms.marks, settings)
        episodes = Episodes(fleet, marks=marks, actors=self._actors, depth=depths.of, waited_ms=depths.waited_ms)
        self._scale = Scale(
            settings, kinds, pool=pool, fleet=fleet, depths=depths, per_slot=lambda kind: self._per_slot(kinds[kind])
        )
        upstream = Upstream(bus, kinds, depths, episodes, marks=marks, grown=self._scale.grown)
        self._scale.changed = upstream.grew
        fleet.pools = pool.report
        pressure = Pressure(kinds, episodes)
        upstream.changed = pressure.changed = self._notify_credits
        pressure.lend = lambda kind, count: self._credit_of(kinds[kind]).lend(kind, count)
        settle = Settle(bus, store, pressure)
        limits = KindLimits(settings, bus=bus, settle=settle, delayed=delayed, jitter=jitter)
        limits.changed = self._notify_credits
        self._rooms = Rooms(
            settings=settings,
            bus=bus,
            pool=pool,
            store=store,
            kinds=dict(kinds),
            terms={kind.name: terms.of(settings, kind) for kind in kinds.values()},
            batches={
                kind.name: BatchCode(kind.instance(configs.get(kind.name))) for kind in kinds.values() if kind.is_batch
            },
            journal=Journal(bus, nonce=nonce, source=name, pressure=pressure),
            intake=Intake(_limits(settings), quarantine or Quarantine(settings.kinds.modules)),
            leases=Leases(bus, ack_wait_s=settings.gateway.ack_wait_s),
            settle=settle,
            live=Live(),
            limits=limits,
            delayed=delayed,
            depths=depths,
            fleet=fleet,
            pressure=pressure,
            upstream=upstream,
            jitter=jitter,
        )

    async def run(self, serving: Callable[[], None] = lambda: None) -> None:
        """Work until drained; `serving` is called once messages are pulled. Raises `Foreign` and `ConfigError`."""
        rooms = self._rooms
        await rooms.bus.apply(topology(rooms.settings, rooms.kinds))
        await self._tell_kinds()
        # Before anything runs here: what is cancelled from now on is to be heard of.
        newest = await rooms.journal.newest()
        async with anyio.create_task_group() as house:
            house.start_soon(rooms.pool.serve, self._pool_event)
            house.start_soon(rooms.leases.serve)
            house.start_soon(rooms.fleet.serve)
            house.start_soon(rooms.pressure.serve)
            house.start_soon(rooms.limits.serve)
            house.start_soon(self._look_at_depths)
            house.start_soon(Leftovers(rooms).serve)
            house.start_soon(self._scale.serve)
            house.start_soon(watch, rooms.bus, rooms.journal, rooms.live, rooms.batches, newest)
            house.start_soon(self._control().serve)
            async with anyio.create_task_group() as work:
                async with anyio.create_task_group() as pulls:
                    await self._start_pulling(pulls, work)
                    serving()
                    await self._drained.wait()
                    pulls.cancel_scope.cancel()
                await self._finish(work)
            house.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            rooms.fleet.say(GatewayStopped, uptime_ms=rooms.fleet.uptime_ms)
            await rooms.fleet.last_words(LAST_WORDS_S)

    @property
    def draining(self) -> bool:
        """Whether it was asked to stop."""
        return self._drained.is_set()

    def drain(self, why: str) -> None:
        """Stop: no new pull at once, running jobs get the grace period, the rest is given back."""
        self._why = self._why or why
        self._drained.set()

    def hurry(self) -> None:
        """Whatever is stopped from now on gets no grace period any more. To be called before `run` is cancelled."""
        for worker in self._rooms.live:
            worker.hurry()

    async def _start_pulling(self, pulls: TaskGroup, work: TaskGroup) -> None:
        rooms = self._rooms
        for kind in rooms.kinds.values():
            if kind.may_share:
                platform = self._platforms[kind.name] = Platform(rooms, kind, work)
                pulls.start_soon(platform.serve)
        handle = functools.partial(self._handle, work)
        for lane in await self._lanes():
            pulls.start_soon(pull, rooms.bus, lane, self._credit_of(lane.kind), handle)
        for credit in self._credits.values():
            pulls.start_soon(credit.serve)
        rooms.fleet.become("serving")
        rooms.fleet.known(rooms.kinds)
        rooms.fleet.say(GatewayStarted, kinds=sorted(rooms.kinds), versions=rooms.fleet.versions)

    def _paused(self, lane: Lane) -> bool:
        """A queue that is too deep is worked down, and what routes could add to it waits where it is."""
        kind, rooms = lane.kind.name, self._rooms
        return rooms.pressure.paused(kind) or (lane.stream != JOBS and rooms.upstream.pressed(kind))

    async def _lanes(self) -> list[Lane]:
        rooms = self._rooms
        lanes = [
            Lane(stream=JOBS, consumer=lane_durable(kind.name, high=high), kind=kind, high=high)
            for kind in rooms.kinds.values()
            for high in (True, False)
        ]
        for route in rooms.settings.routes:
            owner = await rooms.bus.owner(route.subject)
            assert owner is not None, "the topology made sure that somebody owns it"
            lanes.append(Lane(stream=owner, consumer=route.durable, kind=rooms.kinds[route.kind]))
        return lanes

    def _credit_of(self, kind: Kind) -> Credit:
        name = "" if kind.is_batch else terms.profile(self._rooms.settings, kind)
        credit = self._credits.get(name)
        if credit is None:
            credit = Credit(
                self._room, per_slot=self._per_slot, paused=self._paused, allowance=self._rooms.limits.allowance
            )
            self._credits[name] = credit
        return credit

    def _room(self, kind: Kind) -> tuple[int, int]:
        """Slots for a kind's jobs, and how many slots' worth of them may be fetched ahead."""
        gateway = self._rooms.settings.gateway
        if kind.is_batch:
            return gateway.open_batches, 0
        profile = terms.profile(self._rooms.settings, kind)
        # Not the total: while Ray starts or is away, another gateway has room for what this one would hold.
        slots = self._rooms.pool.slots(profile, exclusive=kind.exclusive).ready
        actors = self._rooms.pool.slots(profile, exclusive=True).ready
        return slots, ahead(gateway.prefetch, slots, actors)

    def _per_slot(self, kind: Kind) -> int:
        """Messages of a kind that one slot takes at once."""
        platform = self._platforms.get(kind.name)
        return 1 if platform is None else platform.limit

    def _handle(self, work: TaskGroup, kind: Kind, deliveries: list[Delivery], settled: Settled) -> None:
        newest = deliveries[-1]
        if newest.stream == JOBS:
            self._rooms.depths.saw(newest.consumer, newest.pending, newest.stored)
        platform = self._platforms.get(kind.name)
        for delivery in deliveries:
            if platform is not None:
                platform.arrive(delivery, settled)
            else:
                worker = Worker(self._rooms, kind, delivery, settled)
                work.start_soon(worker.run, name=f"{delivery.consumer} {delivery.sequence}")
        if platform is not None:
            platform.depart()

    def _control(self) -> Control:
        rooms, name = self._rooms, self._rooms.settings.gateway.name
        replayer = Replayer(
            bus=rooms.bus,
            journal=rooms.journal,
            store=rooms.store,
            kinds=rooms.kinds,
            limits=_limits(rooms.settings),
            gateway=name,
        )
        return Control(
            bus=rooms.bus,
            journal=rooms.journal,
            settle=rooms.settle,
            leases=rooms.leases,
            fleet=rooms.fleet,
            replayer=replayer,
            gateway=name,
            drain=self.drain,
        )

    def _pool_event(self, event: PoolEvent) -> None:
        self._rooms.fleet.pool_event(self._rooms.settings.profiles, event)
        if event.what == "halted":
            kinds = self._kinds_of(event.profile)
            self._rooms.pressure.halted(event.profile, kinds)
            for worker in self._rooms.live.of_kinds(kinds):
                worker.unqueue()
            for kind in kinds:
                if kind in self._platforms:
                    self._platforms[kind].clear()
        elif event.what == "resumed":
            self._rooms.pressure.resumed(event.profile)
        self._notify_credits()

    def _kinds_of(self, profile: str) -> tuple[str, ...]:
        kinds, settings = self._rooms.kinds.values(), self._rooms.settings
        return tuple(kind.name for kind in kinds if not kind.is_batch and terms.profile(settings, kind) == profile)

    def _notify_credits(self) -> None:
        for credit in self._credits.values():
            credit.notify()

    def _actors(self, kind: str) -> int:
        """How many run a kind; batches need none."""
        known, settings = self._rooms.kinds[kind], self._rooms.settings
        return 0 if known.is_batch else settings.profiles[terms.profile(settings, known)].actors

    async def _finish(self, work: TaskGroup) -> None:
        live, fleet, grace_s = self._rooms.live, self._rooms.fleet, self._rooms.settings.gateway.grace_s
        fleet.become("draining")
        fleet.say(GatewayDraining, reason=self._why, active=len(live))
        log.info("draining (%s): %d in hand, %.0f s of grace", self._why, len(live), grace_s)
        for worker in live:
            worker.unqueue()
        for platform in self._platforms.values():
            await platform.close()
        with anyio.move_on_after(grace_s):
            await live.wait_empty()
        for worker in live:
            worker.drain()
        with anyio.move_on_after(LAST_APPENDS_S):
            await live.wait_empty()
        work.cancel_scope.cancel()

    async def _tell_kinds(self) -> None:
        rooms = self._rooms
        await tell_kinds(rooms.bus, rooms.settings, rooms.kinds, version=rooms.fleet.versions.jetray)

    async def _look_at_depths(self) -> None:
        await self._rooms.depths.serve()

    def _in_hand(self, consumer: str) -> int:
        return sum(credit.held_of(consumer) for credit in self._credits.values())


def _limits(settings: Settings) -> Limits:
    return Limits(input_bytes=settings.limits.input_bytes, input_depth=settings.limits.input_depth)
