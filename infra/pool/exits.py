"""A job's tasks that call `sys.exit`: asyncio would end its loop over that, and the actor would hang for every job."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["JobExit", "contained"]


class JobExit(Exception):
    """A task that a job started raised `SystemExit` or `KeyboardInterrupt`: an error like any other."""


_contained: ContextVar[bool] = ContextVar("contained", default=False)


@contextmanager
def contained() -> Iterator[None]:
    """Within the block, in a running loop, no task that is started ends the loop."""
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        loop.set_task_factory(_new_task)
    # Tasks inherit this, and so do theirs; the actor's own have no part in it.
    token = _contained.set(True)
    try:
        yield
    finally:
        _contained.reset(token)


def _new_task(loop: asyncio.AbstractEventLoop, job: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(_Contained(job) if _contained.get() else job, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose exits are errors.

    No `async def` around it: a task that is cancelled before its first step would never have started the inner one.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        # Its name, and its state, which anyio asks for.
        return getattr(self._inner, name)

    def __await__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _as_error(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as exit_:
            raise _as_error(exit_) from exit_

    def close(self) -> None:
        self._inner.close()


def _as_error(error: BaseException) -> JobExit:
    return JobExit(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
