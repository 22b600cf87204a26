"""nats-servers that can be killed and started again on what they stored: one, or three that are a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from infra.bus.base import BusError
from infra.bus.embedded import MAX_PAYLOAD, find_binary
from infra.bus.nats import NatsBus, connect
from tests.chaos.processes import spawn

__all__ = ["NatsServer", "cluster", "free_ports", "leader", "whole"]

READY_S: Final = 30.0
STOP_S: Final = 10.0
PORTS: Final = (20_000, 30_000)
"""Below those that systems hand out."""
STORE_BYTES: Final = 8 * 1024**3
"""What JetStream may reserve: more than the small disk has, since only reservations are counted."""


class NatsServer:
    """One server; it is not started again by itself."""

    def __init__(self, name: str, port: int, folder: Path, store: Path, routes: Sequence[int] = ()) -> None:
        self.name = name
        self.port = port
        self.ready = 0.0
        """When it last began to listen, in seconds since the epoch."""
        self._folder = folder
        self._store = store
        self._routes = routes
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and wait until it greets."""
        config = self._folder / f"{self.name}.conf"
        config.write_text(self._config(), encoding="utf-8")
        self._process = await spawn(
            [find_binary(), "-c", str(config), "-l", str(self._folder / f"{self.name}.log")],
            environment=os.environ,
            folder=self._folder,
            log=self._folder / f"{self.name}.out",
        )
        async with asyncio.timeout(READY_S):
            while not await self._greets():
                if self._process.returncode is not None:
                    raise RuntimeError(f"{self.name} ended with {self._process.returncode}; see {self._folder}")
                await asyncio.sleep(0.02)
        self.ready = time.time()

    async def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        if self.running:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """As an operator does."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def _greets(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            return (await reader.read(5)) == b"INFO "
        finally:
            writer.transport.abort()

    def _config(self) -> str:
        store = json.dumps(str(self._store / self.name))
        lines = [
            f"server_name: {self.name}",
            f"listen: 127.0.0.1:{self.port}",
            f"max_payload: {MAX_PAYLOAD}",
            f"jetstream {{ store_dir: {store}, max_file_store: {STORE_BYTES} }}",
        ]
        if self._routes:
            own, *others = self._routes
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in others)
            # Clients are not told of the other servers: they would go round their doors.
            lines += [
                "cluster {",
                "  name: chaos",
                f"  listen: 127.0.0.1:{own}",
                "  no_advertise: true",
                f"  routes: [{routes}]",
                "}",
            ]
        return "\n".join([*lines, ""])


def cluster(size: int, folder: Path, store: Path) -> list[NatsServer]:
    """So many servers, not started: one stands alone, more are a cluster."""
    ports = free_ports(2 * size)
    inner = ports[size:]
    return [
        NatsServer(
            f"nats-{index + 1}",
            ports[index],
            folder,
            store,
            [inner[index], *inner[:index], *inner[index + 1 :]] if size > 1 else (),
        )
        for index in range(size)
    ]


async def leader(bus: NatsBus, stream: str) -> str | None:
    """The server that leads a stream; None while there is none."""
    info = await bus.api(f"STREAM.INFO.{stream}", None)
    name: str | None = info.get("cluster", {}).get("leader")
    return name


async def whole(servers: Sequence[NatsServer], within_s: float) -> None:
    """Return once every stream has a leader, and every copy of it is up to date."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                async with connect(",".join(server.url for server in servers), name="chaos whole", wait=False) as bus:
                    while not await _is_whole(bus, len(servers)):  # noqa: ASYNC110  the servers tell nobody
                        await asyncio.sleep(0.2)
                return
            except BusError:
                await asyncio.sleep(0.2)


async def _is_whole(bus: NatsBus, size: int) -> bool:
    if size == 1:
        await bus.api("INFO", None)
        return True
    info = await bus.api("STREAM.LIST", {"offset": 0})
    return all(_is_current(stream["cluster"], stream["config"]["num_replicas"]) for stream in info["streams"] or ())


def _is_current(found: dict[str, Any], copies: int) -> bool:
    others = found.get("replicas") or []
    return bool(found.get("leader")) and len(others) == copies - 1 and all(other["current"] for other in others)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, nor gets by asking for any: a killed server's own must still be free afterwards."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return [*found]
