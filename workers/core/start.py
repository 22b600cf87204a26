"""The start table: what a delivery may do, given the log that it found.

Used by a delivery whose own `started` was refused, and by one that reads first because it is not the first.
"""

from __future__ import annotations

from msgspec import Struct

from contracts.events import Event, Requeued, Retrying, Spent, Started, is_terminal
from contracts.subjects import JOBS
from workers.core.log import LogView, Ticket

__all__ = [
    "Adopt",
    "Await",
    "Conflict",
    "Duplicate",
    "Exhausted",
    "Open",
    "Probe",
    "Settle",
    "Silence",
    "Verdict",
    "awaits",
    "becomes_origin",
    "start",
]


class Open(Struct, frozen=True, kw_only=True):
    """Append `started` after the log's last event."""

    run: int = 1
    attempt: int = 1
    spent: Spent = Spent()


class Exhausted(Struct, frozen=True, kw_only=True):
    """`max_lost` is spent: bury the message, and append `failed`."""

    run: int
    attempt: int
    spent: Spent


class Settle(Struct, frozen=True):
    """The run has ended: pay what its end owes, acknowledge."""


class Duplicate(Struct, frozen=True):
    """Another message, or an older copy, of a job that goes on without it: acknowledge."""


class Await(Struct, frozen=True):
    """Another message of a job that goes on, for a batch that the log does not name: come back when it has ended."""


class Probe(Struct, frozen=True):
    """A duplicate, or one to be awaited, if the log's origin message still exists; otherwise it becomes the origin."""


class Adopt(Struct, frozen=True):
    """A newer delivery of what runs here: it carries the lease from now on."""


class Silence(Struct, frozen=True):
    """An old delivery of what runs elsewhere: say nothing, settle nothing."""


class Conflict(Struct, frozen=True):
    """The id names another input: refuse the message, leave the log alone."""


Verdict = Open | Exhausted | Settle | Duplicate | Await | Probe | Adopt | Silence | Conflict


def start(ticket: Ticket, log: LogView, *, max_lost: int) -> Verdict:
    """What the delivery of `ticket` may do."""
    tail = log.tail
    if tail is None:
        return Open(run=ticket.run or 1)
    if isinstance(tail, Requeued) and ticket.run == tail.run:
        return Open(run=tail.run)
    if ticket.origin != tail.origin:
        return _other_message(ticket, log, tail)
    if is_terminal(tail):
        return Settle()
    if isinstance(tail, Requeued):
        return Duplicate()
    if isinstance(tail, Retrying):
        return Open(run=tail.run, attempt=tail.next_attempt, spent=tail.spent)
    if log.mine and log.running:
        return Adopt()
    return _take_over(ticket, log, tail, max_lost)


def becomes_origin(ticket: Ticket, log: LogView, *, max_lost: int) -> Verdict:
    """What a duplicate may do once it is known that the log's origin message no longer exists."""
    tail = log.tail
    assert tail is not None, "an empty log has no origin to lose"
    if isinstance(tail, Retrying):
        return Open(run=tail.run, attempt=tail.next_attempt, spent=tail.spent)
    if log.mine and log.running:
        return Adopt()
    return _next_attempt(ticket, log, tail, max_lost)


def _other_message(ticket: Ticket, log: LogView, tail: Event) -> Verdict:
    if log.opening is not None and log.opening.input_sha256 != ticket.input_sha256:
        return Conflict()
    if is_terminal(tail):
        return Settle()
    if ticket.queued and _never_moved(log, tail):
        return Probe()
    return Await() if awaits(ticket, tail) else Duplicate()


def awaits(ticket: Ticket, tail: Event) -> bool:
    """Whether a batch that the log does not name waits for this message's job."""
    return ticket.parent is not None and ticket.parent != tail.parent


def _never_moved(log: LogView, tail: Event) -> bool:
    """Whether the log's origin message, if it is gone from its queue, has left no copy there."""
    if isinstance(tail, Requeued) or (isinstance(tail, Retrying) and tail.moved):
        return False
    opening = log.opening
    return isinstance(opening, Started) and tail.origin == f"{JOBS}:{opening.delivery.sequence}"


def _take_over(ticket: Ticket, log: LogView, tail: Event, max_lost: int) -> Verdict:
    opening = log.opening
    assert isinstance(opening, Started), f"a log whose last event is {type(tail).__name__} has a started"
    if ticket.delivery > opening.delivery:
        return _next_attempt(ticket, log, tail, max_lost)
    if ticket.delivery.sequence < opening.delivery.sequence:
        return Duplicate()
    return Silence()


def _next_attempt(ticket: Ticket, log: LogView, tail: Event, max_lost: int) -> Verdict:
    opening = log.opening
    assert isinstance(opening, Started)
    moved_on = ticket.batch and not isinstance(tail, Started)
    lost = opening.spent.lost if moved_on else opening.spent.lost + 1
    spent = Spent(attempts=opening.spent.attempts, lost=lost)
    if lost > max_lost:
        return Exhausted(run=tail.run, attempt=tail.attempt, spent=spent)
    return Open(run=tail.run, attempt=tail.attempt + 1, spent=spent)
