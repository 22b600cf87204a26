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
    most: int | None = None
    """Messages that it may ask for as far as its kind's limits go; None where they do not say."""


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

    def __init__(self, lane: LaneState) -> None:
        self.kind = lane.kind
        self.high = lane.high
        self.slots = lane.slots
        self.capacity = lane.slots + lane.ahead if lane.slots > 0 else 0
        self.open = lane.open and self.capacity > 0
        self.per_slot = lane.per_slot
        self.held = lane.held
        self.asked = lane.asked
        self.leaving = lane.leaving
        self.pending = lane.pending
        self.last = lane.last
        self.passed = lane.passed
        self.most = lane.most
        self.width = 0
        """Room that one slot of its sort is."""
        self.taken = 0
        """Room that it takes."""

    @property
    def want(self) -> int:
        """Messages that wait and are not asked for."""
        waiting = self.pending if self.most is None else min(self.pending, self.most)
        return waiting - self.asked if self.open else 0

    @property
    def total(self) -> int:
        """Messages in hand and on their way."""
        return self.held + self.leaving + self.asked

    @property
    def counted(self) -> int:
        """Messages that take room: all but an unfilled probe."""
        return self.total - PROBE if self.asked and not self.pending else self.total

    def room(self, messages: int) -> int:
        """Room that so many messages take."""
        return -(-messages // self.per_slot) * self.width

    def reckon(self) -> None:
        """Say anew what room it takes."""
        self.taken = self.room(self.counted)

    def withdraw(self, to: int) -> None:
        """Ask for less; what was asked for may come all the same."""
        self.leaving += self.asked - to
        self.asked = to
        self.reckon()


class _Table:
    """All lanes of a profile, and its room. What is shared is a whole number: slots of each sort are parts of it."""

    def __init__(self, seats: list[_Seat]) -> None:
        self.seats = seats
        self.wanting = False
        sorts = {seat.capacity for seat in seats if seat.capacity}
        self._room = math.prod(sorts) if sorts else 0
        for seat in seats:
            seat.width = self._room // seat.capacity if seat.capacity else 0
            seat.reckon()
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
            keep = 0 if seat.held else min(seat.asked, PROBE)
            if certain > self._room and seat.asked > keep:
                certain -= seat.room(seat.asked - keep)
                seat.withdraw(keep)

    def fill_begun_slots(self) -> None:
        """A slot that is taken anyway may as well be full, unless a probe took it beyond the room."""
        self._free = self._room - sum(seat.taken for seat in self.seats)
        for seat in self.seats if self._free >= 0 else ():
            if seat.want > 0:
                seat.asked += min(seat.want, -seat.counted % seat.per_slot)

    def give_slots(self) -> None:
        """Free room, slot by slot, to whose turn it is."""
        hungry = [seat for seat in self.seats if seat.want > 0]
        self.wanting = bool(hungry)
        if not hungry or self._free <= 0:
            return
        kinds = self._kinds(hungry)
        while hungry:
            seat = (
                min(hungry, key=lambda seat: (*kinds[seat.kind], *_precedence(seat))) if len(hungry) > 1 else hungry[0]
            )
            if seat.width > self._free:
                return
            # Alone it has every turn.
            self._give(seat, 1 if len(hungry) > 1 else self._free // seat.width, hungry)
            kinds[seat.kind] = (kinds[seat.kind][0] + seat.width, seat.last)
            if seat.want <= 0:
                hungry.remove(seat)
        self.wanting = False

    def probe(self) -> None:
        """Lanes that know of no message ask for one."""
        used = self._room - self._free
        for seat in self.seats:
            if seat.open and not seat.asked and not seat.pending and seat.most != 0:
                more = seat.room(seat.total + PROBE) - seat.taken
                if not seat.total or used + more <= seat.width * seat.slots:
                    seat.asked = PROBE
                else:
                    self.wanting = True

    def withdraw(self) -> None:
        """What lanes asked for beyond what waits for them, others could use."""
        for seat in self.seats:
            known = max(seat.pending, PROBE)
            if seat.asked > known:
                seat.withdraw(known)

    def _give(self, seat: _Seat, slots: int, hungry: list[_Seat]) -> None:
        before = seat.taken
        seat.asked += min(seat.want, slots * seat.per_slot)
        seat.reckon()
        self._free -= seat.taken - before
        self._turn += 1
        seat.last = self._turn
        seat.passed = 0
        if seat.high:
            for other in hungry:
                if other.kind == seat.kind and not other.high:
                    other.passed += 1

    def _kinds(self, hungry: list[_Seat]) -> dict[str, tuple[int, int]]:
        """Of the hungry kinds, what room they take and when they last got some: who has least, or waits longest."""
        kinds = {seat.kind: (0, 0) for seat in hungry}
        for seat in self.seats:
            if seat.kind in kinds:
                taken, last = kinds[seat.kind]
                kinds[seat.kind] = (taken + seat.taken, max(last, seat.last))
        return kinds


def _precedence(seat: _Seat) -> tuple[int, int, int]:
    """Within a kind: lanes passed over too often, then the high lane, then the others in turn."""
    group = 0 if seat.passed >= WEIGHT else 1 if seat.high else 2
    return group, seat.taken, seat.last
