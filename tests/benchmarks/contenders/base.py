"""A round of a contender, and the queue and results that contenders on NATS share."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from infra.bus.base import Stored
from infra.bus.topology import StreamSpec, Topology
from tests.benchmarks.jobs import Job
from tests.benchmarks.lane import Lane, Measured
from tests.benchmarks.publisher import Message
from tests.benchmarks.stage import Ended, Process, Stage
from tests.benchmarks.verify import answers

__all__ = [
    "CONSUMER",
    "IN",
    "OUT",
    "RESULTS",
    "STREAM",
    "Absent",
    "Contender",
    "Round",
    "answer_lane",
    "last_line",
    "queue",
]

STREAM: Final = "BENCH"
CONSUMER: Final = "bench"
IN: Final = "bench.in"
RESULTS: Final = "BENCHED"
OUT: Final = "bench.done"


class Absent(Exception):
    """A contender is not there: what is missing, and how to get it."""


class Round(Struct, frozen=True):
    """One round of one contender."""

    jobs: int
    per_second: float
    wrong: list[str]
    detail: dict[str, float] = {}
    """Rates of variants, of which the best one counts."""

    @staticmethod
    def of(measured: Measured) -> Round:
        """Of a lane."""
        return Round(measured.jobs, measured.per_second, measured.wrong)


class Contender(Struct, frozen=True):
    """Somebody who can do the jobs."""

    name: str
    title: str
    play: Callable[[int], Awaitable[Round]]
    """One round of so many jobs. Raises `Absent`."""
    share: float = 1.0
    """Of the jobs asked for, how many it gets: what is slow shows its rate with fewer."""
    package: str = ""
    """That must be installed, beyond what Jetray needs."""
    floor: float | None = None
    """What Jetray's rate must be at least, in multiples of this one's."""


async def queue(stage: Stage) -> None:
    """Create the work queue, and the stream of results."""
    await stage.bus.apply(
        Topology(
            streams=(
                StreamSpec(name=STREAM, subjects=(IN,), retention="workqueue"),
                StreamSpec(name=RESULTS, subjects=(OUT,)),
            )
        )
    )


def answer_lane(name: str, message: Callable[[Job], Message]) -> Lane:
    """The queue, where each result is a message that holds the bare answer."""
    return Lane(name=name, stream=STREAM, consumer=CONSUMER, results=RESULTS, per_job=1, message=message, judge=_judge)


def _judge(stored: Sequence[Stored], owed: Iterable[Job]) -> list[str]:
    return answers((message.body.decode(errors="replace") for message in stored), owed)


async def last_line(process: Process) -> dict[str, Any]:
    """What a process that measures itself says at its end, as one line of JSON. Raises `Ended` where it failed."""
    if await process.process.wait():
        process.check()
    lines = process.log.read_text(encoding="utf-8").splitlines()
    found = next((line for line in reversed(lines) if line.startswith("{")), None)
    if found is None:
        raise Ended(f"{process.name} said nothing: {process.last_words()}")
    said: dict[str, Any] = json.loads(found)
    return said
