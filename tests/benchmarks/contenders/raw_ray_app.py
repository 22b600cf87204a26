"""Calls two actors from one client, and says how many jobs a second came back; one line of JSON.

python -m tests.benchmarks.contenders.raw_ray_app single|batched JOBS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import ray
import uvloop

from tests.benchmarks.contenders.own_ray import own_ray
from tests.benchmarks.jobs import answer, jobs
from tests.benchmarks.verify import answers

ACTORS: Final = 2
BATCH: Final = 64
IN_FLIGHT: Final = {"single": (16, 64, 256), "batched": (4, 8, 16)}
WARM_UP: Final = 200


class Worker:
    """What every contender's actor does."""

    def one(self, payload: bytes) -> str:
        """One job."""
        return answer(payload.decode())

    def many(self, payloads: list[bytes]) -> list[str]:
        """Many jobs in one call."""
        return [answer(payload.decode()) for payload in payloads]


async def main(how: str, count: int) -> None:
    """Measure each number in flight, and print the rates."""
    made: Any = ray.remote(Worker)
    actors = [made.options(num_cpus=0.5).remote() for _ in range(ACTORS)]
    owed = list(jobs("job", count))
    payloads = [job.text.encode() for job in owed]
    rates, wrong = {}, []
    for in_flight in IN_FLIGHT[how]:
        await _run(how, actors, payloads[:WARM_UP], in_flight)
        began = time.perf_counter()
        found = await _run(how, actors, payloads, in_flight)
        rates[str(in_flight)] = count / (time.perf_counter() - began)
        wrong += answers(found, owed)
    print(json.dumps({"rates": rates, "wrong": wrong[:100]}), flush=True)


async def _run(how: str, actors: Sequence[Any], payloads: Sequence[bytes], in_flight: int) -> list[str]:
    size = 1 if how == "single" else BATCH
    calls = [payloads[first : first + size] for first in range(0, len(payloads), size)]
    calls.reverse()
    found: list[str] = []

    async def caller(actor: Any) -> None:
        while calls:
            call = calls.pop()
            if how == "single":
                found.append(await actor.one.remote(call[0]))
            else:
                found.extend(await actor.many.remote(call))

    await asyncio.gather(*(caller(actors[number % len(actors)]) for number in range(in_flight)))
    return found


if __name__ == "__main__":
    with own_ray(ACTORS):
        uvloop.run(main(sys.argv[1], int(sys.argv[2])))
