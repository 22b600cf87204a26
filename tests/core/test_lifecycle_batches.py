"""`workers.core.lifecycle`: batches that are cancelled while they run."""

from __future__ import annotations

import msgspec
import pytest

from contracts.events import Cancelled, Failed, Progress, Retrying, Started
from tests.core.helpers import ASKED, FIRST, cancelling, failed, log, progress, requeued, retrying, started, ticket
from tests.core.jobs import RAISED, RETURNED, appended, job, running, told
from workers.core.job import (
    Ack,
    Buried,
    ChildrenEnded,
    Delivered,
    Drained,
    EndChildren,
    Job,
    LogRead,
    Nak,
    Pay,
    Phase,
    Raised,
    Reported,
    Returned,
    Run,
    Stop,
    Stored,
)

COUNTS = {"completed": 1, "failed": 0, "cancelled": 2, "refused": 0, "open": 0}
ASKED_FOR = log(started(), cancelling())


def batch(number: int = 1) -> Job:
    return job(ticket(number=number, batch=True), actor=None)


def running_batch() -> Job:
    return running(ticket(batch=True), actor=None)


def test_its_children_end_before_it_is_cancelled() -> None:
    found, commands = told(running_batch(), LogRead(ASKED_FOR))
    assert (found.phase, commands) == (Phase.RUNNING, (EndChildren(ASKED),))
    found, commands = told(found, ChildrenEnded(COUNTS))
    end = appended(commands, Cancelled)
    assert (end.reason, end.requested_by, end.stage, end.counts) == ("asked for", "op", "running", COUNTS)
    assert (end.n, end.cancelling, end.asked) == (3, True, ASKED)
    found, commands = told(found, Stored(150))
    assert (found.phase, commands) == (Phase.SETTLED, (Pay(end, 150), Ack()))


def test_it_is_cancelled_once_however_often_it_is_asked_for() -> None:
    found, _ = told(running_batch(), LogRead(ASKED_FOR))
    again = log(started(), cancelling(), cancelling())
    assert told(found, LogRead(again))[1] == ()
    assert told(found, Reported(done=1), LogRead(again))[1] == ()


def test_a_report_that_the_cancel_overtook_is_let_go() -> None:
    found, commands = told(running_batch(), Reported(done=1), LogRead(ASKED_FOR))
    assert (found.phase, commands) == (Phase.RUNNING, (EndChildren(ASKED),))


@pytest.mark.parametrize("outcome", [RETURNED, RAISED])
def test_an_outcome_that_came_after_it_was_asked_for_does_not_count(outcome: Returned | Raised) -> None:
    found, _ = told(running_batch(), LogRead(ASKED_FOR))
    assert told(found, outcome) == (found, ())


def test_a_result_that_was_not_durable_when_it_was_asked_for_gives_way() -> None:
    ending, _ = told(running_batch(), RETURNED)
    found, commands = told(ending, LogRead(ASKED_FOR))
    assert (found.phase, commands) == (Phase.RUNNING, (EndChildren(ASKED),))
    assert appended(told(found, ChildrenEnded(COUNTS))[1], Cancelled).n == 3


def test_a_failure_that_has_its_dead_letter_stands() -> None:
    ending, _ = told(running_batch(), RAISED, Buried(9))
    _, commands = told(ending, LogRead(ASKED_FOR))
    assert (appended(commands, Failed).dlq_sequence, appended(commands, Failed).cancelling) == (9, True)


def test_what_was_asked_for_before_is_no_news_to_an_end() -> None:
    found, _ = told(running_batch(), LogRead(ASKED_FOR), ChildrenEnded(COUNTS))
    _, commands = told(found, LogRead(log(started(), cancelling(), progress(cancelling=True, asked=ASKED))))
    assert (appended(commands, Cancelled).n, appended(commands, Cancelled).counts) == (4, COUNTS)


def test_whoever_takes_it_over_goes_on_ending_its_children() -> None:
    found, commands = told(batch(number=2), Delivered(), LogRead(ASKED_FOR))
    opening = appended(commands, Started)
    assert (opening.cancelling, opening.asked, opening.spent.lost) == (True, ASKED, 0)
    found, commands = told(found, Stored(200))
    assert commands == (Run(opening, asked=ASKED),)
    _, commands = told(found, Reported(done=1))
    assert (appended(commands, Progress).cancelling, appended(commands, Progress).asked) == (True, ASKED)


def test_a_drained_one_is_given_back_as_it_is() -> None:
    found, _ = told(running_batch(), LogRead(ASKED_FOR))
    found, commands = told(found, Drained())
    assert commands[0] == Stop()
    assert (appended(commands, Retrying).cancelling, appended(commands, Retrying).asked) == (True, ASKED)
    assert told(found, Stored(150))[1] == (Nak(0.0),)


def test_one_that_waits_for_its_next_attempt_is_cancelled_by_whoever_gets_it() -> None:
    view = log(started(), retrying(), cancelling())
    found, _ = told(batch(number=2), Delivered(), LogRead(view), Stored(FIRST + 3))
    assert found.asked == ASKED


def test_a_new_run_is_not_cancelling() -> None:
    over = msgspec.structs.replace(failed(), cancelling=True, asked=ASKED)
    view = log(started(cancelling=True, asked=ASKED), over, requeued())
    _, commands = told(job(ticket(30, run=2, batch=True)), Delivered(), LogRead(view))
    assert (appended(commands, Started).cancelling, appended(commands, Started).asked) == (False, None)
