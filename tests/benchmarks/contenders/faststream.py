"""FastStream on JetStream: one process that consumes and publishes."""

from __future__ import annotations

from tests.benchmarks.contenders.base import IN, Round, answer_lane, queue
from tests.benchmarks.jobs import jobs
from tests.benchmarks.lane import measure, warm_up
from tests.benchmarks.publisher import Message
from tests.benchmarks.stage import running, stage

__all__ = ["play"]

WARM_UP = 500


async def play(count: int) -> Round:
    """One round."""
    lane = answer_lane("faststream", lambda job: Message(IN, job.text.encode(), {"content-type": "text/plain"}))
    async with stage("faststream") as on:
        await queue(on)
        command = ["-m", "tests.benchmarks.contenders.faststream_app"]
        async with running("faststream", command, on.folder, {"NATS_URL": on.url}) as process:
            await warm_up(on, lane, [process], WARM_UP)
            return Round.of(await measure(on, lane, [process], list(jobs("job", count))))
