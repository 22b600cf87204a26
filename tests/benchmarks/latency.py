"""From publish to result, as a client sees it: Jetray beside the bare loop, on one nats-server, in turns.

Alone: the next job is published when the result of the one before has come. At 50 a second: jobs are published evenly.
The gateway, the bare loop and the client are processes of their own; each of the two has a Ray of its own.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from contracts.subjects import job as job_subject
from contracts.subjects import live
from infra.bus.topology import ConsumerSpec, Topology
from tests.benchmarks.client import Taken, Turn
from tests.benchmarks.contenders.base import CONSUMER, IN, OUT, STREAM, answer_lane, queue
from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.lane import warm_up
from tests.benchmarks.publisher import Message
from tests.benchmarks.results import Findings, Plan, Target, median, percentile
from tests.benchmarks.stage import RAY_FOLDER, ROOT, Stage, running, short_folder, stage

__all__ = ["findings_of", "latency"]

PER_SECOND: Final = 50.0
JOBS: Final = 500
"""In a turn."""
WARM_UP: Final = 100
MOST: Final = 1.5
"""What Jetray's median alone may be, in multiples of the bare loop's."""
PATHS: Final = {"alone": 0.0, "at_50_per_second": PER_SECOND}

Take = Callable[[Turn], Awaitable[Taken]]


async def latency(plan: Plan) -> Findings:
    """Turns of both, alone and at 50 a second."""
    turns = {
        "jetray": Turn(job_subject("digest"), live("digest", "completed"), "json", "", 0, 0.0),
        "bare": Turn(IN, OUT, "text", "", 0, 0.0),
    }
    jobs = 50 if plan.quick else JOBS
    taken: dict[tuple[str, str], list[Taken]] = {}
    async with _both() as on, _client(on) as take:
        for number in range(1, plan.rounds + 1):
            for path, per_second in PATHS.items():
                for name, turn in turns.items():
                    ids = f"{path}-{number}"
                    asked = msgspec.structs.replace(turn, prefix=ids, jobs=jobs, per_second=per_second)
                    taken.setdefault((path, name), []).append(await take(asked))
            plan.say(f"round {number}, latency: {jobs} jobs alone and at {PER_SECOND:.0f}/s, both")
    return findings_of(taken)


def findings_of(taken: dict[tuple[str, str], list[Taken]]) -> Findings:
    findings = Findings(table=[("latency, ms", "p50", "p99", "p50 ÷ bare")])
    for (path, name), turns in taken.items():
        findings.wrong += [f"latency, {name}, {path}: {what}" for turn in turns for what in turn.wrong]
        measured = [turn.milliseconds for turn in turns if turn.milliseconds]
        if measured:
            findings.figures.setdefault(path, {})[name] = _figure(measured)
    for path, figures in findings.figures.items():
        ratio = None
        if len(figures) == 2:
            ratio = round(figures["jetray"]["p50_ms"] / figures["bare"]["p50_ms"], 2)
            figures["ratio_p50"] = ratio
        for name in ("jetray", "bare"):
            if name in figures:
                shown = f"{ratio}" if name == "jetray" and ratio is not None else ""
                row = (f"{name}, {path.replace('_', ' ')}", f"{figures[name]['p50_ms']}", f"{figures[name]['p99_ms']}")
                findings.table.append((*row, shown))
    if "ratio_p50" in findings.figures.get("alone", {}):
        value = findings.figures["alone"]["ratio_p50"]
        findings.targets.append(Target("latency alone, p50 ÷ bare loop", value, MOST, at_least=False))
    return findings


def _figure(turns: list[list[float]]) -> dict[str, Any]:
    """Of each turn its percentiles, and of these the medians."""
    p50 = [round(percentile(turn, 50), 3) for turn in turns]
    p99 = [round(percentile(turn, 99), 3) for turn in turns]
    return {"p50_ms": median(p50, 3), "p99_ms": median(p99, 3), "rounds_p50_ms": p50, "rounds_p99_ms": p99}


@asynccontextmanager
async def _both() -> AsyncIterator[Stage]:
    """The gateway and the bare loop on one nats-server, warm and idle."""
    async with stage("latency") as on:
        environment = await prepare(on)
        await queue(on)
        await on.bus.apply(Topology(consumers=(ConsumerSpec(stream=STREAM, name=CONSUMER, subject=IN),)))
        bare_lane = answer_lane("bare loop", lambda job: Message(IN, job.text.encode()))
        command = ["-m", "tests.benchmarks.contenders.bare_app", on.url]
        with short_folder() as folder:
            own = {RAY_FOLDER: str(folder)}
            async with gateway(on, environment) as ours, running("bare", command, on.folder, own) as bare:
                await warm_up(on, kind_lane("digest"), [ours], WARM_UP)
                await warm_up(on, bare_lane, [bare], WARM_UP)
                yield on


@asynccontextmanager
async def _client(on: Stage) -> AsyncIterator[Take]:
    command = (sys.executable, "-m", "tests.benchmarks.client", on.url)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    sending, reading = process.stdin, process.stdout

    async def take(turn: Turn) -> Taken:
        sending.write(msgspec.json.encode(turn) + b"\n")
        return msgspec.json.decode(await reading.readline(), type=Taken)

    try:
        yield take
    finally:
        sending.close()
        await process.wait()
