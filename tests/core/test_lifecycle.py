"""`workers.core.lifecycle`: every transition, and how an attempt begins."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from contracts.events import Completed, DeliveryRef, Failed, LogEvent, Progress, Spent, Started
from tests.core.helpers import (
    FIRST,
    LIMIT_S,
    NOW,
    after,
    error,
    failed,
    log,
    progress,
    requeued,
    retrying,
    started,
    ticket,
)
from tests.core.jobs import (
    GONE,
    PHASES,
    RETRYABLE,
    RETURNED,
    TRACKED,
    TRACKING_FAILED,
    UNDECODABLE,
    appended,
    job,
    opening_of,
    running,
    told,
)
from workers.core.job import (
    Ack,
    Adopted,
    Append,
    Buried,
    Bury,
    ChildrenEnded,
    Delivered,
    Drained,
    Gone,
    HandedOver,
    LeaseLost,
    Leave,
    LogRead,
    MovedOn,
    Pay,
    Phase,
    Probe,
    Probed,
    Raised,
    Read,
    Reported,
    Returned,
    Run,
    Stimulus,
    Stop,
    Stored,
    TakenApart,
    Tracked,
    TrackingFailed,
    Undecodable,
)
from workers.core.lifecycle import TABLE, Illegal, decide
from workers.core.log import EMPTY

STIMULI: Final[list[Stimulus]] = [
    Delivered(),
    UNDECODABLE,
    Stored(200),
    LogRead(log(started(), progress())),
    Probed(exists=True),
    Reported(done=1),
    TRACKED,
    TRACKING_FAILED,
    RETURNED,
    RETRYABLE,
    GONE,
    Buried(7),
    MovedOn(done=True),
    Adopted(ticket(number=2)),
    HandedOver(),
    TakenApart(error("lost", retryable=True)),
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
    (Phase.RUNNING, Tracked): (Phase.REPORTING, [Append]),
    (Phase.RUNNING, TrackingFailed): (Phase.REPORTING, [Append]),
    (Phase.RUNNING, Returned): (Phase.ENDING, [Append]),
    (Phase.RUNNING, Raised): (Phase.ENDING, [Append]),
    (Phase.RUNNING, Gone): (Phase.ENDING, [Append]),
    (Phase.RUNNING, TakenApart): (Phase.ENDING, [Append]),
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
    (Phase.MOVING, MovedOn): (Phase.SETTLED, [Ack]),
    (Phase.MOVING, LeaseLost): (Phase.SETTLED, [Leave]),
}


# The table itself


def test_every_transition_is_listed_here() -> None:
    # No job of these is being cancelled with its children: test_lifecycle_batches has those.
    assert set(TRANSITIONS) == set(TABLE) - {(Phase.RUNNING, ChildrenEnded)}
    assert set(PHASES) == set(Phase)
    assert {type(stimulus) for stimulus in STIMULI} == {kind for _, kind in TABLE} - {ChildrenEnded}


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
    assert commands == (Run(opening_of(opening)),)
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
    found, numbers = running(), list[int]()
    for stimulus in (Reported(done=1), Reported(done=2), RETURNED):
        found, commands = told(found, stimulus)
        numbers.append(appended(commands, LogEvent).n)
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
