"""`workers.core.scaling`: up at once, down one by one after a quiet time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.scaling import Bounds, Load, Size, due, step, wanted

BOUNDS = Bounds(least=1, most=4, target=4.0, quiet_s=30.0)


@pytest.mark.parametrize(
    ("loads", "actors"),
    [
        ([], 1),
        ([(0, 1)], 1),
        ([(4, 1)], 1),
        ([(5, 1)], 2),
        ([(8, 1)], 2),
        ([(1_000, 1)], 4),
        ([(32, 8)], 1),
        ([(33, 8)], 2),
        ([(4, 1), (32, 8)], 2),
        ([(2, 1), (16, 8)], 1),
    ],
)
def test_so_many_actors_that_each_slot_has_its_target(loads: list[tuple[int, int]], actors: int) -> None:
    assert wanted([Load(*load) for load in loads], BOUNDS) == actors


def test_it_grows_at_once_and_shrinks_one_by_one_after_a_quiet_time() -> None:
    size = step(Size(1), [Load(100, 1)], BOUNDS, 0.0)
    assert size == Size(4)
    sizes = []
    for now in range(1, 130):
        size = step(size, [Load(0, 1)], BOUNDS, float(now))
        sizes.append(size.actors)
    # Quiet since 1: a step at 31, at 61 and at 91, and none any more.
    assert sizes == [4] * 30 + [3] * 30 + [2] * 30 + [1] * 39
    assert due(size, BOUNDS) == math.inf


def test_a_moment_of_noise_begins_the_quiet_time_anew() -> None:
    size = step(Size(2), [Load(0, 1)], BOUNDS, 0.0)
    assert due(size, BOUNDS) == 30.0
    size = step(size, [Load(8, 1)], BOUNDS, 29.0)
    assert (size, due(size, BOUNDS)) == (Size(2), math.inf)
    size = step(size, [Load(0, 1)], BOUNDS, 29.5)
    assert step(size, [Load(0, 1)], BOUNDS, 59.4).actors == 2
    assert step(size, [Load(0, 1)], BOUNDS, 59.5).actors == 1


@given(
    depths=st.lists(st.tuples(st.integers(0, 100), st.floats(0, 60)), max_size=60),
    least=st.integers(1, 3),
    more=st.integers(0, 5),
)
def test_it_stays_within_bounds_never_below_need_and_never_shrinks_by_two(
    depths: list[tuple[int, float]], least: int, more: int
) -> None:
    bounds = Bounds(least=least, most=least + more, target=4.0, quiet_s=30.0)
    size, now, last_need = Size(least), 0.0, 0.0
    for depth, pause in depths:
        now += pause
        before, size = size, step(size, [Load(depth, 1)], bounds, now)
        need = wanted([Load(depth, 1)], bounds)
        assert bounds.least <= size.actors <= bounds.most
        assert size.actors >= need
        assert size.actors >= before.actors - 1
        if need >= before.actors:
            last_need = now
        elif size.actors < before.actors:
            assert now - last_need >= bounds.quiet_s
