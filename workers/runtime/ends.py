"""How a batch's children ended, read back from their logs for the batch's `reduce`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from contracts.errors import ErrorInfo, bounded
from contracts.events import Cancelled, Completed, Event, Failed, Moved
from contracts.joins import Notice
from infra.store.base import Missing, Store
from workers.core.tally import Tally
from workers.kinds.registry import ChildEnd
from workers.runtime.children import Children
from workers.runtime.journal import Journal
from workers.runtime.patience import patiently
from workers.runtime.unfit import each

__all__ = ["NOWHERE", "read_ends", "read_stages", "stage_of"]

MOVED: Final = b'{"artifact":'
"""How a result begins that was too large for its event."""
NOWHERE: Final = 0
"""The sequence of a refusal that no dead letter tells of: the batch ended, and its child's id was another's."""
AT_ONCE: Final = 64
"""Ends that are read side by side, and so in memory at once where the batch asks for outlines alone."""


async def read_ends(
    journal: Journal, store: Store, children: Children, tally: Tally, outline: Callable[[ChildEnd], Any]
) -> list[Any]:
    """The outline of every child's end, in the children's order. Raises the `Unfit` that `outline` raises."""
    found: list[Any] = [None] * len(children)

    async def read(place: int) -> None:
        found[place] = outline(await _end_of(journal, store, children, tally.ends[place], place))

    await each(range(len(children)), read, at_once=AT_ONCE)
    return found


async def read_stages(journal: Journal, ended_by: str, cancelled: Sequence[Notice]) -> Counter[str]:
    """Where those of the children were that `ended_by` has cancelled: `cancelled_queued`, `cancelled_running`."""
    found = Counter[str]()

    async def read(notice: Notice) -> None:
        event = await journal.at(notice.sequence)
        if isinstance(event, Cancelled) and event.requested_by == ended_by:
            found[stage_of(event)] += 1

    await each(cancelled, read, at_once=AT_ONCE)
    return found


def stage_of(event: Cancelled) -> str:
    """Where the cancel found it: running, or still on its way to that."""
    return "cancelled_running" if event.stage == "running" else "cancelled_queued"


async def _end_of(journal: Journal, store: Store, children: Children, notice: Notice, place: int) -> ChildEnd:
    event = None if notice.outcome == "refused" else await journal.at(notice.sequence)
    end = event if isinstance(event, (Completed, Failed, Cancelled)) else None
    if isinstance(end, Completed):
        end = await _brought_back(store, end)
    return ChildEnd(
        child=children[place],
        job_id=children.ids[place],
        outcome=notice.outcome,
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


def _error(notice: Notice, event: Event | None) -> ErrorInfo | None:
    match event:
        case Completed():
            return None
        case Failed(error=error):
            return error
        case Cancelled(reason=reason):
            return ErrorInfo(reason="cancelled_child", type="Cancelled", message=bounded(reason))
    if notice.sequence == NOWHERE:
        return ErrorInfo(reason="id_conflict", type="Refused", message="another job has its id, and goes on")
    if notice.outcome == "refused":
        text = f"refused: its id names another input, or it does not decode (DLQ {notice.sequence})"
        return ErrorInfo(reason="id_conflict", type="Refused", message=text)
    return ErrorInfo(reason="storage", type="Forgotten", message="its terminal event is no longer kept")
