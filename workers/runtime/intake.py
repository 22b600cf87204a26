"""A delivery becomes a ticket and an input, or a ticket and the error that refuses it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from msgspec import Struct

from contracts import headers as h
from contracts import inbound
from contracts.errors import ErrorInfo
from contracts.events import DeliveryRef
from contracts.subjects import JOBS
from infra.bus.base import Delivery
from workers.core.log import Ticket
from workers.kinds.registry import Kind
from workers.runtime.quarantine import Quarantine

__all__ = ["Intake", "Received"]

SUSPECT: Final = 3
"""From this delivery on a message is decoded in a child process first: it may be what killed the gateway."""
SURVIVED: Final = 20_000
"""Messages that this process remembers to have decoded, and lives: those are no suspects when they come again."""


class Received(Struct, frozen=True, kw_only=True):
    """What a delivery asks for."""

    ticket: Ticket
    input: Any
    """Typed; None where `error` says why there is none."""
    error: ErrorInfo | None
    deadline_s: float | None
    """The publisher's cap on the job's time."""
    traceparent: str | None


class Intake:
    """Reads deliveries of every kind."""

    def __init__(self, limits: inbound.Limits, quarantine: Quarantine) -> None:
        self._limits = limits
        self._quarantine = quarantine
        self._survived: OrderedDict[tuple[str, int], None] = OrderedDict()

    async def receive(self, delivery: Delivery, kind: Kind) -> Received:
        """What `delivery` asks of `kind`. Never raises for what a message holds.

        Raises `Undecided` where a suspect could not be tried out just now.
        """
        if self.suspects(delivery):
            message, foreign = _as_message(delivery), _is_foreign(delivery)
            error = await self._quarantine.try_out(message, kind, self._limits, foreign=foreign)
            if error is not None:
                return _received(delivery, kind, inbound.refuse(message, error))
        return self.read(delivery, kind)

    def suspects(self, delivery: Delivery) -> bool:
        """Whether the message may be what killed a gateway, and is to be received in a child process first."""
        return delivery.number >= SUSPECT and (delivery.stream, delivery.sequence) not in self._survived

    def read(self, delivery: Delivery, kind: Kind) -> Received:
        """As `receive`, of what is no suspect."""
        read = inbound.read(_as_message(delivery), kind.spec, self._limits, foreign=_is_foreign(delivery))
        self._survived[delivery.stream, delivery.sequence] = None
        if len(self._survived) > SURVIVED:
            self._survived.popitem(last=False)
        return _received(delivery, kind, read)


def _as_message(delivery: Delivery) -> inbound.Message:
    return inbound.Message(
        subject=delivery.subject,
        headers=delivery.headers,
        body=delivery.body,
        stream=delivery.stream,
        sequence=delivery.sequence,
    )


def _is_foreign(delivery: Delivery) -> bool:
    """Whether it is a domain event: so is a replayed or moved message of a route, too, though it comes from JOBS."""
    return delivery.stream != JOBS or not delivery.headers.get(h.ORIGIN_SUBJECT, "jobs.").startswith("jobs.")


def _received(delivery: Delivery, kind: Kind, read: inbound.Accepted | inbound.Refused) -> Received:
    accepted = read if isinstance(read, inbound.Accepted) else None
    ticket = Ticket(
        kind=kind.name,
        job_id=read.job_id,
        origin=read.origin,
        delivery=DeliveryRef(delivery.sequence, delivery.number),
        input_sha256=accepted.input_sha256 if accepted is not None else "",
        parent=read.parent,
        index=read.index,
        run=read.run,
        correlation_id=read.correlation_id,
        subject_id=read.subject_id,
        queued=delivery.stream == JOBS,
        batch=kind.is_batch,
    )
    return Received(
        ticket=ticket,
        input=None if accepted is None else accepted.input,
        error=read.error if isinstance(read, inbound.Refused) else None,
        deadline_s=None if accepted is None else accepted.deadline_s,
        traceparent=read.traceparent,
    )
