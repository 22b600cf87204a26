"""Credit: no more in hand than there is room for, and nothing kept by a lane that stops."""

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
from workers.runtime.pull import Credit, Lane, pull

pytestmark = pytest.mark.anyio

ECHO = Puppet("echo").kind


class _Desk:
    """Takes deliveries in, and lets them go when the test says so."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.in_hand = 0
        self.most = 0
        self._release = anyio.Event()

    async def handle(self, kind: Kind, delivery: Delivery) -> None:
        self.bodies.append(delivery.body)
        self.in_hand += 1
        self.most = max(self.most, self.in_hand)
        try:
            await self._release.wait()
        finally:
            self.in_hand -= 1

    def release(self) -> None:
        self._release.set()
        self._release = anyio.Event()


@asynccontextmanager
async def _pulling(bus: MemoryBus, credit: Credit, desk: _Desk, *consumers: str) -> AsyncIterator[Callable[[], None]]:
    """Lanes that pull; what is yielded stops them, and not the work."""
    scope = anyio.CancelScope()

    async def lanes() -> None:
        with scope:
            async with anyio.create_task_group() as pulls:
                for consumer in consumers or ("echo",):
                    lane = Lane(stream="JOBS", consumer=consumer, kind=ECHO)
                    pulls.start_soon(pull, bus, lane, credit, work, desk.handle)

    async with anyio.create_task_group() as work:
        work.start_soon(lanes)
        yield scope.cancel
        work.cancel_scope.cancel()


async def _publish(bus: MemoryBus, *bodies: bytes, lane: str = "jobs.echo") -> None:
    for body in bodies:
        await bus.publish(lane, body)
    await anyio.sleep(1)


async def test_credit_is_what_is_not_in_hand() -> None:
    capacity = 3
    credit = Credit(lambda: capacity)
    assert credit.free == 3
    credit.take()
    credit.take()
    assert credit.free == 1
    credit.give()
    assert credit.free == 2
    for _ in range(5):
        credit.take()
    assert credit.free == 0, "never below none"


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    bus, desk = await connected(), _Desk()
    async with _pulling(bus, Credit(lambda: 2), desk):
        await _publish(bus, b"1", b"2", b"3", b"4", b"5")
        assert desk.bodies == [b"1", b"2"]
        assert (await bus.consumer("JOBS", "echo")).unacknowledged == 2
        desk.release()
        await anyio.sleep(1)
        assert desk.bodies == [b"1", b"2", b"3", b"4"]
    assert desk.most == 2


async def test_what_is_asked_for_already_counts() -> None:
    bus, desk = await connected(), _Desk()
    async with _pulling(bus, Credit(lambda: 3), desk):
        await _publish(bus, b"1")
        desk.release()
        await _publish(bus, b"2", b"3", b"4", b"5", b"6")
        assert desk.bodies == [b"1", b"2", b"3", b"4"]
    assert desk.most == 3


async def test_what_one_lane_holds_the_other_asks_no_more_for() -> None:
    bus, desk = await connected(), _Desk()
    async with _pulling(bus, Credit(lambda: 2), desk, "echo", "echo-high"):
        await _publish(bus, b"1", b"2", b"3", b"4")
        await _publish(bus, b"5", b"6", b"7", b"8", lane="jobs.echo.high")
        assert desk.most <= 4, "each had asked for two"
        desk.most = 0
        for _ in range(3):
            desk.release()
            await anyio.sleep(1)
        assert sorted(desk.bodies) == [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"]


async def test_room_that_comes_later_is_used() -> None:
    bus, desk = await connected(), _Desk()
    room = 0
    credit = Credit(lambda: room)
    async with _pulling(bus, credit, desk):
        await _publish(bus, b"1", b"2")
        assert desk.bodies == []
        room = 1
        credit.notify()
        await anyio.sleep(1)
        assert desk.bodies == [b"1"]


async def test_an_error_in_the_work_gives_its_credit_back() -> None:
    bus, credit = await connected(), Credit(lambda: 1)

    async def breaks(kind: Kind, delivery: Delivery) -> None:
        raise LookupError("broken")

    lane = Lane(stream="JOBS", consumer="echo", kind=ECHO)
    await bus.publish("jobs.echo", b"1")

    async def house() -> None:
        async with anyio.create_task_group() as work:
            work.start_soon(pull, bus, lane, credit, work, breaks)

    with pytest.raises(ExceptionGroup):
        await house()
    assert credit.free == 1


async def test_a_lane_that_stops_takes_nothing_more_and_what_it_took_goes_on() -> None:
    bus, desk = await connected(), _Desk()
    async with _pulling(bus, Credit(lambda: 2), desk) as stop:
        await _publish(bus, b"1")
        stop()
        await anyio.sleep(1)
        await _publish(bus, b"2")
        assert (desk.bodies, desk.in_hand) == ([b"1"], 1)
        assert (await bus.consumer("JOBS", "echo")).waiting == 1


async def test_what_arrives_while_a_lane_stops_is_given_back_at_once() -> None:
    bus, desk = await connected(), _Desk()
    began = anyio.current_time()
    async with _pulling(bus, Credit(lambda: 2), desk) as stop:
        await anyio.sleep(1)
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
