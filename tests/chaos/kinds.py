"""The kinds of the jobs, and the ledger: a file for each process that runs them, a line for each beginning and end."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from workers import Child, ChildEnd, Fail, JobContext, Retry, batch, job

__all__ = ["LEDGER", "Entry", "Fanned", "Ran", "Sum", "Task", "read_ledger"]

LEDGER: Final = "CHAOS_LEDGER"
"""Environment: the folder of the ledger."""
STEP_S: Final = 1.0
"""Between two reports of a lingering job."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """User code began or ended."""

    what: str
    """`began` or `ended`."""
    kind: str
    job_id: str
    token: str
    """Of this execution alone."""
    pid: int
    time: float
    """Seconds since the epoch."""
    run: int = 0
    """0 where the kind takes no context, and so cannot know."""
    attempt: int = 0


class Task(Struct, frozen=True):
    """What one job is to do."""

    id: str
    ms: int = 0


class Ran(Struct, frozen=True):
    """What a job returns: which execution it was."""

    token: str


class Fanned(Struct, frozen=True):
    """A batch of so many children."""

    id: str
    width: int


class Sum(Struct, frozen=True):
    """How the children of a batch ended."""

    outcomes: dict[str, str]


class _Execution:
    """Notes a beginning when it is made."""

    def __init__(self, kind: str, job_id: str, ctx: JobContext | None = None) -> None:
        self._kind = kind
        self._job_id = job_id
        self._run, self._attempt = (0, 0) if ctx is None else (ctx.run, ctx.attempt)
        self._token = secrets.token_hex(6)
        self._note("began")

    def ended(self) -> Ran:
        """Note the end; the result."""
        self._note("ended")
        return Ran(self._token)

    def _note(self, what: str) -> None:
        entry = Entry(
            what, self._kind, self._job_id, self._token, os.getpid(), time.time(), run=self._run, attempt=self._attempt
        )
        # One write for one line: it is there whole or not at all, whenever the process is killed.
        os.write(_ledger(), msgspec.json.encode(entry) + b"\n")


@job("echo", id_field="id", profile="quick")
async def echo(task: Task) -> Ran:
    """Returns at once."""
    return _Execution("echo", task.id).ended()


@job("work", id_field="id")
async def work(ctx: JobContext, task: Task) -> Ran:
    """Takes a while."""
    execution = _Execution("work", task.id, ctx)
    ctx.progress(message="working")
    await asyncio.sleep(task.ms / 1000)
    return execution.ended()


@job("block", id_field="id", profile="alone")
def block(task: Task) -> Ran:
    """Takes a while, and an actor of its own."""
    execution = _Execution("block", task.id)
    time.sleep(task.ms / 1000)
    return execution.ended()


@job("linger", id_field="id")
async def linger(ctx: JobContext, task: Task) -> Ran:
    """Outlasts the lease."""
    execution = _Execution("linger", task.id, ctx)
    ends = time.monotonic() + task.ms / 1000
    while (left := ends - time.monotonic()) > 0:
        ctx.progress(eta_ms=int(left * 1000))
        await asyncio.sleep(min(left, STEP_S))
    return execution.ended()


@job("flaky", id_field="id")
async def flaky(ctx: JobContext, task: Task) -> Ran | Retry:
    """Asks to be tried again, once."""
    execution = _Execution("flaky", task.id, ctx)
    if ctx.attempt == 1:
        return Retry("not at the first attempt")
    return execution.ended()


@job("doomed", id_field="id")
async def doomed(ctx: JobContext, task: Task) -> Ran | Fail:
    """Fails until it is replayed."""
    execution = _Execution("doomed", task.id, ctx)
    if ctx.run == 1:
        return Fail("not in the first run")
    return execution.ended()


@batch("fan", id_field="id")
class Fan:
    """Some children, one of which works a while."""

    def expand(self, task: Fanned) -> Sequence[Child]:
        """`width` children."""
        kinds = ["work", *["echo"] * (task.width - 1)]
        return [
            Child(key=str(index), kind=kind, input={"id": f"{task.id}-{index}", "ms": 100})
            for index, kind in enumerate(kinds)
        ]

    def reduce(self, task: Fanned, ends: Sequence[ChildEnd]) -> Sum:
        """Each child's outcome."""
        return Sum({f"{end.child.kind}.{end.job_id}": end.outcome for end in ends})


def read_ledger(folder: Path) -> list[Entry]:
    """Every line of every file."""
    lines = (line for file in sorted(folder.iterdir()) for line in file.read_bytes().splitlines())
    return [msgspec.json.decode(line, type=Entry) for line in lines]


_open: dict[int, Any] = {}


def _ledger() -> int:
    """This process's own file."""
    pid = os.getpid()
    if pid not in _open:
        path = Path(os.environ[LEDGER]) / f"{pid}-{secrets.token_hex(4)}.jsonl"
        _open[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    descriptor: int = _open[pid]
    return descriptor
