"""Jetray: `jetray worker` with two actors on a Ray of its own, whole job logs."""

from __future__ import annotations

from tests.benchmarks.contenders.base import Round
from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import jobs
from tests.benchmarks.lane import measure, warm_up
from tests.benchmarks.stage import stage

__all__ = ["play"]

WARM_UP = 500


async def play(count: int) -> Round:
    """One round."""
    lane = kind_lane("digest")
    async with stage("jetray") as on:
        environment = await prepare(on)
        async with gateway(on, environment) as process:
            await warm_up(on, lane, [process], WARM_UP)
            return Round.of(await measure(on, lane, [process], list(jobs("job", count))))
