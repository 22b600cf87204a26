"""Single faults in quiet, timed: how long until work goes on."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from contracts import headers as h
from contracts import subjects
from infra.bus.base import BusError
from infra.bus.nats import NatsBus, connect
from tests.chaos.faults import KillProcess, KillServer
from tests.chaos.kinds import Task
from tests.chaos.phase import ready
from tests.chaos.report import median_and_worst
from tests.chaos.watcher import Watcher
from tests.chaos.world import ACK_WAIT_S, PROFILES, RayPlace, World, world

__all__ = ["LIMITS", "measure"]

LIMITS: Final = {"gateway": ACK_WAIT_S + 2.0, "actor": 3.0, "server": 5.0}
"""Seconds that each recovery may take."""
WORDS: Final = {
    "gateway": "gateway killed to the next attempt at its jobs",
    "actor": "actor killed to its replacement",
    "server": "nats-server listens again to the next attempt at any job",
}
HELD: Final = 8
"""Long jobs that are published before a gateway is killed."""
HELD_AT_LEAST: Final = 2
"""Of these, what runs by then: without Ray a gateway runs one at a time."""
PATIENCE_S: Final = 120.0
ECHO_S: Final = 0.1

Say = Callable[[str], None]


async def measure(folder: Path, places: Sequence[RayPlace], rounds: int, say: Say) -> int:
    """1 where a recovery took longer than it may."""
    async with (
        world(folder / "recovery", servers=1, places=places, disk=None) as made,
        connect(made.url, name="chaos load") as sending,
        connect(made.url, name="chaos watch") as seeing,
    ):
        watcher = Watcher(seeing)
        watching = asyncio.create_task(watcher.watch())
        try:
            await ready(made, watcher)
            dice = random.Random(rounds)
            for number in range(rounds):
                await _gateway(made, watcher, sending, number)
                await _actor(made, watcher, dice)
                await _server(made, watcher, sending, dice)
                say(f"round {number + 1} of {rounds} is over")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return _verdict(watcher)


def _verdict(watcher: Watcher) -> int:
    status = 0
    for name, limit in LIMITS.items():
        seconds: list[float] = getattr(watcher.recoveries, name)
        kept = bool(seconds) and max(seconds) <= limit
        status = status if kept else 1
        print(f"{WORDS[name]}: {median_and_worst(seconds)}; at most {limit:g} s: {'kept' if kept else 'NOT KEPT'}")
    return status


async def _gateway(made: World, watcher: Watcher, bus: NatsBus, number: int) -> None:
    """Kill one that holds long jobs; another one each time."""
    seen = len(watcher.recoveries.gateway)
    for index in range(HELD):
        await _publish(bus, "linger", f"held-{number}-{index}", int(3000 * ACK_WAIT_S))
    async with asyncio.timeout(PATIENCE_S):
        await watcher.until(lambda: sum(watcher.holds(gateway.name) for gateway in made.gateways) >= HELD_AT_LEAST)
        order = made.gateways[number % len(made.gateways) :] + made.gateways
        gateway = next(gateway for gateway in order if watcher.holds(gateway.name))
        held, pools = watcher.holds(gateway.name), watcher.pools[gateway.name]
        gateway.process.send(signal.SIGKILL)
        watcher.gateway_died(gateway.name, time.time())
        await watcher.until(lambda: len(watcher.recoveries.gateway) - seen >= held)
        # The next fault strikes a whole fleet.
        await watcher.until(lambda: watcher.pools[gateway.name] >= pools + PROFILES)


async def _actor(made: World, watcher: Watcher, dice: random.Random) -> None:
    seen = len(watcher.recoveries.actor)
    await KillProcess("actor killed", "actor").strike(made, dice)
    watcher.actor_died(time.time())
    async with asyncio.timeout(PATIENCE_S):
        await watcher.until(lambda: len(watcher.recoveries.actor) > seen)


async def _server(made: World, watcher: Watcher, bus: NatsBus, dice: random.Random) -> None:
    """Restart the server while jobs keep coming."""
    seen = len(watcher.recoveries.server)
    fault = KillServer()
    async with _echoes(bus):
        await fault.strike(made, dice)
        await fault.heal(made)
        watcher.server_ready(made.servers[0].ready)
        async with asyncio.timeout(PATIENCE_S):
            await watcher.until(lambda: len(watcher.recoveries.server) > seen)


@asynccontextmanager
async def _echoes(bus: NatsBus) -> AsyncIterator[None]:
    async def publish() -> None:
        while True:
            await _publish(bus, "echo", f"echo-{time.time_ns()}", 0)
            await asyncio.sleep(ECHO_S)

    publishing = asyncio.create_task(publish())
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def _publish(bus: NatsBus, kind: str, job_id: str, milliseconds: int) -> None:
    body = msgspec.json.encode(Task(job_id, milliseconds))
    while True:
        try:
            await bus.publish(subjects.job(kind), body, {h.MSG_ID: f"{kind}.{job_id}.1"})
            return
        except BusError:
            await asyncio.sleep(ECHO_S)
