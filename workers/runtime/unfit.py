"""What a batch cannot be carried out for, and tasks side by side out of which it comes bare."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from contracts.errors import ErrorInfo, Reason, bounded

__all__ = ["Unfit", "each", "unfit_group"]

T = TypeVar("T")


class Unfit(Exception):
    """The batch cannot be expanded, or a child of it cannot be published."""

    def __init__(self, reason: Reason, name: str, message: str) -> None:
        super().__init__(message)
        self.error = ErrorInfo(reason=reason, type=name, message=bounded(message))


@asynccontextmanager
async def unfit_group() -> AsyncGenerator[TaskGroup]:
    """A task group; the first `Unfit` in it ends it and is raised as itself, no part of an exception group."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as raised:
        unfit, others = raised.split(Unfit)
        if unfit is None or others is not None:
            raise
        raise _first(unfit) from None


async def each(items: Sequence[T], work: Callable[[T], Awaitable[object]], *, at_once: int) -> None:
    """Do `work` for each of the items, `at_once` of them side by side. Raises the first `Unfit`; the others stop."""
    left = iter(items)

    async def go_on() -> None:
        for item in left:
            await work(item)

    async with unfit_group() as group:
        for _ in range(min(at_once, len(items))):
            group.start_soon(go_on)


def _first(found: BaseExceptionGroup[Unfit]) -> Unfit:
    error: BaseException = found
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Unfit)
    return error
