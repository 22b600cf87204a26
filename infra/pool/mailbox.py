"""Frames between a job that talks and a reader that may be slow."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """An unbounded queue for one reader, in which a report replaces the report just before it.

    So a job that reports progress in a tight loop fills no memory, and its outcome does not queue behind old news.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[T, bool]] = deque()
        self._closed = False
        self._news: anyio.Event | None = None

    def put(self, item: T, *, report: bool) -> None:
        """Add an item. `report` says that it makes a report right before it old news."""
        if report and self._items and self._items[-1][1]:
            self._items.pop()
        self._items.append((item, report))
        self._wake()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._wake()

    async def take(self) -> list[T]:
        """All that is there, once there is anything; empty once it is closed and read to its end."""
        await self._something()
        taken = [item for item, _ in self._items]
        self._items.clear()
        return taken

    async def next(self) -> T | None:
        """The oldest item, once there is one; None once it is closed and read to its end."""
        await self._something()
        return self._items.popleft()[0] if self._items else None

    async def _something(self) -> None:
        if not self._items and not self._closed:
            self._news = anyio.Event()
            await self._news.wait()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None
