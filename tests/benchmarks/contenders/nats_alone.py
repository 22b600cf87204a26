"""NATS alone: what is left of Jetray without Ray and without job logs."""

from __future__ import annotations

from infra.bus.topology import ConsumerSpec, Topology
from tests.benchmarks.contenders.base import CONSUMER, IN, STREAM, Round, answer_lane, queue
from tests.benchmarks.jobs import jobs
from tests.benchmarks.lane import measure, warm_up
from tests.benchmarks.publisher import Message
from tests.benchmarks.stage import running, stage

__all__ = ["play", "play_grouped"]

WARM_UP = 1_000


async def play(count: int) -> Round:
    """One round, each message for itself."""
    return await _play("single", count)


async def play_grouped(count: int) -> Round:
    """One round, whatever has arrived together published and acknowledged together."""
    return await _play("grouped", count)


async def _play(how: str, count: int) -> Round:
    lane = answer_lane("nats alone", lambda job: Message(IN, job.text.encode()))
    async with stage("nats") as on:
        await queue(on)
        await on.bus.apply(Topology(consumers=(ConsumerSpec(stream=STREAM, name=CONSUMER, subject=IN),)))
        command = ["-m", "tests.benchmarks.contenders.nats_alone_app", on.url, how]
        async with running("nats-alone", command, on.folder) as process:
            await warm_up(on, lane, [process], WARM_UP)
            return Round.of(await measure(on, lane, [process], list(jobs("job", count))))
