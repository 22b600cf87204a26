"""`workers.runtime.delayed`: how full the room for delayed messages is."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest

from infra.bus.base import Delivery
from workers.runtime.delayed import Delayed

pytestmark = pytest.mark.anyio

NO: tuple[bool, bool] = (False, False)
HALF: tuple[bool, bool] = (True, False)
FULL: tuple[bool, bool] = (True, True)


def _delivery(consumer: str) -> Delivery:
    return Delivery(
        subject="jobs.k",
        headers={},
        body=b"",
        stream="JOBS",
        consumer=consumer,
        sequence=1,
        number=1,
        stored=datetime.now(UTC),
        pending=0,
        token="",
    )


async def test_what_waits_takes_room_until_it_comes_again() -> None:
    delayed = Delayed(4)
    seen = []
    for delay in (30, 10, 20, 40):
        seen.append(delayed.crowded("k"))
        delayed.gave_back(_delivery("k"), delay)
    assert seen == [NO, NO, HALF, HALF]
    assert delayed.crowded("k") == FULL
    await anyio.sleep(11)
    assert delayed.crowded("k") == HALF
    await anyio.sleep(20)
    assert delayed.crowded("k") == NO


async def test_each_lane_has_its_own_room_and_what_is_given_back_at_once_takes_none() -> None:
    delayed = Delayed(2)
    delayed.gave_back(_delivery("k"), 0.0)
    delayed.gave_back(_delivery("other"), 60)
    assert (delayed.crowded("k"), delayed.crowded("other")) == (NO, HALF)


async def test_other_gateways_take_room_too() -> None:
    delayed = Delayed(10)
    delayed.gave_back(_delivery("k"), 60)
    delayed.told("k", 9)
    assert delayed.crowded("k") == HALF
    delayed.told("k", 10)
    assert delayed.crowded("k") == FULL
    delayed.told("k", 0)
    assert delayed.crowded("k") == NO
