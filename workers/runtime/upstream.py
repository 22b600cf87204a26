"""Queues that are too deep: what feeds them waits, so that pressure travels upstream to whoever publishes.

A kind over its high watermark is worked on as ever. Meanwhile no route into it is pulled, and batches publish no more
children into it; down at its low watermark both go on. Each gateway decides for itself, from the same queue. One that
does not run the kind looks at its queue before it publishes into it, and holds back by the marks for all kinds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import anyio

from contracts.subjects import JOBS
from infra.bus.base import Bus, BusError, Disconnected, Refused
from workers.core.watermark import Marks, pressed, room
from workers.runtime.depths import Depths
from workers.runtime.episodes import Episode, Episodes
from workers.runtime.topology import lane_durable

__all__ = ["FRESH_S", "LOOK_S", "Upstream"]

log = logging.getLogger("jetray.upstream")

LOOK_S: Final = 0.5
"""Between two looks at a queue that is too deep, while somebody waits to publish into it."""
ON_THE_WAY_S: Final = 0.02
"""Between two looks at a queue whose room is all taken by children that are being published."""
FRESH_S: Final = 5.0
"""How old a figure may be by which children are published."""


class _Queue:
    """What is known of one kind's queue."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.pressed = False
        self.depth = 0
        self.seen = -FRESH_S
        """When the depth was last looked at for the sake of children to be published."""
        self.room = 0
        """Children that may be published until it is looked at again."""
        self.on_the_way = 0
        """Children that are being published, and may not be in that depth yet."""
        self.episode: Episode | None = None
        self.looking = anyio.Lock()
        self.released = anyio.Event()


class Upstream:
    """Which kinds are over their high watermark, and who waits for it."""

    def __init__(
        self,
        bus: Bus,
        kinds: Collection[str],
        depths: Depths,
        episodes: Episodes,
        *,
        marks: Callable[[str], Marks],
        grown: Callable[[str], bool],
    ) -> None:
        """`grown` tells whether a kind's pool has no more actors to hope for."""
        self._bus = bus
        self._kinds = frozenset(kinds)
        self._depths = depths
        self._episodes = episodes
        self._marks = marks
        self._grown = grown
        self._queues = {kind: _Queue(marks(kind)) for kind in sorted(kinds)}
        self.changed: Callable[[], None] = lambda: None
        """Called when the answer of `pressed` may have changed."""
        depths.listeners.append(self.saw)

    def pressed(self, kind: str) -> bool:
        """Whether nothing that can wait is to be added to this kind's queue."""
        queue = self._queues.get(kind)
        return queue is not None and queue.pressed

    def saw(self, kind: str, depth: int) -> None:
        """A kind's queue is so deep now."""
        queue = self._queues[kind]
        queue.depth = depth
        if depth > queue.marks.low if queue.pressed else depth < queue.marks.high:
            return
        self._judge(kind, queue)

    def grew(self) -> None:
        """A pool has other actors now, or may have others than before."""
        for kind, queue in self._queues.items():
            self._judge(kind, queue)

    @asynccontextmanager
    async def admit(self, kind: str, wanted: int = 1) -> AsyncIterator[int]:
        """Begins once a child may be published into a kind: how many may meanwhile, `wanted` at most."""
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = _Queue(self._marks(kind))
        while not self._admits(queue):
            # One looks; what it finds is room for many of those who wait meanwhile.
            async with queue.looking:
                if not self._admits(queue):
                    await self._look_again(kind, queue)
        admitted = min(wanted, queue.room)
        queue.room -= admitted
        queue.on_the_way += admitted
        try:
            yield admitted
        finally:
            queue.on_the_way -= admitted

    def _admits(self, queue: _Queue) -> bool:
        fresh = anyio.current_time() - queue.seen < FRESH_S
        return queue.room > 0 and fresh

    async def _look_again(self, kind: str, queue: _Queue) -> None:
        if queue.pressed:
            with anyio.move_on_after(LOOK_S):
                await queue.released.wait()
        try:
            await self._look(kind)
        except Disconnected:
            # It could not be published either.
            await anyio.sleep(LOOK_S)
            return
        except Refused as error:
            # There is no such queue: publishing tells.
            log.debug("kind %s has no queue: %s", kind, error)
            self.saw(kind, 0)
        except BusError as error:
            # The last figure stands: where nothing presses, the stream's own limit holds all the same.
            log.debug("depth of %s is not known: %s", kind, error)
        queue.seen = anyio.current_time()
        queue.room = max(0, room(queue.pressed, queue.depth, queue.marks) - queue.on_the_way)
        if queue.on_the_way and not (queue.room or queue.pressed):
            # What is on its way takes all the room: to look again at once would tell nothing new.
            await anyio.sleep(ON_THE_WAY_S)

    async def _look(self, kind: str) -> None:
        if kind in self._kinds:
            await self._depths.look(kind)
            return
        lanes = [await self._bus.consumer(JOBS, lane_durable(kind, high=high)) for high in (True, False)]
        self.saw(kind, sum(lane.depth for lane in lanes))

    def _judge(self, kind: str, queue: _Queue) -> None:
        # Another gateway's pool may not grow any more: of what it works this one knows the queue alone.
        grown = kind not in self._kinds or self._grown(kind)
        now = pressed(queue.pressed, queue.depth, queue.marks, grown=grown)
        if now == queue.pressed:
            return
        queue.pressed = now
        if now:
            queue.room = 0
            queue.released = anyio.Event()
            self._apply(kind, queue)
        else:
            queue.released.set()
            self._release(kind, queue)
        self.changed()

    def _apply(self, kind: str, queue: _Queue) -> None:
        if kind in self._kinds:
            queue.episode = self._episodes.begin("depth", (kind,))
        log.warning(
            "%d messages of %s wait or are in hand, its high watermark is %d: no route into it is pulled and no batch "
            "adds to it until there are %d",
            queue.depth,
            kind,
            queue.marks.high,
            queue.marks.low,
        )

    def _release(self, kind: str, queue: _Queue) -> None:
        if queue.episode is not None:
            self._episodes.end(queue.episode, anyio.current_time())
            queue.episode = None
        log.warning("%d messages of %s wait or are in hand: what feeds it goes on", queue.depth, kind)
