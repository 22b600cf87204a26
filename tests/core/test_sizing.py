"""`workers.core.sizing`: how many short jobs travel in one call."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.core.sizing import CALL_S, MOST, Sizing

JOBS = st.integers(1, MOST)
EACH_S = st.one_of(st.just(0.0), st.floats(0, 1e-3), st.floats(0, 1e4))
CALLS = st.lists(st.tuples(JOBS, EACH_S), max_size=30)
SIZINGS = st.builds(
    lambda limit, each_s: Sizing(limit=limit, each_s=each_s), st.integers(1, MOST), st.floats(0, 1e4, allow_nan=False)
)


def _learned(calls: list[tuple[int, float]], sizing: Sizing = Sizing()) -> Sizing:  # noqa: B008  it is frozen
    for jobs, each_s in calls:
        sizing = sizing.after(jobs, jobs * each_s)
    return sizing


def test_the_first_job_goes_by_itself() -> None:
    assert Sizing().limit == 1


def test_jobs_that_take_no_time_grow_to_the_most_in_doublings() -> None:
    limits = [_learned([(1, 0.0)] * calls).limit for calls in range(11)]
    assert limits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_a_call_takes_about_what_it_may_where_jobs_are_all_alike() -> None:
    sizing = _learned([(1, 0.002)] * 20)
    assert sizing.limit == int(CALL_S / 0.002)


def test_one_slow_call_makes_the_next_small_at_once_and_quick_ones_make_it_grow_again() -> None:
    sizing = _learned([(64, 0.0001)] * 10).after(64, 10.0)
    assert sizing.limit == 1
    limits = []
    while sizing.limit < MOST:
        sizing = sizing.after(sizing.limit, sizing.limit * 0.0001)
        limits.append(sizing.limit)
    assert limits == sorted(limits)
    assert math.log2(MOST) <= len(limits) <= 24


def test_jobs_too_slow_for_any_company_go_alone_for_ever() -> None:
    assert _learned([(1, 3600.0)] * 50).limit == 1


@pytest.mark.parametrize("each_s", [0.0, 5e-324, CALL_S / MOST, CALL_S, 1e300])
def test_strange_times_have_an_answer(each_s: float) -> None:
    assert 1 <= Sizing().after(1, each_s).after(1, each_s).limit <= 4


@given(SIZINGS, JOBS, EACH_S)
def test_it_is_never_nothing_and_never_over_the_most_and_at_most_doubles(
    sizing: Sizing, jobs: int, each_s: float
) -> None:
    found = sizing.after(jobs, jobs * each_s)
    assert 1 <= found.limit <= min(MOST, 2 * sizing.limit)


@settings(max_examples=300)
@given(CALLS, JOBS, EACH_S)
def test_the_next_call_is_not_longer_than_it_may_be_if_its_jobs_are_as_the_last_ones(
    calls: list[tuple[int, float]], jobs: int, each_s: float
) -> None:
    found = _learned([*calls, (jobs, each_s)])
    assert found.limit == 1 or found.limit * each_s <= CALL_S * (1 + 1e-9)


@given(CALLS, st.floats(0, 0.9))
def test_whatever_was_before_jobs_that_stay_quick_fill_a_call_in_the_end(
    calls: list[tuple[int, float]], share: float
) -> None:
    each_s = share * CALL_S / MOST
    assert _learned([(1, each_s)] * 60, _learned(calls)).limit == MOST


@given(SIZINGS, JOBS, EACH_S, EACH_S)
def test_slower_jobs_never_make_a_larger_call(sizing: Sizing, jobs: int, one_s: float, other_s: float) -> None:
    quick, slow = sorted((one_s, other_s))
    assert sizing.after(jobs, jobs * slow).limit <= sizing.after(jobs, jobs * quick).limit
