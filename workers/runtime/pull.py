"""Credit, and deliveries for it.

A lane asks for as many messages as its profile has slots that no delivery in hand claims. Kinds that share a profile
share its slots: what one of them takes, the others ask for no more, so a gateway holds at most one profile's slots for
each of its lanes, and what waits for a slot keeps its lease.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from infra.bus.base import Bus, Delivery, Disconnected, Puller
from workers.kinds.registry import Kind

__all__ = ["Credit", "Lane", "pull"]

log = logging.getLogger("jetray.pull")

LATE_S: Final = 0.2
"""How long a lane that stops still takes what is on its way, to give it back at once."""


class Lane(Struct, frozen=True, kw_only=True):
    """A durable consumer, and the kind that its messages start."""

    stream: str
    consumer: str
    kind: Kind


class Credit:
    """Room for one profile's deliveries, or for open batches."""

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self._held = 0
        self._changed = anyio.Event()

    @property
    def free(self) -> int:
        """Deliveries that may still be taken."""
        return max(0, self._capacity() - self._held)

    def take(self) -> None:
        """A delivery is in hand. Its lane has one less to receive too, so nobody need look."""
        self._held += 1

    def give(self) -> None:
        """It is no more."""
        self._held -= 1
        self.notify()

    def lend(self, count: int) -> None:
        """So many deliveries in hand need no room for now, as they wait for something else; or less, below 0."""
        self._held -= count
        self.notify()

    def notify(self) -> None:
        """Capacity or what is held has changed."""
        self._changed.set()
        self._changed = anyio.Event()

    async def change(self) -> None:
        """Return at the next change."""
        await self._changed.wait()


async def pull(
    bus: Bus,
    lane: Lane,
    credit: Credit,
    work: TaskGroup,
    handle: Callable[[Kind, Delivery], Awaitable[None]],
    paused: Callable[[str], bool] = lambda kind: False,
) -> None:
    """Take deliveries and hand each to a task of `work`, until cancelled; then give back what comes late.

    While a kind is `paused` nothing is asked for; whoever changes that notifies the credit.
    """

    async def one(delivery: Delivery) -> None:
        try:
            await handle(lane.kind, delivery)
        finally:
            credit.give()

    async with bus.pull(lane.stream, lane.consumer) as puller, anyio.create_task_group() as group:
        group.start_soon(_grant, puller, credit, lambda: paused(lane.kind.name))
        try:
            while True:
                delivery = await puller.receive()
                credit.take()
                work.start_soon(one, delivery, name=f"{lane.consumer} {delivery.sequence}")
        finally:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await _give_back(bus, puller)


async def _grant(puller: Puller, credit: Credit, paused: Callable[[], bool]) -> None:
    revoked = False
    while True:
        if not paused():
            revoked = False
            missing = credit.free - puller.credit
            if missing > 0:
                puller.grant(missing)
        elif not revoked:
            revoked = True
            puller.revoke()
        await credit.change()


async def _give_back(bus: Bus, puller: Puller) -> None:
    puller.revoke()
    with anyio.move_on_after(LATE_S):
        while True:
            delivery = await puller.receive()
            try:
                await bus.nak(delivery)
            except Disconnected:
                log.info("%s:%d comes back with the end of its lease", delivery.stream, delivery.sequence)
