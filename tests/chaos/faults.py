"""What strikes, and how it is healed. Of each fault there is one object a world; it strikes one thing at a time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from infra.bus.nats import connect
from tests.chaos.machine import Role
from tests.chaos.servers import NatsServer, leader, whole
from tests.chaos.world import ACK_WAIT_S, Gateway, World

__all__ = ["FAULTS", "Fault", "Struck", "faults_for"]

WHOLE_S = 90.0
"""What a cluster gets to be whole again, before the next of its servers is killed."""
TRAP_S = 5.0


class Struck(Struct):
    """One fault as it happened."""

    fault: str
    target: str
    began: float
    """Seconds since the epoch."""
    healed: float | None = None
    skipped: bool = False
    """There was just nothing to strike."""


class Fault(Protocol):
    """Strikes and heals."""

    name: str

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """Do it; what was struck, or None where there is nothing to strike just now."""
        ...

    async def heal(self, world: World) -> None:
        """Return once it is undone, as far as it is not for Jetray or its supervisor to recover."""
        ...


class KillGateway:
    """kill -9 of a gateway; its supervisor starts it again."""

    name = "gateway killed"

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """One of those that run."""
        running = [gateway for gateway in world.gateways if gateway.process.pid is not None]
        if not running:
            return None
        gateway = dice.choice(running)
        return gateway.name if gateway.process.send(signal.SIGKILL) else None

    async def heal(self, world: World) -> None:
        """Nothing to do."""


class KillProcess:
    """kill -9 of one of Ray's processes, or of what takes an actor's place without Ray."""

    def __init__(self, name: str, role: Role) -> None:
        self.name = name
        self._role = role

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """One of those that run."""
        found = world.processes(self._role)
        if not found:
            return None
        seen = dice.choice(found)
        try:
            os.kill(seen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return f"{self._role} {seen.pid}"

    async def heal(self, world: World) -> None:
        """Nothing to do."""


class KillServer:
    """kill -9 of a nats-server; it is started again on what it stored."""

    name = "nats-server killed"

    def __init__(self) -> None:
        self._struck: NatsServer | None = None

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """One of those that run."""
        await whole(world.servers, WHOLE_S)
        self._struck = await self._choose(world, dice)
        await self._struck.kill()
        await asyncio.sleep(dice.uniform(0.2, 2.0))
        return self._struck.name

    async def heal(self, world: World) -> None:
        """Start it."""
        if self._struck is not None and not self._struck.running:
            await self._struck.start()

    async def _choose(self, world: World, dice: random.Random) -> NatsServer:
        return dice.choice(world.servers)


class KillLeader(KillServer):
    """The same, of the server that leads `EVENTS` or `JOBS`."""

    name = "leader killed"

    async def _choose(self, world: World, dice: random.Random) -> NatsServer:
        stream = dice.choice(["EVENTS", "JOBS"])
        async with connect(world.url, name="chaos leader") as bus:
            name = await leader(bus, stream)
        return next((server for server in world.servers if server.name == name), world.servers[0])


class Freeze:
    """SIGSTOP of a gateway until its leases are over, then SIGCONT."""

    name = "gateway frozen"

    def __init__(self) -> None:
        self._pid: int | None = None

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """One of those that run, for one and a half leases to two and a half."""
        running = [gateway for gateway in world.gateways if gateway.process.pid is not None]
        if not running:
            return None
        gateway = dice.choice(running)
        self._pid = gateway.process.send(signal.SIGSTOP)
        await asyncio.sleep(ACK_WAIT_S * dice.uniform(1.5, 2.5))
        return gateway.name

    async def heal(self, world: World) -> None:
        """Thaw it."""
        if self._pid in [gateway.process.pid for gateway in world.gateways] and self._pid is not None:
            os.kill(self._pid, signal.SIGCONT)
        self._pid = None


class Partition:
    """Nothing passes between a gateway and NATS, until its leases are over; then what waited is lost, or arrives."""

    name = "partition"

    def __init__(self) -> None:
        self._struck: Gateway | None = None
        self._loses = False

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """One gateway, for one and a half leases to two and a half."""
        gateway = self._struck = dice.choice(world.gateways)
        self._loses = dice.random() < 0.5
        for door in gateway.doors:
            door.stall()
        await asyncio.sleep(ACK_WAIT_S * dice.uniform(1.5, 2.5))
        return f"{gateway.name}, what waited {'is lost' if self._loses else 'arrives late'}"

    async def heal(self, world: World) -> None:
        """Let it through."""
        for door in self._struck.doors if self._struck is not None else ():
            if self._loses:
                door.cut()
            door.heal()
        self._struck = None


class LoseReplies:
    """What a gateway sends arrives, and the answers do not."""

    name = "replies lost"

    def __init__(self) -> None:
        self._struck: Gateway | None = None

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """Either for a while, or from the very moment in which an event has reached the server."""
        gateway = self._struck = dice.choice(world.gateways)
        if dice.random() < 0.5:
            for door in gateway.doors:
                door.mute()
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            return f"{gateway.name}, for a while"
        word = dice.choice([b".started.", b".completed.", b".progress.", b"$JS.ACK.JOBS."])
        traps = [asyncio.create_task(door.trap(word)) for door in gateway.doors]
        done, waiting = await asyncio.wait(traps, timeout=TRAP_S, return_when=asyncio.FIRST_COMPLETED)
        for trap in waiting:
            trap.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(dice.uniform(0.0, 0.2))
        return f"{gateway.name}, from {word.decode()} on" if done else None

    async def heal(self, world: World) -> None:
        """Let answers through."""
        for door in self._struck.doors if self._struck is not None else ():
            door.heal()
        self._struck = None


class FillDisk:
    """No byte is free where the server stores; then there is room again, and the server is restarted."""

    name = "disk full"

    async def strike(self, world: World, dice: random.Random) -> str | None:
        """For three to six seconds."""
        assert world.disk is not None
        await whole(world.servers, WHOLE_S)
        written = await asyncio.to_thread(world.disk.fill)
        await asyncio.sleep(dice.uniform(3.0, 6.0))
        return f"{written >> 20} MiB"

    async def heal(self, world: World) -> None:
        """Free it, and restart what could not write."""
        assert world.disk is not None
        world.disk.free()
        for server in world.servers:
            await server.stop()
            await server.start()


FAULTS: dict[str, Callable[[], Fault]] = {
    KillGateway.name: KillGateway,
    "actor killed": lambda: KillProcess("actor killed", "actor"),
    "raylet killed": lambda: KillProcess("raylet killed", "raylet"),
    "GCS killed": lambda: KillProcess("GCS killed", "gcs"),
    KillServer.name: KillServer,
    Freeze.name: Freeze,
    Partition.name: Partition,
    LoseReplies.name: LoseReplies,
    FillDisk.name: FillDisk,
    KillLeader.name: KillLeader,
}
"""By name: what makes one."""


def faults_for(world: World) -> tuple[list[Fault], dict[str, str]]:
    """The faults that can strike a world, and why the others cannot."""
    without: dict[str, str] = {}
    if world.disk is None:
        without[FillDisk.name] = "the servers' store is no small disk here"
    if len(world.servers) == 1:
        without[KillLeader.name] = "one server alone has no other to lead"
    if all(gateway.place == "none" for gateway in world.gateways):
        without["raylet killed"] = without["GCS killed"] = "there is no Ray here"
    return [make() for name, make in FAULTS.items() if name not in without], without
