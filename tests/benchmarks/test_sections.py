"""What sections make of what they saw."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from contracts.fleet import BackpressureApplied, BackpressureReleased
from infra.bus.topology import StreamSpec, Topology
from tests.benchmarks import backlog, latency
from tests.benchmarks.backlog import Seen
from tests.benchmarks.client import Taken
from tests.benchmarks.overload import pressure
from tests.benchmarks.stage import stage

WRONG = "job deep-1: its log has 3 events"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_deep_backlog_is_judged_by_the_normal_one():
    found = backlog.findings_of(
        {
            10_000: [Seen(8_000, 140, []), Seen(8_100, 139, []), Seen(2_000, 150, [])],
            1_000_000: [
                Seen(6_000, 141, []),
                Seen(6_400, 160, ["job deep-1: its log has 3 events"]),
                Seen(7_000, 161, []),
            ],
        }
    )
    assert found.figures["1000000"]["rate_ratio"] == 0.8
    assert found.figures["1000000"]["rss_ratio"] == 1.143
    assert [target.met for target in found.targets] == [False, False]
    assert found.wrong == [f"1,000,000 queued: {WRONG}"]


def test_without_a_deep_backlog_nothing_is_met():
    assert backlog.findings_of({10_000: [Seen(8_000, 140, [])]}).targets == []


@pytest.mark.parametrize(("jetray", "met"), [(2.9, True), (3.1, False)])
def test_latency_alone_is_judged_by_the_bare_loop(jetray, met):
    taken = {
        ("alone", "jetray"): [Taken([jetray] * 100, [])],
        ("alone", "bare"): [Taken([2.0] * 99 + [50.0], [])],
        ("at_50_per_second", "jetray"): [Taken([9.0] * 100, [])],
        ("at_50_per_second", "bare"): [Taken([3.0] * 100, [])],
    }
    found = latency.findings_of(taken)
    assert found.figures["alone"]["bare"]["p50_ms"] == found.figures["alone"]["bare"]["p99_ms"] == 2.0
    assert found.figures["at_50_per_second"]["ratio_p50"] == 3.0
    assert [target.met for target in found.targets] == [met]


def test_a_turn_that_went_wrong_is_told_and_not_counted():
    taken = {
        ("alone", "jetray"): [Taken([], ["3 of 100 results within 30 s"]), Taken([3.0] * 100, [])],
        ("alone", "bare"): [Taken([2.0] * 100, [])],
    }
    found = latency.findings_of(taken)
    assert found.wrong == ["latency, jetray, alone: 3 of 100 results within 30 s"]
    assert found.figures["alone"]["jetray"]["rounds_p50_ms"] == [3.0]


@pytest.mark.server
@pytest.mark.asyncio
async def test_pressure_is_counted_for_the_kind_that_is_overloaded():
    applied = BackpressureApplied(gateway="bench-1", time=NOW, kind="paced", depth=9, high=5, actors=2, reason="depth")
    released = BackpressureReleased(gateway="bench-1", time=NOW, kind="paced", depth=0, low=1, lasted_ms=9, completed=9)
    other = msgspec.structs.replace(applied, kind="digest")
    async with stage("test") as on:
        await on.bus.apply(Topology(streams=(StreamSpec(name="WORKERS", subjects=("workers.*.*.*",)),)))
        for event in (applied, other, applied, released):
            topic, name = event.words()
            await on.bus.publish(f"workers.{topic}.{name}.bench-1", msgspec.json.encode(event))
        await on.bus.publish("workers.gateway.started.bench-1", b"{}")
        assert await pressure(on) == (2, 1)
