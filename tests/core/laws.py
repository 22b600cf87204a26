"""What must hold in a job's log, and before anything is acknowledged, whoever writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from contracts.events import DeliveryRef, Event, Failed, Requeued, Retrying, Spent, Started, is_terminal
from workers.core.job import Job
from workers.core.log import Ticket
from workers.core.opening import CLOSINGS
from workers.core.retry import RetryPolicy

__all__ = ["check_ack", "check_append"]

Attempt = tuple[int, int]
"""Run and attempt."""


def check_append(
    log: Sequence[Event], written: Event, job: Job | None, opened: Iterable[Attempt], letters: Iterable[int]
) -> None:
    """Whether `written` may follow. Its writer is a `job` that has `opened` an attempt or none, or an operator."""
    tail = log[-1] if log else None
    assert written.n == len(log) + 1, "n has a gap"
    if isinstance(written, Requeued):
        assert isinstance(tail, Failed)
        return
    assert tail is None or not is_terminal(tail), "something follows a terminal event"
    assert tail is None or written.run == tail.run
    assert tail is None or written.parent == tail.parent, "a log changes its batch"
    if job is None:
        return
    if isinstance(written, Started):
        _check_started(_opening(log, written.run), written, job.policy, batch=job.ticket.batch)
        return
    if job.unusable:
        opens_run = isinstance(tail, Requeued) and tail.run == job.ticket.run
        assert tail is None or tail.origin == written.origin or opens_run, "it touches another's log"
    if isinstance(written, Failed):
        assert written.dlq_sequence in letters, "failed before it was buried"
    current = _opening(log, written.run)
    if opened or not isinstance(written, Failed):
        # Only `failed` needs no attempt: what does not decode, is too late or was lost too often has none.
        assert current is not None
        assert (current.run, current.attempt) in opened, "a fenced attempt writes"
        assert (written.run, written.attempt) == (current.run, current.attempt)
    if isinstance(written, Retrying):
        assert current is not None
        assert (written.spent == current.spent) is (written.error.type in ("Drained", "TakenApart"))
        assert written.next_attempt == written.attempt + 1
    if isinstance(written, Failed) and not opened and job.ticket.batch and not job.unusable:
        assert current is not None
        assert current.spent.lost >= job.policy.max_lost + CLOSINGS, "a batch ends before its children"


def check_ack(
    log: Sequence[Event],
    ticket: Ticket,
    own: str,
    *,
    buried: bool,
    copied: bool,
    waiting: Collection[int | None],
    told: Collection[str],
) -> None:
    """Whether a message, `own` its `<stream>:<sequence>`, may be acknowledged.

    `buried`: it is in `DLQ`. `copied`: a copy of it waits. `waiting`: runs for
    which another message waits, None for those that name no run. `told`: batches that have had a notice.
    """
    tail = log[-1] if log else None
    assert tail is not None or buried, "acknowledged without a trace"
    if tail is not None and not is_terminal(tail) and not buried and not copied and ticket.origin == tail.origin:
        opening = _opening(log, tail.run)
        assert isinstance(tail, Requeued) or _older(ticket.delivery, opening), "acknowledged while its job goes on"
    if ticket.parent is not None:
        # Where the log names its batch, whoever ends the job pays; and so does the message of a replay.
        owed = tail is None or (tail.parent != ticket.parent and tail.run not in waiting)
        assert ticket.parent in told or not owed, "acknowledged, not paid"
    if tail is not None and is_terminal(tail) and tail.parent is not None and ticket.origin == tail.origin:
        # A copy, or the message of the replay that came between, meets the same end and pays.
        assert copied or tail.run in waiting or tail.parent in told, "acknowledged before it was paid"


def _opening(log: Sequence[Event], run: int) -> Started | None:
    found = [event for event in log if isinstance(event, Started) and event.run == run]
    return found[-1] if found else None


def _older(delivery: DeliveryRef, opening: Started | None) -> bool:
    return opening is not None and delivery < opening.delivery


def _check_started(before: Started | None, written: Started, policy: RetryPolicy, *, batch: bool) -> None:
    if before is None:
        assert (written.attempt, written.spent) == (1, Spent())
        return
    assert written.attempt == before.attempt + 1
    assert written.deadline == before.deadline, "a run has one deadline"
    assert written.delivery != before.delivery, "one delivery opens one attempt"
    assert before.spent.attempts <= written.spent.attempts < policy.max_attempts
    # A batch may begin some times more, to end its children.
    assert before.spent.lost <= written.spent.lost <= policy.max_lost + batch * CLOSINGS
