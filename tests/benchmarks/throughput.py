"""Short jobs, publish excluded: Jetray beside all others, in turns."""

from __future__ import annotations

import importlib.util
import statistics
from typing import Any, Final

from tests.benchmarks.contenders import (
    celery_redis,
    faststream,
    jetray,
    nats_alone,
    raw_ray,
    taskiq_nats,
)
from tests.benchmarks.contenders.base import Absent, Contender, Round
from tests.benchmarks.lane import Stalled
from tests.benchmarks.publisher import Unacknowledged
from tests.benchmarks.results import Findings, Plan, Target, median
from tests.benchmarks.stage import Ended

__all__ = ["CONTENDERS", "compare", "missing", "throughput"]

CONTENDERS: Final = (
    Contender("jetray", "Jetray", jetray.play),
    Contender("raw_ray", "raw Ray", raw_ray.play, share=0.25, floor=3.0),
    Contender("raw_ray_batched", "raw Ray, 64 jobs a call", raw_ray.play_batched, share=2.0),
    Contender("nats_alone", "NATS alone", nats_alone.play, share=2.0, floor=0.27),
    Contender("nats_alone_grouped", "NATS alone, in groups", nats_alone.play_grouped, share=4.0),
    Contender("taskiq_nats", "taskiq-nats", taskiq_nats.play, share=0.5, package="taskiq_nats", floor=2.2),
    Contender("faststream", "FastStream", faststream.play, share=0.5, package="faststream", floor=1.7),
    Contender("celery_redis", "Celery on Redis", celery_redis.play, share=0.1, package="celery", floor=10.0),
)

LEAST: Final = 300
"""Jobs of a round: with fewer, only beginning and end would be seen."""


async def throughput(plan: Plan) -> Findings:
    """Rounds of each in turns, medians, and Jetray's as multiples of the others'."""
    rounds: dict[str, list[Round]] = {}
    wrong: list[str] = []
    wanted = [contender for contender in CONTENDERS if not plan.only or contender.name in plan.only]
    absent = {contender.name: why for contender in wanted if (why := missing(contender))}
    for number in range(1, plan.rounds + 1):
        for contender in (each for each in wanted if each.name not in absent):
            try:
                played = await contender.play(max(LEAST, round(plan.jobs * contender.share)))
            except Absent as error:
                absent[contender.name] = str(error)
            except (Ended, Stalled, Unacknowledged) as error:
                wrong.append(f"{contender.title}: {error}")
            else:
                rounds.setdefault(contender.name, []).append(played)
                wrong += [f"{contender.title}, round {number}: {what}" for what in played.wrong]
                plan.say(f"round {number}, {contender.title}: {played.per_second:,.0f} jobs/s")
    findings = compare(rounds, absent)
    findings.wrong += wrong
    return findings


def missing(contender: Contender) -> str:
    """What of a contender is not installed, in words; empty where nothing."""
    if not contender.package or importlib.util.find_spec(contender.package) is not None:
        return ""
    return f"{contender.package} is not installed; `make bench` does it"


def compare(rounds: dict[str, list[Round]], absent: dict[str, str]) -> Findings:
    """Medians, ratios and targets."""
    findings = Findings(table=[("contender", "jobs/s", "rounds", "Jetray ÷ it", "floor", "")])
    ours = statistics.median(played.per_second for played in rounds["jetray"]) if "jetray" in rounds else None
    for contender in CONTENDERS:
        if contender.name in absent:
            findings.figures[contender.name] = {"absent": absent[contender.name]}
            findings.table.append((contender.title, "-", absent[contender.name], "", "", "skipped"))
        elif contender.name in rounds:
            _add(findings, contender, rounds[contender.name], ours)
    return findings


def _add(findings: Findings, contender: Contender, rounds: list[Round], ours: float | None) -> None:
    rates = [played.per_second for played in rounds]
    figure: dict[str, Any] = {
        "title": contender.title,
        "jobs": rounds[0].jobs,
        "rounds_per_second": [round(rate, 1) for rate in rates],
        "per_second": median(rates),
        "variants": [played.detail for played in rounds if played.detail],
    }
    ratio = word = ""
    if ours is not None and contender.name != "jetray":
        figure["jetray_ratio"] = round(ours / statistics.median(rates), 3)
        ratio = f"{figure['jetray_ratio']:.3g}"
        if contender.floor is not None:
            target = Target(f"throughput, Jetray ÷ {contender.title}", figure["jetray_ratio"], contender.floor)
            findings.targets.append(target)
            word = "met" if target.met else "MISSED"
    findings.figures[contender.name] = figure
    spread = ", ".join(f"{rate:,.0f}" for rate in rates)
    floor = "" if contender.floor is None else f"{contender.floor:g}"
    findings.table.append((contender.title, f"{figure['per_second']:,.0f}", spread, ratio, floor, word))
