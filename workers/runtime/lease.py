"""Renews what is held, and says when it is lost.

The server's `ack_wait` is the lease. It counts from when the message was handed out, or from when a confirmed renewal
was sent, by this machine's monotonic clock. Whoever holds a lease that could not be renewed is told before it ends, so
that the attempt is dead by then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from infra.bus.base import Bus, BusError, Delivery

__all__ = ["Lease", "Leases"]

log = logging.getLogger("jetray.lease")

RENEWALS: Final = 3
MARGIN: Final = 1 / 6
"""Share of the lease that is left when it is given up: what it takes to kill an attempt."""


class Lease:
    """The right to settle one delivery."""

    def __init__(self, delivery: Delivery, now: float, lost: Callable[[], None]) -> None:
        self.delivery = delivery
        self.renewed = now
        self.asked = -math.inf
        self.lost = False
        self.on_lost = lost


class Leases:
    """All leases of a gateway, renewed by one task."""

    def __init__(self, bus: Bus, *, ack_wait_s: float) -> None:
        self._bus = bus
        self._ack_wait = ack_wait_s
        # In order, not a set: what is looked at in the order of addresses happens otherwise each time.
        self._held: dict[Lease, None] = {}
        self._any = anyio.Event()

    def hold(self, delivery: Delivery, on_lost: Callable[[], None]) -> Lease:
        """Begin to renew; `on_lost` is called at most once, before the lease ends."""
        lease = Lease(delivery, anyio.current_time(), on_lost)
        self._held[lease] = None
        self._any.set()
        return lease

    def release(self, lease: Lease) -> None:
        """Renew no more."""
        self._held.pop(lease, None)

    def check(self, lease: Lease, now: float | None = None) -> bool:
        """Whether the lease is lost. One that is late is given up: who was stopped for long is here before `serve`."""
        if not lease.lost and self._is_late(lease, anyio.current_time() if now is None else now):
            self._give_up(lease)
        return lease.lost

    async def serve(self) -> None:
        """Renew what is due and give up what is late, until cancelled."""
        tick = self._ack_wait / RENEWALS / 4
        async with anyio.create_task_group() as group:
            while True:
                if not self._held:
                    self._any = anyio.Event()
                    await self._any.wait()
                await anyio.sleep(tick)
                self._look(group)

    def _look(self, group: TaskGroup) -> None:
        now = anyio.current_time()
        for lease in [*self._held]:
            if self._is_late(lease, now):
                self._give_up(lease)
            elif now >= max(lease.renewed, lease.asked) + self._ack_wait / RENEWALS:
                lease.asked = now
                group.start_soon(self._renew, lease)

    def _is_late(self, lease: Lease, now: float) -> bool:
        return now >= lease.renewed + self._ack_wait * (1 - MARGIN)

    async def _renew(self, lease: Lease) -> None:
        sent = anyio.current_time()
        try:
            await self._bus.in_progress(lease.delivery)
        except BusError as error:
            log.info("lease on %s:%d not renewed: %s", lease.delivery.stream, lease.delivery.sequence, error)
            lease.asked = -math.inf
            return
        # An answer that comes late is of a renewal before the last.
        lease.renewed = max(lease.renewed, sent)

    def _give_up(self, lease: Lease) -> None:
        log.warning("lease on %s:%d is lost", lease.delivery.stream, lease.delivery.sequence)
        self._held.pop(lease, None)
        lease.lost = True
        lease.on_lost()
