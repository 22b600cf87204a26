"""`workers.core.lifecycle`: every transition, and what the protocol says of each."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import pytest
from msgspec import Raw

from contracts import events
from contracts.errors import MESSAGE_BYTES, ErrorInfo
from contracts.events import (
    Artifact,
    Completed,
    DeliveryRef,
    Event,
    Failed,
    Progress,
    Retrying,
    Spent,
    Started,
)
from tests.core.helpers import (
    FIRST,
    LIMIT_S,
    NOW,
    SHA,
    after,
    appended,
    cancelled,
    completed,
    error,
    failed,
    job,
    log,
    progress,
    requeued,
    retrying,
    running,
    started,
    ticket,
    told,
)
from workers.core.job import (
    Ack,
    Adopted,
    Append,
    Buried,
    Bury,
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
from workers.core.lifecycle import AWAIT_S, TABLE, Illegal, decide
from workers.core.log import EMPTY
from workers.core.retry import RetryPolicy, delay_s

RETURNED: Final = Returned(Raw(b'{"x":1}'))
RAISED: Final = Raised(error())
RETRYABLE: Final = Raised(error(retryable=True))
GONE: Final = Gone(error("lost", retryable=True))
UNDECODABLE: Final = Undecodable(error("decode"))

ENDS: Final[dict[str, Event]] = {"completed": completed(), "failed": failed(), "cancelled": cancelled()}


def probing() -> Job:
    found, _ = told(job(ticket(30)), Delivered(), LogRead(log(started())))
    return found


PHASES: Final[dict[Phase, Job]] = {
    Phase.OPENING: told(job(), Delivered())[0],
    Phase.PROBING: probing(),
    Phase.RUNNING: running(),
    Phase.REPORTING: told(running(), Reported(done=1))[0],
    Phase.BURYING: told(running(), RAISED)[0],
    Phase.ENDING: told(running(), RETURNED)[0],
    Phase.SETTLED: told(running(), LeaseLost())[0],
}
STIMULI: Final[list[Stimulus]] = [
    Delivered(),
    UNDECODABLE,
    Stored(200),
    LogRead(log(started(), progress())),
    Probed(exists=True),
    Reported(done=1),
    RETURNED,
    RETRYABLE,
    GONE,
    Buried(7),
    Adopted(ticket(number=2)),
    HandedOver(),
    Drained(),
    LeaseLost(),
]

# A job as above, a stimulus as above: the next phase, and the commands.
TRANSITIONS: Final[dict[tuple[Phase, type], tuple[Phase, list[type]]]] = {
    (Phase.OPENING, Delivered): (Phase.OPENING, [Append]),
    (Phase.OPENING, Undecodable): (Phase.BURYING, [Bury]),
    (Phase.OPENING, LogRead): (Phase.SETTLED, [Leave]),
    (Phase.OPENING, Stored): (Phase.RUNNING, [Run]),
    (Phase.OPENING, HandedOver): (Phase.SETTLED, [Leave]),
    (Phase.OPENING, LeaseLost): (Phase.SETTLED, [Leave]),
    (Phase.PROBING, Probed): (Phase.SETTLED, [Ack]),
    (Phase.PROBING, LeaseLost): (Phase.SETTLED, [Leave]),
    (Phase.RUNNING, Reported): (Phase.REPORTING, [Append]),
    (Phase.RUNNING, Returned): (Phase.ENDING, [Append]),
    (Phase.RUNNING, Raised): (Phase.ENDING, [Append]),
    (Phase.RUNNING, Gone): (Phase.ENDING, [Append]),
    (Phase.RUNNING, Adopted): (Phase.RUNNING, []),
    (Phase.RUNNING, LogRead): (Phase.RUNNING, []),
    (Phase.RUNNING, Drained): (Phase.ENDING, [Stop, Append]),
    (Phase.RUNNING, LeaseLost): (Phase.SETTLED, [Stop, Leave]),
    (Phase.REPORTING, Stored): (Phase.RUNNING, []),
    (Phase.REPORTING, LogRead): (Phase.RUNNING, []),
    (Phase.REPORTING, LeaseLost): (Phase.SETTLED, [Stop, Leave]),
    (Phase.BURYING, Buried): (Phase.ENDING, [Append]),
    (Phase.BURYING, LeaseLost): (Phase.SETTLED, [Leave]),
    (Phase.ENDING, Stored): (Phase.SETTLED, [Pay, Ack]),
    (Phase.ENDING, LogRead): (Phase.ENDING, [Append]),
    (Phase.ENDING, LeaseLost): (Phase.SETTLED, [Leave]),
}


# The table itself


def test_every_transition_is_listed_here() -> None:
    assert set(TRANSITIONS) == set(TABLE)
    assert set(PHASES) == set(Phase)
    assert {type(stimulus) for stimulus in STIMULI} == {kind for _, kind in TABLE}


@pytest.mark.parametrize("stimulus", STIMULI, ids=lambda stimulus: type(stimulus).__name__)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.value)
def test_a_stimulus_is_legal_or_changes_nothing(phase: Phase, stimulus: Stimulus) -> None:
    found = PHASES[phase]
    before = msgspec.structs.replace(found)
    expected = TRANSITIONS.get((phase, type(stimulus)))
    if expected is None:
        with pytest.raises(Illegal, match=f"{type(stimulus).__name__} cannot happen to a job that is {phase.value}"):
            decide(found, stimulus, now=NOW)
    else:
        after_it, commands = decide(found, stimulus, now=NOW)
        assert (after_it.phase, [type(command) for command in commands]) == expected
    assert found == before


# How it begins


def test_a_first_delivery_reads_nothing() -> None:
    held = ticket(parent="b.P1", subject_id="J*", batch=False)
    found, commands = told(job(held, stored=after(-2)), Delivered())
    assert commands == (
        Append(
            started(
                gateway="gw",
                actor="a1",
                waited_ms=2000,
                parent="b.P1",
                subject_id="J*",
                deadline=after(LIMIT_S),
                delivery=DeliveryRef(17, 1),
            ),
            0,
        ),
    )
    assert found.phase is Phase.OPENING


@pytest.mark.parametrize("held", [ticket(number=2), ticket(run=2), ticket(number=2, run=2)])
@pytest.mark.parametrize("first", [Delivered(), UNDECODABLE])
def test_any_other_delivery_reads_first(held, first) -> None:
    _, commands = told(job(held), first)
    assert commands == (Read(),)


def test_no_code_runs_before_its_started_is_durable() -> None:
    opening, commands = told(job(), Delivered())
    assert isinstance(commands[0], Append)
    found, commands = told(opening, Stored(FIRST))
    assert commands == (Run(appended((Append(opening.pending, 0),), Started)),)  # type: ignore[arg-type]
    assert (found.sequence, found.n) == (FIRST, 1)


def test_a_started_that_was_refused_is_appended_after_what_was_found() -> None:
    found, commands = told(job(ticket(number=2)), Delivered(), LogRead(log(started(parent="b.P1"), progress())))
    event = appended(commands, Started)
    assert commands == (Append(event, FIRST + 1),)
    assert (event.n, event.run, event.attempt, event.spent) == (3, 1, 2, Spent(lost=1))
    # And once more, where another was quicker again.
    more = log(started(), progress(), progress())
    _, commands = told(found, LogRead(more))
    assert commands == (Append(msgspec.structs.replace(event, n=4, parent=None), FIRST + 2),)


def test_an_empty_log_is_begun_in_the_run_of_the_message() -> None:
    for run in (None, 1, 2):
        _, commands = told(job(ticket(run=run, number=2, parent="b.P1")), Delivered(), LogRead(EMPTY))
        event = appended(commands, Started)
        assert (event.n, event.run, event.attempt, event.parent) == (1, run or 1, 1, "b.P1")
        assert commands == (Append(event, 0),)


def test_the_parent_is_the_one_that_the_log_names() -> None:
    _, commands = told(job(ticket(number=2, parent=None)), Delivered(), LogRead(log(started(parent="b.P1"))))
    assert appended(commands, Started).parent == "b.P1"
    _, commands = told(job(ticket(30, parent="b.P2", run=2)), Delivered(), LogRead(log(failed(), requeued())))
    assert appended(commands, Started).parent is None


def test_what_becomes_the_origin_names_itself() -> None:
    duplicate = job(ticket(30))
    found, commands = told(duplicate, Delivered(), LogRead(log(started())))
    assert (found.phase, commands) == (Phase.PROBING, (Probe("JOBS:17"),))
    found, commands = told(found, Probed(exists=False))
    event = appended(commands, Started)
    assert (found.phase, event.origin, event.delivery, event.attempt) == (
        Phase.OPENING,
        "JOBS:30",
        DeliveryRef(30, 1),
        2,
    )


def test_the_fencing_token_is_the_last_event_that_the_job_knows_of() -> None:
    found, commands = told(running(), Reported(done=1))
    assert commands == (Append(appended(commands, Progress), FIRST),)
    found, _ = told(found, Stored(150))
    found, commands = told(found, Reported(done=2))
    assert commands == (Append(appended(commands, Progress), 150),)
    found, commands = told(found, LogRead(log(started(), progress(), progress())), RETURNED)
    assert commands == (Append(appended(commands, Completed), FIRST + 2),)


def test_n_has_no_gap() -> None:
    found, numbers = running(), []
    for stimulus in (Reported(done=1), Reported(done=2), RETURNED):
        found, commands = told(found, stimulus)
        numbers.append(appended(commands, Event).n)  # type: ignore[arg-type]
        found, _ = told(found, Stored(found.sequence + 5))
    assert numbers == [2, 3, 4]


# Deadlines


def test_the_deadline_is_kept_for_the_run() -> None:
    view = log(started(deadline=after(500)), retrying())
    _, commands = told(job(ticket(number=2)), Delivered(), LogRead(view), now=after(400))
    assert appended(commands, Started).deadline == after(500)
    _, commands = told(job(ticket(number=2)), Delivered(), LogRead(log(started(deadline=after(500)))), now=after(499))
    assert appended(commands, Started).deadline == after(500)


def test_a_new_run_has_a_new_deadline() -> None:
    view = log(started(deadline=after(10)), failed(), requeued())
    _, commands = told(job(ticket(30, run=2)), Delivered(), LogRead(view), now=after(700))
    event = appended(commands, Started)
    assert (event.run, event.attempt, event.n, event.deadline) == (2, 1, 4, after(700 + LIMIT_S))


@pytest.mark.parametrize("view", [log(started(), retrying()), log(started())])
def test_an_attempt_past_its_deadline_is_not_begun(view) -> None:
    found, commands = told(job(ticket(number=2)), Delivered(), LogRead(view), now=after(LIMIT_S))
    assert commands == (Bury("deadline", 1, 1),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert (end.error.reason, end.attempts, end.attempt, end.n) == ("deadline", 1, 1, view.tail.n + 1)
    assert end.dlq_sequence == 9


def test_a_batch_past_its_deadline_is_begun_to_end_its_children() -> None:
    batch = job(ticket(number=2, batch=True), actor=None)
    _, commands = told(batch, Delivered(), LogRead(log(started(), retrying())), now=after(2 * LIMIT_S))
    assert appended(commands, Started).deadline == after(LIMIT_S)


# How it ends


def test_a_result_is_durable_before_it_is_paid_and_paid_before_it_is_acknowledged() -> None:
    artifact = Artifact(name="a", uri="file:///a", bytes=1, sha256="00")
    found, commands = told(running(), Returned(Raw(b"5"), [artifact]), now=after(3))
    end = appended(commands, Completed)
    assert (end.result, end.artifacts, end.duration_ms, end.n) == (Raw(b"5"), [artifact], 3000, 2)
    found, commands = told(found, Stored(150))
    assert (found.phase, commands) == (Phase.SETTLED, (Pay(end, 150), Ack()))


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
    assert told(found, Stored(301))[1] == (Nak(0.0),)


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_drained_past_its_deadline_is_left_to_the_next(batch: bool) -> None:
    """Its next holder finds the deadline passed and says so; that of a batch ends the children before."""
    _, commands = told(running(ticket(batch=batch)), Drained(), now=after(2 * LIMIT_S))
    assert appended(commands, Retrying).delay_ms == 0


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


# Another's hand in the log


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING])
def test_a_foreign_progress_of_the_attempt_leaves_its_holder_in_place(phase: Phase) -> None:
    view = log(started(), progress(step="cancelling", cancelling=True))
    found, commands = told(PHASES[phase], LogRead(view))
    assert (found.phase, commands) == (Phase.RUNNING, ())
    assert (found.sequence, found.n, found.cancelling) == (FIRST + 1, 2, True)
    _, commands = told(found, RETURNED)
    assert commands == (Append(appended(commands, Completed), FIRST + 1),)
    assert (appended(commands, Completed).n, appended(commands, Completed).cancelling) == (3, True)


@pytest.mark.parametrize("stimulus", [RETURNED, RETRYABLE, GONE])
def test_an_end_is_appended_after_a_foreign_progress_of_the_attempt(stimulus: Stimulus) -> None:
    ending, commands = told(running(), stimulus)
    first = appended(commands, object)
    view = log(started(), progress(step="cancelling", cancelling=True))
    found, commands = told(ending, LogRead(view), now=after(1))
    assert found.phase is Phase.ENDING
    assert commands == (
        Append(msgspec.structs.replace(first, n=3, time=after(1), cancelling=True), FIRST + 1),  # type: ignore[type-var]
    )


def test_every_later_event_says_that_it_is_cancelling() -> None:
    view = log(started(), progress(cancelling=True))
    batch = job(ticket(number=2, batch=True), actor=None)
    found, commands = told(batch, Delivered(), LogRead(view))
    assert appended(commands, Started).cancelling
    _, commands = told(found, Stored(200), Reported(done=1))
    assert appended(commands, Progress).cancelling


def test_a_new_run_is_not_cancelling() -> None:
    view = log(started(cancelling=True), failed(cancelling=True), requeued())
    _, commands = told(job(ticket(30, run=2, batch=True)), Delivered(), LogRead(view))
    assert not appended(commands, Started).cancelling


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING, Phase.ENDING])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_a_holder_finds_it_pays_and_acknowledges(phase: Phase, end: str) -> None:
    view = log(started(), ENDS[end])
    found, commands = told(PHASES[phase], LogRead(view))
    stops = () if phase is Phase.ENDING else (Stop(),)
    assert (found.phase, commands) == (Phase.SETTLED, (*stops, Pay(view.tail, view.sequence), Ack()))


OTHERS: Final = {
    "started": log(started(), started(attempt=2)),
    "progress of a later attempt": log(started(), started(attempt=2), progress(attempt=2)),
    "retrying": log(started(), retrying()),
    "requeued": log(started(), cancelled(), requeued()),
    "progress of a later run": log(started(), failed(), requeued(), started(run=2), progress(run=2)),
    "end of a later run": log(started(), failed(), requeued(), started(run=2), completed(run=2)),
}


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING, Phase.ENDING])
@pytest.mark.parametrize("other", OTHERS)
def test_whoever_is_fenced_settles_nothing(phase: Phase, other: str) -> None:
    found, commands = told(PHASES[phase], LogRead(OTHERS[other]))
    stops = () if phase is Phase.ENDING else (Stop(),)
    assert (found.phase, commands) == (Phase.SETTLED, (*stops, Leave()))


@pytest.mark.parametrize("phase", [Phase.REPORTING, Phase.ENDING])
def test_a_log_that_was_forgotten_fences(phase: Phase) -> None:
    found, commands = told(PHASES[phase], LogRead(EMPTY))
    assert (found.phase, commands[-1]) == (Phase.SETTLED, Leave())


def test_what_was_read_before_its_own_last_event_tells_nothing() -> None:
    """It was told of an earlier run's end, and read the log, before it reported."""
    old = log(started())
    found, _ = told(running(), Reported(done=1), Stored(150))
    assert told(found, LogRead(old)) == (found, ())
    assert told(running(), LogRead(old)) == (running(), ())


