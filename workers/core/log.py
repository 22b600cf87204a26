"""What a message in hand and two reads of a log tell."""

from __future__ import annotations

from msgspec import Struct

from contracts.events import DeliveryRef, Event, Requeued, Started

__all__ = ["EMPTY", "LogView", "Ticket"]


class Ticket(Struct, frozen=True, kw_only=True):
    """One delivery of one message, and the job that it is about."""

    kind: str
    job_id: str
    origin: str
    """`<stream>:<sequence>` of the message that the log belongs to: the message's own, unless it was moved."""
    delivery: DeliveryRef
    input_sha256: str
    parent: str | None = None
    """`<kind>.<id>` of the batch that the message names."""
    index: int = 0
    run: int | None = None
    """The run that a replayed message opens."""
    correlation_id: str = ""
    subject_id: str | None = None
    queued: bool = True
    """From `JOBS`, where acknowledging deletes; routed messages outlive their ack."""
    batch: bool = False


class LogView(Struct, frozen=True, kw_only=True):
    """A log's last event and its last `started` or `requeued`, read from the leader."""

    sequence: int = 0
    """Of the last event in `EVENTS`; 0 for an empty log."""
    tail: Event | None = None
    opening: Started | Requeued | None = None
    """What inputs are compared with. A log without one (cancelled before it began) matches any."""
    mine: bool = False
    """The last event was written by this process."""
    running: bool = False
    """The job's current attempt runs in this process."""


EMPTY = LogView()
