"""Credit: no more in hand than there is room for, shared fairly, and nothing kept by a lane that stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from infra.bus.base import Delivery
from infra.bus.memory import MemoryBus
from tests.runtime.kinds import Puppet
from tests.runtime.samples import connected
from workers.kinds.registry import Kind
from workers.runtime.pull import Credit, Lane, Settled, pull

pytestmark = pytest.mark.anyio

ECHO = Puppet("echo").kind
OTHER = Puppet("group").kind
"""Of another name; that of a batch in other tests."""


class _Desk:
    """Takes deliveries in, and lets them go when the test says so."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.most = 0
        self._settled: list[Settled] = []

    @property
    def bodies(self) -> list[bytes]:
        """What came, in order."""
        return [body for group in self.groups for body in group]

    @property
    def in_hand(self) -> int:
        return len(self._settled)

    def handle(self, kind: Kind, deliveries: list[Delivery], settled: Settled) -> None:
        self.groups.append([delivery.body for delivery in deliveries])
        self._settled += [settled] * len(deliveries)
        self.most = max(self.most, self.in_hand)

    def release(self, count: int | None = None) -> None:
        """Let the first go, or all."""
        going = self._settled[:count]
        del self._settled[:count]
        for settled in going:
            settled()


def lane(consumer: str = "echo") -> Lane:
    return Lane(
        stream="JOBS",
        consumer=consumer,
        kind=OTHER if consumer.startswith("group") else ECHO,
        high=consumer.endswith("-high"),
    )


def of(slots: int, ahead: int = 0) -> Callable[[Kind], tuple[int, int]]:
    return lambda kind: (slots, ahead)


@asynccontextmanager
async def pulling(bus: MemoryBus, credit: Credit, desk: _Desk, *consumers: str) -> AsyncIterator[Callable[[], None]]:
    """Lanes that pull; what is yielded stops them."""
    scope = anyio.CancelScope()

    async def lanes() -> None:
        with scope:
            async with anyio.create_task_group() as pulls:
                pulls.start_soon(credit.serve)
                for consumer in consumers or ("echo",):
                    pulls.start_soon(pull, bus, lane(consumer), credit, desk.handle)

    async with anyio.create_task_group() as group:
        group.start_soon(lanes)
        await anyio.sleep(1)
        yield scope.cancel
        group.cancel_scope.cancel()


async def publish(bus: MemoryBus, *bodies: bytes, subject: str = "jobs.echo") -> None:
    for body in bodies:
        await bus.publish(subject, body)
    await anyio.sleep(1)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(1, count + 1)]


async def unacknowledged(bus: MemoryBus, consumer: str = "echo") -> int:
    return (await bus.consumer("JOBS", consumer)).unacknowledged


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    bus, desk, credit = await connected(), _Desk(), Credit(of(2))
    async with pulling(bus, credit, desk):
        await publish(bus, *numbered(5))
        assert desk.bodies == [b"1", b"2"]
        assert (await unacknowledged(bus), credit.held, credit.held_of("echo")) == (2, 2, 2)
        desk.release()
        await anyio.sleep(1)
        assert desk.bodies == [b"1", b"2", b"3", b"4"]
    assert desk.most == 2


async def test_what_may_be_fetched_ahead_is_fetched_once_it_is_known_to_wait() -> None:
    bus, desk = await connected(), _Desk()
    async with pulling(bus, Credit(of(2, 3)), desk):
        await publish(bus, *numbered(2))
        await publish(bus, b"3")
        assert desk.bodies == [b"1", b"2"], "nothing was known to wait, so no more was asked for than slots"
        await publish(bus, *numbered(7))
        desk.release(1)
        await anyio.sleep(1)
        assert desk.in_hand == 5
    assert desk.most == 5


async def test_of_a_kind_that_takes_batches_a_slot_holds_a_batch() -> None:
    bus, desk = await connected(), _Desk()
    await publish(bus, *numbered(40))
    async with pulling(bus, Credit(of(2, 1), per_slot=lambda kind: 4), desk):
        assert desk.in_hand == 12
        desk.release(1)
        await anyio.sleep(1)
        assert desk.in_hand == 12, "a slot that has begun is filled up"
    assert desk.most == 12


async def test_what_arrives_together_is_handed_over_together() -> None:
    bus, desk = await connected(), _Desk()
    await publish(bus, *numbered(50))
    async with pulling(bus, Credit(of(40)), desk):
        assert [len(group) for group in desk.groups] == [1, 39]


async def test_what_one_lane_holds_the_others_ask_no_more_for() -> None:
    bus, desk = await connected(), _Desk()
    lanes = ("echo", "echo-high", "group", "group-high")
    async with pulling(bus, Credit(of(4)), desk, *lanes):
        for subject in ("jobs.echo", "jobs.echo.high", "jobs.group", "jobs.group.high"):
            await publish(bus, *numbered(20), subject=subject)
        while len(desk.bodies) < 80:
            desk.release(1)
            await anyio.sleep(0.01)
        assert desk.most <= 4 + len(lanes)


