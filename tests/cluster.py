"""Three nats-servers as one cluster on loopback, whose streams can have three replicas."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from infra.bus.base import BusError
from infra.bus.embedded import MAX_PAYLOAD, die_with_parent, find_binary
from infra.bus.nats import NatsBus, connect

__all__ = ["Cluster", "nats_cluster"]

SERVERS = 3
READY_S = 60.0
LOOK_AGAIN_S = 0.05


class Cluster:
    """The servers, by the names `n0`, `n1` and `n2`. Each can be killed, frozen, and started again where it was.

    Starting and killing need no event loop, so one cluster may serve tests that each have their own.
    """

    names: Final = tuple(f"n{index}" for index in range(SERVERS))

    def __init__(self, folder: Path, ports: list[int], routes: list[int]) -> None:
        self._folder = folder
        self._ports = dict(zip(self.names, ports, strict=True))
        self._routes = dict(zip(self.names, routes, strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Where all of them listen, with commas."""
        return ",".join(self.url_of(name) for name in self.names)

    def url_of(self, name: str) -> str:
        """Where one of them listens."""
        return f"nats://127.0.0.1:{self._ports[name]}"

    def runs(self, name: str) -> bool:
        """Whether it runs."""
        return name in self._processes and self._processes[name].poll() is None

    def start(self, name: str) -> None:
        """Start one, on the folder and the ports that it always has. It listens soon."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "nats-server.conf"
        config.write_text(self._config(name, folder), encoding="utf-8")
        self._processes[name] = subprocess.Popen(
            [find_binary(), "-c", str(config), "-l", str(folder / "nats-server.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )

    def start_missing(self) -> None:
        """Start those that do not run."""
        for name in self.names:
            if not self.runs(name):
                self.start(name)

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self._processes[name].kill()
        self._processes[name].wait()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all of them, and what they hold with them."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    async def whole(self) -> None:
        """Return once there is a leader who makes streams, and every stream has a leader and all of its replicas."""
        async with asyncio.timeout(READY_S), connect(self.url, name="cluster") as bus:
            while not await _is_whole(bus):
                await asyncio.sleep(LOOK_AGAIN_S)

    async def leader(self, bus: NatsBus, stream: str) -> str:
        """The living server that leads a stream, waited for."""
        async with asyncio.timeout(READY_S):
            while True:
                name = await _leader(bus, stream)
                if name is not None and self.runs(name):
                    return name
                await asyncio.sleep(LOOK_AGAIN_S)

    async def step_down(self, bus: NatsBus, stream: str) -> None:
        """Make the leader of a stream give up its place."""
        await bus.api(f"STREAM.LEADER.STEPDOWN.{stream}", None)

    def _config(self, name: str, folder: Path) -> str:
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for other, port in self._routes.items() if other != name)
        return "\n".join(
            (
                f"server_name: {name}",
                f"listen: 127.0.0.1:{self._ports[name]}",
                f"max_payload: {MAX_PAYLOAD}",
                f"jetstream {{ store_dir: {json.dumps(str(folder / 'data'))} }}",
                f"cluster {{ name: tests, listen: 127.0.0.1:{self._routes[name]}, routes: [{others}] }}",
                "",
            )
        )


@contextmanager
def nats_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster of three for as long as the block lasts; await `whole` before its first use."""
    with _free_ports(2 * SERVERS) as ports:
        cluster = Cluster(folder, ports[:SERVERS], ports[SERVERS:])
    try:
        cluster.start_missing()
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody has. The servers must know each other's before the first of them listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [each.getsockname()[1] for each in sockets]


async def _leader(bus: NatsBus, stream: str) -> str | None:
    try:
        info = await bus.api(f"STREAM.INFO.{stream}", None)
    except BusError:
        return None
    found = info.get("cluster", {}).get("leader")
    return None if found is None else str(found)


async def _is_whole(bus: NatsBus) -> bool:
    try:
        streams: list[dict[str, Any]] = (await bus.api("STREAM.LIST", None)).get("streams") or []
    except BusError:
        return False
    clusters = [stream["cluster"] for stream in streams if stream["config"]["num_replicas"] == SERVERS]
    return all(
        cluster.get("leader") and all(peer.get("current") for peer in cluster.get("replicas") or ())
        for cluster in clusters
    )
