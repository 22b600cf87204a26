"""Cancel a job, or a batch.

A job: append `cancelled` after its last event, again and again, until it wins or finds an end. The holder, if there is
one, learns of it from the log. A message that comes later finds the end and is acknowledged.

A batch under way: append `progress {step: "cancelling"}`. Its holder, present or next, ends every child and then the
batch itself. A batch whose run has not begun has no children yet, and is cancelled like a job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from contracts.events import Asked, Cancelled, Progress, Retrying, Stage, Started, is_terminal
from workers.core.log import EMPTY, LogView
from workers.runtime.journal import Journal, Written

__all__ = ["CANCELLING", "Canceller", "Subject"]

CANCELLING: Final = "cancelling"
"""The step that a batch's cancel is shown as."""


class Subject(Struct, frozen=True, kw_only=True):
    """What is to be cancelled. The last three stand in the event of a log that has none yet."""

    kind: str
    job_id: str
    batch: bool
    origin: str
    parent: str | None = None
    correlation_id: str = ""


Meant = Callable[[LogView], Awaitable[None]]
"""Raises where the log has come to something that whoever asked did not mean."""


async def _whatever(view: LogView) -> None:
    """All is meant."""


class Canceller:
    """Cancels by the log alone."""

    def __init__(self, journal: Journal, *, gateway: str, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._gateway = gateway
        self._now = now

    async def cancel(self, subject: Subject, asked: Asked, meant: Meant = _whatever) -> LogView:
        """The log with the run's end, ours or the one that was there first; a batch under way may only be cancelling.

        A child whose log names another parent, or none, is not this batch's to cancel: its log is left as it is.
        """
        view = await self._journal.read(subject.kind, subject.job_id)
        while True:
            await meant(view)
            if self._is_done(view, subject):
                return view
            event = self._event(view, subject, asked)
            done = await self._journal.append(event, after=view.sequence)
            if isinstance(done, Written):
                return LogView(sequence=done.sequence, tail=event, opening=view.opening, mine=True)
            view = done

    def _is_done(self, view: LogView, subject: Subject) -> bool:
        tail = view.tail
        if tail is None:
            return False
        foreign = subject.parent is not None and subject.parent != tail.parent
        return foreign or is_terminal(tail) or tail.cancelling

    def _event(self, view: LogView, subject: Subject, asked: Asked) -> Cancelled | Progress:
        tail = view.tail
        common: dict[str, Any] = {
            "kind": subject.kind,
            "job_id": subject.job_id,
            "n": 1 if tail is None else tail.n + 1,
            "run": 1 if tail is None else tail.run,
            "attempt": 1 if tail is None else tail.attempt,
            "time": self._now(),
            "gateway": self._gateway,
            "origin": subject.origin if tail is None else tail.origin,
            "parent": subject.parent if tail is None else tail.parent,
            "correlation_id": (subject.correlation_id or subject.job_id) if tail is None else tail.correlation_id,
            "subject_id": None if tail is None else tail.subject_id,
        }
        if subject.batch and _is_under_way(view):
            return Progress(**common, step=CANCELLING, message=asked.reason, cancelling=True, asked=asked)
        return Cancelled(**common, reason=asked.reason, requested_by=asked.requested_by, stage=_stage(view))


def _is_under_way(view: LogView) -> bool:
    return view.tail is not None and isinstance(view.opening, Started) and view.opening.run == view.tail.run


def _stage(view: LogView) -> Stage:
    if view is EMPTY or view.tail is None or view.opening is None or not isinstance(view.opening, Started):
        return "queued"
    return "delayed" if isinstance(view.tail, Retrying) else "running"
