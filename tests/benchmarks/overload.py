"""A kind that can do 500 jobs a second, and a publisher of ten times that for a minute.

Every publish is acknowledged or refused with 10077; whatever was acknowledged ends; pressure is applied once and
released once; the gateway's memory stays flat.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Final

from msgspec import Struct

from contracts.subjects import WORKERS
from infra.bus.nats.answers import STREAM_FULL
from tests.benchmarks.contenders.base import last_line
from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import job
from tests.benchmarks.lane import Lane, finished, read, warm_up
from tests.benchmarks.machine import Memory
from tests.benchmarks.results import Findings, Plan, Target
from tests.benchmarks.stage import Process, Stage, running, stage

__all__ = ["Episode", "overload", "pressure", "refusals"]

KIND: Final = "paced"
CAPACITY: Final = 500
TIMES: Final = 10
SECONDS: Final = 60.0
QUEUE: Final = 10_000
"""What `streams.jobs_per_kind` is here: small, so that the queue is full soon, and what is in it ends soon."""
FLAT: Final = 1.10
WARM_UPS: Final = 4
"""So many that memory, which grows while a process begins to work, is what it is at work."""
WARM_UP: Final = 500
"""Jobs of each; fewer than the high watermark, since only the overload is to be an episode."""
RELEASED_S: Final = 30.0
LOOK_S: Final = 1.0
HEAD: Final = ("overload", "sent/s", "accepted", "refused", "applied", "released", "MiB first, last, most")


class Episode(Struct, frozen=True):
    """One overload, from the first publish to the last end."""

    sent: int
    per_second: float
    accepted: int
    refused: dict[str, int]
    """Error code to count."""
    applied: int
    released: int
    memory: Memory
    wrong: list[str]


async def overload(plan: Plan) -> Findings:
    """One episode a round."""
    seconds = 5.0 if plan.quick else SECONDS
    findings = Findings(
        table=[("overload", "sent/s", "accepted", "refused", "applied", "released", "MiB first, last, most")]
    )
    for number in range(1, (1 if plan.quick else plan.rounds) + 1):
        episode = await _episode(seconds)
        _add(findings, number, episode)
        plan.say(f"round {number}, overload: {episode.accepted:,} of {episode.sent:,} accepted, all of them ended")
    return findings


def refusals(refused: dict[str, int]) -> list[str]:
    """What is wrong with how publishes were refused."""
    full = {str(code) for code in STREAM_FULL}
    return [f"{count} publishes were refused with {code}" for code, count in refused.items() if code not in full]


async def _episode(seconds: float) -> Episode:
    lane = kind_lane(KIND)
    async with stage("overload") as on:
        environment = await prepare(on, actors=2, concurrency=8, jobs_per_kind=QUEUE)
        async with gateway(on, environment) as process:
            for _ in range(WARM_UPS):
                await warm_up(on, lane, [process], WARM_UP)
            after = await on.last(lane.results)
            over = asyncio.Event()
            watch = asyncio.create_task(Memory.watch(process.pid, LOOK_S, over.is_set))
            try:
                said = await _publish(on, seconds)
                count = len(said["accepted"]) * lane.per_job
                await finished(on, lane, [process], after, count)
                applied, released = await pressure(on)
            finally:
                over.set()
            wrong = await _judge(on, lane, after, said["accepted"], process)
            return Episode(
                sent=said["sent"],
                per_second=round(said["sent"] / said["seconds"], 1),
                accepted=len(said["accepted"]),
                refused=said["refused"],
                applied=applied,
                released=released,
                memory=await watch,
                wrong=refusals(said["refused"]) + wrong,
            )


async def _publish(on: Stage, seconds: float) -> dict[str, Any]:
    command = ["-m", "tests.benchmarks.overload_client", on.url, KIND, str(CAPACITY * TIMES), str(seconds)]
    async with running("publisher", command, on.folder) as publisher:
        return await last_line(publisher)


async def _judge(on: Stage, lane: Lane, after: int, accepted: list[int], process: Process) -> list[str]:
    process.check()
    stored = await read(on, lane.results, after, await on.last(lane.results) - after)
    return lane.judge(stored, [job(f"over-{number}") for number in accepted])


async def pressure(on: Stage) -> tuple[int, int]:
    """How often it was applied and released, once it is off again or a while after the last end."""
    counts: Counter[str] = Counter()
    for _ in range(round(RELEASED_S / LOOK_S)):
        events = await read(on, WORKERS, 0, await on.last(WORKERS))
        bodies = [json.loads(event.body) for event in events if event.subject.startswith("workers.backpressure.")]
        counts = Counter(
            body["event"] for body in bodies if body["kind"] == KIND and body.get("reason", "depth") == "depth"
        )
        if counts["backpressure.released"]:
            break
        await asyncio.sleep(LOOK_S)
    return counts["backpressure.applied"], counts["backpressure.released"]


def _add(findings: Findings, number: int, episode: Episode) -> None:
    refused, memory = sum(episode.refused.values()), episode.memory
    findings.figures[f"round_{number}"] = {
        "sent": episode.sent,
        "sent_per_second": episode.per_second,
        "accepted": episode.accepted,
        "refused": episode.refused,
        "applied": episode.applied,
        "released": episode.released,
        "rss_mib": {"first": memory.first, "last": memory.last, "most": memory.most, "each_second": memory.seen},
    }
    sizes = f"{memory.first:.0f}, {memory.last:.0f}, {memory.most:.0f}"
    shown = (
        f"{episode.per_second:,.0f}",
        f"{episode.accepted:,}",
        f"{refused:,}",
        f"{episode.applied}",
        f"{episode.released}",
    )
    findings.table.append((f"round {number}", *shown, sizes))
    findings.wrong += [f"overload, round {number}: {what}" for what in episode.wrong]
    once = 1.0 if (episode.applied, episode.released) == (1, 1) else 0.0
    heard = (episode.accepted + refused) / episode.sent
    findings.targets += [
        Target(f"overload {number}, publishes acknowledged or refused", heard, 1.0),
        Target(f"overload {number}, applied and released once each", once, 1.0),
        Target(f"overload {number}, memory ÷ at its begin", round(memory.most / memory.first, 3), FLAT, at_least=False),
    ]
