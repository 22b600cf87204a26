"""Judges job logs: reads what is on the bus, knows the promises, and names each one that was broken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing

import anyio

from contracts import events, subjects
from contracts.events import Event, Requeued, Started, is_terminal
from infra.bus.base import Bus, Stored

__all__ = ["logs", "read_all", "violations"]

Logs = dict[tuple[str, str], list[Event]]


async def read_all(bus: Bus, stream: str, subject: str) -> list[Stored]:
    """Every message that a stream now holds on a filter."""
    last = await bus.last(stream, subject)
    if last is None:
        return []
    found = []
    async with aclosing(bus.follow(stream, subject)) as following:
        with anyio.fail_after(60):
            async for message in following:
                found.append(message)
                if message.sequence >= last.sequence:
                    return found
    raise AssertionError("a follower does not end by itself")


async def logs(bus: Bus) -> Logs:
    """Every job log, by kind and id, in order."""
    found: Logs = defaultdict(list)
    for message in await read_all(bus, subjects.EVENTS, "orchestration.*.*.*"):
        event = events.decode(message.body)
        found[event.kind, event.job_id].append(event)
    return dict(found)


def violations(found: Logs, *, expected: Iterable[tuple[str, str]] = ()) -> list[str]:
    """What the logs break of what they promise; `expected` jobs must be there and have ended."""
    broken = [f"{kind}.{job_id}: accepted, and has no log" for kind, job_id in expected if (kind, job_id) not in found]
    for (kind, job_id), log in found.items():
        broken += [f"{kind}.{job_id}: {what}" for what in _of_log(log)]
    return broken


def _of_log(log: Sequence[Event]) -> Iterable[str]:
    if [event.n for event in log] != list(range(1, len(log) + 1)):
        yield f"n is {[event.n for event in log]}"
    runs: dict[int, list[Event]] = defaultdict(list)
    for event in log:
        runs[event.run].append(event)
    if list(runs) != sorted(runs):
        yield f"runs go {list(runs)}"
    for run, of_run in runs.items():
        ends = [event for event in of_run if is_terminal(event)]
        if len(ends) != 1:
            yield f"run {run} has {len(ends)} terminal events"
        elif of_run[-1] is not ends[0]:
            yield f"run {run} goes on after its end"
        attempts = [event.attempt for event in of_run if isinstance(event, Started)]
        if attempts != list(range(1, len(attempts) + 1)):
            yield f"run {run} has attempts {attempts}"
        if run > 1 and not isinstance(of_run[0], Requeued):
            yield f"run {run} begins with {type(of_run[0]).__name__}"
