"""A host whose jobs do all they can to outlive their actor. Each writes the processes that are its to a file.

Input: the file's path. Every kind writes one line a process, its own first, and says so by an empty line at the end.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from contracts.calls import Call, Frame, Returned

FACTORY = "tests.conformance.pool.nasty:build"

SLEEP = ["sleep", "3600"]
DEAF = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(3600)"
FOREVER = 3600


def build(config: bytes) -> NastyHost:
    return NastyHost()


class NastyHost:
    """Kind `<descendants>-<end>`: what it leaves behind, and how it goes on."""

    def __init__(self) -> None:
        self._kept: list[int] = []

    def prepare(self, call: Call) -> None:
        """For kind `kept-…`: a process for all its jobs."""
        if call.kind.startswith("kept") and not self._kept:
            self._kept.append(subprocess.Popen(SLEEP, start_new_session=True).pid)

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned:
        descendants, _, end = call.kind.partition("-")
        told(call, [os.getpid(), *self._kept, *DESCENDANTS[descendants]()])
        ENDS[end]()
        if end == "async":
            await asyncio.sleep(FOREVER)
        return Returned(result=b"null")

    def cancel(self, job: str) -> bool:
        return True  # it is heard and not heeded


def told(call: Call, pids: list[int]) -> None:
    Path(call.input.decode()).write_text("\n".join(map(str, pids)) + "\n\n")


# --- descendants


def alone() -> list[int]:
    return []


def child() -> list[int]:
    return [subprocess.Popen(SLEEP).pid]


def session() -> list[int]:
    return [subprocess.Popen(SLEEP, start_new_session=True).pid]


def stripped() -> list[int]:
    """In another session, group and directory, with an environment of its own, and deaf to what can be ignored."""
    return [subprocess.Popen([sys.executable, "-I", "-c", DEAF], env={}, cwd="/", start_new_session=True).pid]


def daemon() -> list[int]:
    """Forked twice and without `exec`, so that /proc shows the actor's own first environment."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, b"%d\n" % os.getpid())
            time.sleep(FOREVER)
        os._exit(0)
    return [_told(reading, writing)]


def stripped_daemon() -> list[int]:
    """Forked twice, and then another program without any environment; nothing leads to it from the actor."""
    reading, writing = os.pipe()
    if (first := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, b"%d\n" % os.getpid())
            os.execve("/bin/sleep", SLEEP, {})
        os._exit(0)
    os.waitpid(first, 0)
    return [_told(reading, writing)]


def tree() -> list[int]:
    """Three generations; the one in the middle is gone."""
    shell = subprocess.Popen(
        ["sh", "-c", "setsid sh -c 'sleep 3600 & echo $!; sleep 3600 & echo $!' & wait"], stdout=subprocess.PIPE
    )
    assert shell.stdout is not None
    return [int(shell.stdout.readline()), int(shell.stdout.readline())]


def _told(reading: int, writing: int) -> int:
    os.close(writing)
    with open(reading) as file:
        return int(file.readline())


DESCENDANTS: dict[str, Callable[[], list[int]]] = {
    "alone": alone,
    "kept": child,
    "child": child,
    "session": session,
    "stripped": stripped,
    "daemon": daemon,
    "strippeddaemon": stripped_daemon,
    "tree": tree,
}


# --- how the job goes on


def returns() -> None:
    """And leaves its descendants behind."""


def spins() -> None:
    while True:
        pass


def sleeps() -> None:
    time.sleep(FOREVER)


def hangs_in_c() -> None:
    """In C, with Python's lock: no other thread of this process runs Python any more."""
    ctypes.PyDLL(None).sleep(FOREVER)


def deaf() -> None:
    """Swallows what can be swallowed."""
    ctypes.CDLL(None).signal(signal.SIGTERM, 1)  # SIG_IGN, from whatever thread this is
    ctypes.CDLL(None).signal(signal.SIGINT, 1)
    spins()


def stops_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def dies() -> None:
    os._exit(7)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ENDS: dict[str, Callable[[], None]] = {
    "returns": returns,
    "async": returns,
    "spins": spins,
    "sleeps": sleeps,
    "hangs": hangs_in_c,
    "deaf": deaf,
    "stops": stops_itself,
    "dies": dies,
    "killed": is_killed,
}
