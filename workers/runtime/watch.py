"""Learns of ends that others wrote into the logs of jobs that run here."""

from __future__ import annotations

import logging
from contextlib import aclosing

from contracts import subjects
from infra.bus.base import Bus
from workers.runtime.journal import Journal
from workers.runtime.live import Live

__all__ = ["watch"]

log = logging.getLogger("jetray.watch")

CANCELLED = "orchestration.*.cancelled.*"


async def watch(bus: Bus, journal: Journal, live: Live) -> None:
    """Tell the worker of each job that is cancelled, for ever. What happened during an outage is told after it."""
    following = bus.follow(subjects.EVENTS, CANCELLED, after=await journal.newest())
    async with aclosing(following) as cancelled:
        async for message in cancelled:
            _, kind, _, job_id = message.subject.split(".")
            if live.hands(kind, job_id):
                log.info("%s.%s was cancelled", kind, job_id)
                view = await journal.read(kind, job_id)
                # Also whoever does not know yet that its `started` is durable: the server may have told us this first.
                for worker in live.hands(kind, job_id):
                    worker.tell(view)
