"""All that a judge may look at: the logs, the dead letters, what was accepted, and the ledger."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from msgspec import Struct

from contracts import events, inbound, subjects
from contracts import headers as h
from contracts.events import Event, Started
from infra.bus.base import Stored
from tests.simulation.kinds import KINDS
from tests.simulation.ledger import Entry
from tests.simulation.world import World

__all__ = ["Evidence", "Key", "Message", "Written"]

Key = tuple[str, str]
"""Kind and job id."""

LIMITS: Final = inbound.Limits()


class Written(Struct, frozen=True):
    """An event, where it stands, and which gateway wrote it."""

    event: Event
    sequence: int
    nonce: str


class Message(Struct, frozen=True):
    """A message that JetStream accepted for a kind."""

    stored: Stored
    kind: str
    job_id: str
    digest: str | None
    """Of its input; None where it does not decode."""

    @property
    def origin(self) -> str:
        """As logs and dead letters name it."""
        return f"{subjects.JOBS}:{self.stored.sequence}"


class Evidence:
    """Read once, when all is over."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.logs: dict[Key, list[Written]] = defaultdict(list)
        for message in world.server.streams[subjects.EVENTS].messages():
            event = events.decode(message.body)
            nonce = message.headers[h.CE_ID].partition(".")[0]
            self.logs[event.kind, event.job_id].append(Written(event, message.sequence, nonce))
        self.letters = [*world.server.streams[subjects.DLQ].messages()]
        self.accepted = world.server.accepted
        self.messages = [_read(stored) for stored in self.accepted[subjects.JOBS].values()]
        self.executions: dict[Key, list[Entry]] = defaultdict(list)
        for entry in world.ledger.entries:
            self.executions[entry.kind, entry.job_id].append(entry)

    def log(self, kind: str, job_id: str) -> list[Written]:
        """A job's log; empty where it has none."""
        return self.logs.get((kind, job_id), [])

    def started(self, entry: Entry) -> Written | None:
        """The event that allowed an execution."""
        for written in self.log(entry.kind, entry.job_id):
            event = written.event
            if isinstance(event, Started) and (event.run, event.attempt) == (entry.run, entry.attempt):
                return written
        return None

    def original(self, origin: str) -> Stored:
        """The message that a log or a dead letter names."""
        stream, _, sequence = origin.partition(":")
        return self.accepted[stream][int(sequence)]


def _read(stored: Stored) -> Message:
    kind = stored.subject.split(".")[1]
    message = inbound.Message(
        subject=stored.subject,
        headers=stored.headers,
        body=stored.body,
        stream=subjects.JOBS,
        sequence=stored.sequence,
    )
    read = inbound.read(message, KINDS[kind].spec, LIMITS, foreign=False)
    return Message(stored, kind, read.job_id, read.input_sha256 if isinstance(read, inbound.Accepted) else None)
