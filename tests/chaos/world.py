"""A whole stack that can be struck: servers, a Ray head, gateways, and the doors between gateways and servers."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from infra.bus.nats import connect
from infra.pool.ray.workplace import Workplace
from tests.chaos import kinds
from tests.chaos.disk import Disk
from tests.chaos.machine import Role, Seen, find
from tests.chaos.processes import Census, Kept
from tests.chaos.proxy import Door, door
from tests.chaos.servers import NatsServer, cluster, free_ports, whole
from workers.kinds import registry
from workers.runtime.topology import topology
from workers.settings import load

__all__ = ["ACK_WAIT_S", "PROFILES", "Gateway", "RayPlace", "World", "world"]

ACK_WAIT_S: Final = 4.0
ROOT: Final = Path(__file__).resolve().parents[2]
HEAD_CPUS: Final = 2

PROFILES: Final = 3
"""How many pools a gateway has."""

RayPlace = Literal["head", "local", "none"]
"""Where a gateway's actors are: in the common cluster, in a Ray of its own, or in child processes."""

SETTINGS: Final = f"""\
[gateway]
ack_wait_s = {ACK_WAIT_S}
grace_s = 2
deadline_s = 1800
batch_deadline_s = 3600

[retry]
# Faults come every few seconds: what is lost by them is not what a budget is for.
max_lost = 50
base_s = 0.5
cap_s = 5

[streams]
events_max_bytes = 1073741824
dlq_max_bytes = 268435456

[kinds]
modules = ["tests.chaos.kinds"]

# Without Ray a profile is one process for one job at a time: what is quick must not wait behind what is slow.
[profiles.quick]
actors = 1
cpus = 0.1
concurrency = 32

[profiles.default]
actors = 1
cpus = 0.1
concurrency = 64

[profiles.alone]
actors = 1
cpus = 0.1
concurrency = 1
"""


@dataclass
class Gateway:
    """A gateway and its doors, one to each server."""

    name: str
    place: RayPlace
    process: Kept
    doors: list[Door]


@dataclass
class World:
    """Made by `world`."""

    folder: Path
    servers: list[NatsServer]
    disk: Disk | None
    census: Census
    ray_head: Kept | None = None
    gateways: list[Gateway] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The servers themselves, for clients that no fault cuts off."""
        return ",".join(server.url for server in self.servers)

    @property
    def ledger(self) -> Path:
        """What user code wrote."""
        return self.folder / "ledger"

    def processes(self, role: Role) -> list[Seen]:
        """What runs in that role now."""
        return find(role, self.census.look())


@asynccontextmanager
async def world(folder: Path, *, servers: int, places: Sequence[RayPlace], disk: Disk | None) -> AsyncIterator[World]:
    """The stack, started and not yet serving; all of it is gone after the block."""
    store = folder / "store" if disk is None else disk.path
    (folder / "ledger").mkdir(parents=True)
    (folder / "jetray.toml").write_text(SETTINGS, encoding="utf-8")
    census = Census()
    made = World(folder, cluster(servers, folder, store), disk, census)
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as kept:
            tasks = [kept.create_task(census.take())]
            try:
                await asyncio.gather(*(server.start() for server in made.servers))
                await whole(made.servers, 60)
                await _apply(made)
                environment = _environment(folder)
                if "head" in places:
                    tasks.append(kept.create_task(_head(made, environment, stack).keep()))
                for number, place in enumerate(places, 1):
                    doors = [await stack.enter_async_context(door(server.port)) for server in made.servers]
                    gateway = _gateway(f"gw-{number}", place, doors, environment, folder)
                    made.gateways.append(gateway)
                    tasks.append(kept.create_task(gateway.process.keep()))
                yield made
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(*(server.stop() for server in made.servers))
    finally:
        census.end()


async def _apply(made: World) -> None:
    """As `jetray apply` does: the observer wants its streams before the first gateway serves."""
    settings = load(made.folder / "jetray.toml", {"JETRAY_STREAMS_REPLICAS": str(len(made.servers))})
    async with connect(made.url, name="chaos apply") as bus:
        await bus.apply(topology(settings, registry.load(settings.kinds.modules)))


def _environment(folder: Path) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JETRAY_", "RAY_")) and name != "NATS_URL"
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        kinds.LEDGER: str(folder / "ledger"),
    }


def _head(made: World, environment: dict[str, str], stack: AsyncExitStack) -> Kept:
    workplace = Workplace()
    stack.callback(workplace.remove)
    (port,) = free_ports(1)
    environment["CHAOS_HEAD"] = f"127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
        f"--num-cpus={HEAD_CPUS}", "--include-dashboard=false", "--object-store-memory=100000000",
        f"--temp-dir={workplace.path}", "--dashboard-agent-listen-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    # It would wait half a minute for nodes that are leaving too.
    made.ray_head = Kept("ray-head", command, environment=environment, folder=made.folder, patience_s=1.0)
    return made.ray_head


def _gateway(name: str, place: RayPlace, doors: list[Door], environment: dict[str, str], folder: Path) -> Gateway:
    own = {
        **environment,
        "NATS_URL": ",".join(f"nats://127.0.0.1:{door.port}" for door in doors),
        "RAY_ADDRESS": environment["CHAOS_HEAD"] if place == "head" else place,
        "JETRAY_GATEWAY_NAME": name,
        "JETRAY_STREAMS_REPLICAS": str(len(doors)),
    }
    process = Kept(name, [sys.executable, "-m", "workers", "worker"], environment=own, folder=folder)
    return Gateway(name, place, process, doors)
