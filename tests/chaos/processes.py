"""Processes that are started again whenever they end, as a container runtime would, and a census of what they start."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.chaos.machine import Seen, descendants, everything

__all__ = ["Census", "Kept", "Life", "spawn"]

PAUSE_S: Final = 0.5
"""Between a death and the next start."""
STOP_S: Final = 15.0
CENSUS_S: Final = 1.0


class Life(Struct):
    """One life of a kept process."""

    pid: int
    began: float
    """Seconds since the epoch."""
    ended: float | None = None
    status: int | None = None
    """As in `returncode`: the negative of the signal that ended it."""


class Kept:
    """A command that runs for as long as `keep` does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        patience_s: float = STOP_S,
    ) -> None:
        self.name = name
        self.lives: list[Life] = []
        self._command = command
        self._environment = environment
        self._folder = folder
        self._patience_s = patience_s
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def log(self) -> Path:
        """What it said, all lives one after another."""
        return self._folder / f"{self.name}.log"

    async def keep(self) -> None:
        """Start it, and again whenever it ends, until cancelled; then stop it."""
        try:
            while True:
                self._process = await spawn(
                    self._command, environment=self._environment, folder=self._folder, log=self.log
                )
                life = Life(self._process.pid, time.time())
                self.lives.append(life)
                life.status = await self._process.wait()
                life.ended = time.time()
                await asyncio.sleep(PAUSE_S)
        finally:
            if self._process is not None:
                await _stop(self._process, self._patience_s)

    def send(self, number: signal.Signals) -> int | None:
        """Send the process a signal; its pid, or None where it is just between two lives."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)
        return pid


class Census:
    """Knows every process that was started below this one, also those whose parents have died since."""

    def __init__(self) -> None:
        self._known: set[Seen] = set()

    async def take(self) -> None:
        """Look every second, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(CENSUS_S)

    def look(self) -> set[Seen]:
        """What runs now of what was ever started below this process."""
        there = everything()
        roots = {os.getpid()} | {seen.pid for seen in self._known & there}
        self._known = {seen for seen in there if seen.pid in descendants(roots, there)} | (self._known & there)
        return self._known

    def end(self) -> list[str]:
        """Kill what is left, and say what that was."""
        left = self.look()
        for seen in left:
            try:
                os.kill(seen.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return sorted(seen.name for seen in left)


async def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> asyncio.subprocess.Process:
    """Start a process that dies with this one, in a group of its own, so that Ctrl-C does not reach it."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)


async def _stop(process: asyncio.subprocess.Process, patience_s: float) -> None:
    if process.returncode is not None:
        return
    # It may be frozen.
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        async with asyncio.timeout(patience_s):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
