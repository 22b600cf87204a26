"""Ends that others wrote into the logs of jobs that run here."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contracts import events
from contracts.events import LogEvent
from infra.bus.memory import MemoryBus
from tests.runtime.samples import cancelled, completed, connected, started
from workers.core.log import LogView
from workers.runtime.journal import Journal, Written
from workers.runtime.live import Live
from workers.runtime.watch import watch

pytestmark = pytest.mark.anyio


class _Told:
    """As far as the watch knows a worker: it can be told."""

    def __init__(self) -> None:
        self.views: list[LogView] = []

    def tell(self, view: LogView) -> None:
        self.views.append(view)


async def _append(bus: MemoryBus, event: LogEvent, after: int) -> int:
    writer = Journal(MemoryBus(bus.server), nonce=f"writer-{event.job_id}-{event.n}", source="elsewhere")
    done = await writer.append(event, after=after)
    assert isinstance(done, Written)
    return done.sequence


async def _hands(live: Live, *job_ids: str) -> list[Any]:
    hands: list[Any] = [_Told() for _ in job_ids]
    for hand, job_id in zip(hands, job_ids, strict=True):
        live.enter(hand, "echo", job_id)
    return hands


async def test_whoever_has_the_cancelled_job_in_hand_is_told_and_nobody_else() -> None:
    bus, live = await connected(), Live()
    runs, about_to, other = await _hands(live, "a", "a", "b")
    live.runs(runs)
    async with anyio.create_task_group() as group:
        journal = Journal(bus, nonce="own", source="gw-1")
        group.start_soon(watch, bus, journal, live, ["group"], await journal.newest())
        await anyio.sleep(1)
        first = await _append(bus, started(), 0)
        await _append(bus, started(job_id="b"), 0)
        await _append(bus, completed(2, job_id="b"), first + 1)
        await anyio.sleep(1)
        assert (runs.views, about_to.views, other.views) == ([], [], [])
        end = await _append(bus, cancelled(), first)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    [view] = runs.views
    assert (view.sequence, view.tail) == (end, cancelled())
    assert about_to.views == [view]
    assert other.views == []


async def test_what_was_cancelled_before_it_watched_is_old_news() -> None:
    bus, live = await connected(), Live()
    await _append(bus, cancelled(1), 0)
    [hand] = await _hands(live, "a")
    async with anyio.create_task_group() as group:
        journal = Journal(bus, nonce="own", source="gw-1")
        group.start_soon(watch, bus, journal, live, ["group"], await journal.newest())
        await anyio.sleep(10)
        group.cancel_scope.cancel()
    assert hand.views == []


async def test_what_was_cancelled_during_an_outage_is_told_after_it() -> None:
    bus, live = await connected(), Live()
    [hand] = await _hands(live, "a")
    first = await _append(bus, started(), 0)
    async with anyio.create_task_group() as group:
        journal = Journal(bus, nonce="own", source="gw-1")
        group.start_soon(watch, bus, journal, live, ["group"], await journal.newest())
        await anyio.sleep(1)
        bus.disconnect()
        await _append(bus, cancelled(), first)
        await anyio.sleep(30)
        assert hand.views == []
        bus.reconnect()
        await anyio.sleep(5)
        group.cancel_scope.cancel()
    assert [view.tail for view in hand.views] == [cancelled()]


async def test_a_cancel_of_a_job_that_nobody_here_has_costs_no_read() -> None:
    bus = await connected()
    live = Live()
    async with anyio.create_task_group() as group:
        journal = Journal(bus, nonce="own", source="gw-1")
        group.start_soon(watch, bus, journal, live, ["group"], await journal.newest())
        await anyio.sleep(1)
        await _append(bus, cancelled(1, job_id="b"), 0)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert events.event_name(cancelled()) == "cancelled"
