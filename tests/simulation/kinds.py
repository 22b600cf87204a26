"""The kinds of a history's jobs, and the host that runs them and writes the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import anyio
from msgspec import Struct

from contracts.calls import Call, Frame, Raised, Returned
from tests.simulation.faults import Side
from tests.simulation.ledger import Entry, Ledger
from workers import Child, ChildEnd, JobContext, batch, job
from workers.kinds.host import KindHost
from workers.kinds.registry import Kind

__all__ = ["KINDS", "Broken", "End", "Group", "Member", "SimulatedHost", "Tallied", "Task", "reduced"]


class Task(Struct, frozen=True, kw_only=True):
    """Input of a job: how long it takes, and how it ends."""

    id: str
    does: str = "returns"
    takes_s: float = 0.0
    value: int = 0


class Member(Struct, frozen=True, kw_only=True):
    """A child to be of a batch."""

    key: str
    kind: str
    does: str = "returns"
    takes_s: float = 0.0


class Group(Struct, frozen=True, kw_only=True):
    """Input of a batch."""

    id: str
    members: list[Member]
    does: str = "returns"
    most: int | None = None
    """So many children are under way at once."""
    enough: int | None = None
    """Once so many have completed, the others need not."""


class End(Struct, frozen=True, kw_only=True):
    """How a child ended, as its batch saw it."""

    job_id: str
    outcome: str
    run: int | None
    n: int | None


class Tallied(Struct, frozen=True, kw_only=True):
    """Result of a batch."""

    counts: dict[str, int]
    ends: list[End]
    choosy: bool
    """It need not have waited for all of its children."""


class Broken(Exception):
    """What runs the job breaks, so that its attempt is lost."""


_call: ContextVar[Call] = ContextVar("_call")
reduced: ContextVar[set[str]] = ContextVar("reduced")
"""Batches of this history that were reduced before."""


async def _do(task: Task) -> int:
    call = _call.get()
    if task.does == "fails at once until replayed" and call.run == 1:
        raise ValueError("it fails in its first run, before it has begun")
    if task.does == "fails at once, then returns" and call.attempt == 1:
        raise ValueError("it fails at first, before it has begun")
    await anyio.sleep(task.takes_s)
    first = call.attempt == 1 and call.run == 1
    match task.does:
        case "fails":
            raise ValueError("it always fails")
        case "fails until replayed" if call.run == 1:
            raise ValueError("it fails in its first run")
        case "fails once" if first:
            raise ValueError("it fails at first")
    return task.value


@job("short", id_field="id")
async def short(task: Task) -> int:
    """Says nothing until it is over."""
    return await _do(task)


@job("talk", id_field="id")
async def talk(ctx: JobContext, task: Task) -> int:
    """Reports what it does."""
    for done in range(3):
        ctx.progress(done=done, total=3)
        await anyio.sleep(task.takes_s / 3)
    return await _do(task)


@batch("group", id_field="id")
class GroupKind:
    """As many children as it is told."""

    def expand(self, group: Group) -> Sequence[Child]:
        """One for each member."""
        return [
            Child(
                key=member.key,
                kind=member.kind,
                input=Task(id=f"{group.id}-{member.key}", does=member.does, takes_s=member.takes_s),
            )
            for member in group.members
        ]

    def parallelism(self, group: Group) -> int | None:
        """As it is told."""
        return group.most

    def settled(self, group: Group, counts: Mapping[str, int]) -> str | None:
        """Once enough have completed."""
        return "enough have completed" if group.enough is not None and counts["completed"] >= group.enough else None

    def reduce(self, group: Group, ends: Sequence[ChildEnd]) -> Tallied:
        """What it saw of its children."""
        if group.does == "fails at first" and group.id not in reduced.get():
            reduced.get().add(group.id)
            raise ValueError("it fails when it is first reduced")
        counts: dict[str, int] = {}
        for end in ends:
            counts[end.outcome] = counts.get(end.outcome, 0) + 1
        told = [
            End(
                job_id=f"{end.child.kind}.{end.job_id}",
                outcome=end.outcome,
                run=None if end.event is None else end.event.run,
                n=None if end.event is None else end.event.n,
            )
            for end in ends
        ]
        return Tallied(counts=counts, ends=told, choosy=group.enough is not None)


KINDS: dict[str, Kind] = {"short": short, "talk": talk, "group": GroupKind}  # type: ignore[dict-item]


class SimulatedHost(KindHost):
    """Runs jobs, and writes down what really happens."""

    def __init__(
        self,
        ledger: Ledger,
        nonce: str,
        durable: Callable[[], int],
        come_by: Callable[[str, Side, str], Awaitable[None]],
    ) -> None:
        super().__init__(KINDS, {})
        self._ledger = ledger
        self._nonce = nonce
        self._durable = durable
        self._come_by = come_by

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        """Run the call, and write into the ledger when it begins and how it ends."""
        _call.set(call)
        entry = Entry(
            kind=call.kind,
            job_id=call.job_id,
            run=call.run,
            attempt=call.attempt,
            nonce=self._nonce,
            began=anyio.current_time(),
            durable=self._durable(),
        )
        self._ledger.entries.append(entry)
        try:
            await self._come_by("run", "before", call.job)
            outcome = await self._unless_broken(call, send)
        except anyio.get_cancelled_exc_class():
            self._ledger.end(entry, "stopped", anyio.current_time())
            raise
        except Broken:
            self._ledger.end(entry, "lost", anyio.current_time())
            raise
        result = outcome.result if isinstance(outcome, Returned) else None
        self._ledger.end(entry, "raised" if result is None else "returned", anyio.current_time(), result)
        await self._come_by("run", "after", call.job)
        return outcome

    async def _unless_broken(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        input_: Any = call.input
        if b'"lost once"' in input_ and call.attempt == 1:
            raise Broken(call.job)
        if b'"lost"' in input_:
            raise Broken(call.job)
        return await super().execute(call, send)
