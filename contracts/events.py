"""The events of a job log: one tagged union, stored on `orchestration.<kind>.<event>.<job_id>`.

A log is the only truth about its job. `n` counts its events from 1 without a gap. A run begins with its first `started`
(or with an end that needs none) and has exactly one terminal event; `requeued` opens the next run. Within a version,
fields are only added: subscribers ignore what they do not know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from contracts import codec
from contracts.errors import ErrorInfo

__all__ = [
    "EVENT_LIMIT",
    "RESULT_LIMIT",
    "Artifact",
    "Asked",
    "Cancelled",
    "Completed",
    "DeliveryRef",
    "Event",
    "Failed",
    "FilesTracked",
    "FilesTrackingFailed",
    "LogEvent",
    "Moved",
    "Outcome",
    "Progress",
    "Requeued",
    "Retrying",
    "Spent",
    "Stage",
    "Started",
    "TrackedFile",
    "event_name",
    "event_type",
    "is_terminal",
]

RESULT_LIMIT: Final = 256 * 1024
"""A result over so many bytes becomes an artifact."""
EVENT_LIMIT: Final = 512 * 1024
"""A list that would take the whole event over so many bytes becomes an artifact."""

Count = Annotated[int, Meta(ge=0)]
Ordinal = Annotated[int, Meta(ge=1)]
Time = Annotated[datetime, Meta(tz=True)]
"""Always with its offset, and ours is always UTC."""
Outcome = Literal["completed", "failed", "cancelled"]
Stage = Literal["queued", "delayed", "running"]


class Spent(Struct, frozen=True, gc=False):
    """What a run's budgets have spent so far."""

    attempts: Count = 0
    """Attempts that the kind's own errors ended; at most `max_attempts`."""
    lost: Count = 0
    """Attempts that were lost with what ran them; at most `max_lost`."""


class DeliveryRef(Struct, frozen=True, gc=False, order=True):
    """Which delivery of which message opened an attempt. Later deliveries compare greater."""

    sequence: Ordinal
    """The message's sequence in its stream."""
    number: Ordinal
    """The how-manieth delivery of it."""


class Moved(Struct, frozen=True, kw_only=True):
    """Stands where a value too large for an event would: fetch it from the artifact."""

    artifact: str
    sha256: str


class Artifact(Struct, frozen=True, kw_only=True):
    """A file or a large value, kept outside the bus's messages."""

    name: str
    uri: str
    bytes: Count
    sha256: str


class TrackedFile(Struct, frozen=True, kw_only=True):
    """One file of a tracked set."""

    name: str
    bytes: Count
    sha256: str


class Asked(Struct, frozen=True, kw_only=True):
    """Who asked for a batch's cancel, and why: its `cancelled` will say so."""

    reason: str
    requested_by: str


class LogEvent(Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """What every event of a log tells."""

    kind: str
    job_id: str
    n: Ordinal
    """Place in the log, from 1."""
    run: Ordinal
    attempt: Ordinal
    """From 1 in each run; stays as it was on events between attempts."""
    time: Time
    """UTC, by the writer's estimate of the server's clock."""
    gateway: str
    origin: str
    """`<stream>:<sequence>` of the message that the log belongs to."""
    parent: str | None = None
    """`<kind>.<id>` of the batch, for a child."""
    correlation_id: str = ""
    """The publisher's, else the root job's id."""
    subject_id: str | None = None
    """The id as published, where it could not be the job id."""
    cancelling: bool = False
    """On every event of a batch's run after its cancel was asked for."""
    asked: Asked | None = None
    """With `cancelling`: who asked for the cancel, and why."""


class Started(LogEvent, frozen=True, kw_only=True, tag="started"):
    """An attempt begins. No user code of the attempt runs before this is durable."""

    input_sha256: str
    delivery: DeliveryRef
    actor: str | None
    """Null for batch kinds, which occupy no actor."""
    waited_ms: Count
    """Since the server stored the message."""
    deadline: Time
    """Server time at which the job ends, come what may."""
    spent: Spent


class Progress(LogEvent, frozen=True, kw_only=True, tag="progress"):
    """One or more of these fields; at most 10/s a job and 2/s a batch."""

    done: Count | None = None
    total: Count | None = None
    message: str | None = None
    step: str | None = None
    eta_ms: Count | None = None
    counts: dict[str, int] | None = None
    elapsed_ms: Count | None = None
    """Of a batch: since its holder began with it."""
    per_second: Annotated[float, Meta(ge=0)] | None = None
    """Of a batch: children that ended each second since then."""


class Retrying(LogEvent, frozen=True, kw_only=True, tag="retrying"):
    """An attempt ended and another follows."""

    error: ErrorInfo
    delay_ms: Count
    next_attempt: Ordinal
    spent: Spent
    moved: bool = False
    """The message went to the tail of its queue instead of being given back with a delay."""


class FilesTracked(LogEvent, frozen=True, kw_only=True, tag="files_tracked"):
    """The attempt's files, stored under one commit, before the terminal event."""

    commit: str
    files: list[TrackedFile] | Moved


class FilesTrackingFailed(LogEvent, frozen=True, kw_only=True, tag="files_tracking_failed"):
    """The attempt's files could not be tracked."""

    error: ErrorInfo
    files: list[str] | Moved


class Completed(LogEvent, frozen=True, kw_only=True, tag="completed"):
    """Terminal: the job succeeded."""

    result: Raw
    """The kind's result, or `{"artifact": uri, "sha256": …}` where it is over 256 KiB."""
    artifacts: list[Artifact] | Moved
    duration_ms: Count


class Failed(LogEvent, frozen=True, kw_only=True, tag="failed"):
    """Terminal: the job failed; its message is in `DLQ`."""

    error: ErrorInfo
    attempts: Count
    """Attempts made in this run."""
    dlq_sequence: Ordinal
    counts: dict[str, int] | None = None
    """Of a batch: how many of its children ended how."""


class Cancelled(LogEvent, frozen=True, kw_only=True, tag="cancelled"):
    """Terminal: somebody cancelled the job."""

    reason: str
    requested_by: str
    stage: Stage
    counts: dict[str, int] | None = None


class Requeued(LogEvent, frozen=True, kw_only=True, tag="requeued"):
    """An operator's replay opens run + 1; `run` is already the new one's."""

    dlq_sequence: Count
    """Of the dead letter; 0 for a child that had none, because it was cancelled, and that runs again with its batch."""
    input_sha256: str


Event = Started | Progress | Retrying | FilesTracked | FilesTrackingFailed | Completed | Failed | Cancelled | Requeued
"""Any event of a job log."""

_TERMINAL = (Completed, Failed, Cancelled)
_NAMES: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Event)}


def is_terminal(event: LogEvent) -> bool:
    """True for the events that end a run."""
    return isinstance(event, _TERMINAL)


def event_name(event: LogEvent | type[LogEvent]) -> str:
    """The word that stands in the event's subject and body."""
    return _NAMES[event if isinstance(event, type) else type(event)]


def event_type(kind: str, name: str) -> str:
    """The CloudEvents type of an event."""
    return f"jetray.{kind}.{name}.v1"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(event: LogEvent) -> bytes:
    """The event as compact JSON, its tag first."""
    return _encoder.encode(event)


def decode(body: bytes) -> Event:
    """The event that `body` holds; `codec.Undecodable` where it holds none."""
    event: Event = codec.decode(_decoder, body)
    return event
