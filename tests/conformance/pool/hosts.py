"""The host that pools are tested with: its kinds are the ways in which a job can end, or fail to."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import msgspec

from contracts.calls import Call, Emitted, Frame, Raised, Reported, Returned
from contracts.errors import ErrorInfo

Send = Callable[[Frame], None]

BROKEN = "tests.conformance.pool.hosts:broken"
FRAGILE = "tests.conformance.pool.hosts:fragile"
FACTORY = "tests.conformance.pool.hosts:build"


def build(config: bytes) -> TestHost:
    return TestHost(config)


def broken(config: bytes) -> TestHost:
    raise ValueError("there is no model at\n/models/missing")


def fragile(config: bytes) -> TestHost:
    """Cannot be built while there is a file `config`."""
    if Path(config.decode()).exists():
        raise OSError("the model cannot be read")
    return TestHost(config)


class TestHost:
    __test__ = False

    def __init__(self, config: bytes) -> None:
        self._config = config
        self._stops: dict[str, Callable[[], object]] = {}

    async def execute(self, call: Call, send: Send) -> Returned | Raised:
        return await getattr(self, f"_{call.kind}")(call, send)

    def cancel(self, job: str) -> bool:
        stop = self._stops.get(job)
        if stop is None:
            return False
        stop()
        return True

    async def _echo(self, call: Call, send: Send) -> Returned:
        return Returned(result=call.input + b"|" + self._config)

    async def _raises(self, call: Call, send: Send) -> Raised:
        return Raised(error=ErrorInfo(reason="user", type="ValueError", message="no such catalogue", retryable=True))

    async def _breaks(self, call: Call, send: Send) -> Returned:
        raise KeyError(call.kind)

    async def _exits(self, call: Call, send: Send) -> Returned:
        raise SystemExit(3)

    async def _exits_within(self, call: Call, send: Send) -> Returned:
        """In a task of its own, over which an event loop ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._exits, call, send)
        raise AssertionError

    async def _cancels_itself(self, call: Call, send: Send) -> Returned:
        """Awaits what it has cancelled."""
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
        raise AssertionError

    async def _prints(self, call: Call, send: Send) -> Returned:
        os.write(1, b"\x00\x00\x00\x05hello to standard output\n")
        print("hello again", flush=True)
        return Returned(result=b"null")

    async def _talks(self, call: Call, send: Send) -> Returned:
        for step in range(int(call.input)):
            send(Emitted(topic="response", name="progress", body=b'{"step":%d}' % step))
            if step % 3 == 0:
                await anyio.lowlevel.checkpoint()
        return Returned(result=b'"said"')

    async def _chatters(self, call: Call, send: Send) -> Returned:
        for done in range(int(call.input)):
            send(Reported(done=done))
        return Returned(result=b'"said"')

    async def _mumbles(self, call: Call, send: Send) -> Raised:
        try:
            send(Reported(done="three"))  # type: ignore[arg-type]
        except ValueError as error:
            return Raised(error=ErrorInfo(reason="user", type=type(error).__name__, message=str(error)))
        raise AssertionError("a frame that nobody can read was taken")

    async def _holds(self, call: Call, send: Send) -> Returned:
        """Async, and stops when asked."""
        with anyio.CancelScope() as scope:
            self._stops[call.job] = scope.cancel
            send(Reported(step="holding", done=os.getpid()))
            await anyio.sleep_forever()
        del self._stops[call.job]
        return Returned(result=b'"stopped"')

    async def _grinds(self, call: Call, send: Send) -> Returned:
        """Sync, in a thread, and looks whether it is to stop."""
        asked = threading.Event()
        self._stops[call.job] = asked.set
        told = functools.partial(anyio.from_thread.run_sync, send, Reported(step="grinding", done=os.getpid()))
        await anyio.to_thread.run_sync(lambda: (told(), asked.wait()))
        del self._stops[call.job]
        return Returned(result=b'"stopped"')

    async def _persists(self, call: Call, send: Send) -> Returned:
        """Never stops when asked."""
        self._stops[call.job] = lambda: None
        send(Reported(step="persisting", done=os.getpid()))
        await anyio.sleep_forever()
        raise AssertionError

    async def _spawns(self, call: Call, send: Send) -> Returned:
        """Starts a process of its own, says which, and never stops."""
        child = subprocess.Popen(["sleep", "3600"])  # noqa: ASYNC220 - as jobs do
        send(Reported(step="spawned", done=child.pid))
        await anyio.sleep_forever()
        raise AssertionError

    async def _environment(self, call: Call, send: Send) -> Returned:
        told = {"path": sys.path, "python_path": os.environ.get("PYTHONPATH"), "stdin": sys.stdin.read()}
        return Returned(result=msgspec.json.encode(told))

    async def _blocks(self, call: Call, send: Send) -> Returned:
        """Async by name, and then sleeps on its loop."""
        send(Reported(step="blocking", done=os.getpid()))
        await anyio.sleep(0.05)  # until that is out
        time.sleep(3600)  # noqa: ASYNC251
        raise AssertionError

    async def _sleeps(self, call: Call, send: Send) -> Returned:
        """Says nothing, and has no end."""
        await anyio.sleep_forever()
        raise AssertionError

    async def _naps(self, call: Call, send: Send) -> Returned:
        """Sync by nature: keeps its loop to itself for so many seconds."""
        time.sleep(float(call.input))  # noqa: ASYNC251
        return Returned(result=b'"rested"')

    async def _dies(self, call: Call, send: Send) -> Returned:
        os._exit(7)
