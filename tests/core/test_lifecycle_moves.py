"""`workers.core.lifecycle`: messages that wait at the tail of their queue because too many wait out a delay."""

from __future__ import annotations

import pytest

from contracts.events import Retrying, Started
from tests.core.helpers import FIRST, after, log, retrying, started, ticket
from tests.core.jobs import GONE, RETRYABLE, appended, job, running, told
from workers.core.job import Ack, Delivered, Drained, LogRead, Move, MovedOn, Nak, Phase, Stimulus, Stored

MOVED = log(started(), retrying(moved=True, delay_ms=60_000))


@pytest.mark.parametrize("stimulus", [RETRYABLE, GONE])
def test_where_too_many_wait_the_message_moves(stimulus: Stimulus) -> None:
    found, commands = told(running(crowded=True), stimulus, jitter=0.25)
    assert (appended(commands, Retrying).moved, appended(commands, Retrying).delay_ms) == (True, 250)
    found, commands = told(found, Stored(FIRST + 1, "own.2"))
    assert (found.phase, commands) == (Phase.MOVING, (Move("own.2", 1),))
    assert told(found, MovedOn(done=True))[1] == (Ack(),)
    found, commands = told(found, MovedOn(done=False))
    assert (found.phase, commands) == (Phase.SETTLED, (Nak(0.25),))


def test_what_is_given_back_at_once_takes_no_room() -> None:
    _, commands = told(running(crowded=True), Drained())
    assert not appended(commands, Retrying).moved
    _, commands = told(running(crowded=True), RETRYABLE, jitter=0.0)
    assert not appended(commands, Retrying).moved


def test_a_copy_that_comes_early_waits_out_the_delay_where_there_is_room() -> None:
    copy = ticket(30, origin="JOBS:17", run=1)
    _, commands = told(job(copy, crowded=True), Delivered(), LogRead(MOVED), now=after(20))
    assert commands == (Nak(40.0),)


def test_a_copy_that_comes_early_runs_where_there_is_none() -> None:
    copy = ticket(30, origin="JOBS:17", run=1)
    _, commands = told(job(copy, crowded=True, full=True), Delivered(), LogRead(MOVED), now=after(20))
    assert (appended(commands, Started).attempt, appended(commands, Started).origin) == (2, "JOBS:17")


def test_a_copy_that_comes_late_runs() -> None:
    copy = ticket(30, origin="JOBS:17", run=1)
    _, commands = told(job(copy), Delivered(), LogRead(MOVED), now=after(60))
    assert appended(commands, Started).attempt == 2


def test_a_message_that_was_not_moved_waited_in_the_server() -> None:
    view = log(started(), retrying(delay_ms=60_000))
    _, commands = told(job(ticket(number=2)), Delivered(), LogRead(view), now=after(20))
    assert appended(commands, Started).attempt == 2
