"""Calls functions as if no event loop ran: what they are made of may run one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["call_aside"]

T = TypeVar("T")


def call_aside(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns, or raises. Blocks the loop of whoever calls; the function finds none running.

    For jobs of a millisecond: a thread would do as well, and cost several times as much under load.
    """
    with _no_loop():
        # Context variables tell of a loop, too.
        return Context().run(function, *arguments)


@contextmanager
def _no_loop() -> Iterator[None]:
    """Hide asyncio's loop and task. Where another library's loop runs, asyncio's may run beside it."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            asyncio._enter_task(loop, task)
