"""A batch's children on their way out: no faster than their queues are worked off, no more than may be under way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from workers.core.tally import Tally
from workers.runtime.children import Children
from workers.runtime.rooms import Rooms
from workers.runtime.unfit import unfit_group

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
        self._bounded = most is not None
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
        """Send them all; raises `Unfit`. Those of a kind wait while its queue is too deep.

        They hold back no others, unless there is a bound to those under way: then all go out in their order, for
        whoever takes the batch over is to find the same ones out.
        """
        queues: dict[str, deque[int]] = {}
        for place in range(len(self._children)):
            queues.setdefault("" if self._bounded else self._children[place].kind, deque()).append(place)
        async with unfit_group() as group:
            for left in queues.values():
                group.start_soon(self._send, left)

    async def _send(self, left: deque[int]) -> None:
        while left:
            while len(self._out) >= self._most:
                await self._came_back.wait()
            kind = self._children[left[0]].kind
            async with self._admitted(kind, min(len(left), TOGETHER)) as room:
                await self._children.send(self._taken(kind, left, room))

    @asynccontextmanager
    async def _admitted(self, kind: str, wanted: int) -> AsyncIterator[int]:
        if kind == self._own_kind:
            # A batch of its own kind would wait for itself.
            yield wanted
            return
        async with self._rooms.upstream.admit(kind, min(wanted, self._most - len(self._out))) as room:
            yield room

    def _taken(self, kind: str, left: deque[int], room: int) -> Sequence[int]:
        group: list[int] = []
        while left and len(group) < room and self._children[left[0]].kind == kind:
            place = left.popleft()
            if place not in self._tally.ends:
                group.append(place)
        self._out.update(group)
        return group
