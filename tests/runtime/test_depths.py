"""`workers.runtime.depths`: what is known of the queues, and who is told."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from contracts import subjects
from infra.bus.memory import MemoryBus, MemoryServer
from tests.runtime.kinds import short
from tests.runtime.world import settings
from workers.runtime.delayed import Delayed
from workers.runtime.depths import LOOK_S, Depths
from workers.runtime.topology import topology

pytestmark = pytest.mark.anyio


async def _bus() -> MemoryBus:
    bus = MemoryBus(MemoryServer())
    await bus.apply(topology(settings(routes=[], gateway={"name": "gw-1"}), {"short": short}))
    return bus


async def test_what_waits_comes_with_each_message_and_both_lanes_count() -> None:
    bus = await _bus()
    depths = Depths(bus, ["short"], Delayed(4))
    told: list[tuple[str, int]] = []
    depths.listeners.append(lambda kind, depth: told.append((kind, depth)))
    assert (depths.of("short"), depths.known) == (0, {})
    depths.saw("short", 7, bus.server_now())
    depths.saw("short-high", 2, bus.server_now())
    depths.saw("short", 7, bus.server_now())
    depths.saw("short", 6, bus.server_now())
    assert told == [("short", 7), ("short", 9), ("short", 8)]
    assert depths.of("short") == depths.known["short"] == 8


async def test_how_long_messages_wait_follows_from_the_last_that_came_and_from_when_none_waited() -> None:
    bus = await _bus()
    depths = Depths(bus, ["short"], Delayed(4))
    assert depths.waited_ms("short") == 0, "none waits"
    began = bus.server_now()
    depths.saw("short", 7, began)
    await anyio.sleep(3)
    assert depths.waited_ms("short") == 3_000
    depths.saw("short", 6, began + timedelta(seconds=2))
    # It comes again, and is older than those that wait.
    depths.saw("short", 6, began + timedelta(seconds=1))
    assert depths.waited_ms("short") == 1_000
    depths.saw("short-high", 2, began)
    assert depths.waited_ms("short") == 3_000, "of the lane in which they wait longest"
    # The server's clock may be ahead of what is thought to be its clock.
    depths.saw("short", 5, bus.server_now() + timedelta(milliseconds=5))
    depths.saw("short-high", 0, began)
    assert depths.waited_ms("short") == 0


async def test_messages_wait_no_longer_than_since_the_server_said_that_none_does() -> None:
    bus = await _bus()
    depths = Depths(bus, ["short"], Delayed(4))
    await bus.publish(subjects.job("short"), b"1")
    await depths.look("short")
    assert depths.waited_ms("short") is None, "it may have waited for days"
    async with bus.pull(subjects.JOBS, "short") as puller:
        puller.grant(1)
        came = await puller.receive()
        depths.saw("short", came.pending, came.stored)
        await anyio.sleep(3_600)
        await depths.look("short")
        await anyio.sleep(1)
        await bus.publish(subjects.job("short"), b"2")
        await anyio.sleep(1)
        await depths.look("short")
        assert depths.waited_ms("short") == 2_000


async def test_the_server_is_asked_for_what_nobody_pulls_and_for_what_is_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.runtime.depths.IN_HAND", 0)
    bus = await _bus()
    delayed = Delayed(2)
    depths = Depths(bus, ["short"], delayed)
    for number in range(3):
        await bus.publish(subjects.job("short"), b"%d" % number)
    async with bus.pull(subjects.JOBS, "short") as puller, anyio.create_task_group() as group:
        puller.grant(1)
        await puller.receive()
        group.start_soon(depths.serve)
        await anyio.sleep(LOOK_S / 2)
        assert depths.of("short") == 3
        assert delayed.crowded("short") == (True, False)
        await bus.publish(subjects.job("short", high=True), b"3")
        await anyio.sleep(LOOK_S)
        assert depths.of("short") == 4
        group.cancel_scope.cancel()


async def test_without_the_server_the_last_figures_stand() -> None:
    bus = await _bus()
    depths = Depths(bus, ["short"], Delayed(4))
    await bus.publish(subjects.job("short"), b"1")
    async with anyio.create_task_group() as group:
        group.start_soon(depths.serve)
        await anyio.sleep(LOOK_S / 2)
        bus.disconnect()
        await anyio.sleep(3 * LOOK_S)
        assert depths.of("short") == 1
        bus.reconnect()
        await bus.publish(subjects.job("short"), b"2")
        await anyio.sleep(2 * LOOK_S)
        assert depths.of("short") == 2
        group.cancel_scope.cancel()
