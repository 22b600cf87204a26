"""What a server has forgotten to remove: it is found, told from what is to come, and removed for good."""

from __future__ import annotations

import pytest

from infra.bus.base import Disconnected, Refused
from tests.conformance.bus.world import World, eventually

pytestmark = pytest.mark.anyio


async def test_what_was_acknowledged_and_came_back_is_delivered_to_nobody_and_found(world: World) -> None:
    await world.queue()
    await world.bus.publish("jobs.sum", b"other")
    sequences = await world.enqueue(b"1", b"2", b"3")
    async with world.forgetful_outage():
        for delivery in await world.lease(3):
            await world.bus.ack(delivery)
        await world.until(lambda state: state.depth == 0)
        assert await world.bus.leftover("JOBS", "echo") is None
    assert (await world.bus.consumer("JOBS", "echo")).depth == 0
    first = await world.bus.leftover("JOBS", "echo")
    assert first is not None
    assert (first.sequence, first.body, first.subject) == (sequences[0], b"1", "jobs.echo")
    assert (first.stream, first.consumer, first.number) == ("JOBS", "echo", 1)
    second = await world.bus.leftover("JOBS", "echo", after=sequences[0])
    assert second is not None
    assert second.sequence == sequences[1]
    assert await world.bus.leftover("JOBS", "echo", after=sequences[2]) is None
    # Never handed out, and another consumer's.
    assert await world.bus.leftover("JOBS", "sum") is None


async def test_acknowledged_once_more_it_is_gone_and_nothing_else_is(world: World) -> None:
    await world.queue()
    [old] = await world.enqueue(b"old")
    async with world.forgetful_outage():
        [delivery] = await world.lease()
        await world.bus.ack(delivery)
        await world.until(lambda state: state.depth == 0)
    sequences = await world.enqueue(b"1", b"2", b"3")
    in_hand, done = await world.lease(2)
    await world.bus.ack(done)
    await world.until(lambda state: state.unacknowledged == 1)
    found = await world.bus.leftover("JOBS", "echo")
    assert found is not None
    assert found.sequence == old
    await world.bus.ack(found)

    async def is_gone() -> bool:
        return await world.bus.get("JOBS", old) is None

    await eventually(is_gone, world.lease_s)
    # Neither what is in hand nor what is to come is left over.
    assert await world.bus.leftover("JOBS", "echo") is None
    assert (in_hand.sequence, done.sequence) == tuple(sequences[:2])
    state = await world.bus.consumer("JOBS", "echo")
    assert (state.waiting, state.unacknowledged) == (1, 1)
    assert await world.bus.get("JOBS", in_hand.sequence) is not None


async def test_without_a_consumer_or_a_connection_it_says_so(world: World) -> None:
    await world.queue()
    with pytest.raises(Refused):
        await world.bus.leftover("JOBS", "nobody")
    async with world.outage():
        with pytest.raises(Disconnected):
            await world.bus.leftover("JOBS", "echo")