def test_an_attempt_that_was_adopted_from_another_message_is_not_fenced_by_progress() -> None:
    found, _ = told(running(), Adopted(ticket(30)))
    found, commands = told(found, LogRead(log(started(), progress(cancelling=True))))
    assert (found.phase, commands) == (Phase.RUNNING, ())


# Leases


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.SETTLED])
def test_past_its_lease_it_sends_nothing(phase: Phase) -> None:
    found, commands = told(PHASES[phase], LeaseLost())
    assert (found.phase, commands[-1]) == (Phase.SETTLED, Leave())
    assert set(map(type, commands)) <= {Stop, Leave}
    assert (Stop() in commands) is (phase in (Phase.RUNNING, Phase.REPORTING))
    for stimulus in STIMULI:
        with pytest.raises(Illegal):
            decide(found, stimulus, now=NOW)


# Newer deliveries


def test_a_newer_delivery_of_what_runs_here_is_handed_over() -> None:
    view = log(started(), mine=True, running=True)
    found, commands = told(job(ticket(number=2)), Delivered(), LogRead(view))
    assert commands == (HandOver(),)
    # The attempt was just over: then the log tells.
    done = log(started(), completed(), mine=True)
    assert told(found, LogRead(done))[1] == (Pay(done.tail, done.sequence), Ack())
    found, commands = told(found, HandedOver())
    assert (found.phase, commands) == (Phase.SETTLED, (Leave(),))


