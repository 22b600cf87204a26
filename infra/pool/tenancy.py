"""One job at a time in an exclusive actor: what it started is ended with it, so that the next one is alone, too.

What a kind starts while it is built, for all its jobs, stays: that is what `prepare` is for.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar, runtime_checkable

import anyio
import anyio.to_thread

from contracts.calls import Call, Frame, Outcome, Ran
from infra.pool import birthmark, guardian
from infra.pool.actor import no_frames
from infra.pool.base import Host
from infra.pool.birthmark import Birthmark
from infra.pool.exits import contained
from infra.pool.hosting import execute, one_by_one

__all__ = ["Prepares", "Tenancy"]

_log = logging.getLogger("jetray.pool")

LEFTOVERS_S: Final = 5.0
"""How long a finished job's outcome may wait for what it left behind to die."""
SHORT_S: Final = 1.0
"""In less time than this the system does not use all its process numbers up."""


T = TypeVar("T")


@runtime_checkable
class Prepares(Protocol):
    """A host that builds things which outlive a job."""

    def prepare(self, call: Call) -> None:
        """Build what the call's kind keeps from job to job. Never raises: what went wrong is the call's outcome."""
        ...


class Tenancy:
    """This process as the place where jobs run."""

    def __init__(self, mark: int) -> None:
        self._mark = Birthmark(mark)
        newest = birthmark.last_pid() if birthmark.supported() else None
        self._marked = guardian.start(self._mark)
        # It was a new process. Where that does not show, as under lxcfs, the count tells nothing of jobs either.
        self._counts = newest is not None and birthmark.last_pid() != newest
        self._jobs = 0

    async def execute(self, host: Host, call: Call, send: Callable[[Frame], None]) -> Outcome:
        """Run the call to its outcome. Of an exclusive one, all that it started has ended by then."""
        with contained():
            return await self._alone(host, [call], lambda: execute(host, call, send))

    async def execute_many(self, host: Host, calls: Sequence[Call]) -> Ran:
        """Run calls that send no frames one after the other. Of exclusive ones, all that they started is over then."""
        with contained():
            return await self._alone(
                host, calls, lambda: one_by_one(calls, lambda call: execute(host, call, no_frames))
            )

    async def _alone(self, host: Host, calls: Sequence[Call], run: Callable[[], Awaitable[T]]) -> T:
        if not (calls[0].exclusive and self._marked):
            return await run()
        if isinstance(host, Prepares):
            host.prepare(calls[0])
        self._jobs += 1
        self._mark.wear(self._jobs)
        began, newest = time.monotonic(), birthmark.last_pid()
        try:
            return await run()
        finally:
            self._mark.wear()
            if self._left_something(newest, time.monotonic() - began):
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._end_leftovers, calls)

    def _left_something(self, newest: int | None, lasted_s: float) -> bool:
        """Most jobs start no process, and looking at each process of the system costs more than a short job."""
        now = birthmark.last_pid()
        if not self._counts or newest is None or now is None or lasted_s > SHORT_S:
            return bool(self._mark.carriers(self._jobs))
        if now == newest:
            return False
        return bool(self._mark.carriers(self._jobs, among=birthmark.born_between(newest, now)))

    def _end_leftovers(self, calls: Sequence[Call]) -> None:
        name = calls[0].job if len(calls) == 1 else f"{calls[0].job} and {len(calls) - 1} others"
        killed, left = birthmark.end(self._mark, self._jobs, spare=os.getpid(), within_s=LEFTOVERS_S)
        if killed:
            _log.info("%s ended and left %d processes running: they were killed", name, killed)
        if left:
            _log.error("%s ended and left %d processes running that cannot be killed", name, left)
