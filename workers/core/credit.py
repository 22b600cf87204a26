"""Who may ask for how many messages: the room of one profile, shared among the lanes whose jobs run there. Pure.

Room is counted in slots. What a lane has in hand or has asked for takes slots, `per_slot` messages to each; exclusive
jobs take whole actors, so where a profile runs both sorts, a slot of either is its share of the whole.

    has messages waiting    asks for as many, as far as there is room: free slots, and what may be fetched ahead
    none that it knows of   asks for one, the probe, which takes no room before it is filled. With nothing in hand it
                            always does; else only while a slot is free, so that a full gateway leaves to others what
                            would wait here
    closed, or no slots     asks for nothing

Free room goes slot by slot to the kind that has least, of equals to the one that has waited longest; within a kind the
high lane is first, but passes over none that has messages waiting more than `WEIGHT` times in a row. If the next in
turn needs more than is free, as a whole actor, room is kept until there is enough. What was asked for and turned out
not to exist is withdrawn as soon as another lane could use its room.

So a gateway never has more in hand and on its way than its room, and one message more for each lane.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

__all__ = ["PROBE", "WEIGHT", "LaneState", "Share", "Shares", "ahead", "share"]

PROBE: Final = 1
"""Messages that a lane asks for which knows of none."""
WEIGHT: Final = 7
"""Slots that a high lane may take in a row while another lane of its kind has messages waiting."""


class LaneState(Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a lane."""

    kind: str
    high: bool = False
    open: bool = True
    """Its kind may be pulled."""
    slots: int
    """What the profile has for its jobs on the actors that are ready, in slots, or whole actors for exclusive ones."""
    ahead: int = 0
    """Slots' worth that may be fetched beyond."""
    per_slot: int = 1
    """Messages that one slot takes."""
    held: int = 0
    """Messages received and not settled."""
    asked: int = 0
    """Messages asked for and not received."""
    leaving: int = 0
    """Messages asked for no longer, which may still be on their way."""
    pending: int = 0
    """Messages that wait, as far as is known; those asked for are among them."""
    last: int = 0
    """When it last got a slot: a number that grows."""
    passed: int = 0
    """Slots that the high lane has got since, while messages waited here."""


class Share(Struct, frozen=True, gc=False):
    """What a lane is to have asked for from now on, and two figures for its next state."""

    asked: int
    last: int
    passed: int


class Shares(Struct, frozen=True):
    """One for each lane, in their order."""

    lanes: Sequence[Share]
    wanting: bool
    """A lane could use room that others have."""


def ahead(prefetch: float, slots: int, actors: int) -> int:
    """Slots' worth to fetch beyond `slots` on so many actors: `prefetch` is a share of them, but one an actor at least.

    Each is what one slot takes, of a short kind a batch. A prefetch of 0 fetches nothing ahead.
    """
    return max(actors, math.ceil(prefetch * slots)) if prefetch > 0 else 0


def share(lanes: Iterable[LaneState]) -> Shares:
    """Share the room of one profile among its lanes."""
    table = _Table([_Seat(lane) for lane in lanes])
    table.close()
    table.shrink()
    table.fill_begun_slots()
    table.give_slots()
    table.probe()
    if table.wanting:
        table.withdraw()
    return Shares([Share(seat.asked, seat.last, seat.passed) for seat in table.seats], table.wanting)