def test_who_looks_on_has_nothing_under_way() -> None:
    """Others take `pending` for an attempt about to open, and would wait for each other."""
    found, _ = told(job(), Delivered(), LogRead(log(started(), mine=True, running=True)))
    assert found.pending is None
    assert told(job(ticket(30)), Delivered(), LogRead(log(started())))[0].pending is None


def test_an_adopted_delivery_changes_nothing_but_itself() -> None:
    found, commands = told(running(ticket(parent="b.P1")), Adopted(ticket(number=2)))
    assert (found.ticket, commands) == (ticket(number=2, parent="b.P1"), ())
    found, _ = told(running(), Adopted(ticket(30)))
    _, commands = told(found, RETRYABLE)
    # A log that named the other message would take its deliveries for an older copy's.
    assert appended(commands, Retrying).origin == "JOBS:17"


# Duplicates


def test_a_duplicate_is_acknowledged_where_the_origin_exists() -> None:
    found, commands = told(probing(), Probed(exists=True))
    assert (found.phase, commands) == (Phase.SETTLED, (Ack(),))


def test_a_duplicate_that_another_batch_waits_for_comes_back() -> None:
    found, commands = told(job(ticket(30, parent="b.P2")), Delivered(), LogRead(log(started())))
    assert (found.phase, commands) == (Phase.SETTLED, (Nak(AWAIT_S),))


