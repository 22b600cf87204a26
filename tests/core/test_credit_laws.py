"""Laws of `workers.core.credit`, over random lives of a gateway's lanes."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.core.credit import PROBE, WEIGHT, LaneState, Shares, share

LIVES = settings(max_examples=150, deadline=None, derandomize=True, database=None)
SIZES = st.integers(1, 6)


@dataclass
class Lane:
    """A lane and its queue, as a server and other gateways would treat it."""

    state: LaneState
    waiting: int = 0
    got: int = 0

    def now(self, **fields: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **fields)

    def deliver(self, most: int) -> None:
        """The server fills what was asked for, also what was withdrawn too late; each message tells how many wait."""
        state = self.state
        count = min(most, self.waiting, state.asked + state.leaving)
        if count:
            late = max(0, count - state.asked)
            self.waiting -= count
            self.got += count
            self.now(
                held=state.held + count,
                asked=state.asked + late - count,
                leaving=state.leaving - late,
                pending=self.waiting,
            )

    def settle(self, count: int) -> None:
        self.now(held=max(0, self.state.held - count))

    def grow_old(self) -> None:
        """What was to come has come; and where messages were asked for and none came, none wait."""
        self.now(leaving=0, pending=0 if self.state.asked else self.state.pending)


@dataclass
class Gateway:
    """Lanes on one profile."""

    lanes: list[Lane]
    each: list[int]
    """Slots that a job of each lane takes."""
    log: list[tuple[list[LaneState], Shares]] = field(default_factory=list)

    def decide(self) -> None:
        states = [lane.state for lane in self.lanes]
        shares = share(states)
        self.log.append((states, shares))
        for lane, mine in zip(self.lanes, shares.lanes, strict=True):
            withdrawn = max(0, lane.state.asked - mine.asked)
            lane.now(asked=mine.asked, last=mine.last, passed=mine.passed, leaving=lane.state.leaving + withdrawn)

    def resize(self, slots: int) -> None:
        """Another number of slots; whole actors and short of one, of lanes that take those."""
        for lane, each in zip(self.lanes, self.each, strict=True):
            lane.now(slots=slots // each)


def used(state: LaneState, messages: int) -> int:
    return -(-messages // state.per_slot)


@st.composite
def gateways(draw: st.DrawFn, *, busy: bool = False, mixed: bool = False) -> Gateway:
    """`mixed`: some kinds take whole actors of two slots."""
    slots, ahead = draw(SIZES), draw(st.integers(0, 3))
    lanes, sizes = [], []
    for kind in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        per_slot = draw(st.sampled_from([1, 1, 1, 4, 10]))
        each = draw(st.sampled_from([1, 2])) if mixed else 1
        for high in draw(st.sampled_from([(False,), (True, False), (True, False, False)])):
            state = LaneState(kind=kind, high=high, slots=slots * 2 // each, ahead=ahead * 2 // each, per_slot=per_slot)
            sizes.append(each)
            lanes.append(Lane(state, waiting=10**9 if busy else draw(st.integers(0, 50))))
    return Gateway(lanes, sizes)


def live(gateway: Gateway, data: st.DataObject, *, resizes: bool = False) -> None:
    """Let anything happen for a while, with a decision after each thing."""
    things = ["publish", "steal", "deliver", "deliver", "settle", "settle", "old", "pause"] + ["resize"] * resizes
    for _ in range(data.draw(st.integers(1, 25), label="steps")):
        lane = data.draw(st.sampled_from(gateway.lanes))
        count = data.draw(st.integers(1, 40))
        match data.draw(st.sampled_from(things)):
            case "publish":
                lane.waiting += count
            case "steal":
                lane.waiting = max(0, lane.waiting - count)
            case "deliver":
                lane.deliver(count)
            case "settle":
                lane.settle(count)
            case "old":
                lane.grow_old()
            case "pause":
                lane.now(open=not lane.state.open)
            case _:
                gateway.resize(count % 7)
        gateway.decide()


@LIVES
@given(gateway=gateways(mixed=True), data=st.data())
def test_never_more_than_the_room_and_one_message_for_each_lane(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data)
    for states, shares in gateway.log:
        taken = Fraction(0)
        for state, mine in zip(states, shares.lanes, strict=True):
            total = state.held + state.leaving + max(state.asked, mine.asked)
            taken += Fraction(used(state, max(0, total - PROBE)), state.slots + state.ahead)
        assert taken <= 1


@LIVES
@given(gateway=gateways(), data=st.data())
def test_nobody_asks_for_more_than_waits_for_it_or_one(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data, resizes=True)
    for states, shares in gateway.log:
        for state, mine in zip(states, shares.lanes, strict=True):
            assert mine.asked <= max(state.asked, state.pending, PROBE)
            if not state.open or not state.slots:
                assert mine.asked == 0


@LIVES
@given(gateway=gateways(), data=st.data())
def test_no_room_is_idle_while_a_lane_is_known_to_have_messages(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data)
    for states, shares in gateway.log:
        if not any(mine.asked < state.pending for state, mine in zip(states, shares.lanes, strict=True) if state.open):
            continue
        taken = 0
        for state, mine in zip(states, shares.lanes, strict=True):
            total = state.held + state.leaving + max(state.asked, mine.asked)
            taken += used(state, total - (PROBE if mine.asked and not state.pending else 0))
        assert taken >= states[0].slots + states[0].ahead
        assert shares.wanting


@LIVES
@given(gateway=gateways(), data=st.data())
def test_a_lane_with_nothing_in_hand_that_knows_of_nothing_always_asks(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data)
    for states, shares in gateway.log:
        for state, mine in zip(states, shares.lanes, strict=True):
            if state.open and not (state.held or state.leaving or state.pending):
                assert mine.asked >= PROBE


@LIVES
@given(gateway=gateways(), data=st.data())
def test_a_lane_comes_before_its_kinds_high_lane_only_when_passed_over_often(
    gateway: Gateway, data: st.DataObject
) -> None:
    live(gateway, data)
    for states, shares in gateway.log:
        for state, mine in zip(states, shares.lanes, strict=True):
            got_a_slot = mine.last > state.last
            highs = [
                high_share.asked < high.pending
                for high, high_share in zip(states, shares.lanes, strict=True)
                if high.high and high.open and high.kind == state.kind
            ]
            if got_a_slot and not state.high and any(highs):
                slots = used(state, mine.asked - state.asked)
                passed = sum(
                    used(high, high_share.asked - high.asked)
                    for high, high_share in zip(states, shares.lanes, strict=True)
                    if high.high and high.kind == state.kind
                )
                assert state.passed + passed >= WEIGHT * slots


@settings(LIVES, max_examples=60)
@given(gateway=gateways(busy=True, mixed=True), data=st.data())
def test_nobody_starves_while_everybody_has_endless_work(gateway: Gateway, data: st.DataObject) -> None:
    for _ in range(30 * len(gateway.lanes)):
        gateway.decide()
        for lane in gateway.lanes:
            lane.deliver(10**6)
        busy = [lane for lane in gateway.lanes if lane.state.held]
        lane = busy[data.draw(st.integers(0, len(busy) - 1))] if data.draw(st.booleans()) else busy[0]
        lane.settle(lane.state.per_slot)
    for lane in gateway.lanes:
        lane.settle(10**6)
    before = [lane.got for lane in gateway.lanes]
    for _ in range(30 * len(gateway.lanes)):
        gateway.decide()
        for lane in gateway.lanes:
            lane.deliver(10**6)
            lane.settle(10**6)
    assert all(lane.got > got for lane, got in zip(gateway.lanes, before, strict=True))


@settings(LIVES, max_examples=100)
@given(gateway=gateways(mixed=True), data=st.data())
def test_in_the_end_everything_is_pulled(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data, resizes=True)
    gateway.resize(2 * data.draw(SIZES))
    for lane in gateway.lanes:
        lane.now(open=True)
    for _ in range(200):
        gateway.decide()
        for lane in gateway.lanes:
            lane.deliver(10**6)
            lane.settle(10**6)
            lane.grow_old()
    assert [lane.waiting for lane in gateway.lanes] == [0] * len(gateway.lanes)


@LIVES
@given(gateway=gateways(mixed=True), data=st.data())
def test_a_decision_that_changed_nothing_would_be_made_again(gateway: Gateway, data: st.DataObject) -> None:
    live(gateway, data, resizes=True)
    gateway.decide()
    before = [lane.state.asked for lane in gateway.lanes]
    gateway.decide()
    assert [lane.state.asked for lane in gateway.lanes] == before
