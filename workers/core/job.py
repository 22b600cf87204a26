"""A job in one gateway's hands: its phases, what may happen to it (stimuli), and what is to be done (commands).

    OPENING     its `started` is being appended, or its log read
    PROBING     is the log's origin message still there?
    RUNNING     an attempt runs, or the children of a batch are being ended
    REPORTING   an attempt runs, and its `progress` is being appended, or what became of its files
    BURYING     its message is being written to DLQ
    ENDING      `completed`, `failed`, `cancelled` or `retrying` is being appended
    MOVING      its message is being published anew, to the tail of its queue
    SETTLED     nothing more is to be done with this delivery

All of it is data. `lifecycle` decides; whoever carries a command out answers with the next stimulus.
"""

from __future__ import annotations

import enum
from datetime import datetime

from msgspec import Raw, Struct

from contracts.errors import ErrorInfo, Reason
from contracts.events import Artifact, Asked, Event, Moved, Spent, Started, TrackedFile
from workers.core.log import LogView, Ticket
from workers.core.retry import RetryPolicy

__all__ = [
    "Ack",
    "Adopted",
    "Append",
    "Buried",
    "Bury",
    "ChildrenEnded",
    "Command",
    "Delivered",
    "Drained",
    "EndChildren",
    "Gone",
    "HandOver",
    "HandedOver",
    "Job",
    "LeaseLost",
    "Leave",
    "LogRead",
    "Move",
    "MovedOn",
    "Nak",
    "Pay",
    "Phase",
    "Probe",
    "Probed",
    "Raised",
    "Read",
    "Refuse",
    "Reported",
    "Returned",
    "Run",
    "Stimulus",
    "Stop",
    "Stored",
    "TakenApart",
    "Tracked",
    "TrackingFailed",
    "Undecodable",
]


class Phase(enum.Enum):
    """Where a job stands."""

    OPENING = "opening"
    PROBING = "probing"
    RUNNING = "running"
    REPORTING = "reporting"
    BURYING = "burying"
    ENDING = "ending"
    MOVING = "moving"
    SETTLED = "settled"


class Job(Struct, frozen=True, kw_only=True):
    """All that a gateway knows of a job it holds."""

    ticket: Ticket
    policy: RetryPolicy
    gateway: str
    actor: str | None
    """What will run it; None for batch kinds."""
    limit_s: float
    """Seconds from a run's first start to its deadline."""
    stored: datetime
    """When the server stored the message."""
    phase: Phase = Phase.OPENING
    sequence: int = 0
    """Of the log's last event, as this gateway knows it: the fencing token."""
    n: int = 0
    run: int = 1
    attempt: int = 1
    spent: Spent = Spent()
    deadline: datetime | None = None
    began: datetime | None = None
    parent: str | None = None
    """The batch that the log names."""
    asked: Asked | None = None
    """The batch is being cancelled, and by whom."""
    crowded: bool = False
    """So many messages of the lane wait out a delay that this one had better wait in the queue."""
    full: bool = False
    """So many wait that not one more may."""
    made: int = 0
    """Attempts made in this run."""
    unusable: bool = False
    """The message does not decode."""
    error: ErrorInfo | None = None
    """Why it is being buried."""
    counts: dict[str, int] | None = None
    """How the children of a batch that is being buried ended."""
    pending: Event | None = None
    """The event being appended; while its message moves, the `retrying` that says so."""
    log: LogView | None = None
    """What a probe is about."""


class Delivered(Struct, frozen=True):
    """The message is in hand and decodes."""


class Undecodable(Struct, frozen=True):
    """The message is in hand and does not decode."""

    error: ErrorInfo


class Stored(Struct, frozen=True):
    """The event asked for is durable."""

    sequence: int
    event_id: str = ""
    """Its `ce-id`."""


class LogRead(Struct, frozen=True):
    """The event asked for was refused, or a read was asked for: this is the log."""

    log: LogView


class Probed(Struct, frozen=True):
    """Whether the log's origin message still exists."""

    exists: bool


class Reported(Struct, frozen=True, kw_only=True):
    """The attempt reports progress."""

    done: int | None = None
    total: int | None = None
    message: str | None = None
    step: str | None = None
    eta_ms: int | None = None
    counts: dict[str, int] | None = None
    elapsed_ms: int | None = None
    per_second: float | None = None