def test_a_duplicate_pays_before_it_is_acknowledged() -> None:
    view = log(started(), completed())
    assert told(job(ticket(30)), Delivered(), LogRead(view))[1] == (Pay(view.tail, view.sequence), Ack())


def test_other_input_is_refused_and_the_log_left_alone() -> None:
    view = log(started())
    found, commands = told(job(ticket(30, input_sha256="other")), Delivered(), LogRead(view))
    assert (found.phase, commands) == (Phase.SETTLED, (Refuse("id_conflict"), Ack()))


# What does not decode


def test_what_does_not_decode_fails_on_first_sight() -> None:
    found, commands = told(job(ticket(parent="b.P1", input_sha256="")), UNDECODABLE)
    assert (found.phase, commands) == (Phase.BURYING, (Bury("decode", 1, 0),))
    found, commands = told(found, Buried(9))
    end = failed(gateway="gw", parent="b.P1", error=UNDECODABLE.error, attempts=0, dlq_sequence=9)
    assert commands == (Append(end, 0),)
    assert told(found, Stored(150))[1] == (Pay(end, 150), Ack())


FOREIGN: Final = {"origin": "JOBS:5"}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "view",
    [
        log(started(**FOREIGN)),
        log(started(**FOREIGN), mine=True, running=True),
        log(started(**FOREIGN), progress(**FOREIGN)),
        log(started(**FOREIGN), retrying(**FOREIGN)),
        log(started(**FOREIGN), completed(**FOREIGN)),
        log(cancelled(**FOREIGN)),
        log(started(**FOREIGN), failed(**FOREIGN), requeued(**FOREIGN)),
    ],
)
def test_what_does_not_decode_never_touches_anothers_log(number: int, view) -> None:
    held = job(ticket(number=number, input_sha256=""))
    steps = [UNDECODABLE, Buried(9)] if number == 1 else [UNDECODABLE]
    found, commands = told(held, *steps, LogRead(view))
    assert (found.phase, commands) == (Phase.SETTLED, (Refuse("decode"), Ack()))


