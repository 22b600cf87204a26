"""`workers.core.credit`: who may ask for how much."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from workers.core.credit import WEIGHT, LaneState, Shares, ahead, share


def lane(kind: str = "a", **fields: Any) -> LaneState:
    return LaneState(**{"kind": kind, "slots": 4, **fields})


def asked(*lanes: LaneState) -> list[int]:
    return [mine.asked for mine in share(lanes).lanes]


def settle(lanes: list[LaneState], shares: Shares) -> list[LaneState]:
    """The lanes after each received what it asks for and settled all it had."""
    return [
        msgspec.structs.replace(
            lane, held=0, asked=0, pending=max(0, lane.pending - mine.asked), last=mine.last, passed=mine.passed
        )
        for lane, mine in zip(lanes, shares.lanes, strict=True)
    ]


# --- ahead


@pytest.mark.parametrize(
    ("prefetch", "slots", "actors", "expected"),
    [
        (0.25, 1, 1, 1),
        (0.25, 16, 1, 4),
        (0.25, 16, 2, 4),
        (0.25, 4, 4, 4),
        (0.25, 2, 2, 2),
        (0.25, 5, 1, 2),
        (2.0, 4, 2, 8),
        (0.01, 16, 3, 3),
        (0.0, 16, 2, 0),
        (0.25, 0, 0, 0),
    ],
)
def test_fetched_ahead_is_a_share_of_the_slots_but_one_an_actor(
    prefetch: float, slots: int, actors: int, expected: int
) -> None:
    assert ahead(prefetch, slots, actors) == expected


# --- one lane


def test_a_lane_that_knows_of_nothing_asks_for_one() -> None:
    assert asked(lane()) == [1]
    assert asked(lane(held=3)) == [1]
    assert asked(lane(asked=1)) == [1]


def test_with_its_slots_taken_it_asks_for_nothing_unless_it_knows_of_more() -> None:
    assert asked(lane(held=4, ahead=2)) == [0]
    assert asked(lane(held=4, ahead=2, pending=9)) == [2]
    assert asked(lane(held=6, ahead=2, pending=9)) == [0]


def test_it_asks_for_no_more_than_is_known_to_wait() -> None:
    assert asked(lane(pending=3)) == [3]
    assert asked(lane(pending=3, asked=2)) == [3]
    assert asked(lane(pending=9)) == [4]
    assert asked(lane(pending=9, held=1, ahead=1)) == [4]


def test_what_may_still_come_takes_room() -> None:
    assert asked(lane(pending=9, leaving=3)) == [1]


@pytest.mark.parametrize("closed", [{"open": False}, {"slots": 0}, {"slots": 0, "ahead": 3}])
def test_closed_or_without_slots_it_asks_for_nothing(closed: dict[str, Any]) -> None:
    assert asked(lane(pending=9, asked=3, **closed)) == [0]
    assert asked(lane(**closed)) == [0]


def test_when_actors_go_what_was_asked_for_them_is_withdrawn() -> None:
    assert asked(lane(slots=2, asked=4, pending=9)) == [1], "which may be all that comes"
    assert asked(lane(slots=2, held=2, asked=2, pending=9)) == [0]
    assert asked(lane(slots=2, held=9)) == [0]


def test_a_slot_takes_as_many_as_the_kind_says() -> None:
    assert asked(lane(pending=99, per_slot=10)) == [40]
    assert asked(lane(pending=99, per_slot=10, held=25, ahead=1)) == [25]
    assert asked(lane(pending=12, per_slot=10)) == [12]


def test_a_slot_that_has_begun_may_be_filled_though_no_room_is_free() -> None:
    assert asked(lane(held=37, pending=99, per_slot=10), lane("b", held=0, pending=5, per_slot=10)) == [3, 0]
    assert asked(lane(held=37, per_slot=10)) == [1]


# --- several


def test_kinds_share_alike_what_is_free() -> None:
    assert asked(lane("a", pending=9), lane("b", pending=9)) == [2, 2]
    assert asked(lane("a", pending=9, held=3), lane("b", pending=9)) == [0, 1]
    assert asked(lane("a", pending=9), lane("b", pending=1)) == [3, 1]
    assert asked(*(lane(kind, pending=9, slots=6) for kind in "abc")) == [2, 2, 2]


def test_both_lanes_of_a_kind_count_as_one() -> None:
    assert asked(lane("a", high=True, pending=9), lane("a", pending=9), lane("b", pending=9)) == [2, 0, 2]


def test_with_one_slot_kinds_take_turns() -> None:
    lanes = [lane(kind, slots=1, pending=30) for kind in "abc"]
    turns = []
    for _ in range(9):
        shares = share(lanes)
        turns += [lane.kind for lane, mine in zip(lanes, shares.lanes, strict=True) if mine.asked]
        lanes = settle(lanes, shares)
    assert "".join(turns) in ("abc" * 3, "acb" * 3)


def test_the_high_lane_is_first() -> None:
    assert asked(lane(pending=9), lane(high=True, pending=9)) == [0, 4]
    assert asked(lane(pending=9), lane(high=True, pending=3)) == [1, 3]


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_the_high_lane_leaves_the_others_one_slot_in_eight(slots: int) -> None:
    lanes = [lane(high=True, slots=slots, pending=10**6), lane(slots=slots, pending=10**6)]
    got = [0, 0]
    for _ in range(160):
        shares = share(lanes)
        got = [before + mine.asked for before, mine in zip(got, shares.lanes, strict=True)]
        lanes = settle(lanes, shares)
    assert sum(got) == 160 * slots
    assert got[1] == sum(got) // (WEIGHT + 1)


def test_a_route_is_no_higher_than_the_normal_lane() -> None:
    assert asked(lane(pending=9), lane(pending=9)) == [2, 2]


def test_a_probe_takes_no_room_before_it_is_filled() -> None:
    assert asked(lane("a", pending=9), *(lane(kind, asked=1) for kind in "bcdef")) == [4, 1, 1, 1, 1, 1]
    assert asked(lane("a", pending=9), lane("b", held=1)) == [3, 0], "and is for a slot that is free"
    assert asked(lane("a", held=4), lane("b"), lane("c", held=1)) == [0, 1, 0]


def test_what_was_asked_for_and_does_not_exist_is_withdrawn_where_another_lane_wants_room() -> None:
    gone = lane("a", asked=4, pending=0)
    assert asked(gone) == [4], "nobody else wants it"
    assert asked(gone, lane("b", pending=9)) == [1, 1], "its room is free once nothing of it can come any more"
    assert asked(lane("a", asked=1, leaving=3), lane("b", pending=9)) == [1, 1]
    assert asked(lane("a", asked=1), lane("b", pending=9)) == [1, 4]
    assert asked(gone, lane("b", held=1)) == [1, 0], "also where it would only like to know"


def test_it_is_said_whether_anybody_wants_room() -> None:
    assert not share([lane(pending=4)]).wanting
    assert share([lane(pending=5)]).wanting
    assert share([lane(held=4), lane("b", held=1)]).wanting
    assert not share([lane(), lane("b")]).wanting


# --- whole actors


def test_exclusive_jobs_and_shared_ones_share_the_same_actors() -> None:
    shared, whole = {"slots": 16, "ahead": 0}, {"slots": 2, "ahead": 0}
    assert asked(lane("a", pending=99, **shared)) == [16]
    assert asked(lane("a", pending=99, **whole)) == [2]
    assert asked(lane("a", pending=99, **shared), lane("b", pending=99, **whole)) == [8, 1]
    assert asked(lane("a", pending=99, held=8, **shared), lane("b", pending=99, **whole)) == [0, 1]


def test_room_for_a_whole_actor_is_kept_until_there_is_enough() -> None:
    shared, whole = {"slots": 16}, {"slots": 2}
    held = 16
    while held > 8:
        assert asked(lane("a", pending=99, held=held, **shared), lane("b", pending=99, held=0, **whole)) == [0, 0]
        held -= 1
    assert asked(lane("a", pending=99, held=8, **shared), lane("b", pending=99, **whole)) == [0, 1]


def test_no_lanes_need_nothing() -> None:
    assert share([]) == Shares([], False)


# --- limits of a kind


def test_no_more_is_asked_for_than_the_limits_of_the_kind_allow() -> None:
    assert asked(lane(pending=9, most=2)) == [2]
    assert asked(lane(pending=9, most=9)) == [4]
    assert asked(lane(pending=9, most=2, held=3)) == [1]
    assert asked(lane(pending=9, most=2), lane("b", pending=9)) == [2, 2]


def test_without_an_allowance_a_lane_asks_for_nothing_new_and_withdraws_nothing() -> None:
    assert asked(lane(pending=9, most=0)) == [0]
    assert asked(lane(most=0)) == [0]
    assert asked(lane(most=0, asked=1)) == [1]


def test_what_a_limited_kind_leaves_others_get() -> None:
    assert asked(lane(pending=9, most=1), lane("b", pending=9)) == [1, 3]
