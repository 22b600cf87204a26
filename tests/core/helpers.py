"""What the tests of the core share: messages and logs, each with its usual fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from contracts.errors import ErrorInfo, Reason
from contracts.events import (
    Asked,
    Cancelled,
    Completed,
    DeliveryRef,
    Event,
    Failed,
    FilesTracked,
    Progress,
    Requeued,
    Retrying,
    Spent,
    Started,
)
from workers.core.log import LogView, Ticket

E = TypeVar("E")

NOW: Final = datetime(2026, 11, 22, 5, tzinfo=UTC)
LIMIT_S: Final = 600.0
SHA: Final = "sha-of-the-input"
ORIGIN: Final = "JOBS:17"
ASKED: Final = Asked(reason="asked for", requested_by="op")
FIRST: Final = 101
"""Sequence in `EVENTS` of the first event that `log` lays down."""


def after(seconds: float) -> datetime:
    """So long after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def error(reason: Reason = "user", *, retryable: bool = False) -> ErrorInfo:
    """An error of some type, told by its reason."""
    return ErrorInfo(reason=reason, type="Boom", message="it broke", retryable=retryable)


def ticket(sequence: int = 17, number: int = 1, **fields: Any) -> Ticket:
    """The `number`-th delivery of message `sequence` in `JOBS`."""
    usual: dict[str, Any] = {
        "kind": "k",
        "job_id": "J",
        "origin": f"JOBS:{sequence}",
        "delivery": DeliveryRef(sequence, number),
        "input_sha256": SHA,
        "correlation_id": "c",
    }
    return Ticket(**(usual | fields))


def started(**fields: Any) -> Started:
    """Delivery 1 of message 17 opened it."""
    usual: dict[str, Any] = {
        "input_sha256": SHA,
        "delivery": DeliveryRef(17, 1),
        "actor": "a1",
        "waited_ms": 0,
        "deadline": after(LIMIT_S),
        "spent": Spent(),
    }
    return event(Started, **(usual | fields))


def cancelling(**fields: Any) -> Progress:
    """A batch's cancel was asked for."""
    return progress(**({"step": "cancelling", "cancelling": True, "asked": ASKED} | fields))


def progress(**fields: Any) -> Progress:
    return event(Progress, **({"done": 1} | fields))


def retrying(**fields: Any) -> Retrying:
    usual: dict[str, Any] = {
        "error": error(retryable=True),
        "delay_ms": 1000,
        "next_attempt": fields.get("attempt", 1) + 1,
        "spent": Spent(attempts=1),
    }
    return event(Retrying, **(usual | fields))


def completed(**fields: Any) -> Completed:
    return event(Completed, **({"result": Raw(b"1"), "artifacts": [], "duration_ms": 5} | fields))


def failed(**fields: Any) -> Failed:
    return event(Failed, **({"error": error(), "attempts": 1, "dlq_sequence": 7} | fields))


def cancelled(**fields: Any) -> Cancelled:
    return event(Cancelled, **({"reason": "asked for", "requested_by": "op", "stage": "running"} | fields))


def requeued(**fields: Any) -> Requeued:
    return event(Requeued, **({"run": 2, "dlq_sequence": 7, "input_sha256": SHA} | fields))


def files_tracked(**fields: Any) -> FilesTracked:
    return event(FilesTracked, **({"commit": "abc", "files": []} | fields))


def event(kind: type[E], **fields: Any) -> E:
    """An event of job `k.J` by another gateway."""
    usual: dict[str, Any] = {
        "kind": "k",
        "job_id": "J",
        "n": 1,
        "run": 1,
        "attempt": 1,
        "time": NOW,
        "gateway": "other",
        "origin": ORIGIN,
        "correlation_id": "c",
    }
    return kind(**(usual | fields))


def log(*events: Event, mine: bool = False, running: bool = False) -> LogView:
    """What two reads tell of a log of these events, numbered from 1."""
    if not events:
        return LogView()
    openings = [found for found in events if isinstance(found, (Started, Requeued))]
    return LogView(
        sequence=FIRST + len(events) - 1,
        tail=msgspec.structs.replace(events[-1], n=len(events)),
        opening=openings[-1] if openings else None,
        mine=mine,
        running=running,
    )
