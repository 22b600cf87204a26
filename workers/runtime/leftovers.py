"""Removes what a server has forgotten to remove.

On a full disk a nats-server may keep a consumer's acknowledgement and lose the removal that follows from it. After its
restart the message is there again and nobody is given it: it takes a place of its kind in `JOBS`, and looks like a job
that waits. Acknowledged once more, it goes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from msgspec import Struct

from contracts.events import Retrying, Started
from contracts.subjects import CONTROL, JOBS
from infra.bus.base import BusError, Delivery
from workers.core.log import LogView, Ticket
from workers.core.start import Conflict, Duplicate, Settle, start
from workers.kinds.registry import Kind
from workers.runtime import terms
from workers.runtime.rooms import Rooms
from workers.runtime.topology import control_durables, lane_durable

__all__ = ["LOOK_S", "Leftovers"]

log = logging.getLogger("jetray.leftovers")

LOOK_S: Final = 30.0
"""Between two looks at every queue."""

IsOver = Callable[[Delivery], Awaitable[bool]]


class _Queue(Struct, frozen=True):
    """A work queue's consumer, and what tells whether one of its messages has had its end."""

    stream: str
    consumer: str
    is_over: IsOver


class Leftovers:
    """Looks at the work queues that this gateway pulls from."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._complained: set[int] = set()
        self._queues = [
            _Queue(JOBS, lane_durable(kind.name, high=high), self._ended(kind))
            for kind in rooms.kinds.values()
            for high in (True, False)
        ] + [
            # A command is acknowledged once its answer is durable, and there is no log to ask.
            _Queue(CONTROL, consumer, _always)
            for consumer in control_durables(rooms.settings.gateway.name)
        ]

    async def serve(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            for queue in self._queues:
                try:
                    await self._look(queue)
                except BusError as error:
                    log.debug("%s/%s could not be looked at: %s", queue.stream, queue.consumer, error)
            await anyio.sleep(LOOK_S)

    async def _look(self, queue: _Queue) -> None:
        seen = 0
        while (found := await self._rooms.bus.leftover(queue.stream, queue.consumer, after=seen)) is not None:
            seen = found.sequence
            if await queue.is_over(found):
                log.info("%s:%d was acknowledged and came back; it is removed", found.stream, found.sequence)
                await self._rooms.settle.ack(found)

    def _ended(self, kind: Kind) -> IsOver:
        """As the log of the job has it."""

        async def is_over(found: Delivery) -> bool:
            ticket = (await self._rooms.intake.receive(found, kind)).ticket
            view = await self._rooms.journal.read(ticket.kind, ticket.job_id)
            if _waits_elsewhere(view):
                return True
            verdict = start(ticket, view, max_lost=terms.policy(self._rooms.settings, kind).max_lost)
            if isinstance(verdict, Settle | Duplicate | Conflict):
                return True
            if _is_forsaken(ticket, view):
                self._complain(ticket, found)
            return False

        return is_over

    def _complain(self, ticket: Ticket, found: Delivery) -> None:
        if found.sequence not in self._complained:
            self._complained.add(found.sequence)
            log.warning(
                "%s.%s: message %d of %s is delivered to nobody any more, and no log tells of an end: publish it again "
                "under another Nats-Msg-Id, and then remove it with `nats stream rmm`",
                ticket.kind, ticket.job_id, found.sequence, found.stream,
            )  # fmt: skip


def _waits_elsewhere(log_view: LogView) -> bool:
    """Whether a copy of the message waits at the tail: what was moved was acknowledged before its job's end."""
    return isinstance(log_view.tail, Retrying) and log_view.tail.moved


def _is_forsaken(ticket: Ticket, log_view: LogView) -> bool:
    """Whether no other message carries the job; one that does will end it, and then this one is over too."""
    opening = log_view.opening
    return opening is None or (isinstance(opening, Started) and opening.delivery.sequence == ticket.delivery.sequence)


async def _always(found: Delivery) -> bool:
    return True
