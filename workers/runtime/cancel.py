"""Cancel a job: append `cancelled` after its last event, again and again, until it wins or finds an end.

The holder, if there is one, learns of it from the log. A message that comes later finds the end and is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from contracts.events import Cancelled, Event, Retrying, Stage, Started, is_terminal
from workers.core.log import EMPTY, LogView
from workers.runtime.journal import Journal, Written

__all__ = ["cancel"]


async def cancel(
    journal: Journal,
    kind: str,
    job_id: str,
    *,
    reason: str,
    requested_by: str,
    gateway: str,
    now: Callable[[], datetime],
    origin: str,
    parent: str | None = None,
    correlation_id: str = "",
) -> Event:
    """The event that ended the job's run: our `cancelled`, or the end that was there first.

    `origin`, `parent` and `correlation_id` stand in the event of a log that has none yet.
    """
    view = await journal.read(kind, job_id)
    while view.tail is None or not is_terminal(view.tail):
        event = _cancelled(
            view,
            kind=kind,
            job_id=job_id,
            reason=reason,
            requested_by=requested_by,
            gateway=gateway,
            time=now(),
            origin=origin,
            parent=parent,
            correlation_id=correlation_id or job_id,
        )
        done = await journal.append(event, after=view.sequence)
        if isinstance(done, Written):
            return event
        view = done
    return view.tail


def _cancelled(
    view: LogView,
    *,
    kind: str,
    job_id: str,
    reason: str,
    requested_by: str,
    gateway: str,
    time: datetime,
    origin: str,
    parent: str | None,
    correlation_id: str,
) -> Cancelled:
    tail = view.tail
    return Cancelled(
        kind=kind,
        job_id=job_id,
        n=1 if tail is None else tail.n + 1,
        run=1 if tail is None else tail.run,
        attempt=1 if tail is None else tail.attempt,
        time=time,
        gateway=gateway,
        origin=origin if tail is None else tail.origin,
        parent=parent if tail is None else tail.parent,
        correlation_id=correlation_id if tail is None else tail.correlation_id,
        subject_id=None if tail is None else tail.subject_id,
        reason=reason,
        requested_by=requested_by,
        stage=_stage(view),
    )


def _stage(view: LogView) -> Stage:
    if view is EMPTY or view.tail is None or view.opening is None or not isinstance(view.opening, Started):
        return "queued"
    return "delayed" if isinstance(view.tail, Retrying) else "running"
