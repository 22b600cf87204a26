"""While an attempt runs, and how it ends: transitions of the other phases.

Each takes a job, a stimulus, the server's clock and a jitter, and gives a `Decision`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from contracts.errors import ErrorInfo, bounded
from contracts.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    FilesTracked,
    FilesTrackingFailed,
    Progress,
    Retrying,
    Spent,
    is_terminal,
)
from workers.core.job import (
    Ack,
    Adopted,
    Buried,
    ChildrenEnded,
    Command,
    Drained,
    EndChildren,
    Gone,
    Job,
    LeaseLost,
    Leave,
    LogRead,
    Move,
    MovedOn,
    Nak,
    Pay,
    Phase,
    Raised,
    Reported,
    Returned,
    Stop,
    Stored,
    TakenApart,
    Tracked,
    TrackingFailed,
)
from workers.core.log import LogView
from workers.core.opening import unusable
from workers.core.parts import Decision, append, at, bury, fit, make_event, settled, stored_as, whole_ms
from workers.core.retry import delay_s


def reported(job: Job, stimulus: Reported, now: datetime, jitter: float) -> Decision:
    # A job may say anything of itself, and a log with an event that does not decode could never be read again.
    fields = {name: fit(value) for name, value in msgspec.structs.asdict(stimulus).items()}
    return append(job, make_event(job, Progress, now, **fields), Phase.REPORTING)


def tracked(job: Job, stimulus: Tracked, now: datetime, jitter: float) -> Decision:
    event = make_event(job, FilesTracked, now, commit=stimulus.commit, files=stimulus.files)
    return append(job, event, Phase.REPORTING)


def tracking_failed(job: Job, stimulus: TrackingFailed, now: datetime, jitter: float) -> Decision:
    event = make_event(job, FilesTrackingFailed, now, error=stimulus.error, files=stimulus.files)
    return append(job, event, Phase.REPORTING)


def report_stored(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    return stored_as(job, stimulus, Phase.RUNNING), ()


def log_moved(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    if stimulus.log.sequence <= job.sequence:
        # What was read before the job's own last event tells nothing new.
        return job, ()
    return refused_while_reporting(job, stimulus, now, jitter)


def drained(job: Job, stimulus: Drained, now: datetime, jitter: float) -> Decision:
    text = "the gateway stops and gives its work back"
    error = ErrorInfo(reason="lost", type="Drained", message=text, retryable=True)
    job, append = _again(job, error, 0.0, now)
    return job, (Stop(), *append)


def adopted(job: Job, stimulus: Adopted, now: datetime, jitter: float) -> Decision:
    # The log goes on under the origin that `started` named. With another message's, that message would be compared
    # with a delivery that was never its own, and taken for an older copy.
    ticket = msgspec.structs.replace(job.ticket, delivery=stimulus.ticket.delivery)
    return msgspec.structs.replace(job, ticket=ticket), ()


def lease_lost(job: Job, stimulus: LeaseLost, now: datetime, jitter: float) -> Decision:
    return settled(job, Stop(), Leave()) if job.phase in (Phase.RUNNING, Phase.REPORTING) else settled(job, Leave())


# How it ends


def returned(job: Job, stimulus: Returned, now: datetime, jitter: float) -> Decision:
    assert job.began is not None
    if job.asked is not None:
        return job, ()
    event = make_event(
        job,
        Completed,
        now,
        result=stimulus.result,
        artifacts=stimulus.artifacts,
        duration_ms=max(0, whole_ms(now - job.began)),
    )
    return append(job, event, Phase.ENDING)


def raised(job: Job, stimulus: Raised, now: datetime, jitter: float) -> Decision:
    if job.asked is not None:
        return job, ()
    spent = Spent(attempts=job.spent.attempts + 1, lost=job.spent.lost)
    job = msgspec.structs.replace(job, spent=spent, counts=stimulus.counts)
    if not stimulus.error.retryable or spent.attempts >= job.policy.max_attempts:
        return bury(job, stimulus.error)
    delay = stimulus.retry_after_s
    return _retry(job, stimulus.error, delay_s(job.policy, spent.attempts, jitter) if delay is None else delay, now)


def gone(job: Job, stimulus: Gone, now: datetime, jitter: float) -> Decision:
    spent = Spent(attempts=job.spent.attempts, lost=job.spent.lost + 1)
    if spent.lost > job.policy.max_lost:
        return bury(job, stimulus.error)
    job = msgspec.structs.replace(job, spent=spent)
    return _retry(job, stimulus.error, delay_s(job.policy, spent.lost, jitter), now)


def taken_apart(job: Job, stimulus: TakenApart, now: datetime, jitter: float) -> Decision:
    # It spends nothing: whichever of them it was dies once more when it runs by itself, and pays then.
    why = f"{stimulus.error.type}: {stimulus.error.message}"
    text = f"the call that it shared with others was cut short, so it runs again by itself ({why})"
    error = ErrorInfo(reason="lost", type="TakenApart", message=bounded(text), retryable=True)
    return _again(job, error, 0.0, now)


def children_ended(job: Job, stimulus: ChildrenEnded, now: datetime, jitter: float) -> Decision:
    assert job.asked is not None
    event = make_event(
        job,
        Cancelled,
        now,
        reason=job.asked.reason,
        requested_by=job.asked.requested_by,
        stage="running",
        counts=stimulus.counts,
    )
    return append(job, event, Phase.ENDING)


def _retry(job: Job, error: ErrorInfo, delay: float, now: datetime) -> Decision:
    assert job.deadline is not None
    # Said so that a delay which is no number, or beyond any date, is none that could be waited for either.
    if not delay < (job.deadline - now).total_seconds():
        # The next attempt could only find its deadline passed.
        return bury(job, error)
    return _again(job, error, max(0.0, delay), now, moved=job.crowded and delay > 0)


def _again(job: Job, error: ErrorInfo, delay: float, now: datetime, *, moved: bool = False) -> Decision:
    event = make_event(
        job,
        Retrying,
        now,
        error=error,
        delay_ms=round(delay * 1000),
        next_attempt=job.attempt + 1,
        spent=job.spent,
        moved=moved,
    )
    return append(job, event, Phase.ENDING)


def buried(job: Job, stimulus: Buried, now: datetime, jitter: float) -> Decision:
    assert job.error is not None
    event = make_event(
        job, Failed, now, error=job.error, attempts=job.made, dlq_sequence=stimulus.sequence, counts=job.counts
    )
    return append(job, event, Phase.ENDING)


def ended(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    end = job.pending
    assert end is not None
    if isinstance(end, Retrying) and end.moved:
        job = msgspec.structs.replace(stored_as(job, stimulus, Phase.MOVING), pending=end)
        return job, (Move(stimulus.event_id, job.run),)
    job = stored_as(job, stimulus, Phase.SETTLED)
    if isinstance(end, Retrying):
        return job, (Nak(end.delay_ms / 1000),)
    return job, (Pay(end, stimulus.sequence), Ack())


def moved_on(job: Job, stimulus: MovedOn, now: datetime, jitter: float) -> Decision:
    assert isinstance(job.pending, Retrying)
    # Without room at the tail the message itself goes on: the log's origin is its own.
    return settled(job, Ack() if stimulus.done else Nak(job.pending.delay_ms / 1000))


# When an append of its own was refused: decide anew


def refused_while_reporting(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    log = stimulus.log
    if not _not_fenced(job, log):
        return _overtaken(job, log, Stop())
    known, event = job.asked is not None, job.pending
    job = msgspec.structs.replace(at(job, log), phase=Phase.RUNNING, pending=None)
    if job.asked is not None and not known:
        return job, (EndChildren(job.asked),)
    if isinstance(event, (FilesTracked, FilesTrackingFailed)):
        # Of progress the next tells more; what became of files is told once.
        return append(job, _placed_anew(job, event, now), Phase.REPORTING)
    return job, ()


def refused_while_ending(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    log, event = stimulus.log, job.pending
    assert event is not None
    if job.unusable:
        return unusable(job, log, now)
    if _not_fenced(job, log):
        known = job.asked is not None
        job = at(job, log)
        if job.asked is not None and not known and isinstance(event, Completed):
            # Asked before its end was durable: a batch that is being cancelled ends as `cancelled`.
            return msgspec.structs.replace(job, phase=Phase.RUNNING, pending=None), (EndChildren(job.asked),)
        return append(job, _placed_anew(job, event, now), Phase.ENDING)
    return _overtaken(job, log)


def _placed_anew(job: Job, event: Event, now: datetime) -> Event:
    """An event whose append was refused, as it stands after what the log holds by now."""
    return msgspec.structs.replace(event, n=job.n + 1, time=now, cancelling=job.asked is not None, asked=job.asked)


def _not_fenced(job: Job, log: LogView) -> bool:
    """Only a foreign `progress` of the very attempt, as a batch's cancelling, leaves its holder in place."""
    tail = log.tail
    return isinstance(tail, Progress) and (tail.run, tail.attempt) == (job.run, job.attempt)


def _overtaken(job: Job, log: LogView, *first: Command) -> Decision:
    """An end that a holder finds while its lease holds it pays for; otherwise it is fenced and settles nothing."""
    tail = log.tail
    if tail is not None and is_terminal(tail) and tail.run == job.run:
        return settled(job, *first, Pay(tail, log.sequence), Ack())
    return settled(job, *first, Leave())
