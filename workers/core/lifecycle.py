"""What becomes of a job: `decide(job, stimulus) -> (job, commands)`, and the table of every legal transition.

A job is in exactly one phase; a stimulus that its phase does not know raises `Illegal` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from contracts.errors import ErrorInfo, bounded
from contracts.events import (
    Completed,
    Event,
    Failed,
    LogEvent,
    Progress,
    Requeued,
    Retrying,
    Spent,
    Started,
    is_terminal,
)
from workers.core import start as table
from workers.core.job import (
    Ack,
    Adopted,
    Append,
    Buried,
    Bury,
    Command,
    Delivered,
    Drained,
    Gone,
    HandedOver,
    HandOver,
    Job,
    LeaseLost,
    Leave,
    LogRead,
    Nak,
    Pay,
    Phase,
    Probe,
    Probed,
    Raised,
    Read,
    Refuse,
    Reported,
    Returned,
    Run,
    Stimulus,
    Stop,
    Stored,
    Undecodable,
)
from workers.core.log import LogView
from workers.core.retry import delay_s

__all__ = ["TABLE", "Decision", "Illegal", "decide"]

Decision = tuple[Job, tuple[Command, ...]]

AWAIT_S: Final = 5.0
"""How soon a message that waits for another's end comes back to look."""


class Illegal(Exception):
    """A stimulus that the job's state does not know."""

    def __init__(self, job: Job, stimulus: Stimulus) -> None:
        super().__init__(f"{type(stimulus).__name__} cannot happen to a job that is {job.phase.value}")


def decide(job: Job, stimulus: Stimulus, *, now: datetime, jitter: float = 0.0) -> Decision:
    """What becomes of `job`, and what is to be done. `now` is the server's clock, `jitter` uniform in [0, 1)."""
    transition = TABLE.get((job.phase, type(stimulus)))
    if transition is None:
        raise Illegal(job, stimulus)
    return transition(job, stimulus, now, jitter)


# What happens to a message in hand


def _delivered(job: Job, stimulus: Delivered, now: datetime, jitter: float) -> Decision:
    if job.ticket.delivery.number > 1 or job.ticket.run is not None:
        return job, (Read(),)
    return _open(job, table.Open(), now)


def _undecodable(job: Job, stimulus: Undecodable, now: datetime, jitter: float) -> Decision:
    job = msgspec.structs.replace(job, error=stimulus.error, unusable=True, parent=job.ticket.parent)
    if job.ticket.delivery.number > 1 or job.ticket.run is not None:
        return job, (Read(),)
    return _bury(job, stimulus.error)


