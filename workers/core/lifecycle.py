"""What becomes of a job: `decide(job, stimulus) -> (job, commands)`, and the table of every legal transition.

A job is in exactly one phase; a stimulus that its phase does not know raises `Illegal` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from workers.core import ending, opening
from workers.core.job import (
    Adopted,
    Buried,
    ChildrenEnded,
    Delivered,
    Drained,
    Gone,
    HandedOver,
    Job,
    LeaseLost,
    LogRead,
    MovedOn,
    Phase,
    Probed,
    Raised,
    Reported,
    Returned,
    Stimulus,
    Stored,
    TakenApart,
    Tracked,
    TrackingFailed,
    Undecodable,
)
from workers.core.parts import Decision

__all__ = ["TABLE", "Illegal", "decide"]


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


Transition = Callable[[Job, Any, datetime, float], Decision]

TABLE: Final[dict[tuple[Phase, type], Transition]] = {
    (Phase.OPENING, Delivered): opening.delivered,
    (Phase.OPENING, Undecodable): opening.undecodable,
    (Phase.OPENING, LogRead): opening.log_read_opening,
    (Phase.OPENING, Stored): opening.opened,
    (Phase.OPENING, HandedOver): opening.handed_over,
    (Phase.OPENING, LeaseLost): ending.lease_lost,
    (Phase.PROBING, Probed): opening.probed,
    (Phase.PROBING, LeaseLost): ending.lease_lost,
    (Phase.RUNNING, Reported): ending.reported,
    (Phase.RUNNING, Tracked): ending.tracked,
    (Phase.RUNNING, TrackingFailed): ending.tracking_failed,
    (Phase.RUNNING, Returned): ending.returned,
    (Phase.RUNNING, Raised): ending.raised,
    (Phase.RUNNING, Gone): ending.gone,
    (Phase.RUNNING, TakenApart): ending.taken_apart,
    (Phase.RUNNING, ChildrenEnded): ending.children_ended,
    (Phase.RUNNING, Adopted): ending.adopted,
    (Phase.RUNNING, LogRead): ending.log_moved,
    (Phase.RUNNING, Drained): ending.drained,
    (Phase.RUNNING, LeaseLost): ending.lease_lost,
    (Phase.REPORTING, Stored): ending.report_stored,
    (Phase.REPORTING, LogRead): ending.refused_while_reporting,
    (Phase.REPORTING, LeaseLost): ending.lease_lost,
    (Phase.BURYING, Buried): ending.buried,
    (Phase.BURYING, LeaseLost): ending.lease_lost,
    (Phase.ENDING, Stored): ending.ended,
    (Phase.ENDING, LogRead): ending.refused_while_ending,
    (Phase.ENDING, LeaseLost): ending.lease_lost,
    (Phase.MOVING, MovedOn): ending.moved_on,
    (Phase.MOVING, LeaseLost): ending.lease_lost,
}
"""Every legal transition."""
