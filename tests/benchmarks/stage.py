"""Where contenders play: a nats-server of their own, and processes that are ended by their ids."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.bus.embedded import nats_server
from infra.bus.nats import NatsBus, connect
from tests.benchmarks.machine import rss_mib, tree
from tests.chaos.processes import spawn

__all__ = ["RAY_FOLDER", "ROOT", "Ended", "Process", "Stage", "running", "short_folder", "stage"]

ROOT: Final = Path(__file__).resolve().parents[2]
RAY_FOLDER: Final = "BENCH_RAY_FOLDER"
"""Environment: where a Ray keeps its sockets and logs; who made it removes it, however the process ends."""
PATIENCE_S: Final = 20.0


class Ended(Exception):
    """A process that was needed has ended."""


@dataclass(frozen=True)
class Process:
    """A process that runs."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Its id."""
        return self.process.pid

    @property
    def rss_mib(self) -> float:
        """Its resident memory now."""
        return rss_mib(self.pid)

    def check(self) -> None:
        """Raise `Ended`, with its last words, unless it runs."""
        if self.process.returncode is not None:
            raise Ended(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it said."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


@dataclass(frozen=True)
class Stage:
    """Made by `stage`."""

    folder: Path
    url: str
    bus: NatsBus
    server_pid: int

    async def messages(self, stream: str) -> int:
        """How many messages a stream holds."""
        info: dict[str, Any] = await self.bus.api(f"STREAM.INFO.{stream}", None)
        return int(info["state"]["messages"])

    async def last(self, stream: str) -> int:
        """The sequence of a stream's last message."""
        info: dict[str, Any] = await self.bus.api(f"STREAM.INFO.{stream}", None)
        return int(info["state"]["last_seq"])


@asynccontextmanager
async def stage(label: str) -> AsyncIterator[Stage]:
    """A fresh nats-server, and a folder; both are gone after the block."""
    with tempfile.TemporaryDirectory(prefix=f"jetray-bench-{label}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with nats_server(folder) as server, connect(server.url, name="benchmark", answer_timeout_s=30.0) as bus:
            yield Stage(folder, server.url, bus, server.process.pid)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets; gone after the block, whatever still writes into it."""
    base = "/tmp" if os.access("/tmp", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="jb-", dir=base, ignore_cleanup_errors=True) as name:
        yield Path(name)


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A process of this Python's, for as long as the block lasts, then ended by its id with all below it."""
    log = folder / f"{name}.log"
    process = await spawn(
        [sys.executable, *command], environment={**_inherited(), **(environment or {})}, folder=ROOT, log=log
    )
    try:
        yield Process(name, process, log)
    finally:
        await asyncio.shield(_end(process))


def _inherited() -> dict[str, str]:
    """Ours, without settings of whoever runs this."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JETRAY_", "RAY_", "CELERY_")) and name not in ("NATS_URL", "PYTHONDONTWRITEBYTECODE")
    }
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


async def _end(process: asyncio.subprocess.Process) -> None:
    below = tree(process.pid)
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    # What it started and left: a Ray's processes outlive a driver that was killed.
    for seen in below:
        if seen in tree(seen.pid):
            with suppress(ProcessLookupError):
                os.kill(seen.pid, signal.SIGKILL)
