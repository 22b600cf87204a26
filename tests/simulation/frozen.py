"""SIGSTOP for a gateway among others in one process: its tasks are not scheduled until it is thawed.

Trio appends every task that can run to one queue. Here that queue keeps the tasks of a frozen gateway aside: timers go
on running and messages go on arriving, and when it is thawed all that came due happens at once, as after SIGCONT.
"""

from __future__ import annotations

import contextvars
import random
from collections import deque
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import Any

import trio._core._run as scheduler
from trio.lowlevel import Task

from tests.simulation.lean import SeldomIO

__all__ = ["OWNER", "Freezer", "install", "repeatable"]


class Freezer:
    """Who can be frozen. Its tasks are those that have it as their `OWNER`."""

    def __init__(self) -> None:
        self.frozen = False
        self._aside: list[Task] = []

    def freeze(self) -> None:
        """Nothing of it runs from the end of this turn on."""
        self.frozen = True

    def thaw(self) -> None:
        """All that could have run runs."""
        self.frozen = False
        queue = _runner().runq
        while self._aside:
            queue.append(self._aside.pop(0))

    def keep_aside(self, task: Task) -> None:
        """For the queue: it could run, and must not."""
        self._aside.append(task)


OWNER: contextvars.ContextVar[Freezer | None] = contextvars.ContextVar("OWNER", default=None)


class _Queue(deque[Task]):
    def append(self, task: Task) -> None:
        owner = task.context.get(OWNER)
        if owner is not None and owner.frozen:
            owner.keep_aside(task)
        else:
            super().append(task)


class _Order(random.Random):
    def shuffle(self, x: MutableSequence[Any]) -> None:
        # Most turns have one task.
        if len(x) > 1:
            super().shuffle(x)


def install() -> None:
    """Make the scheduler of this trio run know `OWNER`."""
    runner = _runner()
    runner.runq = _Queue(runner.runq)
    runner.io_manager = SeldomIO(runner)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """While this lasts, the scheduler's own randomness follows from `seed`."""
    module: Any = scheduler
    before = module._ALLOW_DETERMINISTIC_SCHEDULING, module._r
    module._ALLOW_DETERMINISTIC_SCHEDULING, module._r = True, _Order(seed)
    try:
        yield
    finally:
        module._ALLOW_DETERMINISTIC_SCHEDULING, module._r = before


def _runner() -> Any:
    return scheduler.GLOBAL_RUN_CONTEXT.runner
