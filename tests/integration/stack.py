"""A real stack for tests: a nats-server, and gateways as processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from contracts import events, subjects
from contracts.events import Event, is_terminal
from infra.bus.embedded import nats_server
from infra.bus.nats import NatsBus, connect

__all__ = ["Stack", "stack"]

READY_S = 60
WORKER = ("-m", "workers", "worker")


class Stack:
    """One nats-server, one client, and the gateways that a test starts."""

    def __init__(self, url: str, bus: NatsBus, folder: Path) -> None:
        self.url = url
        self.bus = bus
        self._folder = folder
        self._gateways: list[asyncio.subprocess.Process] = []

    async def gateway(
        self,
        name: str = "gw-1",
        *,
        ray: str = "none",
        command: Sequence[str] = WORKER,
        log: Path | str | None = None,
        **settings: str,
    ) -> asyncio.subprocess.Process:
        """Start a gateway and wait until it serves. What it says goes to `log`, or where the test's own words go."""
        process, reader = await self.begin(name, ray=ray, command=command, log=log, **settings)
        async with asyncio.timeout(READY_S):
            said = await asyncio.to_thread(os.read, reader, 64)
        os.close(reader)
        assert said == b"serving\n", f"the gateway ended with {await process.wait()} before it served"
        return process

    async def begin(
        self,
        name: str = "gw-1",
        *,
        ray: str = "none",
        command: Sequence[str] = WORKER,
        log: Path | str | None = None,
        **settings: str,
    ) -> tuple[asyncio.subprocess.Process, int]:
        """Start a gateway; also the descriptor on which it says that it serves."""
        reader, writer = os.pipe()
        words = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=self._folder,
            env=self._environment(name, ray, writer, settings),
            pass_fds=(writer,),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=words,
            start_new_session=True,
        )
        self._gateways.append(process)
        os.close(writer)
        if words is not None:
            os.close(words)
        return process, reader

    async def stop(self) -> None:
        """End every gateway that still runs, and what it started."""
        for process in self._gateways:
            if process.returncode is None:
                process.terminate()
        for process in self._gateways:
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def publish(self, subject: str, body: bytes | str, headers: Mapping[str, str] | None = None) -> int:
        """Publish with an acknowledgement; the sequence."""
        data = body.encode() if isinstance(body, str) else body
        return (await self.bus.publish(subject, data, headers)).sequence

    async def end(self, kind: str, job_id: str, *, within_s: float = 60) -> Event:
        """The terminal event of a job's newest run, waited for."""
        async for event in self._log(kind, job_id, within_s):
            if is_terminal(event):
                return event
        raise AssertionError("a follower does not end by itself")

    async def seen(self, kind: str, job_id: str, name: str, *, within_s: float = 60) -> Event:
        """The first event of that name in a job's log, waited for."""
        async for event in self._log(kind, job_id, within_s):
            if events.event_name(event) == name:
                return event
        raise AssertionError("a follower does not end by itself")

    async def _log(self, kind: str, job_id: str, within_s: float) -> AsyncIterator[Event]:
        async with asyncio.timeout(within_s):
            async with aclosing(self.bus.follow(subjects.EVENTS, subjects.job_log(kind, job_id))) as log:
                async for message in log:
                    yield events.decode(message.body)

    def _environment(self, name: str, ray: str, ready: int, settings: Mapping[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "NATS_URL": self.url,
            "RAY_ADDRESS": ray,
            "JETRAY_READY_FD": str(ready),
            "JETRAY_GATEWAY_NAME": name,
            "JETRAY_STREAMS_EVENTS_MAX_BYTES": str(256 * 1024**2),
            "JETRAY_STREAMS_DLQ_MAX_BYTES": str(256 * 1024**2),
            **settings,
        }


@asynccontextmanager
async def stack(folder: Path) -> AsyncIterator[Stack]:
    """The stack, for as long as the block lasts; gateways find their `jetray.toml` in `folder`."""
    async with nats_server(folder / "nats") as server, connect(server.url, name="test") as bus:
        running = Stack(server.url, bus, folder)
        try:
            yield running
        finally:
            await running.stop()
