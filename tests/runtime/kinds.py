"""Kinds for the tests of the runtime: jobs and batches that do what a test tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
from msgspec import Struct

from contracts.events import Completed
from workers import Child, ChildEnd, Fail, JobContext, batch, job
from workers.kinds.registry import Kind

__all__ = ["ENDLESS", "Group", "Puppet", "Task", "acting", "for_ever", "grouping", "short", "short_for_ever"]


class Task(Struct, kw_only=True):
    """Input of a job."""

    id: str
    value: int = 0


class Group(Struct, kw_only=True):
    """Input of a batch."""

    id: str
    members: list[str] = []


Act = Callable[[JobContext, Task], Awaitable[Any]]


def acting(name: str, act: Act, **options: Any) -> Kind:
    """An async kind whose jobs do `act`."""

    async def run(ctx: JobContext, task: Task) -> Any:
        return await act(ctx, task)

    return job(name, id_field="id", **options)(run)


async def for_ever(ctx: JobContext, task: Task) -> None:
    """An act that never ends by itself."""
    await anyio.sleep_forever()


@job("short", id_field="id")
async def short(task: Task) -> int:
    """Takes no context, and `value` seconds."""
    await anyio.sleep(task.value)
    return task.value


@job("short-for-ever", id_field="id")
async def short_for_ever(task: Task) -> None:
    """Takes no context, and never ends by itself."""
    await anyio.sleep_forever()


ENDLESS = (acting("endless", for_ever), short_for_ever)
"""With a context and without: the runtime runs them in different ways."""


def members(group: Group) -> Sequence[Child]:
    """A child of kind `puppet` for each member, its id the one it gets as a child."""
    return [Child(key=member, kind="puppet", input=Task(id=f"{group.id}-{member}")) for member in group.members]


def outcomes(group: Group, ends: Sequence[ChildEnd]) -> Any:
    """How each child ended: its result where it completed."""
    return [_outcome(end) for end in ends]


def _outcome(end: ChildEnd) -> Any:
    if isinstance(end.event, Completed):
        return [end.job_id, end.outcome, end.event.result]
    return [end.job_id, end.outcome, None if end.error is None else end.error.reason]


def grouping(
    expand: Callable[[Group], Any] = members,
    reduce: Callable[[Group, Sequence[ChildEnd]], Any] = outcomes,
    *,
    name: str = "group",
    **options: Any,
) -> Kind:
    """A batch kind that expands and reduces with these functions."""

    class Grouping:
        def expand(self, group: Group) -> Sequence[Child]:
            found: Sequence[Child] = expand(group)
            return found

        def reduce(self, group: Group, ends: Sequence[ChildEnd]) -> Any | Fail:
            return reduce(group, ends)

    return batch(name, id_field="id", **options)(Grouping)


class Puppet:
    """A kind whose jobs wait for a test's word, and note what happens to them."""

    def __init__(self, name: str = "puppet", **options: Any) -> None:
        self.kind = acting(name, self._act, **options)
        self.attempts: list[tuple[str, int]] = []
        """Every attempt that began, in order."""
        self.stopped: dict[tuple[str, int], float] = {}
        """When attempts were stopped from outside, by anyio's clock."""
        self.most = 0
        """The greatest number of jobs that ran at once."""
        self._running = 0
        self._words: dict[str, Any] = {}
        self._news = anyio.Event()

    def say(self, job_id: str, word: Any) -> None:
        """What its jobs of that id do, now and later: return it, raise it, or await what it gives when it is called."""
        self._words[job_id] = word
        self._tell()

    async def begun(self, job_id: str, attempt: int = 1, *, within_s: float = 900.0) -> None:
        """Return once that attempt has begun."""
        with anyio.fail_after(within_s):
            while (job_id, attempt) not in self.attempts:
                await self._news.wait()

    async def ceased(self, job_id: str, attempt: int = 1, *, within_s: float = 900.0) -> float:
        """Return once that attempt was stopped; when it was."""
        with anyio.fail_after(within_s):
            while (job_id, attempt) not in self.stopped:
                await self._news.wait()
        return self.stopped[job_id, attempt]

    async def _act(self, ctx: JobContext, task: Task) -> Any:
        self.attempts.append((task.id, ctx.attempt))
        self._running += 1
        self.most = max(self.most, self._running)
        self._tell()
        try:
            while task.id not in self._words:
                await self._news.wait()
            word = self._words[task.id]
            if isinstance(word, Exception):
                raise word
            return await word(ctx) if callable(word) else word
        except anyio.get_cancelled_exc_class():
            self.stopped[task.id, ctx.attempt] = anyio.current_time()
            raise
        finally:
            self._running -= 1
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