def _log_read_opening(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    job = msgspec.structs.replace(job, pending=None)
    if job.unusable:
        return _unusable(job, stimulus.log, now)
    return _follow(job, stimulus.log, table.start(job.ticket, stimulus.log, max_lost=job.policy.max_lost), now)


def _probed(job: Job, stimulus: Probed, now: datetime, jitter: float) -> Decision:
    assert job.log is not None
    if stimulus.exists:
        return _settled(job, Ack())
    verdict = table.becomes_origin(job.ticket, job.log, max_lost=job.policy.max_lost)
    return _follow(msgspec.structs.replace(job, phase=Phase.OPENING), job.log, verdict, now)


def _follow(job: Job, log: LogView, verdict: table.Verdict, now: datetime) -> Decision:
    """Act on a verdict of the start table."""
    match verdict:
        case table.Open():
            return _open(_at(job, log), verdict, now, log)
        case table.Exhausted(run=run, attempt=attempt, spent=spent):
            job = msgspec.structs.replace(_at(job, log), made=attempt, spent=spent)
            if job.ticket.batch and spent.lost == job.policy.max_lost + 1:
                # Only a holder can end the children, and they end before their batch does.
                return _open(job, table.Open(run=run, attempt=attempt + 1, spent=spent), now, log)
            return _bury(job, _lost_too_often(job))
        case table.Settle():
            assert log.tail is not None
            return _settled(job, Pay(log.tail, log.sequence), Ack())
        case table.Duplicate():
            return _settled(job, Ack())
        case table.Await():
            return _settled(job, Nak(AWAIT_S))
        case table.Probe():
            assert log.tail is not None
            return msgspec.structs.replace(job, phase=Phase.PROBING, log=log), (Probe(log.tail.origin),)
        case table.Adopt():
            return job, (HandOver(),)
        case table.Silence():
            return _settled(job, Leave())
        case table.Conflict():
            return _settled(job, Refuse("id_conflict"), Ack())


def _unusable(job: Job, log: LogView, now: datetime) -> Decision:
    """A message that does not decode, whose id has a log: only a log that waits for this very message may be ended."""
    job, error, tail = msgspec.structs.replace(job, phase=Phase.OPENING, pending=None), job.error, log.tail
    assert error is not None
    opens_run = isinstance(tail, Requeued) and job.ticket.run == tail.run
    if tail is not None and tail.origin != job.ticket.origin and not opens_run:
        return _settled(job, Refuse(error.reason), Ack())
    verdict = table.start(job.ticket, log, max_lost=job.policy.max_lost)
    if not isinstance(verdict, (table.Open, table.Exhausted)):
        return _follow(job, log, verdict, now)
    made = log.opening.attempt if isinstance(log.opening, Started) else 0
    return _bury(msgspec.structs.replace(_at(job, log), run=verdict.run, made=made), error)


# How an attempt begins


def _open(job: Job, verdict: table.Open, now: datetime, log: LogView | None = None) -> Decision:
    before = log.opening if log is not None and isinstance(log.opening, Started) else None
    deadline = before.deadline if before is not None and before.run == verdict.run else None
    if deadline is not None and deadline <= now and not job.ticket.batch:
        return _bury(msgspec.structs.replace(job, made=job.attempt), _too_late())
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
    event = _event(
        job,
        Started,
        now,
        input_sha256=job.ticket.input_sha256,
        delivery=job.ticket.delivery,
        actor=job.actor,
        waited_ms=max(0, _ms(now - job.stored)),
        deadline=job.deadline,
        spent=job.spent,
    )
    return _append(job, event)


def _opened(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    started = job.pending
    assert isinstance(started, Started)
    ends = job.ticket.batch and job.spent.lost > job.policy.max_lost
    return _stored_as(job, stimulus, Phase.RUNNING), (Run(started, _lost_too_often(job) if ends else None),)


# While it runs


def _reported(job: Job, stimulus: Reported, now: datetime, jitter: float) -> Decision:
    # A job may say anything of itself, and a log with an event that does not decode could never be read again.
    fields = {name: _fit(value) for name, value in msgspec.structs.asdict(stimulus).items()}
    return _append(job, _event(job, Progress, now, **fields), Phase.REPORTING)


def _progress_stored(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    return _stored_as(job, stimulus, Phase.RUNNING), ()


def _log_moved(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    if stimulus.log.sequence <= job.sequence:
        # What was read before the job's own last event tells nothing new.
        return job, ()
    return _refused_while_reporting(job, stimulus, now, jitter)


def _drained(job: Job, stimulus: Drained, now: datetime, jitter: float) -> Decision:
    text = "the gateway stops and gives its work back"
    error = ErrorInfo(reason="lost", type="Drained", message=text, retryable=True)
    job, append = _again(job, error, 0.0, now)
    return job, (Stop(), *append)


def _handed_over(job: Job, stimulus: HandedOver, now: datetime, jitter: float) -> Decision:
    return _settled(job, Leave())


def _adopted(job: Job, stimulus: Adopted, now: datetime, jitter: float) -> Decision:
    # The log goes on under the origin that `started` named. With another message's, that message would be compared
    # with a delivery that was never its own, and taken for an older copy.
    ticket = msgspec.structs.replace(job.ticket, delivery=stimulus.ticket.delivery)
    return msgspec.structs.replace(job, ticket=ticket), ()


def _lease_lost(job: Job, stimulus: LeaseLost, now: datetime, jitter: float) -> Decision:
    return _settled(job, Stop(), Leave()) if job.phase in (Phase.RUNNING, Phase.REPORTING) else _settled(job, Leave())


# How it ends


def _returned(job: Job, stimulus: Returned, now: datetime, jitter: float) -> Decision:
    assert job.began is not None
    event = _event(
        job,
        Completed,
        now,
        result=stimulus.result,
        artifacts=stimulus.artifacts,
        duration_ms=max(0, _ms(now - job.began)),
    )
    return _append(job, event, Phase.ENDING)


def _raised(job: Job, stimulus: Raised, now: datetime, jitter: float) -> Decision:
    spent = Spent(attempts=job.spent.attempts + 1, lost=job.spent.lost)
    job = msgspec.structs.replace(job, spent=spent)
    if not stimulus.error.retryable or spent.attempts >= job.policy.max_attempts:
        return _bury(job, stimulus.error)
    delay = stimulus.retry_after_s
    return _retry(job, stimulus.error, delay_s(job.policy, spent.attempts, jitter) if delay is None else delay, now)


def _gone(job: Job, stimulus: Gone, now: datetime, jitter: float) -> Decision:
    spent = Spent(attempts=job.spent.attempts, lost=job.spent.lost + 1)
    if spent.lost > job.policy.max_lost:
        return _bury(job, stimulus.error)
    job = msgspec.structs.replace(job, spent=spent)
    return _retry(job, stimulus.error, delay_s(job.policy, spent.lost, jitter), now)


def _retry(job: Job, error: ErrorInfo, delay: float, now: datetime) -> Decision:
    assert job.deadline is not None
    # Said so that a delay which is no number, or beyond any date, is none that could be waited for either.
    if not delay < (job.deadline - now).total_seconds():
        # The next attempt could only find its deadline passed.
        return _bury(job, error)
    return _again(job, error, max(0.0, delay), now)


def _again(job: Job, error: ErrorInfo, delay: float, now: datetime) -> Decision:
    event = _event(
        job,
        Retrying,
        now,
        error=error,
        delay_ms=round(delay * 1000),
        next_attempt=job.attempt + 1,
        spent=job.spent,
    )
    return _append(job, event, Phase.ENDING)


def _buried(job: Job, stimulus: Buried, now: datetime, jitter: float) -> Decision:
    assert job.error is not None
    event = _event(job, Failed, now, error=job.error, attempts=job.made, dlq_sequence=stimulus.sequence)
    return _append(job, event, Phase.ENDING)


def _ended(job: Job, stimulus: Stored, now: datetime, jitter: float) -> Decision:
    end = job.pending
    assert end is not None
    job = _stored_as(job, stimulus, Phase.SETTLED)
    if isinstance(end, Retrying):
        return job, (Nak(end.delay_ms / 1000),)
    return job, (Pay(end, stimulus.sequence), Ack())


# When an append of its own was refused: decide anew


def _refused_while_reporting(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    log = stimulus.log
    if _not_fenced(job, log):
        return msgspec.structs.replace(_at(job, log), phase=Phase.RUNNING, pending=None), ()
    return _overtaken(job, log, Stop())


def _refused_while_ending(job: Job, stimulus: LogRead, now: datetime, jitter: float) -> Decision:
    log, event = stimulus.log, job.pending
    assert event is not None
    if job.unusable:
        return _unusable(job, log, now)
    if _not_fenced(job, log):
        job = _at(job, log)
        again = msgspec.structs.replace(event, n=job.n + 1, time=now, cancelling=job.cancelling)
        return _append(job, again, Phase.ENDING)
    return _overtaken(job, log)


def _not_fenced(job: Job, log: LogView) -> bool:
    """Only a foreign `progress` of the very attempt, as a batch's cancelling, leaves its holder in place."""
    tail = log.tail
    return isinstance(tail, Progress) and (tail.run, tail.attempt) == (job.run, job.attempt)


def _overtaken(job: Job, log: LogView, *first: Command) -> Decision:
    """An end that a holder finds while its lease holds it pays for; otherwise it is fenced and settles nothing."""
    tail = log.tail
    if tail is not None and is_terminal(tail) and tail.run == job.run:
        return _settled(job, *first, Pay(tail, log.sequence), Ack())
    return _settled(job, *first, Leave())


# Small parts


def _append(job: Job, event: Event, phase: Phase = Phase.OPENING) -> Decision:
    return msgspec.structs.replace(job, phase=phase, pending=event), (Append(event, job.sequence),)


def _stored_as(job: Job, stimulus: Stored, phase: Phase) -> Job:
    return msgspec.structs.replace(job, phase=phase, sequence=stimulus.sequence, n=job.n + 1, pending=None)


def _settled(job: Job, *commands: Command) -> Decision:
    return msgspec.structs.replace(job, phase=Phase.SETTLED), commands


def _bury(job: Job, error: ErrorInfo) -> Decision:
    return msgspec.structs.replace(job, phase=Phase.BURYING, error=error), (Bury(error.reason, job.run, job.made),)


def _at(job: Job, log: LogView) -> Job:
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
        cancelling=tail.cancelling,
    )


def _event(job: Job, kind: type[LogEvent], now: datetime, **fields: Any) -> Any:
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
        cancelling=job.cancelling,
        **fields,
    )


def _too_late() -> ErrorInfo:
    return ErrorInfo(reason="deadline", type="DeadlineExceeded", message="the deadline passed between two attempts")


def _lost_too_often(job: Job) -> ErrorInfo:
    text = f"{job.spent.lost} attempts were lost with what ran them, and max_lost is {job.policy.max_lost}"
    return ErrorInfo(reason="lost", type="AttemptsLost", message=text)


def _fit(value: Any) -> Any:
    match value:
        case int():
            return max(0, value)
        case str():
            return bounded(value)
    return value


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


Transition = Callable[[Job, Any, datetime, float], Decision]

TABLE: Final[dict[tuple[Phase, type], Transition]] = {
    (Phase.OPENING, Delivered): _delivered,
    (Phase.OPENING, Undecodable): _undecodable,
    (Phase.OPENING, LogRead): _log_read_opening,
    (Phase.OPENING, Stored): _opened,
    (Phase.OPENING, HandedOver): _handed_over,
    (Phase.OPENING, LeaseLost): _lease_lost,
    (Phase.PROBING, Probed): _probed,
    (Phase.PROBING, LeaseLost): _lease_lost,
    (Phase.RUNNING, Reported): _reported,
    (Phase.RUNNING, Returned): _returned,
    (Phase.RUNNING, Raised): _raised,
    (Phase.RUNNING, Gone): _gone,
    (Phase.RUNNING, Adopted): _adopted,
    (Phase.RUNNING, LogRead): _log_moved,
    (Phase.RUNNING, Drained): _drained,
    (Phase.RUNNING, LeaseLost): _lease_lost,
    (Phase.REPORTING, Stored): _progress_stored,
    (Phase.REPORTING, LogRead): _refused_while_reporting,
    (Phase.REPORTING, LeaseLost): _lease_lost,
    (Phase.BURYING, Buried): _buried,
    (Phase.BURYING, LeaseLost): _lease_lost,
    (Phase.ENDING, Stored): _ended,
    (Phase.ENDING, LogRead): _refused_while_ending,
    (Phase.ENDING, LeaseLost): _lease_lost,
}
"""Every legal transition."""
