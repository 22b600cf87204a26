"""A queue that is held and let go, with a worker of the test's own: what it does wrong is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from infra.bus.base import Delivery
from infra.bus.nats import NatsBus, connect
from infra.bus.topology import ConsumerSpec, Topology
from tests.benchmarks import lane as lanes
from tests.benchmarks.contenders.base import CONSUMER, IN, OUT, STREAM, answer_lane, queue
from tests.benchmarks.jobs import answer, jobs
from tests.benchmarks.lane import Stalled, finished, hold, measure, warm_up
from tests.benchmarks.publisher import Message, fill
from tests.benchmarks.stage import Stage, stage

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

LANE = answer_lane("test", lambda job: Message(IN, job.text.encode()))
OWED = list(jobs("job", 20))
LAST = OWED[-1].text.encode()


@asynccontextmanager
async def working(results: Callable[[bytes], list[bytes]], *, acks: bool = True) -> AsyncIterator[Stage]:
    """A queue, and a worker that publishes `results` of each job."""
    async with stage("test") as on:
        await queue(on)
        await on.bus.apply(Topology(consumers=(ConsumerSpec(stream=STREAM, name=CONSUMER, subject=IN),)))
        worker = asyncio.create_task(_work(on.bus, results, acks))
        yield on
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def _work(bus: NatsBus, results: Callable[[bytes], list[bytes]], acks: bool) -> None:
    async with bus.pull(STREAM, CONSUMER) as puller:
        while True:
            puller.grant(1)
            delivery: Delivery = await puller.receive()
            for result in results(delivery.body):
                await bus.publish(OUT, result)
            if acks:
                await bus.ack(delivery)


def right(body: bytes) -> list[bytes]:
    return [answer(body.decode()).encode()]


async def test_a_good_worker_is_measured():
    async with working(right) as on:
        await warm_up(on, LANE, [], 5)
        measured = await measure(on, LANE, [], OWED)
    assert measured.wrong == []
    assert measured.jobs == 20
    assert 0 < measured.seconds < 60
    assert measured.per_second == pytest.approx(20 / measured.seconds)


async def test_nothing_is_done_while_it_is_held():
    async with working(right) as on:
        await warm_up(on, LANE, [], 5)
        await hold(on, LANE)
        await fill(on.url, map(LANE.message, OWED))
        state = await on.bus.consumer(STREAM, CONSUMER)
        assert (state.waiting, state.paused) == (20, True)


@pytest.mark.parametrize(
    ("results", "what"),
    [
        (lambda body: right(body) * (2 if body == LAST else 1), "job job-19: 2 results"),
        (lambda body: right(body) if body != LAST else [b"nonsense"], "job job-19: 0 results"),
    ],
)
async def test_a_bad_result_is_found_even_if_it_is_the_last(results, what):
    async with working(results) as on:
        assert what in (await measure(on, LANE, [], OWED)).wrong


async def test_a_worker_that_does_not_acknowledge_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lanes, "LOOK_S", 0.001)
    async with working(right, acks=False) as on:
        assert "20 messages are not acknowledged" in (await measure(on, LANE, [], OWED)).wrong


async def test_a_worker_that_does_nothing_has_stalled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lanes, "STALL_S", 0.05)
    async with working(lambda body: []) as on:
        with pytest.raises(Stalled, match="test: 0 of 20 results, then nothing"):
            await finished(on, LANE, [], 0, 20)


async def test_results_before_the_clock_starts_are_found(monkeypatch: pytest.MonkeyPatch):
    async def forgotten(*_: object) -> None:
        """The pause had no effect."""

    monkeypatch.setattr(lanes, "hold", forgotten)
    monkeypatch.setattr(lanes, "fill", _fill_and_wait)
    async with working(right) as on:
        wrong = (await measure(on, LANE, [], OWED)).wrong
    assert wrong == ["19 results came while the queue was held: the clock started too late"]


async def _fill_and_wait(url: str, messages: list[Message]) -> int:
    sent = await fill(url, messages)
    async with connect(url, name="test") as bus:
        while (await bus.consumer(STREAM, CONSUMER)).depth:  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.01)
    return sent
