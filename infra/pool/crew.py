"""The actors of one profile: so many at all times, a lost one replaced, and their slots.

An actor's way: spawned ──ready──▶ hired ──condemned (died, killed, pool stopped)──▶ out of the slots, killed, gone.
Only then end the calls that it took along, so whoever sees `Gone` knows that nothing of them runs any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

from contracts.calls import Call, Gone
from contracts.errors import ErrorInfo
from infra.pool.actor import ActorLost, Spawner, lost
from infra.pool.base import ConfigError, PoolEvent, PoolListener, Profile, Slots
from infra.pool.execution import Berth, Running, RunningBatch, RunningCall
from infra.pool.slots import SlotTable, Ticket

__all__ = ["Crew", "Seat", "backoff_s"]

BACKOFF_S = 0.1
BACKOFF_CAP_S = 30.0


def backoff_s(failures: int) -> float:
    """Seconds to wait before an actor is started, after so many that came to nothing in a row: 0, 0.1, 0.2, … 30."""
    return min(BACKOFF_CAP_S, BACKOFF_S * 2 ** (failures - 1)) if failures else 0.0


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
        self.refusal: ConfigError | None = None
        """Why this profile can run nothing, found before any of its actors was ready."""
        self._spawner = spawner
        self._concurrency = spawner.concurrency(profile)
        self._prefix = f"jetray-{gateway}-{profile.name}"
        self._numbers = itertools.count(1)
        self._slots = SlotTable()
        self._berths: dict[str, Berth] = {}
        self._waiting: dict[Ticket, anyio.Event] = {}
        self._news: anyio.Event | None = None
        self._proven = False
        self._created = False
        self._tasks: TaskGroup
        self._tell: PoolListener

    def slots(self, *, exclusive: bool) -> Slots:
        """Room now, of what there is with the actors that are there, and of what there is with all of them."""
        each = 1 if exclusive else self._concurrency
        return Slots(
            total=self.profile.actors * each,
            ready=len(self._berths) * each,
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
            berth = self._berths.get(ticket.actor)
            if berth is not None:
                return Seat(self, berth, ticket)
            # The actor died in the very turn in which its slot was granted, and the slot with it.

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

    def keep(self, tasks: TaskGroup, tell: PoolListener) -> None:
        """Keep the actors in `tasks` until that is cancelled. If they cannot be, cancel it and say why in `refusal`."""
        self._tasks = tasks
        self._tell = tell
        for _ in range(self.profile.actors):
            tasks.start_soon(self._keep_one, name=f"actors of {self.profile.name}")

    async def _keep_one(self) -> None:
        before: Berth | None = None
        failures = 0
        for restarts in itertools.count():
            berth = await self._hire(failures)
            if before is not None and before.error is not None:
                reason = before.error.type
                self._say("restarted", berth, replaces=before.name, restarts=restarts, reason=reason)
            await self._attend(berth)
            # An actor that did some good is replaced at once. One that died over its first call may meet that again.
            failures = 0 if berth.executions or berth.on_purpose else failures + 1
            before = berth

    async def _hire(self, failures: int) -> Berth:
        """Start actors until one is ready."""
        while True:
            await anyio.sleep(backoff_s(failures))
            name = f"{self._prefix}-{next(self._numbers)}"
            berth = Berth(name, self._spawner.spawn(self.profile, name), strike=self._strike)
            began = anyio.current_time()
            problem = await self._problem(berth)
            if problem is None:
                self._proven = True
                self._say("initialized", berth, duration_s=anyio.current_time() - began)
                return berth
            failures += 1
            self._say("failed", berth, error=problem)
            if problem.reason == "config" and not self._proven:
                await self._refuse(problem)

    async def _problem(self, berth: Berth) -> ErrorInfo | None:
        """What keeps the actor from being ready; then nothing of it is left."""
        is_ready = False
        try:
            await berth.actor.ready()
            is_ready = True
        except ActorLost as gone:
            return gone.error
        finally:
            if not is_ready:
                with anyio.CancelScope(shield=True):
                    await berth.actor.kill()
        return None

    async def _attend(self, berth: Berth) -> None:
        """Have the actor work until it must go, and see it gone."""
        self._berths[berth.name] = berth
        self._serve(self._slots.add(berth.name, self._concurrency))
        if len(self._berths) == self.profile.actors and not self._created:
            self._created = True
            self._tell(PoolEvent(what="created", profile=self.profile.name, actors=tuple(self._berths)))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, berth)
                await berth.condemned.wait()
                tasks.cancel_scope.cancel()
        finally:
            stopped = berth.error is None
            berth.condemn(lost("PoolStopped", f"the pool was stopped, and {berth.name} with it"))
            with anyio.CancelScope(shield=True):
                jobs = await self._see_gone(berth)
            if stopped:
                self._say("retired", berth, reason="stopped", executions=berth.executions)
            else:
                self._say("failed", berth, error=berth.error, jobs=jobs, executions=berth.executions)

    async def _watch(self, berth: Berth) -> None:
        berth.condemn(await berth.actor.died())

    async def _see_gone(self, berth: Berth) -> tuple[str, ...]:
        """End the actor and then the calls that it took along: those jobs."""
        await berth.actor.kill()
        assert berth.error is not None
        berth.gone = True
        for running in berth.running:
            running.lose(Gone(error=berth.error))
            running.scope.cancel()
        return tuple(sorted(job for running in berth.running for job in running.jobs))

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

    async def _refuse(self, problem: ErrorInfo) -> None:
        reason = " ".join(problem.message.split())
        self.refusal = ConfigError(f"profile {self.profile.name}: no actor can start: {problem.type}: {reason}")
        self._tasks.cancel_scope.cancel()
        await anyio.sleep_forever()

    def _strike(self, berth: Berth) -> None:
        del self._berths[berth.name]
        self._serve(self._slots.remove(berth.name))

    def _serve(self, granted: list[Ticket]) -> None:
        for ticket in granted:
            self._waiting[ticket].set()
        if self._news is not None:
            self._news.set()
            self._news = None

    def _say(self, what: Literal["initialized", "failed", "restarted", "retired"], berth: Berth, **more: Any) -> None:
        self._tell(PoolEvent(what=what, profile=self.profile.name, actor=berth.name, **more))
