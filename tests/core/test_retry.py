"""`workers.core.retry`: exponential, with full jitter, capped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.core.retry import RetryPolicy, delay_s

POLICIES = st.builds(
    RetryPolicy, base_s=st.floats(1e-3, 1e6, allow_nan=False), cap_s=st.floats(1e-3, 1e6, allow_nan=False)
)
FAILURES = st.integers(1, 10_000)
JITTERS = st.floats(0, 1, exclude_max=True)


def test_the_defaults_are_those_of_the_design() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.max_lost, policy.base_s, policy.cap_s) == (3, 5, 1.0, 300.0)


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 1.0), (2, 2.0), (3, 4.0), (8, 128.0), (9, 256.0), (10, 300.0), (11, 300.0), (10**9, 300.0)],
)
def test_it_doubles_up_to_the_cap(failures: int, longest: float) -> None:
    assert delay_s(RetryPolicy(), failures, 0.5) == longest / 2


@given(policy=POLICIES, failures=FAILURES, jitter=JITTERS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_it_lies_between_nothing_and_the_cap(policy: RetryPolicy, failures: int, jitter: float) -> None:
    delay = delay_s(policy, failures, jitter)
    assert math.isfinite(delay)
    assert 0 <= delay <= policy.cap_s
    assert delay_s(policy, failures, 0.0) == 0


@given(policy=POLICIES, failures=FAILURES, jitter=JITTERS)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_more_failures_or_more_jitter_never_wait_less(policy: RetryPolicy, failures: int, jitter: float) -> None:
    delay = delay_s(policy, failures, jitter)
    assert delay_s(policy, failures + 1, jitter) >= delay
    assert delay_s(policy, failures, (1 + jitter) / 2) >= delay
