"""Full streams on a real server: nothing is acknowledged, it is said, and it goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contracts import subjects
from contracts.events import Completed, Failed
from infra.bus import embedded
from infra.bus.base import StreamFull
from infra.bus.nats import NatsBus, connect
from infra.bus.topology import StreamSpec, Topology
from tests.checker import logs, read_all, violations
from tests.integration.outage import LEASE_S, count, said, stack_on

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

JOBS = 30


async def messages(bus: NatsBus, stream: str) -> int:
    """How many messages a stream holds."""
    return int((await bus.api(f"STREAM.INFO.{stream}", None))["state"]["messages"])


async def resize(bus: NatsBus, stream: str, max_bytes: int) -> None:
    """What `jetray apply` does after the setting was raised."""
    config: dict[str, Any] = (await bus.api(f"STREAM.INFO.{stream}", None))["config"]
    await bus.api(f"STREAM.UPDATE.{stream}", {**config, "max_bytes": max_bytes})


@pytest.mark.proof
async def test_events_full(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        log = tmp_path / "log"
        await jetray.gateway(log=log, JETRAY_STREAMS_EVENTS_MAX_BYTES="30000")
        for number in range(JOBS):
            await jetray.publish("jobs.echo", f'{{"id":"J{number}","padding":2000}}')
        applied = await said(jetray.bus, "workers.backpressure.applied.gw-1")
        assert applied["reason"] == "events_full"
        await asyncio.sleep(LEASE_S)
        before = await jetray.bus.consumer(subjects.JOBS, "echo")
        await asyncio.sleep(2 * LEASE_S)
        found = await logs(jetray.bus)
        completed = sum(isinstance(log[-1], Completed) for log in found.values())
        assert 0 < completed < JOBS
        assert await messages(jetray.bus, subjects.JOBS) >= JOBS - completed, "nothing but what has ended is settled"
        lane = await jetray.bus.consumer(subjects.JOBS, "echo")
        assert lane.redelivered == 0, "what is in hand is renewed"
        assert lane.unacknowledged == before.unacknowledged > 0, "and nothing is pulled"
        assert count(log, "EVENTS is full") == 1
        await resize(jetray.bus, subjects.EVENTS, 10_000_000)
        for number in range(JOBS):
            assert isinstance(await jetray.end("echo", f"J{number}"), Completed)
        kinds = {"batch", "deliberation", "echo", "group", "patient", "plan", "variant"}
        released = await said(jetray.bus, "workers.backpressure.released.gw-1", times=len(kinds))
        assert released["lasted_ms"] >= 3_000 * LEASE_S
        told = await read_all(jetray.bus, subjects.WORKERS, "workers.backpressure.*.gw-1")
        assert len(told) == 2 * len(kinds), "once each"
        assert violations(await logs(jetray.bus)) == []


async def test_a_server_whose_disk_is_full_is_full_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = embedded._config
    small = "jetstream { max_file_store: 100KB, "
    monkeypatch.setattr(embedded, "_config", lambda *given: usual(*given).replace("jetstream {", small))
    async with embedded.nats_server(tmp_path) as server, connect(server.url, name="test") as bus:
        await bus.apply(Topology(streams=(StreamSpec(name="EVENTS", subjects=("events.*",), discard="new"),)))

        async def fill() -> None:
            for _ in range(100):
                await bus.publish("events.a", b"x" * 2_000)

        with pytest.raises(StreamFull) as full:
            await fill()
        assert full.value.err_code == 10023


@pytest.mark.proof
async def test_dlq_full(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        log = tmp_path / "log"
        await jetray.gateway(log=log, JETRAY_STREAMS_DLQ_MAX_BYTES="3000")
        for _ in range(6):
            await jetray.publish("jobs.patient", "nonsense" + "x" * 1000)
        applied = await said(jetray.bus, "workers.backpressure.applied.gw-1")
        assert (applied["reason"], applied["kind"]) == ("dlq_full", "patient")
        for number in range(5):
            await jetray.publish("jobs.echo", f'{{"id":"J{number}"}}')
            assert isinstance(await jetray.end("echo", f"J{number}"), Completed), "other kinds go on"
        buried = await messages(jetray.bus, subjects.DLQ)
        assert 0 < buried < 6
        assert (await jetray.bus.consumer(subjects.JOBS, "patient")).depth == 6 - buried
        await asyncio.sleep(2 * LEASE_S)
        assert (await jetray.bus.consumer(subjects.JOBS, "patient")).redelivered == 0
        for _ in range(3):
            await jetray.bus.api("STREAM.PURGE.DLQ", None)
            await asyncio.sleep(LEASE_S)
        for sequence in range(1, 7):
            assert isinstance(await jetray.end("patient", f"JOBS-{sequence}"), Failed)
        await said(jetray.bus, "workers.backpressure.released.gw-1")
        assert count(log, "DLQ is full") <= 3
        assert violations(await logs(jetray.bus)) == []
