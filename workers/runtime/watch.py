"""Learns of cancels that others wrote into the logs of jobs that run here."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import aclosing

import anyio

from contracts import events, subjects
from contracts.events import Cancelled, Progress
from infra.bus.base import Bus
from workers.runtime.cancel import CANCELLING
from workers.runtime.journal import Journal
from workers.runtime.live import Live

__all__ = ["watch"]

log = logging.getLogger("jetray.watch")

CANCELLED = "orchestration.*.cancelled.*"


async def watch(bus: Bus, journal: Journal, live: Live, batches: Iterable[str], newest: int) -> None:
    """Tell the worker of each job that is cancelled, and of each batch of these kinds whose cancel is asked for.

    For ever, from what follows the event `newest` on. What happened during an outage is told after it.
    """
    async with anyio.create_task_group() as group:
        for subject in (CANCELLED, *(f"{subjects.live(kind, 'progress')}.*" for kind in batches)):
            group.start_soon(_watch, bus, journal, live, subject, newest)


async def _watch(bus: Bus, journal: Journal, live: Live, subject: str, newest: int) -> None:
    async with aclosing(bus.follow(subjects.EVENTS, subject, after=newest)) as stored:
        async for message in stored:
            _, kind, _, job_id = message.subject.split(".")
            if live.hands(kind, job_id) and _is_cancel(events.decode(message.body)):
                log.info("%s.%s is to be cancelled, or was", kind, job_id)
                view = await journal.read(kind, job_id)
                # Also whoever does not know yet that its `started` is durable: the server may have told us this first.
                for worker in live.hands(kind, job_id):
                    worker.tell(view)


def _is_cancel(event: events.Event) -> bool:
    return isinstance(event, Cancelled) or (isinstance(event, Progress) and event.step == CANCELLING)
