"""What trio and anyio do for everybody, and a history has no use for, left out.

There is hardly any I/O to look for, the clock stands still between two jumps, there is one backend to ask for, and
nobody keeps a handle of a task. What remains is trio's own: its scheduler, its cancellation, its nurseries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
import trio
import trio.lowlevel
from trio.testing import MockClock

__all__ = ["SeldomIO", "lean"]


class SeldomIO:
    """In place of a trio run's `io_manager`: the kernel is asked only when no task can run.

    All that could happen there is that trio wakes itself, to close a generator that nobody holds any more.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._real = runner.io_manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_events(self, timeout: float) -> Any:
        """What happened; nothing yet where a task can run."""
        return [] if self._runner.runq else self._real.get_events(timeout)


@contextmanager
def lean(clock: MockClock) -> Iterator[None]:
    """While this lasts, anyio's functions are trio's own, and `clock` looks at no other clock."""

    def now() -> float:
        return clock._virtual_base

    vars(clock)["current_time"] = now
    shells: list[tuple[Any, str, Any]] = [
        (anyio, "current_time", now),
        (anyio, "sleep", trio.sleep),
        (anyio, "CancelScope", trio.CancelScope),
        (anyio, "Event", trio.Event),
        (anyio, "create_task_group", _Group),
        (anyio.lowlevel, "checkpoint", trio.lowlevel.checkpoint),
    ]
    before = [getattr(module, name) for module, name, _ in shells]
    for module, name, own in shells:
        setattr(module, name, own)
    try:
        yield
    finally:
        for (module, name, _), shell in zip(shells, before, strict=True):
            setattr(module, name, shell)


class _Group:
    """A nursery that raises as anyio's groups do: one `Cancelled` where nothing else went wrong."""

    def __init__(self) -> None:
        self._manager = trio.open_nursery(strict_exception_groups=True)

    async def __aenter__(self) -> trio.Nursery:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if group.split(trio.Cancelled)[1] is None:
                raise trio.Cancelled._create(source="unknown", reason="all that was raised") from group
            raise
        finally:
            del error, traceback
