"""Pulling: each lane's deliveries go to a handler, and what lanes may ask for is decided for a whole profile at once.

What is decided lies in `workers.core.credit`; here are the figures for it, and the pullers that it is told to. A
decision is made at most once in a turn of the loop, however much arrived or was settled in it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Final

import anyio
from msgspec import Struct

from infra.bus.base import Bus, Delivery, Disconnected, Puller
from workers.core.credit import LaneState, share
from workers.kinds.registry import Kind

__all__ = ["Credit", "Handle", "Lane", "Settled", "pull"]

log = logging.getLogger("jetray.pull")

LATE_S: Final = 0.2
"""How long something may be on its way: a message that is no longer asked for, and the answer to one that is."""


class Lane(Struct, frozen=True, kw_only=True):
    """A durable consumer, and the kind that its messages start."""

    stream: str
    consumer: str
    kind: Kind
    high: bool = False


Settled = Callable[[], None]
"""To be called once for each delivery that is in hand no more."""

Handle = Callable[[Kind, list[Delivery], Settled], None]
"""Takes what arrived together."""


class Credit:
    """The room of one profile, or for open batches, and the lanes that share it. `serve` must be running.

    `room` tells a kind's slots and how many slots' worth may be fetched ahead, `per_slot` how many of its messages a
    slot takes. While a lane is `paused` it asks for nothing. `allowance` tells how many messages of a kind its limits
    let run now, None where they do not say. Whoever changes any of it notifies the credit.
    """

    def __init__(
        self,
        room: Callable[[Kind], tuple[int, int]],
        *,
        per_slot: Callable[[Kind], int] = lambda kind: 1,
        paused: Callable[[Lane], bool] = lambda lane: False,
        allowance: Callable[[str], int | None] = lambda kind: None,
    ) -> None:
        self._room = room
        self._per_slot = per_slot
        self._paused = paused
        self._allowance = allowance
        self._seats: list[_Seat] = []
        self._changed = anyio.Event()

    @property
    def held(self) -> int:
        """Deliveries in hand."""
        return sum(seat.held for seat in self._seats)

    def held_of(self, consumer: str) -> int:
        """Deliveries of one lane in hand."""
        return sum(seat.held for seat in self._seats if seat.lane.consumer == consumer)

    def join(self, lane: Lane, puller: Puller) -> _Seat:
        """Another lane. It asks for messages until its seat is closed."""
        seat = _Seat(lane, puller, self)
        self._seats.append(seat)
        self.notify()
        return seat

    def lend(self, kind: str, count: int) -> None:
        """So many deliveries of a kind in hand need no room for now, as they wait for other things; below 0 less."""
        seats = [seat for seat in self._seats if seat.lane.kind.name == kind]
        seat = max(seats, key=lambda seat: seat.held - seat.lent if count > 0 else seat.lent)
        seat.lent += count
        self.notify()

    def notify(self) -> None:
        """Room, or what is known of a lane, has changed. Costs next to nothing: the decision is made later."""
        self._changed.set()

    async def serve(self) -> None:
        """Have each lane ask for its share, until cancelled."""
        while True:
            self._changed = anyio.Event()
            look_again = self._decide(anyio.current_time())
            with anyio.CancelScope(deadline=look_again):
                await self._changed.wait()

    def _decide(self, now: float) -> float:
        """Share the room as it is now. When it is to be looked at again if nothing changes."""
        seats = [seat for seat in self._seats if not seat.closed]
        for seat in seats:
            seat.age(now)
        shares = share(self._states(seats))
        for seat, mine in zip(seats, shares.lanes, strict=True):
            seat.last, seat.passed = mine.last, mine.passed
            seat.ask_for(mine.asked, now)
        return min((seat.due(shares.wanting) for seat in seats), default=math.inf)

    def _states(self, seats: list[_Seat]) -> Iterator[LaneState]:
        rooms: dict[bool, tuple[int, int]] = {}
        for seat in seats:
            kind = seat.lane.kind
            if kind.exclusive not in rooms:
                rooms[kind.exclusive] = self._room(kind)
            slots, ahead = rooms[kind.exclusive]
            yield LaneState(
                kind=kind.name,
                high=seat.lane.high,
                open=not self._paused(seat.lane),
                slots=slots,
                ahead=ahead,
                per_slot=self._per_slot(kind),
                held=max(0, seat.held - seat.lent),
                asked=seat.puller.credit,
                leaving=seat.leaving,
                pending=seat.pending,
                last=seat.last,
                passed=seat.passed,
                most=self._most(seat),
            )

    def _most(self, seat: _Seat) -> int | None:
        """What a lane may ask for of what its kind's limits allow, beside what other lanes of the kind ask for."""
        kind = seat.lane.kind
        allowance = self._allowance(kind.name)
        if allowance is None:
            return None
        # An idle lane's probe may never be filled: it must not keep what another lane could use.
        others = (each for each in self._seats if each is not seat and each.lane.kind is kind and each.pending)
        return max(0, allowance - sum(other.puller.credit for other in others))


