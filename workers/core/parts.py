"""What transitions are made of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from contracts.errors import ErrorInfo, bounded
from contracts.events import (
    Event,
    LogEvent,
)
from workers.core.job import (
    Append,
    Bury,
    Command,
    Job,
    Phase,
    Stored,
)
from workers.core.log import LogView

__all__ = [
    "Decision",
    "append",
    "at",
    "bury",
    "fit",
    "lost_too_often",
    "make_event",
    "settled",
    "stored_as",
    "too_late",
    "whole_ms",
]

Decision = tuple[Job, tuple[Command, ...]]
"""A job's next state, and what is to be done."""


def append(job: Job, event: Event, phase: Phase = Phase.OPENING) -> Decision:
    """Append the event after the log's last one that is known here."""
    return msgspec.structs.replace(job, phase=phase, pending=event), (Append(event, job.sequence),)


def stored_as(job: Job, stimulus: Stored, phase: Phase) -> Job:
    """`job` once its event is durable."""
    return msgspec.structs.replace(job, phase=phase, sequence=stimulus.sequence, n=job.n + 1, pending=None)


def settled(job: Job, *commands: Command) -> Decision:
    """Nothing more is to be done with the delivery than `commands`."""
    return msgspec.structs.replace(job, phase=Phase.SETTLED), commands


def bury(job: Job, error: ErrorInfo) -> Decision:
    """Write the message to DLQ, because of `error`."""
    return msgspec.structs.replace(job, phase=Phase.BURYING, error=error), (Bury(error.reason, job.run, job.made),)


def at(job: Job, log: LogView) -> Job:
    """`job`, its position in the log taken from what was read."""
    tail = log.tail
    if tail is None:
        return msgspec.structs.replace(job, sequence=0, n=0, parent=job.ticket.parent)
    return msgspec.structs.replace(
        job,
        sequence=log.sequence,
        n=tail.n,
        run=tail.run,
        attempt=tail.attempt,
        parent=tail.parent,
        asked=tail.asked,
    )


def make_event(job: Job, kind: type[LogEvent], now: datetime, **fields: Any) -> Any:
    """The next event of the job's log."""
    ticket = job.ticket
    return kind(
        kind=ticket.kind,
        job_id=ticket.job_id,
        n=job.n + 1,
        run=job.run,
        attempt=job.attempt,
        time=now,
        gateway=job.gateway,
        origin=ticket.origin,
        parent=job.parent,
        correlation_id=ticket.correlation_id,
        subject_id=ticket.subject_id,
        cancelling=job.asked is not None,
        asked=job.asked,
        **fields,
    )


def too_late() -> ErrorInfo:
    """Why an attempt that would begin past the deadline does not."""
    return ErrorInfo(reason="deadline", type="DeadlineExceeded", message="the deadline passed between two attempts")


def lost_too_often(job: Job) -> ErrorInfo:
    """Why a job whose attempts were lost again and again ends."""
    text = f"{job.spent.lost} attempts were lost with what ran them, and max_lost is {job.policy.max_lost}"
    return ErrorInfo(reason="lost", type="AttemptsLost", message=text)


def fit(value: Any) -> Any:
    """A reported value as an event may hold it."""
    match value:
        case int():
            return max(0, value)
        case str():
            return bounded(value)
    return value


def whole_ms(span: timedelta) -> int:
    """A span in whole milliseconds."""
    return span // timedelta(milliseconds=1)
