"""Commands: cancel a job, replay a dead letter, drain this gateway.

Each command gets exactly one answer, `workers.control.{done,refused}`, which is durable before the command is
acknowledged. A command that comes again finds in the log what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts import control, subjects
from contracts.codec import Undecodable, decode
from contracts.errors import bounded
from contracts.events import Asked, Cancelled, event_name, is_terminal
from contracts.fleet import ControlDone, ControlRefused
from infra.bus.base import Bus, Delivery, Puller
from workers.core.log import LogView
from workers.runtime.cancel import Canceller, Subject
from workers.runtime.fleet import Fleet
from workers.runtime.journal import Journal
from workers.runtime.lease import Leases
from workers.runtime.patience import patiently
from workers.runtime.registered import registered
from workers.runtime.replay import Refusal, Replayer
from workers.runtime.settle import Settle
from workers.runtime.topology import control_durables

__all__ = ["Control"]

log = logging.getLogger("jetray.control")

AT_ONCE: Final = 16
"""Commands of one sort that a gateway has in hand."""

_requests = msgspec.json.Decoder(control.CancelRequest)


class Control:
    """Carries out commands."""

    def __init__(
        self,
        *,
        bus: Bus,
        journal: Journal,
        settle: Settle,
        leases: Leases,
        fleet: Fleet,
        replayer: Replayer,
        gateway: str,
        drain: Callable[[str], None],
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._settle = settle
        self._leases = leases
        self._fleet = fleet
        self._replayer = replayer
        self._canceller = Canceller(journal, gateway=gateway, now=bus.server_now)
        self._gateway = gateway
        self._drain = drain
        self._began = bus.server_now()

    async def serve(self) -> None:
        """Take commands until cancelled."""
        async with anyio.create_task_group() as group:
            for consumer in control_durables(self._gateway):
                group.start_soon(self._take, consumer, group)

    async def _take(self, consumer: str, group: TaskGroup) -> None:
        async with self._bus.pull(subjects.CONTROL, consumer) as puller:
            puller.grant(AT_ONCE)
            while True:
                delivery = await puller.receive()
                group.start_soon(self._one, delivery, puller)

    async def _one(self, delivery: Delivery, puller: Puller) -> None:
        with anyio.CancelScope() as held:
            lease = self._leases.hold(delivery, held.cancel)
            try:
                await self._answer(delivery)
            finally:
                self._leases.release(lease)
                # Not before: commands that wait, as while EVENTS is full, would pile up here.
                puller.grant(1)

    async def _answer(self, delivery: Delivery) -> None:
        sequence, command = delivery.sequence, delivery.subject
        after: Callable[[], None] | None = None
        try:
            detail, after = await self._carry_out(delivery)
        except Refusal as refusal:
            log.info("%s (CONTROL:%d) refused: %s", command, sequence, refusal)
            event = self._fleet.event(ControlRefused, command=command, sequence=sequence, reason=str(refusal))
        else:
            log.info("%s (CONTROL:%d) done: %s", command, sequence, detail)
            event = self._fleet.event(ControlDone, command=command, sequence=sequence, detail=detail)
        # The command's own sequence as the id: answered twice, it is stored once.
        await patiently(lambda: self._fleet.publish(event, message_id=str(sequence)), what=f"the answer to {command}")
        await self._settle.ack(delivery)
        if after is not None:
            after()

    async def _carry_out(self, delivery: Delivery) -> tuple[str, Callable[[], None] | None]:
        try:
            command = control.parse(delivery.subject)
        except control.NotACommand as error:
            raise Refusal(str(error)) from error
        match command:
            case control.Cancel(kind=kind, job_id=job_id):
                return await self._cancel(kind, job_id, delivery), None
            case control.Replay(sequence=sequence):
                return await self._replayer.replay(sequence), None
            case control.Drain():
                if delivery.stored < self._began:
                    raise Refusal("the command is older than this gateway's start")
                return "draining", lambda: self._drain(delivery.subject)

    # Cancel

    async def _cancel(self, kind: str, job_id: str, delivery: Delivery) -> str:
        request = _request(delivery)
        info = await registered(self._bus, kind)
        if info is None:
            raise Refusal(f"no gateway has registered kind {kind}")
        view = await self._journal.read(kind, job_id)
        subject = Subject(kind=kind, job_id=job_id, batch=info.batch, origin=f"{subjects.CONTROL}:{delivery.sequence}")
        asked = Asked(reason=request.reason, requested_by=request.requested_by)
        meant = partial(self._refuse_stale, given=delivery.stored)
        return _how(view, await self._canceller.cancel(subject, asked, meant))

    async def _refuse_stale(self, view: LogView, given: datetime) -> None:
        """A command given before an operator's replay opened the run was meant for the run before."""
        if view.tail is None or view.tail.run == 1:
            return
        requeued = await self._journal.requeued(view.tail.kind, view.tail.job_id)
        if requeued is not None and requeued[1].time > given:
            raise Refusal(f"the job was replayed after this command was given; it is in run {view.tail.run} now")


def _request(delivery: Delivery) -> control.CancelRequest:
    if not delivery.body.strip():
        return control.CancelRequest()
    try:
        request = decode(_requests, delivery.body)
    except Undecodable as error:
        raise Refusal(f"the body must be empty, or an object with reason and requested_by: {error}") from error
    # They go into an event, which must fit whatever a command may hold.
    return control.CancelRequest(reason=bounded(request.reason), requested_by=bounded(request.requested_by))


def _how(before: LogView, after: LogView) -> str:
    """A job that is cancelled already is what was asked for; one that ended otherwise is not."""
    tail = after.tail
    assert tail is not None, "a log that a cancel was appended to has an event"
    if isinstance(tail, Cancelled):
        was_over = before.tail is not None and is_terminal(before.tail)
        return "it was cancelled already" if was_over else f"cancelled while {tail.stage}"
    if is_terminal(tail):
        raise Refusal(f"it has {event_name(tail)} already")
    return "its holder ends every child, and then the batch"
