"""How many messages of a consumer wait out a delay.

A message that is given back with a delay keeps its place in `max_ack_pending` until it comes again; once these places
are gone, nothing of that consumer is delivered. So past half of the room a job that is to wait does so at the tail of
its queue instead. One that comes from there too early waits out the rest as long as there is any room at all.
"""

from __future__ import annotations

import heapq
from collections import defaultdict

import anyio

from infra.bus.base import Delivery

__all__ = ["Delayed"]


class Delayed:
    """What this gateway has given back with a delay, and what the server tells of all gateways."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._own: defaultdict[str, list[float]] = defaultdict(list)
        self._told: dict[str, int] = {}

    def gave_back(self, delivery: Delivery, delay_s: float) -> None:
        """A message of the consumer waits for so long from now on."""
        if delay_s > 0:
            heapq.heappush(self._own[delivery.consumer], anyio.current_time() + delay_s)

    def told(self, consumer: str, waiting: int) -> None:
        """What the server says of all gateways: places that are taken, beyond those of what is in hand."""
        self._told[consumer] = waiting

    def crowded(self, consumer: str) -> tuple[bool, bool]:
        """Whether half of the room is taken, and whether all of it is."""
        own = self._own[consumer]
        if own:
            now = anyio.current_time()
            while own and own[0] <= now:
                heapq.heappop(own)
        waiting = max(len(own), self._told.get(consumer, 0))
        return 2 * waiting >= self._room, waiting >= self._room
