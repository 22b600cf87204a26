"""Batches of variants: ten thousand of a millisecond, and 64 of a second, each from `started` to `completed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from contracts import events
from contracts import headers as h
from contracts.batch import BatchResult
from contracts.events import Completed, Started
from contracts.subjects import EVENTS, job, job_log
from tests.benchmarks.gateway import gateway, prepare
from tests.benchmarks.results import Findings, Plan, Target, median
from tests.benchmarks.stage import Process, Stage, stage

__all__ = ["batches"]

MANY: Final = 10_000
MANY_ACTORS: Final = 12
PER_SECOND: Final = 1_500.0
WAITS: Final = 64
SLOTS: Final = 16
TIMES_IDEAL: Final = 1.1


async def batches(plan: Plan) -> Findings:
    """Kind `batch` over kind `variant`: an actor runs one variant at a time."""
    many = 500 if plan.quick else MANY
    findings = Findings(table=[("batch", "seconds", "variants/s")])
    rates: list[float] = []
    for number in range(1, plan.rounds + 1):
        async with stage("batches") as on:
            environment = await prepare(on, actors=MANY_ACTORS, concurrency=1)
            async with gateway(on, environment) as process:
                await _run(on, process, "warm", "benchmarks.wait", 50, 0.001)
                seconds = await _run(on, process, "many", "benchmarks.wait", many, 0.001)
        rates.append(round(many / seconds, 1))
        plan.say(f"round {number}, {many} variants of 1 ms: {seconds:.2f} s, {rates[-1]:.0f}/s")
    async with stage("batches") as on:
        environment = await prepare(on, actors=SLOTS, concurrency=1)
        async with gateway(on, environment) as process:
            await _run(on, process, "warm", "benchmarks.wait", 64, 0.1)
            waited = await _run(on, process, "waits", "benchmarks.wait", WAITS, 1.0)
    ideal = WAITS / SLOTS
    plan.say(f"{WAITS} variants of 1 s on {SLOTS} slots: {waited:.2f} s, {waited / ideal:.3f} times the ideal")
    findings.figures = {"variants_per_second": rates, "waits_s": round(waited, 3), "waits_ideal_s": ideal}
    findings.targets.append(Target("10,000 variants of 1 ms, per second", median(rates), PER_SECOND))
    findings.targets.append(
        Target("64 variants of 1 s on 16 slots, share of the ideal", ideal / waited, 1 / TIMES_IDEAL)
    )
    findings.table.append((f"{many} variants of 1 ms", f"{many / median(rates):.2f}", f"{median(rates):.0f}"))
    findings.table.append((f"{WAITS} variants of 1 s on {SLOTS} slots", f"{waited:.2f}", f"{WAITS / waited:.1f}"))
    return findings


async def _run(on: Stage, process: Process, batch_id: str, workflow: str, count: int, seconds: float) -> float:
    """Seconds from the batch's `started` to its `completed`; raises where not all variants completed."""
    variants = [{"name": f"v{number}", "parameters": {"seconds": seconds}} for number in range(count)]
    asked: Mapping[str, Any] = {"batch_id": batch_id, "workflow": workflow, "variants": variants}
    await on.bus.publish(job("batch"), msgspec.json.encode(asked), {h.MSG_ID: f"batch.{batch_id}.1"})
    began = None
    async for message in on.bus.follow(EVENTS, job_log("batch", batch_id)):
        process.check()
        match events.decode(message.body):
            case Started() as event:
                began = event.time
            case Completed() as event:
                assert began is not None
                _check(await _result(on, event), count)
                return (event.time - began).total_seconds()
            case event if events.is_terminal(event):
                raise AssertionError(f"batch {batch_id}: {event}")
    raise AssertionError("a follower does not end by itself")


async def _result(on: Stage, event: Completed) -> BatchResult | None:
    try:
        return msgspec.json.decode(event.result, type=BatchResult)
    except msgspec.ValidationError:
        return None


def _check(result: BatchResult | None, count: int) -> None:
    if result is not None and result.counts["completed"] != count:
        raise AssertionError(f"{result.counts} of {count} variants")
