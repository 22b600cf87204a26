"""`core.limits`: never more than the limit, nothing forgotten, and turns that are spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.limits import LONGEST_S, SHORTEST_S, TRIES, Bucket, Keys

GAPS = st.lists(st.floats(0, 3, allow_nan=False), max_size=60)
RATES = st.floats(0.01, 1_000)


def test_a_bucket_begins_full_and_fills_by_the_rate() -> None:
    bucket = Bucket(2.0, 3, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.there(100.4) == 0
    assert bucket.take(100.5)
    assert not bucket.take(100.5)
    assert bucket.there(1_000.0) == 3


@given(RATES, st.integers(1, 50), GAPS)
def test_in_no_time_are_more_taken_than_the_burst_and_the_rate_allow(
    rate: float, burst: int, gaps: list[float]
) -> None:
    now, bucket, taken = 5.0, Bucket(rate, burst, now=5.0), []
    for gap in gaps:
        now += gap
        while bucket.take(now):
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1e-6


@given(RATES, st.integers(1, 50), st.integers(1, 60))
def test_when_tokens_are_due_they_are_there(rate: float, burst: int, count: int) -> None:
    bucket = Bucket(rate, burst, now=0.0)
    while bucket.take(0.0):
        pass
    wait = bucket.due(count, 0.0)
    assert bucket.there(wait) >= min(count, burst)
    assert bucket.due(count, wait) == pytest.approx(0.0, abs=1e-6)


def test_a_token_taken_for_nothing_comes_back_and_the_bucket_holds_no_more_for_it() -> None:
    bucket = Bucket(1.0, 2, now=0.0)
    bucket.take(0.0)
    bucket.give_back(0.0)
    bucket.give_back(0.0)
    assert bucket.there(0.0) == 2


def test_who_finds_no_token_gets_a_turn_of_its_own() -> None:
    bucket = Bucket(2.0, 1, now=0.0)
    bucket.take(0.0)
    turns = [bucket.turn(0.0, 0.5) for _ in range(20)]
    assert turns == pytest.approx([0.5 + number / 2 for number in range(20)])
    assert bucket.turn(10.0, 0.5) == pytest.approx(SHORTEST_S), "all of them have had their turn"
    late = [bucket.turn(10.0, 0.5) for _ in range(1_000)][200:]
    assert max(late) <= LONGEST_S
    assert max(at_once(late, 1.0)) <= 1_000 / 30 * 1.5, "even those who might wait for ever do not come together"


def at_once(turns: list[float], within: float) -> list[int]:
    """How many turns come soon after each."""
    return [sum(turn <= other < turn + within for other in turns) for turn in turns]


def test_a_key_has_room_for_so_many_and_others_have_theirs() -> None:
    keys = Keys(2)
    assert [keys.take("a", job, 0.0) for job in "123"] == [True, True, False]
    assert keys.take("b", "3", 0.0)
    keys.give_back("a", "1", 1.0, ran=True)
    assert keys.take("a", "3", 1.0)
    assert not keys.take("a", "4", 1.0)


def test_another_delivery_of_a_job_that_has_room_takes_no_more() -> None:
    keys = Keys(1)
    assert keys.take("a", "1", 0.0)
    assert keys.take("a", "1", 1.0)
    keys.give_back("a", "1", 2.0, ran=False)
    assert not keys.take("a", "2", 2.0), "one hand still has it"
    keys.give_back("a", "1", 3.0, ran=True)
    assert keys.take("a", "2", 3.0)


def test_those_who_wait_come_by_some_times_in_the_time_that_a_job_takes() -> None:
    keys = Keys(2)
    for number in range(30):
        keys.take("a", f"{number}", 10.0 * number)
        keys.give_back("a", f"{number}", 10.0 * number + 4.0, ran=True)
    for waiting in (1, 10, 40):
        now = 1_000.0 * waiting
        turns = [keys.turn("a", now, 0.5) for _ in range(waiting)]
        # The last of them saw how many there are.
        assert turns[-1] <= 2 * 4.0 * waiting / (TRIES * 2) + SHORTEST_S
    assert keys.turn("b", 50_000.0, 0.999) <= 4.0, "others wait for others"


def test_before_any_has_ended_it_tells_how_long_they_run() -> None:
    keys = Keys(1)
    keys.take("a", "1", 0.0)
    soon = max(keys.turn("a", 0.1, jitter / 10) for jitter in range(10))
    later = max(keys.turn("a", 100.0, jitter / 10) for jitter in range(10))
    assert soon < 1.0
    assert 40.0 < later <= LONGEST_S


def test_two_gateways_do_not_say_the_same() -> None:
    one, other = Keys(1), Keys(1)
    for keys in (one, other):
        keys.take("a", "1", 0.0)
    assert abs(one.turn("a", 50.0, 0.1) - other.turn("a", 50.0, 0.6)) > 5.0


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, str]]:
    """What happens to jobs of a few keys."""
    return draw(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("1234567")), max_size=80))


@given(st.integers(1, 4), stories())
def test_never_more_run_than_may_and_nothing_is_left_of_those_that_are_over(
    most: int, story: list[tuple[str, str]]
) -> None:
    keys, now, hands = Keys(most), 0.0, []
    for key, job in story:
        now += 1.0
        if keys.take(key, job, now):
            hands.append((key, job))
        elif hands:
            keys.turn(key, now, 0.5)
            keys.give_back(*hands.pop(0), now, ran=True)
        for each in "ab":
            assert len({job for key, job in hands if key == each}) <= most
    for key, job in hands:
        keys.give_back(key, job, now, ran=True)
    keys.turn("c", now + 2 * LONGEST_S, 0.5)
    assert len(keys) == 1


def test_turns_of_one_key_do_not_bunch() -> None:
    keys = Keys(1)
    keys.take("a", "1", 0.0)
    turns = [keys.turn("a", 100.0, 0.5) for _ in range(600)][300:]
    assert max(turns) <= LONGEST_S
    assert max(at_once(turns, 1.0)) <= 2 * 300 / LONGEST_S