@pytest.mark.parametrize("end", ENDS)
def test_what_does_not_decode_pays_the_end_of_its_own_log(end: str) -> None:
    view = log(ENDS[end])
    assert told(job(ticket(number=2)), UNDECODABLE, LogRead(view))[1] == (Pay(view.tail, view.sequence), Ack())
    assert told(job(), UNDECODABLE, Buried(9), LogRead(view))[1] == (Pay(view.tail, view.sequence), Ack())


@pytest.mark.parametrize(
    ("view", "made"),
    [
        (log(started(attempt=2)), 2),
        (log(started(attempt=2, spent=Spent(lost=5))), 2),
        (log(started(attempt=2), progress(attempt=2)), 2),
        (log(started(attempt=2), retrying(attempt=2)), 2),
    ],
)
def test_what_no_longer_decodes_ends_its_own_log(view, made: int) -> None:
    """A child whose decoder died only now. Refused, its message would be gone and its log would never end."""
    found, commands = told(job(ticket(number=3)), UNDECODABLE, LogRead(view))
    assert commands == (Bury("decode", 1, made),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert commands == (Append(end, view.sequence),)
    assert (end.n, end.run, end.attempt, end.attempts) == (view.tail.n + 1, 1, 2, made)


def test_what_no_longer_decodes_leaves_its_running_attempt_in_peace() -> None:
    held = job(ticket(number=2))
    assert told(held, UNDECODABLE, LogRead(log(started(), mine=True, running=True)))[1] == (HandOver(),)
    assert told(held, UNDECODABLE, LogRead(log(started(delivery=DeliveryRef(17, 2)))))[1] == (Leave(),)
    assert told(held, UNDECODABLE, LogRead(log(started(), failed(), requeued())))[1] == (Ack(),)


def test_what_does_not_decode_decides_anew_when_its_failed_is_refused() -> None:
    ending, _ = told(job(ticket(number=2)), UNDECODABLE, LogRead(log(started())), Buried(9))
    found, commands = told(ending, LogRead(log(started(), retrying())))
    assert (found.phase, commands) == (Phase.BURYING, (Bury("decode", 1, 1),))
    assert told(found, Buried(9))[1] == (Append(appended(told(found, Buried(9))[1], Failed), FIRST + 1),)
    found, commands = told(ending, LogRead(log(started(), mine=True, running=True)))
    assert (found.phase, commands) == (Phase.OPENING, (HandOver(),))


def test_a_replay_that_does_not_decode_fails_its_own_run() -> None:
    view = log(failed(), requeued(input_sha256=""))
    found, commands = told(job(ticket(30, run=2, input_sha256="")), UNDECODABLE, LogRead(view))
    assert commands == (Bury("decode", 2, 0),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert (end.n, end.run, end.attempt, end.origin, commands) == (3, 2, 1, "JOBS:30", (Append(end, FIRST + 1),))


def test_a_replay_that_does_not_decode_fails_its_own_run_of_a_forgotten_log_too() -> None:
    found, commands = told(job(ticket(30, run=2)), UNDECODABLE, LogRead(EMPTY))
    assert commands == (Bury("decode", 2, 0),)
    assert appended(told(found, Buried(9))[1], Failed).run == 2


# Batches that are lost


def batch_after(opening: Started, *more: Event) -> tuple[Job, Any]:
    return told(job(ticket(number=2, batch=True), actor=None), Delivered(), LogRead(log(opening, *more)))


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


def test_a_batch_that_is_lost_even_then_fails() -> None:
    _, commands = batch_after(started(attempt=7, spent=Spent(lost=6)))
    assert commands == (Bury("lost", 1, 7),)


def test_a_batch_that_is_drained_while_it_ends_its_children_goes_on_to_end_them() -> None:
    spent = Spent(lost=6)
    found, _ = batch_after(started(attempt=7, spent=spent), retrying(attempt=7, spent=spent))
    _, commands = told(found, Stored(200))
    assert isinstance(commands[0], Run)
    assert commands[0].error is not None


def test_no_other_attempt_begins_with_an_end() -> None:
    for held in (ticket(), ticket(batch=True)):
        opening, _ = told(job(held), Delivered())
        assert told(opening, Stored(FIRST))[1] == (Run(opening.pending),)  # type: ignore[arg-type]
    found, _ = batch_after(started(attempt=5, spent=Spent(lost=4)))
    assert told(found, Stored(200))[1] == (Run(found.pending),)  # type: ignore[arg-type]


def test_the_input_is_named_by_its_digest() -> None:
    opening, commands = told(job(), Delivered())
    assert appended(commands, Started).input_sha256 == SHA
