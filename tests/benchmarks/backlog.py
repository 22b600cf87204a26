"""How fast a gateway is, and how large, with 1,000 to 1,000,000 jobs queued.

Of every depth the same number of jobs is watched: of a deep queue the first ones, and a shallow one is filled so many
times. Fresh server and fresh gateway for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct

from infra.bus.base import Stored
from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import job, jobs
from tests.benchmarks.lane import Lane, Measured, finished, hold, measure, read, release, warm_up
from tests.benchmarks.machine import Memory
from tests.benchmarks.publisher import fill
from tests.benchmarks.results import Findings, Plan, Target, median
from tests.benchmarks.stage import Process, Stage, stage

__all__ = ["Seen", "backlog", "findings_of", "first_completed"]

DEPTHS: Final = (1_000, 10_000, 100_000, 1_000_000)
NORMAL: Final = 10_000
RATE: Final = 0.85
MEMORY: Final = 1.10
LOOK_S: Final = 0.1


class Seen(Struct, frozen=True):
    """One depth once."""

    per_second: float
    rss_mib: float
    """The most that the gateway took while it was watched."""
    wrong: list[str]


async def backlog(plan: Plan) -> Findings:
    """Each depth in turns."""
    depths = DEPTHS[:2] if plan.quick else DEPTHS
    seen: dict[int, list[Seen]] = {depth: [] for depth in depths}
    for number in range(1, plan.rounds + 1):
        for depth in depths:
            found = await _one(depth, plan.jobs)
            seen[depth].append(found)
            plan.say(f"round {number}, {depth:,} queued: {found.per_second:,.0f} jobs/s, {found.rss_mib:.0f} MiB")
    return findings_of(seen)


async def _one(depth: int, count: int) -> Seen:
    lane = kind_lane("digest")
    async with stage("backlog") as on:
        environment = await prepare(on)
        async with gateway(on, environment) as process:
            await warm_up(on, lane, [process], 500)
            watching = asyncio.Event()
            memory = asyncio.create_task(Memory.watch(process.pid, LOOK_S, watching.is_set))
            try:
                runs = await _watched(on, lane, process, depth, count)
            finally:
                watching.set()
            most = (await memory).most
    rate = sum(run.jobs for run in runs) / sum(run.seconds for run in runs)
    return Seen(rate, most, [what for run in runs for what in run.wrong])


async def _watched(on: Stage, lane: Lane, process: Process, depth: int, count: int) -> list[Measured]:
    if depth > count:
        return [await _head_of(on, lane, process, depth, count)]
    fills = -(-count // depth)
    return [await measure(on, lane, [process], list(jobs(f"fill{number}", depth))) for number in range(fills)]


async def _head_of(on: Stage, lane: Lane, process: Process, depth: int, count: int) -> Measured:
    """The first jobs of a deep queue."""
    await hold(on, lane)
    after = await on.last(lane.results)
    await fill(on.url, map(lane.message, jobs("deep", depth - 1)))
    began = await release(on, lane, job("deep-last"))
    await finished(on, lane, [process], after, count * lane.per_job)
    stored = await read(on, lane.results, after, await on.last(lane.results) - after)
    logs, ended = first_completed(stored, count)
    return Measured(count, ended - began, lane.judge(logs, map(job, dict.fromkeys(map(_id, logs)))))


def first_completed(stored: Sequence[Stored], count: int) -> tuple[list[Stored], float]:
    """The logs of the jobs that completed first, and when the last of them did, in seconds since the epoch."""
    ends = [message for message in stored if ".completed." in message.subject][:count]
    ids = {_id(message) for message in ends}
    return [message for message in stored if _id(message) in ids], ends[-1].time.timestamp()


def _id(message: Stored) -> str:
    return message.subject.rpartition(".")[2]


def findings_of(seen: dict[int, list[Seen]]) -> Findings:
    findings = Findings(table=[("queued", "jobs/s", "MiB", "jobs/s ÷ 10k's", "MiB ÷ 10k's")])
    rates = {depth: median([one.per_second for one in found]) for depth, found in seen.items()}
    sizes = {depth: median([one.rss_mib for one in found]) for depth, found in seen.items()}
    for depth, found in seen.items():
        rate, size = round(rates[depth] / rates[NORMAL], 3), round(sizes[depth] / sizes[NORMAL], 3)
        findings.figures[str(depth)] = _figure(rates[depth], sizes[depth], rate, size, found)
        findings.table.append((f"{depth:,}", f"{rates[depth]:,.0f}", f"{sizes[depth]:.0f}", f"{rate}", f"{size}"))
        findings.wrong += [f"{depth:,} queued: {what}" for one in found for what in one.wrong]
    deepest = max(seen)
    if deepest > NORMAL:
        figure = findings.figures[str(deepest)]
        findings.targets = [
            Target(f"{deepest:,} queued, jobs/s ÷ at 10,000", figure["rate_ratio"], RATE),
            Target(f"{deepest:,} queued, memory ÷ at 10,000", figure["rss_ratio"], MEMORY, at_least=False),
        ]
    return findings


def _figure(rate: float, size: float, rate_ratio: float, rss_ratio: float, found: Iterable[Seen]) -> dict[str, Any]:
    return {
        "per_second": rate,
        "rss_mib": size,
        "rate_ratio": rate_ratio,
        "rss_ratio": rss_ratio,
        "rounds_per_second": [round(one.per_second, 1) for one in found],
        "rounds_rss_mib": [one.rss_mib for one in found],
    }
