"""A user of the bus in a process of its own: publishes jobs, waits for their results, and says how long each took.

    python -m tests.benchmarks.client URL

reads lines of JSON, each a `Turn`, and answers each with a line that holds milliseconds and what was wrong.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import anyio
import msgspec
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from contracts import headers as h
from tests.benchmarks.jobs import Job, jobs
from tests.benchmarks.kinds import Text
from tests.benchmarks.verify import answers

__all__ = ["Taken", "Turn"]

RESULT_S: Final = 30.0
_SHA256: Final = re.compile(rb"[0-9a-f]{64}")
_ANSWER: Final = {"text": _SHA256, "json": re.compile(rb'"sha256":"([0-9a-f]{64})"')}


class Turn(msgspec.Struct, frozen=True):
    """So many jobs."""

    subject: str
    result: str
    """Where results come live."""
    form: Literal["text", "json"]
    """Bare texts, or as Jetray takes and gives them."""
    prefix: str
    """Of the jobs' ids."""
    jobs: int
    per_second: float
    """Published evenly; 0 for each after the result of the one before."""


class Taken(msgspec.Struct, frozen=True):
    """What came of a turn."""

    milliseconds: list[float]
    """From before the publish to the arrival of the result, of each job."""
    wrong: list[str]


async def main(url: str) -> None:
    """Take turns until standard input ends."""
    client = await nats.connect(url)
    stream = client.jetstream()
    while line := await anyio.to_thread.run_sync(sys.stdin.buffer.readline):
        turn = msgspec.json.decode(line, type=Turn)
        results = _Results(turn)
        subscription = await client.subscribe(turn.result, cb=results.heard)
        await client.flush()
        await _publish(stream, turn, results)
        taken = await results.all(turn)
        await subscription.unsubscribe()
        print(msgspec.json.encode(taken).decode(), flush=True)
    await client.close()


class _Results:
    """When each job was sent, and when its result came."""

    def __init__(self, turn: Turn) -> None:
        self.owed = list(jobs(turn.prefix, turn.jobs))
        self._pattern = _ANSWER[turn.form]
        self._sent: dict[str, float] = {}
        self._came: dict[str, float] = {}
        self._found: list[str] = []
        self._news = asyncio.Event()

    def sent(self, job: Job) -> None:
        """Now."""
        self._sent[job.answer] = time.perf_counter()

    async def heard(self, message: Msg) -> None:
        """A result arrives."""
        now, match = time.perf_counter(), self._pattern.search(message.data)
        answer = match.group(match.lastindex or 0).decode() if match else repr(message.data[:80])
        self._came[answer] = now
        self._found.append(answer)
        self._news.set()

    async def number(self, count: int) -> None:
        """Return once so many results have come."""
        async with asyncio.timeout(RESULT_S):
            while len(self._found) < count:
                self._news.clear()
                await self._news.wait()

    async def all(self, turn: Turn) -> Taken:
        """Return once every result has come, or time is over."""
        try:
            await self.number(turn.jobs)
        except TimeoutError:
            return Taken([], [f"{len(self._found)} of {turn.jobs} results within {RESULT_S:.0f} s"])
        wrong = answers(self._found, self.owed)
        return Taken([1000 * (self._came[a] - self._sent[a]) for a in self._sent if a in self._came], wrong)


async def _publish(stream: JetStreamContext, turn: Turn, results: _Results) -> None:
    send = _SENDERS[turn.form]
    began = time.perf_counter()
    for number, job in enumerate(results.owed):
        if turn.per_second:
            await asyncio.sleep(max(0.0, began + number / turn.per_second - time.perf_counter()))
        results.sent(job)
        await send(stream, turn.subject, job)
        if not turn.per_second:
            await results.number(number + 1)


async def _send_text(stream: JetStreamContext, subject: str, job: Job) -> None:
    await stream.publish(subject, job.text.encode())


async def _send_json(stream: JetStreamContext, subject: str, job: Job) -> None:
    await stream.publish(subject, msgspec.json.encode(Text(job.text)), headers={h.MSG_ID: job.id})


_SENDERS: Final[dict[str, Callable[[JetStreamContext, str, Job], Awaitable[None]]]] = {
    "text": _send_text,
    "json": _send_json,
}


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
