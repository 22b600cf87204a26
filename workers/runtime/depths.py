"""How deep the queue of each kind is: the one place that knows, for status, scaling and watermarks alike.

The depth of a kind is what waits in both of its lanes, plus what is pulled and not yet acknowledged. What waits comes
free with every message pulled from a lane; the server is asked for the rest, and for lanes of which nothing is pulled,
every few seconds. How many messages of a lane are not acknowledged is asked for at all times, as it tells what other
gateways hold and delay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import anyio
from msgspec import Struct

from contracts.subjects import JOBS
from infra.bus.base import Bus, BusError
from workers.core.parts import whole_ms
from workers.runtime.delayed import Delayed
from workers.runtime.topology import IN_HAND, lane_durable

__all__ = ["LOOK_S", "Depths"]

log = logging.getLogger("jetray.depths")

LOOK_S: Final = 5.0
"""Between two looks at the consumers."""

Listener = Callable[[str, int], None]


class _Lane(Struct):
    kind: str
    waiting: int = 0
    elsewhere: int = 0
    """Messages not acknowledged that are not in hand here: those of other gateways, and those that wait out a delay."""
    since: datetime | None = None
    """None of those that wait was stored before; None where that is not known."""


class Depths:
    """Depths of the kinds that this gateway works. Figures may be some seconds old; `serve` keeps them from ageing."""

    def __init__(
        self, bus: Bus, kinds: Iterable[str], delayed: Delayed, *, in_hand: Callable[[str], int] = lambda consumer: 0
    ) -> None:
        self._bus = bus
        self._delayed = delayed
        self._in_hand = in_hand
        self._lanes = {lane_durable(kind, high=high): _Lane(kind) for kind in kinds for high in (True, False)}
        self._of_kind: dict[str, dict[str, _Lane]] = {}
        for name, lane in self._lanes.items():
            self._of_kind.setdefault(lane.kind, {})[name] = lane
        self.known: dict[str, int] = {}
        """Kind to depth; without those of which nothing is known yet."""
        self.listeners: list[Listener] = []
        """Each is called with a kind and its depth whenever it changed: for each message, so it must be quick."""

    def of(self, kind: str) -> int:
        """Messages waiting for a kind plus messages pulled and not acknowledged; 0 where not known yet."""
        return self.known.get(kind, 0)

    def waited_ms(self, kind: str) -> int | None:
        """For how long messages of a kind have waited by now, at most; None where that is not known."""
        lanes = [lane for lane in self._of_kind[kind].values() if lane.waiting]
        since = [lane.since for lane in lanes if lane.since is not None]
        if len(since) < len(lanes):
            return None
        return max((max(0, whole_ms(self._bus.server_now() - stored)) for stored in since), default=0)

    def saw(self, consumer: str, pending: int, stored: datetime) -> None:
        """A message of one of our lanes came, `stored` then, and after it `pending` others wait there."""
        lane = self._lanes[consumer]
        lane.waiting = pending
        # One that comes again is older than those that wait.
        if lane.since is None or stored > lane.since:
            lane.since = stored
        self._tell(lane.kind)

    async def look(self, kind: str) -> None:
        """Ask the server for one of our kinds now. Raises the bus's errors."""
        for high in (True, False):
            name = lane_durable(kind, high=high)
            await self._look(name, self._lanes[name])

    async def serve(self) -> None:
        """Ask the server for all of it, every few seconds, until cancelled."""
        while True:
            for name, lane in self._lanes.items():
                try:
                    await self._look(name, lane)
                except BusError as error:
                    log.debug("depth of %s is not known: %s", name, error)
            await anyio.sleep(LOOK_S)

    async def _look(self, name: str, lane: _Lane) -> None:
        state = await self._bus.consumer(JOBS, name)
        lane.waiting, lane.elsewhere = state.waiting, max(0, state.unacknowledged - self._in_hand(name))
        if not state.waiting:
            lane.since = self._bus.server_now()
        # What other gateways have in hand waits for no delay, and has places of its own.
        self._delayed.told(name, lane.elsewhere - IN_HAND)
        self._tell(lane.kind)

    def _tell(self, kind: str) -> None:
        depth = 0
        for name, lane in self._of_kind[kind].items():
            depth += lane.waiting + lane.elsewhere + self._in_hand(name)
        if self.known.get(kind) != depth:
            self.known[kind] = depth
            for listener in self.listeners:
                listener(kind, depth)
