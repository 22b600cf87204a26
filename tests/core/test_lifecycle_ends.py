"""`workers.core.lifecycle`: how an attempt ends, and what it says before."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from contracts import events
from contracts.errors import MESSAGE_BYTES, ErrorInfo
from contracts.events import (
    Artifact,
    Completed,
    Event,
    Failed,
    FilesTrackingFailed,
    LogEvent,
    Progress,
    Retrying,
    Spent,
    Started,
)
from tests.core.helpers import (
    FIRST,
    LIMIT_S,
    after,
    error,
    failed,
    files_tracked,
    log,
    progress,
    requeued,
    retrying,
    started,
    ticket,
)
from tests.core.jobs import (
    GONE,
    RAISED,
    RETRYABLE,
    RETURNED,
    TRACKED,
    TRACKING_FAILED,
    appended,
    job,
    opening_of,
    running,
    told,
)
from workers.core.job import (
    Ack,
    Append,
    Buried,
    Bury,
    Delivered,
    Drained,
    Job,
    LogRead,
    Nak,
    Pay,
    Phase,
    Raised,
    Reported,
    Returned,
    Run,
    Stimulus,
    Stop,
    Stored,
    TakenApart,
)
from workers.core.opening import CLOSINGS
from workers.core.retry import RetryPolicy, delay_s

# How it ends


def test_a_result_is_durable_before_it_is_paid_and_paid_before_it_is_acknowledged() -> None:
    artifact = Artifact(name="a", uri="file:///a", bytes=1, sha256="00")
    found, commands = told(running(), Returned(Raw(b"5"), [artifact]), now=after(3))
    end = appended(commands, Completed)
    assert (end.result, end.artifacts, end.duration_ms, end.n) == (Raw(b"5"), [artifact], 3000, 2)
    found, commands = told(found, Stored(150))
    assert (found.phase, commands) == (Phase.SETTLED, (Pay(end, 150), Ack()))


def test_a_clock_that_was_set_back_gives_no_time_below_nothing() -> None:
    _, commands = told(job(stored=after(5)), Delivered())
    assert appended(commands, Started).waited_ms == 0
    _, commands = told(running(), RETURNED, now=after(-5))
    assert appended(commands, Completed).duration_ms == 0


def test_what_fails_is_buried_before_it_has_failed() -> None:
    found, commands = told(running(), RAISED)
    assert (found.phase, commands) == (Phase.BURYING, (Bury("user", 1, 1),))
    found, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert (end.error, end.attempts, end.dlq_sequence) == (RAISED.error, 1, 9)
    _, commands = told(found, Stored(150))
    assert commands == (Pay(end, 150), Ack())


def test_retrying_is_durable_before_the_message_is_given_back() -> None:
    found, commands = told(running(), RETRYABLE, jitter=0.25)
    event = appended(commands, Retrying)
    assert (event.delay_ms, event.attempt, event.next_attempt, event.spent) == (250, 1, 2, Spent(attempts=1))
    _, commands = told(found, Stored(150))
    assert commands == (Nak(0.25),)


def at_attempt(attempt: int, spent: Spent, **fields: Any) -> Job:
    """A job whose attempt after `retrying` runs."""
    view = log(started(attempt=attempt - 1), retrying(attempt=attempt - 1, spent=spent))
    found, _ = told(job(ticket(number=2), **fields), Delivered(), LogRead(view), Stored(300))
    return found


@pytest.mark.parametrize(
    ("spent", "stimulus", "outcome"),
    [
        (Spent(), RETRYABLE, Spent(attempts=1)),
        (Spent(attempts=1), RETRYABLE, Spent(attempts=2)),
        (Spent(attempts=1, lost=5), RETRYABLE, Spent(attempts=2, lost=5)),
        (Spent(attempts=2), RETRYABLE, "user"),
        (Spent(), RAISED, "user"),
        (Spent(), Raised(error("quorum")), "quorum"),
        (Spent(attempts=2), GONE, Spent(attempts=2, lost=1)),
        (Spent(attempts=2, lost=4), GONE, Spent(attempts=2, lost=5)),
        (Spent(lost=5), GONE, "lost"),
    ],
)
def test_each_budget_is_spent_by_its_own_errors(spent: Spent, stimulus: Stimulus, outcome: Any) -> None:
    found, commands = told(at_attempt(7, spent, policy=RetryPolicy(max_attempts=3, max_lost=5)), stimulus)
    if isinstance(outcome, Spent):
        assert appended(commands, Retrying).spent == outcome
        assert appended(commands, Retrying).next_attempt == 8
    else:
        assert commands == (Bury(outcome, 1, 7),)
        assert appended(told(found, Buried(9))[1], Failed).attempts == 7


def test_a_takeover_counts_what_the_log_says() -> None:
    view = log(started(attempt=4, spent=Spent(attempts=2, lost=3)))
    found, _ = told(job(ticket(number=9)), Delivered(), LogRead(view), Stored(300))
    _, commands = told(found, GONE)
    assert appended(commands, Retrying).spent == Spent(attempts=2, lost=5)


def test_lost_once_too_often() -> None:
    view = log(started(attempt=6, spent=Spent(lost=5)))
    found, commands = told(job(ticket(number=9)), Delivered(), LogRead(view))
    assert commands == (Bury("lost", 1, 6),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert (end.error.reason, end.error.retryable, end.attempt, end.attempts) == ("lost", False, 6, 6)
    assert "6 attempts were lost" in end.error.message
    assert "max_lost is 5" in end.error.message
    assert commands == (Append(end, FIRST),)


def test_a_delay_of_its_own_goes_before_the_policy() -> None:
    _, commands = told(running(), Raised(error(retryable=True), 42.0))
    assert appended(commands, Retrying).delay_ms == 42_000


def test_the_delay_follows_what_was_spent() -> None:
    policy = RetryPolicy()
    for spent, stimulus in ((Spent(attempts=1), RETRYABLE), (Spent(lost=1), GONE)):
        _, commands = told(at_attempt(2, spent, policy=policy), stimulus, jitter=0.5)
        assert appended(commands, Retrying).delay_ms == round(1000 * delay_s(policy, 2, 0.5)) == 1000


@pytest.mark.parametrize("stimulus", [Raised(error(retryable=True), 100.0), Raised(error(retryable=True), 1e300)])
def test_a_retry_that_the_deadline_forbids_is_none(stimulus: Stimulus) -> None:
    _, commands = told(running(), stimulus, now=after(LIMIT_S - 100))
    assert commands == (Bury("user", 1, 1),)


def test_a_retry_just_before_the_deadline_is_one() -> None:
    _, commands = told(running(), Raised(error(retryable=True), 100.0), now=after(LIMIT_S - 100.5))
    assert appended(commands, Retrying).delay_ms == 100_000


@pytest.mark.parametrize("asked", [math.inf, math.nan])
def test_a_delay_that_is_no_time_is_not_waited_for(asked: float) -> None:
    _, commands = told(running(), Raised(error(retryable=True), asked))
    assert commands == (Bury("user", 1, 1),)


@pytest.mark.parametrize("asked", [0.0, -5.0, -math.inf])
def test_a_delay_that_has_passed_is_none(asked: float) -> None:
    found, commands = told(running(), Raised(error(retryable=True), asked))
    event = appended(commands, Retrying)
    assert events.decode(events.encode(event)) == event
    assert told(found, Stored(150))[1] == (Nak(0.0),)


# Draining


def test_drain_stops_gives_back_and_spends_nothing() -> None:
    found, commands = told(at_attempt(3, Spent(attempts=2, lost=5)), Drained())
    event = appended(commands, Retrying)
    assert commands == (Stop(), Append(event, 300))
    assert (event.spent, event.delay_ms, event.next_attempt) == (Spent(attempts=2, lost=5), 0, 4)
    assert (event.error.type, event.error.retryable) == ("Drained", True)
    assert told(found, Stored(301))[1] == (Nak(0.0),)


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_drained_past_its_deadline_is_left_to_the_next(batch: bool) -> None:
    """Its next holder finds the deadline passed and says so; that of a batch ends the children before."""
    _, commands = told(running(ticket(batch=batch)), Drained(), now=after(2 * LIMIT_S))
    assert appended(commands, Retrying).delay_ms == 0


# A call that many shared


def test_who_was_in_a_call_that_died_runs_again_by_itself_and_spends_nothing() -> None:
    found, commands = told(at_attempt(1, Spent(attempts=1, lost=5)), TakenApart(error("lost")))
    event = appended(commands, Retrying)
    assert (event.spent, event.delay_ms, event.next_attempt) == (Spent(attempts=1, lost=5), 0, 2)
    assert (event.error.reason, event.error.type, event.error.retryable) == ("lost", "TakenApart", True)
    assert error("lost").message in event.error.message
    assert told(found, Stored(event.n + 100))[1] == (Nak(0.0),)


# Progress


def test_progress_says_what_was_reported() -> None:
    told_it = {"done": 2, "total": 3, "message": "m", "step": "s", "eta_ms": 9, "counts": {"a": 1}}
    found, commands = told(running(), Reported(**told_it))  # type: ignore[arg-type]
    assert commands == (Append(progress(gateway="gw", n=2, **told_it), FIRST),)
    found, commands = told(found, Stored(150))
    assert (found.phase, found.sequence, found.n, commands) == (Phase.RUNNING, 150, 2, ())


def test_whatever_is_reported_can_be_read_again() -> None:
    """A log that holds an event which does not decode could never be read again, by nobody."""
    odd = Reported(done=-1, total=-5, eta_ms=-1000, message="é" * 5000, step="s" * 5000, counts={"a": -1})
    _, commands = told(running(), odd)
    event = appended(commands, Progress)
    assert events.decode(events.encode(event)) == event
    assert (event.done, event.total, event.eta_ms, event.counts) == (0, 0, 0, {"a": -1})
    for text in (event.message, event.step):
        assert text is not None
        assert len(text.encode()) <= MESSAGE_BYTES


# Files


def test_what_became_of_files_is_said_in_full() -> None:
    found, commands = told(running(), TRACKED)
    assert commands == (Append(files_tracked(gateway="gw", n=2, commit=TRACKED.commit, files=TRACKED.files), FIRST),)
    found, commands = told(found, Stored(150))
    assert (found.phase, found.sequence, found.n, commands) == (Phase.RUNNING, 150, 2, ())
    found, commands = told(found, TRACKING_FAILED)
    event = appended(commands, FilesTrackingFailed)
    assert commands == (Append(event, 150),)
    assert (event.n, event.error, event.files) == (3, TRACKING_FAILED.error, TRACKING_FAILED.files)


def test_a_failure_to_track_is_not_the_jobs() -> None:
    found, _ = told(running(), TRACKING_FAILED, Stored(150))
    assert found.spent == Spent()
    _, commands = told(found, RETURNED)
    assert appended(commands, Completed).n == 3


@pytest.mark.parametrize("stimulus", [TRACKED, TRACKING_FAILED])
def test_what_became_of_files_is_said_again_where_another_was_quicker(stimulus: Stimulus) -> None:
    found, commands = told(running(), stimulus)
    first = appended(commands, LogEvent)
    found, commands = told(found, LogRead(log(started(), progress())), now=after(1))
    again = msgspec.structs.replace(first, n=3, time=after(1))
    assert (found.phase, commands) == (Phase.REPORTING, (Append(again, FIRST + 1),))  # type: ignore[arg-type]


# Batches that are lost


def batch_after(*events: Event) -> tuple[Job, Any]:
    return told(job(ticket(number=2, batch=True), actor=None), Delivered(), LogRead(log(*events)))


def test_a_batch_that_was_lost_too_often_begins_once_more_to_end_its_children() -> None:
    found, commands = batch_after(started(attempt=6, spent=Spent(lost=5)))
    event = appended(commands, Started)
    assert (event.attempt, event.spent, event.deadline) == (7, Spent(lost=6), after(LIMIT_S))
    found, commands = told(found, Stored(200))
    assert isinstance(commands[0], Run)
    why = commands[0].error
    assert isinstance(why, ErrorInfo)
    assert (why.reason, why.retryable) == ("lost", False)
    assert told(found, Raised(why))[1] == (Bury("lost", 1, 7),)


def test_it_begins_once_more_in_the_same_run() -> None:
    opening = started(run=2, attempt=6, spent=Spent(lost=5))
    _, commands = batch_after(started(), failed(), requeued(), opening)
    event = appended(commands, Started)
    assert (event.run, event.attempt, event.n) == (2, 7, 5)


def test_lost_even_then_it_begins_again_to_end_them_and_fails_in_the_end() -> None:
    for lost in range(6, 5 + CLOSINGS):
        found, commands = batch_after(started(attempt=lost + 1, spent=Spent(lost=lost)))
        assert appended(commands, Started).spent == Spent(lost=lost + 1)
        _, commands = told(found, Stored(200))
        assert isinstance(commands[0], Run)
        assert commands[0].error is not None
    _, commands = batch_after(started(attempt=11, spent=Spent(lost=5 + CLOSINGS)))
    assert commands == (Bury("lost", 1, 11),)


def test_lost_while_its_children_end_it_goes_on_to_end_them_however_often() -> None:
    opening = started(attempt=40, spent=Spent(lost=5 + CLOSINGS))
    _, commands = batch_after(opening, progress(attempt=40))
    event = appended(commands, Started)
    assert (event.attempt, event.spent) == (41, Spent(lost=5 + CLOSINGS))


def test_a_batch_that_is_drained_while_it_ends_its_children_goes_on_to_end_them() -> None:
    spent = Spent(lost=6)
    found, _ = batch_after(started(attempt=7, spent=spent), retrying(attempt=7, spent=spent))
    _, commands = told(found, Stored(200))
    assert isinstance(commands[0], Run)
    assert commands[0].error is not None


def test_no_other_attempt_begins_with_an_end() -> None:
    for held in (ticket(), ticket(batch=True)):
        opening, _ = told(job(held), Delivered())
        assert told(opening, Stored(FIRST))[1] == (Run(opening_of(opening)),)
    found, _ = batch_after(started(attempt=5, spent=Spent(lost=4)))
    assert told(found, Stored(200))[1] == (Run(opening_of(found)),)


def test_a_job_goes_on_where_its_budget_was_lowered_meanwhile() -> None:
    view = log(started(), retrying(spent=Spent(lost=5)))
    opening, _ = told(job(ticket(number=2), policy=RetryPolicy(max_lost=1)), Delivered(), LogRead(view))
    assert told(opening, Stored(200))[1] == (Run(opening_of(opening)),)
