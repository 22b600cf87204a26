"""What happens to a message in hand, and how an attempt begins: transitions of the phases OPENING and PROBING.

Each takes a job, a stimulus, the server's clock and a jitter, and gives a `Decision`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from contracts.events import (
    Requeued,
    Retrying,
    Started,
)
from workers.core import start as table
from workers.core.job import (
    Ack,
    Delivered,
    HandedOver,
    HandOver,
    Job,
    Leave,
    LogRead,
    Nak,
    Pay,
    Phase,
    Probe,
    Probed,
    Read,
    Refuse,
    Run,
    Stored,
    Undecodable,
)
from workers.core.log import LogView
from workers.core.parts import (
    Decision,
    append,
    at,
    bury,
    lost_too_often,
    make_event,
    settled,
    stored_as,
    too_late,
    whole_ms,
)

CLOSINGS: Final = 5
"""Attempts to end a batch's children that may be lost without a word: then its own code brings gateways down.

Those that are lost later, while children end, do not count: they have reported.
"""
AWAIT_S: Final = 5.0
"""How soon a message that waits for another's end comes back to look."""


def delivered(job: Job, stimulus: Delivered, now: datetime, jitter: float) -> Decision:
    if job.ticket.delivery.number > 1 or job.ticket.run is not None:
        return job, (Read(),)
    return _open(job, table.Open(), now)


def undecodable(job: Job, stimulus: Undecodable, now: datetime, jitter: float) -> Decision:
    job = msgspec.structs.replace(job, error=stimulus.error, unusable=True, parent=job.ticket.parent)
    if job.ticket.delivery.number > 1 or job.ticket.run is not None:
        return job, (Read(),)
    return bury(job, stimulus.error)


def log_read_opening(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    job = msgspec.structs.replace(job, pending=None)
    if job.unusable:
        return unusable(job, stimulus.log, now)
    verdict = table.start(job.ticket, stimulus.log, max_lost=job.policy.max_lost)
    rest = _rest_of_delay(stimulus.log, now)
    if isinstance(verdict, table.Open) and rest > 0 and not job.full:
        return settled(job, Nak(rest))
    return _follow(job, stimulus.log, verdict, now)


def _rest_of_delay(log: LogView, now: datetime) -> float:
    """What a message that was moved to the tail has not yet waited there."""
    tail = log.tail
    if not isinstance(tail, Retrying) or not tail.moved:
        return 0.0
    return tail.delay_ms / 1000 - (now - tail.time).total_seconds()


def probed(job: Job, stimulus: Probed, now: datetime, jitter: float) -> Decision:
    assert job.log is not None
    if stimulus.exists:
        tail = job.log.tail
        assert tail is not None, "an empty log has no origin to lose"
        return settled(job, Nak(AWAIT_S) if table.awaits(job.ticket, tail) else Ack())
    verdict = table.becomes_origin(job.ticket, job.log, max_lost=job.policy.max_lost)
    return _follow(msgspec.structs.replace(job, phase=Phase.OPENING), job.log, verdict, now)


def _follow(job: Job, log: LogView, verdict: table.Verdict, now: datetime) -> Decision:
    """Act on a verdict of the start table."""
    match verdict:
        case table.Open():
            return _open(at(job, log), verdict, now, log)
        case table.Exhausted(run=run, attempt=attempt, spent=spent):
            job = msgspec.structs.replace(at(job, log), made=attempt, spent=spent)
            if job.ticket.batch and spent.lost <= job.policy.max_lost + CLOSINGS:
                # Only a holder can end the children, and they end before their batch does.
                return _open(job, table.Open(run=run, attempt=attempt + 1, spent=spent), now, log)
            return bury(job, lost_too_often(job))
        case table.Settle():
            assert log.tail is not None
            return settled(job, Pay(log.tail, log.sequence), Ack())
        case table.Duplicate():
            return settled(job, Ack())
        case table.Await():
            return settled(job, Nak(AWAIT_S))
        case table.Probe():
            assert log.tail is not None
            return msgspec.structs.replace(job, phase=Phase.PROBING, log=log), (Probe(log.tail.origin),)
        case table.Adopt():
            return job, (HandOver(),)
        case table.Silence():
            return settled(job, Leave())
        case table.Conflict():
            return settled(job, Refuse("id_conflict"), Ack())


def unusable(job: Job, log: LogView, now: datetime) -> Decision:
    """A message that does not decode, whose id has a log: only a log that waits for this very message may be ended."""
    job, error, tail = msgspec.structs.replace(job, phase=Phase.OPENING, pending=None), job.error, log.tail
    assert error is not None
    opens_run = isinstance(tail, Requeued) and job.ticket.run == tail.run
    if tail is not None and tail.origin != job.ticket.origin and not opens_run:
        return settled(job, Refuse(error.reason), Ack())
    verdict = table.start(job.ticket, log, max_lost=job.policy.max_lost)
    if not isinstance(verdict, (table.Open, table.Exhausted)):
        return _follow(job, log, verdict, now)
    made = log.opening.attempt if isinstance(log.opening, Started) else 0
    return bury(msgspec.structs.replace(at(job, log), run=verdict.run, made=made), error)


# How an attempt begins


def _open(job: Job, verdict: table.Open, now: datetime, log: LogView | None = None) -> Decision:
    before = log.opening if log is not None and isinstance(log.opening, Started) else None
    deadline = before.deadline if before is not None and before.run == verdict.run else None
    if deadline is not None and deadline <= now and not job.ticket.batch:
        return bury(msgspec.structs.replace(job, made=job.attempt), too_late())
    job = msgspec.structs.replace(
        job,
        run=verdict.run,
        attempt=verdict.attempt,
        made=verdict.attempt,
        spent=verdict.spent,
        deadline=deadline or now + timedelta(seconds=job.limit_s),
        began=now,
        parent=job.parent if log is not None and log.tail is not None else job.ticket.parent,
    )
    event = make_event(
        job,
        Started,
        now,
        input_sha256=job.ticket.input_sha256,
        delivery=job.ticket.delivery,
        actor=job.actor,
        waited_ms=max(0, whole_ms(now - job.stored)),
        deadline=job.deadline,
        spent=job.spent,
    )
    return append(job, event)


def opened(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    started = job.pending
    assert isinstance(started, Started)
    job = stored_as(job, stimulus, Phase.RUNNING)
    if job.asked is not None:
        return job, (Run(started, asked=job.asked),)
    ends = job.ticket.batch and job.spent.lost > job.policy.max_lost
    return job, (Run(started, lost_too_often(job) if ends else None),)


def handed_over(job: Job, stimulus: HandedOver, now: datetime, jitter: float) -> Decision:
    return settled(job, Leave())
