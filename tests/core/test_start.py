"""`workers.core.start`: the start table of the protocol, row by row and column by column."""

from __future__ import annotations

from typing import Final

import pytest

from contracts.events import DeliveryRef, Event, Spent
from tests.core.helpers import (
    cancelled,
    completed,
    failed,
    files_tracked,
    log,
    progress,
    requeued,
    retrying,
    started,
    ticket,
)
from workers.core.log import EMPTY, LogView, Ticket
from workers.core.start import (
    Adopt,
    Await,
    Conflict,
    Duplicate,
    Exhausted,
    Open,
    Probe,
    Settle,
    Silence,
    Verdict,
    becomes_origin,
    start,
)

MAX_LOST: Final = 5
Row = list[Verdict]

# The message in hand. The log's origin is JOBS:17.
MESSAGES: Final[dict[str, Ticket]] = {
    "later delivery": ticket(number=2),
    "same delivery": ticket(),
    "another": ticket(30),
    "another, routed": ticket(30, origin="PLANNING:30", queued=False),
    "another, other input": ticket(30, input_sha256="other"),
    "another batch's": ticket(30, parent="b.P2"),
    "of run 2": ticket(30, run=2),
}

FRESH: Final[Verdict] = Open(run=1)
TAKEN: Final[Verdict] = Open(run=1, attempt=2, spent=Spent(lost=1))
AGAIN: Final[Verdict] = Open(run=1, attempt=2, spent=Spent(attempts=1))
RUN_2: Final[Verdict] = Open(run=2)

ENDED: Final[Row] = [Settle(), Settle(), Settle(), Settle(), Conflict(), Settle(), Settle()]
RUNS_HERE: Final[Row] = [Adopt(), Adopt(), Probe(), Duplicate(), Conflict(), Probe(), Probe()]
RUNS_ELSEWHERE: Final[Row] = [TAKEN, Silence(), Probe(), Duplicate(), Conflict(), Probe(), Probe()]

# The log, and what each of the messages above may do.
TABLE: Final[dict[str, tuple[LogView, Row]]] = {
    "empty": (EMPTY, [FRESH, FRESH, FRESH, FRESH, FRESH, FRESH, RUN_2]),
    "completed": (log(started(), completed()), ENDED),
    "failed": (log(started(), failed()), ENDED),
    "cancelled": (log(started(), cancelled()), ENDED),
    "cancelled before it began": (log(cancelled(origin="CONTROL:3", stage="queued")), [Settle()] * 7),
    "failed before it began": (log(failed()), [Settle()] * 7),
    "started, runs here": (log(started(), mine=True, running=True), RUNS_HERE),
    "progress, runs here": (log(started(), progress(), mine=True, running=True), RUNS_HERE),
    "files tracked, runs here": (log(started(), files_tracked(), mine=True, running=True), RUNS_HERE),
    "started, ran here": (log(started(), mine=True), RUNS_ELSEWHERE),
    "progress, ran here": (log(started(), progress(), mine=True), RUNS_ELSEWHERE),
    "started elsewhere": (log(started()), RUNS_ELSEWHERE),
    "progress elsewhere": (log(started(), progress()), RUNS_ELSEWHERE),
    "files tracked elsewhere": (log(started(), files_tracked()), RUNS_ELSEWHERE),
    # What runs here was fenced: the last event is another's.
    "started elsewhere, still runs here": (log(started(), running=True), RUNS_ELSEWHERE),
    "retrying": (
        log(started(), retrying()),
        [AGAIN, AGAIN, Probe(), Duplicate(), Conflict(), Probe(), Probe()],
    ),
    "retrying, moved": (
        log(started(), retrying(moved=True)),
        [AGAIN, AGAIN, Duplicate(), Duplicate(), Conflict(), Await(), Duplicate()],
    ),
    "requeued": (
        log(started(), failed(), requeued()),
        [Duplicate(), Duplicate(), Duplicate(), Duplicate(), Conflict(), Await(), RUN_2],
    ),
    "cancelled in run 2": (log(started(), failed(), requeued(), cancelled(run=2)), ENDED),
}


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("column", MESSAGES)
def test_the_table(row: str, column: str) -> None:
    view, verdicts = TABLE[row]
    verdict = dict(zip(MESSAGES, verdicts, strict=True))[column]
    assert start(MESSAGES[column], view, max_lost=MAX_LOST) == verdict


