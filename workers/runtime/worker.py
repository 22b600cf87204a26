"""One delivery of one job in this gateway's hands, from its arrival to its settling."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts.calls import Call, Outcome
from contracts.codec import encode
from contracts.events import LogEvent, Requeued, Started
from infra.bus.base import Delivery
from infra.pool.base import Reservation
from workers.core import job as core
from workers.core.job import Job, Phase
from workers.core.lifecycle import decide
from workers.core.log import LogView
from workers.kinds.registry import Kind
from workers.runtime.attempt import call_for, outcome_stimulus
from workers.runtime.hands import Hands
from workers.runtime.inbox import Inbox
from workers.runtime.intake import Received
from workers.runtime.journal import Write, Written
from workers.runtime.lease import Lease
from workers.runtime.quarantine import Undecided
from workers.runtime.rooms import Rooms

__all__ = ["Worker"]

log = logging.getLogger("jetray.worker")

LAST_NAK_S = 1.0


class Stoppable(Protocol):
    """What can be stopped."""

    def cancel(self) -> None:
        """Stop it soon."""
        ...


class Worker:
    """Takes a delivery from its arrival to its settling: by itself (`run`), or as one of many on a train.

    On a train others carry out what is decided, for many at once, until one is not like the others; then it goes on by
    itself (`go_on`). `settled` is called once it holds nothing of the delivery any more.
    """

    def __init__(
        self, rooms: Rooms, kind: Kind, delivery: Delivery, settled: Callable[[], None] = lambda: None
    ) -> None:
        self._rooms = rooms
        self._kind = kind
        self._terms = rooms.terms[kind.name]
        self._settled = settled
        self._inbox: Inbox[core.Stimulus] = Inbox()
        self._hands: Hands | None = None
        self._held: anyio.CancelScope | None = None
        self._reading: anyio.CancelScope | None = None
        self._queueing: anyio.CancelScope | None = None
        self._interrupted = False
        self._is_short = kind.is_short
        """Nothing is heard of its attempt before the outcome."""
        self._grace_s = rooms.settings.gateway.grace_s
        self._told: LogView | None = None
        self._visit = rooms.limits.visit(kind.name)
        self._drained = False
        self.lease: Lease
        self.delivery = delivery
        self.received: Received
        self.job: Job | None = None
        self.attempt: Stoppable | None = None
        """What stops the attempt, while there is one."""
        self.on_lost: Callable[[], None] = _nothing
        """Called when the lease is lost while another drives."""
        self.on_ran: Callable[[int, float], None] = _nothing
        """Called with 1, and the seconds that its attempt took on the pool."""

    def __repr__(self) -> str:
        return f"Worker({self._kind.name}, {self.delivery.stream}:{self.delivery.sequence})"

    @property
    def lost(self) -> bool:
        """Whether its lease is lost. Nothing may be sent on the delivery any more."""
        return self.lost_by()

    def lost_by(self, now: float | None = None) -> bool:
        """The same, for whoever asks this of many at one time on the loop's clock."""
        return self._rooms.leases.check(self.lease, now)

    async def run(self) -> None:
        """To the end of what this gateway may do with the delivery."""
        self._hold("")
        await self._alone(self._from_arrival)

    async def go_on(self, commands: Sequence[core.Command], begun: Write | None = None) -> None:
        """By itself from here on: first these commands, and what its inbox holds.

        `begun` is the write of a first command to append, which may have been sent already.
        """
        self.attempt, self._own_hands().begun = None, begun
        await self._alone(lambda: self._drive(commands))

    async def go_on_with(self, outcome: Outcome, call: Call) -> None:
        """By itself from here on: its attempt, which others ran, has ended so."""
        self.attempt = None

        async def work() -> None:
            self._inbox.put(await outcome_stimulus(self._rooms.store, outcome, call))
            await self._drive(())

        await self._alone(work)

    async def go_on_after(self, stimulus: core.Stimulus) -> None:
        """By itself from here on: this has happened to its attempt, which others ran."""
        self.attempt = None
        self._inbox.put(stimulus)
        await self._alone(lambda: self._drive(()))

    async def go_on_alone(self, reservation: Reservation) -> None:
        """By itself from here on: it has a slot."""
        self._own_hands().reservation = reservation
        await self._alone(lambda: self._drive(self.begin(reservation.actor, self.now())))

    def board(self, received: Received) -> None:
        """Hold what was received, for others to drive."""
        self.received = received
        self._is_short = True
        self._hold(received.ticket.job_id)

    def unwatch(self) -> None:
        """Nobody else drives it from here on: whoever goes on with it looks whether its lease is lost."""
        self.on_lost = _nothing

    def alight(self) -> None:
        """Hold it no more."""
        if self._visit is not None:
            self._visit.leave(ran=self._runs)
        if self.job is not None:
            ticket = self.job.ticket
            if self._rooms.live.runner(ticket.kind, ticket.job_id) in (None, self):
                self._rooms.fleet.forget(ticket.kind, ticket.job_id)
        self._rooms.live.leave(self)
        self._rooms.leases.release(self.lease)
        if self._hands is not None:
            self._hands.release()
        self._settled()
        # These lead back here: without them nobody need look for a cycle.
        self._hands, self.attempt, self.on_lost, self.on_ran = None, None, _nothing, _nothing

    def admit(self) -> bool:
        """Whether the limits of its kind let it go on, now that it is read. If not it is to `turn_away`."""
        if self._visit is None:
            return True
        ticket = self.received.ticket
        return self._visit.admit(self.received, runs=self._rooms.live.runner(ticket.kind, ticket.job_id) is not None)

    async def turn_away(self) -> None:
        """It is over a limit: it comes again."""
        await self._alone(self._turn_away)

    async def _turn_away(self) -> None:
        assert self._visit is not None, "nothing else has limits"
        await self._rooms.limits.turn_away(self.delivery, self.received, self._visit)

    @property
    def _runs(self) -> bool:
        """Whether its attempt has begun."""
        job = self.job
        return job is not None and self._rooms.live.runner(job.ticket.kind, job.ticket.job_id) is self

    def _hold(self, job_id: str) -> None:
        self.lease = self._rooms.leases.hold(self.delivery, self._lose)
        # Under no id as yet, where it must be read first: so a gateway that drains knows of it.
        self._rooms.live.enter(self, self._kind.name, job_id)

    async def _alone(self, work: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as self._held:
            try:
                if not self.lost:
                    await work()
            except anyio.get_cancelled_exc_class():
                await self.give_back()
                raise
            finally:
                self.alight()

    async def _from_arrival(self) -> None:
        received = await self._read_in()
        if received is None:
            return
        self.received = received
        ticket = received.ticket
        self._rooms.live.enter(self, ticket.kind, ticket.job_id)
        if not self.admit():
            await self._turn_away()
        elif await self._reserve():
            reservation = self._own_hands().reservation
            await self._drive(self.begin(None if reservation is None else reservation.actor, self.now()))
        else:
            await self._rooms.settle.nak(self.delivery, 0.0)

    def unqueue(self) -> None:
        """No slot is to be had, or no time: what is still being read, or waits for a slot, is given back at once."""
        for scope in (self._reading, self._queueing):
            if scope is not None:
                scope.cancel()

    def drain(self) -> None:
        """The grace period is over: give the delivery back. A worker that is about to end anyway goes on to its end."""
        self._drained = True
        self.hurry()
        self._interrupt(core.Drained())

    def hurry(self) -> None:
        """Whatever stops the attempt from now on, it gets no grace period any more."""
        self._grace_s = 0.0

    def tell(self, log_view: LogView) -> None:
        """The log was ended by another's hand: perhaps before this worker knows that its own `started` is durable."""
        self._told = log_view
        if self._is_news(log_view):
            self._interrupt(core.LogRead(log_view))
        else:
            self._inbox.put(core.LogRead(log_view))

    def adopt(self, received: Received, delivery: Delivery, lease: Lease) -> bool:
        """Carry on under a newer delivery of the same job; False where the attempt is over."""
        if self.job is None or self.job.phase not in (Phase.RUNNING, Phase.REPORTING):
            return False
        self.delivery = self.lease.delivery = delivery
        self.lease.renewed = lease.renewed
        self._inbox.put(core.Adopted(received.ticket))
        return True

    def opened(self, opening: Started | Requeued | None) -> bool:
        """Whether `opening` is the `started` of this very delivery."""
        ticket = self.received.ticket
        return isinstance(opening, Started) and (opening.origin, opening.delivery) == (ticket.origin, ticket.delivery)

    def now(self) -> datetime:
        """By the server's clock."""
        return self._rooms.bus.server_now()

    def begin(self, actor: str | None, now: datetime) -> Sequence[core.Command]:
        """What is to be done first, now that `actor` has room for it."""
        error = self.received.error
        self.job = Job(
            ticket=self.received.ticket,
            policy=self._terms.policy,
            gateway=self._rooms.settings.gateway.name,
            actor=actor,
            limit_s=min(self._terms.deadline_s, self.received.deadline_s or math.inf),
            stored=self.delivery.stored,
        )
        return self.step(core.Delivered() if error is None else core.Undecodable(error), now)

    def step(self, stimulus: core.Stimulus, now: datetime) -> Sequence[core.Command]:
        """Take in what happened; what is to be done about it."""
        assert self.job is not None
        job = self._with_room_for_delay() if isinstance(stimulus, _MAY_DELAY) else self.job
        self.job, commands = decide(job, stimulus, now=now, jitter=self._rooms.jitter())
        return commands

    def _with_room_for_delay(self) -> Job:
        assert self.job is not None
        crowded, full = self._rooms.delayed.crowded(self.delivery.consumer)
        if (crowded, full) == (self.job.crowded, self.job.full):
            return self.job
        return msgspec.structs.replace(self.job, crowded=crowded, full=full)

    def prepare(self, command: core.Append) -> Write:
        """The write that appends the event."""
        return self._rooms.journal.prepare(command.event, after=command.after, traceparent=self.received.traceparent)

    def stored(self, event: LogEvent, written: Written) -> core.Stored:
        """The event is durable."""
        self._rooms.fleet.appended(event)
        return core.Stored(written.sequence, written.event_id)

    def call(self, started: Started, now: datetime, *, share: float = 1.0) -> Call:
        """The call that a durable `started` allows, in which it gets that share of its time."""
        return call_for(
            started,
            body=encode(self.received.input),
            now=now.timestamp(),
            exclusive=self._kind.exclusive,
            streams=not self._is_short,
            traceparent=self.received.traceparent,
            limit_s=self._terms.attempt_deadline_s,
            share=share,
        )

    @property
    def interrupted(self) -> bool:
        """Whether its attempt is to be stopped, or not to begin: what its inbox holds says why."""
        return self._interrupted or (self._told is not None and self._is_news(self._told))

    @property
    def grace_s(self) -> float:
        """What a stopped attempt gets to end by itself."""
        return self._grace_s

    async def _read_in(self) -> Received | None:
        """What the delivery asks for; None where that cannot be told now, or the gateway drains first."""
        delay_s = 0.0
        with anyio.CancelScope() as self._reading:
            try:
                return await self._rooms.intake.receive(self.delivery, self._kind)
            except Undecided as error:
                delay_s = error.delay_s
                log.warning("%s comes again in %.0f s: %s", self, delay_s, error)
        await self._rooms.settle.nak(self.delivery, delay_s)
        return None

    async def give_back(self) -> None:
        """What a drain could not bring to its end in time, as while EVENTS is full, comes back at once all the same."""
        if self._drained and not self.lease.lost:
            with anyio.move_on_after(LAST_NAK_S, shield=True):
                await self._rooms.settle.nak(self.delivery, 0.0)

    async def _reserve(self) -> bool:
        """Take a slot, for what needs one; False where the gateway drains first."""
        if self._kind.is_batch or self.received.error is not None:
            return True
        with anyio.CancelScope() as self._queueing:
            self._own_hands().reservation = await self.slot()
        return self._own_hands().reservation is not None

    def _own_hands(self) -> Hands:
        """Whoever goes by itself needs them."""
        if self._hands is None:
            self._hands = Hands(self._rooms, self._kind, self)
        return self._hands

    async def slot(self) -> Reservation:
        """A slot of its profile, waited for."""
        return await self._rooms.pool.reserve(self._terms.profile, exclusive=self._kind.exclusive)

    async def _drive(self, commands: Sequence[core.Command]) -> None:
        if self._is_short:
            # Nothing is heard of it before its outcome, so there is nothing to do beside it: a task saved a short job.
            await self._loop(commands, None)
            return
        async with anyio.create_task_group() as group:
            await self._loop(commands, group)

    async def _loop(self, commands: Sequence[core.Command], group: TaskGroup | None) -> None:
        """Carry out what was decided, and decide again with what came of it."""
        while True:
            answer: core.Stimulus | None = None
            for command in commands:
                answer = await self._own_hands().carry_out(command, group)
            assert self.job is not None
            if self.job.phase is Phase.SETTLED:
                return
            stimulus = answer if answer is not None else await self._inbox.get()
            if self.lost:
                # In the very turn in which this arrived: too late for the cancellation to be seen here.
                return
            commands = self.step(stimulus, self.now())

    def hear(self, stimulus: core.Stimulus) -> None:
        """From the attempt. Of reports that wait to be appended, as while EVENTS is full, only the last is worth it."""
        if isinstance(stimulus, core.Reported):
            self._inbox.put_latest(stimulus)
        else:
            self._inbox.put(stimulus)

    def _is_news(self, view: LogView) -> bool:
        return self.job is not None and self.job.phase is Phase.RUNNING and view.sequence > self.job.sequence

    def _interrupt(self, stimulus: core.Stimulus) -> None:
        """Feed in what stops the attempt; one that the loop itself waits for is stopped at once."""
        self._inbox.put(stimulus)
        if self._is_short:
            self._interrupted = True
            if self.attempt is not None:
                self.attempt.cancel()

    def _lose(self) -> None:
        """The lease ends: what runs is killed at once, and nothing is sent on this delivery any more."""
        self._grace_s = 0.0
        if self.job is not None and self.job.phase is not Phase.SETTLED:
            self.job, _ = decide(self.job, core.LeaseLost(), now=self._rooms.bus.server_now())
        if self._held is None:
            self.on_lost()
        else:
            self._held.cancel()


_MAY_DELAY: Final = (core.LogRead, core.Raised, core.Gone)
"""After these a message may have to wait."""


def _nothing(*_: object) -> None:
    pass
