"""From a gateway's process to its first job, without Ray: how long whoever develops a kind waits each time."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Final

import msgspec

from contracts import headers as h
from contracts.subjects import EVENTS, WORKERS, event, job
from tests.benchmarks.gateway import gateway, prepare
from tests.benchmarks.kinds import Text
from tests.benchmarks.results import Findings, Plan, Target, median
from tests.benchmarks.stage import Stage, stage

__all__ = ["start"]

STARTS: Final = 10
"""In a round."""
WITHIN_S: Final = 60.0
MOST_S: Final = 1.0
"""What `workers.gateway.started` may take."""


async def start(plan: Plan) -> Findings:
    """`jetray worker` with RAY_ADDRESS=none, one after the other; a job waits for each."""
    started: list[float] = []
    completed: list[float] = []
    async with stage("start") as on:
        environment = {**await prepare(on), "RAY_ADDRESS": "none"}
        for number in range(2 if plan.quick else STARTS * plan.rounds):
            name = f"start-{number}"
            await on.bus.publish(job("digest"), msgspec.json.encode(Text(name)), {h.MSG_ID: name})
            began = time.time()
            async with gateway(on, environment, name):
                started.append(await _stored(on, WORKERS, f"workers.gateway.started.{name}") - began)
                completed.append(await _stored(on, EVENTS, event("digest", "completed", name)) - began)
    figures = {"started_s": median(started, 3), "completed_s": median(completed, 3)}
    plan.say(f"{len(started)} starts without Ray: serves after {figures['started_s']:.3f} s")
    return Findings(
        figures={**figures, "starts_s": [round(seconds, 3) for seconds in started]},
        targets=[Target("start without Ray, seconds", figures["started_s"], MOST_S, at_least=False)],
        table=[
            ("start without Ray, seconds", "median", "slowest"),
            ("it serves", f"{median(started, 3):.3f}", f"{max(started):.3f}"),
            ("its first job has completed", f"{median(completed, 3):.3f}", f"{max(completed):.3f}"),
        ],
    )


async def _stored(on: Stage, stream: str, subject: str) -> float:
    """When the server stored the first message on a subject, waited for."""
    async with asyncio.timeout(WITHIN_S), aclosing(on.bus.follow(stream, subject)) as messages:
        return (await anext(messages)).time.timestamp()
