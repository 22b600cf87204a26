"""A gateway from its start to its end, as the real runtime makes it, and its way to the server."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Final, Protocol

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup
from msgspec import convert

from contracts import catalogue, inbound, subjects
from contracts.calls import Call
from contracts.errors import ErrorInfo
from contracts.fleet import Versions
from infra.bus.base import Delivery
from infra.bus.memory import Fate, Faults, MemoryBus, MemoryServer
from infra.pool.base import Batch, Profile, Reservation
from infra.pool.memory import MemoryPool
from infra.store.memory import MemoryStore
from tests.simulation.faults import Side, step_of
from tests.simulation.flavours import Flavour
from tests.simulation.frozen import OWNER, Freezer
from tests.simulation.kinds import KINDS, SimulatedHost
from tests.simulation.ledger import AttemptKey, Ledger
from workers.core.sizing import Sizing
from workers.kinds.registry import Kind
from workers.runtime.gateway import Gateway
from workers.runtime.offer import describe_kinds
from workers.runtime.quarantine import Quarantine
from workers.settings import Settings

__all__ = ["ACK_WAIT_S", "SETTINGS", "Incarnation", "Surroundings"]

ACK_WAIT_S: Final = 6.0

# Nothing that is lost may be found by a deadline: a batch waits longer than the judge does.
SETTINGS: Final = convert(
    {
        "gateway": {"ack_wait_s": ACK_WAIT_S, "grace_s": 2.0, "deadline_s": 60.0, "batch_deadline_s": 3_600.0},
        "retry": {"base_s": 0.5, "cap_s": 4.0},
        "profiles": {"default": {"actors": 2, "concurrency": 3}},
        "routes": [],
    },
    Settings,
)


class Surroundings(Protocol):
    """What a gateway finds around it."""

    rng: random.Random
    store: MemoryStore
    ledger: Ledger

    @property
    def server(self) -> MemoryServer:
        """What all gateways talk to."""
        ...

    def note(self, who: str, what: str) -> None:
        """Into the trace."""
        ...

    def count(self) -> None:
        """Another word between a gateway and the server."""
        ...

    def newest(self) -> int:
        """The last sequence of EVENTS."""
        ...

    async def come_by(self, who: Incarnation, step: str, side: Side, subject: str) -> None:
        """A gateway comes by a step. Raises `NoAnswer`."""
        ...

    def delivered(self, who: Incarnation, delivery: Delivery) -> Fate:
        """A message is on its way to a gateway."""
        ...


class _Way(Faults):
    """One gateway's way to the server and back."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self.incarnation: Incarnation

    async def before(self, op: str, subject: str) -> None:
        await anyio.lowlevel.checkpoint()
        await self._come_by(op, subject, "before")

    async def after(self, op: str, subject: str) -> None:
        await anyio.lowlevel.checkpoint()
        await self._come_by(op, subject, "after")

    def delivery(self, delivery: Delivery) -> Fate:
        return self._world.delivered(self.incarnation, delivery)

    async def _come_by(self, op: str, subject: str, side: Side) -> None:
        self._world.count()
        self._world.note(self.incarnation.label, f"{op} {subject} {side}")
        step = step_of(op, subject)
        if step is not None:
            await self._world.come_by(self.incarnation, step, side, subject)


