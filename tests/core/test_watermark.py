"""`core.watermark`: pressure begins at the high mark, ends at the low one, and nothing in between changes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.watermark import Marks, pressed, room

MARKS = Marks(high=10, low=4)

DEPTHS = st.lists(st.integers(0, 60))


@st.composite
def marks(draw: st.DrawFn) -> Marks:
    """Any that settings allow."""
    low = draw(st.integers(0, 40))
    return Marks(high=draw(st.integers(low + 1, 50)), low=low)


@pytest.mark.parametrize(
    ("before", "depth", "now"),
    [
        (False, 9, False),
        (False, 10, True),
        (False, 1_000, True),
        (True, 10, True),
        (True, 5, True),
        (True, 4, False),
        (True, 0, False),
        (False, 5, False),
    ],
)
def test_the_marks_themselves_count(before: bool, depth: int, now: bool) -> None:
    assert pressed(before, depth, MARKS, grown=True) is now


def test_a_pool_that_can_grow_puts_no_pressure_on_others_and_takes_none_off() -> None:
    assert not pressed(False, 1_000, MARKS, grown=False)
    assert pressed(True, 5, MARKS, grown=False)
    assert not pressed(True, 4, MARKS, grown=False)


@given(marks(), DEPTHS)
def test_between_two_changes_the_depth_has_gone_from_mark_to_mark(marks: Marks, depths: list[int]) -> None:
    state, changes = False, []
    for depth in depths:
        before, state = state, pressed(state, depth, marks, grown=True)
        if state != before:
            changes.append((state, depth))
    assert [now for now, _ in changes] == [place % 2 == 0 for place in range(len(changes))]
    assert all(depth >= marks.high if now else depth <= marks.low for now, depth in changes)


@given(marks(), st.booleans(), st.integers(0, 60), st.booleans())
def test_to_look_twice_at_one_depth_changes_nothing(marks: Marks, before: bool, depth: int, grown: bool) -> None:
    once = pressed(before, depth, marks, grown=grown)
    assert pressed(once, depth, marks, grown=grown) is once


@given(marks(), st.integers(0, 60), st.booleans())
def test_there_is_room_up_to_the_high_mark_and_none_under_pressure(marks: Marks, depth: int, grown: bool) -> None:
    now = pressed(False, depth, marks, grown=grown)
    assert (room(now, depth, marks) == 0) is now
    if depth < marks.high:
        assert depth + room(now, depth, marks) == marks.high


def test_where_a_pool_grows_over_the_high_mark_children_still_come_in_portions() -> None:
    assert room(False, 1_000, MARKS) == 6
