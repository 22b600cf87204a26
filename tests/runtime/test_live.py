"""Who runs which job here, and who is only about to."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contracts.events import DeliveryRef, Started
from tests.runtime.samples import started
from workers.runtime.live import Live

pytestmark = pytest.mark.anyio


class _Hand:
    """As far as `Live` knows a worker: it has one delivery in hand."""

    def __init__(self, number: int) -> None:
        self.number = number

    def opened(self, opening: object) -> bool:
        return isinstance(opening, Started) and opening.delivery == DeliveryRef(1, self.number)


def _entered(live: Live, *numbers: int, job_id: str = "a") -> list[Any]:
    hands: list[Any] = [_Hand(number) for number in numbers]
    for hand in hands:
        live.enter(hand, "echo", job_id)
    return hands


async def test_whoever_runs_a_job_is_found() -> None:
    live = Live()
    first, second = _entered(live, 1, 2)
    assert (len(live), set(live), live.runner("echo", "a")) == (2, {first, second}, None)
    live.runs(second)
    assert live.runner("echo", "a") == second
    assert live.runner("echo", "b") is live.runner("other", "a") is None
    assert live.hands("echo", "a") == [first, second]
    live.leave(second)
    assert live.runner("echo", "a") is None
    assert live.hands("echo", "a") == [first]


async def test_a_job_runs_elsewhere_if_another_hand_runs_it() -> None:
    live = Live()
    first, second = _entered(live, 1, 2)
    live.runs(first)
    assert live.elsewhere(second, started())
    assert not live.elsewhere(first, started())


async def test_whose_own_started_is_durable_and_does_not_know_it_yet_counts_too() -> None:
    live = Live()
    first, second = _entered(live, 1, 2)
    assert live.elsewhere(second, started(delivery=DeliveryRef(1, 1)))
    assert not live.elsewhere(first, started(delivery=DeliveryRef(1, 1)))


async def test_whoever_merely_has_it_in_hand_does_not_count() -> None:
    live = Live()
    second, third = _entered(live, 2, 3)
    lost = started(delivery=DeliveryRef(1, 1))
    assert not live.elsewhere(second, lost)
    assert not live.elsewhere(third, lost)
    assert not live.elsewhere(third, None)


async def test_other_jobs_do_not_count() -> None:
    live = Live()
    [first] = _entered(live, 1)
    [other] = _entered(live, 1, job_id="b")
    live.runs(other)
    assert not live.elsewhere(first, started())


async def test_the_runner_that_leaves_late_takes_no_others_place() -> None:
    live = Live()
    first, second = _entered(live, 1, 2)
    live.runs(first)
    live.runs(second)
    live.leave(first)
    assert live.runner("echo", "a") is second


async def test_it_tells_when_nothing_is_in_hand_any_more() -> None:
    live = Live()
    await live.wait_empty()
    [first] = _entered(live, 1)
    with anyio.move_on_after(10) as patience:
        await live.wait_empty()
    assert patience.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(live.wait_empty)
        live.leave(first)
    assert len(live) == 0
