"""The command `jetray` as a user starts it: a process of its own, whose lines tests wait for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "workers")
PATIENCE_S = 60


def environment(**variables: str) -> dict[str, str]:
    """The tests' own without settings, plus `variables`. Ours can be imported from every directory."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JETRAY_") and name not in ("NATS_URL", "RAY_ADDRESS")
    }
    return {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables}


def jetray(*arguments: str, cwd: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Started:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid

    async def says(self, text: str, *, on: str = "stdout") -> str:
        """The next line on `on` that holds `text`, waited for."""
        stream = self.process.stdout if on == "stdout" else self.process.stderr
        assert stream is not None
        heard: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for raw in stream:
                    heard.append(raw.decode().rstrip())
                    if text in heard[-1]:
                        return heard[-1]
        except TimeoutError:
            self.process.kill()
        other = await self.rest("stderr" if on == "stdout" else "stdout")
        raise AssertionError(f"it never said {text!r} on {on}; it said {heard} there, and elsewhere {other}")

    async def rest(self, on: str = "stderr") -> str:
        """What else it says on `on` until its end."""
        stream = self.process.stdout if on == "stdout" else self.process.stderr
        assert stream is not None
        return (await stream.read()).decode()

    async def ended(self) -> int:
        """Its exit status, waited for."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return await self.ended()


@asynccontextmanager
async def started(*arguments: str, cwd: Path, **variables: str) -> AsyncIterator[Started]:
    """A command that runs for as long as the block lasts; killed after it, with all that it started."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=cwd,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Started(process)
    finally:
        left = descendants(process.pid)
        if process.returncode is None:
            process.kill()
            await process.wait()
        for pid in left:
            _kill(pid)
        # Else its transports live on in the garbage, and warn there.
        process._transport.close()  # type: ignore[attr-defined]


def descendants(pid: int) -> set[int]:
    """Every process below `pid` now."""
    lines = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    parents = {int(line.split()[0]): int(line.split()[1]) for line in lines if line.strip()}
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def child(pid: int, name: str) -> int:
    """The process below `pid` whose command line holds `name`."""
    for each in descendants(pid):
        if name in Path(f"/proc/{each}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " "):
            return each
    raise AssertionError(f"no {name} below {pid}")


async def gone(pids: Iterable[int]) -> None:
    """Return once none of these processes is there any more. Linux alone."""
    async with asyncio.timeout(PATIENCE_S):
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                await anyio.wait_readable(descriptor)
            finally:
                os.close(descriptor)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
