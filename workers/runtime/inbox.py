"""An unbounded queue for one reader, without a task or a stream to close."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """Items in order, for one reader."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._news: anyio.Event | None = None
        """While somebody waits."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item."""
        self._items.append(item)
        if self._news is not None:
            self._news.set()

    def put_latest(self, item: T) -> None:
        """Add an item, in place of the last one if that is of its type."""
        if self._items and type(self._items[-1]) is type(item):
            self._items.pop()
        self.put(item)

    def take(self) -> T | None:
        """The next item; None where there is none."""
        return self._items.popleft() if self._items else None

    async def get(self) -> T:
        """The next item, waited for."""
        while not self._items:
            self._news = anyio.Event()
            await self._news.wait()
        self._news = None
        return self._items.popleft()