async def test_room_that_comes_later_is_used() -> None:
    bus, desk = await connected(), _Desk()
    room = 0
    credit = Credit(lambda kind: (room, 0))
    async with pulling(bus, credit, desk):
        await publish(bus, b"1", b"2")
        assert desk.bodies == []
        room = 1
        credit.notify()
        await anyio.sleep(1)
        assert desk.bodies == [b"1"]


async def test_room_that_is_gone_is_asked_for_no_longer() -> None:
    bus, desk = await connected(), _Desk()
    room = 3
    credit = Credit(lambda kind: (room, 0))
    async with pulling(bus, credit, desk):
        room = 0
        credit.notify()
        await anyio.sleep(1)
        await publish(bus, b"1")
        assert desk.bodies == [], "another gateway may have room for it"


async def test_while_a_kind_is_paused_it_asks_for_nothing_and_others_go_on() -> None:
    bus, desk = await connected(), _Desk()
    paused = {"echo"}
    credit = Credit(of(2), paused=lambda lane: lane.kind.name in paused)
    async with pulling(bus, credit, desk, "echo", "group"):
        await publish(bus, b"echo")
        await publish(bus, b"group", subject="jobs.group")
        assert desk.bodies == [b"group"]
        paused.clear()
        credit.notify()
        await anyio.sleep(1)
        assert desk.bodies == [b"group", b"echo"]


async def test_what_is_lent_needs_no_room_until_it_does_again() -> None:
    bus, desk = await connected(), _Desk()
    paused: set[str] = set()
    credit = Credit(of(1), paused=lambda lane: lane.kind.name in paused)
    async with pulling(bus, credit, desk, "echo", "group"):
        await publish(bus, b"echo")
        paused.add("echo")
        credit.lend("echo", 1)
        await publish(bus, *numbered(3), subject="jobs.group")
        assert desk.bodies == [b"echo", b"1"]
        desk.release(1)
        credit.lend("echo", -1)
        await anyio.sleep(1)
        assert credit.held_of("group") == 1


async def test_a_decision_is_made_once_however_much_was_settled() -> None:
    bus, desk = await connected(), _Desk()
    looks = 0

    def room(kind: Kind) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return 40, 0

    async with pulling(bus, Credit(room), desk):
        await publish(bus, *numbered(40))
        looks = 0
        desk.release()
        await anyio.sleep(1)
        assert looks == 1


async def test_what_another_gateway_took_is_withdrawn_where_another_lane_wants_its_room() -> None:
    bus, desk, credit = await connected(), _Desk(), Credit(of(4))
    await publish(bus, *numbered(10))
    async with pulling(bus, credit, desk, "echo", "group"):
        assert desk.in_hand == 4, "and six are known to wait"
        async with bus.pull("JOBS", "echo") as other:
            other.grant(6)
            for _ in range(6):
                await other.receive()
        desk.release()
        await anyio.sleep(1)
        await publish(bus, *numbered(20), subject="jobs.group")
        assert credit.held_of("group") == 4
        await publish(bus, b"another")
        assert credit.held_of("echo") == 1, "it still asks for one"


async def test_a_lane_that_stops_takes_nothing_more() -> None:
    bus, desk = await connected(), _Desk()
    credit = Credit(of(2))
    async with pulling(bus, credit, desk) as stop:
        await publish(bus, b"1")
        stop()
        await anyio.sleep(1)
        await publish(bus, b"2")
        assert (desk.bodies, desk.in_hand, credit.held) == ([b"1"], 1, 1)
        assert (await bus.consumer("JOBS", "echo")).waiting == 1
        desk.release()
        assert credit.held == 0


async def test_what_arrives_while_a_lane_stops_is_given_back_at_once() -> None:
    bus, desk = await connected(), _Desk()
    began = anyio.current_time()
    async with pulling(bus, Credit(of(2)), desk) as stop:
        stop()
        # Handed out in this very turn of the loop: the lane has been cancelled, and its credit not yet withdrawn.
        bus.server.publish("jobs.echo", b"1", {})
        await anyio.sleep(5)
        assert desk.bodies == []
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        again = await puller.receive()
    assert (again.body, again.number) == (b"1", 2)
    assert anyio.current_time() - began < 10, "its lease did not have to end first"


async def test_whoever_takes_messages_finds_them_counted() -> None:
    credit = Credit(of(4))
    seen: list[int] = []

    def handle(kind: Kind, deliveries: list[Delivery], settled: Settled) -> None:
        seen.append(credit.held_of("echo") - len(deliveries))
        for _ in deliveries:
            settled()

    bus = await connected()
    async with anyio.create_task_group() as group:
        group.start_soon(credit.serve)
        group.start_soon(pull, bus, lane(), credit, handle)
        await bus.publish("jobs.echo", b"1")
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert seen == [0]
