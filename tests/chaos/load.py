"""The jobs and commands of a run: published, and published again until they are acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from contracts import headers as h
from contracts import subjects
from infra.bus.base import BusError
from infra.bus.nats import NatsBus
from tests.chaos.kinds import Fanned, Task
from tests.chaos.world import ACK_WAIT_S

__all__ = ["Load", "Planned", "plan"]

WINDOW: Final = 64
"""Publishes that may wait for their acknowledgement at once."""
AGAIN_S: Final = 0.2
WEIGHTS: Final = {"echo": 69, "work": 10, "block": 9, "linger": 10, "flaky": 1, "doomed": 0.5, "fan": 0.5}
"""Of a hundred jobs."""
TWICE: Final = 0.01
"""Share of the jobs whose message comes a second time, under another message id."""
CANCELS: Final = 0.05
"""Share of the lingering jobs that are cancelled."""


class Planned(Struct, frozen=True):
    """One job."""

    kind: str
    job_id: str
    body: bytes
    twice: bool
    cancel_after_s: float | None
    high: bool


class Load:
    """Publishes what was planned, evenly, by a connection of its own that no fault cuts off."""

    def __init__(self, bus: NatsBus) -> None:
        self.accepted: dict[tuple[str, str], int] = {}
        """What was acknowledged: kind and id, to the message's sequence."""
        self.commands: dict[int, str] = {}
        """Sequences in `CONTROL`, to subjects."""
        self.again = 0
        """Publishes that had to be made once more."""
        self.duplicates = 0
        """Acknowledgements that told of an earlier copy."""
        self._bus = bus
        self._window = asyncio.Semaphore(WINDOW)

    async def publish_all(self, jobs: list[Planned], seconds: float) -> None:
        """Return once every one of them is acknowledged."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for index, planned in enumerate(jobs):
                await asyncio.sleep(max(0.0, began + seconds * index / len(jobs) - loop.time()))
                await self._window.acquire()
                tasks.create_task(self._publish(planned, tasks))

    async def command(self, subject: str) -> None:
        """Give a command."""
        sequence = await self._until_acknowledged(subject, b"", {h.MSG_ID: subject})
        self.commands[sequence] = subject

    async def _publish(self, planned: Planned, tasks: asyncio.TaskGroup) -> None:
        try:
            subject = subjects.job(planned.kind, high=planned.high)
            message_id = f"{planned.kind}.{planned.job_id}.1"
            sequence = await self._until_acknowledged(subject, planned.body, {h.MSG_ID: message_id})
            self.accepted[planned.kind, planned.job_id] = sequence
            if planned.twice:
                await self._until_acknowledged(subject, planned.body, {h.MSG_ID: f"{message_id}.twice"})
        finally:
            self._window.release()
        if planned.cancel_after_s is not None:
            tasks.create_task(self._cancel(planned, planned.cancel_after_s))

    async def _cancel(self, planned: Planned, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.command(subjects.cancel(planned.kind, planned.job_id))

    async def _until_acknowledged(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        while True:
            try:
                acknowledged = await self._bus.publish(subject, body, headers)
            except BusError:
                # Away, full, without a leader, or silent: the same words again.
                self.again += 1
                await asyncio.sleep(AGAIN_S)
            else:
                self.duplicates += acknowledged.duplicate
                return acknowledged.sequence


def plan(count: int, prefix: str, dice: random.Random) -> list[Planned]:
    """The jobs of a run; their ids begin with `prefix`."""
    return list(_jobs(count, prefix, dice))


def _jobs(count: int, prefix: str, dice: random.Random) -> Iterator[Planned]:
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    for number, kind in enumerate(dice.choices(names, weights, k=count)):
        job_id = f"{prefix}{number}"
        task = Fanned(job_id, dice.randint(2, 5)) if kind == "fan" else Task(job_id, _milliseconds(kind, dice))
        cancelled = kind == "linger" and dice.random() < CANCELS
        yield Planned(
            kind=kind,
            job_id=job_id,
            body=msgspec.json.encode(task),
            twice=dice.random() < TWICE,
            cancel_after_s=dice.uniform(0.0, ACK_WAIT_S) if cancelled else None,
            high=dice.random() < 0.1,
        )


def _milliseconds(kind: str, dice: random.Random) -> int:
    match kind:
        case "work" | "block":
            return dice.randint(50, 500)
        case "linger":
            return int(1000 * (ACK_WAIT_S + dice.uniform(0.2, 1.5)))
    return 0