# Which delivery


def test_an_older_delivery_of_the_same_message_is_silent() -> None:
    view = log(started(delivery=DeliveryRef(17, 3)))
    assert [start(ticket(number=n), view, max_lost=5) for n in (1, 2, 3)] == [Silence()] * 3
    assert start(ticket(number=4), view, max_lost=5) == TAKEN


def test_of_a_moved_message_the_copy_counts_and_the_older_one_is_acknowledged() -> None:
    copy = ticket(40, origin="JOBS:17")
    assert start(copy, log(started(delivery=DeliveryRef(17, 9))), max_lost=5) == TAKEN
    view = log(started(), retrying(moved=True), started(attempt=2, delivery=DeliveryRef(40, 1)))
    assert start(ticket(number=9), view, max_lost=5) == Duplicate()
    assert start(copy, view, max_lost=5) == Silence()
    assert start(ticket(40, 2, origin="JOBS:17"), view, max_lost=5) == Open(run=1, attempt=3, spent=Spent(lost=1))


def test_another_message_does_not_replace_a_moved_one() -> None:
    """Its origin is gone from the queue because it was moved, and the copy goes on."""
    view = log(started(), retrying(moved=True), started(attempt=2, delivery=DeliveryRef(40, 1)))
    assert start(ticket(50), view, max_lost=5) == Duplicate()


def test_another_message_does_not_replace_a_routed_one() -> None:
    """A routed message outlives its acknowledgement, so whether it exists tells nothing."""
    routed = {"origin": "PLANNING:17"}
    assert start(ticket(30), log(started(**routed)), max_lost=5) == Duplicate()
    assert start(ticket(30), log(started(**routed), retrying(**routed)), max_lost=5) == Duplicate()


# What is spent


@pytest.mark.parametrize("tail", [None, progress()])
def test_a_takeover_adds_to_what_the_last_started_says(tail) -> None:
    opening = started(attempt=3, spent=Spent(attempts=1, lost=4))
    view = log(opening) if tail is None else log(opening, progress(attempt=3))
    verdict = start(ticket(number=2), view, max_lost=5)
    assert verdict == Open(run=1, attempt=4, spent=Spent(attempts=1, lost=5))
    verdict = start(ticket(number=2), view, max_lost=4)
    assert verdict == Exhausted(run=1, attempt=3, spent=Spent(attempts=1, lost=5))


def test_with_no_budget_the_first_loss_is_the_last() -> None:
    assert start(ticket(number=2), log(started()), max_lost=0) == Exhausted(run=1, attempt=1, spent=Spent(lost=1))


def test_an_attempt_after_retrying_spends_nothing_more() -> None:
    view = log(started(attempt=2), retrying(attempt=2, spent=Spent(attempts=1, lost=5)))
    assert start(ticket(number=3), view, max_lost=5) == Open(run=1, attempt=3, spent=Spent(attempts=1, lost=5))


def test_a_takeover_of_a_batch_that_has_moved_spends_nothing() -> None:
    opening = started(actor=None, spent=Spent(lost=5))
    batch = ticket(number=2, batch=True)
    assert start(batch, log(opening, progress()), max_lost=5) == Open(run=1, attempt=2, spent=Spent(lost=5))
    assert start(batch, log(opening), max_lost=5) == Exhausted(run=1, attempt=1, spent=Spent(lost=6))


