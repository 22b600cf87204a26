"""`workers.core.rerun`: what a batch's later run does with a child."""

from __future__ import annotations

from typing import Final

import pytest

from contracts.events import Event
from tests.core.helpers import FIRST, SHA, cancelled, completed, failed, log, progress, requeued, retrying, started
from workers.core.rerun import Again, Await, Fresh, Requeue, Verdict, rerun

OURS: Final = {"parent": "b.P1"}
OLD: Final = FIRST + 10
"""The run began after all of a log's events."""

ROWS: Final[list[tuple[str, list[Event], Verdict, Verdict]]] = [
    ("completed", [started(**OURS), completed(**OURS)], Await(), Await()),
    ("failed", [started(**OURS), failed(**OURS)], Requeue(2, 7), Await()),
    ("failed in run 2", [requeued(**OURS), started(run=2, **OURS), failed(run=2, **OURS)], Requeue(3, 7), Await()),
    ("cancelled", [cancelled(**OURS)], Requeue(2, 0), Await()),
    ("cancelled in run 2", [requeued(**OURS), cancelled(run=2, **OURS)], Requeue(3, 0), Again(2)),
    ("requeued", [started(**OURS), failed(**OURS), requeued(**OURS)], Again(2), Again(2)),
    ("started", [started(**OURS)], Await(), Await()),
    ("progress", [started(**OURS), progress(**OURS)], Await(), Await()),
    ("retrying", [started(**OURS), retrying(**OURS)], Await(), Await()),
]


@pytest.mark.parametrize(("events", "old", "young"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_end_counts_in_the_run_in_which_it_came(events: list[Event], old: Verdict, young: Verdict) -> None:
    view = log(*events)
    assert rerun(view, parent="b.P1", since=OLD, input_sha256=SHA) == old
    assert rerun(view, parent="b.P1", since=FIRST - 1, input_sha256=SHA) == young
    # Its batch expands into the same input each time: there is nothing to compare.
    assert rerun(view, parent="b.P1", since=OLD, input_sha256=None) == old


def test_what_has_no_log_is_published() -> None:
    assert rerun(log(), parent="b.P1", since=OLD, input_sha256=SHA) == Fresh()


@pytest.mark.parametrize("parent", [None, "b.P2"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_log_that_owes_us_nothing_must_meet_our_message(parent: str | None, ended: bool) -> None:
    events: list[Event] = [started(parent=parent)]
    if ended:
        events.append(completed(parent=parent))
    assert rerun(log(*events), parent="b.P1", since=OLD, input_sha256=SHA) == Fresh()


@pytest.mark.parametrize("end", [failed(), cancelled()])
def test_the_same_job_of_another_runs_again_for_us(end: Event) -> None:
    verdict = rerun(log(started(), end), parent="b.P1", since=OLD, input_sha256=SHA)
    assert isinstance(verdict, Requeue)


@pytest.mark.parametrize("digest", ["other", None])
def test_another_job_under_the_same_id_is_left_alone(digest: str | None) -> None:
    """Its message will be refused, and the refusal tells the batch."""
    assert rerun(log(started(), failed()), parent="b.P1", since=OLD, input_sha256=digest) == Fresh()
