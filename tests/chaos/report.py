"""The report of a run: as JSON for machines, as text for people."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from infra.pool import provenance
from tests.chaos.faults import FAULTS
from tests.chaos.judge import sort_out
from tests.chaos.phase import Outcome
from tests.chaos.world import ACK_WAIT_S

__all__ = ["document", "median_and_worst", "text", "write"]


def document(outcomes: Sequence[Outcome], *, seed: int, seconds: float) -> dict[str, Any]:
    """All of it; the first fields say what matters."""
    broken = [f"{outcome.phase.name}: {what}" for outcome in outcomes for what in outcome.violations]
    gaps = [later - earlier for outcome in outcomes for earlier, later in _starts(outcome)]
    return {
        "seed": seed,
        "verdict": "broken" if broken else "kept",
        "jobs": sum(outcome.accepted for outcome in outcomes),
        **sort_out(broken),
        "faults": {name: counts[name] for name in FAULTS} if (counts := _counts(outcomes)) else {},
        "skipped": _without(outcomes),
        "seconds_between_faults": None
        if not gaps
        else {"least": min(gaps), "median": statistics.median(gaps), "most": max(gaps)},
        "seconds": seconds,
        "ack_wait_s": ACK_WAIT_S,
        "versions": _versions(outcomes),
        "violations": broken,
        "phases": msgspec.to_builtins(list(outcomes)),
    }


def text(report: dict[str, Any]) -> str:
    """Markdown that reads well on a terminal."""
    return "\n".join(_lines(report)) + "\n"


def write(report: dict[str, Any], path: Path) -> None:
    """The JSON at `path`, and the text beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    path.with_suffix(".md").write_text(text(report), encoding="utf-8")


def median_and_worst(seconds: Sequence[float]) -> str:
    """Both, and how many there were."""
    if not seconds:
        return "none was seen"
    return f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s ({len(seconds)})"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"# Chaos, seed {report['seed']}: promises {report['verdict']}"
    yield ""
    yield (
        f"{report['jobs']} jobs accepted, {sum(report['faults'].values())} faults in {report['seconds']:.0f} s: "
        f"{report['lost']} lost, {report['double ends']} double ends, {report['gaps']} gaps, "
        f"{report['other']} other violations."
    )
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield ""
    yield "| fault | struck |"
    yield "|---|---|"
    for name, count in report["faults"].items():
        skipped = f" (skipped: {report['skipped'][name]})" if name in report["skipped"] else ""
        yield f"| {name} | {count}{skipped} |"
    between = report["seconds_between_faults"]
    if between is not None:
        yield ""
        yield (
            f"From one fault to the next: {between['least']:.1f} to {between['most']:.1f} s, "
            f"median {between['median']:.1f} s."
        )
    for phase in report["phases"]:
        yield from _phase(phase)
    if report["violations"]:
        yield ""
        yield "## Violations"
        yield ""
        yield from (f"* {what}" for what in report["violations"][:100])
        if len(report["violations"]) > 100:
            yield f"* … {len(report['violations']) - 100} more in the JSON"


def _phase(phase: dict[str, Any]) -> Iterator[str]:
    plan, seen = phase["phase"], phase["recoveries"]
    servers = "one nats-server" if plan["servers"] == 1 else f"{plan['servers']} nats-servers"
    places = ", ".join({"head": "joined Ray", "local": "own Ray", "none": "no Ray"}[place] for place in plan["places"])
    yield ""
    yield f"## {plan['name']}: {servers}; gateways with {places}"
    yield ""
    yield (
        f"{phase['accepted']} accepted ({phase['published_again']} publishes repeated, {phase['duplicates']} were "
        f"duplicates), {phase['logs']} logs, {phase['events']} events, {phase['executions']} executions, "
        f"{phase['commands']} commands, {len(phase['struck'])} faults."
    )
    yield ""
    yield "Ends: " + ", ".join(f"{name} {count}" for name, count in phase["ends"].items()) + "."
    yield "Restarts: " + ", ".join(f"{name} {count}" for name, count in phase["restarts"].items()) + "."
    quiet = phase["quiet_after_s"]
    yield "Never quiet." if quiet is None else f"Quiet {quiet:.1f} s after the last fault."
    yield f"Gateway killed to the next attempt: {median_and_worst(seen['gateway'])}."
    yield f"Actor killed to its replacement: {median_and_worst(seen['actor'])}."
    yield f"nats-server back to the next attempt: {median_and_worst(seen['server'])}."
    overlaps = phase["overlaps"]
    unexplained = [each for each in overlaps if each["excuse"] is None]
    yield (
        f"Attempts that ran on beside the next one: {median_and_worst([each['seconds'] for each in overlaps])}; "
        f"{len(unexplained)} without a fault that explains it."
    )
    yield from (f"* {each['job']} attempt {each['attempt']}: {each['seconds']:.2f} s" for each in unexplained[:10])


def _counts(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter(struck.fault for outcome in outcomes for struck in outcome.struck if not struck.skipped)


def _without(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Faults that could strike in no world, and why not in the last."""
    everywhere = set.intersection(*(set(outcome.without) for outcome in outcomes)) if outcomes else set()
    return {name: outcomes[-1].without[name] for name in FAULTS if name in everywhere}


def _starts(outcome: Outcome) -> Iterator[tuple[float, float]]:
    starts = [struck.began for struck in outcome.struck]
    return pairwise(starts)


def _versions(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {
        "jetray": provenance.version(),
        "nats-server": next((outcome.nats_server for outcome in outcomes), "unknown"),
        "ray": importlib.metadata.version("ray"),
        "nats-py": importlib.metadata.version("nats-py"),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