def test_run_and_attempt_come_from_the_log() -> None:
    earlier: list[Event] = [started(), failed(), requeued()]
    opening = started(run=2, attempt=4, origin="JOBS:30", delivery=DeliveryRef(30, 1))
    later = ticket(30, 2, run=2)
    assert start(later, log(*earlier, opening), max_lost=5) == Open(run=2, attempt=5, spent=Spent(lost=1))
    again = retrying(run=2, attempt=4, origin="JOBS:30")
    assert start(later, log(*earlier, opening, again), max_lost=5) == Open(run=2, attempt=5, spent=Spent(attempts=1))


# Runs


@pytest.mark.parametrize("run", [None, 1, 3])
def test_a_message_of_another_run_does_not_open_a_requeued_one(run: int | None) -> None:
    view = log(started(), failed(), requeued())
    assert start(ticket(run=run), view, max_lost=5) == Duplicate()
    assert start(ticket(30, run=run), view, max_lost=5) == Duplicate()


def test_the_message_of_a_run_that_goes_on_is_one_like_others() -> None:
    opening = started(run=2, origin="JOBS:30", delivery=DeliveryRef(30, 1))
    view = log(started(), failed(), requeued(), opening)
    assert start(ticket(30, 2, run=2), view, max_lost=5) == Open(run=2, attempt=2, spent=Spent(lost=1))
    assert start(ticket(31, run=2), view, max_lost=5) == Probe()
    assert start(ticket(17, 2), view, max_lost=5) == Probe()


def test_inputs_are_compared_with_the_last_opening() -> None:
    view = log(started(), failed(), requeued(input_sha256="corrected"))
    assert start(ticket(30), view, max_lost=5) == Conflict()
    assert start(ticket(30, input_sha256="corrected"), view, max_lost=5) == Duplicate()


# Batches


@pytest.mark.parametrize("parent", [None, "b.P1"])
def test_a_duplicate_of_the_batch_that_the_log_names_need_not_wait(parent: str | None) -> None:
    view = log(started(parent="b.P1"))
    assert start(ticket(30, parent=parent), view, max_lost=5) == Probe()
    assert start(ticket(30, parent=parent, queued=False), view, max_lost=5) == Duplicate()


@pytest.mark.parametrize("parent", [None, "b.P1"])
def test_a_duplicate_of_another_batch_comes_back_until_the_end(parent: str | None) -> None:
    child = ticket(30, parent="b.P2")
    assert start(child, log(started(parent=parent)), max_lost=5) == Probe()
    assert start(child, log(started(parent=parent), retrying(parent=parent, moved=True)), max_lost=5) == Await()
    assert start(child, log(started(parent=parent), completed(parent=parent)), max_lost=5) == Settle()


# Once the origin is known to be gone


def test_a_duplicate_becomes_the_origin() -> None:
    other = ticket(30)
    assert becomes_origin(other, log(started()), max_lost=5) == TAKEN
    assert becomes_origin(other, log(started(), progress()), max_lost=5) == TAKEN
    assert becomes_origin(other, log(started(), retrying()), max_lost=5) == AGAIN
    assert becomes_origin(other, log(started(), mine=True, running=True), max_lost=5) == Adopt()
    assert becomes_origin(other, log(started(), mine=True), max_lost=5) == TAKEN
    assert becomes_origin(other, log(started(), running=True), max_lost=5) == TAKEN


def test_what_becomes_the_origin_goes_on_with_the_run() -> None:
    earlier: list[Event] = [started(), failed(), requeued(), started(run=2, attempt=3)]
    assert becomes_origin(ticket(30), log(*earlier), max_lost=5) == Open(run=2, attempt=4, spent=Spent(lost=1))
    view = log(*earlier, retrying(run=2, attempt=3))
    assert becomes_origin(ticket(30), view, max_lost=5) == Open(run=2, attempt=4, spent=Spent(attempts=1))


def test_a_duplicate_becomes_the_origin_whichever_was_stored_first() -> None:
    assert becomes_origin(ticket(3), log(started()), max_lost=5) == TAKEN


def test_becoming_the_origin_spends_too() -> None:
    view = log(started(spent=Spent(lost=5)))
    assert becomes_origin(ticket(30), view, max_lost=5) == Exhausted(run=1, attempt=1, spent=Spent(lost=6))
