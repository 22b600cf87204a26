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
from infra.bus.nats import NatsBus
from infra.store.base import Missing
from infra.store.objects import ObjectStore
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
    kept: dict[str, bytes] = {}
    """Of each tracked file that is really in the store, its bytes, by their sha256."""

    def of(self, event: str) -> list[Told]:
        """The messages of one event, as `workers.pool.created`."""
        return [told for told in self.messages if told.event == event]

    def bodies(self, event: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """The bodies of one event that have these fields."""
        return (told.body for told in self.of(event) if fields.items() <= told.body.items())

    def without(self, event: str) -> Evidence:
        """As if that event had never been said."""
        return Evidence([told for told in self.messages if told.event != event], self.kept)

    def hollow(self, event: str) -> Evidence:
        """As if that event had been said with nothing of its own in it."""
        return Evidence([_hollow(told) if told.event == event else told for told in self.messages], self.kept)


async def gather(bus: NatsBus) -> Evidence:
    """What the bus holds now."""
    jobs = [_told(subjects.EVENTS, each) for each in await read_all(bus, subjects.EVENTS, "orchestration.*.*.*")]
    gateways = [_told(subjects.WORKERS, each) for each in await read_all(bus, subjects.WORKERS, "workers.*.*.*")]
    tracked = {file["sha256"] for told in jobs if told.body["event"] == "files_tracked" for file in told.body["files"]}
    return Evidence([*jobs, *gateways], {sha256: await _kept(bus, sha256) for sha256 in tracked})


async def _kept(bus: NatsBus, sha256: str) -> bytes:
    """As `nats object get artifacts files/sha256/<sha256>` fetches it; nothing where it is not there."""
    try:
        return await ObjectStore(bus, subjects.ARTIFACTS).get(f"nats://{subjects.ARTIFACTS}/files/sha256/{sha256}")
    except Missing:
        return b""


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
