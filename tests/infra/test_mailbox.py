"""`infra.pool.mailbox`: nothing is lost but old news, and nothing waits for ever."""

from __future__ import annotations

import anyio
import pytest

from infra.pool.mailbox import Mailbox

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_report_replaces_only_the_report_just_before_it() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for item in ("r1", "r2", "e1", "e2", "r3", "r4"):
        mailbox.put(item, report=item.startswith("r"))
    assert await mailbox.take() == ["r2", "e1", "e2", "r4"]


async def test_a_reader_gets_items_as_they_come_and_then_the_end() -> None:
    mailbox: Mailbox[int] = Mailbox()
    read: list[int | None] = []

    async def reader() -> None:
        while (item := await mailbox.next()) is not None:
            read.append(item)
        read.append(None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        for item in range(3):
            await anyio.wait_all_tasks_blocked()
            assert read == list(range(item))
            mailbox.put(item, report=True)
        await anyio.wait_all_tasks_blocked()
        mailbox.close()
    assert read == [0, 1, 2, None]


async def test_what_was_there_before_the_end_is_still_read() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.put("last", report=False)
    mailbox.close()
    assert [await mailbox.take(), await mailbox.take()] == [["last"], []]
    assert await mailbox.next() is None
