"""Jobs that wait 100 ms each on 16 slots: how much of 160 a second is reached."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import jobs
from tests.benchmarks.kinds import NAP_S
from tests.benchmarks.lane import measure, warm_up
from tests.benchmarks.results import Findings, Plan, Target, median
from tests.benchmarks.stage import stage

__all__ = ["long"]

ACTORS: Final = 2
CONCURRENCY: Final = 8
JOBS: Final = 2_400
"""15 seconds at best."""
SHARE: Final = 0.95


async def long(plan: Plan) -> Findings:
    """An async kind, 8 jobs an actor; a sync one would need 16 actors, and so 16 interpreters."""
    count = 320 if plan.quick else JOBS
    ideal = ACTORS * CONCURRENCY / NAP_S
    findings = Findings(table=[("100 ms on 16 slots", "jobs/s", "ideal", "share")])
    lane, rates = kind_lane("nap"), []
    for number in range(1, plan.rounds + 1):
        async with stage("long") as on:
            environment = await prepare(on, actors=ACTORS, concurrency=CONCURRENCY)
            async with gateway(on, environment) as process:
                await warm_up(on, lane, [process], 100)
                measured = await measure(on, lane, [process], list(jobs("job", count)))
        rates.append(round(measured.per_second, 1))
        findings.wrong += [f"long, round {number}: {what}" for what in measured.wrong]
        plan.say(f"round {number}, long jobs: {rates[-1]:.1f}/s of {ideal:.0f}")
    share = round(median(rates, 3) / ideal, 3)
    findings.figures = {"rounds_per_second": rates, "per_second": median(rates), "ideal": ideal, "share": share}
    findings.targets.append(Target("100 ms jobs on 16 slots, share of the ideal", share, SHARE))
    findings.table.append(("async kind", f"{median(rates):.1f}", f"{ideal:.0f}", f"{share:.3f}"))
    return findings
