"""Every process that an actor's process started, whatever became of it: how it is known, and how it is ended. Linux.

A process can leave its parent, its process group, its session and its environment behind. Its resource limits it takes
along, through `fork`, `exec` and `setsid`; and one of them, RLIMIT_LOCKS, Linux has not used since 2.4. So an actor
writes a number of its own there, as a mark that all its descendants are born with and that /proc shows. The number has
two parts: one for the actor, and one for the job that an exclusive actor runs, so that what a finished job left behind
is told from what its kind started for all its jobs.

Where the limit cannot be set, a variable of the environment says the same of the actor, though not of the job.
Only the standard library is imported here: the guardian is to start quickly and stay small.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import Collection, Iterator
from typing import Final

__all__ = ["VARIABLE", "Birthmark", "born_between", "end", "fresh", "is_alive", "last_pid", "supported"]

VARIABLE: Final = "JETRAY_BIRTHMARK"
LOOK_AGAIN_S: Final = 0.005
LOOK_AGAIN_CAP_S: Final = 0.5
CHASES: Final = 100
"""How often one look goes on to those born since: on a busy machine some are born all the time."""
EMPTY_LOOKS: Final = 2
"""What forks while it is looked for may slip through a look; it is over after so many in a row that met nothing."""

_RLIMIT_LOCKS: Final = 10
_JOB_BITS: Final = 22
_ACTOR_BITS: Final = 40
_LIMIT: Final = re.compile(rb"^Max file locks\s+(\d+)", re.MULTILINE)


class Birthmark:
    """An actor's mark."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Birthmark({self.number:x})"

    def wear(self, job: int = 0) -> bool:
        """Have what this process starts from now on born with it; False where only the environment could be marked.

        `job` counts the jobs of an exclusive actor; 0 is what outlives them.
        """
        import resource

        os.environ[VARIABLE] = str(self.number)
        _, hard = resource.getrlimit(_RLIMIT_LOCKS)
        try:
            resource.setrlimit(_RLIMIT_LOCKS, (self.number << _JOB_BITS | _part(job), hard))
        except (ValueError, OSError):  # a hard limit that is lower, or a kernel that knows no such limit
            return False
        return True

    def carried_by(self, pid: int, job: int | None = None) -> bool:
        """Whether a living process was born with it, in that job if one is named. This process wears it, too."""
        found = _LIMIT.search(_read(pid, "limits"))
        if found is not None:
            actor, part = divmod(int(found[1]), 1 << _JOB_BITS)
            if actor == self.number:
                return (job is None or part == _part(job)) and is_alive(pid)
        variable = f"{VARIABLE}={self.number}".encode()
        return job is None and variable in _read(pid, "environ").split(b"\0") and is_alive(pid)

    def carriers(self, job: int | None = None, *, among: Collection[int] | None = None) -> list[int]:
        """The living processes that were born with it."""
        return [pid for pid in (_pids() if among is None else among) if self.carried_by(pid, job)]


def fresh() -> Birthmark:
    """A mark that no other actor has."""
    return Birthmark(1 << _ACTOR_BITS | secrets.randbits(_ACTOR_BITS))


def supported() -> bool:
    """Whether this system can do what is needed here."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an older kernel, or a sandbox
        return False
    return os.path.exists("/proc/self/limits")


def end(mark: Birthmark, job: int | None = None, *, spare: int = 0, within_s: float) -> tuple[int, int]:
    """Kill what carries the mark until nothing does, but for process `spare`: how many were killed, how many are left.

    What is left after `within_s` could not be killed: it hangs in the kernel, or belongs to another user.
    """
    ends = time.monotonic() + within_s
    killed: set[int] = set()
    pause = LOOK_AGAIN_S
    empty = 0
    while empty < EMPTY_LOOKS:
        found = {pid for pid in _met() if pid != spare and _killed(mark, pid, job)}
        if found and time.monotonic() > ends:
            return len(killed | found), len(found)
        if found:
            # What is dying already is waited for, and what is new hunted on.
            pause = min(LOOK_AGAIN_CAP_S, pause * 2) if found <= killed else LOOK_AGAIN_S
            time.sleep(pause)
        empty = 0 if found else empty + 1
        killed |= found
    _reap(killed)
    return len(killed), 0


def last_pid() -> int | None:
    """The newest process or thread of this system; None where it does not say."""
    with open("/proc/loadavg", "rb", buffering=0) as file:
        # Some sandboxes say 0, always.
        return int(file.read().split()[-1]) or None


def born_between(first: int, last: int) -> list[int]:
    """The living processes that were born after process `first` and up to process `last`. The numbers wrap around."""
    return [pid for pid in _pids() if (first < pid <= last if first <= last else pid > first or pid <= last)]


def _part(job: int) -> int:
    """The number wraps, too; 0 is only what outlives jobs."""
    return 0 if job == 0 else 1 + (job - 1) % ((1 << _JOB_BITS) - 1)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, what: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{what}", "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone meanwhile, or another user's
        return b""


def is_alive(pid: int) -> bool:
    """Whether it is more than a zombie, of which nothing runs any more."""
    state = _read(pid, "stat").rpartition(b")")[2].split()[:1]
    return state not in ([], [b"Z"], [b"X"])


def _met() -> Iterator[int]:
    """Each process in turn, and then those that were born while the others were looked at, the newest first.

    What is another process each time it is looked for, because it forks and ends at once, can only be met so.
    """
    newest = last_pid()
    yield from [*_pids()]
    for _ in range(CHASES):
        now = last_pid()
        if newest is None or now is None or now == newest:
            return
        yield from range(now, newest, -1) if now > newest else born_between(newest, now)
        newest = now


def _killed(mark: Birthmark, pid: int, job: int | None) -> bool:
    """Kill the process if it carries the mark; whether it did. Through a handle: its number may go to another one."""
    if not mark.carried_by(pid, job):
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if mark.carried_by(pid, job):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    return True


def _reap(pids: Collection[int]) -> None:
    """Those that were children of this process would stay as zombies: nobody else asks any more how they ended."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
