"""A user of the bus in a process of its own: publishes a job, waits for its result, and says how long that took.

    python -m tests.benchmarks.client URL

reads lines `{"subject": …, "result": …, "jobs": …}` and answers each with a list of milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import time

import anyio
import msgspec
import nats
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from tests.benchmarks.kinds import Echo

PAYLOAD = "x" * 140


class Turn(msgspec.Struct, frozen=True):
    """So many jobs, one after the other."""

    subject: str
    result: str
    jobs: int


async def main(url: str) -> None:
    """Take turns until standard input ends."""
    client = await nats.connect(url)
    stream = client.jetstream()
    while line := await anyio.to_thread.run_sync(sys.stdin.buffer.readline):
        turn = msgspec.json.decode(line, type=Turn)
        results = await client.subscribe(turn.result)
        await client.flush()
        taken = [await _one(stream, results, turn.subject) for _ in range(turn.jobs)]
        await results.unsubscribe()
        print(msgspec.json.encode(taken).decode(), flush=True)
    await client.close()


async def _one(stream: JetStreamContext, results: Subscription, subject: str) -> float:
    body = msgspec.json.encode(Echo(body=PAYLOAD))
    began = time.perf_counter()
    await stream.publish(subject, body)
    result = await results.next_msg(timeout=30)
    taken = time.perf_counter() - began
    assert PAYLOAD.encode() in result.data, "the result is not the input"
    return taken * 1000


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