class Tracked(Struct, frozen=True):
    """The attempt's files are stored under one commit."""

    commit: str
    files: list[TrackedFile] | Moved


class TrackingFailed(Struct, frozen=True):
    """The attempt's files could not be tracked; it goes on all the same."""

    error: ErrorInfo
    files: list[str] | Moved


class Returned(Struct, frozen=True):
    """The attempt succeeded."""

    result: Raw
    artifacts: list[Artifact] | Moved = []


class Raised(Struct, frozen=True):
    """The attempt failed by itself."""

    error: ErrorInfo
    retry_after_s: float | None = None
    counts: dict[str, int] | None = None
    """Of a batch: how many of its children ended how."""


class Gone(Struct, frozen=True):
    """The attempt was lost with what ran it."""

    error: ErrorInfo


class TakenApart(Struct, frozen=True):
    """The attempt was lost with a call that many jobs shared, and nobody knows over which of them."""

    error: ErrorInfo
    """What ended the call."""


class ChildrenEnded(Struct, frozen=True):
    """Every child of the batch that is being cancelled has ended."""

    counts: dict[str, int]


class Buried(Struct, frozen=True):
    """The message is in DLQ."""

    sequence: int


class MovedOn(Struct, frozen=True):
    """Whether the message is at the tail of its queue now; there may have been no room."""

    done: bool


class Adopted(Struct, frozen=True):
    """A newer delivery of the same job."""

    ticket: Ticket


class HandedOver(Struct, frozen=True):
    """The job that runs here already has the delivery."""


class Drained(Struct, frozen=True):
    """The gateway stops, and the grace period is over."""


class LeaseLost(Struct, frozen=True):
    """The lease could not be renewed in time."""


class Append(Struct, frozen=True):
    """Append the event after that sequence; answer `Stored` or `LogRead`."""

    event: Event
    after: int


class Read(Struct, frozen=True):
    """Read the log; answer `LogRead`."""


class Probe(Struct, frozen=True):
    """See whether a message still exists; answer `Probed`."""

    origin: str


class Run(Struct, frozen=True):
    """Start the attempt that `started` opened; answer `Reported`, `Tracked`, …, then `Returned`, `Raised` or `Gone`."""

    started: Started
    error: ErrorInfo | None = None
    """How a batch is to end: end its children, then answer `Raised` with this."""
    asked: Asked | None = None
    """The batch is being cancelled: end its children, then answer `ChildrenEnded`."""


class EndChildren(Struct, frozen=True):
    """End the attempt at a batch, and then every child, published or not; answer `ChildrenEnded`."""

    asked: Asked


class Stop(Struct, frozen=True):
    """End the attempt at once; its outcome no longer matters."""


class Bury(Struct, frozen=True):
    """Write the message to DLQ; answer `Buried`."""

    reason: Reason
    run: int
    attempts: int


class Refuse(Struct, frozen=True):
    """Write the message to DLQ and say `workers.intake.refused`; a child tells its batch."""

    reason: Reason


class Pay(Struct, frozen=True):
    """Pay what an end owes: a notice to each batch that waits for it."""

    end: Event
    sequence: int


class HandOver(Struct, frozen=True):
    """Give this delivery to the job that runs here already; answer `HandedOver`, or `LogRead` where it is over."""


class Ack(Struct, frozen=True):
    """Settle: done."""


class Nak(Struct, frozen=True):
    """Settle: again, after `delay_s`."""

    delay_s: float


class Move(Struct, frozen=True):
    """Publish the message anew, to the tail of its queue, as a copy of this job's; answer `MovedOn`."""

    message_id: str
    """Of the copy: it is stored once."""
    run: int


class Leave(Struct, frozen=True):
    """Send nothing more on this delivery."""


Stimulus = (
    Delivered
    | Undecodable
    | Stored
    | LogRead
    | Probed
    | Reported
    | Tracked
    | TrackingFailed
    | Returned
    | Raised
    | Gone
    | TakenApart
    | ChildrenEnded
    | Buried
    | MovedOn
    | Adopted
    | HandedOver
    | Drained
    | LeaseLost
)
Command = Append | Read | Probe | Run | EndChildren | Stop | Bury | Refuse | Pay | HandOver | Ack | Nak | Move | Leave
