"""The gateway's process as a service, with stand-ins that obey, dawdle or die."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import anyio
import pytest

from tests.launcher.processes import environment, gone
from workers.launcher.stack import READY_FD, Gateway, gateway_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by their pidfd"),
]

SERVES = f"""
import os, signal, sys, time
def serving():
    os.write(int(os.environ[{READY_FD!r}]), b"serving\\n")
"""
OBEYS = SERVES + "serving(); signal.pause()"
DAWDLES = (
    SERVES + "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); serving(); time.sleep(600)"
)
DIES = "raise SystemExit(7)"
WITH_A_CHILD = (
    SERVES
    + """
import subprocess
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
serving()
signal.pause()
"""
)


class Kept:
    """A stand-in, run as a gateway."""

    def __init__(self, code: str, log: Path, *, patience_s: float = 60.0) -> None:
        self.hurry = anyio.Event()
        self.log = log
        self._patience_s = patience_s
        self._command = [sys.executable, "-S", "-E", "-c", code]

    async def run(self, serving=lambda: None) -> int:
        with self.log.open("wb") as output:
            gateway = Gateway(self._command, os.environ, patience_s=self._patience_s, hurry=self.hurry, output=output)
            return await gateway.run(serving)

    async def until_serving(self) -> asyncio.Task[int]:
        serving = asyncio.Event()
        task = asyncio.create_task(self.run(serving.set))
        async with asyncio.timeout(30):
            await serving.wait()
        return task


async def cancelled(task: asyncio.Task[int]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await task


def process_of(log: Path) -> int:
    return int(log.read_text().split()[0])


async def test_its_end_is_its_exit_status(tmp_path):
    assert await Kept(DIES, tmp_path / "log").run() == 7


async def test_it_serves_when_it_says_so_and_stops_when_cancelled(tmp_path):
    said = SERVES + "print(os.getpid(), flush=True); serving(); signal.pause()"
    gateway = Kept(said, tmp_path / "log")

    task = await gateway.until_serving()
    pid = process_of(gateway.log)
    await cancelled(task)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_one_that_ends_before_it_serves_never_served(tmp_path):
    told = []

    await Kept(DIES, tmp_path / "log").run(lambda: told.append("serving"))

    assert told == []


async def test_one_that_does_not_stop_in_time_is_killed(tmp_path):
    gateway = Kept(DAWDLES, tmp_path / "log", patience_s=0.1)

    await cancelled(await gateway.until_serving())


async def test_who_is_in_a_hurry_does_not_wait_for_it(tmp_path):
    gateway = Kept(DAWDLES, tmp_path / "log")
    task = await gateway.until_serving()

    gateway.hurry.set()
    await cancelled(task)


async def test_whoever_it_leaves_behind_is_killed(tmp_path):
    gateway = Kept(WITH_A_CHILD, tmp_path / "log")
    task = await gateway.until_serving()
    child = process_of(gateway.log)

    await cancelled(task)
    await gone([child])


SUPERVISOR = f"""
import anyio, os, sys
from workers.launcher.stack import Gateway
command = [sys.executable, "-S", "-E", "-c", {OBEYS!r}]
def serving():
    print(open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
async def main():
    await Gateway(command, os.environ, patience_s=60, hurry=anyio.Event(), output=2).run(serving)
anyio.run(main)
"""


async def test_it_dies_with_its_supervisor_however_that_dies():
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    children = [int(pid) for pid in (await supervisor.stdout.readline()).split()]

    supervisor.kill()
    await supervisor.wait()

    assert children
    await gone(children)


async def test_the_command_line_of_a_gateway():
    assert gateway_command(None) == [sys.executable, "-m", "workers", "worker"]
    assert gateway_command(Path("my.toml"))[3:] == ["worker", "--config", "my.toml"]
