"""Carries out what is decided about one delivery, and tells what came of it.

Each command of `core.job` has a hand here. What answers later, as an attempt does, answers into the worker's inbox.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts.events import Started
from contracts.fleet import IntakeRefused
from infra.bus.base import NoSuchSubject, StreamFull, TooLarge
from infra.pool.base import Reservation
from workers.core import job as core
from workers.core.log import LogView
from workers.kinds.registry import Kind
from workers.runtime.attempt import Attempt
from workers.runtime.conduct import Conduct
from workers.runtime.journal import Write, Written
from workers.runtime.reissue import reissue
from workers.runtime.rooms import Rooms

if TYPE_CHECKING:
    from workers.runtime.worker import Worker

__all__ = ["Hands"]

log = logging.getLogger("jetray.worker")

LOOK_AGAIN_S: Final = 0.05
"""Before the log is read again, where another delivery here is just opening the attempt."""


class Hands:
    """The hands of a worker that goes by itself."""

    def __init__(self, rooms: Rooms, kind: Kind, worker: Worker) -> None:
        self._rooms = rooms
        self._kind = kind
        self._worker = worker
        self._ran: core.Run | None = None
        self._attempt_over: anyio.Event | None = None
        self.reservation: Reservation | None = None
        """A slot that no attempt has taken yet."""
        self.begun: Write | None = None
        """The write of the next event, where it may have been sent already."""

    async def carry_out(self, command: core.Command, group: TaskGroup | None) -> core.Stimulus | None:
        """Do it; what came of it, if that is known at once. What goes on beside it goes to `group`, if there is one."""
        return await _HANDS[type(command)](self, command, group)

    def release(self) -> None:
        """Give a slot back that was not used."""
        if self.reservation is not None:
            self.reservation.release()

    async def _append(self, command: core.Append, group: TaskGroup | None) -> core.Stimulus:
        write, self.begun = self.begun or self._worker.prepare(command), None
        done = await self._rooms.journal.finish(write)
        if isinstance(done, Written):
            return self._worker.stored(command.event, done)
        return core.LogRead(self._seen(done))

    async def _read(self, command: core.Read, group: TaskGroup | None) -> core.Stimulus:
        ticket = self._worker.received.ticket
        return core.LogRead(self._seen(await self._rooms.journal.read(ticket.kind, ticket.job_id)))

    async def _probe(self, command: core.Probe, group: TaskGroup | None) -> core.Stimulus:
        stream, _, sequence = command.origin.partition(":")
        return core.Probed(await self._rooms.journal.exists(stream, int(sequence)))

    async def _run(self, command: core.Run, group: TaskGroup | None) -> None:
        self._ran = command
        self._rooms.live.runs(self._worker)
        self._worker.attempt = scope = anyio.CancelScope()
        over = self._attempt_over = anyio.Event()
        if group is not None:
            group.start_soon(self._attempt_it, command, scope, over)
        elif self._worker.interrupted:
            # It must not even begin: what was cancelled by then never runs.
            over.set()
        else:
            await self._attempt_it(command, scope, over)

    async def _attempt_it(self, command: core.Run, scope: anyio.CancelScope, over: anyio.Event) -> None:
        try:
            with scope:
                if self._kind.is_batch:
                    await self._conduct(command)
                else:
                    await self._attempt_on_pool(command.started)
        finally:
            over.set()

    async def _conduct(self, command: core.Run) -> None:
        conduct = Conduct(self._rooms, self._kind, self._worker.received, command.started, self._worker.hear)
        if command.asked is not None:
            await conduct.cancel(command.asked)
        elif command.error is not None:
            await conduct.give_up(command.error, "the batch was lost too often")
        else:
            await conduct.run()

    async def _end_children(self, command: core.EndChildren, group: TaskGroup | None) -> None:
        assert self._ran is not None, "a batch is cancelled by its holder once it has begun"
        await self._stop(core.Stop(), group)
        await self._run(core.Run(self._ran.started, asked=command.asked), group)

    async def _attempt_on_pool(self, started: Started) -> None:
        reservation, self.reservation = self.reservation or await self._worker.slot(), None
        attempt = Attempt(self._rooms.bus, self._rooms.store, self._worker.hear, lambda: self._worker.grace_s)
        began = anyio.current_time()
        await attempt.run(reservation, self._worker.call(started, self._worker.now()))
        self._worker.on_ran(1, anyio.current_time() - began)

    async def _stop(self, command: core.Stop, group: TaskGroup | None) -> None:
        if self._worker.attempt is not None and self._attempt_over is not None:
            self._worker.attempt.cancel()
            await self._attempt_over.wait()

    async def _bury(self, command: core.Bury, group: TaskGroup | None) -> core.Stimulus:
        sequence = await self._rooms.settle.bury(
            self._worker.delivery,
            self._worker.received.ticket,
            command.reason,
            run=command.run,
            attempts=command.attempts,
        )
        return core.Buried(sequence)

    async def _refuse(self, command: core.Refuse, group: TaskGroup | None) -> None:
        ticket = self._worker.received.ticket
        sequence = await self._rooms.settle.bury(
            self._worker.delivery, ticket, command.reason, run=ticket.run or 1, attempts=0
        )
        self._rooms.fleet.say(
            IntakeRefused, kind=ticket.kind, job_id=ticket.job_id, reason=command.reason, dlq_sequence=sequence
        )
        await self._rooms.settle.pay_refused(ticket, sequence)

    async def _pay(self, command: core.Pay, group: TaskGroup | None) -> None:
        await self._rooms.settle.pay(self._worker.received.ticket, command.end, command.sequence)

    async def _hand_over(self, command: core.HandOver, group: TaskGroup | None) -> core.Stimulus:
        ticket = self._worker.received.ticket
        runner = self._rooms.live.runner(ticket.kind, ticket.job_id)
        if runner is not None and runner.adopt(self._worker.received, self._worker.delivery, self._worker.lease):
            return core.HandedOver()
        await anyio.sleep(LOOK_AGAIN_S)
        return core.LogRead(self._seen(await self._rooms.journal.read(ticket.kind, ticket.job_id)))

    async def _ack(self, command: core.Ack, group: TaskGroup | None) -> None:
        await self._rooms.settle.ack(self._worker.delivery)

    async def _nak(self, command: core.Nak, group: TaskGroup | None) -> None:
        await self._rooms.settle.nak(self._worker.delivery, command.delay_s)
        self._rooms.delayed.gave_back(self._worker.delivery, command.delay_s)

    async def _move(self, command: core.Move, group: TaskGroup | None) -> core.Stimulus:
        ticket, delivery = self._worker.received.ticket, self._worker.delivery
        try:
            await reissue(
                self._rooms.bus,
                kind=ticket.kind,
                job_id=ticket.job_id,
                run=command.run,
                body=delivery.body,
                originals=delivery.headers,
                subject=delivery.subject,
                message_id=command.message_id,
                origin=ticket.origin,
                unless=(NoSuchSubject, StreamFull),
            )
        except (NoSuchSubject, StreamFull, TooLarge) as error:
            log.warning("%s: stays where it is, the tail of its queue does not take it: %s", self._worker, error)
            return core.MovedOn(done=False)
        return core.MovedOn(done=True)

    async def _leave(self, command: core.Leave, group: TaskGroup | None) -> None:
        log.info("%s: not ours to settle any more", self._worker)

    def _seen(self, view: LogView) -> LogView:
        """The log as this worker must take it: a job runs here only if another worker runs it."""
        return msgspec.structs.replace(view, running=self._rooms.live.elsewhere(self._worker, view.opening))


_HANDS: dict[type, Callable[[Hands, Any, TaskGroup | None], Awaitable[core.Stimulus | None]]] = {
    core.Append: Hands._append,
    core.Read: Hands._read,
    core.Probe: Hands._probe,
    core.Run: Hands._run,
    core.EndChildren: Hands._end_children,
    core.Stop: Hands._stop,
    core.Bury: Hands._bury,
    core.Refuse: Hands._refuse,
    core.Pay: Hands._pay,
    core.HandOver: Hands._hand_over,
    core.Ack: Hands._ack,
    core.Nak: Hands._nak,
    core.Move: Hands._move,
    core.Leave: Hands._leave,
}
"""Who carries out which command."""
