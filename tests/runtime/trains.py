"""Short jobs that travel together, and what a test wants to see of it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from contracts.calls import Call
from infra.bus.base import BusError, Delivery, Outgoing, PubAck
from infra.pool.crew import Seat
from infra.pool.execution import RunningBatch, RunningCall
from tests.runtime.kinds import Task
from tests.runtime.world import Member
from workers import job
from workers.core.sizing import Sizing
from workers.kinds.registry import Kind

__all__ = ["Errand", "Spy", "boarding", "ids", "room_for", "together"]


class Errand:
    """A short kind whose jobs do what a test says of their id, and return their value where it says nothing."""

    def __init__(self, *, sync: bool = False, **options: Any) -> None:
        self.begun: list[str] = []
        self._words: dict[str, Any] = {}
        options = {"id_field": "id", **options}
        self.kind: Kind = job("errand", **options)(self._sync() if sync else self._async())

    def say(self, job_id: str, word: Any) -> None:
        """What the job does, now and later: return it, raise it, or what it gives when it is called, or awaited."""
        self._words[job_id] = word

    def _begin(self, task: Task) -> Any:
        self.begun.append(task.id)
        word = self._words.get(task.id, task.value)
        if isinstance(word, Exception):
            raise word
        return word() if callable(word) else word

    def _async(self) -> Any:
        async def errand(task: Task) -> Any:
            done = self._begin(task)
            return await done if inspect.isawaitable(done) else done

        return errand

    def _sync(self) -> Any:
        def errand(task: Task) -> Any:
            return self._begin(task)

        return errand


class Spy:
    """How many went together: in writes, in calls to actors, in acknowledgements."""

    def __init__(self, member: Member, patch: pytest.MonkeyPatch) -> None:
        self.written: list[list[str]] = []
        """Subjects of events that were sent together, as `started.a`."""
        self.called: list[list[str]] = []
        """Ids of jobs that shared a call."""
        self.alone: list[str] = []
        """Ids of jobs that had a call to themselves."""
        self.acknowledged: list[int] = []
        publish_many, ack_many = member.bus.publish_many, member.bus.ack_many
        start, start_many = Seat.start, Seat.start_many

        async def publish(messages: Sequence[Outgoing]) -> list[PubAck | BusError]:
            self.written.append([".".join(message.subject.split(".")[2:]) for message in messages])
            return await publish_many(messages)

        async def ack(deliveries: Sequence[Delivery]) -> None:
            self.acknowledged.append(len(deliveries))
            await ack_many(deliveries)

        def call(seat: Seat, call: Call) -> RunningCall:
            self.alone.append(call.job_id)
            return start(seat, call)

        def call_many(seat: Seat, calls: Sequence[Call]) -> RunningBatch:
            self.called.append([call.job_id for call in calls])
            return start_many(seat, calls)

        patch.setattr(member.bus, "publish_many", publish)
        patch.setattr(member.bus, "ack_many", ack)
        patch.setattr(Seat, "start", call)
        patch.setattr(Seat, "start_many", call_many)


def ids(count: int) -> list[str]:
    """So many ids of jobs."""
    return [f"j{number}" for number in range(count)]


def room_for(member: Member, limit: int) -> None:
    """One call takes so many jobs from now on."""
    member.gateway._platforms["errand"]._sizings[""] = Sizing(limit=limit)
    member.gateway._notify_credits()


@asynccontextmanager
async def boarding(member: Member, limit: int = 64) -> AsyncIterator[None]:
    """What is submitted in the block finds the only actor taken, and waits for it together."""
    room_for(member, limit)
    taken = await member.rooms.pool.reserve("default", exclusive=True)
    yield
    await anyio.sleep(1)
    taken.release()


async def together(member: Member, *bodies: Any) -> None:
    """Have these jobs, ids or inputs, travel together."""
    async with boarding(member):
        for body in bodies:
            await member.submit("errand", {"id": body} if isinstance(body, str) else body)
