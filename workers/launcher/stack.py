"""nats-server and the gateway as services: started in this order, stopped in the other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import anyio

from infra.bus import embedded
from workers.launcher.supervise import Pauses, Signals, first_of, kept

__all__ = ["READY_FD", "Gateway", "NatsServer", "Running", "Stack", "gateway_command"]

READY_FD: Final = "JETRAY_READY_FD"
"""Names to the gateway a file descriptor on which to write one line once it serves."""
MARGIN_S: Final = 15.0
"""What a gateway gets, beyond the grace of its jobs, to write down how they ended and to stop its Ray."""


def gateway_command(config: Path | None) -> list[str]:
    """The command line of a gateway."""
    return [sys.executable, "-m", "workers", "worker", *(() if config is None else ("--config", str(config)))]


class NatsServer:
    """The embedded nats-server. A port of 0 becomes the one that the first start found."""

    name = "nats-server"

    def __init__(self, store_dir: Path, port: int) -> None:
        self._store_dir = store_dir
        self.port = port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    async def run(self, serving: Callable[[], None]) -> int:
        """See `Service`."""
        server = await embedded.start(self._store_dir, port=self.port)
        self.port = server.port
        serving()
        try:
            return await server.process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await embedded.stop(server.process)


class Gateway:
    """The gateway in a process group of its own, so that Ctrl-C reaches it through its supervisor alone."""

    name = "gateway"

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        patience_s: float,
        hurry: anyio.Event,
        output: IO[bytes] | int,
    ) -> None:
        self._command = command
        self._environment = environment
        self._patience_s = patience_s
        self._hurry = hurry
        self._output = output

    async def run(self, serving: Callable[[], None]) -> int:
        """See `Service`."""
        reader, writer = os.pipe()
        try:
            process = await self._start(writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_tell, reader, serving)
                status = await process.wait()
                group.cancel_scope.cancel()
            return status
        finally:
            os.close(reader)
            with anyio.CancelScope(shield=True):
                await self._stop(process)

    async def _start(self, writer: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            env={**self._environment, READY_FD: str(writer)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(writer,),
            process_group=0,
            preexec_fn=embedded.die_with_parent,
        )

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(self._patience_s):
                await first_of(process.wait, self._hurry.wait)
        # Whoever of its group outlived it, and itself where it is too slow.
        _kill_group(process.pid)
        await process.wait()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


async def _tell(reader: int, serving: Callable[[], None]) -> None:
    await anyio.wait_readable(reader)
    # Nothing to read is the end of the pipe: it ended before it served.
    if os.read(reader, 64):
        serving()


@dataclass(frozen=True, slots=True)
class Running:
    """A stack whose nats-server listens."""

    url: str
    serving: anyio.Event
    """Set once the gateway serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """nats-server and the gateway, and how they are kept."""

    state_dir: Path
    nats_port: int
    command: Sequence[str]
    """Command line of the gateway."""
    environment: Mapping[str, str]
    grace_s: float
    output: IO[bytes] | int
    """Where the gateway's own words go: a file, or a descriptor."""
    say: Callable[[str], None]
    pauses: Pauses | None
    """Between a death and the next start. Without them the first death is the end."""

    async def run(self, signals: Signals, body: Callable[[Running], Awaitable[None]]) -> None:
        """Run `body` beside the stack, once nats-server listens; then, or on a signal, stop the stack in order."""
        nats = NatsServer(self.state_dir / "nats", self.nats_port)
        async with kept(nats, self.say, pauses=self.pauses) as listening:
            await first_of(listening.wait, signals.stop.wait)
            if signals.stop.is_set():
                return
            gateway = Gateway(
                self.command,
                {**self.environment, "NATS_URL": nats.url},
                patience_s=self.grace_s + MARGIN_S,
                hurry=signals.hurry,
                output=self.output,
            )
            async with kept(gateway, self.say, pauses=self.pauses) as serving:
                running = Running(nats.url, serving)
                await first_of(lambda: body(running), signals.stop.wait)
