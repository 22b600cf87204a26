"""`infra.pool.circuit`: failures in a row."""

from __future__ import annotations

from infra.pool.circuit import OPENS_AFTER, Streak


def test_failures_one_after_the_other_open_the_circuit_and_one_success_closes_it() -> None:
    streak, now, pauses = Streak(), 0.0, []
    for number in range(1, 12):
        assert not streak.open or number > OPENS_AFTER
        streak.failed(began=now, now=now + 1.0)
        pauses.append(round(streak.next_try - now - 1.0, 3))
        now = streak.next_try
    assert streak.open
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    streak.succeeded()
    assert not streak.open
    assert streak.next_try <= now


def test_actors_that_were_started_side_by_side_fail_once() -> None:
    streak = Streak()
    for late in (1.0, 1.0, 1.1, 1.2):
        streak.failed(began=1.0, now=late)
    assert (streak.failures, streak.next_try) == (1, 1.1)
    streak.failed(began=1.1, now=1.1)
    assert streak.failures == 2


def test_whoever_fails_in_the_very_moment_of_a_success_counts() -> None:
    streak = Streak()
    streak.failed(began=0.0, now=1.0)
    streak.succeeded()
    streak.failed(began=1.0, now=1.0)
    assert (streak.failures, streak.next_try) == (1, 1.1)
