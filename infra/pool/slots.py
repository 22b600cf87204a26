"""Who gets which slot: a profile's actors, the slots taken on them, and those who wait. Pure.

    waiting ──grant──▶ held ──free──▶ done
       └────withdraw──────────────────▶ done

Tickets are served in the order in which they came, with one liberty: a ticket that cannot be served yet holds back
only those that want the same room. An exclusive ticket waits by *claiming* the actor that is nearest to empty: a
claimed actor takes nothing new, so it does become empty, while the other actors go on serving.

An actor may have so many grants and no more. One that has none left, or is closed, keeps what it holds.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["SlotTable", "Ticket"]


class Ticket:
    """One slot asked for, or a whole actor."""

    __slots__ = ("actor", "exclusive", "state")

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.state: Literal["waiting", "held", "done"] = "waiting"
        self.actor = ""
        """Where the slot is, once held."""

    def __repr__(self) -> str:
        return f"Ticket({'exclusive' if self.exclusive else 'shared'}, {self.state}, {self.actor!r})"


class _Berth:
    """One actor's room."""

    __slots__ = ("capacity", "exclusive", "left", "taken")

    def __init__(self, capacity: int, left: float) -> None:
        self.capacity = capacity
        self.left = left
        self.taken = 0
        self.exclusive = False

    @property
    def free(self) -> int:
        return 0 if self.exclusive else int(min(self.capacity - self.taken, self.left))

    def size(self, exclusive: bool) -> int:
        if exclusive:
            return int(self.taken > 0 or self.left > 0)
        return int(min(self.capacity, self.taken + self.left))


class SlotTable:
    """The slots of one profile. Every method that can make room returns the tickets that it granted, in order."""

    def __init__(self) -> None:
        self._berths: dict[str, _Berth] = {}
        self._waiting: list[Ticket] = []
        self._claimed: set[str] = set()

    def add(self, actor: str, capacity: int, grants: float = math.inf) -> list[Ticket]:
        """An actor is ready, with room for `capacity` shared jobs at a time, and for so many in all."""
        if actor in self._berths or capacity < 1 or grants < 1:
            raise ValueError(f"actor {actor} with room for {capacity} and {grants} in all cannot be added")
        self._berths[actor] = _Berth(capacity, grants)
        return self._settle()

    def close(self, actor: str) -> list[Ticket]:
        """An actor takes nothing new."""
        self._berths[actor].left = 0
        return self._settle()

    def closed(self, actor: str) -> bool:
        """Whether an actor takes nothing new, ever."""
        return not self._berths[actor].left

    def taken(self, actor: str) -> int:
        """Tickets held on an actor."""
        return self._berths[actor].taken

    def alone(self, actor: str) -> bool:
        """Whether an exclusive ticket is held on an actor."""
        return self._berths[actor].exclusive

    def remove(self, actor: str) -> list[Ticket]:
        """An actor is gone, and the slots held on it with it: to free one of them later does nothing."""
        del self._berths[actor]
        return self._settle()

    def ask(self, *, exclusive: bool) -> Ticket:
        """A ticket: held at once where there is room and nobody is before it, else waiting."""
        ticket = Ticket(exclusive)
        self._waiting.append(ticket)
        self._settle()
        return ticket

    def withdraw(self, ticket: Ticket) -> list[Ticket]:
        """A waiting ticket is no longer wanted."""
        _must_be(ticket, "waiting")
        self._waiting.remove(ticket)
        ticket.state = "done"
        return self._settle()

    def free(self, ticket: Ticket) -> list[Ticket]:
        """Give a held slot back."""
        _must_be(ticket, "held")
        ticket.state = "done"
        berth = self._berths.get(ticket.actor)
        if berth is None:
            return []
        berth.taken -= 1
        berth.exclusive = False
        return self._settle()

    def room(self, *, exclusive: bool) -> int:
        """Slots that a ticket asked for now could take, or whole actors for an exclusive one."""
        open_berths = [berth for actor, berth in self._berths.items() if actor not in self._claimed]
        if exclusive:
            return sum(berth.left > 0 and not berth.taken for berth in open_berths)
        return sum(berth.free for berth in open_berths)

    def size(self, *, exclusive: bool) -> int:
        """Room of the actors that are there, idle or not; of those that take nothing new, what is held on them."""
        return sum(berth.size(exclusive) for berth in self._berths.values())

    @property
    def waiting(self) -> int:
        """Tickets that wait."""
        return len(self._waiting)

    def _settle(self) -> list[Ticket]:
        """Walk the queue once: grant what can be granted, and let each exclusive ticket that cannot claim an actor."""
        self._claimed.clear()
        granted = [ticket for ticket in self._waiting if self._grant(ticket)]
        if granted:
            self._waiting = [ticket for ticket in self._waiting if ticket.state == "waiting"]
        return granted

    def _grant(self, ticket: Ticket) -> bool:
        unclaimed = [item for item in self._berths.items() if item[1].left and item[0] not in self._claimed]
        if not unclaimed:
            return False
        if ticket.exclusive:
            # The first exclusive ticket's claim can only move to an actor with as few jobs: so its wait does end.
            actor, berth = min(unclaimed, key=lambda item: item[1].taken)
            if berth.taken:
                self._claimed.add(actor)
                return False
            berth.exclusive = True
        else:
            # Spread: async jobs share an actor's one loop, so the emptiest is the quickest.
            actor, berth = max(unclaimed, key=lambda item: item[1].free)
            if not berth.free:
                return False
        berth.taken += 1
        berth.left -= 1
        ticket.actor = actor
        ticket.state = "held"
        return True


def _must_be(ticket: Ticket, state: str) -> None:
    if ticket.state != state:
        raise ValueError(f"{ticket!r} is not {state}")
