"""`workers.runtime.depths`: what is known of the queues, and who is told."""

from __future__ import annotations

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
    depths = Depths(await _bus(), ["short"], Delayed(4))
    told: list[tuple[str, int]] = []
    depths.listeners.append(lambda kind, depth: told.append((kind, depth)))
    assert (depths.of("short"), depths.known) == (0, {})
    depths.saw("short", 7)
    depths.saw("short-high", 2)
    depths.saw("short", 7)
    depths.saw("short", 6)
    assert told == [("short", 7), ("short", 9), ("short", 8)]
    assert depths.of("short") == depths.known["short"] == 8


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