class Incarnation:
    """A gateway from its start to its end."""

    def __init__(self, world: Surroundings, name: str, number: int, flavour: Flavour) -> None:
        self.world = world
        self.name = name
        self.label = f"{name}/{number}"
        self.nonce = f"{world.rng.getrandbits(64):016x}"
        self.freezer = Freezer()
        self.freezes: list[tuple[float, float]] = []
        self.cuts: list[tuple[float, float]] = []
        self.delays: list[tuple[float, float]] = []
        self._late_until = 0.0
        self.ended: float | None = None
        self.dead = False
        self.error: BaseException | None = None
        self.over = anyio.Event()
        self.serving = False
        self._scope = anyio.CancelScope()
        way = _Way(world)
        way.incarnation = self
        self.bus = MemoryBus(world.server, faults=way)
        gateway = msgspec.structs.replace(SETTINGS.gateway, name=name)
        retry = msgspec.structs.replace(SETTINGS.retry, **flavour.retry)
        settings = msgspec.structs.replace(SETTINGS, gateway=gateway, retry=retry)
        profiles = [Profile(name=p, actors=s.actors, concurrency=s.concurrency) for p, s in settings.profiles.items()]
        self.pool = _Pool(profiles, self._host, gateway=name)
        self.pool.shared = world.ledger.shared
        self.gateway = _Gateway(
            settings,
            KINDS,
            bus=self.bus,
            pool=self.pool,
            store=world.store,
            versions=Versions(jetray="simulated", python="", ray=None, nats_server=world.server.version),
            nonce=self.nonce,
            jitter=world.rng.random,
            quarantine=_Trust(),
        )
        self.gateway.company = flavour.company

    def __repr__(self) -> str:
        return f"Incarnation({self.label})"

    async def serve(self) -> None:
        """Run it until it is drained, crashes, or ends by an error of its own."""
        OWNER.set(self.freezer)
        try:
            with self._scope:
                await self.gateway.run(self._started)
        except Exception as error:  # noqa: BLE001  whatever it is, the judge hears of it
            self.error = error
        finally:
            self.serving = False
            if self.ended is None:
                self.ended = anyio.current_time()
            self.over.set()

    def crash(self) -> None:
        """End it as `kill -9` would: nothing that it does on its way down reaches the bus or the ledger."""
        self.dead = True
        self.ended = anyio.current_time()
        self.world.ledger.died(self.nonce, anyio.current_time())
        self.bus.disconnect()
        self.thaw()
        self._scope.cancel()

    def freeze(self) -> None:
        """As SIGSTOP."""
        if not self.freezer.frozen:
            self.freezer.freeze()
            self.freezes.append((anyio.current_time(), float("inf")))

    def thaw(self) -> None:
        """As SIGCONT."""
        if self.freezer.frozen:
            self.freezes[-1] = (self.freezes[-1][0], anyio.current_time())
            self.freezer.thaw()

    def cut(self) -> None:
        """Cut its connection."""
        if self.bus.connected:
            self.bus.disconnect()
            self.cuts.append((anyio.current_time(), float("inf")))

    def mend(self) -> None:
        """Mend it."""
        if not self.bus.connected:
            self.cuts[-1] = (self.cuts[-1][0], anyio.current_time())
            self.bus.reconnect()

    def renew_late(self, lasts_s: float) -> None:
        """A renewal is late. One is made up for by the next; where that is late too, a lease may be lost."""
        now = anyio.current_time()
        if now < self._late_until:
            self.delays.append((now, now + lasts_s))
        self._late_until = max(self._late_until, now + lasts_s)

    def troubles(self) -> list[tuple[float, float]]:
        """When it could not do its work: from when, and until when."""
        over = [] if self.ended is None else [(self.ended, float("inf"))]
        return [*self.freezes, *self.cuts, *self.delays, *over]

    def kill_actor(self, rng: random.Random) -> str:
        """Kill one of its actors; its name, or nothing where none lives."""
        living = sorted(self.pool._actors.living)
        if not living:
            return ""
        actor = rng.choice(living)
        self.pool.kill(actor)
        return actor

    def leaks(self) -> list[str]:
        """What it still holds. Empty for one that has nothing to do, or is over."""
        if self.over.is_set():
            return []
        rooms, found = self.gateway._rooms, []
        found += [f"in hand: {worker!r}" for worker in rooms.live]
        found += [f"lease: {lease.delivery!r}" for lease in rooms.leases._held]
        found += [f"credit {name!r}: {credit.held}" for name, credit in self.gateway._credits.items() if credit.held]
        for name in SETTINGS.profiles:
            slots = self.pool.slots(name, exclusive=False)
            found += [f"slots of {name}: {slots}"] if slots.free != slots.total else []
        found += [f"active in KV: {job.kind}.{job.job_id}" for job in rooms.fleet.status().active]
        return [f"{self.label} {what}" for what in found]

    def _started(self) -> None:
        self.serving = True

    def _host(self) -> SimulatedHost:
        async def come_by(step: str, side: Side, subject: str) -> None:
            self.world.note(self.label, f"{step} {subject} {side}")
            await self.world.come_by(self, step, side, subject)

        return SimulatedHost(self.world.ledger, self.nonce, self.world.newest, come_by)


class _Gateway(Gateway):
    """Spares what no law looks at and every history pays: the words about its kinds anew each time, and depths."""

    company = 0
    """So many short jobs share a call, where that is not learned from them."""

    async def _start_pulling(self, pulls: TaskGroup, work: TaskGroup) -> None:
        await super()._start_pulling(pulls, work)
        for platform in self._platforms.values() if self.company else ():
            platform._sizings[""] = _Steady(limit=self.company)

    async def _tell_kinds(self) -> None:
        for name, told in _told().items():
            await self._rooms.bus.put(subjects.KINDS, name, told)

    async def _look_at_depths(self) -> None:
        if self._rooms.settings.retry.delayed < SETTINGS.retry.delayed:
            await super()._look_at_depths()


class _Steady(Sizing, frozen=True):
    """Learns nothing."""

    def after(self, jobs: int, seconds: float) -> Sizing:
        return self


class _Pool(MemoryPool):
    """Notes which jobs share a call."""

    shared: list[list[AttemptKey]]

    async def reserve(self, profile: str, *, exclusive: bool) -> Reservation:
        return _Seat(await super().reserve(profile, exclusive=exclusive), self.shared)

    def reserve_now(self, profile: str, *, exclusive: bool) -> Reservation | None:
        seat = super().reserve_now(profile, exclusive=exclusive)
        return None if seat is None else _Seat(seat, self.shared)


class _Seat:
    def __init__(self, seat: Reservation, shared: list[list[AttemptKey]]) -> None:
        self._seat = seat
        self._shared = shared
        self.actor = seat.actor
        self.start = seat.start
        self.release = seat.release

    def start_many(self, calls: Sequence[Call]) -> Batch:
        self._shared.append([(call.kind, call.job_id, call.run, call.attempt) for call in calls])
        return self._seat.start_many(calls)


@cache
def _told() -> dict[str, bytes]:
    return {info.name: catalogue.encode(info) for info in describe_kinds(SETTINGS, KINDS)}


class _Trust(Quarantine):
    """Decodes everything right here: processes know no virtual time."""

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        return None
