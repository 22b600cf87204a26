"""A queue for one reader."""

from __future__ import annotations

import anyio
import pytest

from workers.runtime.inbox import Inbox

pytestmark = pytest.mark.anyio


async def test_items_come_out_in_order() -> None:
    inbox: Inbox[int] = Inbox()
    assert inbox.take() is None
    inbox.put(1)
    inbox.put(2)
    assert len(inbox) == 2
    assert (inbox.take(), await inbox.get(), inbox.take()) == (1, 2, None)


async def test_the_next_item_is_waited_for_and_a_cancelled_wait_loses_none() -> None:
    inbox: Inbox[int] = Inbox()
    with anyio.move_on_after(10) as patience:
        await inbox.get()
    assert patience.cancelled_caught
    got: list[int] = []

    async def read() -> None:
        for _ in range(3):
            got.append(await inbox.get())

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for item in (1, 2, 3):
            await anyio.sleep(1)
            inbox.put(item)
    assert got == [1, 2, 3]


async def test_the_latest_takes_the_place_of_its_like_before_it_alone() -> None:
    inbox: Inbox[int | str] = Inbox()
    inbox.put_latest(1)
    inbox.put_latest(2)
    inbox.put("between")
    inbox.put_latest(3)
    inbox.put_latest(4)
    assert [inbox.take() for _ in range(4)] == [2, "between", 4, None]