class _Seat:
    """One lane's part in a credit."""

    def __init__(self, lane: Lane, puller: Puller, credit: Credit) -> None:
        self.lane = lane
        self.puller = puller
        self.held = 0
        self.lent = 0
        self.pending = 0
        self.leaving = 0
        self.last = 0
        self.passed = 0
        self.closed = False
        self._credit = credit
        self._gone_at = math.inf
        self._quiet_since = 0.0

    def took(self, deliveries: list[Delivery]) -> None:
        """These are in hand. Whoever says so notifies the credit."""
        self.held += len(deliveries)
        self.pending = deliveries[-1].pending
        self._quiet_since = anyio.current_time()

    def settled(self) -> None:
        """One is in hand no more."""
        self.held -= 1
        self._credit.notify()

    def ask_for(self, count: int, now: float) -> None:
        """Have so many messages asked for."""
        asked = self.puller.credit
        if count < asked:
            self.puller.revoke()
            self.leaving += asked - self.puller.credit
            self._gone_at = now + LATE_S
            asked = self.puller.credit
        if count > asked:
            self.puller.grant(count - asked)
            self._quiet_since = now

    def age(self, now: float) -> None:
        """Forget what time has proved wrong: that messages are still on their way, and that others wait."""
        if self._gone_at <= now:
            self.leaving = 0
            self._gone_at = math.inf
        if self._answer_at <= now:
            self.pending = 0

    def due(self, wanting: bool) -> float:
        """When there is something to forget; where others want its room, also that messages wait."""
        return min(self._gone_at, self._answer_at if wanting else math.inf)

    @property
    def _answer_at(self) -> float:
        """When messages that it asked for would be here if they still waited."""
        return self._quiet_since + LATE_S if self.pending and self.puller.credit else math.inf

    def close(self) -> None:
        """Ask for nothing more. What is in hand still counts."""
        self.closed = True
        self.puller.revoke()


async def pull(bus: Bus, lane: Lane, credit: Credit, handle: Handle) -> None:
    """Hand deliveries to `handle`, all that have arrived at once, until cancelled; then give back what comes late."""
    async with bus.pull(lane.stream, lane.consumer) as puller:
        seat = credit.join(lane, puller)
        try:
            while True:
                deliveries = await puller.receive_many()
                seat.took(deliveries)
                handle(lane.kind, deliveries, seat.settled)
                # First the jobs, then the sums: what is decided about credit is nothing that they should wait for.
                credit.notify()
        finally:
            seat.close()
            with anyio.CancelScope(shield=True):
                await _give_back(bus, puller)


async def _give_back(bus: Bus, puller: Puller) -> None:
    with anyio.move_on_after(LATE_S):
        while True:
            for delivery in await puller.receive_many():
                try:
                    await bus.nak(delivery)
                except Disconnected:
                    log.info("%s:%d comes back with the end of its lease", delivery.stream, delivery.sequence)
