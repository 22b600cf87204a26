"""A publisher who is faster than the kind, and subscribers who do not read, on a real server."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from contracts import subjects
from contracts.events import Completed
from infra.bus.base import StreamFull
from infra.bus.nats import NatsBus
from tests.checker import logs, read_all, violations
from tests.integration.outage import stack_on
from tests.integration.overload import PER_SECOND, Published, prepare, publish_for
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

DONE_S = 120


async def completed(bus: NatsBus) -> set[str]:
    """Ids of jobs that completed."""
    found = await read_all(bus, subjects.EVENTS, "orchestration.brake.completed.*")
    return {message.subject.rpartition(".")[2] for message in found}


async def all_end(bus: NatsBus, published: Published) -> None:
    """Return once the last of them has ended; how they ended is another matter."""
    async with asyncio.timeout(DONE_S):
        while (await bus.consumer(subjects.JOBS, "brake")).depth:  # noqa: ASYNC110  a depth announces nothing
            await asyncio.sleep(0.2)
    assert published.accepted <= await completed(bus)


async def told(bus: NatsBus) -> list[dict[str, Any]]:
    """What was said of the kind's queue, in order."""
    found = await read_all(bus, subjects.WORKERS, "workers.backpressure.*.gw-1")
    return [msgspec.json.decode(message.body) for message in found]


async def released(bus: NatsBus, times: int) -> None:
    """Return once so many episodes are over."""
    async with asyncio.timeout(30):
        while len(await told(bus)) < 2 * times:  # noqa: ASYNC110  what is stored is asked for
            await asyncio.sleep(0.2)


@pytest.mark.proof
async def test_ten_times_what_the_kind_can_do(tmp_path: Path) -> None:
    prepare(tmp_path, limit=1_500, high=600, low=100)
    async with stack(tmp_path) as jetray:
        await jetray.gateway()
        bursts = []
        for number in (1, 2):
            burst = await publish_for(jetray.bus, 5, 10 * PER_SECOND, prefix=f"b{number}-")
            bursts.append(burst)
            assert burst.other == [], "acknowledged, or refused with 10077"
            assert burst.refused > len(burst.accepted) > 1_500
            await all_end(jetray.bus, burst)
            await released(jetray.bus, number)
        said = await told(jetray.bus)
        assert [body["event"].partition(".")[2] for body in said] == ["applied", "released"] * 2
        assert {body["reason"] for body in said[::2]} == {"depth"}
        assert all(body["depth"] >= 600 for body in said[::2])
        assert all(body["depth"] <= 100 for body in said[1::2])
        found = await logs(jetray.bus)
        assert len(found) == len(bursts[0].accepted) + len(bursts[1].accepted)
        assert all(isinstance(log[-1], Completed) and len(log) == 2 for log in found.values())
        assert violations(found) == []


async def test_a_full_kind_refuses_its_publishers_and_others_go_on(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        await jetray.gateway(JETRAY_STREAMS_JOBS_PER_KIND="20")
        for number in range(20):
            await jetray.publish("jobs.patient", f'{{"id":"J{number}"}}')
        for number in range(20, 40):
            with pytest.raises(StreamFull) as refused:
                await jetray.publish("jobs.patient", f'{{"id":"J{number}"}}')
            assert refused.value.err_code == 10077
        for number in range(5):
            await jetray.publish("jobs.echo", f'{{"id":"J{number}"}}')
        lane = await jetray.bus.consumer(subjects.JOBS, "patient")
        assert lane.depth == 20
        for number in range(20):
            (tmp_path / f"J{number}").touch()
        for number in range(20):
            assert isinstance(await jetray.end("patient", f"J{number}"), Completed)
        for number in range(5):
            assert isinstance(await jetray.end("echo", f"J{number}"), Completed)
        assert violations(await logs(jetray.bus)) == []


def deaf(url: str, subject: str) -> socket.socket:
    """A client that subscribes, and never reads a byte."""
    address = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((address.hostname, address.port))
    connection.sendall(b'CONNECT {"verbose":false}\r\nSUB %s 1\r\nPING\r\n' % subject.encode())
    return connection


async def stuck(bus: NatsBus) -> None:
    """A durable consumer of all events that takes some, and acknowledges none."""
    config = {"durable_name": "stuck", "ack_policy": "explicit", "ack_wait": 3600 * 10**9, "max_ack_pending": 3}
    await bus.api("CONSUMER.DURABLE.CREATE.EVENTS.stuck", {"stream_name": "EVENTS", "config": config})
    async with bus.pull(subjects.EVENTS, "stuck") as puller:
        puller.grant(100)
        async with asyncio.timeout(30):
            for _ in range(3):
                await puller.receive()


async def run(jetray: Stack, jobs: int) -> None:
    for number in range(jobs):
        await jetray.publish("jobs.echo", f'{{"id":"J{number}","padding":60000}}')
    for number in range(jobs):
        assert isinstance(await jetray.end("echo", f"J{number}"), Completed)


async def test_subscribers_that_do_not_read_harm_nobody(tmp_path: Path) -> None:
    async with stack_on(tmp_path) as (jetray, _, _):
        await jetray.gateway()
        clients = [deaf(jetray.url, subject) for subject in ("orchestration.>", "orchestration.echo.completed")]
        try:
            await jetray.publish("jobs.echo", '{"id":"first"}')
            await jetray.publish("jobs.echo", '{"id":"second"}')
            await stuck(jetray.bus)
            # 18 MB: more than lies between the server and who does not read.
            await run(jetray, 300)
            state = await jetray.bus.consumer(subjects.EVENTS, "stuck")
            assert (state.unacknowledged, state.waiting) == (3, 604 - 3)
            lane = await jetray.bus.consumer(subjects.JOBS, "echo")
            assert (lane.depth, lane.redelivered) == (0, 0)
            assert await told(jetray.bus) == []
            assert violations(await logs(jetray.bus)) == []
        finally:
            for client in clients:
                client.close()
