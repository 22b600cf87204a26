"""How a batch's children ended, read back from their logs for the batch's `reduce`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio

from contracts.errors import ErrorInfo, bounded
from contracts.events import Cancelled, Completed, Event, Failed
from contracts.joins import Notice
from workers.core.tally import Tally
from workers.kinds.registry import ChildEnd
from workers.runtime.children import Children, Unfit
from workers.runtime.journal import Journal

__all__ = ["read_ends"]

AT_ONCE: Final = 64
"""Ends that are read side by side, and so in memory at once where the batch asks for outlines alone."""


async def read_ends(
    journal: Journal, children: Children, tally: Tally, outline: Callable[[ChildEnd], Any]
) -> list[Any]:
    """The outline of every child's end, in the children's order. Raises the `Unfit` that `outline` raises."""
    found: list[Any] = [None] * len(children)
    places = iter(range(len(children)))
    unfit: list[Unfit] = []

    async def read() -> None:
        for place in places:
            end = await _end_of(journal, children, tally.ends.get(place), place)
            try:
                found[place] = outline(end)
            except Unfit as error:
                unfit.append(error)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(AT_ONCE, len(children))):
            group.start_soon(read)
    if unfit:
        raise unfit[0]
    return found


async def _end_of(journal: Journal, children: Children, notice: Notice | None, place: int) -> ChildEnd:
    is_kept = notice is not None and notice.outcome != "refused"
    event = await journal.at(notice.sequence) if notice is not None and is_kept else None
    end = event if isinstance(event, (Completed, Failed, Cancelled)) else None
    return ChildEnd(
        child=children[place],
        job_id=children.ids[place],
        outcome="refused" if notice is None else notice.outcome,
        event=end,
        error=_error(notice, end),
    )


def _error(notice: Notice | None, event: Event | None) -> ErrorInfo | None:
    match event:
        case Completed():
            return None
        case Failed(error=error):
            return error
        case Cancelled(reason=reason):
            return ErrorInfo(reason="cancelled_child", type="Cancelled", message=bounded(reason))
    if notice is None:
        return ErrorInfo(reason="id_conflict", type="Refused", message="another job has its id, and goes on")
    if notice.outcome == "refused":
        text = f"refused: its id names another input, or it does not decode (DLQ {notice.sequence})"
        return ErrorInfo(reason="id_conflict", type="Refused", message=text)
    return ErrorInfo(reason="storage", type="Forgotten", message="its terminal event is no longer kept")