class _Seat:
    """A lane at the table."""

    __slots__ = ("asked", "capacity", "lane", "last", "leaving", "open", "passed", "per_slot", "width")

    def __init__(self, lane: LaneState) -> None:
        self.lane = lane
        self.per_slot = lane.per_slot
        self.capacity = lane.slots + lane.ahead if lane.slots > 0 else 0
        self.open = lane.open and self.capacity > 0
        self.width = 1
        self.asked = lane.asked
        self.leaving = lane.leaving
        self.last = lane.last
        self.passed = lane.passed

    @property
    def want(self) -> int:
        """Messages that wait and are not asked for."""
        return self.lane.pending - self.asked if self.open else 0

    @property
    def total(self) -> int:
        """Messages in hand and on their way."""
        return self.lane.held + self.leaving + self.asked

    @property
    def counted(self) -> int:
        """Messages that take room: all but an unfilled probe."""
        return self.total - PROBE if self.asked and not self.lane.pending else self.total

    @property
    def taken(self) -> int:
        """Room that it takes."""
        return self.room(self.counted)

    @property
    def spare(self) -> int:
        """Messages that a slot which is taken anyway has room for."""
        return -self.counted % self.per_slot

    def room(self, messages: int) -> int:
        """Room that so many messages take."""
        return -(-messages // self.per_slot) * self.width

    def withdraw(self, to: int) -> None:
        """Ask for less; what was asked for may come all the same."""
        self.leaving += self.asked - to
        self.asked = to


class _Table:
    """All lanes of a profile, and its room. What is shared is a whole number: slots of each sort are parts of it."""

    def __init__(self, seats: list[_Seat]) -> None:
        self.seats = seats
        self.wanting = False
        sorts = {seat.capacity for seat in seats if seat.capacity}
        self._room = math.prod(sorts) if sorts else 0
        for seat in seats:
            seat.width = self._room // seat.capacity if seat.capacity else 0
        self._free = 0
        self._turn = max((seat.last for seat in seats), default=0)

    def close(self) -> None:
        """Lanes that may not be pulled, or whose jobs could not run, ask for nothing."""
        for seat in self.seats:
            if not seat.open:
                seat.withdraw(0)

    def shrink(self) -> None:
        """Where actors have gone, what was asked for on their behalf is withdrawn, from those that have most."""
        certain = sum(seat.room(max(0, seat.total - PROBE)) for seat in self.seats)
        for seat in sorted(self.seats, key=lambda seat: -seat.taken) if certain > self._room else ():
            keep = 0 if seat.lane.held else min(seat.asked, PROBE)
            if certain > self._room and seat.asked > keep:
                certain -= seat.room(seat.asked - keep)
                seat.withdraw(keep)

    def fill_begun_slots(self) -> None:
        """A slot that is taken anyway may as well be full, unless a probe took it beyond the room."""
        self._free = self._room - sum(seat.taken for seat in self.seats)
        for seat in self.seats if self._free >= 0 else ():
            if seat.want > 0:
                seat.asked += min(seat.want, seat.spare)

    def give_slots(self) -> None:
        """Free room, slot by slot, to whose turn it is."""
        hungry = [seat for seat in self.seats if seat.want > 0]
        while hungry and self._free > 0:
            seat = hungry[0] if len(hungry) == 1 else self._next(hungry)
            if seat.width > self._free:
                break
            # Alone it has every turn.
            self._give(seat, 1 if len(hungry) > 1 else self._free // seat.width, hungry)
            if seat.want <= 0:
                hungry.remove(seat)
        self.wanting = bool(hungry)

    def probe(self) -> None:
        """Lanes that know of no message ask for one."""
        for seat in self.seats:
            if seat.open and not seat.asked and not seat.lane.pending:
                more = seat.room(seat.total + PROBE) - seat.room(seat.total)
                slots = seat.width * seat.lane.slots
                if not seat.total or self._room - self._free + more <= slots:
                    seat.asked = PROBE
                else:
                    self.wanting = True

    def withdraw(self) -> None:
        """What lanes asked for beyond what waits for them, others could use."""
        for seat in self.seats:
            known = max(seat.lane.pending, PROBE)
            if seat.asked > known:
                seat.withdraw(known)

    def _give(self, seat: _Seat, slots: int, hungry: list[_Seat]) -> None:
        before = seat.taken
        seat.asked += min(seat.want, slots * seat.per_slot)
        self._free -= seat.taken - before
        self._turn += 1
        seat.last = self._turn
        seat.passed = 0
        if seat.lane.high:
            for other in hungry:
                if other.lane.kind == seat.lane.kind and not other.lane.high:
                    other.passed += 1

    def _next(self, hungry: list[_Seat]) -> _Seat:
        """The hungry kind that has least, or of equals has waited longest; of its lanes the one that is first."""
        taken = {seat.lane.kind: 0 for seat in hungry}
        last = taken.copy()
        for seat in self.seats:
            kind = seat.lane.kind
            if kind in taken:
                taken[kind] += seat.taken
                last[kind] = max(last[kind], seat.last)
        first = min(taken, key=lambda kind: (taken[kind], last[kind]))
        return min((seat for seat in hungry if seat.lane.kind == first), key=_precedence)


def _precedence(seat: _Seat) -> tuple[int, int, int]:
    """Within a kind: lanes passed over too often, then the high lane, then the others in turn."""
    group = 0 if seat.passed >= WEIGHT else 1 if seat.lane.high else 2
    return group, seat.taken, seat.last
