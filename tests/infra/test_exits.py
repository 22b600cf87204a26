"""`infra.pool.exits`: a task that calls `sys.exit` ends nothing but itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from infra.pool.exits import JobExit, contained

pytestmark = pytest.mark.anyio


async def leaves() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def closes() -> None:
    """In answer to what is thrown at it."""
    try:
        await anyio.sleep_forever()
    finally:
        sys.exit("over")


async def in_a_task(job: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.ensure_future(job())


async def in_a_group(job: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(job())  # type: ignore[arg-type]


async def in_anyios_group(job: Callable[[], Awaitable[Any]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [in_a_task, in_a_group, in_anyios_group])
@pytest.mark.parametrize(("job", "words"), [(leaves, "SystemExit: 3"), (interrupts, "KeyboardInterrupt")])
async def test_a_task_that_exits_has_failed(way: Any, job: Any, words: str) -> None:
    with contained(), pytest.raises((JobExit, ExceptionGroup)) as raised:
        await way(job)
    error = raised.value.exceptions[0] if isinstance(raised.value, ExceptionGroup) else raised.value
    assert isinstance(error, JobExit)
    assert str(error) == words


async def test_one_that_exits_while_it_is_cancelled_has_failed_too() -> None:
    with contained():
        task = asyncio.create_task(closes())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(JobExit, match="SystemExit: over"):
            await task


async def test_one_that_is_cancelled_before_its_first_step_is_cancelled() -> None:
    with contained():
        task = asyncio.create_task(leaves())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_scope_still_reaches_its_tasks() -> None:
    left: list[str] = []

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            left.append("left")

    with contained():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert left == ["left"]


async def test_tasks_outside_are_left_alone() -> None:
    with contained():
        inside = asyncio.create_task(asyncio.sleep(0))
    outside = asyncio.create_task(asyncio.sleep(0))
    assert type(inside.get_coro()).__name__ == "_Contained"
    assert type(outside.get_coro()).__name__ == "coroutine"
    await inside
    await outside
