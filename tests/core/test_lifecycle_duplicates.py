"""`workers.core.lifecycle`: newer deliveries of what runs here, and other messages of the same job."""

from __future__ import annotations

from contracts.events import Retrying
from tests.core.helpers import completed, log, started, ticket
from tests.core.jobs import RETRYABLE, appended, job, paid, probing, running, told
from workers.core.job import Ack, Adopted, Delivered, HandedOver, HandOver, Leave, LogRead, Nak, Phase, Probed, Refuse
from workers.core.opening import AWAIT_S

# Newer deliveries


def test_a_newer_delivery_of_what_runs_here_is_handed_over() -> None:
    view = log(started(), mine=True, running=True)
    found, commands = told(job(ticket(number=2)), Delivered(), LogRead(view))
    assert commands == (HandOver(),)
    # The attempt was just over: then the log tells.
    done = log(started(), completed(), mine=True)
    assert told(found, LogRead(done))[1] == (paid(done), Ack())
    found, commands = told(found, HandedOver())
    assert (found.phase, commands) == (Phase.SETTLED, (Leave(),))


def test_what_was_refused_is_under_way_no_more() -> None:
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
    found, _ = told(job(ticket(30, parent="b.P2")), Delivered(), LogRead(log(started())))
    found, commands = told(found, Probed(exists=True))
    assert (found.phase, commands) == (Phase.SETTLED, (Nak(AWAIT_S),))


def test_a_duplicate_pays_before_it_is_acknowledged() -> None:
    view = log(started(), completed())
    assert told(job(ticket(30)), Delivered(), LogRead(view))[1] == (paid(view), Ack())


def test_other_input_is_refused_and_the_log_left_alone() -> None:
    view = log(started())
    found, commands = told(job(ticket(30, input_sha256="other")), Delivered(), LogRead(view))
    assert (found.phase, commands) == (Phase.SETTLED, (Refuse("id_conflict"), Ack()))
