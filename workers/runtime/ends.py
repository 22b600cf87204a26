"""How a batch's children ended, read back from their logs for the batch's `reduce`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio
import msgspec
from msgspec import Raw

from contracts.errors import ErrorInfo, bounded
from contracts.events import Cancelled, Completed, Event, Failed, Moved
from contracts.joins import Notice
from infra.store.base import Missing, Store
from workers.core.tally import Tally
from workers.kinds.registry import ChildEnd
from workers.runtime.children import Children, Unfit
from workers.runtime.journal import Journal
from workers.runtime.patience import patiently

__all__ = ["read_ends"]

MOVED: Final = b'{"artifact":'
"""How a result begins that was too large for its event."""
AT_ONCE: Final = 64
"""Ends that are read side by side, and so in memory at once where the batch asks for outlines alone."""


async def read_ends(
    journal: Journal, store: Store, children: Children, tally: Tally, outline: Callable[[ChildEnd], Any]
) -> list[Any]:
    """The outline of every child's end, in the children's order. Raises the `Unfit` that `outline` raises."""
    found: list[Any] = [None] * len(children)
    places = iter(range(len(children)))
    unfit: list[Unfit] = []

    async def read() -> None:
        for place in places:
            end = await _end_of(journal, store, children, tally.ends.get(place), place)
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


async def _end_of(journal: Journal, store: Store, children: Children, notice: Notice | None, place: int) -> ChildEnd:
    is_kept = notice is not None and notice.outcome != "refused"
    event = await journal.at(notice.sequence) if notice is not None and is_kept else None
    end = event if isinstance(event, (Completed, Failed, Cancelled)) else None
    if isinstance(end, Completed):
        end = await _brought_back(store, end)
    return ChildEnd(
        child=children[place],
        job_id=children.ids[place],
        outcome="refused" if notice is None else notice.outcome,
        event=end,
        error=_error(notice, end),
    )


async def _brought_back(store: Store, end: Completed) -> Completed:
    """The end with its result in it, where that was too large for the event and is still kept."""
    if not bytes(end.result).startswith(MOVED):
        return end
    try:
        moved = msgspec.json.decode(end.result, type=Moved)
        found = await patiently(lambda: store.get(moved.artifact), what=moved.artifact, unless=(Missing,))
    except (msgspec.ValidationError, Missing):
        return end
    return msgspec.structs.replace(end, result=Raw(found))


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
