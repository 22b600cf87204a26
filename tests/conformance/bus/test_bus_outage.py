"""A server that is away for a while: nothing is sent meanwhile, and nothing that it knew is lost."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import anyio.lowlevel
import pytest

from contracts.headers import EXPECTED_SEQUENCE, MSG_ID
from infra.bus.base import Disconnected, WrongSequence
from infra.bus.topology import BucketSpec, StreamSpec
from tests.conformance.bus.world import World, bodies, take

pytestmark = pytest.mark.anyio

EVENTS = StreamSpec(name="EVENTS", subjects=("events.*",), discard="new")


async def test_while_it_is_away_calls_say_so_and_nothing_is_sent_later(world: World) -> None:
    await world.queue()
    await world.apply(EVENTS)
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    async with world.outage():
        assert not world.bus.connected
        for call in (
            lambda: world.bus.publish("events.a", b""),
            lambda: world.bus.last("EVENTS", "events.*"),
            lambda: world.bus.get("EVENTS", 1),
            lambda: world.bus.consumer("JOBS", "echo"),
            lambda: world.bus.owner("events.a"),
            lambda: world.bus.in_progress(delivery),
            lambda: world.bus.ack(delivery),
            lambda: world.bus.nak(delivery),
        ):
            with pytest.raises(Disconnected):
                await call()
    assert world.bus.connected
    assert await world.bus.last("EVENTS", "events.*") is None
    # The acknowledgement was not kept for later: it might be stale by then.
    assert (await world.bus.consumer("JOBS", "echo")).unacknowledged == 1


async def test_what_it_knew_it_knows(world: World) -> None:
    await world.queue(max_per_subject=3)
    await world.apply(EVENTS, BucketSpec(name="kinds", kind="kv"))
    await world.bus.publish("events.a", b"1", {MSG_ID: "x"})
    await world.bus.put("kinds", "echo", b"{}")
    await world.enqueue(b"1", b"2", b"3")
    [leased] = await world.lease()
    async with world.outage():
        pass
    assert (await world.bus.publish("events.a", b"2", {MSG_ID: "x"})).duplicate
    with pytest.raises(WrongSequence):
        await world.bus.publish("events.a", b"2", {EXPECTED_SEQUENCE: "0"})
    assert await world.bus.value("kinds", "echo") == b"{}"
    assert (await world.bus.consumer("JOBS", "echo")).depth == 3
    await world.bus.ack(leased)
    await world.until(lambda state: state.depth == 2)
    assert bodies(await world.lease(2)) == [b"2", b"3"]


async def test_leases_end_after_it_as_before(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    await world.lease()
    async with world.outage():
        pass
    [again] = await world.lease()
    assert (again.body, again.number) == (b"1", 2)


async def test_credit_outlives_it(world: World) -> None:
    await world.queue()
    async with world.pulling(2) as puller:
        await world.enqueue(b"1")
        [first] = await take(puller, 1, world.lease_s)
        await world.bus.ack(first)
        await world.until(lambda state: state.depth == 0)
        async with world.outage():
            puller.grant(1)
            assert puller.credit == 2
        await world.bus.publish("jobs.echo", b"2")
        await world.bus.publish("jobs.echo", b"3")
        assert bodies(await take(puller, 2, world.lease_s)) == [b"2", b"3"]


async def test_credit_revoked_meanwhile_is_not_asked_for_again(world: World) -> None:
    await world.queue()
    async with world.pulling(5) as first:
        async with world.outage():
            first.revoke()
        await world.enqueue(b"1")
        assert bodies(await world.lease()) == [b"1"]
        assert first.credit == 0


async def test_a_puller_closed_before_takes_nothing_afterwards(world: World) -> None:
    await world.queue()
    async with world.pulling(5):
        pass
    async with world.outage():
        pass
    await world.bus.publish("jobs.echo", b"1")
    assert [(delivery.body, delivery.number) for delivery in await world.lease()] == [(b"1", 1)]


async def test_following_goes_on_without_gap_or_repetition(world: World) -> None:
    await world.apply(EVENTS)
    found: list[int] = []
    arrived = anyio.Event()

    async def follow() -> None:
        nonlocal arrived
        async with aclosing(world.bus.follow("EVENTS", "events.a")) as messages:
            async for message in messages:
                found.append(message.sequence)
                arrived.set()
                arrived = anyio.Event()

    async def publish(count: int) -> None:
        for _ in range(count):
            sequence = (await world.bus.publish("events.a", b"")).sequence
            await world.bus.publish("events.b", b"")
        while not found or found[-1] < sequence:
            await arrived.wait()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await publish(5)
            for _ in range(2):
                async with world.outage():
                    pass
                await publish(5)
            group.cancel_scope.cancel()
    assert found == list(range(1, 31, 2))


async def test_following_begun_meanwhile_begins_afterwards(world: World) -> None:
    await world.apply(EVENTS)
    await world.bus.publish("events.a", b"1")
    found: list[bytes] = []

    async def follow() -> None:
        async with aclosing(world.bus.follow("EVENTS", "events.a")) as messages:
            async for message in messages:
                found.append(message.body)
                return

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group, world.outage():
            group.start_soon(follow)
            await anyio.lowlevel.checkpoint()
    assert found == [b"1"]
