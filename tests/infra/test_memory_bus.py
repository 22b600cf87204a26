"""What only the bus in memory has: virtual time to the tick, connections that can be cut, and faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from infra.bus.base import Bus, Delivery, Disconnected, NoAnswer, Stored, TooLarge
from infra.bus.memory import Fate, Faults, MemoryBus, MemoryServer
from infra.bus.topology import BucketSpec, ConsumerSpec, StreamSpec, Topology

pytestmark = pytest.mark.anyio

TOPOLOGY = Topology(
    streams=(
        StreamSpec(name="JOBS", subjects=("jobs.echo",), retention="workqueue", discard="new"),
        StreamSpec(name="EVENTS", subjects=("events.*",), discard="new"),
    ),
    buckets=(BucketSpec(name="workers", kind="kv", max_age_s=30),),
    consumers=(ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo", ack_wait_s=60.0),),
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: a minute's lease ends at once, and at its tick."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
async def server() -> MemoryServer:
    """A server with one work queue, one log and one bucket."""
    server = MemoryServer()
    server.apply(TOPOLOGY)
    return server


@pytest.fixture
def bus(server: MemoryServer) -> MemoryBus:
    """A connection to it."""
    return MemoryBus(server)


async def pulled(bus: MemoryBus) -> Delivery:
    """One message, left unsettled."""
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        return await puller.receive()


async def test_it_is_a_bus(bus: MemoryBus) -> None:
    as_protocol: Bus = bus
    assert as_protocol.connected
    assert as_protocol.server_version == "memory"
    assert MemoryBus(MemoryServer(version="9")).server_version == "9"


async def test_it_speaks_of_itself(server: MemoryServer, bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"")
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(3)
        assert repr(puller) == "MemoryPuller(JOBS/echo, credit 3)"
    assert repr(server.stream("JOBS")) == "Stream(JOBS, 1 messages, last 1)"
    assert repr(server.consumer("JOBS", "echo")) == "Consumer(JOBS/echo, 0+1)"
    assert repr(server) == "MemoryServer(JOBS, EVENTS, KV_workers)"
    assert repr(MemoryServer()) == "MemoryServer(empty)"
    bus.disconnect()
    assert repr(bus) == "MemoryBus(disconnected)"


async def test_a_small_server_takes_small_messages() -> None:
    bus = MemoryBus(MemoryServer(max_payload=100))
    with pytest.raises(TooLarge, match=r"101 bytes .* takes 100"):
        await bus.publish("jobs.echo", b"x" * 101)


# --- time


async def test_the_clock_is_anyios(bus: MemoryBus) -> None:
    before = bus.server_now()
    await anyio.sleep(3600)
    assert bus.server_now() - before == timedelta(hours=1)
    await bus.publish("events.a", b"")
    stored = await bus.last("EVENTS", ">")
    assert stored is not None
    assert stored.time == bus.server_now()


async def test_a_lease_ends_at_its_tick(bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"")
    begun = anyio.current_time()
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(3)
        for number in range(3):
            delivery = await puller.receive()
            assert (delivery.number, anyio.current_time() - begun) == (number + 1, number * 60)
        await anyio.sleep(30)
        await bus.in_progress(delivery)
        puller.grant(1)
        assert (await puller.receive()).number == 4
    assert anyio.current_time() - begun == 120 + 30 + 60


async def test_a_delay_is_over_at_its_tick(bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"")
    delivery = await pulled(bus)
    async with bus.pull("JOBS", "echo") as puller:
        for number, delay in enumerate((0.25, 1.0, 300.0), start=2):
            begun = anyio.current_time()
            await bus.nak(delivery, delay)
            puller.grant(1)
            delivery = await puller.receive()
            assert (delivery.number, anyio.current_time() - begun) == (number, delay)


async def test_what_is_due_happens_when_it_was_due_though_nobody_looks(bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"")
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(5)
        await anyio.sleep(150)
        # Handed out at 0, 60 and 120; the next lease ends at 180.
        assert [(await puller.receive()).number for _ in range(3)] == [1, 2, 3]
        begun = anyio.current_time()
        assert (await puller.receive()).number == 4
        assert anyio.current_time() - begun == 30


async def test_somebody_elses_nak_makes_it_due_sooner(bus: MemoryBus, server: MemoryServer) -> None:
    await bus.publish("jobs.echo", b"")
    held = await pulled(bus)
    other = MemoryBus(server)
    async with bus.pull("JOBS", "echo") as puller, anyio.create_task_group() as group:
        puller.grant(1)
        begun = anyio.current_time()

        async def give_back() -> None:
            await anyio.sleep(10)
            await other.nak(held, 5)

        group.start_soon(give_back)
        assert (await puller.receive()).number == 2
        assert anyio.current_time() - begun == 15


async def test_a_key_expires_at_its_tick(bus: MemoryBus) -> None:
    await bus.put("workers", "gw-1", b"alive")
    await anyio.sleep(29.5)
    assert await bus.value("workers", "gw-1") == b"alive"
    await anyio.sleep(0.5)
    assert await bus.value("workers", "gw-1") is None


async def test_an_id_is_forgotten_at_its_tick(bus: MemoryBus) -> None:
    headers = {"Nats-Msg-Id": "x"}
    await bus.publish("events.a", b"", headers)
    await anyio.sleep(119.5)
    assert (await bus.publish("events.a", b"", headers)).duplicate
    await anyio.sleep(0.5)
    assert not (await bus.publish("events.a", b"", headers)).duplicate


# --- what an operator does


async def test_a_paused_consumer_hands_out_nothing_until_its_time(bus: MemoryBus, server: MemoryServer) -> None:
    server.pause("JOBS", "echo", 3600)
    await bus.publish("jobs.echo", b"")
    assert (await bus.consumer("JOBS", "echo")).paused
    begun = anyio.current_time()
    await pulled(bus)
    assert anyio.current_time() - begun == 3600
    assert not (await bus.consumer("JOBS", "echo")).paused


async def test_a_paused_consumer_can_be_resumed(bus: MemoryBus, server: MemoryServer) -> None:
    server.pause("JOBS", "echo", 3600)
    await bus.publish("jobs.echo", b"")
    begun = anyio.current_time()
    async with bus.pull("JOBS", "echo") as puller, anyio.create_task_group() as group:
        puller.grant(1)

        async def resume() -> None:
            await anyio.sleep(7)
            server.pause("JOBS", "echo", 0)

        group.start_soon(resume)
        await puller.receive()
    assert anyio.current_time() - begun == 7


async def test_a_pause_can_be_cut_short(bus: MemoryBus, server: MemoryServer) -> None:
    server.pause("JOBS", "echo", 3600)
    await bus.publish("jobs.echo", b"")
    begun = anyio.current_time()
    async with bus.pull("JOBS", "echo") as puller, anyio.create_task_group() as group:
        puller.grant(1)

        async def shorten() -> None:
            await anyio.sleep(7)
            server.pause("JOBS", "echo", 10)

        group.start_soon(shorten)
        await puller.receive()
    assert anyio.current_time() - begun == 17


async def test_leases_end_in_a_pause_and_nothing_comes_again_before_its_end(
    bus: MemoryBus, server: MemoryServer
) -> None:
    await bus.publish("jobs.echo", b"")
    await pulled(bus)
    server.pause("JOBS", "echo", 100)
    begun = anyio.current_time()
    assert (await pulled(bus)).number == 2
    assert anyio.current_time() - begun == 100


async def test_what_is_forgotten_is_gone_for_all(bus: MemoryBus, server: MemoryServer) -> None:
    await bus.publish("events.a", b"")
    await bus.publish("events.b", b"")
    server.forget("EVENTS", "events.a")
    assert [message.subject for message in server.stream("EVENTS").messages()] == ["events.b"]
    assert await bus.last("EVENTS", "events.a") is None
    await bus.publish("events.a", b"", {"Nats-Expected-Last-Subject-Sequence": "0"})


async def test_what_is_forgotten_while_leased_or_waiting_is_never_handed_out(
    bus: MemoryBus, server: MemoryServer
) -> None:
    for _ in range(3):
        await bus.publish("jobs.echo", b"")
    leased = await pulled(bus)
    await bus.nak(await pulled(bus))
    server.forget("JOBS", ">")
    assert (await bus.consumer("JOBS", "echo")).depth == 0
    await bus.nak(leased)
    await bus.publish("jobs.echo", b"next")
    assert (await pulled(bus)).body == b"next"


async def test_requests_take_turns_message_by_message(bus: MemoryBus, server: MemoryServer) -> None:
    async with bus.pull("JOBS", "echo") as first, MemoryBus(server).pull("JOBS", "echo") as second:
        first.grant(3)
        second.grant(2)
        for _ in range(5):
            await bus.publish("jobs.echo", b"")
        assert [(await first.receive()).sequence for _ in range(3)] == [1, 3, 5]
        assert [(await second.receive()).sequence for _ in range(2)] == [2, 4]


# --- a connection that is cut

CALLS: dict[str, Callable[[MemoryBus, Delivery], Awaitable[Any]]] = {
    "publish": lambda bus, _: bus.publish("events.a", b""),
    "last": lambda bus, _: bus.last("EVENTS", ">"),
    "get": lambda bus, _: bus.get("EVENTS", 1),
    "consumer": lambda bus, _: bus.consumer("JOBS", "echo"),
    "owner": lambda bus, _: bus.owner("events.a"),
    "apply": lambda bus, _: bus.apply(TOPOLOGY),
    "put": lambda bus, _: bus.put("workers", "gw-1", b""),
    "value": lambda bus, _: bus.value("workers", "gw-1"),
    "in_progress": lambda bus, delivery: bus.in_progress(delivery),
    "ack": lambda bus, delivery: bus.ack(delivery),
    "nak": lambda bus, delivery: bus.nak(delivery),
}


@pytest.mark.parametrize("call", CALLS)
async def test_while_cut_every_call_says_so(bus: MemoryBus, server: MemoryServer, call: str) -> None:
    await bus.publish("jobs.echo", b"")
    delivery = await pulled(bus)
    bus.disconnect()
    bus.disconnect()
    assert not bus.connected
    with pytest.raises(Disconnected):
        await CALLS[call](bus, delivery)
    assert server.stream("EVENTS").last_sequence == 0
    assert (await MemoryBus(server).consumer("JOBS", "echo")).unacknowledged == 1
    bus.reconnect()
    await CALLS[call](bus, delivery)


async def test_while_cut_nothing_arrives_and_credit_is_kept(bus: MemoryBus, server: MemoryServer) -> None:
    other = MemoryBus(server)
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(2)
        bus.disconnect()
        puller.grant(1)
        await other.publish("jobs.echo", b"1")
        with anyio.move_on_after(1_000):
            await puller.receive()
        assert puller.credit == 3
        assert (await other.consumer("JOBS", "echo")).waiting == 1
        bus.reconnect()
        assert ((await puller.receive()).body, puller.credit) == (b"1", 2)


async def test_a_cut_connection_leaves_its_messages_to_others(bus: MemoryBus, server: MemoryServer) -> None:
    other = MemoryBus(server)
    await other.publish("jobs.echo", b"1")
    async with bus.pull("JOBS", "echo") as mine, other.pull("JOBS", "echo") as theirs:
        mine.grant(2)
        bus.disconnect()
        theirs.grant(2)
        begun = anyio.current_time()
        # What had arrived before can still be received; its lease ends all the same.
        assert (await mine.receive()).number == 1
        assert (await theirs.receive()).number == 2
        assert anyio.current_time() - begun == 60
        await other.publish("jobs.echo", b"2")
        assert (await theirs.receive()).body == b"2"


async def test_a_receiver_that_waits_is_served_after_the_cut(bus: MemoryBus, server: MemoryServer) -> None:
    received: list[Delivery] = []

    async def receive() -> None:
        async with bus.pull("JOBS", "echo") as puller:
            puller.grant(1)
            received.append(await puller.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(1)
        bus.disconnect()
        await MemoryBus(server).publish("jobs.echo", b"1")
        await anyio.sleep(1)
        assert not received
        bus.reconnect()
    assert [delivery.body for delivery in received] == [b"1"]


async def test_following_goes_on_after_a_cut_without_gap_or_repetition(bus: MemoryBus, server: MemoryServer) -> None:
    other = MemoryBus(server)
    found: list[int] = []

    async def follow() -> None:
        async with aclosing(bus.follow("EVENTS", "events.a")) as messages:
            async for message in messages:
                found.append(message.sequence)

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        for number in range(30):
            if number % 7 == 3:
                bus.disconnect()
            if number % 7 == 6:
                before = list(found)
                await anyio.sleep(1)
                assert found == before
                bus.reconnect()
            await other.publish("events.a", b"")
            await other.publish("events.b", b"")
            if number % 2:
                await anyio.sleep(0.1)
        bus.reconnect()
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert found == list(range(1, 60, 2))


async def test_following_stops_in_the_middle_of_what_it_was_about_to_bring(bus: MemoryBus) -> None:
    for _ in range(3):
        await bus.publish("events.a", b"")
    async with aclosing(bus.follow("EVENTS", ">")) as messages:
        assert (await anext(messages)).sequence == 1
        bus.disconnect()
        with anyio.move_on_after(5) as patience:
            await anext(messages)
    assert patience.cancelled_caught


# --- faults


class Script(Faults):
    """Faults on one kind of call."""

    def __init__(self, op: str, *, before: float | Exception = 0, after: float | Exception = 0) -> None:
        self.op, self.there, self.back = op, before, after
        self.seen: list[tuple[str, str]] = []

    async def before(self, op: str, subject: str) -> None:
        self.seen.append((op, subject))
        await self._suffer(self.there if op == self.op else 0)

    async def after(self, op: str, subject: str) -> None:
        await self._suffer(self.back if op == self.op else 0)

    async def _suffer(self, fault: float | Exception) -> None:
        if isinstance(fault, Exception):
            raise fault
        await anyio.sleep(fault)


async def test_faults_are_told_what_was_called(server: MemoryServer) -> None:
    script = Script("none")
    bus = MemoryBus(server, faults=script)
    await bus.publish("jobs.echo", b"")
    delivery = await pulled(bus)
    for call in CALLS.values():
        await call(bus, delivery)
    assert script.seen == [
        ("publish", "jobs.echo"),
        ("publish", "events.a"),
        ("last", ">"),
        ("get", "EVENTS:1"),
        ("consumer", "JOBS.echo"),
        ("owner", "events.a"),
        ("apply", ""),
        ("publish", "$KV.workers.gw-1"),
        ("last", "$KV.workers.gw-1"),
        ("in_progress", "jobs.echo"),
        ("ack", "jobs.echo"),
        ("nak", "jobs.echo"),
    ]


@pytest.mark.parametrize(
    ("script", "stored"),
    [
        (Script("publish", before=NoAnswer("lost")), 0),
        (Script("publish", after=NoAnswer("lost")), 1),
    ],
    ids=["on the way there", "on the way back"],
)
async def test_no_answer_may_mean_either(server: MemoryServer, script: Script, stored: int) -> None:
    with pytest.raises(NoAnswer):
        await MemoryBus(server, faults=script).publish("events.a", b"")
    assert server.stream("EVENTS").last_sequence == stored


@pytest.mark.parametrize(
    ("script", "stored"),
    [(Script("publish", before=10), 0), (Script("publish", after=10), 1)],
    ids=["on the way there", "on the way back"],
)
async def test_a_cut_under_a_call_is_no_answer(server: MemoryServer, script: Script, stored: int) -> None:
    bus = MemoryBus(server, faults=script)

    async def cut() -> None:
        await anyio.sleep(5)
        bus.disconnect()
        bus.reconnect()

    async with anyio.create_task_group() as group:
        group.start_soon(cut)
        with pytest.raises(NoAnswer):
            await bus.publish("events.a", b"")
    assert server.stream("EVENTS").last_sequence == stored


async def test_a_call_may_be_slow(server: MemoryServer) -> None:
    bus = MemoryBus(server, faults=Script("publish", before=10, after=20))
    begun = anyio.current_time()
    await bus.publish("events.a", b"")
    assert anyio.current_time() - begun == 30
    stored = server.stream("EVENTS").get(1)
    assert stored is not None
    assert bus.server_now() - stored.time == timedelta(seconds=20)


@pytest.mark.parametrize("op", ["ack", "nak"])
async def test_settling_may_be_lost_without_a_word(server: MemoryServer, op: str) -> None:
    bus = MemoryBus(server, faults=Script(op, before=NoAnswer("lost")))
    await bus.publish("jobs.echo", b"")
    begun = anyio.current_time()
    await CALLS[op](bus, await pulled(bus))
    assert (await pulled(bus)).number == 2
    assert anyio.current_time() - begun == 60


@pytest.mark.parametrize("op", ["ack", "nak"])
async def test_settling_is_lost_when_cut_on_its_way(server: MemoryServer, op: str) -> None:
    bus = MemoryBus(server, faults=Script(op, before=10))
    await bus.publish("jobs.echo", b"")
    delivery = await pulled(bus)

    async def cut() -> None:
        await anyio.sleep(5)
        bus.disconnect()
        bus.reconnect()

    async with anyio.create_task_group() as group:
        group.start_soon(cut)
        await CALLS[op](bus, delivery)
    assert (await bus.consumer("JOBS", "echo")).unacknowledged == 1


class Fates(Faults):
    """What becomes of one delivery after the other."""

    def __init__(self, *fates: Fate) -> None:
        self.fates = iter(fates)

    def delivery(self, delivery: Delivery) -> Fate:
        return next(self.fates, "arrives")


async def test_a_lost_delivery_is_leased_and_its_credit_asked_for_again(server: MemoryServer) -> None:
    bus = MemoryBus(server, faults=Fates("lost"))
    for body in (b"1", b"2"):
        await bus.publish("jobs.echo", body)
    begun = anyio.current_time()
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        assert puller.credit == 1
        assert (await bus.consumer("JOBS", "echo")).unacknowledged == 1
        assert (await puller.receive()).body == b"2"
        assert anyio.current_time() - begun == 1
        puller.grant(1)
        again = await puller.receive()
        assert (again.body, again.number, anyio.current_time() - begun) == (b"1", 2, 60)


async def test_a_delivery_may_come_twice(server: MemoryServer) -> None:
    bus = MemoryBus(server, faults=Fates("twice"))
    await bus.publish("jobs.echo", b"")
    begun = anyio.current_time()
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(2)
        assert [(await puller.receive()).number for _ in range(2)] == [1, 2]
    assert anyio.current_time() == begun


# --- cancellation


async def test_a_cancelled_publish_is_stored_or_not_and_nothing_in_between(server: MemoryServer) -> None:
    stored = []
    for patience in (5, 15, 25):
        bus = MemoryBus(server, faults=Script("publish", before=10, after=10))
        before = server.stream("EVENTS").last_sequence
        with anyio.move_on_after(patience):
            await bus.publish("events.a", b"")
        stored.append(server.stream("EVENTS").last_sequence - before)
    assert stored == [0, 1, 1]


async def test_every_call_can_be_cancelled_at_once(bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"")
    delivery = await pulled(bus)
    for call in CALLS.values():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call(bus, delivery)
        assert scope.cancelled_caught


async def test_a_cancelled_receive_loses_nothing(bus: MemoryBus) -> None:
    await bus.publish("jobs.echo", b"1")
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await puller.receive()
        assert scope.cancelled_caught
        assert puller.credit == 1
        assert (await puller.receive()).body == b"1"


async def test_several_may_receive_from_one_puller(bus: MemoryBus) -> None:
    received: list[bytes] = []

    async def receive() -> None:
        received.append((await puller.receive()).body)

    async with bus.pull("JOBS", "echo") as puller, anyio.create_task_group() as group:
        puller.grant(3)
        for _ in range(3):
            group.start_soon(receive)
        await anyio.sleep(1)
        for number in range(3):
            await bus.publish("jobs.echo", b"%d" % number)
    assert sorted(received) == [b"0", b"1", b"2"]


async def test_a_follower_that_leaves_is_gone(bus: MemoryBus) -> None:
    await bus.publish("events.a", b"")

    async def first(messages: AsyncIterator[Stored]) -> Stored:
        async for message in messages:
            return message
        raise AssertionError("following ends by leaving alone")

    async with aclosing(bus.follow("EVENTS", ">")) as messages:
        assert (await first(messages)).sequence == 1
    with pytest.raises(StopAsyncIteration):
        await anext(messages)
