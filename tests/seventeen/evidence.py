"""What was said: every event of jobs and gateways, by its message's id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct

from contracts import subjects
from contracts.events import LogEvent
from contracts.fleet import FleetEvent
from infra.bus.base import Bus, Stored
from tests.checker import read_all

__all__ = ["Evidence", "Told", "gather", "heard"]


class Told(Struct, frozen=True, kw_only=True):
    """A message as a stream holds it."""

    id: str
    """`<stream>:<sequence>`: `nats stream get <stream> <sequence>` shows it."""
    subject: str
    body: dict[str, Any]

    @property
    def event(self) -> str:
        """Its subject less the last token, which names a job or a gateway."""
        return self.subject.rpartition(".")[0]


class Evidence(Struct, frozen=True):
    """All of it, stream by stream, each in order."""

    messages: list[Told]

    def of(self, event: str) -> list[Told]:
        """The messages of one event, as `workers.pool.created`."""
        return [told for told in self.messages if told.event == event]

    def bodies(self, event: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """The bodies of one event that have these fields."""
        return (told.body for told in self.of(event) if fields.items() <= told.body.items())

    def without(self, event: str) -> Evidence:
        """As if that event had never been said."""
        return Evidence([told for told in self.messages if told.event != event])

    def hollow(self, event: str) -> Evidence:
        """As if that event had been said with nothing of its own in it."""
        return Evidence([_hollow(told) if told.event == event else told for told in self.messages])


async def gather(bus: Bus) -> Evidence:
    """What the bus holds now."""
    jobs = await read_all(bus, subjects.EVENTS, "orchestration.*.*.*")
    gateways = await read_all(bus, subjects.WORKERS, "workers.*.*.*")
    return Evidence(
        [_told(subjects.EVENTS, each) for each in jobs] + [_told(subjects.WORKERS, each) for each in gateways]
    )


async def heard(bus: Bus, stream: str, subject: str, **fields: Any) -> Told:
    """The first message on a filter with these fields, waited for."""
    async with aclosing(bus.follow(stream, subject)) as messages:
        async for message in messages:
            told = _told(stream, message)
            if fields.items() <= told.body.items():
                return told
    raise AssertionError("a follower does not end by itself")


def _hollow(told: Told) -> Told:
    everywhere = {field.name for common in (LogEvent, FleetEvent) for field in msgspec.structs.fields(common)}
    body = {name: value for name, value in told.body.items() if name in everywhere}
    return Told(id=told.id, subject=told.subject, body=body)


def _told(stream: str, message: Stored) -> Told:
    body = msgspec.json.decode(message.body, type=dict[str, Any])
    return Told(id=f"{stream}:{message.sequence}", subject=message.subject, body=body)
