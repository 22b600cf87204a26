"""Two gateways that know nothing of one another, on one durable: every job once, and how fast beside one."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Final

from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import jobs
from tests.benchmarks.lane import Lane, Measured, measure, read, warm_up
from tests.benchmarks.results import Findings, Plan, median
from tests.benchmarks.stage import Process, Stage, stage

__all__ = ["two"]

WARM_UP: Final = 300
NAMES: Final = ("bench-1", "bench-2")


async def two(plan: Plan) -> Findings:
    """One and two, in turns; each gateway has two actors on a Ray of its own, and all share the machine."""
    findings = Findings(table=[("gateways", "jobs/s", "rounds")])
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(1, plan.rounds + 1):
        for gateways, found in rates.items():
            measured = await _one(NAMES[:gateways], plan.jobs)
            found.append(round(measured.per_second, 1))
            findings.wrong += [f"{gateways} gateways, round {number}: {what}" for what in measured.wrong]
            plan.say(f"round {number}, gateways: {gateways}: {found[-1]:,.0f} jobs/s")
    for gateways, found in rates.items():
        findings.figures[f"gateways_{gateways}"] = {"rounds_per_second": found, "per_second": median(found)}
        findings.table.append((f"{gateways}", f"{median(found):,.0f}", ", ".join(f"{rate:,.0f}" for rate in found)))
    findings.figures["ratio"] = round(median(rates[2]) / median(rates[1]), 3)
    return findings


async def _one(names: tuple[str, ...], count: int) -> Measured:
    lane = kind_lane("digest")
    async with stage("two") as on, AsyncExitStack() as stack:
        environment = await prepare(on)
        processes = [await stack.enter_async_context(gateway(on, environment, name)) for name in names]
        await _until_all_work(on, lane, processes)
        return await measure(on, lane, processes, list(jobs("job", count)))


async def _until_all_work(on: Stage, lane: Lane, processes: list[Process]) -> None:
    """Each of them has done some of the jobs."""
    seen: set[str] = set()
    while len(seen) < len(processes):
        after = await on.last(lane.results)
        await warm_up(on, lane, processes, WARM_UP)
        stored = await read(on, lane.results, after, WARM_UP * lane.per_job)
        seen = {json.loads(message.body)["gateway"] for message in stored}
