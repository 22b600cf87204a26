"""SIGTERM on real parts: twice, without a server, while Ray starts, and with a batch in hand."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from contracts.events import Completed, Started
from tests.checker import logs, violations
from tests.integration.outage import count, said, stack_on, until
from tests.launcher.processes import descendants, gone

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def test_a_second_signal_ends_it_at_once_and_nothing_is_settled(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(log=log, JETRAY_GATEWAY_GRACE_S="600")
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "progress")
        below = descendants(gateway.pid)
        assert below
        gateway.send_signal(signal.SIGTERM)
        await until(log, "draining (SIGTERM)")
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await gateway.wait() == 1
        await gone(below)
        assert count(log, "SIGTERM while draining: left at once; what was in hand comes back") == 1
        assert count(log, "Traceback") == 0
        (tmp_path / "J1").touch()
        await jetray.gateway("gw-2")
        end = await jetray.end("patient", "J1")
        assert isinstance(end, Completed)
        assert end.attempt == 2, "as after a crash: with the end of its lease"
        assert violations(await logs(jetray.bus)) == []


async def test_without_a_server_it_ends_in_time_and_settles_nothing(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, server, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(log=log)
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "progress")
        below = descendants(gateway.pid)
        await server.stop()
        await until(log, "lost the connection to NATS")
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await gateway.wait() == 0
        await gone(below)
        await server.start()
        (tmp_path / "J1").touch()
        await jetray.gateway("gw-2")
        end = await jetray.end("patient", "J1")
        assert isinstance(end, Completed)
        assert (end.gateway, end.attempt) == ("gw-2", 2)
        found = await logs(jetray.bus)
        assert [type(event).__name__ for event in found["patient", "J1"]].count("Retrying") == 0
        assert violations(found) == []


async def test_a_batch_goes_over_to_another_gateway_and_spends_nothing(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        first = await jetray.gateway("gw-1")
        await jetray.publish("jobs.group", '{"id":"G","members":["a","b"]}')
        await jetray.seen("patient", "G-a", "progress")
        await jetray.gateway("gw-2")
        first.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await first.wait() == 0
        for child in ("G-a", "G-b"):
            (tmp_path / child).touch()
        assert isinstance(await jetray.end("group", "G"), Completed)
        found = await logs(jetray.bus)
        for key in (("group", "G"), ("patient", "G-a")):
            starts = [event for event in found[key] if isinstance(event, Started)]
            assert [(each.gateway, each.attempt) for each in starts] == [("gw-1", 1), ("gw-2", 2)]
            assert (starts[-1].spent.attempts, starts[-1].spent.lost) == (0, 0)
        assert violations(found) == []


@pytest.mark.ray
@pytest.mark.parametrize("wait_s", [0.5, 2.5])
async def test_while_ray_starts_it_ends_soon_and_leaves_no_process(tmp_path: Path, wait_s: float) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(ray="local", log=log)
        await asyncio.sleep(wait_s)
        below = descendants(gateway.pid)
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await gateway.wait() == 0
        await gone(below)
        assert count(log, "Traceback") == 0
        await said(jetray.bus, "workers.gateway.stopped.gw-1")


@pytest.mark.ray
async def test_with_ray_it_drains_without_rays_own_words(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(ray="local", log=log)
        await jetray.publish("jobs.echo", '{"id":"J1"}')
        await jetray.end("echo", "J1", within_s=120)
        below = descendants(gateway.pid)
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await gateway.wait() == 0
        await gone(below)
        assert count(log, "*** SIGTERM received") == 0


async def test_before_anything_of_it_is_there_it_ends_well_too(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        gateway, ready = await jetray.begin(log=tmp_path / "log")
        try:
            heeds = f"/proc/{gateway.pid}/status"
            async with asyncio.timeout(30):
                while not _catches(Path(heeds), signal.SIGTERM):  # noqa: ASYNC110  a process tells nobody
                    await asyncio.sleep(0.005)
            gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await gateway.wait() == 0
        finally:
            os.close(ready)


def _catches(status: Path, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
