"""The calls of one profile: who gets which slot, and what becomes of the call. `staff` keeps the actors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from contracts.calls import Call, Gone
from infra.pool.actor import ActorLost, Spawner
from infra.pool.base import ConfigError, PoolListener, Profile, Slots
from infra.pool.execution import Berth, Running, RunningBatch, RunningCall
from infra.pool.slots import SlotTable, Ticket
from infra.pool.staff import Staff
from infra.pool.states import ActorState

__all__ = ["Crew", "Seat"]


class Seat:
    """The `Reservation` of every pool."""

    def __init__(self, crew: Crew, berth: Berth, ticket: Ticket) -> None:
        self._crew = crew
        self._berth = berth
        self._ticket = ticket
        self._used = False

    @property
    def actor(self) -> str:
        """What will run the call."""
        return self._berth.name

    def start(self, call: Call) -> RunningCall:
        """Begin the attempt. The slot is free again once the execution has ended."""
        execution = RunningCall(call, self._berth)
        self._start(execution)
        return execution

    def start_many(self, calls: Sequence[Call]) -> RunningBatch:
        """Begin attempts at several jobs. The slot is free again once all have ended."""
        batch = RunningBatch(calls, self._berth)
        self._start(batch)
        return batch

    def release(self) -> None:
        """Give the slot back unused. Does nothing once it is used or given back."""
        if not self._used:
            self._used = True
            self._crew.free(self._ticket)

    def _start(self, running: Running) -> None:
        if self._used:
            raise RuntimeError(f"this slot on {self.actor} is used: reserve another one")
        self._used = True
        self._crew.start(running, self._berth, self._ticket)


class Crew:
    """One profile's actors."""

    def __init__(self, profile: Profile, spawner: Spawner, *, gateway: str) -> None:
        self.profile = profile
        self._staff = Staff(profile, spawner, self, gateway=gateway)
        self._concurrency = spawner.concurrency(profile)
        self._slots = SlotTable()
        self._berths: dict[str, Berth] = {}
        """Where calls can go, and where some still run."""
        self._waiting: dict[Ticket, anyio.Event] = {}
        self._news: anyio.Event | None = None
        self._tasks: TaskGroup

    @property
    def refusal(self) -> ConfigError | None:
        """Why this profile can run nothing, found before any of its actors was ready."""
        return self._staff.refusal

    def slots(self, *, exclusive: bool) -> Slots:
        """Room now, of what there is with the actors that are there, and of what there is with all of them."""
        each = 1 if exclusive else min(self._concurrency, self.profile.recycle_jobs or self._concurrency)
        return Slots(
            total=self._staff.size * each,
            ready=self._slots.size(exclusive=exclusive),
            free=self._slots.room(exclusive=exclusive),
        )

    async def wait_free(self, *, exclusive: bool) -> None:
        """Return once there is room."""
        while not self._slots.room(exclusive=exclusive):
            self._news = self._news or anyio.Event()
            await self._news.wait()

    async def reserve(self, *, exclusive: bool) -> Seat:
        """Take a slot, or a whole actor; waits its turn."""
        while True:
            ticket = self._slots.ask(exclusive=exclusive)
            if ticket.state == "waiting":
                await self._turn(ticket)
            else:
                self._took(ticket)
            berth = self._berths.get(ticket.actor)
            if berth is not None:
                return Seat(self, berth, ticket)
            # The actor died in the very turn in which its slot was granted, and the slot with it.

    def reserve_now(self, *, exclusive: bool) -> Seat | None:
        """Take a slot, or a whole actor, if there is one for whoever comes now."""
        if self._slots.waiting or not self._slots.room(exclusive=exclusive):
            return None
        ticket = self._slots.ask(exclusive=exclusive)
        self._took(ticket)
        return Seat(self, self._berths[ticket.actor], ticket)

    def start(self, running: Running, berth: Berth, ticket: Ticket) -> None:
        """Call the actor in a slot. Where it has gone meanwhile, the attempt is lost."""
        if berth.gone:
            assert berth.error is not None
            running.lose(Gone(error=berth.error))
        else:
            berth.running.add(running)
            self._tasks.start_soon(self._run, running, berth, ticket, name=f"{running.jobs[0]} on {berth.name}")

    def free(self, ticket: Ticket) -> None:
        """Give a slot back."""
        self._serve(self._slots.free(ticket))
        self._freed(ticket.actor)

    def keep(self, tasks: TaskGroup, tell: PoolListener) -> None:
        """Keep the actors in `tasks` until that is cancelled. If they cannot be, cancel it and say why in `refusal`."""
        self._tasks = tasks
        self._staff.keep(tasks, tell)

    def resize(self, actors: int) -> int:
        """Have so many actors, within the profile's bounds; how many that is."""
        return self._staff.resize(actors)

    def report(self) -> dict[str, Any]:
        """For eyes: the size, and how many actors are in each state."""
        return self._staff.report()

    # --- for the staff ------------------------------------------------------------------------------------------------

    def enter(self, berth: Berth) -> None:
        """An actor takes calls from now on."""
        self._berths[berth.name] = berth
        grants = self.profile.recycle_jobs or math.inf
        self._serve(self._slots.add(berth.name, self._concurrency, grants))

    def close(self, berth: Berth) -> None:
        """An actor takes nothing new."""
        if berth.name in self._berths and not self._slots.closed(berth.name):
            self._serve(self._slots.close(berth.name))

    def leave(self, berth: Berth) -> None:
        """An actor is no more."""
        if self._berths.pop(berth.name, None) is not None:
            self._serve(self._slots.remove(berth.name))

    def load(self, berth: Berth) -> int:
        """Slots held on an actor."""
        return self._slots.taken(berth.name) if berth.name in self._berths else 0

    def alone(self, berth: Berth) -> bool:
        """Whether an exclusive call has the actor."""
        return berth.name in self._berths and self._slots.alone(berth.name)

    async def _run(self, running: Running, berth: Berth, ticket: Ticket) -> None:
        with running.scope:
            try:
                await running.carry_out(berth.actor)
            except ActorLost as gone:
                berth.condemn(gone.error)
                return
            berth.executions += len(running.jobs)
            berth.running.discard(running)
            self.free(ticket)

    async def _turn(self, ticket: Ticket) -> None:
        granted = self._waiting[ticket] = anyio.Event()
        try:
            await granted.wait()
        except anyio.get_cancelled_exc_class():
            # The grant and the cancellation may have come in the same turn of the loop.
            if ticket.state == "held":
                self.free(ticket)
            else:
                self._serve(self._slots.withdraw(ticket))
            raise
        finally:
            del self._waiting[ticket]

    def _took(self, ticket: Ticket) -> None:
        """A slot was granted."""
        berth = self._berths[ticket.actor]
        if berth.state is not ActorState.DRAINING:
            berth.become(ActorState.BUSY)
        if self._slots.closed(berth.name):
            self._staff.part(berth, "recycled")

    def _freed(self, actor: str) -> None:
        """A slot was given back, and perhaps granted again."""
        berth = self._berths.get(actor)
        if berth is None:
            return
        if berth.executions >= (self.profile.recycle_jobs or math.inf):
            self._staff.part(berth, "recycled")
        if berth.error is None and not self._slots.taken(actor):
            self._staff.idle(berth)

    def _serve(self, granted: list[Ticket]) -> None:
        for ticket in granted:
            self._took(ticket)
            self._waiting[ticket].set()
        if self._news is not None:
            self._news.set()
            self._news = None
