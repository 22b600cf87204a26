"""All that the judge may look at, read when all is over."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from contracts import events, subjects
from contracts import headers as h
from contracts.events import Event
from contracts.fleet import ControlDone, ControlRefused
from infra.bus.base import Stored
from infra.bus.nats import NatsBus
from tests.chaos.kinds import Entry
from tests.chaos.leftovers import Left, find

__all__ = ["Evidence", "Key", "Written", "gather"]

Key = tuple[str, str]
"""Kind and job id."""

READ_S: Final = 300.0

_answers: Final[msgspec.json.Decoder[ControlDone | ControlRefused]] = msgspec.json.Decoder(ControlDone | ControlRefused)


class Written(Struct, frozen=True):
    """An event, where it stands, and which gateway wrote it."""

    event: Event
    sequence: int
    nonce: str
    time: float
    """When the server stored it, in seconds since the epoch."""


class Evidence(Struct, kw_only=True):
    """Made by `gather`, or by hand in tests of the judge."""

    logs: dict[Key, list[Written]]
    accepted: Mapping[Key, int]
    """What was acknowledged to the publisher, and its sequence in `JOBS`."""
    commands: Mapping[int, str] = {}
    answers: list[ControlDone | ControlRefused] = []
    letters: dict[int, Stored] = {}
    """`DLQ`, by sequence."""
    ledger: list[Entry] = []
    left: Mapping[str, list[Left]] = {}
    """What is left in streams that should be empty."""
    seen_live: list[int] | None = None
    """Sequences of the events as an observer saw them live."""


async def gather(
    bus: NatsBus, *, accepted: Mapping[Key, int], commands: Mapping[int, str], folder: Path | None = None
) -> Evidence:
    """Read the streams; in `folder` lie the logs of what ran."""
    logs: dict[Key, list[Written]] = defaultdict(list)
    for message in await _read(bus, subjects.EVENTS, "orchestration.*.*.*"):
        event = events.decode(message.body)
        nonce = message.headers[h.CE_ID].partition(".")[0]
        logs[event.kind, event.job_id].append(Written(event, message.sequence, nonce, message.time.timestamp()))
    return Evidence(
        logs=dict(logs),
        accepted=accepted,
        commands=commands,
        answers=[_answers.decode(each.body) for each in await _read(bus, subjects.WORKERS, "workers.control.*.*")],
        letters={each.sequence: each for each in await _read(bus, subjects.DLQ, "dlq.*.*")},
        left={stream: await find(bus, stream, folder) for stream in (subjects.JOBS, subjects.CONTROL)},
    )


async def _read(bus: NatsBus, stream: str, subject: str) -> list[Stored]:
    """Every message on a filter, with more patience than a test has."""
    last = await bus.last(stream, subject)
    found: list[Stored] = []
    if last is None:
        return found
    async with asyncio.timeout(READ_S), aclosing(bus.follow(stream, subject)) as following:
        async for message in following:
            found.append(message)
            if message.sequence >= last.sequence:
                break
    return found
