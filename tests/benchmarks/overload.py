"""Ten times what a kind can do, for a minute: what publishers are told, what is said, and the gateway's memory.

A kind of 500 jobs a second, a gateway as a process of its own, a real nats-server, and a publisher of 5,000 a second.
Then everything that was acknowledged must have ended.

    python -m tests.benchmarks.overload [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts import subjects
from tests.benchmarks.machine import rss_mib
from tests.checker import read_all
from tests.integration.overload import PER_SECOND, prepare, publish_for
from tests.integration.stack import Stack, stack

LIMIT: Final = 10_000
"""Messages that wait for the kind before publishers are refused."""
LOOK_S: Final = 1.0
PATIENCE_S: Final = 300.0


async def main(seconds: float) -> dict[str, Any]:
    """Measure; the figures, with what is wrong among them."""
    with tempfile.TemporaryDirectory(prefix="jetray-overload-") as folder:
        prepare(Path(folder), limit=LIMIT, high=1_000, low=250)
        async with stack(Path(folder)) as jetray:
            process = await jetray.gateway(log=Path(folder, "log"))
            memory: list[float] = []
            watch = asyncio.create_task(_watch(process.pid, memory))
            try:
                published = await publish_for(jetray.bus, seconds, 10 * PER_SECOND, prefix="J")
                depth = (await jetray.bus.consumer(subjects.JOBS, "brake")).depth
                took = await _all_end(jetray)
            finally:
                watch.cancel()
            told = await _told(jetray)
            found = await read_all(jetray.bus, subjects.EVENTS, "orchestration.brake.completed.*")
    ended = {message.subject.rpartition(".")[2] for message in found}
    third = max(1, len(memory) // 3)
    return {
        "published": published.tried,
        "published_per_second": round(published.tried / seconds),
        "acknowledged": len(published.accepted),
        "refused_10077": published.refused,
        "neither": len(published.other),
        "acknowledged_and_not_completed": len(published.accepted - ended),
        "depth_when_publishing_ended": depth,
        "seconds_until_all_had_ended": round(took, 1),
        "said": [body["event"].partition(".")[2] for body in told],
        "depths_said": [body["depth"] for body in told],
        "rss_mib_first_third": round(statistics.median(memory[:third]), 1),
        "rss_mib_last_third": round(statistics.median(memory[-third:]), 1),
        "rss_mib_most": round(max(memory), 1),
    }


async def _watch(pid: int, memory: list[float]) -> None:
    while True:
        memory.append(rss_mib(pid))
        await asyncio.sleep(LOOK_S)


async def _all_end(jetray: Stack) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(PATIENCE_S):
        while (await jetray.bus.consumer(subjects.JOBS, "brake")).depth or len(await _told(jetray)) % 2:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    return loop.time() - began


async def _told(jetray: Stack) -> list[dict[str, Any]]:
    found = await read_all(jetray.bus, subjects.WORKERS, "workers.backpressure.*.gw-1")
    return [msgspec.json.decode(message.body) for message in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overload")
    parser.add_argument("--seconds", type=float, default=60.0)
    figures = asyncio.run(main(parser.parse_args().seconds))
    print(json.dumps(figures, indent=2))
    broken = figures["neither"] or figures["acknowledged_and_not_completed"]
    sys.exit(1 if broken or figures["said"] != ["applied", "released"] else 0)
