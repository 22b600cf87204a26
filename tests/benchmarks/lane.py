"""A queue on NATS that a contender works off, and how long that takes: filled while it is held, then let go.

Time runs by one clock: from just before the consumer is let go to the moment at which the server stored the last
result. Results are read and judged afterwards, so that judging takes nothing from the contender.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from infra.bus.base import Stored
from tests.benchmarks.jobs import Job, jobs
from tests.benchmarks.publisher import Message, fill
from tests.benchmarks.stage import Process, Stage

__all__ = ["Lane", "Measured", "Stalled", "finished", "hold", "measure", "read", "release", "warm_up"]

LOOK_S: Final = 0.05
STALL_S: Final = 60.0
"""A contender that stores nothing for so long has stalled."""
HELD_S: Final = 3_600.0


class Stalled(Exception):
    """No result came for a long time."""


class Lane(Struct, frozen=True):
    """What a contender takes, and what it gives."""

    name: str
    stream: str
    """The work queue."""
    consumer: str
    """The durable that the contender pulls from."""
    results: str
    """The stream that results are stored in."""
    per_job: int
    """Messages in it for each job."""
    message: Callable[[Job], Message]
    """The job as this contender takes it."""
    judge: Callable[[Sequence[Stored], Iterable[Job]], list[str]]
    """What is wrong, in words: results that are missing, twice or other than they must be."""


class Measured(Struct, frozen=True):
    """One run."""

    jobs: int
    seconds: float
    wrong: list[str] = []
    """Nothing, unless results are not what they must be."""

    @property
    def per_second(self) -> float:
        """The rate."""
        return self.jobs / self.seconds


async def measure(stage: Stage, lane: Lane, workers: Sequence[Process], owed: Sequence[Job]) -> Measured:
    """Let warm workers do so many jobs."""
    await hold(stage, lane)
    after = await stage.last(lane.results)
    await fill(stage.url, map(lane.message, owed[:-1]))
    early = await stage.last(lane.results) - after
    began = await release(stage, lane, owed[-1])
    await finished(stage, lane, workers, after, len(owed) * lane.per_job)
    wrong = await _left(stage, lane)
    # All that is there now, also what should not be.
    stored = await read(stage, lane.results, after, await stage.last(lane.results) - after)
    wrong += lane.judge(stored, owed)
    if early:
        wrong.append(f"{early} results came while the queue was held: the clock started too late")
    return Measured(len(owed), max(message.time for message in stored).timestamp() - began, wrong)


async def warm_up(stage: Stage, lane: Lane, workers: Sequence[Process], count: int) -> None:
    """Have so many jobs done, however long the workers take to start. Raises `Stalled` and `Ended`."""
    after = await stage.last(lane.results)
    # Where this is done twice, a server would take the second time for repetitions of the first.
    owed = list(jobs(f"warm-{after}", count))
    await fill(stage.url, map(lane.message, owed))
    await finished(stage, lane, workers, after, count * lane.per_job)
    wrong = lane.judge(await read(stage, lane.results, after, count * lane.per_job), owed)
    if wrong:
        raise Stalled(f"{lane.name}: {wrong[0]}")


async def hold(stage: Stage, lane: Lane) -> None:
    """Pause the consumer."""
    until = (datetime.now(UTC) + timedelta(seconds=HELD_S)).isoformat().replace("+00:00", "Z")
    answer = await stage.bus.api(f"CONSUMER.PAUSE.{lane.stream}.{lane.consumer}", {"pause_until": until})
    assert answer["paused"], answer


async def release(stage: Stage, lane: Lane, last: Job) -> float:
    """Let it go on, and publish the last job; when that was, in seconds since the epoch.

    A server that lets a consumer go on wakes it with the next message alone, or with the next heartbeat of a pull.
    """
    await stage.bus.api(f"CONSUMER.PAUSE.{lane.stream}.{lane.consumer}", {})
    message, began = lane.message(last), time.time()
    await stage.bus.publish(message.subject, message.body, message.headers)
    return began


async def finished(stage: Stage, lane: Lane, workers: Sequence[Process], after: int, count: int) -> None:
    """Return once `results` holds `count` messages after sequence `after`. Raises `Stalled` and `Ended`."""
    seen, since = after, time.monotonic()
    while (last := await stage.last(lane.results)) < after + count:
        for worker in workers:
            worker.check()
        if last > seen:
            seen, since = last, time.monotonic()
        elif time.monotonic() - since > STALL_S:
            words = " ".join(worker.last_words() for worker in workers)
            raise Stalled(f"{lane.name}: {last - after} of {count} results, then nothing for {STALL_S:.0f} s: {words}")
        await asyncio.sleep(LOOK_S)


async def read(stage: Stage, stream: str, after: int, count: int) -> list[Stored]:
    """So many messages of a stream that are there already."""
    found: list[Stored] = []
    if not count:
        return found
    async with aclosing(stage.bus.follow(stream, ">", after=after)) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


async def _left(stage: Stage, lane: Lane) -> list[str]:
    """Jobs that are done must not come back: everything is acknowledged a moment after the last result."""
    for _ in range(100):
        state = await stage.bus.consumer(lane.stream, lane.consumer)
        if not state.depth:
            return []
        await asyncio.sleep(LOOK_S)
    return [f"{state.depth} messages are not acknowledged"]
