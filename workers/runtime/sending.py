"""A batch's children on their way out: no faster than their queues are worked off, no more than may be under way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from workers.core.tally import Tally
from workers.runtime.children import Children, Unfit
from workers.runtime.rooms import Rooms

__all__ = ["Sending"]

TOGETHER: Final = 128
"""Children that are published in one go, at most."""


class Sending:
    """Publishes those children that have not ended; `ended` is to be told of each that does."""

    def __init__(self, rooms: Rooms, children: Children, tally: Tally, *, own_kind: str, most: int | None) -> None:
        """`own_kind` is the batch's; `most` children are under way at once, None for no bound."""
        self._rooms = rooms
        self._children = children
        self._tally = tally
        self._own_kind = own_kind
        self._most = len(children) if most is None else most
        self._out: set[int] = set()
        """Sent, and not known to have ended."""
        self._came_back = anyio.Event()

    @property
    def under_way(self) -> int:
        """Children that were sent and have not ended, as far as is known."""
        return len(self._out)

    def ended(self, place: int) -> None:
        """A child has ended: there is room for another one."""
        self._out.discard(place)
        self._came_back.set()
        self._came_back = anyio.Event()

    async def run(self) -> None:
        """Send them all; raises `Unfit`. Those of a kind wait while its queue is too deep, and hold back no others."""
        of_kind: dict[str, deque[int]] = {}
        for index in range(len(self._children)):
            of_kind.setdefault(self._children[index].kind, deque()).append(index)
        unfit: list[Unfit] = []

        async def send(kind: str, left: deque[int]) -> None:
            try:
                await self._send(kind, left)
            except Unfit as found:
                unfit.append(found)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for kind, left in of_kind.items():
                group.start_soon(send, kind, left)
        if unfit:
            raise unfit[0]

    async def _send(self, kind: str, left: deque[int]) -> None:
        while left:
            while len(self._out) >= self._most:
                await self._came_back.wait()
            async with self._admitted(kind, min(len(left), TOGETHER)) as room:
                # Those of another kind may have gone out meanwhile.
                group = self._taken(left, min(room, self._most - len(self._out)))
                await self._children.send(group)

    @asynccontextmanager
    async def _admitted(self, kind: str, wanted: int) -> AsyncIterator[int]:
        if kind == self._own_kind:
            # A batch of its own kind would wait for itself.
            yield wanted
            return
        async with self._rooms.upstream.admit(kind, min(wanted, self._most - len(self._out))) as room:
            yield room

    def _taken(self, left: deque[int], room: int) -> Sequence[int]:
        group: list[int] = []
        while left and len(group) < room:
            index = left.popleft()
            if index not in self._tally.ends:
                group.append(index)
        self._out.update(group)
        return group
