"""Dead letters, notices and acknowledgements: what a job's end leaves behind.

Acknowledgements are sent once: a lost one brings the message back, and the log then tells what it is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import accumulate
from typing import Final

import msgspec

from contracts import dlq, joins, subjects
from contracts import headers as h
from contracts.errors import Reason
from contracts.events import Cancelled, Completed, Event, Failed, Outcome
from infra.bus.base import Bus, Delivery, Disconnected, Outgoing, PubAck, TooLarge
from infra.store.base import Store
from workers.core.log import Ticket
from workers.runtime.patience import WhenFull, patiently
from workers.runtime.pressure import Pressure

__all__ = ["Settle"]

log = logging.getLogger("jetray.settle")

_OUTCOMES: Final[Mapping[type, Outcome]] = {Completed: "completed", Failed: "failed", Cancelled: "cancelled"}


class Settle:
    """Pays what ends owe and settles deliveries."""

    def __init__(self, bus: Bus, store: Store, pressure: Pressure | None = None) -> None:
        self._bus = bus
        self._store = store
        self._pressure = pressure

    async def bury(self, delivery: Delivery, ticket: Ticket, reason: Reason, *, run: int, attempts: int) -> int:
        """Write the message to `DLQ`; its sequence there. Written twice within the dedupe window, it is stored once."""
        headers = dlq.dead_headers(
            kind=ticket.kind,
            job_id=ticket.job_id,
            run=run,
            reason=reason,
            attempts=attempts,
            stream=delivery.stream,
            sequence=delivery.sequence,
            subject=delivery.subject,
            original=delivery.headers,
        )
        subject = subjects.dead_letter(ticket.kind, ticket.job_id)
        pressure = self._pressure
        when_full = None if pressure is None else partial(pressure.dlq_full, ticket.kind)
        try:
            stored = await self._publish(Outgoing(subject, delivery.body, headers), when_full)
        except TooLarge:
            body, headers = await self._by_reference(delivery, headers)
            stored = await self._publish(Outgoing(subject, body, headers), when_full)
        if pressure is not None:
            pressure.wrote("dlq_full", ticket.kind)
        return stored.sequence

    async def pay(self, ticket: Ticket, end: Event, sequence: int) -> None:
        """Post the notice that an end owes to each batch that waits for it: the log's, and the message's."""
        for notice in _owed(ticket, end, sequence):
            await self._publish(notice)

    async def pay_many(self, ends: Sequence[tuple[Ticket, Event, int]]) -> list[bool]:
        """Post once, and together, what ends owe: of which ends all of it is stored now."""
        owed = [_owed(ticket, end, sequence) for ticket, end, sequence in ends]
        notices = [notice for notices in owed for notice in notices]
        if not notices:
            return [True] * len(ends)
        stored = [isinstance(answer, PubAck) for answer in await self._bus.publish_many(notices)]
        ends_at = accumulate(map(len, owed))
        return [all(stored[end_at - len(notices) : end_at]) for notices, end_at in zip(owed, ends_at, strict=True)]

    async def pay_refused(self, ticket: Ticket, dlq_sequence: int) -> None:
        """Tell a refused child's batch."""
        if ticket.parent is None:
            return
        notice = joins.Notice(
            child=f"{ticket.kind}.{ticket.job_id}",
            index=ticket.index,
            outcome="refused",
            run=ticket.run or 1,
            sequence=dlq_sequence,
        )
        await self._publish(_outgoing(ticket.parent, notice))

    async def ack(self, delivery: Delivery) -> None:
        """Done. Never sent while disconnected; then the message comes back."""
        await self._send("ack", delivery, self._bus.ack(delivery))

    async def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        """Done, each of them."""
        await self._send("ack", deliveries[0], self._bus.ack_many(deliveries))

    async def nak(self, delivery: Delivery, delay_s: float) -> None:
        """Again, after `delay_s`. Never sent while disconnected; then it comes back with the lease's end."""
        await self._send("nak", delivery, self._bus.nak(delivery, delay_s))

    async def _send(self, what: str, delivery: Delivery, sending: Awaitable[None]) -> None:
        try:
            await sending
        except Disconnected:
            log.info("%s of %s:%d not sent: disconnected", what, delivery.stream, delivery.sequence)

    async def _by_reference(self, delivery: Delivery, headers: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """What would not fit goes to the store: the body, and with it the original headers."""
        name = f"dlq/{delivery.stream}-{delivery.sequence}"
        artifact = await patiently(lambda: self._store.put(name, delivery.body), what=name)
        kept = {key: value for key, value in headers.items() if not key.startswith(h.ORIGINAL_PREFIX)}
        originals = msgspec.json.encode(dict(delivery.headers))
        kept_headers = await patiently(lambda: self._store.put(f"{name}.headers.json", originals), what=name)
        return b"", {
            **kept,
            h.BODY_ARTIFACT: artifact.uri,
            h.BODY_SHA256: sha256(delivery.body).hexdigest(),
            h.HEADERS_ARTIFACT: kept_headers.uri,
        }

    async def _publish(self, message: Outgoing, when_full: WhenFull | None = None) -> PubAck:
        return await patiently(
            lambda: self._bus.publish(message.subject, message.body, message.headers),
            what=message.subject,
            when_full=when_full,
        )


def _owed(ticket: Ticket, end: Event, sequence: int) -> list[Outgoing]:
    """A notice for each batch that waits for this end."""
    if not isinstance(end, (Completed, Failed, Cancelled)):
        return []
    outcome = _OUTCOMES[type(end)]
    notice = joins.Notice(
        child=f"{ticket.kind}.{ticket.job_id}", index=ticket.index, outcome=outcome, run=end.run, sequence=sequence
    )
    return [_outgoing(parent, notice) for parent in dict.fromkeys((end.parent, ticket.parent)) if parent is not None]


def _outgoing(parent: str, notice: joins.Notice) -> Outgoing:
    message_id = f"{notice.child}.{notice.outcome}.{notice.sequence}.{parent}"
    return Outgoing(subjects.child_notice(parent), joins.encode(notice), {h.MSG_ID: message_id})
