"""More than a kind can do: a kind of a known capacity, and a publisher who does not mind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.bus.base import StreamFull
from infra.bus.nats import NatsBus

__all__ = ["PER_SECOND", "Published", "prepare", "publish_for"]

PER_SECOND: Final = 500
"""Jobs that the kind `brake` can do."""
TICK_S: Final = 0.01
FULL: Final = 10077

_KINDS: Final = f"""
import time

import msgspec

from workers import job


class Task(msgspec.Struct):
    id: str


@job("brake", id_field="id")
def brake(task: Task) -> str:
    time.sleep({1 / PER_SECOND})
    return task.id
"""

_SETTINGS: Final = """
routes = []
[kinds]
modules = ["brakes"]
[streams]
jobs_per_kind = {limit}
[watermarks]
high = {high}
low = {low}
"""


@dataclass
class Published:
    """What became of each publish."""

    accepted: set[str] = field(default_factory=set)
    refused: int = 0
    other: list[str] = field(default_factory=list)
    """Neither: there should be none."""

    @property
    def tried(self) -> int:
        """All of them."""
        return len(self.accepted) + self.refused + len(self.other)


def prepare(folder: Path, *, limit: int, high: int, low: int) -> None:
    """Put the kind and its settings where gateways find them."""
    (folder / "brakes.py").write_text(_KINDS)
    (folder / "jetray.toml").write_text(_SETTINGS.format(limit=limit, high=high, low=low))


async def publish_for(bus: NatsBus, seconds: float, per_second: int, *, prefix: str) -> Published:
    """Publish so many jobs in a second, whatever becomes of them."""
    published, loop = Published(), asyncio.get_running_loop()
    began, sent = loop.time(), 0

    async def one(job_id: str) -> None:
        try:
            await bus.publish("jobs.brake", b'{"id":"%s"}' % job_id.encode())
        except StreamFull as error:
            published.refused += error.err_code == FULL
            if error.err_code != FULL:
                published.other.append(repr(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the test tells it
            published.other.append(repr(error))
        else:
            published.accepted.add(job_id)

    async with asyncio.TaskGroup() as group:
        while (now := loop.time() - began) < seconds:
            due = int(min(now + TICK_S, seconds) * per_second)
            for number in range(sent, due):
                group.create_task(one(f"{prefix}{number}"))
            sent = due
            await asyncio.sleep(TICK_S)
    return published
