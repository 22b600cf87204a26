"""`infra.pool.slots`: no slot leaks, nobody starves, whoever came first is served first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from infra.pool.slots import SlotTable, Ticket


def table(*capacities: int) -> SlotTable:
    slots = SlotTable()
    for number, capacity in enumerate(capacities, 1):
        slots.add(f"a{number}", capacity)
    return slots


def test_shared_tickets_spread_and_then_fill() -> None:
    slots = table(2, 2)
    tickets = [slots.ask(exclusive=False) for _ in range(5)]
    assert [ticket.actor for ticket in tickets] == ["a1", "a2", "a1", "a2", ""]
    assert slots.room(exclusive=False) == 0
    assert slots.free(tickets[1]) == [tickets[4]]
    assert tickets[4].actor == "a2"


def test_an_exclusive_ticket_takes_a_whole_actor() -> None:
    slots = table(4, 4)
    alone = slots.ask(exclusive=True)
    assert (alone.actor, slots.room(exclusive=True), slots.room(exclusive=False)) == ("a1", 1, 4)
    assert [slots.ask(exclusive=False).actor for _ in range(5)] == ["a2", "a2", "a2", "a2", ""]


def test_a_waiting_exclusive_ticket_drains_one_actor_while_others_go_on() -> None:
    slots = table(3, 3)
    held = [slots.ask(exclusive=False) for _ in range(3)]  # a1, a2, a1
    alone = slots.ask(exclusive=True)
    assert alone.state == "waiting"
    # a2 is nearest to empty, so it takes nothing new; a1 has its last room.
    assert slots.room(exclusive=False) == 1
    later = slots.ask(exclusive=False)
    assert later.actor == "a1"
    assert slots.ask(exclusive=False).state == "waiting"
    assert slots.free(held[1]) == [alone]
    assert alone.actor == "a2"


def test_a_dead_actors_slots_are_gone_and_its_tickets_free_nothing() -> None:
    slots = table(1, 1)
    first, second, third = (slots.ask(exclusive=False) for _ in range(3))
    assert slots.remove(first.actor) == []
    assert slots.free(first) == []
    assert slots.add("a3", 1) == [third]
    assert slots.room(exclusive=False) == 0
    slots.free(second)
    assert slots.room(exclusive=False) == 1


def test_a_claim_moves_on_when_its_actor_dies() -> None:
    slots = table(2, 2)
    on_first, on_second = slots.ask(exclusive=False), slots.ask(exclusive=False)
    alone = slots.ask(exclusive=True)
    slots.remove(on_first.actor)
    assert slots.free(on_second) == [alone]
    assert alone.actor == on_second.actor


def test_a_withdrawn_ticket_lets_the_next_one_through() -> None:
    slots = table(2)
    slots.ask(exclusive=False)
    alone, after = slots.ask(exclusive=True), slots.ask(exclusive=False)
    assert after.state == "waiting"
    assert slots.withdraw(alone) == [after]


def test_an_actor_has_so_many_grants_and_no_more() -> None:
    slots = SlotTable()
    slots.add("a1", 2, grants=3)
    assert (slots.size(exclusive=False), slots.room(exclusive=False)) == (2, 2)
    first, second, third = (slots.ask(exclusive=False) for _ in range(3))
    assert slots.free(first) == [third]
    assert slots.closed("a1")
    fourth = slots.ask(exclusive=False)
    assert slots.free(second) == []
    assert (fourth.state, slots.taken("a1"), slots.size(exclusive=False)) == ("waiting", 1, 1)
    assert (slots.size(exclusive=True), slots.room(exclusive=True)) == (1, 0)
    slots.free(third)
    assert (slots.size(exclusive=False), slots.size(exclusive=True)) == (0, 0)
    with pytest.raises(ValueError):
        slots.add("a2", 2, grants=0)


def test_a_closed_actor_keeps_what_it_holds_and_a_claim_moves_on() -> None:
    slots = table(2, 2)
    on_first, on_second = slots.ask(exclusive=False), slots.ask(exclusive=False)
    alone = slots.ask(exclusive=True)
    assert slots.close("a1") == []
    assert slots.free(on_first) == []
    assert slots.free(on_second) == [alone]
    assert (alone.actor, slots.alone("a2"), slots.alone("a1")) == ("a2", True, False)


@pytest.mark.parametrize("illegal", ["free a waiting one", "withdraw a held one", "free what is done", "add twice"])
def test_what_is_illegal_raises_and_changes_nothing(illegal: str) -> None:
    slots = table(1)
    held, waiting = slots.ask(exclusive=False), slots.ask(exclusive=False)
    done = slots.ask(exclusive=False)
    slots.withdraw(done)
    acts = {
        "free a waiting one": lambda: slots.free(waiting),
        "withdraw a held one": lambda: slots.withdraw(held),
        "free what is done": lambda: slots.free(done),
        "add twice": lambda: slots.add("a1", 1),
    }
    with pytest.raises(ValueError):
        acts[illegal]()
    assert (held.state, waiting.state, slots.room(exclusive=False)) == ("held", "waiting", 0)


@given(actors=st.integers(1, 4), capacity=st.integers(1, 4))
def test_shared_tickets_never_starve_an_exclusive_one(actors: int, capacity: int) -> None:
    slots = table(*[capacity] * actors)
    held = [slots.ask(exclusive=False) for _ in range(actors * capacity)]
    alone = slots.ask(exclusive=True)
    for _ in range(len(held)):
        # Jobs end in the order in which they began, and for each a new one wants in.
        slots.free(held.pop(0))
        after = slots.ask(exclusive=False)
        if alone.state == "held":
            break
        if after.state == "held":
            held.append(after)
    assert alone.state == "held"


class Slots(RuleBasedStateMachine):
    """Any order of asking, freeing, withdrawing, and actors that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = SlotTable()
        self.left: dict[str, float] = {}
        """Grants that each actor may still have."""
        self.capacity: dict[str, int] = {}
        self.tickets: list[Ticket] = []
        self.born = 0

    @initialize(capacity=st.integers(1, 3))
    def profile(self, capacity: int) -> None:
        self.size = capacity

    @rule(grants=st.sampled_from([1, 2, 5, math.inf, math.inf]))
    def add(self, grants: float = math.inf) -> None:
        self.born += 1
        name = f"a{self.born}"
        self.capacity[name] = self.size
        self.left[name] = grants
        self.served(self.slots.add(name, self.size, grants))

    @precondition(lambda self: self.capacity)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.capacity)))
        self.left[name] = len([ticket for ticket in self.tickets if ticket.actor == name])
        self.served(self.slots.close(name))
        assert self.slots.closed(name)

    @precondition(lambda self: self.capacity)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.capacity)))
        del self.capacity[name]
        self.served(self.slots.remove(name))

    @rule(exclusive=st.booleans())
    def ask(self, exclusive: bool) -> None:
        before = self.slots.room(exclusive=exclusive)
        ticket = self.slots.ask(exclusive=exclusive)
        assert (ticket.state == "held") == (before > 0)
        self.tickets.append(ticket)

    @precondition(lambda self: self.of("held"))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.served(self.slots.free(data.draw(st.sampled_from(self.of("held")))))

    @precondition(lambda self: self.of("waiting"))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.served(self.slots.withdraw(data.draw(st.sampled_from(self.of("waiting")))))

    def served(self, granted: list[Ticket]) -> None:
        """Nobody is served before an earlier one who wants the same."""
        for ticket in granted:
            earlier = self.tickets[: self.tickets.index(ticket)]
            assert not [t for t in earlier if t.state == "waiting" and t.exclusive == ticket.exclusive]

    def of(self, state: str) -> list[Ticket]:
        return [ticket for ticket in self.tickets if ticket.state == state]

    @invariant()
    def no_actor_is_overbooked(self) -> None:
        for name, capacity in self.capacity.items():
            on_it = [ticket for ticket in self.of("held") if ticket.actor == name]
            assert len(on_it) <= (1 if any(ticket.exclusive for ticket in on_it) else capacity)

    @invariant()
    def nobody_has_more_grants_than_it_may(self) -> None:
        for name in self.capacity:
            assert len([ticket for ticket in self.tickets if ticket.actor == name]) <= self.left[name]

    @invariant()
    def what_is_free_and_what_is_taken_is_all_there_is(self) -> None:
        taken = sum(self.slots.taken(name) for name in self.capacity)
        alone = [name for name in self.capacity if self.slots.alone(name)]
        if not alone and not self.of("waiting"):
            assert self.slots.size(exclusive=False) == taken + self.slots.room(exclusive=False)

    @invariant()
    def whoever_waits_has_no_room(self) -> None:
        for ticket in self.of("waiting"):
            assert self.slots.room(exclusive=ticket.exclusive) == 0

    def teardown(self) -> None:
        """Once every job ends and actors stay, everyone is served, and every slot is free again."""
        if not self.born:
            return
        self.add()
        while held := self.of("held"):
            self.slots.free(held[0])
        assert not self.of("waiting")
        for name in sorted(self.capacity):
            if self.slots.closed(name):
                self.slots.remove(name)
                del self.capacity[name]
        left = {name: self.left[name] - sum(ticket.actor == name for ticket in self.tickets) for name in self.capacity}
        assert self.slots.room(exclusive=False) == sum(min(self.capacity[name], left[name]) for name in self.capacity)
        assert self.slots.room(exclusive=True) == len(self.capacity)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
