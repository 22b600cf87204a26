"""NATS away, slow, restarted, never there: the gateway waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from contracts import subjects
from contracts.events import Completed, Started
from infra.bus.nats import connect
from tests.checker import logs, read_all, violations
from tests.integration.outage import LEASE_S, Server, count, cpu_s, said, stack_on, until
from tests.integration.stack import Stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

AWAY_S = 2.5 * LEASE_S


@pytest.mark.proof
async def test_a_server_that_is_away_for_longer_than_the_leases(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, server, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(log=log)
        for number in range(20):
            await jetray.publish("jobs.echo", f'{{"id":"J{number}","seconds":0.3}}')
        await jetray.end("echo", "J1")
        used = cpu_s(gateway.pid)
        await server.stop()
        await until(log, "lost the connection to NATS")
        await asyncio.sleep(AWAY_S)
        used = cpu_s(gateway.pid) - used
        print(f"CPU of a gateway in {AWAY_S:g} s of outage: {used:.2f} s")
        assert used < AWAY_S / 3, "it does not spin"
        await server.start()
        for number in range(20):
            assert isinstance(await jetray.end("echo", f"J{number}"), Completed)
        away = await said(jetray.bus, "workers.gateway.reconnected.gw-1")
        assert away["away_ms"] > 0
        assert gateway.returncode is None
        assert count(log, "lost the connection to NATS") == count(log, "connected to NATS again") == 1
        assert violations(await logs(jetray.bus)) == []


@pytest.mark.proof
async def test_a_server_that_is_slow_for_longer_than_the_leases(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, server, _):
        gateway = await jetray.gateway(log=tmp_path / "log")
        for number in range(20):
            await jetray.publish("jobs.echo", f'{{"id":"J{number}","seconds":0.3}}')
        await jetray.end("echo", "J1")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(AWAY_S)
        server.process.send_signal(signal.SIGCONT)
        for number in range(20):
            assert isinstance(await jetray.end("echo", f"J{number}"), Completed)
        assert gateway.returncode is None
        assert violations(await logs(jetray.bus)) == []


@pytest.mark.parametrize("event", ["started", "completed"])
async def test_a_connection_that_is_cut_in_mid_publish(tmp_path: Path, event: str) -> None:
    async with stack_on(tmp_path, proxied=True) as (jetray, _, proxy):
        assert proxy is not None
        gateway = await jetray.gateway(log=tmp_path / "log")
        proxy.cut_after(f"orchestration.echo.{event}.J1".encode())
        await jetray.publish("jobs.echo", '{"id":"J1"}')
        await jetray.publish("jobs.echo", '{"id":"J2"}')
        for job_id in ("J1", "J2"):
            assert isinstance(await jetray.end("echo", job_id), Completed)
        assert proxy.cuts == 1
        assert gateway.returncode is None
        found = await logs(jetray.bus)
        assert violations(found) == []
        assert len([each for each in found["echo", "J1"] if isinstance(each, Started)]) == 1, "its own write was found"


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (elsewhere, _, _):
        late = Server(tmp_path / "late", free_port())
        log = tmp_path / "log"
        waiting = Stack(late.url, elsewhere.bus, tmp_path)
        gateway, ready = await waiting.begin(log=log)
        try:
            await until(log, f"NATS at {late.url} cannot be reached")
            await late.start()
            assert await asyncio.to_thread(os.read, ready, 64) == b"serving\n"
            async with connect(late.url, name="test") as bus:
                await bus.publish("jobs.echo", b'{"id":"J1"}')
                assert isinstance(await Stack(late.url, bus, tmp_path).end("echo", "J1"), Completed)
            assert count(log, "cannot be reached") == 1, "one line, and not one a try"
        finally:
            os.close(ready)
            await waiting.stop()
            if late.process is not None:
                await late.stop()
        assert gateway.returncode == 0


async def test_a_gateway_that_waits_for_its_first_server_heeds_sigterm(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (elsewhere, _, _):
        nowhere = f"nats://127.0.0.1:{free_port()}"
        log = tmp_path / "log"
        gateway, ready = await Stack(nowhere, elsewhere.bus, tmp_path).begin(log=log)
        os.close(ready)
        await until(log, "cannot be reached")
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await gateway.wait() == 0


async def test_what_was_said_during_an_outage_is_on_the_bus_after_it(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, server, _):
        log = tmp_path / "log"
        gateway = await jetray.gateway(log=log, JETRAY_GATEWAY_GRACE_S="20")
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "progress")
        await server.stop()
        await until(log, "lost the connection to NATS")
        gateway.send_signal(signal.SIGTERM)
        await until(log, "draining (SIGTERM)")
        await server.start()
        draining = await said(jetray.bus, "workers.gateway.draining.gw-1")
        assert (draining["reason"], draining["active"]) == ("SIGTERM", 1)
        (tmp_path / "J1").touch()
        assert isinstance(await jetray.end("patient", "J1"), Completed)
        async with asyncio.timeout(60):
            assert await gateway.wait() == 0
        told = await read_all(jetray.bus, subjects.WORKERS, "workers.gateway.*.gw-1")
        assert [message.subject.split(".")[2] for message in told][-1] == "stopped"
