"""`infra.bus.nats` on a cluster: what only servers that must agree can do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from infra.bus.base import Bus, BusError, Disconnected, NoAnswer, NoSuchSubject
from infra.bus.nats import answers, connect
from infra.bus.topology import ConsumerSpec, StreamSpec, Topology
from tests.cluster import Cluster, nats_cluster

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.slow, pytest.mark.proof]

ASKED = 30
"""Times half a second: longer than it takes a leader to give up that hears of nobody."""

JOBS = Topology(
    streams=(StreamSpec(name="JOBS", subjects=("jobs.echo",), retention="workqueue", replicas=3),),
    consumers=(ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo", ack_wait_s=60.0),),
)


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose servers this test may keep from running."""
    with nats_cluster(tmp_path) as cluster:
        yield cluster


async def test_connecting_waits_until_there_is_a_leader(own_cluster: Cluster) -> None:
    alone, *others = own_cluster.names
    for name in others:
        own_cluster.kill(name)
    began = asyncio.Event()

    async def connected() -> str:
        async with connect(own_cluster.url_of(alone), name="test", answer_timeout_s=0.5) as bus:
            return bus.server_version

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(connected())
        with pytest.raises((NoAnswer, Disconnected)):
            async with connect(own_cluster.url_of(alone), name="test", answer_timeout_s=0.5, wait=False):
                began.set()
        assert not waiting.done(), "one of three cannot lead"
        own_cluster.start_missing()
        assert await waiting != "unknown"
    assert not began.is_set()


async def test_a_stream_without_a_leader_is_there_all_the_same(own_cluster: Cluster) -> None:
    await own_cluster.whole()
    alone, *others = own_cluster.names
    async with connect(own_cluster.url_of(alone), name="test", answer_timeout_s=0.5) as bus:
        await bus.apply(JOBS)
        await bus.publish("jobs.echo", b"1")
        async with bus.pull("JOBS", "echo") as puller:
            puller.grant(1)
            delivery = await puller.receive()
        with pytest.raises(NoSuchSubject):
            await bus.publish("jobs.unheard-of", b"")
        for name in others:
            own_cluster.kill(name)
        await _until_reconnected(bus)
        # However long it takes the last one to notice that it is alone: never "unknown kind".
        heard = {type(await _error(lambda: bus.publish("jobs.echo", b"2"))) for _ in range(ASKED)}
        assert heard == {NoAnswer}
        # Alone, it may go on to lead the consumer, and confirm; where it does not, nobody does.
        assert type(await _error(lambda: bus.in_progress(delivery))) in (NoAnswer, type(None))
        own_cluster.start_missing()
        await own_cluster.whole()
        assert not (await bus.publish("jobs.echo", b"3")).duplicate


async def test_no_responders_confirm_nothing() -> None:
    with pytest.raises(NoAnswer, match="nobody leads"):
        answers.confirmed(Msg(_client=Client(), headers={"Status": "503"}))
    answers.confirmed(Msg(_client=Client()))


async def _until_reconnected(bus: Bus) -> None:
    async with asyncio.timeout(30):
        while not bus.connected:  # noqa: ASYNC110  that it lost its server is announced to nobody
            await asyncio.sleep(0.05)


async def _error(call: object) -> BusError | None:
    assert callable(call)
    try:
        await call()
    except BusError as error:
        return error
    return None
