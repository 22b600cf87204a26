"""Pull by credit, on a connection that may be cut."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from infra.bus.base import Delivery, Refused
from infra.bus.memory.consumer import Consumer

if TYPE_CHECKING:
    from infra.bus.memory.client import MemoryBus

__all__ = ["MemoryPuller"]

RETRY_S: Final = 1.0
"""How long until a request that was lost, or went to a consumer that does not exist, is made again."""


class MemoryPuller:
    """See `infra.bus.base.Puller`. Credit is with the server, not asked for yet, or here as messages not received."""

    def __init__(self, bus: MemoryBus, stream: str, consumer: str) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._arrived: deque[Delivery] = deque()
        self._requested = 0
        self._unasked = 0
        self._retry_at = 0.0
        self._waits_until = inf
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"MemoryPuller({self._stream}/{self._consumer}, credit {self.credit})"

    @property
    def credit(self) -> int:
        """Messages asked for and not yet received."""
        return self._unasked + self._requested + len(self._arrived)

    def grant(self, count: int) -> None:
        """Ask for `count` more messages."""
        self._unasked += count
        self.ask()

    def revoke(self) -> None:
        """Withdraw all credit. What is already on its way still arrives."""
        self.cut()
        self._unasked = 0

    async def receive(self) -> Delivery:
        """The next message."""
        await self._arrival()
        return self._arrived.popleft()

    async def receive_many(self) -> list[Delivery]:
        """All messages that are here; waits for the first."""
        await self._arrival()
        arrived = [*self._arrived]
        self._arrived.clear()
        return arrived

    def ask(self) -> None:
        """Ask the server for what it has not been asked for, if it can be."""
        if self._bus.connected and self._unasked:
            now = anyio.current_time()
            consumer = self._find()
            if consumer is None:
                self._retry_at = now + RETRY_S
                self.wake()
            else:
                count, self._unasked = self._unasked, 0
                self._requested += count
                consumer.ask(self, count, now)
                if consumer.due(now) < self._waits_until:
                    self.wake()

    def cut(self) -> None:
        """The server forgets what it was asked for."""
        consumer = self._find()
        if consumer is not None:
            consumer.withdraw(self)
        self._unasked += self._requested
        self._requested = 0

    def take(self, delivery: Delivery) -> bool:
        """A message from the server, unless it is lost on the way."""
        fate = self._bus.faults.delivery(delivery)
        self._requested -= 1
        if fate == "lost":
            self._unasked += 1
            self._retry_at = anyio.current_time() + RETRY_S
        else:
            self._arrived.append(delivery)
        self.wake()
        return fate != "twice"

    def wake(self) -> None:
        """Something arrived, or may be due sooner than it was."""
        self._changed.set()

    async def _arrival(self) -> None:
        """Return once a message is here."""
        await anyio.lowlevel.checkpoint()
        while not self._arrived:
            self._waits_until = self._attend()
            if self._arrived:
                break
            if self._changed.is_set():
                self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._waits_until):
                await self._changed.wait()

    def _attend(self) -> float:
        """Do what is due by now; when to look again."""
        if not self._bus.connected:
            return inf
        now = anyio.current_time()
        if self._unasked and self._retry_at <= now:
            self.ask()
        retry_at = self._retry_at if self._unasked else inf
        consumer = self._find()
        if consumer is None:
            return retry_at
        consumer.advance(now)
        return min(retry_at, consumer.due(now))

    def _find(self) -> Consumer | None:
        try:
            return self._bus.server.consumer(self._stream, self._consumer)
        except Refused:
            return None
